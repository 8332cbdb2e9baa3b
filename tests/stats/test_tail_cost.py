"Means of bounded numbers and of their worst share: exact cases, coverage, bad input"

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize_scalar

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats import bounded_mean, clopper_pearson, cvar, cvar_interval

COSTS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0]), min_size=1, max_size=40)


@pytest.mark.parametrize(
    "k, n", [(0, 1), (0, 40), (1, 40), (20, 40), (40, 40), (7, 1000)]
)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_truth_values_have_the_interval_of_clopper_and_pearson(k, n, level):
    found = bounded_mean([0, 1], counts=[n - k, k], level=level)
    low, high = clopper_pearson(k, n, level)
    assert abs(found.low - low) < 1e-10 and abs(found.high - high) < 1e-10


@given(COSTS, st.floats(0.5, 50), st.floats(-5, 5))
@settings(max_examples=60, deadline=None)
def test_a_mean_moves_with_its_unit_and_lies_within_its_ends(costs, factor, shift):
    first = bounded_mean(costs, high=20)
    moved = [cost * factor + shift for cost in costs]
    low, high = min(shift, *moved), max(20 * factor + shift, *moved)
    second = bounded_mean(moved, low=low, high=high)
    assert 0 <= first.low <= first.value <= first.high <= 20
    for end in ("value", "low", "high"):
        wanted = getattr(first, end) * factor + shift
        assert abs(getattr(second, end) - wanted) < 1e-6 * factor


@given(COSTS, st.permutations(range(5)))
@settings(max_examples=40, deadline=None)
def test_rows_and_counts_of_values_say_the_same(costs, order):
    values = np.unique(costs)
    values = values[[i for i in order if i < len(values)]]
    counts = [costs.count(value) for value in values]
    for of in (bounded_mean, cvar_interval):
        by_rows = of(costs, high=20)
        by_counts = of(values, counts=counts, high=20)
        np.testing.assert_allclose(
            [by_rows.value, by_rows.low, by_rows.high],
            [by_counts.value, by_counts.low, by_counts.high],
            atol=1e-9,
        )


@given(COSTS, st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_the_tail_is_the_least_over_its_edge_and_the_worst_over_weights(costs, tail):
    "Rockafellar and Uryasev's theorem, and its dual as a linear program"
    found = cvar(costs, tail=tail)
    values = np.array(costs)

    def beyond(edge):
        return edge + np.maximum(values - edge, 0).mean() / tail

    assert found <= min(map(beyond, values)) + 1e-9
    assert min(map(beyond, values)) <= found + 1e-9
    smooth = minimize_scalar(beyond, bounds=(0, 20), method="bounded").fun
    assert smooth >= found - 1e-9
    n = len(values)
    worst = linprog(-values, A_eq=np.ones((1, n)), b_eq=[1], bounds=(0, 1 / (tail * n)))
    assert abs(-worst.fun - found) < 1e-7


def test_the_tail_by_hand():
    # the costliest 3 of 10: 9, 7 and one of two 4s; of 2.5 rows, half a 4
    costs = [9, 7, 4, 4, 0, 0, 0, 0, 0, 0]
    assert abs(cvar(costs, tail=0.3) - 20 / 3) < 1e-12
    assert abs(cvar(costs, tail=0.25) - (9 + 7 + 2) / 2.5) < 1e-12


LAWS = [
    ([0, 1, 50], [0.94, 0.05, 0.01], 100),
    ([0, 1, 50], [0.949, 0.05, 0.001], 50),
    ([0, 0.2, 1, 20], [0.6, 0.3, 0.08, 0.02], 20),
    ([0, 1], [0.95, 0.05], 1),  # the tail begins where the values change
    ([0, 1, 2, 3, 4, 100], [0.5, 0.2, 0.1, 0.1, 0.09, 0.01], 100),
]


@pytest.mark.parametrize("values, shares, high", LAWS)
@pytest.mark.parametrize("n", [50, 1000])
def test_intervals_hold_the_truth(values, shares, high, n):
    values, shares = np.array(values, float), np.array(shares)
    mean, tail = shares @ values, cvar(values, counts=shares * 1e9, tail=0.05)
    rng, R, missed = np.random.default_rng(0), 400, np.zeros(2)
    for _ in range(R):
        counts = rng.multinomial(n, shares)
        of_mean = bounded_mean(values, counts=counts, high=high)
        of_tail = cvar_interval(values, counts=counts, high=high)
        missed += [
            not of_mean.low - 1e-9 <= mean <= of_mean.high + 1e-9,
            not of_tail.low - 1e-9 <= tail <= of_tail.high + 1e-9,
        ]
    assert (missed / R <= 0.05 + 3 * (0.05 * 0.95 / R) ** 0.5).all()  # 3 sigma


def test_weighted_shares_hold_the_truth():
    "A rare stratum that counts twenty times as much"
    rng, R, missed = np.random.default_rng(1), 400, 0
    weights, rates, n_rows = np.array([1.0, 20.0]), np.array([0.1, 0.05]), [400, 20]
    truth = (weights * n_rows * rates).sum() / (weights * n_rows).sum()
    for _ in range(R):
        wrong = rng.binomial(n_rows, rates)
        found = bounded_mean(
            [1, 1, 0, 0],
            counts=[*wrong, *(n_rows - wrong)],
            weights=[*weights, *weights],
        )
        missed += truth not in found
    assert missed / R <= 0.05 + 3 * (0.05 * 0.95 / R) ** 0.5  # 3 sigma


def test_many_rows_have_the_interval_of_students_t():
    rng = np.random.default_rng(2)
    values = rng.beta(2, 5, 100_000)
    found = bounded_mean(values)
    half = 1.959964 * values.std() / len(values) ** 0.5
    assert abs((found.high - found.low) / (2 * half) - 1) < 0.01


@pytest.mark.parametrize("of", [bounded_mean, cvar, cvar_interval])
@pytest.mark.parametrize(
    "values, more, kind, said",
    [
        ([], {}, PredictionError, "no row that counts"),
        ([1.0], {"counts": [0]}, PredictionError, "no row that counts"),
        ([1.0], {"counts": [-1]}, PredictionError, "`counts`"),
        ([1.0, 0.0], {"counts": [1]}, PredictionError, "`counts` must hold 2"),
        ([float("nan")], {}, PredictionError, "`values` must lie"),
        (["a"], {}, ConfigurationError, "`values` must hold numbers"),
    ],
)
def test_bad_values_are_named(of, values, more, kind, said):
    with pytest.raises(kind, match=said):
        of(values, **more)


def test_values_beyond_their_ends_are_named():
    with pytest.raises(PredictionError, match="value 1 is 3"):
        cvar_interval([0, 3], high=2)
    for tail in (0, 1.5, "a"):
        with pytest.raises(ConfigurationError, match="`tail`"):
            cvar([1.0], tail=tail)
