"Tests of a risk: against slow versions, at the edge, and what they refuse"

import numpy as np
import pytest
from scipy.stats import binom

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats.bounds import (
    Nested,
    binomial_p_value,
    hoeffding_bentkus,
    one_setting,
    p_value,
    risk_test,
    rows_that_would_do,
)
from fine_tune_llm.stats.randomness import keyed_generator

RNG = np.random.default_rng(0)
LOSSES = RNG.beta(0.2, 4, 150)
ENTER = RNG.integers(0, 5, 150)
ORDER = keyed_generator(7, "order of rows").permutation(150)


def wsr_slowly(losses, risk):
    "The betting test as the paper writes it"
    wealth, best, n = 1.0, 1.0, len(losses)
    for i in range(n):
        past = losses[:i]
        means = [(0.5 + past[: k + 1].sum()) / (k + 2) for k in range(i)]
        spread = 0.25 + sum((past[k] - means[k]) ** 2 for k in range(i))
        bet = min(1, (2 * np.log(10) / (n * spread / (i + 1))) ** 0.5)
        wealth *= 1 + bet * (risk - losses[i])
        best = max(best, wealth)
    return 1 / best


def test_the_binomial_tail_is_exact_far_out():
    "3.3e-17: no difference from 1"
    assert abs(binomial_p_value(0, 740, 0.05) / 0.95**740 - 1) < 1e-9
    assert binomial_p_value(0, 0, 0.1) == 1.0


@pytest.mark.parametrize("errors", [11, np.nan])
def test_counts_that_are_none_are_refused(errors):
    with pytest.raises(PredictionError, match="between 0 and the number of rows"):
        binomial_p_value(errors, 10, 0.05)


def test_a_risk_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match=r"`risk` must be in \(0, 1\), got 2."):
        binomial_p_value(1, 10, 2.0)


@pytest.mark.parametrize("skip", [True, False])
def test_all_settings_in_one_go_and_each_alone(skip):
    nested = Nested(LOSSES, ENTER, 4, skip)
    _, hb = risk_test("hb", LOSSES, 7)
    alone = [hb(one_setting(nested.at(j)), 0.08)[0] for j in range(4)]
    np.testing.assert_allclose(hb(nested, 0.08), alone, rtol=1e-9)
    _, wsr = risk_test("wsr", LOSSES, 7)
    if skip:
        drawn = LOSSES[ORDER]
        alone = [wsr_slowly(drawn[ENTER[ORDER] <= j], 0.08) for j in range(4)]
    else:
        alone = [wsr(one_setting(nested.at(j)), 0.08)[0] for j in range(4)]
    np.testing.assert_allclose(wsr(nested, 0.08), alone, rtol=1e-9)


@pytest.mark.parametrize(
    "losses, risk, method, error, words",
    [
        (LOSSES, 0.1, "wsr", ConfigurationError, "Pass seed="),
        (LOSSES, 0.1, "exact", ConfigurationError, "losses of 0 and 1"),
        ([0.5, 1.5], 0.1, "auto", PredictionError, r"in \[0, 1\]; 1 of 2 rows"),
        (
            [0.5, 0.5],
            1.5,
            "auto",
            ConfigurationError,
            r"`risk` must be in \(0, 1\), got 1.5",
        ),
        (["a"], 0.1, "auto", PredictionError, "`losses` must hold numbers"),
    ],
)
def test_what_a_p_value_refuses(losses, risk, method, error, words):
    with pytest.raises(error, match=words):
        p_value(losses, risk, method)


def test_bounds_and_automatic_choice():
    scaled = p_value([0.5, 0.05, 0, 0], 0.3, "hb")
    assert p_value([50, 5, 0, 0], 30, bound=100) == scaled
    assert p_value(LOSSES, 0.1, seed=3) == p_value(LOSSES, 0.1, "wsr", seed=3)
    assert p_value([0, 1, 0], 0.7, seed=3) == binomial_p_value(1, 3, 0.7)


DRAWS = dict(
    binary=(lambda rng, shape: (rng.random(shape) < 0.1) * 1.0, 0.1),
    three=(
        lambda rng, shape: rng.choice([0, 0.1, 1], shape, p=[0.5, 0.44, 0.06]),
        0.104,
    ),
    beta=(lambda rng, shape: rng.beta(0.5, 4.5, shape), 0.1),
)


@pytest.mark.parametrize("name", DRAWS)
def test_false_alarms_at_the_edge(name):
    "The true mean is exactly the risk: 4,000 draws of 60 rows, four standard errors"
    draw, risk = DRAWS[name]
    losses = draw(np.random.default_rng(3), (60, 4000))
    for method in ("exact", "hb", "wsr")[name != "binary" :]:
        p = p_value(losses, risk, method, seed=0)
        for delta in (0.05, 0.2):
            allowed = delta + 4 * (delta * (1 - delta) / 4000) ** 0.5
            assert (p <= delta).mean() <= allowed, (method, delta)


@pytest.mark.parametrize(
    "method, by_mean", [("exact", binomial_p_value), ("hb", hoeffding_bentkus)]
)
def test_the_fewest_rows_are_the_fewest(method, by_mean):
    def chance(n):
        errors = np.arange(n)
        passes = by_mean(errors, n, 0.05) <= 0.1
        return binom.pmf(errors, n, 0.03)[passes].sum()

    n = rows_that_would_do(0.05, 0.1, risk=0.03, method=method)
    assert chance(n) >= 0.8 > chance(n - 1)
    assert rows_that_would_do(0.05, 0.1, risk=0.03, method=method, power=0.5) < n


def test_rows_planned_for_betting_pass():
    losses = np.random.default_rng(1).beta(0.2, 4, (20, 3200))[0, :200]
    n = rows_that_would_do(0.08, 0.1, losses=losses, method="wsr", seed=0)
    rng = np.random.default_rng(5)
    draws = [rng.choice(losses, n) for _ in range(200)]
    passed = [p_value(draw, 0.08, "wsr", seed=0) <= 0.1 for draw in draws]
    assert np.mean(passed) > 0.6
