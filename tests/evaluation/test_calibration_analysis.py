"How far probabilities are from frequencies: what is found, and what is not"

import json

import numpy as np
import pytest

import fine_tune_llm.evaluation.calibration as calibration
from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.evaluation import (
    CalibrationAnalyzer,
    FairnessAnalyzer,
    subject_of,
)
from fine_tune_llm.predictions import Outcome, Predictions
from fine_tune_llm.stats import (
    METRICS,
    best_temperature,
    compare,
    ece,
    holm,
    interval,
    ks_test,
    kuiper_test,
    nll,
    softmax,
    spiegelhalter_test,
    summary,
)
from fine_tune_llm.testing import synthetic_problem


def drawn(n=1000, K=4, temperature=1.0, *, seed=0, **more):
    problem = synthetic_problem(n, K, temperature, seed=seed)
    return Predictions(probs=softmax(problem.logits), labels=problem.labels, **more)


def calibrated(before, probs):
    n, K = probs.shape
    return Outcome(
        before,
        probs,
        sets=np.zeros((n, K), bool),
        decided=probs.argmax(1),
        conf=probs.max(1),
        needed=np.full(n, np.inf),
    )


def sides(n=1000, *, before=1.5, after=1.0, seed=0):
    "Of one problem: over-confident by one factor before, by another after"
    logits = synthetic_problem(n, seed=seed).logits
    labels = synthetic_problem(n, seed=seed).labels
    said = Predictions(probs=softmax(logits * before), labels=labels)
    return calibrated(said, softmax(logits * after))


def analyzed(said, **settings):
    return CalibrationAnalyzer(**{"seed": 0, "n_resamples": 100} | settings).analyze(
        said
    )


def codes(analysis):
    return {one.code for one in analysis.findings if one.severity != "info"}


@pytest.fixture
def quick(monkeypatch):
    "Only the metrics that findings need: intervals without bins are slow"
    monkeypatch.setattr(calibration, "_MEASURED", ("ece", "ece_debiased"))


# what is measured


def test_both_sides_are_measured_as_they_are_elsewhere():
    outcome = sides(600)
    found = analyzed(outcome)
    for when, probs in (
        ("before", outcome.predictions.probs),
        ("after", outcome.probs),
    ):
        labels, side = outcome.predictions.labels, getattr(found, when)
        for name, value in summary(probs, labels).items():
            assert side[name] == value
        for name, one in side["intervals"].items():
            same = interval(name, probs, labels, seed=0, n_resamples=100)
            assert one["value"] == METRICS.get(name)(probs, labels)
            assert (one["low"], one["high"]) == (same.low, same.high)
        assert sum(row["n"] for row in side["table"]) == 600
        gaps = [abs(row["conf"] - row["acc"]) * row["n"] / 600 for row in side["table"]]
        assert sum(gaps) == pytest.approx(side["ece"], abs=1e-12)
        assert all(r["acc_low"] <= r["acc"] <= r["acc_high"] for r in side["table"])


def test_differences_and_tests_are_those_of_stats():
    outcome = sides(500)
    found, labels = analyzed(outcome), outcome.predictions.labels
    for name in ("nll", "brier", "ece", "classwise_ece", "ace", "mce"):
        pair = (outcome.probs, outcome.predictions.probs)
        same = compare(*pair, labels, metric=name, seed=0, n_resamples=100)
        assert found.differences[name] == same.to_dict()
    tests = [t(outcome.probs, labels) for t in (ks_test, kuiper_test)]
    tests.append(spiegelhalter_test(outcome.probs, labels))
    p_values = [test.p_value for test in tests]
    assert [one["p_value"] for one in found.tests] == p_values
    assert [one["adjusted"] for one in found.tests] == holm(p_values).tolist()


