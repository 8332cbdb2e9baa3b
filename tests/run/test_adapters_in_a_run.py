"A whole run with each sort of adapter: trained, saved, certified, opened again"

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import (
    AdapterError,
    ConfigurationError,
    ResourceError,
)
from fine_tune_llm.models.text_model import load_adapter
from fine_tune_llm.run.directory import Run


@pytest.mark.parametrize("kind", ["dora", "pissa", "loraga", "eva", "adalora", "full"])
def test_a_run_decides_as_it_was_trained(toy_fit, tiny, tmp_path, kind):
    run = toy_fit(tmp_path / "run", config={"lora": {"kind": kind, "r": 6}})
    said = json.loads((run.path / "adapter" / "base.json").read_text())
    assert said["kind"] == kind
    again = Run.load(run.path)
    predictions = again.predictions("test")
    model = load_adapter(
        str(tiny / "bert"), run.path / "adapter", run.path / "tokenizer"
    )
    found = model.logits(predictions.texts)
    np.testing.assert_allclose(found, predictions.logits, atol=1e-5)
    assert again.decide(["rake the leaves off the lawn"])[0].decision
    if kind != "full":
        np.testing.assert_allclose(
            model.merged().logits(predictions.texts), found, atol=1e-5
        )


@pytest.mark.parametrize(
    "config, error, words",
    [
        ({"lora": {"kind": "lorra"}}, ConfigurationError, "unknown adapter 'lorra'"),
        ({"lora": {"kind": "adalora", "r": 2, "final_r": 3}}, AdapterError, "below"),
        ({"lora": {"last_layers": 9}}, AdapterError, "the model has 2"),
        ({"lora": {"kind": "qlora"}}, (ResourceError, ConfigurationError), "GPU"),
        ({"model": {"quantization": "4bit"}}, ConfigurationError, "GPU"),
    ],
    ids=str,
)
def test_a_wrong_kind_is_refused_before_anything_is_written(
    toy_fit, tmp_path, config, error, words
):
    with pytest.raises(error, match=words):
        toy_fit(tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


def test_a_run_in_eight_bits(toy_fit, tmp_path):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(AdapterError, match="needs weights in full precision"):
        toy_fit(
            tmp_path / "no",
            config={"model": {"quantization": "8bit"}, "lora": {"kind": "pissa"}},
        )
    run = toy_fit(tmp_path / "run", config={"model": {"quantization": "8bit"}})
    assert Run.load(run.path).decide(["the hedge has grown too tall"])[0].decision
