"Other mixes of rows against brute force, linear programs and simulation"

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from fine_tune_llm.stats import (
    count_forecast,
    shifted_weights,
    unmixed,
    worst_in_ball,
    worst_in_part,
    worst_mix,
)

SIZES = st.lists(st.integers(1, 200), min_size=2, max_size=6)


@given(SIZES, st.floats(0.1, 3), st.data())
@settings(max_examples=80, deadline=None)
def test_one_part_is_so_much_more_frequent_and_the_rest_keeps_its_mix(
    sizes, factor, data
):
    part = data.draw(st.integers(0, len(sizes) - 1))
    sizes = np.array(sizes)
    weights = shifted_weights(sizes, part, factor)
    share = sizes[part] / sizes.sum()
    if factor * share >= 1:
        assert weights is None
        return
    mix = weights * sizes / sizes.sum()
    others = np.arange(len(sizes)) != part
    assert abs(mix.sum() - 1) < 1e-9 and abs(mix[part] - factor * share) < 1e-9
    np.testing.assert_allclose(
        mix[others] / mix[others].sum(), sizes[others] / sizes[others].sum()
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_the_worst_mix_is_a_linear_program(parts):
    rates = np.array([rate for rate, _ in parts])
    shares = np.array([size for _, size in parts], float)
    shares /= shares.sum()
    for factor in (1.0, 1.5, 2.0, 10.0):
        bounds = [(share / factor, share * factor) for share in shares]
        exact = linprog(-rates, A_eq=np.ones((1, len(rates))), b_eq=[1], bounds=bounds)
        assert abs(-exact.fun - worst_mix(rates, shares, factor)) < 1e-7


@pytest.mark.parametrize("wrong, n", [(0, 12), (1, 12), (4, 12), (11, 12), (12, 12)])
@pytest.mark.parametrize("part", [0.1, 0.25, 0.5, 1.0])
def test_the_worst_part_is_a_linear_program(wrong, n, part):
    losses = np.r_[np.ones(wrong), np.zeros(n - wrong)]
    most = (0, 1 / (part * n))
    exact = linprog(-losses, A_eq=np.ones((1, n)), b_eq=[1], bounds=most)
    assert abs(-exact.fun - worst_in_part(wrong / n, part)) < 1e-9


@pytest.mark.parametrize("wrong, n", [(1, 12), (4, 12), (9, 12)])
@pytest.mark.parametrize("effective", [0.2, 0.5, 0.9])
def test_the_worst_weights_are_a_convex_program(wrong, n, effective):
    "Weights that leave n times `effective` effective rows: n sum(p^2) <= 1 / effective"
    losses = np.r_[np.ones(wrong), np.zeros(n - wrong)]
    limits = (
        {"type": "eq", "fun": lambda p: p.sum() - 1},
        {"type": "ineq", "fun": lambda p: 1 / effective - n * (p**2).sum()},
    )
    start = np.full(n, 1 / n)
    exact = minimize(
        lambda p: -p @ losses,
        start,
        bounds=[(0, 1)] * n,
        constraints=limits,
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert abs(-exact.fun - worst_in_ball(wrong / n, effective)) < 1e-5


@pytest.mark.parametrize("K", [2, 3, 7])
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3])
def test_noise_on_labels_is_taken_away_on_average(K, noise):
    "A table of costs, labels made wrong at random: the mean is that by true labels"
    rng, n = np.random.default_rng(0), 400_000
    cost = rng.uniform(0, 5, (K, K + 1))
    true, decided = rng.integers(K, size=n), rng.integers(K + 1, size=n)
    wrong = rng.uniform(size=n) < noise
    seen = np.where(wrong, (true + rng.integers(1, K, size=n)) % K, true)
    fair = unmixed(cost, noise)[seen, decided]
    off = fair - cost[true, decided]
    assert abs(off.mean()) < 4 * off.std() / n**0.5 + 1e-12  # 4 sigma


def test_a_forecast_holds_the_number_to_come():
    rng, R = np.random.default_rng(0), 1500
    for share, n, ahead in ((0.02, 60, 100), (0.3, 200, 1000), (0.9, 40, 50)):
        seen, next_ones = rng.binomial(n, share, R), rng.binomial(ahead, share, R)
        ranges = [count_forecast(int(k), n, ahead=ahead, level=0.9) for k in seen]
        held = np.mean([x in one for x, one in zip(next_ones, ranges)])
        assert held >= 0.9 - 3 * (0.09 / R) ** 0.5  # 3 sigma
