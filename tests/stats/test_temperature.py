"The temperature: exact, in every layout, from both kinds of pass"

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from fine_tune_llm.core.errors import (
    CalibrationError,
    ConfigurationError,
    PredictionError,
)
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.kernels import kernel
from fine_tune_llm.stats.metrics import nll
from fine_tune_llm.stats.temperature import (
    TemperatureScaling,
    _exp,
    _loss_moments,
    _loss_moments_small,
    best_temperature,
)
from fine_tune_llm.testing import synthetic_problem


@kernel
def exps(x, out):
    for i in range(x.size):
        out[i] = _exp(x[i])


def test_exponentials():
    rng = np.random.default_rng(0)
    x = -np.r_[
        0.0,
        0.5 * np.log(2),
        708.0,
        rng.uniform(0, 708, 100_000),
        rng.uniform(0, 2, 100_000),
        10 ** rng.uniform(-320, 2.85, 100_000),
    ]
    out = np.empty_like(x)
    exps(x, out)
    assert np.abs(out / np.exp(x) - 1)[x >= -708].max() < 1e-15
    assert out.max() == 1.0 and (out[x < -708] < 3.4e-308).all()


def test_moments_of_both_kinds():
    "The compiled pass and numpy's agree, over all rows and over every third"
    rng = np.random.default_rng(1)
    logits = rng.normal(scale=3, size=(600, 33)).astype(np.float32)
    y = np.arange(600) % 33
    top, weights = logits.max(1), rng.uniform(size=600)
    for step in (1, 3):
        n = 600 // step
        compiled = _loss_moments(logits, top, y, weights, 1.3, step, 0, n)
        own = (array[::step] for array in (logits, top, y, weights))
        plain = _loss_moments_small(*own, 1.3)
        np.testing.assert_allclose(compiled, plain, rtol=1e-12)


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.5])
def test_it_agrees_with_a_general_optimiser(truth):
    problem = synthetic_problem(5000, 5, temperature=truth, seed=1)
    logits, labels = problem.logits, problem.labels
    general = minimize_scalar(
        lambda u: nll(softmax(logits / np.exp(u)), labels),
        bounds=(-3, 3),
        method="bounded",
        options=dict(xatol=1e-9),
    )
    found = best_temperature(logits, labels, prior_rows=0)
    assert found == pytest.approx(np.exp(general.x), abs=1e-5)
    single = best_temperature(logits.astype(np.float32), labels, prior_rows=0)
    assert single == pytest.approx(found, abs=1e-6)


def test_large_matrices():
    "1.4 million logits: the kernel, and the subsamples before it"
    problem = synthetic_problem(70_000, 20, temperature=1.5, seed=2)
    logits, labels = problem.logits, problem.labels
    found = best_temperature(logits, labels)
    own = logits, logits.max(1), labels, np.ones(70_000)
    slope, _, _ = _loss_moments_small(*own, 1 / found)
    prior = 1 * np.tanh(np.log(1 / found))  # a quarter of 4 rows: T is above 1
    assert abs(slope + prior) < 70_000 * 1e-12
    for same in (
        logits.astype(np.float32),
        np.asfortranarray(logits),
        logits.astype(">f8"),
        logits + 5e3,
    ):
        assert best_temperature(same, labels) == pytest.approx(found, abs=2e-7)
    order = np.argsort(labels, kind="stable")
    sorted_rows = best_temperature(logits[order], labels[order])
    assert sorted_rows == pytest.approx(found, abs=1e-12)
    by_name = best_temperature(probs=softmax(logits), labels=labels)
    assert by_name == pytest.approx(found, abs=1e-9)
    bad = logits.copy()
    bad[60_000, 3] = np.nan
    with pytest.raises(PredictionError, match="first row 60000"):
        best_temperature(bad, labels)


@pytest.mark.filterwarnings("ignore:the temperature ran")
def test_edges():
    "Without a prior all right runs to the lower bound, all wrong to the upper one"
    logits = np.array([[3.0, 0.0], [0.0, 2.0]])
    free = dict(prior_rows=0)
    for rows in (logits, logits * 1e5):
        assert best_temperature(rows, [0, 1], **free) == 0.01
        assert best_temperature(rows, [1, 0], **free) == 100.0
    assert best_temperature(logits[:1], [0], **free) == 0.01
    assert best_temperature(logits[:1], [1], **free) == 100.0
    many = np.tile(logits, (300_000, 1))
    assert best_temperature(many, np.tile([0, 1], 300_000), **free) == 0.01
    assert best_temperature(many, np.tile([1, 0], 300_000), **free) == 100.0
    assert TemperatureScaling(**free).fit(logits, [0, 1]).at_bound


