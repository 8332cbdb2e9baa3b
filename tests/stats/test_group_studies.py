"""Group reports beside fairlearn, and studies of what they say

The full studies, at 10,000 and 100,000 rows, are in `benchmarks/group_audit`.
"""

import numpy as np
import pytest

from fine_tune_llm.stats.fairness import group_report
from fine_tune_llm.stats.groups import GroupCounts

WHY = "fairlearn is not installed; the extra `bench` has it"


@pytest.fixture(scope="module")
def decisions():
    "Labels, decisions, group of four and level of three"
    rng = np.random.default_rng(0)
    n = 6000
    group = np.array(list("abcd"), object)[rng.integers(0, 4, n)]
    level = np.array(["low", "middle", "high"], object)[rng.integers(0, 3, n)]
    labels = (rng.random(n) < 0.4) * 1
    wrong = rng.random(n) < np.where(group == "d", 0.3, 0.1)
    return labels, np.where(wrong, 1 - labels, labels), group, level


def report_of(decisions, **asked):
    labels, decided, group, level = decisions
    counts = GroupCounts.from_arrays(
        labels, decided, groups={"group": group, "level": level}
    )
    return group_report(counts, seed=0, n_resamples=99, **asked)


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("fairlearn", reason=WHY)
    import fairlearn.metrics

    return fairlearn.metrics


def frame(theirs, decisions, **asked):
    labels, decided, group, _ = decisions
    metrics = {
        "selection_rate": theirs.selection_rate,
        "tpr": theirs.true_positive_rate,
        "fpr": theirs.false_positive_rate,
        "fnr": theirs.false_negative_rate,
    }
    return theirs.MetricFrame(
        metrics=metrics,
        y_true=labels,
        y_pred=decided,
        sensitive_features=group,
        **asked,
    )


def test_rates_and_gaps_are_fairlearns(theirs, decisions):
    report, frames = report_of(decisions), frame(theirs, decisions)
    for metric in frames.by_group.columns:
        for rate in report.by_group(metric, "group"):
            assert rate.value == pytest.approx(
                frames.by_group[metric][rate.cell[0]], abs=1e-12
            )
        gap = report.gap(metric, "group")
        assert gap.difference == pytest.approx(frames.difference()[metric], abs=1e-12)
        assert gap.ratio == pytest.approx(frames.ratio()[metric], abs=1e-12)
    labels, decided, group, _ = decisions
    for metric, name in (
        ("selection_rate", "demographic_parity"),
        ("equalised_odds", "equalized_odds"),
        ("tpr", "equal_opportunity"),
    ):
        gap = report.gap(metric, "group")
        for kind, value in (("difference", gap.difference), ("ratio", gap.ratio)):
            other = getattr(theirs, f"{name}_{kind}")
            assert value == pytest.approx(
                other(labels, decided, sensitive_features=group), abs=1e-12
            )


def test_control_attributes_are_fairlearns_control_features(theirs, decisions):
    report = report_of(decisions, control="level")
    frames = frame(theirs, decisions, control_features=decisions[3])
    for value in ("low", "middle", "high"):
        view = f"group within level={value}"
        for metric in frames.by_group.columns:
            for rate in report.by_group(metric, view):
                other = frames.by_group[metric][value, rate.cell[0]]
                assert rate.value == pytest.approx(other, abs=1e-12)
            gap = report.gap(metric, view)
            other = frames.difference()[metric][value]
            assert gap.difference == pytest.approx(other, abs=1e-12)


def test_predictive_values_are_scikit_learns(decisions):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, decided, group, _ = decisions
    report = report_of(decisions)
    for metric, positive in (("ppv", 1), ("npv", 0)):
        for rate in report.by_group(metric, "group"):
            rows = group == rate.cell[0]
            other = metrics.precision_score(
                labels[rows], decided[rows], pos_label=positive
            )
            assert rate.value == pytest.approx(other, abs=1e-12)


# Studies


