"CV+: what does not fit is refused"

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.cross_conformal import CrossConformal
from fine_tune_llm.testing import synthetic_problem

FOLD = np.arange(1500) % 5


@pytest.fixture(scope="module")
def rows():
    problem = synthetic_problem(3000, 4, temperature=2.0, seed=1)
    return softmax(problem.logits), problem.labels


@pytest.fixture(scope="module")
def cross(rows):
    p, y = rows
    return CrossConformal().fit(p[:1500], y[:1500], FOLD)


def test_probabilities_that_do_not_fit(rows, cross):
    p, _ = rows
    two_classes = p[:, :2] / p[:, :2].sum(1, keepdims=True)
    for wrong, words in (
        (p[None], "with F=5"),
        (None, "with F=5"),
        (dict(enumerate([p] * 5)), "with F=5"),
        ([p] * 4 + [p[:1]], "as many rows for every fold"),
        ([two_classes] * 5, "4 classes, as fitted"),
    ):
        with pytest.raises(PredictionError, match=words):
            cross.predict(wrong)


@pytest.mark.parametrize(
    "folds",
    [
        FOLD * 2,
        FOLD - 1,
        FOLD + 0.5,
        ["a"] * 1500,
        FOLD[:9],
        np.zeros(1500, int),
        FOLD[:, None],
    ],
)
def test_folds_that_are_none(rows, folds):
    p, y = rows
    with pytest.raises(ConfigurationError, match=r"each used, F >= 2, shape \(1500,\)"):
        CrossConformal().fit(p[:1500], y[:1500], folds)


def test_an_alpha_that_was_not_fitted(rows, cross):
    with pytest.raises(ConfigurationError, match=r"`alpha` must be one of .*got 0.2"):
        cross.predict([rows[0]] * 5, alpha=0.2)


def test_promises_by_folds(rows):
    p, y = rows

    def promise(sizes):
        fold = np.repeat(np.arange(len(sizes)), sizes)
        return CrossConformal().fit(p[:200], y[:200], fold).promise_

    assert CrossConformal().fit(p[:50], y[:50], np.arange(50)).promise_ == 0.8
    for sizes, loss in (
        ([50] * 4, min(1.5 / 51, 0.98 / 5)),
        ([4] * 50, min(1.96 / 5, 0.75 / 51)),
        ([5, 3] + [4] * 48, 1.96 / 5),
    ):
        assert promise(sizes) == pytest.approx(0.8 - loss, abs=1e-12)


def test_saved_and_loaded(rows, cross):
    p, _ = rows
    again = CrossConformal.from_dict(cross.to_dict())
    np.testing.assert_array_equal(again.predict([p] * 5), cross.predict([p] * 5))