def by_definition(logits, labels, weights, prior_rows):
    "Least loss and prior, by a general optimiser"

    def loss(u):
        z = logits * np.exp(u)
        at_true = z[np.arange(len(z)), labels]
        rows = logsumexp(z, axis=1) - at_true
        against = prior_rows if u > 0 else prior_rows / 4
        return weights @ rows + against * np.log(np.cosh(u))

    grid = np.linspace(-6.9, 6.9, 2001)
    near = grid[np.argmin([loss(u) for u in grid])]
    found = minimize_scalar(
        loss,
        bounds=(near - 0.01, near + 0.01),
        method="bounded",
        options=dict(xatol=1e-10),
    )
    return np.exp(-found.x)


@pytest.mark.parametrize("prior_rows", [0.5, 2, 20])
def test_prior_and_weights_by_definition(prior_rows):
    rng = np.random.default_rng(3)
    for n, scale in ((5, 1), (20, 5), (20, 60), (100, 0.3)):
        logits = rng.normal(scale=scale, size=(n, 4))
        guess = rng.integers(0, 4, n)
        labels = np.where(rng.uniform(size=n) < 0.5, logits.argmax(1), guess)
        weights = rng.uniform(0, 3, n)
        given = dict(weights=weights, prior_rows=prior_rows, bounds=(1e-3, 1e3))
        found = best_temperature(logits, labels, **given)
        want = by_definition(logits, labels, weights, prior_rows)
        assert found == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("gap", [0.5, 3.0, 60.0, 1e4])
@pytest.mark.parametrize("n", [1, 10, 41, 10_000])
def test_rows_that_are_all_right_or_all_wrong(right, gap, n):
    "T stays where so many rows may put it: never a confidence that n rows cannot know"
    logits = np.tile([gap, 0.0, 0.0], (n, 1))
    labels = np.full(n, 0 if right else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at gap 1e4 all wrong is at its bound
        found = TemperatureScaling().fit(logits, labels)
    wrong = 1 - found.predict_proba(logits[:1])[0].max()
    if not right:
        assert found.temperature_ > 1
    elif gap < 60:
        assert 0.05 / (n + 2) < wrong < 1
        assert found.temperature_ < 1.5
    else:  # sharper than n rows can tell as it came: it stays
        assert found.temperature_ == pytest.approx(1, abs=1e-6)


def test_a_bound_is_said():
    wrong = np.tile([1e4, 0.0], (50, 1)), np.ones(50, int)
    for fit in (TemperatureScaling().fit, best_temperature):
        with pytest.warns(UserWarning, match="ran into its upper bound, 100"):
            fit(*wrong)


def test_large_n_is_unchanged_to_three_digits():
    problem = synthetic_problem(50_000, 10, temperature=1.7, seed=4)
    free = best_temperature(problem.logits, problem.labels, prior_rows=0)
    found = best_temperature(problem.logits, problem.labels)
    assert found == pytest.approx(free, rel=1e-4)


def test_weights_of_temperature():
    problem = synthetic_problem(400, 5, temperature=2.0, seed=4)
    times = np.random.default_rng(0).integers(0, 4, 400)
    repeated = np.repeat(problem.logits, times, 0), np.repeat(problem.labels, times)
    weighed = best_temperature(problem.logits, problem.labels, weights=times)
    assert weighed == pytest.approx(best_temperature(*repeated), rel=1e-10)
    for wrong, error in (([0] * 400, CalibrationError), ([1] * 3, PredictionError)):
        with pytest.raises(error, match="`weights`"):
            best_temperature(problem.logits, problem.labels, weights=wrong)


@pytest.mark.parametrize(
    "bounds",
    [(1.0, 1.0), (0, 1), (5, 1), (-1, 1), 5, ("a", "b"), (1, 2, 3), (np.nan, 2)],
)
def test_bounds_that_are_none(bounds):
    rows = [[1.0, 0], [0, 1]], [0, 1]
    for fit in (TemperatureScaling(bounds).fit, None):
        with pytest.raises(ConfigurationError, match="two numbers, 0 < low < high"):
            fit(*rows) if fit else best_temperature(*rows, bounds=bounds)
