"""A decision never stands beside a set that does not hold it, and sets still cover"""

import numpy as np
import pytest

from fine_tune_llm.config.layers import make_config
from fine_tune_llm.inference.decision import make_decisions
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.run.certificate import derive_certificate
from fine_tune_llm.run.classifier import fit_classifier
from fine_tune_llm.testing import synthetic_problem


def roles(seed=0, spread=6.0, n=4000):
    "An accurate model, whose sets miss by being empty"
    problem = synthetic_problem(n, 4, temperature=1.0, seed=seed, spread=spread)
    said = Predictions(logits=problem.logits, labels=problem.labels)
    return said[:200], said[200 : n // 2], said[n // 2 :]


SETTINGS = {
    "plain": {"risk.target_risk": 0.2},
    "top1": {"risk.target_risk": 0.2, "conformal.empty": "top1"},
    "two alphas": {"risk.target_risk": 0.2, "conformal.more_alphas": [0.3]},
    "costs": {
        "risk.miss": {"0": 20},
        "risk.target_cost": 2.0,
        "risk.confidence": "expected_cost",
    },
}


@pytest.mark.parametrize("words", SETTINGS.values(), ids=SETTINGS)
def test_the_set_of_a_decided_text_holds_the_class_decided(words):
    validation, calibration, test = roles()
    config = make_config(words)
    classifier = fit_classifier(validation, calibration, config).classifier
    outcome = classifier.outcome(test)
    kept = np.flatnonzero(outcome.kept)
    assert len(kept) > 200
    before = classifier.conformal.predict(outcome.probs, sparse=False)
    for sets in (outcome.sets, *outcome.more_sets.values()):
        assert sets[kept, outcome.decided[kept]].all()
    assert (outcome.sets >= before).all()
    grown = (outcome.sets != before).any(1)
    np.testing.assert_array_equal(grown, outcome.added)
    assert (outcome.sets.sum(1) - before.sum(1) == grown).all()
    assert not outcome.added[~outcome.kept].any()
    if "conformal.empty" not in words and "risk.miss" not in words:
        assert grown.sum() > 5  # they stood beside empty sets
    for decision in make_decisions(outcome, certificate="x"):
        assert decision.abstain or decision.decision in decision.prediction_set


def test_coverage_is_kept():
    "40 draws of 800 calibration and 1,000 test rows: at least 1 - alpha"
    covered = []
    config = make_config({"risk.target_risk": 0.2})
    for seed in range(40):
        validation, calibration, test = roles(seed, n=2000)
        outcome = fit_classifier(validation, calibration, config).classifier.outcome(
            test
        )
        covered.append(outcome.sets[np.arange(len(test)), test.labels].mean())
    error = np.std(covered, ddof=1) / 40**0.5
    assert np.mean(covered) > 0.9 - 4 * error


def test_the_certificate_says_so():
    validation, calibration, _ = roles()
    promises = derive_certificate(validation, calibration, make_config({}))["promises"]
    assert "holds the class that was decided" in promises["sets"]["decided"]
