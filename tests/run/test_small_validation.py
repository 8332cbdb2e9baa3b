"""Small validation roles: calibration that helps, or none, and what is said of it"""

import numpy as np
import pytest

from fine_tune_llm.config import Config
from fine_tune_llm.config.layers import make_config
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.run.classifier import make_calibrator
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.metrics import nll
from fine_tune_llm.testing import synthetic_problem

NAMED = make_config({"calibration.method": "temperature"})


def roles(n_validation, seed, *, share_wrong=0.02, sharpness=5.0):
    "Scores of a good model: validation rows without an error, and 2,000 fresh ones"
    rng = np.random.default_rng(seed)
    n = n_validation + 2000
    labels = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3))
    at_true = np.arange(n), labels
    logits[at_true] = logits.max(1) + rng.gamma(4, sharpness / 4, n)
    wrong = rng.uniform(size=n) < share_wrong
    wrong[:n_validation] = False
    labels[wrong] = (labels[wrong] + 1) % 3
    said = Predictions(logits=logits, labels=labels)
    return said[:n_validation], said[n_validation:]


@pytest.mark.parametrize("config", [Config(), NAMED], ids=["default", "temperature"])
@pytest.mark.parametrize("n", [1, 2, 5, 12, 33, 60])
def test_validation_rows_without_an_error(config, n):
    "T was .01 and the loss of fresh rows 17 times what it had been"
    losses = []
    for seed in range(10):
        validation, fresh = roles(n, seed)
        calibrator, _ = make_calibrator(validation, config)
        probs = calibrator.predict_proba(fresh.logits)
        raw = nll(softmax(fresh.logits), fresh.labels)
        losses.append(nll(probs, fresh.labels) - raw)
        assert np.quantile(probs.max(1), 0.5) < 1 - 1e-6
    # raw is about .10; rows without an error where 2% are wrong must mislead a little
    assert np.mean(losses) < 0.06
    assert max(losses) < 0.15


def test_nonsense_is_not_certain():
    "Logits near each other stay so, whatever the few validation rows said"
    validation, _ = roles(33, 0)
    calibrator, _ = make_calibrator(validation, Config())
    assert calibrator.predict_proba([[0.6, 0.0, 0.1]]).max() < 0.7


def test_calibration_that_does_harm_is_not_applied():
    problem = synthetic_problem(300, 4, temperature=1.0, seed=3)
    said = Predictions(logits=problem.logits, labels=problem.labels)
    config = make_config({"calibration.method": "histogram"})
    calibrator, choice = make_calibrator(said[:60], config)
    assert (calibrator.kind, choice["asked"]) == ("none", "histogram")
    assert "histogram is not applied: it would raise" in choice["why"]


def test_calibration_that_helps_is_applied_and_says_by_how_much():
    problem = synthetic_problem(300, 4, temperature=3.0, seed=3)
    said = Predictions(logits=problem.logits, labels=problem.labels)
    calibrator, choice = make_calibrator(said, NAMED)
    assert calibrator.kind == choice["name"] == "temperature"
    assert choice["why"].startswith("cross-fitted NLL ")
    none, temperature = (row["nll"] for row in choice["rows"])
    assert temperature < none


def test_the_only_candidate_is_applied_whatever_it_does():
    problem = synthetic_problem(300, 4, temperature=1.0, seed=3)
    said = Predictions(logits=problem.logits, labels=problem.labels)
    config = make_config({"calibration.candidates": ["histogram"]})
    assert make_calibrator(said[:60], config)[0].kind == "histogram"


def test_a_useless_model_is_made_unsure():
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(2060, 5)), rng.integers(0, 5, 2060)
    said = Predictions(logits=logits, labels=labels)
    for config in (Config(), NAMED):
        calibrator, _ = make_calibrator(said[:60], config)
        loss = nll(calibrator.predict_proba(said[60:].logits), labels[60:])
        assert loss < np.log(5) + 0.1  # it was 3.8


def test_more_classes_than_rows():
    problem = synthetic_problem(2100, 150, temperature=2.0, seed=3)
    said = Predictions(logits=problem.logits, labels=problem.labels)
    calibrator, choice = make_calibrator(said[:100], Config())
    names = [row["name"] for row in choice["rows"]]
    assert names == ["none", "temperature", "ensemble_temperature", "vector"]
    fresh = said[100:]
    raw = nll(softmax(fresh.logits), fresh.labels)
    assert nll(calibrator.predict_proba(fresh.logits), fresh.labels) < raw
