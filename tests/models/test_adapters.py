"Every kind of adapter, on an encoder, decoders, GPT-2's layers and experts"

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fine_tune_llm.config import LoraSection
from fine_tune_llm.core.errors import AdapterError, ConfigurationError
from fine_tune_llm.models.adapter_files import load_adapter_into, save_adapter
from fine_tune_llm.models.adapters import (
    ADAPTERS,
    after_optimizer_step,
    attach,
    check_adapter,
    extra_loss,
    fold,
    load_training_state,
    parameter_groups,
    prepare_training,
    ranks,
    training_state,
)
from fine_tune_llm.models.lora_manager import LoRAManager
from fine_tune_llm.testing import shake, tiny_model

ARCHITECTURES = ("bert", "llama", "gpt2", "mixtral")
KINDS = tuple(ADAPTERS)
PEFT_KINDS = tuple(k for k in KINDS if k not in ("full", "none"))
STEPS = 20


def batches(n=4):
    "Token ids with padding on the right, and two classes"
    draw = torch.Generator().manual_seed(5)
    for _ in range(n):
        ids = torch.randint(5, 200, (8, 7), generator=draw)
        mask = torch.ones_like(ids)
        mask[::3, 5:] = 0
        yield {"input_ids": ids * mask, "attention_mask": mask}, ids[:, 0] % 2


def tiny(architecture):
    "Without a pooler, which would learn nothing"
    net = tiny_model(architecture, seed=0)
    if architecture == "bert":
        net.pooler = None
    return net


