"Every kind of adapter is trained, killed and resumed to the same weights"

import numpy as np
import pytest

from fine_tune_llm.config.schema import LoraSection, TrainingConfig
from fine_tune_llm.core.events import ModelSaved
from fine_tune_llm.models.adapters import ranks
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.testing import toy_rows
from fine_tune_llm.training.recipe import train

ROWS = toy_rows(64)
PART = [row["text"] for row in ROWS], [int(row["label"] == "kitchen") for row in ROWS]
CONFIG = TrainingConfig(
    epochs=2, batch_size=8, learning_rate=5e-3, dropout=0.0, precision="fp32"
)


def go(tiny, folder, lora, publish=None):
    model = load_model(str(tiny / "bert"), 2, seed=0, lora=lora)
    train(
        model,
        PART,
        PART,
        config=CONFIG,
        folder=folder,
        seed=0,
        lora=lora,
        device="cpu",
        publish=publish,
        progress=False,
    )
    return model


@pytest.mark.parametrize("kind", ["adalora", "lora_plus", "eva", "pissa", "none"])
def test_killed_and_resumed(tiny, tmp_path, kind):
    lora = LoraSection(kind=kind, r=6)

    def end(event):
        if isinstance(event, ModelSaved):
            raise KeyboardInterrupt

    whole = go(tiny, tmp_path / "whole", lora)
    with pytest.raises(KeyboardInterrupt):
        go(tiny, tmp_path / "ended", lora, end)
    resumed = go(tiny, tmp_path / "ended", lora)
    np.testing.assert_allclose(
        resumed.logits(PART[0]), whole.logits(PART[0]), rtol=0, atol=1e-6
    )
    if kind == "adalora":
        found = ranks(whole.net.backbone)
        assert sum(found.values()) == 2 * len(found)  # a third of 6
        assert ranks(resumed.net.backbone) == found
