"""Coverage within overlapping groups and along features, against known laws

A score is U**(1/k), and k is known from the input: what a threshold t covers is t**k,
so that nothing is lost to the chance of test rows."""

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import (
    ConfigurationError,
    NotFittedError,
    PredictionError,
)
from fine_tune_llm.stats import ConditionalConformal
from fine_tune_llm.stats.conditional_conformal import tilted_quantile
from fine_tune_llm.stats.quantiles import conformal_quantile

ALPHA = 0.1
KINDS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])  # of two groups that overlap
SHARE = np.array([0.35, 0.35, 0.15, 0.15])
POWER = np.array([1.0, 4.0, 0.4, 9.0])
FUNCTIONS = {"all": [1, 1, 1, 1], "first": [0, 1, 0, 1], "second": [0, 0, 1, 1]}


def as_rows(scores):
    "Rows of two classes, the first true, whose `lac` scores are these"
    return np.c_[1 - scores, scores], np.zeros(len(scores), int)


def by_kind(rng, n, *, features):
    "Thresholds of the four kinds from n calibration rows"
    kind = rng.choice(4, n, p=SHARE)
    scores = rng.random(n) ** (1 / POWER[kind])
    sets = ConditionalConformal(ALPHA).fit(*as_rows(scores), features[kind])
    return sets.thresholds(np.full((4, 2), 0.5), features)


def within(thresholds):
    "Coverage within all rows and both groups, of each draw"
    covered = np.clip(thresholds, 0, 1) ** POWER
    weights = np.array([f * SHARE for f in map(np.array, FUNCTIONS.values())])
    return covered @ (weights / weights.sum(1, keepdims=True)).T


def test_overlapping_groups_are_covered_where_split_conformal_fails():
    n, draws = 200, 200
    rng = np.random.default_rng([49, 1])
    found = within(np.array([by_kind(rng, n, features=KINDS) for _ in range(draws)]))
    se = found.std(0) / draws**0.5
    assert (found.mean(0) > 1 - ALPHA - 4 * se).all()
    rows_in = n * np.array([1, 0.5, 0.3])
    assert (found.mean(0) < 1 - ALPHA + 3 / rows_in + 4 * se).all()
    none = np.zeros((4, 1))  # the constant alone is split conformal
    split = within(np.array([by_kind(rng, n, features=none) for _ in range(50)]))
    assert split[:, 1].mean() < 0.86


def test_randomized_coverage_is_exact_along_functions_of_a_number():
    n, draws, m = 60, 200, 4
    rng = np.random.default_rng([49, 2])
    gaps = []
    for seed in range(draws):
        x = rng.random(n + m)
        power = np.exp(3 * x)
        probs, labels = as_rows(rng.random(n + m) ** (1 / power))
        features = np.c_[x, x**2]
        sets = ConditionalConformal(ALPHA, seed=seed, randomize=True)
        sets.fit(probs[:n], labels[:n], features[:n])
        t = np.clip(sets.thresholds(probs[n:], features[n:]), 0, 1)
        f = np.c_[np.ones(m), features[n:], (1 - x[n:]) ** 2]
        gaps.append((f * (t ** power[n:] - (1 - ALPHA))[:, None]).mean(0))
    se = np.std(gaps, 0) / draws**0.5
    assert (np.abs(np.mean(gaps, 0)) < 4 * se).all() and (se < 0.02).all()


@pytest.mark.parametrize("n", [8, 9, 10, 19, 20, 99, 137])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_constants_are_split_conformal(n, alpha):
    scores = np.random.default_rng(n).random(n).round(2)  # with ties
    sets = ConditionalConformal(alpha).fit(*as_rows(scores), np.zeros(n))
    (found,) = sets.thresholds([[0.5, 0.5]], [0])
    assert found == pytest.approx(conformal_quantile(scores, alpha), abs=1e-12)


def test_the_threshold_is_where_the_imputed_score_turns():
    "By hand: the score is put into the program, and its dual variable looked at"
    from scipy.optimize import linprog

    rng = np.random.default_rng(3)
    n, alpha = 60, 0.2
    features = np.c_[np.ones(n), rng.normal(size=(n, 2))]
    scores, new = rng.random(n), np.r_[1, rng.normal(size=2)]
    for level in (-0.1, 0.3, 0.7):
        turn = tilted_quantile(scores, features, new, alpha=alpha, level=level)
        for score in (turn - 1e-3, turn + 1e-3):
            both = np.vstack([features, new])
            dual = linprog(
                -np.r_[scores, score],
                A_eq=both.T,
                b_eq=np.zeros(3),
                bounds=(-alpha, 1 - alpha),
            ).x[-1]
            assert (dual > level) == (score > turn)


def test_thresholds_do_not_depend_on_the_units_of_features():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(300, 2))
    probs, labels = as_rows(rng.random(300))
    new = features[:9] + 0.1
    found = [
        ConditionalConformal()
        .fit(probs, labels, features * unit)
        .thresholds(probs[:9], new * unit)
        for unit in (1, [1e5, 1e-5])
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_features_of_the_probabilities_and_sets():
    rng = np.random.default_rng(5)
    probs = rng.dirichlet([1, 1, 1], 500)
    labels = np.array([rng.choice(3, p=p) for p in probs])

    def sure(rows):
        return rows.max(1) > 0.7

    sets = ConditionalConformal(score="aps", seed=0, randomize=True)
    sets.fit(probs[:400], labels[:400], sure)
    members = sets.predict(probs[400:], sure)
    assert members.shape == (100, 3)
    again = ConditionalConformal.from_dict(json.loads(json.dumps(sets.to_dict())))
    assert (again.predict(probs[400:], sure) == members).all()


@pytest.mark.parametrize(
    "settings, features, error, words",
    [
        ({}, np.zeros((9, 2)), PredictionError, "shape"),
        ({}, np.full(10, np.nan), PredictionError, "row 0 is not"),
        ({"randomize": True}, np.zeros(10), ConfigurationError, "seed"),
        ({"alpha": 2}, np.zeros(10), ConfigurationError, "alpha"),
    ],
)
def test_what_is_refused(settings, features, error, words):
    rows = as_rows(np.linspace(0, 1, 10))
    with pytest.raises(error, match=words):
        ConditionalConformal(**settings).fit(*rows, features)
    with pytest.raises(NotFittedError):
        ConditionalConformal().predict(rows[0], np.zeros(10))
    fitted = ConditionalConformal().fit(*rows, np.zeros(10))
    with pytest.raises(PredictionError, match="columns, fitted with 1"):
        fitted.predict(rows[0], np.zeros((10, 2)))