@pytest.mark.parametrize("n_classes", [2, 5])
def test_classes_are_parts_of_the_whole(n_classes):
    said = drawn(700, n_classes, 1.3)
    found = analyzed(said)
    errors = [one["ece"]["value"] for one in found.by_class]
    assert np.mean(errors) == pytest.approx(
        found.after["intervals"]["classwise_ece"]["value"], abs=1e-12
    )
    for k, one in enumerate(found.by_class):
        assert one["n"] == (said.labels == k).sum()
        gap = said.probs[:, k].mean() - np.mean(said.labels == k)
        assert one["excess"]["value"] == pytest.approx(gap, abs=1e-12)
        assert one["mean_prob"] - one["frequency"] == pytest.approx(gap, abs=1e-12)


def test_groups_are_judged_alone_and_rows_may_be_in_several():
    said = drawn(400, groups={"site": np.arange(400) % 3})
    tags = ["a|b" if i % 2 else "b" for i in range(400)]
    found = analyzed(subject_of(said, memberships={"tag": tags}))
    by_name = {(one["attribute"], one["group"]): one for one in found.by_group}
    assert by_name["tag", "b"]["n"] == 400 and by_name["tag", "a"]["n"] == 200
    for name, rows in (("0", np.arange(400) % 3 == 0), ("2", np.arange(400) % 3 == 2)):
        one, part = by_name["site", name], said[rows]
        assert one["ece"]["value"] == ece(part.probs, part.labels)
        gap = part.conf.mean() - part.right.mean()
        assert one["overconfidence"]["value"] == pytest.approx(gap, abs=1e-12)


def test_errors_by_hand():
    "10 rows at .95 of which 2 are wrong, 10 at .6 of which 5 are"
    conf = np.repeat([0.95, 0.6], 10)
    right = np.r_[np.arange(10) >= 2, np.arange(10) >= 5]
    said = Predictions(probs=np.stack([conf, 1 - conf], 1), labels=1 - right)
    errors = analyzed(said).errors
    assert (errors["wrong"]["k"], errors["wrong"]["n"]) == (7, 20)
    mean = (2 * 0.95 + 5 * 0.6) / 7
    assert errors["mean_conf"]["value"] == pytest.approx(mean, abs=1e-12)
    expected = (0.95 * 0.05 + 0.6 * 0.4) / 0.45
    assert errors["expected_mean_conf"] == pytest.approx(expected, abs=1e-12)
    assert (errors["sure_of_wrong"]["k"], errors["sure_of_wrong"]["n"]) == (2, 7)
    assert errors["wrong_when_sure"]["value"] == pytest.approx(0.2)
    assert errors["stated_wrong_when_sure"] == pytest.approx(0.05)


# what is found, and what is not


@pytest.mark.parametrize(("n", "n_classes"), [(300, 2), (1000, 4), (300, 10)])
def test_calibrated_probabilities_are_flagged_in_at_most_a_twentieth(
    quick, n, n_classes
):
    "200 seeds, groups too; intervals of classes, and of groups, hold all their truths"
    flagged = classes_hold = groups_hold = 0
    for seed in range(200):
        groups = {"g": np.arange(n) % 5}
        said = drawn(n, n_classes, seed=seed, groups=groups)
        found = analyzed(said, seed=seed)
        flagged += bool(codes(found))
        classes_hold += all(
            one["excess"]["low"] <= 0 <= one["excess"]["high"] for one in found.by_class
        )
        gaps = [one["overconfidence"] for one in found.by_group]
        groups_hold += all(gap["low"] <= 0 <= gap["high"] for gap in gaps)
    assert flagged <= 200 * 0.05
    assert min(classes_hold, groups_hold) >= 200 * 0.95


@pytest.mark.parametrize("n", [500, 1000])
def test_a_temperature_of_three_halves_is_found(quick, n):
    seen = [
        analyzed(drawn(n, temperature=1.5, seed=seed), seed=seed) for seed in range(40)
    ]
    assert all("miscalibrated" in codes(one) for one in seen)
    helped = sum("temperature_would_help" in codes(one) for one in seen)
    assert helped >= (40 if n == 1000 else 24)
    assert 1.3 < np.median([one.temperature_would["temperature"] for one in seen]) < 1.7


