"""A miss rate is the fraction that was meant, however it was computed"""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from fine_tune_llm.core.checks import as_fraction
from fine_tune_llm.core.errors import (
    CertificateError,
    ConfigurationError,
    PredictionError,
)
from fine_tune_llm.stats.conformal import ConformalClassifier
from fine_tune_llm.stats.cross_conformal import CrossConformal
from fine_tune_llm.stats.quantiles import (
    conformal_quantile,
    conformal_rank,
    rows_needed,
)
from fine_tune_llm.stats.risk_control import ConformalRiskControl, rows_for_room
from fine_tune_llm.stats.shift import weighted_quantile

TENTHS = [1 - 0.9, 0.1, Fraction(1, 10), Decimal("0.1"), np.float32(0.1), 0.3 - 0.2]


@pytest.mark.parametrize("alpha", TENTHS, ids=repr)
def test_every_way_to_say_a_tenth_has_the_same_ranks(alpha):
    ranks = [conformal_rank(n, alpha) for n in range(1, 500)]
    assert ranks == [-(-9 * (n + 1) // 10) for n in range(1, 500)]
    assert rows_needed(alpha) == 9
    assert rows_for_room(alpha, 1.0) == 9


@pytest.mark.parametrize(("alpha", "least"), [(1 / 3, 2), (2 / 3, 1), (1 / 7, 6)])
def test_fractions_that_floats_cannot_hold(alpha, least):
    exact = Fraction(alpha).limit_denominator(10)
    wanted = [math.ceil((n + 1) * (1 - exact)) for n in range(1, 500)]
    assert [conformal_rank(n, alpha) for n in range(1, 500)] == wanted
    assert rows_needed(alpha) == least


def test_numbers_that_are_no_small_fraction_stay_as_written():
    assert as_fraction(0.1234567890123456) == Fraction("0.1234567890123456")
    assert as_fraction(1e-13) == Fraction(1, 10**13)
    assert as_fraction(1 - 1e-13) == Fraction(repr(1 - 1e-13))
    assert as_fraction(5) == 5
    assert as_fraction(0.1 + 0.2) == Fraction(3, 10)


@pytest.mark.filterwarnings("ignore:alpha=")
def test_sets_are_the_labels_whose_p_value_exceeds_alpha():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), 260)
    labels = rng.integers(0, 3, 260)
    asked = [a / b for b in range(2, 12) for a in range(1, b)] + [
        1 - a / b for b in range(2, 12) for a in range(1, b)
    ]
    wrong = 0
    for n in (8, 9, 19, 59, 109, 239):
        for alpha in asked:
            fitted = ConformalClassifier("lac", float(alpha)).fit(probs[:n], labels[:n])
            sets = fitted.predict(probs)
            wrong += (sets != (fitted.p_values(probs) > fitted.alphas_[0])).any()
    assert wrong == 0


def test_predict_finds_a_miss_rate_that_was_computed_another_way():
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(3), 60), rng.integers(0, 3, 60)
    fitted = ConformalClassifier("lac", [0.2, 1 - 0.9]).fit(probs, labels)
    assert fitted.alphas_ == (0.2, 0.1)
    for alpha in TENTHS:
        by_this = fitted.predict(probs, alpha=alpha)
        np.testing.assert_array_equal(by_this, fitted.predict(probs, alpha=0.1))
    with pytest.raises(ConfigurationError, match="one of those fitted"):
        fitted.predict(probs, alpha=0.11)
    crossed = CrossConformal("lac", 1 - 0.9).fit(probs, labels, np.arange(60) % 2)
    assert crossed.predict([probs, probs], alpha=0.1).shape == (60, 3)


def test_miss_rates_of_a_half_or_more_are_warned_about():
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(3), 60), rng.integers(0, 3, 60)
    for alpha in (0.9, [0.1, 0.5]):
        with pytest.warns(UserWarning, match="Did you mean"):
            ConformalClassifier("lac", alpha).fit(probs, labels)
        with pytest.warns(UserWarning, match="Did you mean"):
            CrossConformal("lac", alpha).fit(probs, labels, np.arange(60) % 2)


