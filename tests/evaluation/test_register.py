"The risk register: from findings to a file and back, and what people wrote in between"

from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import ConfigurationError, IntegrityError
from fine_tune_llm.data.findings import Finding
from fine_tune_llm.evaluation import (
    RiskEntry,
    known_hazards,
    merge_registers,
    read_register,
    register_of,
    register_to_yaml,
)
from fine_tune_llm.evaluation.register import STANDINGS, STATUSES

STEP = st.none() | st.integers(1, 5)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FILLED = TEXT.filter(lambda text: any(c.isalnum() for c in text))
ENTRIES = st.lists(
    st.builds(
        RiskEntry,
        id=FILLED,
        hazard=FILLED,
        cause=TEXT,
        likelihood=STEP,
        severity=STEP,
        mitigation=TEXT,
        residual=TEXT,
        owner=TEXT,
        status=st.sampled_from(STATUSES),
        evidence=st.lists(TEXT, max_size=3).map(tuple),
        basis=TEXT,
        measured_likelihood=STEP,
        measured_severity=STEP,
        standing=st.sampled_from(STANDINGS),
    ),
    max_size=4,
    unique_by=lambda entry: entry.id,
)


@given(ENTRIES)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again(tmp_path_factory, entries):
    path = tmp_path_factory.getbasetemp() / "register.yaml"
    path.write_text(register_to_yaml(entries), encoding="utf-8")
    assert list(read_register(path)) == entries


@given(ENTRIES, ENTRIES)
@settings(max_examples=60, deadline=None)
def test_merging_deletes_nothing_and_is_done_once(edited, today):
    merged = merge_registers(edited, today)
    ids = [entry.id for entry in merged]
    assert ids[: len(edited)] == [entry.id for entry in edited]
    assert set(ids) == {entry.id for entry in [*edited, *today]}
    written = ("hazard", "cause", "mitigation", "residual", "owner", "status")
    for before, after in zip(edited, merged):
        assert all(getattr(before, key) == getattr(after, key) for key in written)
        for key in ("likelihood", "severity"):
            judged = getattr(before, key) not in (
                None,
                getattr(before, f"measured_{key}"),
            )
            assert not judged or getattr(after, key) == getattr(before, key)
    again = merge_registers(merged, today)
    assert [replace(entry, standing="") for entry in again] == [
        replace(entry, standing="") for entry in merged
    ]


def finding(code, severity="medium", **details):
    return Finding(code, severity, f"About {code}", f"Mend {code}", details=details)


def rate(high):
    return {"value": high / 2, "low": 0.0, "high": high}


def test_findings_of_one_hazard_are_one_entry_with_the_worst_of_their_steps():
    (entry,) = register_of(
        [
            finding("residual_risk_group", rate=rate(0.05)),
            finding("group_gap", harm=0.5),
            finding("residual_risk_class", rate=rate(0.2), harm=0.1),
            finding("residual_risk_group", rate=rate(0.001)),
        ]
    )
    assert entry.id == "unequal_errors"
    assert (entry.likelihood, entry.severity, entry.score) == (5, 3, 15)
    assert entry.evidence == ("residual_risk_group", "group_gap", "residual_risk_class")
    assert "About group_gap" in entry.basis and "1 more" in entry.basis


def test_nothing_is_made_a_number_that_was_not_measured():
    (entry,) = register_of([finding("miscalibrated", ece=0.3, rate=0.4)])
    assert entry.likelihood is entry.severity is entry.score is None
    assert entry.rating == "to be judged" and entry.to_dict()["score"] is None


def test_every_hazard_has_its_words_and_codes_of_its_own():
    codes = [code for known in known_hazards().values() for code in known["codes"]]
    assert len(codes) == len(set(codes))
    for known in known_hazards().values():
        assert set(known) == {"hazard", "cause", "mitigation", "codes"}
        assert all(known.values())


