"Conformal risk control: wrong input, files, promises kept by costs and several labels"

import json

import numpy as np
import pytest
from sklearn.base import clone

from fine_tune_llm.core.errors import (
    ConfigurationError,
    NotFittedError,
    PredictionError,
    SchemaError,
)
from fine_tune_llm.stats import ConformalRiskControl, softmax, threshold_grid
from fine_tune_llm.testing import synthetic_problem

OWN = np.array([0.9, 0.3, 0.6, 0.8])
ROWS = np.c_[OWN, 1 - OWN]
FIVE = synthetic_problem(500, 5, seed=3)


def test_costs_by_class_and_several_labels():
    several = np.eye(2, dtype=bool)[[0] * 4]
    fitted = ConformalRiskControl(0.4, miss_cost=[1, 1]).fit(ROWS, several)
    assert fitted.threshold_ == 0.6
    # room 13 - 4 = 9: three .3s (3), three .4s would make 15
    weighted = ConformalRiskControl(1.0, miss_cost=[1, 4]).fit(
        [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]] * 3, [0, 0, 1, 1] * 3
    )
    assert weighted.threshold_ == 0.4
    again = ConformalRiskControl.from_dict(json.loads(json.dumps(weighted.to_dict())))
    assert again.to_dict() == weighted.to_dict()
    assert again.predict(ROWS).tolist() == weighted.predict(ROWS).tolist()
    assert clone(weighted).miss_cost == [1, 4]


def test_a_loss_of_zero_and_one_is_the_exact_rule_on_the_grid():
    probs, labels = FIVE.true_probs, FIVE.labels

    def missed(sets, labels):
        return ~sets[np.arange(len(labels)), labels]

    on_grid = ConformalRiskControl(0.1, loss=missed).fit(probs, labels)
    exact = ConformalRiskControl(0.1).fit(probs, labels).threshold_
    grid = threshold_grid()
    assert on_grid.threshold_ == grid[(grid <= exact).argmax()]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"alpha": 1.0}, "below the largest loss"),
        ({"alpha": "a"}, "below the largest loss, 1, got 'a'"),
        ({"alpha": 0}, "above 0"),
        ({"alpha": 3, "miss_cost": [1, 2]}, "below the largest loss, 2, got 3"),
        ({"miss_cost": [0, 0]}, "`miss_cost` must be one finite number"),
        ({"miss_cost": [-1, 1]}, "`miss_cost` must be one finite number"),
        ({"miss_cost": "x"}, "`miss_cost` must hold numbers"),
        ({"loss": "hamming"}, "`loss` must be a function"),
        ({"loss": len, "miss_cost": [1, 1]}, "then there is no `miss_cost`"),
        ({"loss": lambda sets, labels: 0.0}, "must return 4 numbers"),
        ({"loss": len, "bound": -1}, "`bound` must be"),
        ({"loss": len, "grid": [0.1, 0.2]}, "highest first"),
    ],
)
def test_wrong_parameters_are_refused_by_fit(parameters, words):
    control = ConformalRiskControl(**parameters)
    with pytest.raises(ConfigurationError, match=words):
        control.fit(ROWS, [0] * 4)
    with pytest.raises(NotFittedError):
        control.predict(ROWS)


def test_wrong_rows():
    with pytest.raises(PredictionError, match=r"`labels` must have shape \(4, 2\)"):
        ConformalRiskControl().fit(ROWS, np.ones((4, 3), bool))
    with pytest.raises(PredictionError, match="must hold True and False"):
        ConformalRiskControl().fit(ROWS, np.full((4, 2), 0.3))
    with pytest.raises(PredictionError, match=r"must be numbers in \[0, 1\]"):
        ConformalRiskControl().fit(ROWS * 2, np.ones((4, 2), bool))
    with pytest.raises(PredictionError, match="has 2 classes, `miss_cost` has 3"):
        ConformalRiskControl(miss_cost=[1, 2, 3]).fit(ROWS, [0] * 4)
    fitted = ConformalRiskControl(0.4).fit(ROWS, [0] * 4)
    with pytest.raises(PredictionError, match="has 3 classes, fitted with 2"):
        fitted.predict([[0.2, 0.2, 0.6]])


def test_what_is_no_saved_control():
    with pytest.raises(SchemaError, match="no saved conformal_risk_control"):
        ConformalRiskControl.from_dict({})
    saved = ConformalRiskControl(0.4).fit(ROWS, [0] * 4).to_dict()
    saved["state"]["threshold_"] = -1
    with pytest.raises((SchemaError, ConfigurationError)):
        ConformalRiskControl.from_dict(saved)


# The promise, kept: calibration rows from a finite world, whose true losses are known.

WORLD = synthetic_problem(20_000, 4, temperature=1.5, seed=1, spread=4.0)
PROBS, LABELS = softmax(WORLD.logits), WORLD.labels


def true_losses(alpha, miss_cost, runs=1500, n=60):
    "Mean cost missed in the whole world, for the threshold of each draw"
    rng = np.random.default_rng(4)
    own = PROBS[np.arange(len(LABELS)), LABELS]
    order = np.argsort(own)
    lost = np.r_[0, np.cumsum(miss_cost[LABELS][order])] / len(LABELS)
    losses = []
    for _ in range(runs):
        rows = rng.integers(0, len(LABELS), n)
        control = ConformalRiskControl(alpha, miss_cost=miss_cost)
        control.fit(PROBS[rows], LABELS[rows])
        losses.append(lost[np.searchsorted(own[order], control.threshold_)])
    return np.array(losses)


@pytest.mark.parametrize(
    ("alpha", "miss_cost"),
    [(0.1, np.ones(4)), (0.3, np.array([1.0, 1, 1, 5]))],
)
def test_the_mean_loss_is_at_most_alpha_and_not_far_below(alpha, miss_cost):
    losses = true_losses(alpha, miss_cost)
    error = 4 * losses.std() / len(losses) ** 0.5
    assert alpha - 2 * miss_cost.max() / 61 - error <= losses.mean() <= alpha + error


def test_the_false_negative_rate_is_at_most_alpha():
    chance = np.clip(1.6 * WORLD.true_probs, 0, 1)
    truth = np.random.default_rng(5).random(PROBS.shape) < chance
    rates = []
    for rows in np.random.default_rng(6).integers(4000, len(LABELS), (150, 60)):
        control = ConformalRiskControl(0.1).fit(PROBS[rows], truth[rows])
        sets = control.predict(PROBS[:4000])
        missed = (truth[:4000] & ~sets).sum(1)
        rates.append((missed / np.maximum(truth[:4000].sum(1), 1)).mean())
    error = np.std(rates) / 150**0.5 + 0.3 / 4000**0.5
    assert np.mean(rates) <= 0.1 + 4 * error
