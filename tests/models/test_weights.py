"Model files are opened without trust: no code, no network, no weight left to chance"

import ast
import builtins
import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fine_tune_llm
from fine_tune_llm.config.schema import LoraSection
from fine_tune_llm.core.errors import (
    AdapterError,
    ConfigurationError,
    FineTuneLLMError,
    ModelLoadError,
    ResourceError,
)
from fine_tune_llm.models.hub import find_model, quiet
from fine_tune_llm.models.text_model import load_adapter, load_merged, load_model
from fine_tune_llm.models.weights import check_model, find_device
from fine_tune_llm.run.journey import fit
from fine_tune_llm.testing import tiny_model, toy_rows, toy_tokenizer

PACKAGE = Path(fine_tune_llm.__file__).parent
TEXTS = [row["text"] for row in toy_rows(24)]


def calls(*names):
    "Calls of functions of these names in the package: file, line, keywords"
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = getattr(node, "func", None)
            name = getattr(called, "attr", getattr(called, "id", None))
            if name in names:
                said = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                yield f"{file.name}:{node.lineno}", name, said


def test_every_call_says_that_no_code_is_run_and_nothing_is_fetched():
    found = list(calls("from_pretrained", "from_config"))
    assert len(found) >= 4
    for where, name, said in found:
        assert said.get("trust_remote_code") is False, where
        if name == "from_pretrained":
            assert said.get("local_files_only") is True, where


def test_no_pickle_is_read():
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for word in ("torch.load(", "pickle.load", "joblib.load", "allow_pickle=True"):
            assert word not in text, file


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    "A tiny BERT as a hub model would be, and a trained adapter of it"
    folder = tmp_path_factory.mktemp("clean")
    tokenizer = toy_tokenizer(TEXTS)
    with quiet():
        net = tiny_model("bert", seed=0, vocab_size=len(tokenizer))
        net.save_pretrained(folder / "bert")
        tokenizer.save_pretrained(folder / "bert")
    model = load_model(str(folder / "bert"), 2, seed=0, lora=LoraSection(r=4))
    with torch.no_grad():
        for p in model.net.parameters():
            if p.requires_grad:
                p.add_(0.1)
    model.save(folder / "adapter", folder / "tokenizer")
    return folder


@pytest.fixture
def made(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "made")


def opened(made, **more):
    return load_adapter(
        str(made / "bert"), made / "adapter", made / "tokenizer", **more
    )


def edit(file, **values):
    said = json.loads(file.read_text()) | values
    file.write_text(json.dumps(said))


def rebase(made):
    "What was written for the base as it was is for the base as it is now"
    now = find_model(str(made / "bert"), local=True).sha256
    edit(made / "adapter" / "base.json", base=now)


EVIL = "from pathlib import Path\nPath(r'{}').touch()\nclass C: pass\n"


@pytest.fixture
def trap(made, monkeypatch):
    "Code beside the model that leaves a mark, and a terminal that says yes"
    asked = []
    monkeypatch.setattr(builtins, "input", lambda *a: asked.append(a) or "y")
    mark = made / "mark"
    for part in ("bert", "tokenizer", "adapter"):
        (made / part / "evil.py").write_text(EVIL.format(mark))
    yield made
    assert not asked and not mark.exists()


CODE = {"AutoConfig": "evil.C", "AutoModel": "evil.C", "AutoTokenizer": "evil.C"}


def test_a_stock_class_is_taken_instead_of_code(trap):
    before = opened(trap).logits(TEXTS)
    edit(trap / "bert" / "config.json", auto_map=CODE)
    token_code = {"AutoTokenizer": ["evil.C", "evil.C"]}
    for part in ("bert", "tokenizer"):
        edit(trap / part / "tokenizer_config.json", auto_map=token_code)
    edit(
        trap / "adapter" / "adapter_config.json",
        auto_mapping={"base_model_class": "C", "parent_library": "evil"},
    )
    rebase(trap)
    np.testing.assert_array_equal(opened(trap).logits(TEXTS), before)
    load_model(str(trap / "bert"), 2, seed=0)


@pytest.mark.parametrize(
    "file, values",
    [
        ("config.json", {"auto_map": CODE, "model_type": "mine"}),
        (
            "tokenizer_config.json",
            {"auto_map": CODE | {"AutoTokenizer": ["evil.C", None]}}
            | {"tokenizer_class": "MyOwnTokenizer"},
        ),
        ("config.json", {"attn_implementation": "someone/kernel"}),
        ("config.json", {"attn_implementation": {"": "someone/kernel:attend"}}),
    ],
)
def test_without_a_stock_class_it_is_refused_or_read_without_code(trap, file, values):
    edit(trap / "bert" / file, **values)
    try:
        model = load_model(str(trap / "bert"), 2, seed=0)
    except ModelLoadError as e:
        assert "trust_remote_code=True" not in str(e)
    else:
        assert file == "tokenizer_config.json"
        assert type(model.tokenizer).__module__.startswith("transformers")


