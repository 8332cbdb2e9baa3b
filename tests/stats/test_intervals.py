"Counts that are none are refused by name"

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.stats.intervals import clopper_pearson


@pytest.mark.parametrize(
    "successes, trials, level, words",
    [
        (3, 2, 0.95, "0 <= successes <= trials"),
        (np.nan, 2, 0.95, "0 <= successes <= trials"),
        ("a", 2, 0.95, "`successes` must hold numbers"),
        ([1, 2], [3, 4, 5], 0.95, "the same shape"),
        (1, 2, "x", r"`level` must be in \(0, 1\)"),
        (1, 2, [0.9], "`level`"),
    ],
)
def test_counts_that_are_none(successes, trials, level, words):
    with pytest.raises(ConfigurationError, match=words):
        clopper_pearson(successes, trials, level)
