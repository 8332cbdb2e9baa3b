"""Scores that say 0 or 1, and scores whose probabilities floats cannot tell from 1"""

import numpy as np
import pytest
from scipy.optimize import minimize

from fine_tune_llm.core.errors import ConvergenceError
from fine_tune_llm.stats.binary_calibration import (
    BetaCalibration,
    PlattScaling,
    _Logistic,
    _platt_targets,
)
from fine_tune_llm.stats.calibration import CALIBRATORS
from fine_tune_llm.stats.calibrators import Rows
from fine_tune_llm.stats.metrics import nll

CURVES = PlattScaling, BetaCalibration
WAYS = "one-vs-rest", "confidence", "top-label"
FOUR_OF_TEN_WRONG = -(0.7 * np.log(0.7) + 0.3 * np.log(0.3))  # .61


def noisy(n=2000, K=2, seed=0):
    "Classes that were said, and labels that are the same in 70% of rows"
    rng = np.random.default_rng(seed)
    said = rng.integers(0, K, n)
    other = (said + rng.integers(1, K, n)) % K
    return said, np.where(rng.uniform(size=n) < 0.7, said, other)


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("curve", CURVES)
def test_one_hot_rows_of_which_seventy_percent_are_right(curve, by):
    "The NLL was 18.6, the curve unfitted"
    said, labels = noisy()
    probs = np.eye(2)[said]
    fitted = curve(by).fit(probs=probs[:1000], labels=labels[:1000])
    fresh = nll(fitted.predict_proba(probs=probs[1000:]), labels[1000:])
    assert fresh == pytest.approx(FOUR_OF_TEN_WRONG, abs=0.05)


@pytest.mark.parametrize("gap", [5.0, 60.0, 400.0, 1e4, 1e8])
@pytest.mark.parametrize("K", [2, 5])
@pytest.mark.parametrize("curve", CURVES)
def test_logit_gaps(curve, K, gap):
    said, labels = noisy(K=K)
    logits = gap * np.eye(K)[said]
    fitted = curve("confidence").fit(logits[:1000], labels[:1000])
    fresh = nll(fitted.predict_proba(logits[1000:]), labels[1000:])
    least = FOUR_OF_TEN_WRONG + 0.3 * np.log(K - 1)
    assert fresh == pytest.approx(least, abs=0.06)


@pytest.mark.parametrize("curve", CURVES)
def test_gaps_that_differ_are_told_apart_beyond_what_floats_hold(curve):
    "p is 1.0 at both gaps, and one of them is right more often"
    rng = np.random.default_rng(0)
    gap = np.where(rng.uniform(size=4000) < 0.5, 50.0, 150.0)
    right = rng.uniform(size=4000) < np.where(gap == 50, 0.6, 0.95)
    logits, labels = np.c_[np.zeros(4000), gap], right.astype(int)
    fitted = curve().fit(logits, labels)
    answers = fitted.predict_proba([[0.0, 50.0], [0.0, 150.0]])[:, 1]
    np.testing.assert_allclose(answers, [0.6, 0.95], atol=0.03)


def test_a_curve_against_a_general_optimiser_wherever_it_starts():
    rng = np.random.default_rng(1)
    for scale in (0.01, 1, 30, 300):
        x = rng.normal(scale=scale, size=300)
        hit = (rng.uniform(size=300) < 1 / (1 + np.exp(1 - 2 * x / scale))) * 1.0
        found = PlattScaling()._fit_map(x, np.zeros(300), hit, np.ones(300))
        targets = _platt_targets(hit, np.ones(300))

        def loss(w, x=x, targets=targets, scale=scale):
            scores = w[0] * x / scale + w[1]
            return (np.logaddexp(0, scores) - targets * scores).mean()

        best = minimize(loss, [0.0, 0.0], tol=1e-12)
        assert loss(found * [scale, 1]) <= best.fun + 1e-9


def test_a_search_that_does_not_arrive_says_so(monkeypatch):
    stuck = np.array([1e3, 1e3]), np.eye(2)
    monkeypatch.setattr(_Logistic, "derivatives", lambda *_: stuck)
    with pytest.raises(ConvergenceError, match="gradient of 1"):
        PlattScaling().fit([[0.0, 1], [1, 0]], [1, 0])


@pytest.mark.parametrize("kind", sorted(CALIBRATORS))
@pytest.mark.parametrize("n", [12, 60])
@pytest.mark.parametrize("K", [3, 77])
def test_few_rows_that_are_all_right_promise_no_certainty(kind, n, K):
    """Every calibrator, on few rows without an error: the loss stays bearable

    Of the fresh rows 1 in 20 is wrong. A rule that says 1 would lose without end; a
    curve a class, where there are more classes than rows, only knows too little.
    """
    rng = np.random.default_rng(2)
    labels = rng.integers(0, K, n)
    logits = rng.normal(size=(n, K))
    logits[np.arange(n), labels] = logits.max(1) + rng.uniform(2, 6, n)
    fresh = np.tile(logits, (20, 1))
    truth = np.tile(labels, 20)
    wrong = np.arange(20 * n) % 20 == 0
    truth[wrong] = (truth[wrong] + 1) % K
    fitted = CALIBRATORS.create(kind).fit(logits, labels)
    raw = nll(Rows(fresh).probs, truth)
    most = np.log(K) if hasattr(fitted, "by") and n / 2 < K else raw + 0.35
    assert nll(fitted.predict_proba(fresh), truth) < most
