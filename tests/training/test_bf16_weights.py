"Weights that learn nothing are rounded once: training and scores stay as they were"

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from fine_tune_llm.config.schema import LoraSection, TrainingConfig
from fine_tune_llm.models import adapters
from fine_tune_llm.models.adapters import reads_base
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.testing import tiny_folder, toy_rows
from fine_tune_llm.training import recipe

ROWS = toy_rows(48)
TEXTS = [row["text"] for row in ROWS]
LABELS = [int(row["label"] == "kitchen") for row in ROWS]
CONFIG = TrainingConfig(
    epochs=1, batch_size=8, learning_rate=5e-3, dropout=0.0, precision="bf16"
)


@contextmanager
def unrounded(net, *, enabled=True):
    yield


def train_and_score(name, folder, backend, kind="lora"):
    "Log of the training, scores behind it, and the base's weights as they came out"
    lora = LoraSection(kind=kind, r=4)
    labels = ("bathroom", "kitchen")
    model = load_model(name, labels, seed=0, backend=backend, lora=lora)
    model.precision = "bf16"
    log = recipe.train(
        model,
        (TEXTS, LABELS),
        (TEXTS, LABELS),
        config=CONFIG,
        folder=folder,
        seed=0,
        lora=lora,
        device="cpu",
        progress=False,
    )
    numbers = [line["eval_nll"] for line in log if "eval_nll" in line]
    kinds = {p.dtype for p in model.net.parameters()}
    return numbers, model.logits(TEXTS), kinds


@pytest.mark.parametrize(
    "backend, arch, kind",
    [
        ("head", "bert", "lora"),
        ("label_tokens", "llama", "lora"),
        ("label_tokens", "llama", "dora"),
    ],
)
def test_to_the_last_bit(tmp_path, monkeypatch, backend, arch, kind):
    name = tiny_folder(arch, tmp_path / arch, seed=0)
    found, scores, kinds = train_and_score(name, tmp_path / "a", backend, kind)
    monkeypatch.setattr(adapters, "rounded_weights", unrounded)
    plain, plain_scores, _ = train_and_score(name, tmp_path / "b", backend, kind)
    assert found == plain and len(found) == 2
    np.testing.assert_array_equal(scores, plain_scores)
    assert kinds == {torch.float32}


def test_rounding_really_happens(tiny, tmp_path, monkeypatch):
    seen = []
    real = adapters.rounded_weights

    @contextmanager
    def noted(net, *, enabled=True):
        with real(net, enabled=enabled):
            if enabled:
                seen.append({p.dtype for p in net.parameters()})
            yield

    monkeypatch.setattr(adapters, "rounded_weights", noted)
    train_and_score(str(tiny / "bert"), tmp_path, "head")
    assert seen and all(torch.bfloat16 in kinds for kinds in seen)


def test_what_reads_the_base_is_left_alone(tiny):
    for kind in ("dora", "lora", "full", "none"):
        lora = LoraSection(kind=kind, r=4)
        model = load_model(str(tiny / "bert"), 2, seed=0, lora=lora)
        assert reads_base(model.net.backbone) is (kind == "dora")
