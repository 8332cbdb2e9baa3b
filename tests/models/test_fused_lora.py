"Adapted layers that are computed as one: where they are, and where peft computes them"

import copy
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear

from fine_tune_llm.models.fused_lora import fused_lora, low_rank_linear
from fine_tune_llm.testing import shake, tiny_model

TOKENS = torch.arange(1, 13).reshape(2, 6)


def net_with(architecture="llama", **settings):
    torch.manual_seed(0)
    asked = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **settings)
    net = get_peft_model(tiny_model(architecture, seed=0), asked)
    shake(net, seed=1, scale=0.1)
    return net


def step(net, kind=torch.bfloat16):
    torch.manual_seed(0)
    net.zero_grad()
    with torch.autocast("cpu", kind, enabled=kind is not None):
        out = net(TOKENS).last_hidden_state.float()
    out[:, :, 3].square().mean().backward()
    gradients = {
        n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None
    }
    return {"out": out.detach(), **gradients}


def is_same(one, two):
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_it_is_the_step_of_peft_within_its_rounding(architecture):
    net = net_with(architecture)
    by_peft = step(net)
    with fused_lora(net):
        ours = step(net)
    assert not is_same(ours, by_peft)
    assert ours.keys() == by_peft.keys()
    for name in ours:
        off = (ours[name] - by_peft[name]).norm() / by_peft[name].norm()
        assert off < 0.1, (name, off)
        assert ours[name].dtype == by_peft[name].dtype, name
    assert is_same(step(net), by_peft)


def two_adapters():
    net = net_with()
    net.add_adapter("other", LoraConfig(r=2, target_modules="all-linear"))
    net.base_model.set_adapter(["default", "other"])
    return net


def thawed():
    net = net_with()
    for module in net.modules():
        if hasattr(module, "base_layer"):
            module.base_layer.weight.requires_grad_(True)
    return net


OTHERS = {
    "dora": lambda: net_with(use_dora=True),
    "dropout": lambda: net_with(lora_dropout=0.3),
    "bias": lambda: net_with(lora_bias=True),
    "two": two_adapters,
    "thawed": thawed,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_more_than_a_low_rank_update_is_left_to_peft(name):
    net = OTHERS[name]().train()
    by_peft = step(net)
    with fused_lora(net):
        assert is_same(step(net), by_peft)


def test_what_is_no_step_under_autocast_is_left_to_peft():
    net = net_with()
    exact = step(net, kind=None)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        asked = net(TOKENS).last_hidden_state
    with fused_lora(net):
        assert is_same(step(net, kind=None), exact)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(net(TOKENS).last_hidden_state, asked)


def test_a_disabled_or_merged_adapter_says_nothing():
    net = net_with()
    with fused_lora(net), torch.autocast("cpu", torch.bfloat16):
        with net.disable_adapter():
            base = net(TOKENS).last_hidden_state.detach()
        net.merge_adapter()
        merged = net(TOKENS).last_hidden_state.detach()
        net.unmerge_adapter()
    plain = tiny_model("llama", seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain(TOKENS).last_hidden_state, base)
    assert (merged.float() - base.float()).abs().max() > 0.01


def test_a_copy_has_its_own_layers_and_nothing_stays_behind_an_error():
    net = net_with()
    with fused_lora(net):
        other = copy.deepcopy(net)
        shake(other, seed=2, scale=0.1)
        apart = step(other)["out"] - step(net)["out"]
        assert apart.abs().max() > 0.01
    with pytest.raises(KeyError), fused_lora(net):
        raise KeyError
    assert not any("forward" in vars(module) for module in net.modules())


def test_within_within_and_a_pickle_within():
    net = net_with()
    with fused_lora(net):
        ours = step(net)
        with fused_lora(net):
            again = pickle.loads(pickle.dumps(net))
        assert is_same(step(net), ours)
    assert is_same(step(again), ours)  # it was written as it was then


def test_a_layer_with_a_forward_of_its_own_keeps_it():
    net = net_with()
    layer = next(m for m in net.modules() if type(m) is Linear)
    layer.forward = own = lambda x, *_, **__: type(layer).forward(layer, x)
    with fused_lora(net):
        step(net)
    assert layer.forward is own


def test_autocast_has_no_say_in_the_dtype():
    x, weight = torch.randn(0, 5, 8), torch.randn(6, 8)
    parts = {"down": torch.randn(2, 8), "up": torch.randn(6, 2), "scaling": 0.5}
    with torch.autocast("cpu", torch.bfloat16):
        out = low_rank_linear(torch.randn(3, 8), weight, None, **parts)
        none = low_rank_linear(x, weight, None, **parts)
    assert out.dtype == torch.float32 and none.shape == (0, 5, 6)


def test_an_input_that_needs_no_gradient_gets_none():
    x, weight, bias = torch.randn(3, 8), torch.randn(6, 8), torch.randn(6)
    down, up = torch.randn(2, 8), torch.zeros(6, 2)
    down.requires_grad_(), up.requires_grad_()
    out = low_rank_linear(x, weight, bias, down=down, up=up, scaling=0.5)
    torch.testing.assert_close(out, torch.nn.functional.linear(x, weight, bias))
    out.sum().backward()
    assert x.grad is None and up.grad.abs().max() > 0 and down.grad.abs().max() == 0