def test_what_one_half_learns_is_judged_on_the_other(quick):
    "In sample a temperature never harms; cross-fitted it does, where none is needed"
    gaps, in_sample = [], []
    for seed in range(60):
        said = drawn(200, seed=seed)
        gaps.append(
            analyzed(said, seed=seed).temperature_would["differences"]["nll"][
                "difference"
            ]
        )
        best = best_temperature(probs=said.probs, labels=said.labels, prior_rows=0)
        cooled = softmax(np.log(said.probs) / best)
        in_sample.append(nll(cooled, said.labels) - nll(said.probs, said.labels))
    assert max(in_sample) <= 1e-12
    assert np.mean(gaps) > 0


def test_a_grave_error_is_grave(quick):
    found = analyzed(drawn(1000, temperature=3.0))
    (one,) = (f for f in found.findings if f.code == "miscalibrated")
    assert one.severity == "high" and found.verdict == "fail"
    assert "over-confident" in one.message
    (sure,) = (f for f in found.findings if f.code == "overconfident_errors")
    assert len(sure.rows) > 10


def test_too_little_confidence_is_told_apart(quick):
    (one,) = (
        f
        for f in analyzed(drawn(2000, temperature=0.4)).findings
        if f.code == "miscalibrated"
    )
    assert "under-confident" in one.message


def test_a_group_that_is_over_confident_is_seen_where_the_whole_is_not(quick):
    "One group says too much, the other too little: together it is nearly even"
    problem = synthetic_problem(4000, seed=0)
    is_first = np.arange(4000) % 2 == 0
    factor = np.where(is_first, 1.6, 0.6)[:, None]
    said = Predictions(
        probs=softmax(problem.logits * factor),
        labels=problem.labels,
        groups={"site": np.where(is_first, "one", "two")},
    )
    found = analyzed(said)
    one, two = (group["overconfidence"] for group in found.by_group)
    assert one["low"] > 0.05 and two["high"] < -0.05
    # the audit says so once: the gap between the groups
    told = [each.code for each in FairnessAnalyzer(seed=0).analyze(said).findings]
    assert "group_gap" in told and not any("group" in code for code in codes(found))


def test_a_class_that_is_promised_too_often_is_found(quick):
    problem = synthetic_problem(3000, 3, seed=0)
    said = Predictions(
        probs=softmax(problem.logits + [1.0, 0.0, 0.0]), labels=problem.labels
    )
    (one,) = (f for f in analyzed(said).findings if f.code == "class_miscalibrated")
    worst = one.details["classes"][0]
    assert worst["class"] == "0" and worst["excess"]["value"] > 0.1
    assert "of 3,000 rows" in one.message  # not the rows of the class


def test_of_two_classes_one_is_said_to_be_off(quick):
    problem = synthetic_problem(3000, 2, seed=0)
    said = Predictions(
        probs=softmax(problem.logits + [1.0, 0.0]), labels=problem.labels
    )
    (one,) = (f for f in analyzed(said).findings if f.code == "class_miscalibrated")
    assert [each["class"] for each in one.details["classes"]] == ["1"]


def test_no_direction_is_named_that_is_not_certain(quick):
    "Half of the rows are over-confident, half are under-confident: on average neither"
    rng = np.random.default_rng(0)
    conf = np.repeat([0.6, 0.9], 2000)
    labels = (rng.random(4000) >= np.repeat([0.8, 0.7], 2000)).astype(int)
    said = Predictions(probs=np.c_[conf, 1 - conf], labels=labels)
    (one,) = (f for f in analyzed(said).findings if f.code == "miscalibrated")
    assert "on average neither over- nor under-confident" in one.message
    assert one.details["excess"]["low"] < 0 < one.details["excess"]["high"]


