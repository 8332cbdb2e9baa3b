"Do intervals of the largest gap hold? Many data sets whose truth is known"

import numpy as np
import pytest
from scipy.stats import studentized_range

from fine_tune_llm.stats.fairness import group_report
from fine_tune_llm.stats.gaps import critical_value
from fine_tune_llm.stats.groups import GroupCounts
from fine_tune_llm.stats.intervals import clopper_pearson

LEAST = 0.95 - 4 * (0.95 * 0.05 / 200) ** 0.5  # four standard errors of 200 data sets
LEAST_OF_60 = 0.95 - 4 * (0.95 * 0.05 / 60) ** 0.5


def counts_of(right, group):
    "All rows truly positive, `right` of them found"
    labels = np.ones(len(group), int)
    return GroupCounts.from_arrays(labels, right, groups={"g": group})


@pytest.mark.parametrize("n_groups", [2, 5, 20])
def test_the_critical_value_of_equal_groups_is_tukeys(n_groups):
    "Four standard errors of a quantile of 4,000 draws"
    n = 2000
    right = np.tile(np.arange(n) < 0.3 * n, n_groups) * 1
    counts = counts_of(right, np.repeat(np.arange(n_groups), n))
    report = group_report(
        counts, seed=0, metrics=["accuracy"], n_resamples=4000, order=1
    )
    critical = critical_value(report.tests[1].estimates.largest, 0.95)
    error = 4 * (0.95 * 0.05 / 4000) ** 0.5

    def tukey(level):
        return studentized_range.ppf(level, n_groups, np.inf) / 2**0.5

    assert tukey(0.95 - error) < critical < tukey(0.95 + error)


CASES = [
    (30, [0.5, 0.5]),
    (30, [0.02] * 5),
    (100, [0.1] * 5),
    (100, [0.5] * 10),
    (1000, [0.02] * 5),
    (100, [0.5, 0.6]),
    (300, np.linspace(0.4, 0.6, 5)),
    (30, [0.02, 0.02, 0.02, 0.2]),
    ((30, 10_000), [0.005, 0.05]),
    ((30, 10_000), [0.01, 0.01]),
    ((50, 5000), [0.2, 0.2]),
    ((30, 30, 5000), [0.02, 0.02, 0.3]),
]


def held(n, rates, n_sets=200):
    "Shares that hold: our gap, our ratio, the percentile bootstrap of the largest gap"
    rng, n_groups = np.random.default_rng(0), len(rates)
    truth, ratio = float(max(rates) - min(rates)), min(rates) / max(rates)
    n = np.broadcast_to(n, n_groups)
    group = np.repeat(np.arange(n_groups), n)
    hits = np.zeros(3)
    for seed in range(n_sets):
        k = rng.binomial(n, rates)
        right = np.concatenate([np.arange(b) < a for a, b in zip(k, n)]) * 1
        gap = group_report(
            counts_of(right, group), seed=seed, metrics=["accuracy"], n_resamples=199
        ).gap("accuracy")
        again = rng.binomial(n, k / n, size=(200, n_groups)) / n
        low, high = np.quantile(again.max(1) - again.min(1), (0.025, 0.975))
        assert gap.ratio is None or (gap.low == 0) == (gap.ratio_high == 1)
        hits += (
            gap.low <= truth <= gap.high,
            gap.ratio is None
            or gap.ratio_low - 1e-12 <= ratio <= gap.ratio_high + 1e-12,
            low <= truth <= high,
        )
    return hits / n_sets


def test_largest_gaps_and_smallest_ratios_are_held():
    "In every case; the percentile bootstrap of the maximum fails in some altogether"
    percentile = []
    for n, rates in CASES:
        gap, ratio, other = held(n, rates)
        assert min(gap, ratio) >= LEAST, (n, rates, gap, ratio)
        percentile.append(other)
    assert min(percentile) < 0.1


def test_no_positive_among_thirty_is_no_proof_of_none():
    "The exact bound for one group of 30 is .095; among five, one may lie beyond that"
    counts = GroupCounts.from_arrays(
        np.repeat([1, 0], [150, 1]),
        np.zeros(151, int),
        groups={"g": np.r_[np.repeat(np.arange(5), 30), 0]},
    )
    gap = group_report(counts, seed=0, metrics=["tpr"], n_resamples=499).gap("tpr")
    assert (gap.difference, gap.low, gap.ratio) == (0, 0, None)
    assert clopper_pearson(0, 30, 0.95, side="upper")[1] < gap.high < 0.3
    assert gap.p_value == 1


def test_a_rare_high_cost_is_held():
    "A cost of 20 that one row in a hundred incurs in each of five groups"
    rng, n, hits = np.random.default_rng(0), 300, 0
    group = np.repeat(np.arange(5), n)
    for seed in range(60):
        u = rng.random(5 * n)
        labels = (u < 0.01) * 1
        decided = ((u >= 0.01) & (u < 0.2)) * 1
        gap = group_report(
            GroupCounts.from_arrays(labels, decided, groups={"g": group}),
            seed=seed,
            metrics=["expected_cost"],
            cost=[[0, 1], [20, 0]],
            n_resamples=199,
        ).gap("expected_cost")
        hits += gap.low <= 0 <= gap.high
    assert hits / 60 > LEAST_OF_60


@pytest.mark.parametrize("off", [[0, 0, 0.1, 0.1], [0] * 5])
def test_gaps_in_calibration_are_held(off):
    "Of the error, of overconfidence, and the worst cell of all"
    rng, hits = np.random.default_rng(0), np.zeros(3)
    group = np.repeat(np.arange(len(off)), 300)
    for seed in range(60):
        conf = rng.choice([0.6, 0.7, 0.8, 0.9], len(group))
        right = (rng.random(len(group)) < conf - np.array(off)[group]) * 1
        counts = GroupCounts.from_arrays(
            right,
            np.ones(len(group), int),
            groups={"g": group},
            probs=np.c_[1 - conf, conf],
            n_bins=10,
        )
        metrics = ["calibration_error", "overconfidence"]
        report = group_report(counts, seed=seed, metrics=metrics, n_resamples=199)
        truth = max(off) - min(off)
        error, over = map(report.gap, metrics)
        worst = report.multicalibration
        hits += (
            error.low <= truth <= error.high,
            over.low <= truth <= over.high,
            worst.low <= max(off) <= worst.high,
        )
    assert (hits / 60 > LEAST_OF_60).all()
