"The number format of scores: what decides is what was certified"

import numpy as np
import pytest

from fine_tune_llm.config.files import load_config
from fine_tune_llm.models.ensembles import load_trained
from fine_tune_llm.models.weights import native_bf16
from fine_tune_llm.run.directory import Run

HALF = {"model": {"precision": "bf16"}}


@pytest.fixture(scope="module")
def half(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("precision") / "run", config=HALF)


def scores(run, precision):
    "Scores of the calibration texts by the adapter as it was saved"
    model = load_trained(
        run.config.model.name,
        run.path / "adapter",
        run.path / "tokenizer",
        max_length=run.config.model.max_length,
        precision=precision,
    )
    return model.logits([str(text) for text in run.predictions("calibration").texts])


def test_rounded_scores_are_certified_and_decide(half):
    stored = half.predictions("calibration").logits
    largest = np.abs(stored).max()
    far = {
        p: np.abs(scores(half, p) - stored).max() / largest for p in ("bf16", "fp32")
    }
    assert 0 < far["fp32"] < 0.1 and far["bf16"] < 0.1
    again = Run.load(half.path)
    texts = [str(text) for text in half.predictions("test").texts]
    said = again.model.logits(texts)
    np.testing.assert_allclose(
        said, half.predictions("test").logits, atol=0.05 * largest
    )
    assert again.model.precision == "bf16"


def test_the_number_format_is_part_of_what_is_certified(half, toy_fit, tmp_path):
    whole = toy_fit(tmp_path / "run")
    prints = [run.certificate["fingerprints"]["config"] for run in (half, whole)]
    assert prints[0] != prints[1]
    assert whole.config.model.precision == "fp32"


def test_auto_is_settled_when_the_run_begins(toy_fit, tmp_path, monkeypatch):
    config = {"model": {"precision": "auto"}}
    run = toy_fit(tmp_path / "run", config=config)
    here = "bf16" if native_bf16("cpu") else "fp32"
    assert load_config(run.path / "config.yaml").model.precision == here
    from fine_tune_llm.run import limits

    monkeypatch.setattr(limits, "native_bf16", lambda device: here == "fp32")
    assert toy_fit(tmp_path / "run", config=config).certificate == run.certificate


def test_a_run_decides_by_weights_with_the_adapter_folded_in(toy_fit, tmp_path):
    run = toy_fit(tmp_path / "run")
    assert not Run.load(run.path).model.has_adapter
    stored = run.predictions("calibration").logits
    np.testing.assert_allclose(scores(run, "fp32"), stored, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_batches_change_nothing(half, size):
    model = Run.load(half.path).model
    model.precision = "fp32"
    texts = ["rake the leaves", "soup", "she said the soup boiled over", "a b c d e"]
    alone = [model.logits([text])[0] for text in texts]
    np.testing.assert_allclose(model.logits(texts, batch_size=size), alone, atol=1e-5)
