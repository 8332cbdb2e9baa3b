"Every kind of adapter under both backends: trained by the recipe, saved, opened again"

import numpy as np
import pytest

from fine_tune_llm.config import LoraSection, TrainingConfig
from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.models.adapters import ADAPTERS
from fine_tune_llm.models.hub import quiet
from fine_tune_llm.models.lora_manager import LoRAManager
from fine_tune_llm.models.text_model import load_adapter, load_model
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.testing import tiny_causal, toy_chat_tokenizer, toy_rows
from fine_tune_llm.training.recipe import train

ROWS = toy_rows(40)[::2]
TEXTS = [row["text"] for row in ROWS]
CLASSES = ("garden", "kitchen")
LABELS = np.array([CLASSES.index(row["label"]) for row in ROWS])
CONFIG = TrainingConfig(
    epochs=4, batch_size=4, learning_rate=3e-3, dropout=0.0, precision="fp32"
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    "A tiny random language model that knows how to chat"
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = toy_chat_tokenizer(TEXTS)
    with quiet():
        net = tiny_causal("llama", seed=0, vocab_size=len(tokenizer))
        net.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def close(one, two):
    "Equal probabilities; log-scores of label words are large beside 1e-5"
    np.testing.assert_allclose(softmax(one), softmax(two), atol=1e-5)


@pytest.mark.parametrize("backend", ["head", "label_tokens"])
@pytest.mark.parametrize("kind", list(ADAPTERS))
def test_trained_saved_opened_disabled_merged_stacked(llama, tmp_path, kind, backend):
    lora = LoraSection(kind=kind, r=4, alpha=8)
    model = load_model(llama, CLASSES, seed=0, backend=backend, lora=lora)
    part, before = (TEXTS, LABELS), model.logits(TEXTS)
    if kind != "none" or backend == "head":  # else there is nothing to learn
        asked = {"config": CONFIG, "seed": 0, "warm": False, "progress": False}
        train(model, part, part, folder=tmp_path / "work", lora=lora, **asked)
        assert np.abs(model.logits(TEXTS) - before).max() > 1e-4
    said = model.logits(TEXTS)
    model.save(tmp_path / "adapter", tmp_path / "tokenizer")
    back = load_adapter(llama, tmp_path / "adapter", tmp_path / "tokenizer")
    close(back.logits(TEXTS), said)
    if kind in ("full", "none"):
        return
    manager = LoRAManager(back.net.backbone)
    base = load_model(
        llama, CLASSES, seed=0, backend=backend, lora=LoraSection(kind="none")
    )
    with manager.disabled():
        found = back.features(TEXTS)
    np.testing.assert_allclose(found, base.features(TEXTS), atol=1e-6)
    manager.merge()
    close(back.logits(TEXTS), said)
    manager.unmerge()
    manager.add("again", tmp_path / "adapter")
    manager.stack("default", "again")
    stacked = back.logits(TEXTS)
    close(back.merged().logits(TEXTS), stacked)


def test_a_model_that_has_nothing_to_learn_is_refused(llama, tmp_path):
    lora = LoraSection(kind="none")
    model = load_model(llama, CLASSES, seed=0, backend="label_tokens", lora=lora)
    part, asked = (TEXTS, LABELS), {"seed": 0, "warm": False, "progress": False}
    with pytest.raises(ConfigurationError, match="has nothing that learns"):
        train(model, part, part, config=CONFIG, folder=tmp_path, lora=lora, **asked)