def test_what_a_calibrator_makes_worse_is_found_and_what_it_mends_is_not(quick):
    worse = analyzed(sides(before=1.0, after=1.8))
    (one,) = (
        f
        for f in worse.findings
        if (f.code, f.severity) == ("calibration_got_worse", "medium")
    )
    assert {"nll", "brier", "ece"} <= set(one.details)
    better = analyzed(sides(before=1.8, after=1.0))
    assert "calibration_got_worse" not in codes(better)


def test_a_largest_gap_that_grew_by_chance_is_told_as_such(quick):
    told = [analyzed(sides(400, seed=seed)) for seed in range(30)]
    for one in told:
        gap = one.differences["mce"]["difference"]
        notes = [f for f in one.findings if f.code == "calibration_got_worse"]
        assert bool(notes) == (gap > 0.0005)
        assert all(note.severity == "info" for note in notes)
        assert all("perhaps by chance" in note.message for note in notes)
    assert any(one.differences["mce"]["difference"] > 0.0005 for one in told)


def test_a_largest_gap_that_grew_beyond_chance_is_a_finding(quick):
    "All rows say .6 and .6 are right; after it they say .95"
    labels = (np.arange(500) % 10 >= 6) * 1
    one, other = (np.tile([p, 1 - p], (500, 1)) for p in (0.6, 0.95))
    found = analyzed(calibrated(Predictions(probs=one, labels=labels), other))
    (one,) = (f for f in found.findings if f.code == "calibration_got_worse")
    assert "mce" in one.details and one.severity == "medium"


# what depends on the rows


def test_rows_that_come_in_clusters_are_not_taken_for_more(quick):
    "100 rows, each five times: flagged as seldom as they should be, of 100 seeds"
    flagged = taken_for_more = 0
    for seed in range(100):
        said = drawn(100, seed=seed)
        times = np.repeat(np.arange(100), 5)
        rows = {"probs": said.probs[times], "labels": said.labels[times]}
        found = analyzed(Predictions(**rows, clusters=times.astype(str)), seed=seed)
        assert [one["name"] for one in found.tests] == ["mean excess"]
        flagged += bool(codes(found))
        taken_for_more += bool(codes(analyzed(Predictions(**rows), seed=seed)))
    assert flagged <= 5 < taken_for_more
    apart = analyzed(drawn(2000, temperature=2.0, clusters=np.arange(2000) // 4))
    assert "miscalibrated" in codes(apart)
    assert apart.after["intervals"]["ece"]["evaluated"] is False


def test_what_was_not_measured_says_why():
    found = analyzed(drawn(40, groups={"site": ["a"] * 20 + ["b"] * 20}))
    assert found.before is None and "before" in found.not_evaluated
    assert found.differences == {}
    assert {one["reason"] for one in found.by_group} == {"20 rows; 30 are needed"}
    assert found.temperature_would["reason"] == "40 rows; 60 are needed"
    few = analyzed(drawn(5))
    assert few.by_class["reason"] == "5 rows; 30 are needed"
    assert few.not_evaluated["by_group"] == "no group columns were named"


@pytest.mark.parametrize(
    ("probs", "labels"),
    [
        ([[0.7, 0.3]], [0]),
        ([[1.0, 0.0]] * 80, [0] * 80),
        ([[1.0, 0.0]] * 80, [1] * 80),
        ([[0.5, 0.5]] * 80, [0, 1] * 40),
    ],
)
def test_rows_at_the_ends_are_json(probs, labels):
    found = analyzed(Predictions(probs=probs, labels=labels)).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_same_rows_give_the_same_bytes():
    one, other = (json.dumps(analyzed(sides(300)).to_dict()) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    "wrong", [{"level": 0}, {"seed": -1}, {"n_bins": 0}, {"min_rows": 0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        CalibrationAnalyzer(**{"seed": 0} | wrong)
