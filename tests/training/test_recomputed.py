"Activations that are computed again on the way back: the same training"

import numpy as np
import pytest

from fine_tune_llm.config.schema import LoraSection, TrainingConfig
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.testing import tiny_folder, toy_rows
from fine_tune_llm.training.recipe import train

ROWS = toy_rows(24)
PART = (
    [row["text"] for row in ROWS],
    [int(row["label"] == "kitchen") for row in ROWS],
)


def trained(base, backend, folder, **settings):
    labels = ("bathroom", "kitchen")
    lora = LoraSection(r=4)
    model = load_model(str(base), labels, seed=0, backend=backend, lora=lora)
    asked = {"epochs": 1, "batch_size": 8, "learning_rate": 5e-3, "dropout": 0.0}
    config = TrainingConfig(**asked, **settings)
    calls = []
    for module in model.net.backbone.modules():
        module.register_forward_pre_hook(lambda *_: calls.append(1))
    log = train(model, PART, PART, config=config, folder=folder, seed=0, progress=False)
    losses = [line["loss"] for line in log if "loss" in line]
    return np.array(losses), model, len(calls)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("architecture", "backend"),
    [("bert", "head"), ("llama", "head"), ("llama", "label_tokens")],
)
def test_a_training_that_recomputes_is_the_same(
    tmp_path, architecture, backend, precision
):
    base = tiny_folder(architecture, tmp_path / "base", seed=0)
    said, called = {}, {}
    for recomputes in (False, True):
        losses, model, n_calls = trained(
            base,
            backend,
            tmp_path / str(recomputes),
            precision=precision,
            activation_checkpointing=recomputes,
        )
        flags = [
            getattr(m, "gradient_checkpointing", False) for m in model.net.modules()
        ]
        assert not any(flags)  # it is over with the training
        said[recomputes] = losses, model.logits(PART[0])
        called[recomputes] = n_calls
    assert called[True] > called[False]  # blocks are computed twice
    tolerance = 1e-5 if precision == "fp32" else 0.3  # three steps at 5e-3, rounded
    for one, two in zip(*said.values(), strict=True):
        np.testing.assert_allclose(one, two, atol=tolerance)
