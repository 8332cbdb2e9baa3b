"Maps for two classes: against general optimisers, fitted anew, and what they promise"

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, isotonic_regression, minimize

from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.binary_calibration import (
    WAYS,
    BetaCalibration,
    HistogramBinning,
    _platt_targets,
    log_prob,
    with_confidence,
)
from fine_tune_llm.stats.calibrators import Rows
from fine_tune_llm.stats.matrix_scaling import (
    DirichletScaling,
    LinearProblem,
    VectorScaling,
)
from fine_tune_llm.stats.venn_abers import _venn
from fine_tune_llm.testing import synthetic_problem


def curves():
    "Probabilities and outcomes: over-confident, falling (a = -1/2, b = 1), reversed"
    problem = synthetic_problem(3000, 2, temperature=2.5, seed=7)
    p = softmax(problem.logits)[:, 1]
    hit = (problem.labels == 1).astype(float)
    u = np.random.default_rng(7).uniform(0.01, 0.99, 3000)
    chance = 1 / (1 + u**0.5 * (1 - u))
    falling = (np.random.default_rng(6).uniform(size=3000) < chance).astype(float)
    return [(p, hit), (u, falling), (1 - p, hit)]


@pytest.mark.parametrize(
    "curve, binds", [(0, [False, False]), (1, [True, False]), (2, [True, True])]
)
def test_beta_against_a_general_optimiser_with_bounds(curve, binds):
    p, hit = curves()[curve]
    columns = np.stack([log_prob(p), -log_prob(1 - p), np.ones(3000)], 1)
    targets = _platt_targets(hit, np.ones(3000))

    def loss(w):
        scores = columns @ w
        return (np.logaddexp(0, scores) - targets * scores).mean()

    sides = log_prob(p), log_prob(1 - p)
    found = BetaCalibration()._fit_map(*sides, hit, np.ones(3000))
    general = minimize(
        loss,
        [1.0, 1, 0],
        bounds=[(0, None)] * 2 + [(None, None)],
        options=dict(ftol=1e-15, gtol=1e-10),
    )
    assert loss(found) == pytest.approx(general.fun, abs=1e-8)
    np.testing.assert_allclose(found, general.x, atol=2e-3)
    assert (found[:2] == 0).tolist() == binds


@pytest.mark.parametrize("calibrator", [VectorScaling(), DirichletScaling()], ids=repr)
def test_linear_scaling_finds_the_one_optimum(calibrator):
    "The gradient is right, and another optimiser from another start finds no better"
    problem = synthetic_problem(400, 3, temperature=1.5, seed=5)
    rows, y = Rows(problem.logits), problem.labels
    penalty = calibrator._penalty(*rows.shape)
    start = np.random.default_rng(0).normal(size=penalty.size)

    def loss(flat, temperature):
        linear = LinearProblem(rows, y, 1 / temperature, penalty, np.ones(400))
        return linear.loss(flat.reshape(penalty.shape))

    slope = approx_fprime(start, lambda w: loss(w, 1.4)[0], 1e-7)
    np.testing.assert_allclose(loss(start, 1.4)[1].ravel(), slope, atol=1e-5)
    calibrator.fit(problem.logits, problem.labels)
    weights = np.c_[calibrator.factors_, calibrator.offsets_].ravel()
    least, slope = loss(weights, calibrator.temperature_)
    assert np.abs(slope).max() < 1e-6
    other = minimize(
        lambda w: loss(w, calibrator.temperature_)[0],
        start,
        method="Powell",
        tol=1e-10,
    )
    assert other.fun == pytest.approx(least, abs=1e-7)


def test_subnormals_share_what_is_left():
    "The rest in proportion, where their sum has no finite reciprocal"
    probs = np.array([[1.0, 5e-324, 0.0], [1.0, 1e-310, 3e-310]])
    moved = with_confidence(probs, np.array([0, 0]), np.array([0.6, 0.6]))
    np.testing.assert_allclose(moved, [[0.6, 0.4, 0], [0.6, 0.1, 0.3]], rtol=1e-6)


GRID = np.r_[np.linspace(0.4, 0.9, 6), 1.0]
WEIGHT = np.r_[[0.25 / 6] * 6, 0.75]


def tied_rows(rng, n, K=3):
    "Confidences .4, ..., .9 and, for three rows in four, exactly 1"
    at = rng.choice(7, n, p=[0.25 / 6] * 6 + [0.75])
    top = rng.integers(K, size=n)
    probs = np.repeat((1 - GRID[at])[:, None] / (K - 1), K, 1)
    probs[np.arange(n), top] = GRID[at]
    return at, top, probs


def breaks_its_word(seed, by, K=3):
    "Right as often as half the square, so that many confidences are raised to 1/K"
    rng = np.random.default_rng(seed)
    truth = GRID**2 / 2
    at, top, probs = tied_rows(rng, 900)
    labels = np.where(rng.uniform(size=900) < truth[at], top, (top + 1) % K)
    histogram = HistogramBinning(4, by).fit(probs=probs, labels=labels)
    new, chosen, probs = tied_rows(rng, 4000)
    conf = histogram.predict_proba(probs=probs).max(1)
    off = [0.0]
    for k in range(K):
        for said in np.unique(conf):
            own = chosen == k if by == "top-label" else True
            cell = np.unique(new[(conf == said) & own])
            if len(cell):
                right = (WEIGHT * truth)[cell].sum() / WEIGHT[cell].sum()
                off.append(abs(right - said))
    return max(off) > histogram.guarantee(0.1)


@pytest.mark.parametrize("by", WAYS[1:])
def test_the_guarantee_with_ties_and_raised_confidences(by):
    broken = np.mean([breaks_its_word(seed, by) for seed in range(100)])
    assert broken <= 0.1 + 3 * (0.1 * 0.9 / 100) ** 0.5


def anew(n, h, place, label):
    "Places 0, 1, ... hold `n` rows and `h` ones; a row with `label` joins at `place`"
    places = np.r_[np.arange(len(n)), place]
    values, at = np.unique(places, return_inverse=True)
    n = np.bincount(at, weights=np.r_[n, 1])
    h = np.bincount(at, weights=np.r_[h, label])
    fitted = isotonic_regression(h / n, weights=n).x
    return fitted[np.searchsorted(values, place)]


counts = st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(counts, min_size=1, max_size=9))
def test_venn_abers_is_isotonic_regression_fitted_anew(rows):
    n, h = np.array(rows).T
    p0, p1 = _venn(n, h)
    places = np.arange(len(n))
    for place in np.arange(-0.5, len(n), 0.5):
        low = p0[np.searchsorted(places, place, "right")]
        high = p1[np.searchsorted(places, place, "left")]
        both = [anew(n, h, place, 0), anew(n, h, place, 1)]
        np.testing.assert_allclose([low, high], both, atol=1e-12)


def test_compiled_venn_abers():
    "The compiled walk over 5,000 places against isotonic regression fitted anew"
    n = np.full(5000, 3)
    h = np.random.default_rng(9).binomial(3, np.linspace(0.1, 0.9, 5000))
    p0, p1 = _venn(n, h)
    assert (np.diff(p0) >= 0).all() and (np.diff(p1) >= 0).all()
    for i in (0, 1234, 4999):
        one = np.zeros(5000)
        one[i] = 1
        more = n + one
        low = isotonic_regression(h / more, weights=more).x[i]
        high = isotonic_regression((h + one) / more, weights=more).x[i]
        assert p0[i + 1] == pytest.approx(low, abs=1e-12)
        assert p1[i] == pytest.approx(high, abs=1e-12)
