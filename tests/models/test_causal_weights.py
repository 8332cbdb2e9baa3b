"Language models are read as strictly as encoders, and of images and text the text"

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from fine_tune_llm.core.errors import ModelLoadError
from fine_tune_llm.models.hub import Source, quiet
from fine_tune_llm.models.weights import (
    read_backbone,
    read_causal,
    read_config,
)
from fine_tune_llm.testing import tiny_causal

IDS = torch.arange(10, 30)[None]
TEXT = dict(
    vocab_size=300,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=64,
    max_position_embeddings=64,
    head_dim=16,
    pad_token_id=0,
)
EYE = dict(
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=28,
    patch_size=14,
)
MIXED = ["sliding_attention", "full_attention"]
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
SEEING = {  # model_type -> settings of a model for images and text
    "gemma3": {"text_config": {**TEXT, "sliding_window": 8}, "vision_config": EYE},
    "mistral3": {
        "text_config": {**TEXT, "model_type": "mistral"},
        "vision_config": {**EYE, "model_type": "pixtral", "head_dim": 16},
    },
    "qwen3_5": {
        "text_config": {**TEXT, **LINEAR},
        "vision_config": {"hidden_size": 32, "depth": 1, "num_heads": 2}
        | {"intermediate_size": 32, "out_hidden_size": 32},
    },
    "gemma4": {
        "text_config": {**TEXT, "sliding_window": 8, "layer_types": MIXED}
        | {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 300}
        | {"num_kv_shared_layers": 0, "global_head_dim": 16},
        "vision_config": EYE,
    },
}


def saved(net, folder):
    with quiet():
        net.save_pretrained(folder)
    return Source(folder.name, str(folder), "")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal") / "qwen2"
    saved(tiny_causal("qwen2", seed=0), folder)
    return folder


@pytest.fixture
def made(clean, tmp_path):
    return Source("qwen2", str(shutil.copytree(clean, tmp_path / "qwen2")), "")


def changed(source, change):
    file = f"{source.folder}/model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})


def test_it_is_what_was_saved(made):
    with torch.inference_mode():
        theirs = tiny_causal("qwen2", seed=0)(IDS).logits
        assert torch.equal(read_causal(made).eval()(IDS).logits, theirs)
    assert all(p.is_meta for p in read_causal(made, device="meta").parameters())


def test_every_missing_tensor_is_named(made):
    file = Path(made.folder) / "model.safetensors"
    names = sorted(load_file(file))
    assert "lm_head.weight" in names and len(names) == 27
    whole = file.read_bytes()
    for name in names:
        changed(made, lambda tensors, name=name: tensors.pop(name))
        with pytest.raises(ModelLoadError, match="1 missing") as e:
            read_causal(made)
        assert name in str(e.value)
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("model.layers.2.mlp.up_proj.weight", (64, 32)),
        ("model.layers.1.mlp.up_proj.weight", (3, 5)),
        ("lm_head.weight", (3, 32)),
        ("lm_head.bias", (400,)),
    ],
)
def test_too_many_and_misshapen_tensors_are_named(made, name, shape):
    changed(made, lambda tensors: tensors.update({name: torch.zeros(shape)}))
    with pytest.raises(ModelLoadError, match="left over|of another shape") as e:
        read_causal(made)
    assert name in str(e.value)


def test_another_head_may_be_left_over(made):
    changed(made, lambda tensors: tensors.update({"score.weight": torch.zeros(2, 32)}))
    read_causal(made)


def test_a_tied_head_need_not_be_in_the_file(tmp_path):
    net = tiny_causal("qwen2", seed=0, more={"tie_word_embeddings": True})
    source = saved(net, tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    read = read_causal(source).eval()
    assert read.lm_head.weight is read.model.embed_tokens.weight
    with torch.inference_mode():
        assert torch.equal(read(IDS).logits, net(IDS).logits)


@pytest.mark.parametrize("kind", SEEING)
def test_of_a_model_that_sees_the_text_part_is_read(tmp_path, kind):
    if kind not in CONFIG_MAPPING_NAMES:
        pytest.skip(f"this transformers has no {kind}")
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **SEEING[kind])
        whole = AutoModelForImageTextToText.from_config(config).eval()
    source = saved(whole, tmp_path / kind)
    for read in (read_causal, read_backbone):
        assert next(read(source, device="meta").parameters()).is_meta
    assert read_config(source).hidden_size == 32
    causal, backbone = read_causal(source).eval(), read_backbone(source).eval()
    with torch.inference_mode():
        logits = whole(input_ids=IDS).logits
        assert torch.equal(causal(IDS).logits, logits)
        hidden = backbone(input_ids=IDS).last_hidden_state
        assert torch.equal(causal.model(IDS).last_hidden_state, hidden)
    assert sum(p.numel() for p in causal.parameters()) < sum(
        p.numel() for p in whole.parameters()
    )
    again = saved(causal, tmp_path / f"{kind}_text")
    with torch.inference_mode():
        assert torch.equal(read_causal(again).eval()(IDS).logits, logits)


def test_a_lost_layer_of_the_text_part_is_named(tmp_path):
    with quiet():
        config = AutoConfig.for_model("gemma3", **SEEING["gemma3"])
        whole = AutoModelForImageTextToText.from_config(config)
    source = saved(whole, tmp_path / "gemma3")
    lost = "language_model.model.layers.1.mlp.up_proj.weight"
    changed(source, lambda tensors: tensors.pop(lost))
    for read in (read_causal, read_backbone):
        with pytest.raises(ModelLoadError, match="1 missing"):
            read(source)