def planted(n, gap, rng):
    "In one of four regions errors are likelier by `gap`"
    region, age = rng.integers(0, 4, n), rng.integers(0, 3, n)
    labels = (rng.random(n) < 0.4) * 1
    wrong = rng.random(n) < 0.1 + gap * (region == 3)
    return labels, np.where(wrong, 1 - labels, labels), {"region": region, "age": age}


def flags(labels, decided, groups, seed):
    "Gaps whose interval leaves 0"
    counts = GroupCounts.from_arrays(labels, decided, groups=groups)
    report = group_report(counts, seed=seed, n_resamples=199)
    return [gap for gap in report.gaps if gap.low]


def test_permuted_groups_raise_no_flag():
    "200 data sets with a planted gap, groups shuffled: false flags at most .05 + 4 se"
    rng, false = np.random.default_rng(0), 0
    for seed in range(200):
        labels, decided, groups = planted(1500, 0.2, rng)
        groups = {name: rng.permutation(values) for name, values in groups.items()}
        false += bool(flags(labels, decided, groups, seed))
    assert false / 200 <= 0.05 + 4 * (0.05 * 0.95 / 200) ** 0.5


@pytest.mark.parametrize("gap, share", [(0.05, 0.02), (0.1, 0.5), (0.2, 0.98)])
def test_planted_bias_is_flagged_the_more_the_larger(gap, share):
    "60 data sets of 1,500 rows: at least this share, less 4 standard errors of a half"
    rng, found = np.random.default_rng(0), 0
    for seed in range(60):
        raised = flags(*planted(1500, gap, rng), seed)
        found += any(
            one.view == "region" and one.metric == "accuracy" and one.worst == ("3",)
            for one in raised
        )
    slack = 4 * (share * (1 - share) / 60) ** 0.5
    assert found / 60 >= share - slack


def test_all_true_gaps_are_held_and_a_percentile_bootstrap_holds_none():
    """100 data sets of 10,000 rows in 20 groups, false positive rates .10 to .12

    Every pair of tpr, fpr and selection rate; the percentile bootstrap of the largest
    gap, fairlearn's way, beside it.
    """
    true, rng = np.linspace(0.1, 0.12, 20), np.random.default_rng(0)
    held, other = 0, 0
    for seed in range(100):
        group = rng.integers(0, 20, 10_000)
        labels = (rng.random(10_000) < 0.3) * 1
        wrong = rng.random(10_000) < true[group]
        decided = np.where(wrong, 1 - labels, labels)
        counts = GroupCounts.from_arrays(labels, decided, groups={"g": group})
        report = group_report(
            counts, seed=seed, metrics=["selection_rate", "tpr", "fpr"], n_resamples=199
        )
        held += all(gap_holds(report, *pair) for pair in truths(true))
        n = np.bincount(group[labels == 0], minlength=20)
        rates = np.bincount(group[(labels == 0) & wrong], minlength=20) / n
        again = np.ptp(rng.binomial(n, rates, size=(200, 20)) / n, axis=1)
        low, high = np.quantile(again, [0.025, 0.975])
        other += low <= 0.02 <= high
    assert held / 100 >= 0.95 - 4 * (0.95 * 0.05 / 100) ** 0.5
    assert other / 100 <= 0.1


def truths(wrong):
    "Metric -> the true value of each group, by number"
    yield "fpr", wrong
    yield "tpr", 1 - wrong
    yield "selection_rate", 0.3 * (1 - wrong) + 0.7 * wrong


def gap_holds(report, metric, true):
    "Do all pairs of a metric, and its largest gap, hold the truth?"
    gap = report.gap(metric)
    values = {pair.first: pair for pair in report.pairs(metric)}
    assert values
    pairs_hold = all(
        pair.low <= true[int(pair.first[0])] - true[int(pair.second[0])] <= pair.high
        for pair in report.pairs(metric)
    )
    return pairs_hold and gap.low <= np.ptp(true) <= gap.high
