"What is added up batch by batch is what all rows at once say"

import numpy as np
import pytest

from fine_tune_llm.training.watch import EvaluationWatch, calibration_metrics


def problem(n, K, scale, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, K))
    gumbel = rng.gumbel(size=(n, K))
    return (scale * logits).astype(np.float32), (2 * logits + gumbel).argmax(1)


@pytest.mark.parametrize("n", [1, 5, 300])
@pytest.mark.parametrize("K", [2, 9])
@pytest.mark.parametrize("scale", [0.05, 0.4, 2.0, 6.0, 40.0, 300.0])
def test_streamed_is_what_all_rows_say(n, K, scale):
    logits, labels = problem(n, K, scale, seed=n + K)
    watch = EvaluationWatch()
    for start in range(0, n, 64):
        watch.update(logits[start : start + 64], labels[start : start + 64])
    whole, streamed = calibration_metrics(logits, labels), watch.metrics()
    assert streamed.keys() == whole.keys()
    for name in ("accuracy", "nll", "brier", "ece", "mce"):
        assert streamed[name] == pytest.approx(whole[name], abs=1e-12), name
    assert streamed["nll_calibrated"] == pytest.approx(
        whole["nll_calibrated"], abs=2e-5
    )
    assert np.log(streamed["temperature"] / whole["temperature"]) == pytest.approx(
        0, abs=5e-3
    )


@pytest.mark.parametrize("right", [True, False])
def test_rows_that_are_all_right_or_all_wrong(right):
    labels = np.arange(200) % 3
    logits = np.eye(3)[labels if right else (labels + 1) % 3] * 5.0
    watch = EvaluationWatch()
    watch.update(logits, labels)
    whole, streamed = calibration_metrics(logits, labels), watch.metrics()
    assert streamed["temperature"] == pytest.approx(whole["temperature"], rel=0.01)
    assert streamed["nll_calibrated"] == pytest.approx(
        whole["nll_calibrated"], abs=1e-3
    )


def test_memory_does_not_grow():
    watch = EvaluationWatch()
    for seed in range(3):
        watch.update(*problem(500, 4, 1.0, seed))
    held = [value for value in vars(watch).values() if isinstance(value, list)]
    assert held == []
