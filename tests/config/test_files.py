"Settings files: complaints with file and line, bombs, files that extend others"

from pathlib import Path

import pytest

from fine_tune_llm.config import file_layers, load_config
from fine_tune_llm.core.errors import ConfigurationError, IntegrityError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, text):
    Path(name).write_text(text)
    return name


def complaint(call):
    with pytest.raises(ConfigurationError) as e:
        call()
    return str(e.value)


@pytest.mark.parametrize(
    "name, text, words",
    [
        (
            "a.yaml",
            "seed: 1\ntraining:\n  learning_rat: 1\n",
            "did you mean `training.learning_rate`? (a.yaml, line 3)",
        ),
        (
            "a.toml",
            "[training]\nepochs = -1\n",
            "`training.epochs` must be at least 0, got -1 (a.toml, line 2)",
        ),
        (
            "a.json",
            '{"risk":\n {"delta": 2}}',
            "`risk.delta` must be below 1.0, got 2 (a.json, line 2)",
        ),
        (
            "b.yaml",
            "seed: 1\nrisk: {delta: .1}\nseed: 2\n",
            "`b.yaml` is not readable as YAML (line 3): "
            "`seed` is given twice, first in line 1",
        ),
        ("b.json", '{"seed": 1,\n "seed": 2}', "(line 2): `seed` is given twice"),
        ("b.toml", "seed = 1\nseed = 2", "`b.toml` is not readable as TOML (line 2)"),
        ("c.yaml", "seed: [1,\n", "`c.yaml` is not readable as YAML (line 2)"),
        ("c.json", '{"seed": 01}', "`c.json` is not readable as JSON (line 1)"),
        ("d.json", '{"seed": 1,}', "`d.json` is not readable as JSON (line 1)"),
        ("e.json", '{"seed": 1} 2', "(line 1): Extra data"),
        ("f.json", "{1: 2}", "(line 1): A key must be a text"),
        ("g.json", '{"seed"\n 1}', "(line 2): Expecting ':'"),
        ("d.yaml", "", "must hold a mapping of sections, got nothing"),
        ("e.yaml", "- 1", "got list"),
        ("f.yaml", "seed: 1\n---\nseed: 2", "is not readable as YAML (line 2)"),
    ],
)
def test_file_and_line(name, text, words):
    write(name, text)
    assert words in complaint(lambda: load_config(name))


def test_no_file():
    with pytest.raises(IntegrityError, match="`nowhere.yaml` is missing"):
        load_config("nowhere.yaml")
    assert "is not a file" in complaint(lambda: load_config("."))


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("laughs.yaml", LAUGHS, "(line 2): aliases (*name) are not read"),
        (
            "evil.yaml",
            "seed: 1\nx: !!python/object/apply:os.getcwd []",
            "(line 2): tags (!name) are not read",
        ),
        ("deep.yaml", "a: " + "[" * 100_000, "nested deeper than 20"),
        ("deep.json", '{"a": ' + "[" * 100_000, "nested deeper than 20"),
        ("deep.toml", "a = " + "[" * 100_000, "not readable as TOML"),
        ("dots.toml", ".".join("a" * 900) + " = 1", "nested deeper than 20"),
        ("table.toml", f"[{'.'.join('a' * 25)}]\nb = 1", "nested deeper than 20"),
        ("long.yaml", "seed: " + "9" * 5000, "cannot be read as what it looks like"),
        ("long.json", f'{{"seed": {"9" * 5000}}}', "cannot be read as what it looks"),
        ("long.toml", "seed = " + "9" * 5000, "not readable as TOML (line 1)"),
        ("big.yaml", "#" * 10_000_000, "is larger than 250,000 bytes"),
        ("key.yaml", "? [a]\n: 1", "a key must be a plain word"),
    ],
)
def test_files_made_to_hurt(name, text, words):
    write(name, text)
    assert words in complaint(lambda: load_config(name))


def test_many_complaints_and_bytes():
    write("many.yaml", "".join(f"k{i}: 1\n" for i in range(4_000)))
    said = complaint(lambda: load_config("many.yaml"))
    assert "`k49` is not a setting (many.yaml, line 50); and 3950 more" in said
    Path("bytes.yaml").write_bytes(b"\xff\xfe\x00s")
    assert "it is not UTF-8" in complaint(lambda: load_config("bytes.yaml"))


