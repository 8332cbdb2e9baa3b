"Planning a study: what a number of rows can find, in truth and in words"

import numpy as np
import pytest
from scipy.stats import binom

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.stats.fairness import group_report
from fine_tune_llm.stats.groups import GroupCounts
from fine_tune_llm.stats.power import detectable_gap, rows_for_gap


def test_a_detectable_gap_is_found_as_often_as_promised():
    "300 data sets at power 80%, four standard errors"
    n = 200
    gap = detectable_gap(n, n)
    rng, found = np.random.default_rng(0), 0
    group, labels = np.repeat([0, 1], n), np.ones(2 * n, int)
    rates = np.repeat([0.5 - gap / 2, 0.5 + gap / 2], n)
    for seed in range(300):
        right = (rng.random(2 * n) < rates) * 1
        counts = GroupCounts.from_arrays(labels, right, groups={"g": group})
        report = group_report(counts, seed=seed, metrics=["accuracy"], n_resamples=199)
        found += report.gap("accuracy").low > 0
    assert abs(found / 300 - 0.8) < 4 * (0.8 * 0.2 / 300) ** 0.5, found


def true_power(n1, n2, p1, p2):
    "Of the pooled z-test at 5%, summed over every outcome"
    x, y = np.arange(n1 + 1)[:, None], np.arange(n2 + 1)[None]
    pooled = (x + y) / (n1 + n2)
    variance = pooled * (1 - pooled) * (1 / n1 + 1 / n2)
    z = np.abs(x / n1 - y / n2) / np.sqrt(np.where(variance > 0, variance, np.inf))
    return (binom.pmf(x, n1, p1) * binom.pmf(y, n2, p2))[z > 1.959964].sum()


@pytest.mark.parametrize(
    "rate, gap",
    [(0.02, 0.05), (0.1, 0.1), (0.9, 0.2), (0.5, 0.1), (0.3, 0.25), (0.01, 0.03)],
)
def test_rows_for_gap_have_the_power_they_say(rate, gap):
    "Exact sums; .02 is what a test of whole rows cannot do better by formula"
    n = rows_for_gap(gap, rate)
    other = rate + gap if rate <= 0.5 else rate - gap
    assert 0.78 <= true_power(n, n, rate, other) <= 0.84
    assert detectable_gap(n, n, rate) <= gap


def test_rate_that_is_not_known_is_the_worst():
    n = rows_for_gap(0.2)
    assert true_power(n, n, 0.4, 0.6) >= 0.78
    assert all(rows_for_gap(0.2, rate) <= n for rate in (0.05, 0.2, 0.35, 0.5, 0.9))


def test_unequal_groups_by_the_harder_side():
    gap = detectable_gap(20, 200, 0.1)
    for n1, n2 in ((20, 200), (200, 20)):
        assert true_power(n1, n2, 0.1, 0.1 + gap) >= 0.78
    assert np.isnan(detectable_gap(3, 3, 0.5))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: rows_for_gap(0), "`gap` must be in (0, 1), got 0"),
        (lambda: rows_for_gap(0.1, -1.0), "`rate` must be in (0, 1), got -1.0"),
        (lambda: detectable_gap(10, 10, 2), "`rate` must be"),
        (lambda: rows_for_gap(0.9, 0.3), "leads from a `rate` of 0.3 out of [0, 1]"),
        (lambda: detectable_gap(0, 10), "`n1` must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_named(call, words):
    with pytest.raises(ConfigurationError) as error:
        call()
    assert words in str(error.value)