@pytest.mark.parametrize(
    "code, hazard",
    [
        ("critical_errors", "critical_error"),
        ("costlier_than_one_class", "no_gain"),
        ("strangers_decided", "out_of_scope_decided"),
        ("personal_phone", "personal_data"),
        ("not_robust_to_typos", "brittle"),
        ("class_never_said", "unequal_errors"),
        ("never_heard_of", "never_heard_of"),
    ],
)
def test_a_code_finds_its_hazard(code, hazard):
    assert register_of([finding(code)])[0].id == hazard


def test_a_number_that_a_person_changed_stays_and_others_follow(tmp_path):
    first = register_of([finding("critical_errors", rate=rate(0.05), harm=1.0)])
    path = tmp_path / "register.yaml"
    text = register_to_yaml(first).replace("  severity: 5", "  severity: 2", 1)
    path.write_text(text + "  by_us:\n    hazard: The server is down\n")
    edited = read_register(path)
    assert (edited[0].severity, edited[0].measured_severity) == (2, 5)
    today = register_of(
        [finding("critical_errors", rate=rate(0.0005)), finding("tail_cost")]
    )
    merged = merge_registers(edited, today)
    assert [entry.standing for entry in merged] == ["seen", "by hand", "new"]
    assert (merged[0].likelihood, merged[0].severity) == (2, 2)
    gone = merge_registers(merged, [])
    assert [entry.standing for entry in gone] == ["gone", "by hand", "gone"]
    assert gone[0].evidence == ("critical_errors",)
    back = merge_registers(gone, today)
    assert [entry.standing for entry in back] == ["seen", "by hand", "seen"]


GOOD = "risks:\n  wait:\n    hazard: They wait\n"


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "must hold a mapping"),
        ("{}\n", "holds no `risks`"),
        ("risk: {}\n", "line 1: a register is a mapping `risks`"),
        ("risks: [1]\n", "line 1: a register is a mapping"),
        ("risks:\n  wait: late\n", "line 2: an entry is an id and a mapping"),
        ("risks:\n  wait:\n    cause: x\n", "line 2: `wait` says no `hazard`"),
        ("risks:\n  wait:\n    hazard: ' '\n", "says no `hazard`"),
        (GOOD + "    severty: 3\n", "line 4: `severty` is no part.*severity"),
        (GOOD + "    severity: high\n", "line 4: `severity` must be a whole number"),
        (GOOD + "    severity: 6\n", "line 4: `severity` .* got 6"),
        (GOOD + "    severity: true\n", "line 4: `severity` .* got True"),
        (GOOD + "    likelihood: 2.5\n", "line 4: `likelihood`"),
        (GOOD + "    status: done\n", "line 4: `status` must be one of open"),
        (GOOD + "    owner: 12\n", "line 4: `owner` must be a text, got 12"),
        (GOOD + "    evidence: x\n", "line 4: `evidence` must be a list"),
        (GOOD + "    hazard: again\n", "given twice, first in line 3"),
        (GOOD + "    owner: *who\n", "line 4.*aliases"),
        ("risks:\n  ? [1]\n  : 2\n", "a key must be a plain word"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_line(tmp_path, text, said):
    path = tmp_path / "register.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as e:
        read_register(path)
    assert "register.yaml" in str(e.value)


def test_a_file_by_hand_needs_only_a_hazard(tmp_path):
    path = tmp_path / "register.yaml"
    path.write_text(GOOD)
    assert read_register(path) == (
        RiskEntry(id="wait", hazard="They wait", standing="by hand"),
    )
    path.write_text("risks:\n")
    assert read_register(path) == ()
    with pytest.raises(IntegrityError, match="is missing"):
        read_register(tmp_path / "none.yaml")


def test_an_id_that_comes_twice_is_refused():
    entry = RiskEntry(id="x", hazard="h")
    with pytest.raises(ConfigurationError, match="comes twice"):
        register_to_yaml([entry, entry])


def test_the_file_explains_itself():
    text = register_to_yaml(register_of([finding("tail_cost")]))
    assert text.startswith("# Risk register") and "no amount of harm" in text
    assert yaml.safe_load(text)["risks"]["costly_tail"]["status"] == "open"
