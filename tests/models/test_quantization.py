"Weights in eight bits on a processor, and four bits refused there"

import pytest
import torch

from fine_tune_llm.config import LoraSection
from fine_tune_llm.core.errors import (
    AdapterError,
    MissingDependencyError,
    ResourceError,
)
from fine_tune_llm.models.adapter_files import load_adapter_into, save_adapter
from fine_tune_llm.models.adapters import (
    ADAPTERS,
    after_optimizer_step,
    attach,
    fold,
    prepare_training,
)
from fine_tune_llm.models.hub import find_model
from fine_tune_llm.models.lora_manager import LoRAManager
from fine_tune_llm.models.quantization import check_quantization
from fine_tune_llm.models.weights import read_backbone

TOKENS = torch.arange(5, 17).reshape(2, 6)
WORK = [k for k in ADAPTERS if not ADAPTERS.get(k).is_dense and k != "none"]


def vectors(net):
    with torch.no_grad():
        return net.eval()(TOKENS).last_hidden_state


def test_four_bits_on_a_processor_are_refused_before_anything_is_loaded(tiny):
    source = find_model(str(tiny / "bert"))
    for device in ("cpu", torch.device("cpu"), "mps"):
        with pytest.raises(ResourceError, match="on a processor four bits cannot"):
            check_quantization("4bit", device=device)
    with pytest.raises(ResourceError, match="on a processor four bits cannot"):
        read_backbone(source, quantization="4bit")


def test_the_missing_package_is_named_with_its_command(tiny, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="fine_tune_llm.quantize."):
        check_quantization("8bit", device="cpu")
    with pytest.raises(MissingDependencyError, match="needs bitsandbytes"):
        read_backbone(find_model(str(tiny / "bert")), quantization="8bit")


@pytest.fixture
def eight(tiny):
    "A tiny BERT in eight bits"
    pytest.importorskip("bitsandbytes")
    source = find_model(str(tiny / "bert"))
    return lambda: read_backbone(source, quantization="8bit")


def test_eight_bits_compute_nearly_the_same(eight, tiny):
    net, exact = eight(), read_backbone(find_model(str(tiny / "bert")))
    assert net.encoder.layer[0].attention.self.query.weight.dtype == torch.int8
    difference = (vectors(net) - vectors(exact)).abs().max()
    assert 0 < difference < 0.1


@pytest.mark.parametrize("kind", WORK)
def test_an_adapter_learns_on_eight_bits_and_comes_back(eight, kind, tmp_path):
    torch.manual_seed(0)
    net = attach(eight(), LoraSection(kind=kind, r=4), base="0", seed=0)

    def loss(batch):
        return net(batch).last_hidden_state.mean(1).square().mean()

    prepare_training(net, n_steps=10, batches=[TOKENS], loss=loss)
    learning = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, 0.01)
    losses = []
    for step in range(10):
        value = loss(TOKENS)
        losses.append(value.item())
        value.backward()
        optimizer.step()
        after_optimizer_step(net, step)
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    save_adapter(net, tmp_path)
    said = vectors(net)
    back = load_adapter_into(eight(), tmp_path, base="0")
    torch.testing.assert_close(vectors(back), said, atol=1e-5, rtol=0)
    with LoRAManager(back).disabled():
        torch.testing.assert_close(vectors(back), vectors(eight()), atol=0, rtol=0)
    with pytest.raises(AdapterError, match="cannot be folded into quantized"):
        fold(back)


@pytest.mark.parametrize("kind", [k for k in ADAPTERS if k not in (*WORK, "none")])
def test_what_needs_full_precision_is_refused(eight, kind):
    with pytest.raises(AdapterError, match="needs weights in full precision"):
        attach(eight(), LoraSection(kind=kind, r=4), base="0", seed=0)
