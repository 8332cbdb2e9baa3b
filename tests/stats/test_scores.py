"Scores and the scorer: bad input, ids, and the kernels beside the definition"

import itertools

import numpy as np
import pytest
from scipy.stats import kstest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats import scorer as scorer_module
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.scorer import Scorer
from fine_tune_llm.stats.scores import (
    SCORES,
    aps,
    lac,
    row_uniform,
    row_uniforms,
    stream_key,
)

PROBS = np.array([[0.3, 0.5, 0.2], [0.4, 0.35, 0.25]])


@pytest.fixture(scope="module")
def many():
    return softmax(np.random.default_rng(0).normal(size=(20_000, 3)))


def hard_rows(n, n_classes, seed, dtype):
    "Peaked, flat, tied, quantised, with zeros, with a one, and subnormal"
    rng = np.random.default_rng(seed)
    width = rng.choice([0.001, 1, 4, 30], (n, 1))
    p = softmax(rng.normal(size=(n, n_classes)) * width)
    kind = rng.integers(0, 7, n)
    p[kind == 1] = np.round(p[kind == 1] * 64) / 64
    p[kind == 2] = 1 / n_classes
    p[kind == 3, ::2] = 0
    p[kind == 4] = np.eye(n_classes)[rng.integers(0, n_classes, (kind == 4).sum())]
    p[kind == 5, 0] = 1e-41
    p[p.sum(1) == 0] = 1 / n_classes
    p = (p / p.sum(1, keepdims=True)).astype(dtype)
    return p, rng.integers(0, n_classes, n)


def by_both(monkeypatch, scorer, p, y, thresholds, rows):
    "Scores and sets, by kernels and by the definition"
    found = []
    for size in (0, 1 << 62):
        monkeypatch.setattr(scorer_module, "_KERNELS_FROM", size)
        sparse = scorer.below(p, thresholds, rows=rows, sparse=True)
        dense = scorer.below(p, thresholds, rows=rows)
        found.append((scorer.of_labels(p, y).scores, dense, sparse.to_bool()))
    return found


SETTINGS = {"lac": {}, "aps": {}, "raps": dict(penalty=0.02, k_reg=2), "saps": {}}
SETTINGS["topk"] = {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3, 40, 300])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("randomize", [True, False])
def test_the_same_bits(monkeypatch, dtype, n_classes, name, randomize):
    p, y = hard_rows(120, n_classes, n_classes, dtype)
    scorer = Scorer(name, seed=3, randomize=randomize, settings=SETTINGS[name])
    scores = scorer.of_labels(p, y).scores
    rows = np.arange(120) % 3
    some = np.sort(scores)[[20, 60, 100]]
    drawn = np.random.default_rng(n_classes).integers(0, 121, (3, n_classes))
    by_class = np.append(scores, np.inf)[drawn]
    by_class[1, 0] = np.inf
    for thresholds in (some[:, None], np.array([[np.inf], [-np.inf], [0.0]]), by_class):
        kernel, definition = by_both(monkeypatch, scorer, p, y, thresholds, rows)
        np.testing.assert_array_equal(kernel[0], definition[0])
        np.testing.assert_array_equal(kernel[1], definition[1])
        np.testing.assert_array_equal(kernel[2], definition[1])
        assert definition[2].shape == p.shape


def test_ids_are_text(many):
    two = many[:2]
    same = [
        row_uniforms(two, seed=1, ids=ids).tolist()
        for ids in (
            [7, -8],
            np.array([7, -8]),
            ["7", "-8"],
            np.array([7.0, -8.0]),
            np.array([7, "-8"], dtype=object),
        )
    ]
    assert same == same[:1] * 5
    assert len(set(row_uniforms(many[:3], seed=1, ids=["7", "07", "+7"]))) == 3
    assert same[0] != row_uniforms(two, seed=1, ids=["a", "b"]).tolist()


