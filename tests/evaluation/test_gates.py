"Rules that an audit must pass: what is read, what is refused, and what passes silently"

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import ConfigurationError, IntegrityError
from fine_tune_llm.core.printable import in_brief
from fine_tune_llm.evaluation import (
    Gate,
    check_gates,
    gates_of,
    gates_pass,
    named_numbers,
    not_evaluated,
    parse_gate,
    read_gates,
    share,
)
from fine_tune_llm.evaluation.number_names import number_kinds


def evidence(**more):
    rates = [
        {"view": view, "cell": [group], "metric": "tpr", "n": 100, **rate}
        for view, group, rate in [
            ("site", "A", {"value": 0.9, "low": 0.85, "high": 0.95}),
            ("site", "B", {"value": 0.7, "low": 0.6, "high": 0.8}),
            ("age", "old", {"value": None, "reason": "3 rows; 30 are needed"}),
        ]
    ]
    gap = {"metric": "tpr", "difference": 0.2, "low": 0.1, "high": 0.3, "n_groups": 2}
    return {
        "identity": {"kind": "predictions", "name": "x", "n": 200},
        "performance": {
            "accuracy": share(180, 200),
            "per_class": {"a, b": {"recall": share(80, 100)}},
        },
        "calibration": {"after": {"ece": 0.05}},
        "coverage": not_evaluated("there are no sets"),
        "fairness": {"rates": rates, "gaps": [gap | {"view": "site"}]},
        "findings": [{"part": "fairness", "code": "gap", "severity": "high"}],
        **more,
    }


def status(rule, found=None):
    (result,) = check_gates(found or evidence(), [rule])
    return result.status


@pytest.mark.parametrize(
    "rule, wanted",
    [
        ("accuracy >= .9", "pass"),
        ("accuracy > .9", "fail"),
        ("accuracy >= .9 at lower bound", "fail"),
        ("accuracy >= 84% at lower bound", "pass"),
        ("accuracy <= .9 at upper bound", "fail"),
        ('recall("a, b") >= .8', "pass"),
        ("ece <= .05", "pass"),
        ("tpr(group=site:A) >= .9", "pass"),
        ("tpr(site:B) >= .9", "fail"),
        ("lowest(tpr) >= .7", "pass"),
        ("lowest(tpr) >= .7 at lower bound", "fail"),
        ("max_gap(tpr) <= .2", "pass"),
        ("max_gap(tpr, site) <= .2 at upper bound", "fail"),
        ("findings(high) == 0", "fail"),
        ("findings(medium) == 0", "pass"),
        ("findings(high, calibration) == 0", "pass"),
        ("rows >= 200", "pass"),
    ],
)
def test_a_rule_is_held_against_the_number_it_names(rule, wanted):
    assert status(rule) == wanted


@pytest.mark.parametrize(
    "rule, why",
    [
        ("coverage >= .9", "there are no sets"),
        ("ece <= .1 at upper bound", "without its upper bound"),
        ("tpr(age:old) >= .5", "30 are needed"),
        ("tpr(site:C) >= .5", "Did you mean 'tpr(group=site:B)'"),
        ("lowest(tpr) >= .5 at upper bound", "without its upper bound"),
        ("findings(part=coverage) == 0", "there are no sets"),
        ("flip_rate(typos) <= .05", "no `behaviour`"),
        ("nll <= 1", "no `performance.nll`"),
        ("max_gap(fpr) <= .1", "no such number"),
    ],
)
def test_what_was_not_evaluated_never_passes(rule, why):
    (result,) = check_gates(evidence(), [rule])
    assert (result.status, result.value) == ("not evaluated", None)
    assert why in result.why and result.stops and not gates_pass([result])
    (open_one,) = check_gates(evidence(), [{"rule": rule, "required": False}])
    assert not open_one.stops and gates_pass([open_one])


def test_without_evidence_every_kind_of_rule_is_open():
    "No rule about an empty audit passes, whatever its number"
    empty = {"performance": not_evaluated("nothing was measured")}
    named = [
        kind.full_name(
            [f"x{i}" if i < kind.needs else "" for i in range(len(kind.takes))]
        )
        for kind in number_kinds().values()
    ]
    for name in named:
        for compare in ("<=", ">="):
            results = check_gates(empty, [f"{name} {compare} 0"])
            assert [one.status for one in results] == ["not evaluated"], name


def test_an_analysis_without_rows_is_open_too():
    fairness = {"is_evaluated": False, "not_evaluated": {"groups": "none were named"}}
    (result,) = check_gates(evidence(fairness=fairness), ["max_gap(tpr) <= .1"])
    assert result.why == "none were named"