@pytest.fixture
def no_network(monkeypatch):
    "Not offline by name; whoever goes out fails the test"
    from huggingface_hub import constants

    tried = []

    def refuse(self, address, *args):
        tried.append(address)
        raise OSError("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not tried


@pytest.mark.parametrize(
    "lost",
    ["adapter_model.safetensors", "adapter_config.json", "backend.json", None],
)
def test_a_lost_adapter_is_not_fetched(made, monkeypatch, no_network, lost):
    "With a relative folder, peft took `acme/adapter` for a name on the hub"
    (made / "adapter").rename(made / "acme")
    (made / "acme").mkdir(exist_ok=True)
    shutil.move(made / "acme", made / "adapter")
    monkeypatch.chdir(made)
    if lost:
        (made / "adapter" / lost).unlink()
    else:
        shutil.rmtree(made / "adapter")
    for folder in (Path("adapter"), Path("acme/adapter")):
        with pytest.raises(AdapterError, match="is missing"):
            load_adapter(str(made / "bert"), folder, Path("tokenizer"))


def test_a_whole_model_opens_without_network(made, no_network, monkeypatch):
    monkeypatch.chdir(made)
    model = load_adapter("./bert", Path("adapter"), Path("tokenizer"), local=True)
    model.save(made / "again", made / "tokens")
    with pytest.raises(ModelLoadError, match="not asked when a run is opened"):
        find_model("someone/something", local=True)


def tensors_of(file):
    return sorted(load_file(file))


def without(file, name):
    tensors = load_file(file)
    del tensors[name]
    save_file(tensors, file, {"format": "pt"})


def test_every_missing_tensor_of_the_base_is_named(made):
    file = made / "bert" / "model.safetensors"
    whole = file.read_bytes()
    names = [n for n in tensors_of(file) if not n.startswith("pooler")]
    assert len(names) == 37
    for name in names:
        without(file, name)
        with pytest.raises(ModelLoadError, match="1 missing") as e:
            opened(made)
        assert name in str(e.value)
        file.write_bytes(whole)


def test_every_missing_tensor_of_adapter_and_head_is_named(made):
    counts = {"adapter_model.safetensors": 24, "head.safetensors": 2}
    for part, count in counts.items():
        file = made / "adapter" / part
        whole = file.read_bytes()
        names = tensors_of(file)
        assert len(names) == count
        for name in names:
            without(file, name)
            with pytest.raises(AdapterError, match="1 missing") as e:
                opened(made)
            assert name in str(e.value)
            file.write_bytes(whole)


@pytest.mark.parametrize(
    "part, name, error",
    [
        ("bert/model", "encoder.layer.9.output.dense.weight", ModelLoadError),
        ("bert/model", "encoder.layer.1.output.dense.weight", ModelLoadError),
        ("adapter/adapter_model", "base_model.model.gain", AdapterError),
        ("adapter/head", "head.weight", AdapterError),
    ],
)
def test_too_many_and_misshapen_tensors_are_named(made, part, name, error):
    file = made / f"{part}.safetensors"
    tensors = load_file(file)
    tensors[name] = torch.zeros(3, 5)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(error, match="left over|of another shape") as e:
        opened(made)
    assert name in str(e.value)


def test_heads_and_poolers_may_be_left_over(made):
    file = made / "bert" / "model.safetensors"
    tensors = {f"bert.{name}": t for name, t in load_file(file).items()}
    for name in ("cls.predictions.bias", "bert.embeddings.position_ids"):
        tensors[name] = torch.zeros(3)
    before = opened(made).logits(TEXTS)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(AdapterError, match="made for another base model"):
        opened(made)
    rebase(made)
    np.testing.assert_array_equal(opened(made).logits(TEXTS), before)


@pytest.mark.parametrize("values", [{"use_qalora": True}, {"r": 8}, {"r": "x"}])
def test_another_kind_of_adapter_is_refused(made, values):
    edit(made / "adapter" / "adapter_config.json", **values)
    with pytest.raises(AdapterError):
        opened(made)


BROKEN = {
    "cut": lambda raw: raw[:-100],
    "empty": lambda raw: b"",
    "garbage": lambda raw: b"\xff" * 64 + raw[64:],
    "deep": lambda raw: b"[" * 100_000,
    "list": lambda raw: b"[]",
}
CONFIGS = (
    {"hidden_size": "x"},
    {"hidden_size": -3},
    {"num_attention_heads": 7},
    {"num_hidden_layers": 3},
    {"vocab_size": 10**12},
    {"model_type": "nope"},
    {"model_type": None},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
)


def refuses(made, tmp_path):
    "Loading is a ModelLoadError, and `fit` leaves nothing behind"
    with pytest.raises(ModelLoadError):
        load_model(str(made / "bert"), 2, seed=0)
    with pytest.raises(FineTuneLLMError):
        fit(
            toy_rows(64),
            out=tmp_path / "run",
            model=str(made / "bert"),
            seed=0,
            progress=False,
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_broken_files_are_refused_before_anything_is_written(made, tmp_path, file, how):
    file = made / "bert" / file
    file.write_bytes(BROKEN[how](file.read_bytes()))
    refuses(made, tmp_path)


@pytest.mark.parametrize("values", CONFIGS, ids=str)
def test_wrong_settings_of_a_model_are_refused(made, tmp_path, values):
    edit(made / "bert" / "config.json", **values)
    refuses(made, tmp_path)


@pytest.mark.parametrize("limit", ["512", True, 2, -1, float("nan"), [512], None])
def test_a_tokenizer_that_reads_no_text_is_refused(made, tmp_path, limit):
    edit(made / "bert" / "tokenizer_config.json", model_max_length=limit)
    if limit is None:  # as good as left out: the model's positions are the limit
        assert load_model(str(made / "bert"), 2, seed=0).max_length == 64
    else:
        refuses(made, tmp_path)


def test_an_adapter_folder_is_no_base_model(made):
    settings = {"peft_type": "LORA", "base_model_name_or_path": "someone/model"}
    (made / "bert" / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelLoadError, match="holds an adapter"):
        check_model(find_model(str(made / "bert")))


def test_an_index_that_leads_elsewhere_is_refused(made):
    index = {"metadata": {}, "weight_map": {"embeddings.x": "../other.safetensors"}}
    file = made / "bert" / "model.safetensors.index.json"
    before = find_model(str(made / "bert")).sha256
    file.write_text(json.dumps(index))
    assert find_model(str(made / "bert")).sha256 != before
    with pytest.raises(ModelLoadError, match="not beside it"):
        check_model(find_model(str(made / "bert")))


@pytest.mark.parametrize("file", ["adapter_config.json", "backend.json"])
@pytest.mark.parametrize("how", ["empty", "garbage", "deep", "list"])
def test_broken_notes_of_an_adapter_are_refused(made, file, how):
    file = made / "adapter" / file
    file.write_bytes(BROKEN[how](file.read_bytes()))
    with pytest.raises(AdapterError):
        opened(made)


@pytest.mark.parametrize("n_classes", [1, 2**63, 10**400, 10**9, 2.0, "2", None])
def test_a_head_of_no_number_of_classes_is_refused(made, n_classes):
    edit(made / "adapter" / "backend.json", n_classes=n_classes)
    with pytest.raises(AdapterError, match="describes no head"):
        opened(made)


def test_a_loaded_model_does_not_change_with_its_file(made):
    "safetensors maps files into memory: weights written over changed in the network"
    file = made / "bert" / "model.safetensors"
    model = opened(made)
    before = model.logits(TEXTS)
    size = file.stat().st_size
    with open(file, "r+b") as handle:
        handle.seek(size // 2)
        handle.write(b"\0" * (size // 2))
    np.testing.assert_array_equal(model.logits(TEXTS), before)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_a_merged_model_comes_back(tmp_path, architecture):
    tokenizer = toy_tokenizer(TEXTS)
    with quiet():
        net = tiny_model(architecture, seed=0, vocab_size=len(tokenizer))
        net.save_pretrained(tmp_path / "base")
        tokenizer.save_pretrained(tmp_path / "base")
    merged = load_model(str(tmp_path / "base"), 3, seed=0).merged()
    merged.save(tmp_path / "whole", tmp_path / "tokens")
    shutil.rmtree(tmp_path / "base")
    back = load_merged(tmp_path / "whole", tmp_path / "tokens")
    np.testing.assert_array_equal(back.logits(TEXTS), merged.logits(TEXTS))
    with pytest.raises(AdapterError, match="no adapter to merge"):
        back.merged()
    without(tmp_path / "whole" / "head.safetensors", "head.bias")
    with pytest.raises(AdapterError, match="1 missing"):
        load_merged(tmp_path / "whole", tmp_path / "tokens")
    with pytest.raises(AdapterError, match="holds no merged model"):
        load_merged(tmp_path / "tokens", tmp_path / "tokens")


@pytest.mark.parametrize("device", ["gpu", "", "cpu:1", "cuda:x", "cuda:-1", None, 3])
def test_devices_that_are_none(device):
    with pytest.raises(ConfigurationError, match="`device` must be"):
        find_device(device)


def test_devices():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ResourceError, match="cuda:99"):
        find_device("cuda:99")
