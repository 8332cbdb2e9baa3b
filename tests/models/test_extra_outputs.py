"Outputs beside the classes: trained and saved with the head, seen by nobody else"

import json

import numpy as np
import pytest
import torch

from fine_tune_llm.config.schema import LoraSection
from fine_tune_llm.core.errors import AdapterError
from fine_tune_llm.models.text_model import load_adapter, load_merged, load_model

TEXTS = ["rake the lawn", "boil the rice"]


@pytest.fixture
def model(tiny):
    "With an output more, which has learned something"
    made = load_model(str(tiny / "bert"), 2, seed=0, lora=LoraSection(r=4))
    made.net.set_extra_outputs(1)
    with torch.no_grad():
        made.net.extra.weight.fill_(0.25)
    return made


def again(tiny, folder):
    return load_adapter(str(tiny / "bert"), folder / "adapter", folder / "tokenizer")


def test_they_come_back_with_the_head(model, tiny, tmp_path):
    model.save(tmp_path / "adapter", tmp_path / "tokenizer")
    found = again(tiny, tmp_path)
    assert torch.equal(found.net.extra.weight, model.net.extra.weight)
    np.testing.assert_allclose(found.logits(TEXTS), model.logits(TEXTS), atol=1e-6)
    assert found.logits(TEXTS).shape == (2, 2)


def test_they_come_back_with_a_merged_model(model, tmp_path):
    merged = model.merged()
    merged.save(tmp_path / "model", tmp_path / "tokenizer")
    found = load_merged(tmp_path / "model", tmp_path / "tokenizer")
    assert torch.equal(found.net.extra.weight, merged.net.extra.weight)


@pytest.mark.parametrize("said", [-1, 1.5, True, "1", 10**9, [1]])
def test_a_damaged_note_is_refused(model, tiny, tmp_path, said):
    model.save(tmp_path / "adapter", tmp_path / "tokenizer")
    note = tmp_path / "adapter" / "backend.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"extra_outputs": said}))
    with pytest.raises(AdapterError, match="describes no head"):
        again(tiny, tmp_path)


def test_a_note_that_forgets_them_is_refused(model, tiny, tmp_path):
    model.save(tmp_path / "adapter", tmp_path / "tokenizer")
    note = tmp_path / "adapter" / "backend.json"
    said = json.loads(note.read_text())
    del said["extra_outputs"]
    note.write_text(json.dumps(said))
    with pytest.raises(AdapterError):
        again(tiny, tmp_path)


def test_as_many_as_asked_for_and_none(model):
    kept = model.net.extra
    model.net.set_extra_outputs(1)
    assert model.net.extra is kept
    model.net.set_extra_outputs(0)
    assert model.net.extra is None and "extra_outputs" not in model.net.settings()
