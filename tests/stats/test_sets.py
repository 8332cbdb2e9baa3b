"Prediction sets, their quantiles and bands: what is refused, and numbers by hand"

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats.quantiles import (
    conformal_quantile,
    conformal_rank,
    coverage,
    coverage_band,
    coverage_slack,
    rows_needed,
    set_size,
)
from fine_tune_llm.stats.sets import PredictionSets, as_sets, check_sets

MATRIX = np.array([[True, False, True], [False, False, False], [False, True, False]])


def test_equal_sets():
    sets = as_sets(MATRIX)
    assert sets == as_sets(MATRIX.astype(float))
    assert sets == PredictionSets([0, 2, 2, 3], [0, 2, 1], 3)
    assert sets != as_sets(~MATRIX) and 2 in sets[0]
    assert sets[-1].tolist() == [1]
    np.testing.assert_array_equal(np.asarray(sets), MATRIX)


@pytest.mark.parametrize(
    "wrong,words",
    [
        ([0.5, 0.5], r"must have shape \(n, K\)"),
        ([[0.5, 0.5]], "got 0.5. Probabilities become sets by"),
        ([[np.nan, 1]], "got nan"),
        ([[0, 2]], "got 2"),
        (np.zeros((0, 3), bool), "at least one row"),
    ],
)
def test_what_is_no_set(wrong, words):
    with pytest.raises(PredictionError, match=words):
        check_sets(wrong)


@pytest.mark.parametrize(
    "wrong,words",
    [
        (([0, 5], [1], 3), "the number of labels, 1"),
        (([0, 1], [9], 3), r"must lie in \[0, 3\)"),
        (([0, 2], [2, 1], 3), "rise within each row"),
        (([0, 2], [0.5, 1.0], 3), "whole numbers"),
        (([1, 2], [0, 1], 3), "rise from 0"),
    ],
)
def test_what_is_no_compressed_rows(wrong, words):
    with pytest.raises(PredictionError, match=words):
        PredictionSets(*wrong)


def test_sets_say_how_to_ask():
    sets = as_sets(MATRIX)
    with pytest.raises(TypeError, match=r"label in sets\[i\]"):
        print(2 in sets)
    with pytest.raises(IndexError, match="row 3 was asked for"):
        sets[3]


def test_sets_of_probabilities_have_no_size_and_no_coverage():
    p = np.full((5, 4), 0.25)
    for sets in (p, p[0], np.full((2, 3), np.nan), [[0, 1], [2]]):
        for measure in (set_size, lambda v: coverage(v, [0] * len(v))):
            with pytest.raises(PredictionError, match="`sets`"):
                measure(sets)


def test_quantiles():
    exact = math.ceil((10**15 + 1) * (1 - Fraction(".1234567890123456")))
    assert conformal_rank(10**15, 0.1234567890123456) == exact
    for wrong in ([0.1, math.nan], [[0.1, 0.2]], ["a"]):
        with pytest.raises(PredictionError, match="`scores`"):
            conformal_quantile(wrong, 0.5)


def test_all_orders_of_six():
    orders = itertools.permutations(range(6))
    hits = [new <= conformal_quantile(seen, 0.3) for *seen, new in orders]
    assert np.mean(hits) == pytest.approx(5 / 6, abs=1e-12)


def test_rows_that_are_no_number():
    with pytest.raises(ConfigurationError, match="`n_cal` must be a whole .*, got 'a'"):
        coverage_slack("a", 0.1, 0.1)
    with pytest.raises(ConfigurationError, match=r"`slack` must be in \(0, 1\), got N"):
        rows_needed(0.1, delta=0.1)
    for wrong in (("a", 5), (5, 0), (5.5, 5), ([5, 5], [5]), (0, 5)):
        with pytest.raises(ConfigurationError, match="must be whole numbers"):
            coverage_band(*wrong)


def test_sparse_sets_measure_the_same():
    sets = as_sets(MATRIX)
    dense = coverage(MATRIX, [2, 0, 1]), set_size(MATRIX)
    assert dense == (coverage(sets, [2, 0, 1]), set_size(sets))
