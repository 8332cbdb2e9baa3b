"The temperature: exact, in every layout, from both kinds of pass"

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
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
    top = logits.max(1)
    for step in (1, 3):
        n = 600 // step
        compiled = np.array(_loss_moments(logits, top, y, 1.3, step, 0, n)) / n
        plain = _loss_moments_small(logits[::step], top[::step], y[::step], 1.3)
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
    found = best_temperature(logits, labels)
    assert found == pytest.approx(np.exp(general.x), abs=1e-5)
    single = best_temperature(logits.astype(np.float32), labels)
    assert single == pytest.approx(found, abs=1e-6)


def test_large_matrices():
    "1.4 million logits: the kernel, and the subsamples before it"
    problem = synthetic_problem(70_000, 20, temperature=1.5, seed=2)
    logits, labels = problem.logits, problem.labels
    found = best_temperature(logits, labels)
    slope, _, _ = _loss_moments_small(logits, logits.max(1), labels, 1 / found)
    assert abs(slope) < 1e-12
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


def test_edges():
    "All right runs to the lower bound, all wrong to the upper one"
    logits = np.array([[3.0, 0.0], [0.0, 2.0]])
    for rows in (logits, logits * 1e5):
        assert best_temperature(rows, [0, 1]) == 0.01
        assert best_temperature(rows, [1, 0]) == 100.0
    assert best_temperature(logits[:1], [0]) == 0.01
    assert best_temperature(logits[:1], [1]) == 100.0
    many = np.tile(logits, (300_000, 1))
    assert best_temperature(many, np.tile([0, 1], 300_000)) == 0.01
    assert best_temperature(many, np.tile([1, 0], 300_000)) == 100.0
    assert TemperatureScaling().fit(logits, [0, 1]).at_bound


@pytest.mark.parametrize(
    "bounds",
    [(1.0, 1.0), (0, 1), (5, 1), (-1, 1), 5, ("a", "b"), (1, 2, 3), (np.nan, 2)],
)
def test_bounds_that_are_none(bounds):
    rows = [[1.0, 0], [0, 1]], [0, 1]
    for fit in (TemperatureScaling(bounds).fit, None):
        with pytest.raises(ConfigurationError, match="two numbers, 0 < low < high"):
            fit(*rows) if fit else best_temperature(*rows, bounds=bounds)
