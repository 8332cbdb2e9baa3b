"Settings that would take minutes, or that no file can hold: a complaint, soon"

import math
import os
import subprocess
import sys

import pytest

from fine_tune_llm.config import ConfigManager, History, load_config, make_config
from fine_tune_llm.core.errors import (
    ConfigurationError,
    FineTuneLLMError,
    IntegrityError,
)

ENDLESS = {
    "a key of 60,000 parts.toml": ".".join(["a"] * 60_000) + " = 1",
    "a header of 60,000 parts.toml": "[" + ".".join(['"a"'] * 40_000) + "]",
    "keys.toml": "".join(f"k{i}=1\n" for i in range(25_000)),
    "dotted keys.toml": ("a." * 19 + "b=1\n") * 5000,
    "tables.toml": "".join(f"[t{i}]\n" for i in range(25_000)),
    "items.toml": "a=[" + "1," * 120_000 + "]",
    "lines.toml": "#\n" * 120_000,
    "inline.toml": "a={" + ",".join(f"k{i}=1" for i in range(25_000)) + "}",
    "deep.toml": "a=" + "[" * 100_000,
    "keys.yaml": "".join(f"k{i}: 1\n" for i in range(25_000)),
    "anchors.yaml": "".join(f"b{i}: &b{i} 1\n" for i in range(12_000)),
    "laughs.yaml": "a: &a [x]\nb: &b [*a, *a]\n" * 9,
    "items.yaml": "a: [" + "1," * 120_000 + "]",
    "deep.yaml": "[" * 100_000,
    "deep block.yaml": "- " * 100_000 + "a",
    "questions.yaml": "? " * 100_000,
    "base 60.yaml": "a: 1" + ":1" * 120_000,
    "documents.yaml": "---\n" * 60_000,
    "deep.json": "[" * 200_000,
    "items.json": '{"a":[' + ",".join(["1"] * 120_000) + "]}",
    "large.json": " " * 300_000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless(tmp_path, name):
    "Refused before it is parsed, or quickly; the bound is on steps of the reader"
    path = tmp_path / name
    path.write_text(ENDLESS[name])
    with pytest.raises(ConfigurationError, match=r"is not readable as|is larger than"):
        load_config(path)


def test_a_cost_matrix_of_150_classes_is_no_bomb(tmp_path):
    cost = [[float(i != j) for j in range(150)] for i in range(150)]
    rows = "\n".join(f"  - {row}" for row in cost)
    (tmp_path / "a.yaml").write_text(f"risk:\n  target_cost: 0.1\n  cost:\n{rows}\n")
    assert len(load_config(tmp_path / "a.yaml").risk.cost) == 150


ODD = {
    "control.yaml": (b"seed: 1\n# \x01\n", r"\(line 2\): the character U\+0001"),
    "escape.yaml": (b"data: {text: '\x1b'}", r"the character U\+001B"),
    "c1.yaml": ("seed: '\x9b'".encode(), r"the character U\+009B"),
    "nul.yaml": (b"seed: 1\0", r"the character U\+0000"),
    "control.toml": (b"seed = 1\x01", "is not readable as TOML"),
    "control.json": (b'{"seed": "\x01"}', "is not readable as JSON"),
    "no character.yaml": (b'seed: "\\U00110000"', "does not exist"),
    "half.yaml": (b'data: {text: "\\ud800"}', "half a character"),
    "half.json": (b'{"data": {"text": "\\ud800"}}', "half a character"),
    "half key.json": (b'{"\\ud800": 1}', "half a character"),
    "nan.yaml": (b"seed: .nan", "must be a finite number"),
    "nan.json": (b'{"conformal": {"settings": {"k": NaN}}}', "must be a finite"),
    "inf.toml": (b"risk.target_risk = inf", "must be a finite number"),
    "hexadecimal.yaml": (b"seed: 0x" + b"f" * 9000, "more than 1024 bits"),
    "hexadecimal.toml": (b"seed = 0x" + b"f" * 9000, "more than 1024 bits"),
    "base 60.yaml": (b"seed: 1" + b":1" * 4000, "more than 1024 bits"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_contents(tmp_path, name):
    content, words = ODD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as error:
        load_config(tmp_path / name)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "what", ["directory", "dangling", "loop", "fifo", "unreadable"]
)
def test_odd_files(tmp_path, what):
    path = tmp_path / "config.yaml"
    made = {
        "directory": path.mkdir,
        "dangling": lambda: path.symlink_to("nowhere"),
        "loop": lambda: path.symlink_to("config.yaml"),
        "fifo": lambda: os.mkfifo(path),
        "unreadable": lambda: (path.write_text("seed: 1"), path.chmod(0)),
    }
    made[what]()
    if what == "unreadable" and os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    for call in (load_config, lambda path: ConfigManager(path.parent)):
        with pytest.raises((ConfigurationError, IntegrityError)) as error:
            call(path)
        assert "config.yaml" in str(error.value)


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "\ud800", b"x", 3, ""])
def test_odd_names(path):
    with pytest.raises(FineTuneLLMError):
        load_config(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"tr\udcc5": 3},
        {"model.name": "x\udcc5"},
        {"data.group": ["x\ud800"]},
        {"seed": 10**5000},
        {"risk.cost": [[0, math.nan], [1, 0]]},
        {"conformal.settings": {"k": math.inf}},
        {"calibration.settings": {"k": 10**400}},
    ],
    ids=lambda changes: next(iter(changes)).encode("ascii", "replace").decode(),
)
def test_odd_values(changes):
    with pytest.raises(ConfigurationError):
        make_config(changes)


def test_a_word_that_is_no_utf8_on_the_command_line(tmp_path):
    code = "from fine_tune_llm.cli import main; main()"
    words = [b"config", b"show", b"--set", b"tr\xc5=3", b"--set", b"model.name=x\xc5"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True
    )
    said = done.stderr.decode()
    assert done.returncode == 2 and "Traceback" not in said
    assert r"`tr\udcc5` holds half a character" in " ".join(said.split())


def test_notes_are_kept_without_credentials(tmp_path):
    manager = ConfigManager(tmp_path, {"seed": 1})
    secret = "hf_" + "a1" * 17
    manager.apply({"logging.level": "info"}, note=f"with {secret}\x1b[2J\nand more")
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert secret not in kept and "[redacted]" in kept
    newest = History(tmp_path).newest()
    assert secret not in newest.note and str(newest).isprintable()
