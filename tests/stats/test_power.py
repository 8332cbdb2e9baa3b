"Planning a study: what a number of rows can find, in truth and in words"

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: rows_for_gap(0), "`gap` must be in (0, 1), got 0"),
        (lambda: rows_for_gap(0.1, -1.0), "`rate` must be in (0, 1), got -1.0"),
        (lambda: detectable_gap(10, 10, 2), "`rate` must be"),
        (lambda: detectable_gap(0, 10), "`n1` must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_named(call, words):
    with pytest.raises(ConfigurationError) as error:
        call()
    assert words in str(error.value)
