"The certificate sheet: what was promised, what was measured, whether both agree"

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fine_tune_llm.evaluation import audit, render_sheet, share, sheet_of
from fine_tune_llm.evaluation.sheet import agreement
from fine_tune_llm.stats.bounds import binomial_p_value

sys.path.insert(0, str(Path(__file__).parent))
from made_evidence import (  # noqa: E402
    full_evidence,
    open_evidence,
    predictions_evidence,
)


def evidence_of(wrong, n, *, promised=0.1, **changes):
    "A run that decided n test rows, so many of them wrongly"
    evidence = full_evidence()
    target = evidence["selective"]["targets"][0]
    p_value = float(binomial_p_value(n - wrong, n, 1 - promised))
    target |= {"test": share(wrong, n), "promised": promised, "p_value": p_value}
    evidence["selective"]["test"] = {
        "decided": share(n, 2 * n),
        "wrong": share(wrong, n),
    }
    return evidence | changes


def of_decisions(evidence):
    return next(p for p in sheet_of(evidence)["promises"] if p["about"] == "decisions")


@pytest.mark.parametrize(
    ("wrong", "n", "agrees"),
    [
        (22, 256, "yes"),
        (0, 60, "yes"),
        (0, 5, "cannot say"),
        (13, 100, "cannot say"),  # 13% [7.1, 21.2] where 10% was promised
        (30, 100, "no"),
        (256, 256, "no"),
    ],
)
def test_whether_both_agree(wrong, n, agrees):
    said = of_decisions(evidence_of(wrong, n))
    assert said["agrees"] == agrees
    assert f"{n} rows" in said["measured_said"]


def test_it_says_no_exactly_where_an_alarm_is_raised():
    from fine_tune_llm.evaluation.alarms import ALARM_LEVEL

    for wrong in range(5, 45):
        evidence = evidence_of(wrong, 100)
        p_value = evidence["selective"]["targets"][0]["p_value"]
        is_no = of_decisions(evidence)["agrees"] == "no"
        assert is_no == (p_value * 2 < ALARM_LEVEL)  # of decisions and of sets


def test_a_kept_promise_is_called_broken_in_fewer_than_1_of_100():
    n, n_draws = 200, 2000
    rng = np.random.default_rng(0)
    verdicts = [
        of_decisions(evidence_of(int(wrong), n))["agrees"]
        for wrong in rng.binomial(n, 0.1, n_draws)
    ]
    # ALARM_LEVEL / 2 on each of two promises; 4 sigma
    assert (
        verdicts.count("no") / n_draws <= 0.005 + 4 * (0.005 * 0.995 / n_draws) ** 0.5
    )


def test_a_broken_promise_is_hardly_ever_called_kept():
    n, n_draws = 300, 500
    rng = np.random.default_rng(1)
    verdicts = [
        of_decisions(evidence_of(int(wrong), n))["agrees"]
        for wrong in rng.binomial(n, 0.2, n_draws)  # twice as much as promised
    ]
    # "yes" needs an exact upper limit below the truth: 2.5% at most, 4 sigma
    assert (
        verdicts.count("yes") / n_draws <= 0.025 + 4 * (0.025 * 0.975 / n_draws) ** 0.5
    )


def test_sets_are_allowed_what_chance_allows_them():
    evidence = full_evidence()
    coverage = evidence["coverage"]
    about = {0.90: "yes", 0.89: "yes", 0.70: "no"}
    for found, agrees in about.items():
        evidence["coverage"] = coverage | {
            "coverage": found,
            "alpha": 0.1,
            "n_test": 1000,
            "band": [0.87, 0.93],
        }
        promises = sheet_of(evidence)["promises"]
        (sets,) = [p for p in promises if p["about"] == "lists of answers"]
        assert sets["agrees"] == agrees


def test_agreement_needs_a_range():
    known = {"value": 0.01, "n": 10}
    assert agreement(0.1, known, contradicted=False)[0] == "cannot say"
    gap = {"evaluated": False, "reason": "there is no such row"}
    said = agreement(0.1, gap, contradicted=False)
    assert said == ("cannot say", "it was not measured: there is no such row")


def test_high_findings_are_on_it_and_others_are_counted():
    sheet = sheet_of(full_evidence())
    found = full_evidence()["findings"]
    high = [one["message"] for one in found if one["severity"] == "high"]
    assert high and [one["message"] for one in sheet["problems"]] == high
    page = render_sheet(full_evidence())
    assert page.index("Read this first") < page.index("What was promised")


def test_bare_predictions_were_promised_nothing():
    evidence = predictions_evidence()
    sheet = sheet_of(evidence)
    assert (
        sheet["promises"] == [] and "Nothing was promised" in sheet["nothing_promised"]
    )
    assert "do both agree" not in render_sheet(evidence)


def test_what_is_open_is_said_and_never_a_number():
    page = render_sheet(open_evidence())
    assert "Nothing is known about decisions: no selective here" in page
    assert "None" not in page and "nan" not in page


def test_a_group_and_a_cost_have_words():
    evidence = evidence_of(5, 100)
    certificate = evidence["selective"]["certificates"][0]
    target = evidence["selective"]["targets"][0]
    target |= {"group": "night", "is_rate": False, "name": "cost", "promised": 0.5}
    target["test"] = {"value": 0.2, "low": 0.1, "high": 0.3, "n": 100}
    evidence["selective"]["certificates"] = [certificate | {"given": "all"}]
    said = of_decisions(evidence)["promise"]
    assert said == (
        "On average a text, those left to a person counted as 0, costs at most 0.5 "
        "(cost) for night."
    )


EVIL = "<script>alert('x')</script>\u202e\" onload=\"x"


def test_markup_is_only_shown():
    evidence = full_evidence()
    for key in ("name", "intended_use", "limits", "certificate"):
        evidence["identity"][key] = EVIL
    evidence["findings"][0]["message"] = evidence["findings"][0]["fix"] = EVIL
    evidence["selective"]["targets"][0]["group"] = EVIL
    page = render_sheet(evidence)
    assert "<script" not in page and "\u202e" not in page
    assert re.search(r'" ?onload="', page) is None


def test_a_long_text_is_cut():
    evidence = full_evidence()
    evidence["identity"]["intended_use"] = "x" * 100_000
    assert len(render_sheet(evidence)) < 30_000


def test_nothing_is_fetched_and_the_bytes_are_the_same():
    pages = {render_sheet(full_evidence()) for _ in range(2)}
    (page,) = pages
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    assert json.dumps(sheet_of(full_evidence()), allow_nan=False)


def test_the_sheet_of_a_run(toy_fit, tmp_path):
    use = {"audit": {"intended_use": "Sorts notes", "limits": "Not for the cellar"}}
    run = toy_fit(tmp_path / "run", epochs=3, target_risk=0.3, config=use)
    evidence = audit(run)
    sheet = sheet_of(evidence)
    about = [promise["about"] for promise in sheet["promises"]]
    assert about == ["decisions", "lists of answers"]
    assert sheet["date"] == evidence["identity"]["date"]
    assert sheet["must_not"][0] == "Not for the cellar"
    assert sheet["certificate"] == run.certificate["id"]
    page = render_sheet(evidence)
    assert "Sorts notes" in page
    texts = [*run.predictions("test").texts]
    assert not any(text in page for text in texts)
    evidence_text = evidence.to_json()
    assert not any(text in evidence_text for text in texts)