def test_ids_and_streams_that_do_not_fit(many):
    three = many[:3]
    with pytest.raises(PredictionError, match="must differ .*; row 2 repeats 7"):
        row_uniforms(three, seed=1, ids=[7, 8, 7])
    with pytest.raises(PredictionError, match=r"`ids` must have shape \(3,\)"):
        row_uniforms(three, seed=1, ids=[7, 8])
    with pytest.raises(ConfigurationError, match="`stream` must be 0, 1 or 2"):
        row_uniforms(three, seed=1, stream=3)


def test_uniforms(many):
    u = row_uniforms(many, seed=1)
    assert [row_uniform(many, i, stream_key(1, 0)) for i in range(5)] == u[:5].tolist()
    assert kstest(u, "uniform").pvalue > 1e-4
    by_id = row_uniforms(many, seed=1, ids=np.arange(20_000))
    assert kstest(by_id, "uniform").pvalue > 1e-4


def test_your_own_score(monkeypatch):
    monkeypatch.setattr(SCORES, "_own", dict(SCORES._own))

    def rank(probs):
        return np.argsort(np.argsort(-np.asarray(probs), 1), 1)

    SCORES.register("rank-only", rank)
    sets = Scorer("rank-only", seed=None).below(PROBS, [[0.0]])
    np.testing.assert_array_equal(sets, [[False, True, False], [True, False, False]])
    SCORES.register("flat-3", lambda probs: np.zeros(3))
    with pytest.raises(PredictionError, match=r"'flat-3' returned shape \(3,\)"):
        Scorer("flat-3", seed=None).below(PROBS, [[0.0]])


@pytest.mark.parametrize(
    "name,settings",
    [
        ("raps", dict(penalty=-1)),
        ("raps", dict(penalty=np.inf)),
        ("raps", dict(k_reg="a")),
        ("saps", dict(weight=0)),
        ("entropy-adaptive", dict(floor=-1)),
    ],
)
def test_settings_out_of_range(name, settings):
    words = f"`{next(iter(settings))}` must be a finite number"
    with pytest.raises(ConfigurationError, match=words):
        Scorer(name, seed=0, settings=settings)


def test_what_a_scorer_refuses():
    with pytest.raises(ConfigurationError, match="Did you mean 'penalty'"):
        Scorer("raps", seed=0, settings=dict(penalti=1))
    with pytest.raises(ConfigurationError, match="`settings` must be a dict"):
        Scorer("raps", seed=0, settings="x")
    for seed in ("x", 1.7, -1):
        with pytest.raises(ConfigurationError, match="`seed` must be a whole number"):
            Scorer("aps", seed=seed)
    for u in ([7.0], [0.5, 0.5], [np.nan]):
        with pytest.raises(PredictionError, match=r"`u` must hold 1 numbers in \[0, 1"):
            aps([[0.5, 0.5]], u=u)
    with pytest.raises(PredictionError, match=r"shape \(n, K\) with K >= 2, got \(2,"):
        lac([0.5, 0.5])


def test_thresholds_and_rows_that_do_not_fit():
    wide = np.full((300, 4000), 1 / 4000, np.float32)
    scorer = Scorer("lac", seed=None)
    wrong = [0.5], 0.5, [[np.nan]], [[0.5, 0.4, 0.3]], np.zeros((0, 1)), [["a"]]
    for x, thresholds in itertools.product((wide, wide[:3]), wrong):
        with pytest.raises(PredictionError, match="`thresholds`"):
            scorer.below(x, thresholds)
    for x in (wide, wide[:3]):
        n = len(x)
        wrong = np.full(n, 7), np.full(n, -1), np.zeros(2, int), np.zeros(n), [[0]] * n
        for rows in wrong:
            words = rf"`rows` must hold {n} whole numbers in \[0, 1\)"
            with pytest.raises(PredictionError, match=words):
                scorer.below(x, [[0.5]], rows=rows)
    wide[7, 3] = 2
    with pytest.raises(PredictionError, match="first row 7"):
        Scorer("aps", seed=0).of_labels(wide, np.zeros(300, int))
