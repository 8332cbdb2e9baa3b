"""A row of weight 2 is the row twice, in every calibrator that takes weights"""

import numpy as np
import pytest

from fine_tune_llm.core.errors import CalibrationError, PredictionError
from fine_tune_llm.stats.calibration import CALIBRATORS
from fine_tune_llm.testing import synthetic_problem

WEIGHED = [k for k in sorted(CALIBRATORS) if not CALIBRATORS.get(k).no_weights]
REFUSED = sorted(set(CALIBRATORS) - set(WEIGHED))
PROBLEM = synthetic_problem(400, 4, temperature=2.0, seed=4)
ROWS = PROBLEM.logits, PROBLEM.labels


def test_which_take_weights():
    assert REFUSED == ["histogram", "venn_abers"]


@pytest.mark.parametrize("by", ["one-vs-rest", "confidence", "top-label", None])
@pytest.mark.parametrize("kind", WEIGHED)
def test_whole_weights_are_repeated_rows(kind, by):
    two_class = kind in ("platt", "beta", "isotonic")
    if two_class != (by is not None):
        pytest.skip("a way of another kind")
    settings = {} if by is None else {"by": by}
    times = np.random.default_rng(0).integers(0, 4, 400)
    logits, labels = ROWS
    weighed = CALIBRATORS.create(kind, **settings).fit(*ROWS, weights=times)
    again = CALIBRATORS.create(kind, **settings)
    again.fit(np.repeat(logits, times, 0), np.repeat(labels, times))
    probs = weighed.predict_proba(logits)
    np.testing.assert_allclose(probs, again.predict_proba(logits), atol=1e-5)


@pytest.mark.parametrize("kind", WEIGHED)
def test_weights_of_one_change_nothing(kind):
    weighed = CALIBRATORS.create(kind).fit(*ROWS, weights=np.ones(400))
    plain = CALIBRATORS.create(kind).fit(*ROWS)
    assert weighed.to_dict() == plain.to_dict()


@pytest.mark.parametrize("kind", WEIGHED)
def test_weights_mend_a_shift_of_classes(kind):
    "Rows of class 0 are four times too few: weights of 4 bring the loss back"
    problem = synthetic_problem(6000, 3, temperature=1.5, seed=8)
    logits, labels = problem.logits, problem.labels
    rng = np.random.default_rng(0)
    kept = (labels != 0) | (rng.uniform(size=6000) < 0.25)
    kept[3000:] = False
    weights = np.where(labels == 0, 4.0, 1.0)
    loss = {}
    for name, given in (("plain", None), ("weighed", weights[kept])):
        fitted = CALIBRATORS.create(kind).fit(logits[kept], labels[kept], weights=given)
        probs = fitted.predict_proba(logits[3000:])
        loss[name] = -np.log(probs[np.arange(3000), labels[3000:]]).mean()
    assert loss["weighed"] <= loss["plain"] + 2e-3


@pytest.mark.parametrize("kind", REFUSED)
def test_where_a_promise_would_not_survive(kind):
    with pytest.raises(CalibrationError, match="`weights` are refused"):
        CALIBRATORS.create(kind).fit(*ROWS, weights=np.ones(400))


@pytest.mark.parametrize("kind", WEIGHED)
def test_weights_that_are_none(kind):
    for wrong in (np.ones(3), np.full(400, -1.0), np.full(400, np.nan)):
        with pytest.raises(PredictionError, match="`weights`"):
            CALIBRATORS.create(kind).fit(*ROWS, weights=wrong)
    with pytest.raises(CalibrationError, match="all 0"):
        CALIBRATORS.create(kind).fit(*ROWS, weights=np.zeros(400))