def test_a_gap_of_one_group_is_no_gap():
    alone = {
        "view": "site",
        "metric": "tpr",
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
    }
    alone |= {"n_groups": 1, "reason": "one group only"}
    found = evidence(fairness={"rates": [], "gaps": [alone]})
    assert status("max_gap(tpr) <= .1", found) == "not evaluated"


values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
bounds = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def gates(draw):
    kind = draw(st.sampled_from(list(number_kinds().values())))
    of = [
        draw(values if i < kind.needs else st.one_of(st.just(""), values))
        for i in range(len(kind.takes))
    ]
    ends = ["value", "upper bound", "lower bound"] if kind.has_range else ["value"]
    compare = draw(st.sampled_from(["<=", ">=", "==", "<", ">"]))
    at = draw(st.sampled_from(ends))
    return Gate(kind.name, tuple(of), compare, draw(bounds), at)


@settings(max_examples=500, deadline=None)
@given(gates())
def test_a_rule_is_read_again_as_it_was_written(gate):
    assert parse_gate(gate.rule) == gate


def random_rule(rng):
    "A rule with up to three characters of it changed, or anything at all"
    kind = rng.choice(list(number_kinds().values()))
    inside = rng.choice(["", "(a)", "(group=a:b)", '("a, b")', "(a, b=c)"])
    compare = rng.choice(["<=", ">=", "<", ">", "==", "="])
    end = rng.choice(["", "%", " at upper bound", " at value"])
    letters = list(f"{kind.name}{inside} {compare} {rng.random():.3f}{end}")
    for _ in range(rng.randint(0, 3)):
        any_letter = rng.choice(string.printable + "äß≤\u202e\0")
        letters[rng.randrange(len(letters))] = any_letter
    return "".join(rng.sample(letters, 5) if rng.random() < 0.1 else letters)


def test_random_texts_are_rules_or_errors_that_say_what_came():
    rng = random.Random(0)
    n_read = 0
    for _ in range(2000):
        text = random_rule(rng)
        try:
            gate = parse_gate(text, place="`g.yaml`, line 3")
        except ConfigurationError as e:
            came = in_brief(text).replace("\\", "")[:10]
            assert e.message.startswith("`g.yaml`, line 3: ")
            assert came in e.message.replace("\\", "")
        else:
            n_read += 1
            assert parse_gate(gate.rule) == gate
    assert 100 < n_read < 1900  # the loop saw both


def test_long_texts_are_refused_at_once():
    for text in (
        'ece("' + "a" * 10**6,
        "(" * 10**6,
        "recall(" + "a," * 10**5 + ") > 1",
    ):
        with pytest.raises(ConfigurationError, match="up to 500 characters"):
            parse_gate(text)


WRONG = {
    "- acuracy >= .9\n": "line 1: there is no number 'acuracy'",
    "- ece <= .1\n\n- ece <=\n": "line 3: not readable as a rule",
    "ece: .1\n": "line 1): it must hold a list",
    "- [ece, .1]\n": "line 1: a rule must be a text",
    "- ece <= .1\n- rule: ece <= .1\n  wy: ours\n": "line 2: a rule with more to say",
    "- selective_risk(group=channel: web) <= .1\n": "between quotes",
    "- rule: ece <= .1\n  severity: bad\n": "line 1: `severity` must be one of high",
    "- rule: ece <= .1\n  required: perhaps\n": "line 1: `required` must be true",
    "- !!python/name:os.system x\n": "tags (!name) are not read",
    "- &a ece <= .1\n- *a\n": "aliases",
    "- 'ece\n": "is not readable as YAML (line",
    "": "holds no rules",
    "[]": "holds no rules",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_file_names_line_and_what_is_wrong(text, tmp_path):
    file = tmp_path / "gates.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as e:
        read_gates(file)
    assert WRONG[text] in str(e.value) and "gates.yaml" in str(e.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(IntegrityError, match="is missing"):
        read_gates(tmp_path / "gates.yaml")


def test_rules_come_in_any_form(tmp_path):
    file = tmp_path / "gates.yaml"
    file.write_text("- ece <= .1\n")
    wanted = (parse_gate("ece <= .1"),)
    forms = file, str(file), "ece <= .1", ["ece <= .1"], {"rule": "ece <= .1"}, wanted
    assert all(gates_of(form) == wanted for form in forms)
    assert gates_of(None) == gates_of("") == ()
    with pytest.raises(ConfigurationError, match="`gates` must be rules"):
        gates_of(7)


def test_every_name_of_an_audit_can_be_asked_for():
    "What `named_numbers` calls a number is a rule's number, and finds it"
    found = evidence()
    named = named_numbers(found)
    measured = {name: one for name, one in named.items() if "value" in one}
    for name, number in measured.items():
        gate = parse_gate(f"{name} <= 1e9")
        assert check_gates(found, [gate])[0].value == number["value"]
        assert gate.number_name == name
    assert len(measured) > 20
