"Confidences by kernel and by numpy, and the places where walks begin"

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats import CONFIDENCES, decide_at, threshold_grid
from fine_tune_llm.stats.bounds import Nested
from fine_tune_llm.stats.selection import (
    check_grid,
    first_threshold,
    judge,
    margin_confidence,
    start_indices,
)


def test_many_rows_by_a_kernel_and_few_by_numpy_have_the_same_margin():
    draw = np.random.default_rng(0).dirichlet(np.ones(1100) * 0.01, 1000)
    probs = draw.astype(np.float32)
    halves = np.r_[margin_confidence(probs[:500]), margin_confidence(probs[500:])]
    np.testing.assert_array_equal(margin_confidence(probs), halves)


def test_starts_lie_around_the_confidence_they_stand_for():
    grid = threshold_grid()
    assert len(grid) == 280
    careful, middle, plain = start_indices(grid, [0.05])
    assert grid[plain] <= 0.95 < grid[plain - 1]
    assert grid[middle] <= 1 - 0.05 / 4 < grid[middle - 1]
    assert grid[careful] <= 1 - 0.05 / 16 < grid[careful - 1]


def test_rows_enter_at_the_first_threshold_at_or_below_them():
    enter = first_threshold(np.array([0.99, 0.9, 0.8, 0.6]), np.array([0.95, 0.8, 0.0]))
    nested = Nested(np.array([0.0, 0, 1, 0]), enter, 3)
    np.testing.assert_array_equal(nested.totals(), [[1, 3, 4], [0, 1, 1]])


@pytest.mark.parametrize("grid", [[], [0.1, 0.2], [2.0], [[0.5]], [np.nan], "x"])
def test_wrong_grids(grid):
    with pytest.raises(ConfigurationError, match="`grid` must hold"):
        check_grid(grid)


@pytest.mark.parametrize(
    "confidence",
    [
        lambda probs, cost=None: np.full(len(probs), 2.0),
        lambda probs, cost=None: np.full(len(probs), np.nan),
        lambda probs, cost=None: 0.5,
    ],
)
def test_a_confidence_must_give_a_number_in_0_1_for_each_row(confidence, monkeypatch):
    monkeypatch.setattr(CONFIDENCES, "get", lambda name: confidence)
    with pytest.raises(PredictionError, match=r"must give 2 numbers in \[0, 1\]"):
        judge([[0.5, 0.5], [0.2, 0.8]], "odd")


def test_a_threshold_that_is_no_number():
    with pytest.raises(ConfigurationError, match="`threshold` must be"):
        decide_at([[0.5, 0.5]], np.nan)
    assert decide_at([[0.5, 0.5]], np.inf).tolist() == [-1]