TOML = '''# a comment

seed = 1
data.text = "body"  # dotted

[training]   # a table
epochs = 2

batch_size = 4
[model]
name = """
minilm"""
device = "cpu"
[[risk.targets]]
kind = "error"
risk = 0.1

[[risk.targets]]
kind = "error"
[risk.miss]
a = 1
'''


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_lines_of_toml(line_end):
    Path("a.toml").write_bytes(TOML.replace("\n", line_end).encode())
    (layer,) = file_layers("a.toml")
    lines = {name: int(place.rsplit(" ", 1)[1]) for name, place in layer.places.items()}
    wanted = {
        "seed": 3,
        "data.text": 4,
        "training": 6,
        "training.epochs": 7,
        "training.batch_size": 9,
        "model": 10,
        "model.name": 11,
        "model.device": 13,
        "risk.targets": 14,
        "risk.targets.kind": 15,
        "risk.miss": 20,
        "risk.miss.a": 21,
    }
    assert {name: lines.get(name) for name in wanted} == wanted
    values = layer.values
    assert values["training"] == {"epochs": 2, "batch_size": 4}
    assert type(values["seed"]) is int and type(values["data"]["text"]) is str


def test_lines_of_json():
    write(
        "a.json", '{"seed":\t1,\n"data": {"group": ["a",\n"b"],\r\n"text": "\\u00e4"}}'
    )
    (layer,) = file_layers("a.json")
    assert layer.values == {"seed": 1, "data": {"group": ["a", "b"], "text": "ä"}}
    assert layer.places == {
        "seed": "a.json, line 1",
        "data": "a.json, line 2",
        "data.group": "a.json, line 2",
        "data.text": "a.json, line 4",
    }


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.yaml", "risk:\n  targets:\n  - {kind: a}\n  - {kind: b}\n"),
        ("a.json", '{"risk": {"targets": [{"kind": "a"}, {"kind": "b"}]}}'),
        ("a.toml", '[[risk.targets]]\nkind = "a"\n[[risk.targets]]\nkind = "b"\n'),
    ],
)
def test_a_key_may_repeat_in_a_list(name, text):
    (layer,) = file_layers(write(name, text))
    assert layer.values == {"risk": {"targets": [{"kind": "a"}, {"kind": "b"}]}}


def test_extends():
    write("base.yaml", "training:\n  epochs: 5\n")
    write("x.yaml", "seed: 1\nextends: [y.yaml]\n")
    write("y.yaml", "extends: x.yaml\n")
    said = complaint(lambda: load_config("x.yaml"))
    assert "`extends` goes in a circle: x.yaml -> y.yaml -> x.yaml" in said
    Path("sub").mkdir()
    write("sub/z.yaml", "extends: ../base.yaml\nseed: 2")
    assert load_config("sub/z.yaml").training.epochs == 5
    write("sub/w.yaml", "seed: 1\nextends: base.yaml")
    assert (
        "`sub/w.yaml`, line 2: it extends 'base.yaml', and 'sub/base.yaml' is not there"
        in complaint(lambda: load_config("sub/w.yaml"))
    )
    write("v.yaml", "extends: {a: 1}")
    said = complaint(lambda: load_config("v.yaml"))
    assert "must be a file name or a list of them" in said
    said = complaint(lambda: load_config(None))
    assert "must be the name of a settings file, got NoneType" in said


def test_a_file_reached_twice_counts_where_it_is_named_last():
    write("b.yaml", "seed: 1\ntraining.epochs: 1\n")
    write("l.yaml", "extends: b.yaml\nseed: 2\ntraining.batch_size: 2\n")
    write("r.yaml", "extends: b.yaml\ntraining.epochs: 3\n")
    write("top.yaml", "extends: [l.yaml, r.yaml]\n")
    names = [layer.name for layer in file_layers("top.yaml")]
    assert names == ["l.yaml", "b.yaml", "r.yaml", "top.yaml"]
    c = load_config("top.yaml")
    # r.yaml counts whole after l.yaml, what it extends included
    assert (c.seed, c.training.epochs, c.training.batch_size) == (1, 3, 2)


def test_fifty_levels_that_each_extend_the_next_one_twice():
    "That would be 2^50 readings"
    for i in range(120):
        write(
            f"n{i}.yaml",
            f"extends: [n{i + 1}.yaml, n{i + 1}.yaml]\ntraining.epochs: {i + 1}\n",
        )
    write("n50.yaml", "seed: 9")
    c = load_config("n0.yaml")
    layers = file_layers("n0.yaml")
    assert (len(layers), c.seed, c.training.epochs) == (51, 9, 1)
    write("n50.yaml", "extends: n51.yaml")
    write("n120.yaml", "seed: 9")
    said = complaint(lambda: load_config("n0.yaml"))
    assert "n0.yaml` extends more than 100 files" in said
    write("b.yaml", "seed: 1\n")
    write("wide.yaml", f"extends: {['b.yaml'] * 101}")
    said = complaint(lambda: load_config("wide.yaml"))
    assert "line 1: it extends more than 100 files" in said