def test_risk_control_counts_the_rows_exactly():
    probs = np.c_[np.full(19, 0.9), np.full(19, 0.1)]
    labels = np.r_[np.ones(1, int), np.zeros(18, int)]
    controls = [ConformalRiskControl(alpha).fit(probs, labels) for alpha in TENTHS]
    # room is 20/10 - 1 = 1: one row may be missed
    assert {control.threshold_ for control in controls} == {0.9}


def test_a_loss_above_alpha_with_every_label_is_refused():
    def half(sets, labels):
        return np.full(len(labels), 0.5)

    probs, labels = np.tile([0.6, 0.4], (100, 1)), np.zeros(100, int)
    with pytest.raises(CertificateError, match=r"0\.5.*with every label"):
        ConformalRiskControl(0.1, loss=half).fit(probs, labels)
    kept = ConformalRiskControl(0.6, loss=half).fit(probs, labels)
    assert kept.threshold_ > 0


def test_too_few_rows_for_a_loss_of_ones_own_take_every_label():
    def missed(sets, labels):
        return 1.0 - sets[np.arange(len(labels)), labels]

    probs, labels = np.tile([0.6, 0.4], (5, 1)), np.zeros(5, int)
    few = ConformalRiskControl(0.1, loss=missed).fit(probs, labels)
    assert (few.threshold_, few.rows_missing_) == (0.0, 4)


def test_quantile_with_weights_that_carry_nothing_is_infinite():
    scores = [0.1, 0.2, 0.3]
    assert np.isinf(weighted_quantile(scores, [0, 0, 0], [0, 1])).all()
    assert conformal_quantile(scores, 0.5, weights=[0, 0, 0]) == math.inf


@pytest.mark.parametrize("alpha", [0.1, 1 - 0.9, 1 / 3, 0.05, 0.45])
def test_weighted_quantile_is_exact(alpha):
    rng = np.random.default_rng(1)
    for n in (1, 4, 9, 19, 99, 999):
        scores = rng.choice(50, n) / 50  # ties
        plain = conformal_quantile(scores, alpha)
        for weight in (1.0, 0.1, 0.3, 1e-200, 7e200):
            equal = np.full(n, weight)
            assert conformal_quantile(scores, alpha, weights=equal) == plain
            assert weighted_quantile(scores, equal, [weight], alpha=alpha) == plain
        times = rng.integers(0, 4, n)
        repeated = conformal_quantile(np.repeat(scores, times), alpha)
        by_weight = conformal_quantile(scores, alpha, weights=times, new_weight=1)
        assert by_weight == repeated


def test_weighted_quantile_by_definition_in_fractions():
    rng = np.random.default_rng(2)
    for _ in range(200):
        n = int(rng.integers(1, 12))
        weights = rng.integers(0, 10, n) / 10
        scores, new = rng.random(n), float(rng.integers(0, 10) / 10)
        own = [as_fraction(weight) for weight in weights]
        goal = Fraction(9, 10) * (sum(own) + as_fraction(new))
        reach, wanted = Fraction(0), math.inf
        for i in np.argsort(scores):
            reach += own[i]
            if reach >= goal and sum(own) + as_fraction(new) > 0:
                wanted = scores[i]
                break
        got = conformal_quantile(scores, 0.1, weights=weights, new_weight=new)
        assert got == wanted


def test_weights_that_are_none_are_refused():
    for wrong in ([1, 2], [1, -1, 1], [1, math.nan, 1], [[1, 1, 1]]):
        with pytest.raises(PredictionError, match="`weights`"):
            conformal_quantile([0.1, 0.2, 0.3], weights=wrong)
    with pytest.raises(ConfigurationError, match="`new_weight`"):
        conformal_quantile([0.1, 0.2], weights=[1, 1], new_weight=-1)
    with pytest.raises(ConfigurationError, match="`new_weight`"):
        conformal_quantile([0.1, 0.2], new_weight=1.0)