class Classifier(torch.nn.Module):
    "A backbone, and a linear head outside of it"

    def __init__(self, net):
        super().__init__()
        self.net = net
        draw = torch.Generator().manual_seed(6)
        self.head = torch.nn.Linear(32, 2)
        self.head.weight.data = torch.randn((2, 32), generator=draw) * 0.2
        self.head.bias.data.zero_()

    def forward(self, inputs, labels=None):
        hidden = self.net(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        logits = self.head((hidden * mask).sum(1) / mask.sum(1))
        if labels is None:
            return logits
        return torch.nn.functional.cross_entropy(logits, labels)


def made(architecture, kind="lora", **settings):
    settings = LoraSection(kind=kind, **{"r": 4, "alpha": 8} | settings)
    net = attach(tiny(architecture), settings, base="a" * 64, seed=1)
    return Classifier(net), settings


def prepared(model, n_steps=STEPS):
    prepare_training(
        model.net,
        n_steps=n_steps,
        batches=batches(),
        loss=lambda batch: model(*batch),
    )


def step(model, optimizer, number):
    data = list(batches())
    loss = model(*data[number % len(data)])
    extra = extra_loss(model.net)
    (loss if extra is None else loss + extra).backward()
    optimizer.step()
    after_optimizer_step(model.net, number)
    optimizer.zero_grad()
    return loss.item()


def optimizer_of(model, settings, rate=5e-3):
    groups = parameter_groups(model, settings, learning_rate=rate, weight_decay=0.01)
    return torch.optim.AdamW(groups)


def trained(architecture, kind, **settings):
    model, settings = made(architecture, kind, **settings)
    prepared(model)
    # one factor of lora_plus is 16 times faster
    rate = 5e-4 if kind == "lora_plus" else 5e-3
    optimizer = optimizer_of(model, settings, rate)
    losses = [step(model, optimizer, number) for number in range(STEPS)]
    assert np.mean(losses[-4:]) < np.mean(losses[:4]), losses
    return model.eval()


def vectors(net):
    inputs, _ = next(batches(1))
    with torch.no_grad():
        return net(**inputs).last_hidden_state


def close(one, two, atol=1e-5):
    torch.testing.assert_close(one, two, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    "Each kind trained on each architecture, on disk, with what it computes"
    root = tmp_path_factory.mktemp("adapters")
    said = {}
    for architecture in ARCHITECTURES:
        for kind in KINDS:
            net = trained(architecture, kind).net
            folder = root / f"{architecture}-{kind}"
            save_adapter(net, folder)
            said[folder.name] = vectors(net)
    save_file(said, root / "said.safetensors")
    return root


ALL = [f"{architecture}-{kind}" for architecture in ARCHITECTURES for kind in KINDS]


@pytest.mark.parametrize("name", ALL)
def test_loaded_it_computes_the_same(everything, name):
    architecture, kind = name.split("-")
    said = load_file(everything / "said.safetensors")[name]
    torch.manual_seed(1234)
    base = tiny(architecture)
    of_base = vectors(base)
    net = load_adapter_into(base, everything / name, base="a" * 64).eval()
    close(vectors(net), said)
    assert not any(p.requires_grad for p in net.parameters())
    if kind == "none":
        close(said, of_base, 0)
        return
    assert (said - of_base).abs().max() > 1e-3


@pytest.mark.parametrize("name", [n for n in ALL if n.split("-")[1] in PEFT_KINDS])
def test_disabled_merged_unmerged_stacked_and_folded(everything, name):
    architecture = name.split("-")[0]
    base = tiny(architecture)
    of_base = vectors(base)
    net = load_adapter_into(base, everything / name, base="a" * 64).eval()
    manager, said = LoRAManager(net), vectors(net)
    with manager.disabled():
        close(vectors(net), of_base, 1e-6)
    manager.merge()
    close(vectors(net), said)
    manager.unmerge()
    close(vectors(net), said, 0)
    manager.add("again", everything / name)
    manager.switch("again")
    close(vectors(net), said, 0)
    manager.stack("default", "again")
    stacked = vectors(net)
    assert (stacked - said).abs().max() > 1e-4
    plain = fold(net)
    assert type(plain) is type(tiny(architecture))
    close(vectors(plain), stacked)


@pytest.mark.parametrize("architecture", ["bert", "mixtral"])
@pytest.mark.parametrize("kind", PEFT_KINDS)
def test_only_the_last_blocks_are_adapted(kind, architecture, tmp_path):
    net = trained(architecture, kind, last_layers=1).net
    learned = [name for name, p in net.named_parameters() if p.requires_grad]
    shared = ("vera_lambda",) if kind == "vera" else ()
    assert learned and all(".1." in name or name.startswith(shared) for name in learned)
    save_adapter(net, tmp_path / "a")
    again = load_adapter_into(tiny(architecture), tmp_path / "a", base="a" * 64).eval()
    close(vectors(again), vectors(net))
    close(vectors(fold(again)), vectors(net))


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from fine_tune_llm.models.adapter_files import load_adapter_into
root, tests = Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, tests)
from test_adapters import tiny, vectors
torch.manual_seed(99)
for name, said in load_file(root / "said.safetensors").items():
    base = tiny(name.split("-")[0])
    net = load_adapter_into(base, root / name, base="a" * 64).eval()
    assert (vectors(net) - said).abs().max() < 1e-5, name
print("same")
"""


def test_another_process_computes_the_same(everything, request):
    folder = str(request.path.parent)
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(everything), folder],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip().endswith("same"), done.stderr[-2000:]


@pytest.mark.parametrize("kind", PEFT_KINDS)
def test_merged_weights_alone_hold_what_was_learnt(everything, kind):
    "The folded backbone goes through save_pretrained, also where layers were turned"
    from transformers import AutoModel

    name = f"gpt2-{kind}"
    base = tiny("gpt2")
    plain = fold(load_adapter_into(base, everything / name, base="a" * 64))
    folder = everything / "whole" / name
    plain.save_pretrained(folder)
    whole = AutoModel.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )
    close(vectors(whole.eval()), load_file(everything / "said.safetensors")[name])


def test_peft_itself_reads_our_files(everything):
    from peft import PeftModel

    for kind in PEFT_KINDS:
        name = f"bert-{kind}"
        net = PeftModel.from_pretrained(tiny("bert"), str(everything / name))
        said = load_file(everything / "said.safetensors")[name]
        close(vectors(net.eval()), said)


@pytest.mark.parametrize(
    "kind, architecture",
    [("pissa", "bert"), ("pissa", "gpt2"), ("olora", "bert")],  # peft: no Conv1D
)
def test_training_is_that_of_peft_which_changes_the_base(kind, architecture):
    from peft import LoraConfig, get_peft_model

    ours, settings = made(architecture, kind)
    config = ours.net.adapter_note.configs["default"]
    asked = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=config.target_modules,
        fan_in_fan_out=config.fan_in_fan_out,
        init_lora_weights=kind,
    )
    theirs = Classifier(get_peft_model(tiny(architecture), asked))
    for model in (ours, theirs):
        optimizer = optimizer_of(model, settings)
        for number in range(5):
            step(model, optimizer, number)
    close(vectors(ours.net.eval()), vectors(theirs.net.eval()), 2e-4)


def test_gradients_of_whole_weights_are_followed():
    "LoRA-GA: the first step of SGD goes down faster than that of LoRA"
    fallen = {}
    for kind in ("lora", "loraga"):
        model, settings = made("llama", kind)
        prepared(model)
        model.head.requires_grad_(False)
        learning = [p for p in model.parameters() if p.requires_grad]
        first = next(batches(1))
        before = model(*first)
        before.backward()
        with torch.no_grad():
            for weight in learning:
                weight -= 1e-3 * weight.grad
        fallen[kind] = (before - model(*first)).item()
    assert fallen["loraga"] > 2 * fallen["lora"] > 0


def test_inputs_are_seen_once_and_without_padding():
    "EVA: directions are those of the real tokens, by an independent computation"
    from sklearn.decomposition import PCA

    model, _ = made("bert", "eva")
    layer = model.net.base_model.model.encoder.layer[0].attention.self.query
    seen = []
    with torch.no_grad():
        for inputs, _ in batches():
            embedded = model.net.base_model.model.embeddings(inputs["input_ids"])
            seen.append(embedded[inputs["attention_mask"].bool()])
    prepared(model)
    expected = PCA(4).fit(torch.cat(seen).numpy()).components_
    found = layer.lora_A["default"].weight.detach().numpy()
    np.testing.assert_allclose(np.abs((found * expected).sum(1)), 1, atol=1e-4)


def test_nothing_flows_back_into_blocks_that_are_not_adapted():
    model, _ = made("llama", last_layers=1)
    first = model.net.base_model.model.layers[0]
    seen = []
    first.register_forward_hook(lambda *call: seen.append(call[-1].requires_grad))
    model(*next(batches(1))).backward()
    assert seen == [False]


def test_kinds_without_layers_cannot_take_the_last_of_them():
    for kind in ("full", "none"):
        with pytest.raises(AdapterError, match="adapts no layer"):
            made("bert", kind, last_layers=1)


def test_starts_from_data_need_data():
    model, _ = made("bert", "eva")
    with pytest.raises(AdapterError, match="starts from data and was given none"):
        prepare_training(model.net, n_steps=5)
    prepare_training(made("bert", "lora")[0].net, n_steps=5)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_rank_falls_to_what_was_asked(architecture):
    model = trained(architecture, "adalora", r=12, final_r=4)
    found = ranks(model.net)
    assert sum(found.values()) == 4 * len(found)
    assert len(set(found.values())) > 1  # spent where it matters, not evenly


def test_without_the_call_no_rank_falls():
    model, settings = made("bert", "adalora", r=12)
    prepared(model)
    optimizer = optimizer_of(model, settings)
    for _ in range(3):
        model(*next(batches(1))).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert set(ranks(model.net).values()) == {12}


def test_the_extra_loss_is_the_distance_from_orthogonal():
    model, _ = made("bert", "adalora")
    distances = []
    for name, weight in model.net.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            w = weight.detach().double().numpy()
            gram = w @ w.T if "lora_A" in name else w.T @ w
            distances.append(np.sqrt(((gram - np.eye(len(gram))) ** 2).sum()))
    assert extra_loss(model.net).item() == pytest.approx(0.5 * np.mean(distances))
    assert extra_loss(made("bert", "lora")[0].net) is None


@pytest.mark.parametrize("kind", ["lora", "pissa", "loraga", "eva", "adalora", "vera"])
def test_interrupted_training_goes_on_as_if_nothing_had_been(kind):
    "In a new object, as a checkpoint would: parameters, optimizer and our state"

    def begun():
        model, settings = made("llama", kind, r=6)
        return model, optimizer_of(model, settings)

    whole, optimizer = begun()
    prepared(whole)
    for number in range(STEPS):
        step(whole, optimizer, number)
        if number == 9:
            saved = copy.deepcopy(
                (
                    {n: p for n, p in whole.named_parameters() if p.requires_grad},
                    optimizer.state_dict(),
                    training_state(whole.net),
                )
            )
    weights, of_optimizer, ours = saved
    again, optimizer = begun()
    load_training_state(again.net, ours, n_steps=STEPS)
    with torch.no_grad():
        for name, weight in again.named_parameters():
            if name in weights:
                weight.copy_(weights[name])
    optimizer.load_state_dict(of_optimizer)
    for number in range(10, STEPS):
        step(again, optimizer, number)
    close(vectors(again.net.eval()), vectors(whole.net.eval()), 0)
    assert ranks(again.net) == ranks(whole.net)


def test_state_of_another_kind_is_refused():
    state = training_state(made("bert", "pissa")[0].net)
    with pytest.raises(AdapterError, match="of another kind"):
        load_training_state(made("bert", "lora")[0].net, state, n_steps=5)


@pytest.fixture
def saved(tmp_path):
    net = shake(made("bert", "lora")[0].net, seed=2)
    save_adapter(net, tmp_path / "adapter")
    return tmp_path / "adapter"


def opened(folder, architecture="bert", base="a" * 64):
    return load_adapter_into(tiny(architecture), folder, base=base)


def edit(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_foreign_base_of_equal_shape_is_refused(saved):
    with pytest.raises(AdapterError, match="made for another base model"):
        opened(saved, base="b" * 64)
    edit(saved / "base.json", base=None)
    with pytest.raises(AdapterError, match="made for another base model"):
        opened(saved)
    (saved / "base.json").unlink()
    with pytest.raises(AdapterError, match="base.json` cannot be read"):
        opened(saved)


def test_an_adapter_of_another_architecture_is_refused(saved):
    with pytest.raises(AdapterError, match="does not fit"):
        opened(saved, "llama")


@pytest.mark.parametrize("kind", PEFT_KINDS)
def test_missing_added_and_misshapen_tensors_are_named(tmp_path, kind):
    save_adapter(made("llama", kind)[0].net, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    less = {n: t for n, t in tensors.items() if n != name}
    for wrong, word in (
        (less, "1 missing"),
        (tensors | {"base_model.model.extra": torch.zeros(2)}, "1 left over"),
        (tensors | {name: torch.zeros(3, 5, 7)}, "1 of another shape"),
    ):
        save_file(wrong, file)
        with pytest.raises(AdapterError, match=word) as e:
            opened(tmp_path, "llama")
        assert (set(wrong) ^ set(tensors) or {name}).pop() in str(e.value)


@pytest.mark.parametrize("kind", ["full", "none"])
def test_a_base_that_learnt_is_checked_like_an_adapter(tmp_path, kind):
    save_adapter(made("llama", kind)[0].net, tmp_path)
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {"base.json"} | (
        {"adapter_model.safetensors"} if kind == "full" else set()
    )
    if kind == "full":
        file = tmp_path / "adapter_model.safetensors"
        tensors = load_file(file)
        tensors.pop("norm.weight")
        save_file(tensors, file)
        with pytest.raises(AdapterError, match="1 missing .norm.weight"):
            opened(tmp_path, "llama")
    with pytest.raises(AdapterError, match="made for another base model"):
        opened(tmp_path, "llama", base="b" * 64)


OTHERS = [
    {"peft_type": "LOHA"},
    {"peft_type": ["LORA"]},
    {"r": 0},
    {"r": True},
    {"r": 10**9},
    {"r": "4"},
    {"lora_dropout": float("nan")},
    {"target_modules": "all-linear"},
    {"target_modules": [".*"]},
    {"target_modules": []},
    {"rank_pattern": {"(a+)+$": 4}},
    {"rank_pattern": {"query": 5}},
    {"use_dora": True},
    {"use_dora": 1},
    {"init_lora_weights": "pissa"},
    {"modules_to_save": ["pooler"]},
    {"layer_replication": [[0, 2]]},
    {"trainable_token_indices": [0]},
    {"bias": "all"},
    {"lora_bias": True},
    {"megatron_core": "os"},
    {"auto_mapping": {"base_model_class": "X"}, "new_setting": 1},
]


@pytest.mark.parametrize("values", OTHERS, ids=str)
def test_settings_that_are_not_ours_are_refused(saved, values):
    edit(saved / "adapter_config.json", **values)
    with pytest.raises(AdapterError):
        opened(saved)


@pytest.mark.parametrize("cut", [0, 1, 8, 100, -1])
@pytest.mark.parametrize(
    "file", ["adapter_config.json", "adapter_model.safetensors", "base.json"]
)
def test_damaged_files_are_refused(saved, file, cut):
    raw = (saved / file).read_bytes()
    (saved / file).write_bytes(raw[:cut] if cut >= 0 else raw[: len(raw) // 2])
    with pytest.raises(AdapterError):
        opened(saved)


def test_pickles_are_not_read(saved):
    (saved / "adapter_model.safetensors").rename(saved / "adapter_model.bin")
    with pytest.raises(AdapterError, match="is missing"):
        opened(saved)


def test_one_adapter_in_many_formats_of_the_base(tmp_path):
    "Merged through float32 also where the base is in bfloat16"
    folder = tmp_path / "one"
    save_adapter(shake(made("llama", "lora")[0].net, seed=2, scale=0.1), folder)
    base = tiny("llama").bfloat16()
    exact = copy.deepcopy(base).float()
    said = vectors(load_adapter_into(exact, folder, base="a" * 64).eval())
    net = load_adapter_into(base, folder, base="a" * 64).eval()
    of_bf16 = {n: p.clone() for n, p in net.named_parameters()}
    manager = LoRAManager(net)
    manager.merge()
    close(vectors(net), said)
    manager.unmerge()
    for name, weight in net.named_parameters():
        if "lora_" not in name:
            assert weight.dtype == torch.bfloat16
            assert torch.equal(weight, of_bf16[name])
    close(vectors(fold(net)), said)


def updates(net, adapter):
    "Dense updates by layer from the factors of peft, in float64"
    found = {}
    for name, layer in net.named_modules():
        if adapter not in getattr(layer, "lora_A", ()):
            continue
        a, b = (
            part[adapter].weight.detach().double().numpy()
            for part in (layer.lora_A, layer.lora_B)
        )
        n = getattr(layer, "num_experts", 1)
        rank = len(a) // n
        found[name] = np.stack(
            [
                layer.scaling[adapter] * b[:, e::n] @ a[e * rank : (e + 1) * rank]
                for e in range(n)
            ]
        )
    return found


@pytest.fixture(params=ARCHITECTURES)
def several(request, tmp_path):
    "Adapters that differ in kind, rank, scale and layers"
    architecture = request.param
    narrow = {"bert": "dense", "gpt2": "c_fc"}.get(architecture, "o_proj")
    for name, kind, settings in (
        ("one", "lora", {"r": 4, "alpha": 8}),
        ("two", "rslora", {"r": 3, "alpha": 5}),
        ("three", "pissa" if architecture != "mixtral" else "lora", {"r": 2}),
        ("few", "lora", {"r": 2, "targets": (narrow,)}),
    ):
        net = shake(made(architecture, kind, **settings)[0].net, seed=len(name))
        save_adapter(net, tmp_path / name)
    base = tiny(architecture)
    net = load_adapter_into(base, tmp_path / "one", base="a" * 64).eval()
    manager = LoRAManager(net)
    for name in ("two", "three"):
        manager.add(name, tmp_path / name)
    if architecture != "mixtral":  # peft: all adapters of experts change the same
        manager.add("few", tmp_path / "few")
    return manager


def test_linear_is_the_average_of_the_updates(several):
    names = list(several.names)
    weights = [float(i) for i in range(1, len(names) + 1)]
    dense = {name: updates(several.net, name) for name in names}
    several.combine(names, into="mean", weights=weights)
    found = updates(several.net, "mean")
    for layer, update in found.items():
        expected = sum(
            w / sum(weights) * dense[name].get(layer, np.zeros_like(update))
            for name, w in zip(names, weights, strict=True)
        )
        np.testing.assert_allclose(update, expected, atol=1e-6)
    several.switch("mean")
    assert several.active == ("mean",)


def trimmed(update, density):
    size = np.sort(np.abs(update).ravel())[-int(density * update.size)]
    return np.where(np.abs(update) >= size, update, 0)


def test_ties_by_hand(several):
    dense = [updates(several.net, name) for name in ("default", "two")]
    several.combine(["default", "two"], into="ties", how="ties", density=0.4)
    for layer, update in updates(several.net, "ties").items():
        parts = [trimmed(d[layer], 0.4) for d in dense]
        sign = np.sign(sum(parts))
        agree = [np.where(np.sign(p) == sign, p, 0) for p in parts]
        n_agree = np.maximum(sum(a != 0 for a in agree), 1)
        left, values, right = np.linalg.svd(sum(agree) / n_agree, full_matrices=False)
        rank = 7  # 4 + 3
        best = (left * values[:, None])[..., :rank] @ right[:, :rank]
        np.testing.assert_allclose(update, best, atol=1e-5)


def test_dare_keeps_the_average_and_needs_a_seed(several):
    names = ["default", "two"]
    with pytest.raises(AdapterError, match="pass `seed`"):
        several.combine(names, into="dare", how="dare")
    state = torch.get_rng_state()
    for into, seed in (("a1", 1), ("a2", 1), ("b", 2)):
        several.combine(names, into=into, how="dare", density=0.5, rank=64, seed=seed)
    assert torch.equal(state, torch.get_rng_state())
    one, two, other = (updates(several.net, name) for name in ("a1", "a2", "b"))
    several.combine(names, into="whole", how="dare", density=1.0, rank=64, seed=1)
    whole = updates(several.net, "whole")
    dense = [updates(several.net, name) for name in names]
    for layer, update in whole.items():
        mean = (dense[0][layer] + dense[1][layer]) / 2
        np.testing.assert_allclose(update, mean, atol=1e-5)
        np.testing.assert_array_equal(one[layer], two[layer])
        assert np.abs(one[layer] - other[layer]).max() > 1e-4
        # an entry is kept with probability 1/2 and doubled
        ratio = (one[layer] * mean).sum() / (mean * mean).sum()
        assert 0.5 < ratio < 1.5


def test_stacking_adds_the_updates(several):
    several.stack("default", "two")
    said = vectors(several.net)
    several.combine(["default", "two"], into="halved")
    layer_factor = [updates(several.net, n) for n in ("default", "two", "halved")]
    for layer, update in layer_factor[2].items():
        total = layer_factor[0][layer] + layer_factor[1][layer]
        np.testing.assert_allclose(2 * update, total, atol=1e-5)
    several.merge()
    close(vectors(several.net), said)
    with several.disabled():
        base = vectors(several.net)
    close(vectors(several.net), said)
    several.switch("halved")
    assert several.is_merged
    assert (vectors(several.net) - said).abs().max() > 1e-4
    several.unmerge()
    with several.disabled():
        close(vectors(several.net), base, 0)


def test_learning_is_not_changed_by_managing(several, tmp_path):
    net = made("bert", "pissa")[0].net
    save_adapter(net, tmp_path / "p")
    learning = {n for n, p in net.named_parameters() if p.requires_grad}
    manager = LoRAManager(net)
    assert manager.names == ("default",)
    manager.add("p", tmp_path / "p")
    manager.stack("p", "default")
    with manager.disabled():
        pass
    manager.switch("default")
    assert {n for n, p in net.named_parameters() if p.requires_grad} == learning
    counts = manager.count()
    assert counts.learning == sum(
        p.numel() for p in net.parameters() if p.requires_grad
    )
    assert counts.by_adapter["default"] == counts.learning
    assert counts.by_adapter["p"] == 2 * counts.learning  # with its start


def test_a_failed_load_leaves_the_others_as_they_are(several, tmp_path):
    said, names = vectors(several.net), several.names
    broken = shutil.copytree(tmp_path / "one", tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(AdapterError):
            several.add("broken", broken)
    assert several.names == names
    close(vectors(several.net), said, 0)
    several.add("broken", tmp_path / "two")


def test_adapters_of_different_sorts_do_not_mix(everything):
    base = tiny("bert")
    net = load_adapter_into(base, everything / "bert-lora", base="a" * 64)
    manager = LoRAManager(net)
    with pytest.raises(AdapterError, match="does not fit"):
        manager.add("oft", everything / "bert-oft")
    assert manager.names == ("default",)
    for kind in ("full", "none"):
        base = tiny("bert")
        net = load_adapter_into(base, everything / f"bert-{kind}", base="a" * 64)
        with pytest.raises(AdapterError, match="has no adapter"):
            LoRAManager(net)
    with pytest.raises(AdapterError, match="nothing was attached"):
        LoRAManager(tiny("bert"))


def test_what_does_not_go_with_the_network_is_refused():
    for architecture, settings, words in (
        ("llama", {"targets": ("query",)}, "names no linear layer: query"),
        ("mixtral", {"dropout": 0.1}, "`lora.dropout` must be 0"),
        ("mixtral", {"kind": "dora", "targets": ("gate_up_proj",)}, "gate_up_proj"),
        ("bert", {"kind": "adalora", "r": 1}, "below `lora.r`"),
    ):
        with pytest.raises(AdapterError, match=words):
            check_adapter(tiny(architecture), LoraSection(**settings))
    with pytest.raises(ConfigurationError, match="unknown adapter 'lorra'"):
        check_adapter(tiny("bert"), LoraSection(kind="lorra"))
