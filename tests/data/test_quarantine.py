"Rows that cannot be used are set aside: what is left is the file without them"

import base64
import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import ConfigurationError, DataLoadingError
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.sources import Limits

GOOD = [
    {"text": "one", "label": "a", "group": "x"},
    {"text": "two", "label": "b", "group": "y"},
    {"text": "drei Grüße", "label": "a", "group": None},
]
BAD = {  # a line of JSON, and words of its reason
    '{"text": "torn"': "is not JSON",
    "[1, 2]": "is a JSON list, not an object",
    '{"text": "a", "text": "b", "label": "a"}': "has the key `text` twice",
    '{"text": 7, "label": "a"}': "text must be a string, got int",
    '{"text": "", "label": "a"}': "has no text",
    '{"text": "no label"}': "has no label",
    '{"text": "x", "label": 1.5}': "label must be a name or a whole number",
    '{"text": "x", "label": "a", "group": [1]}': "group must be a name",
    '{"text": "' + "x" * 200 + '", "label": "a"}': "text has 200 characters",
}
HOW = {"on_error": "quarantine", "group": "group", "max_chars": 100}


def counts_of(data):
    counts = data.source["counts"]
    parts = ("kept", "quarantined", "empty", "blank")
    assert counts["read"] == sum(counts[name] for name in parts)
    return counts


def same_data(one, other):
    assert tuple(one.texts) == tuple(other.texts) and one.classes == other.classes
    assert one.labels.tolist() == other.labels.tolist()
    assert tuple(one.ids) == tuple(other.ids)
    for name, values in one.groups.items():
        assert values.tolist() == other.groups[name].tolist()


@pytest.mark.parametrize("line", BAD)
@pytest.mark.parametrize("limits", [None, Limits(in_memory=1)])
def test_each_reason(tmp_path, line, limits):
    good = [json.dumps(row) for row in GOOD]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([good[0], line, "", *good[1:]]) + "\n")
    data = load(path, limits=limits, quarantine=tmp_path / "q.jsonl", **HOW)
    (entry,) = map(json.loads, (tmp_path / "q.jsonl").read_text().splitlines())
    assert (entry["source"], entry["line"], entry["raw"]) == ("a.jsonl", 2, line)
    assert BAD[line] in entry["reason"]
    assert counts_of(data) == dict(read=5, kept=3, quarantined=1, empty=0, blank=1)
    assert data.place(2) == "`a.jsonl` line 5"
    assert data.source["quarantined"] == [f"line 2 {entry['reason']}"]
    assert "1 of 5 rows are set aside: line 2" in data.source["notes"][-1]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from([*BAD, "", " "]), max_size=6),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_what_is_left_is_the_file_without_them(tmp_path_factory, odd, seed, is_large):
    rng = np.random.default_rng(seed)
    lines = [json.dumps(dict(GOOD[i % 3], text=f"t{i}")) for i in range(8)] + odd
    # what a file is shows in its first line
    lines[1:] = [lines[i] for i in 1 + rng.permutation(len(lines) - 1)]
    path = tmp_path_factory.mktemp("q") / "a.jsonl"
    path.write_text("\n".join(lines) + "\n")
    data = load(path, limits=Limits(in_memory=1) if is_large else None, **HOW)
    left = "\n".join(line for line in lines if line not in BAD)
    same_data(data, load(left.encode(), group="group", name="a.jsonl"))
    entries = list(data.quarantine.entries())
    assert [entry["raw"] for entry in entries] == [x for x in lines if x in BAD]
    numbers = [entry["line"] for entry in entries]
    assert numbers == sorted(numbers)
    assert counts_of(data)["read"] == len(lines)


CSV = b"""text,label
one,a
two
"three ""3""\nof it",b
"never closed,a
four,b

,
five,a,more
six,
,b
seven,a
"""


@pytest.mark.parametrize("limits", [None, Limits(in_memory=1)])
def test_csv(tmp_path, limits):
    path = tmp_path / "a.csv"
    path.write_bytes(CSV)
    data = load(path, on_error="quarantine", limits=limits)
    assert tuple(data.texts) == ("one", 'three "3"\nof it', "four", "seven")
    found = {entry["line"]: entry["raw"] for entry in data.quarantine.entries()}
    assert found == {
        3: "two",
        6: '"never closed,a',
        10: "five,a,more",
        11: "six,",
        12: ",b",
    }
    assert counts_of(data) == dict(read=11, kept=4, quarantined=5, empty=0, blank=2)
    left = b"".join(
        line + b"\n"
        for number, line in enumerate(CSV.split(b"\n"), 1)
        if number not in found
    )
    same_data(data, load(left, name="a.csv"))


@pytest.mark.parametrize("limits", [None, Limits(in_memory=1)])
def test_lines_that_are_no_text(tmp_path, limits):
    lines = [f"Grüße {i},{'ab'[i % 2]}".encode() for i in range(9)]
    lines[4:4] = [b"caf\xe9,a", b"a\0b,b"]
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + b"\n".join(lines) + b"\n")
    data = load(path, on_error="quarantine", limits=limits)
    first, second = data.quarantine.entries()
    assert data.source["read"]["encoding"] == "utf-8" and len(data) == 9
    assert base64.b64decode(first["raw_base64"]) == b"caf\xe9,a"
    assert "byte 0xe9" in first["reason"] and first["line"] == 6
    assert second["raw"] == "a\0b,b" and "zero character" in second["reason"]


def test_rows_without_lines():
    rows = [*GOOD, 7, dict(text=None, label="a", group="x"), *GOOD]
    for source in (rows, json.dumps(rows).encode()):
        data = load(source, on_error="quarantine", group="group", name="a.json")
        first, second = data.quarantine.entries()
        assert (first["row"], first["fields"]) == (3, 7)
        assert second["row"] == 4 and second["fields"]["label"] == "a"
        assert len(data) == 6 and data.place(3) == "`a.json` row 5"
        assert counts_of(data)["quarantined"] == 2
    frame = pd.DataFrame(dict(text=["a", "b", "c", None], label=["x", "x", "x", "y"]))
    data = load(frame, on_error="quarantine")
    assert data.classes == ("x",) and data.ids == ("0", "1", "2")
    assert next(data.quarantine.entries())["row"] == 3
    assert data.source["counts"]["read"] == 4


def test_empty_rows_count_for_themselves():
    rows = [*GOOD, dict(text=" ", label="a"), dict(text="x", label=None)]
    data = load(rows, on_error="quarantine", on_empty="skip")
    assert counts_of(data) == dict(read=5, kept=3, quarantined=1, empty=1, blank=0)
    raised = load(GOOD, on_empty="skip")
    assert counts_of(raised)["quarantined"] == 0 and raised.quarantine is None


@pytest.mark.parametrize("limits", [None, Limits(in_memory=1)])
def test_too_many_are_another_format(tmp_path, limits):
    path = tmp_path / "a.jsonl"
    torn = ['{"text": "torn"}'] * 3
    path.write_text("\n".join([json.dumps(GOOD[0]), *torn, json.dumps(GOOD[1])]))
    with pytest.raises(DataLoadingError, match="3 of 5 rows of `a.jsonl`.*has no lab"):
        load(path, on_error="quarantine", limits=limits)
    path.write_text("no\nJSON\nat all\n")
    with pytest.raises(DataLoadingError, match="3 of 3 rows"):
        load(path, on_error="quarantine", limits=limits)
    path.write_text("".join(json.dumps(row) + "\n" for row in GOOD))
    with pytest.raises(ConfigurationError, match="`on_error` must be"):
        load(path, on_error="ignore")
    with pytest.raises(ConfigurationError, match="Add on_error='quarantine'"):
        load(path, quarantine=tmp_path / "q.jsonl")


def test_a_file_that_is_there_is_replaced_whole(tmp_path):
    good = [json.dumps(row) for row in GOOD]
    path, there = tmp_path / "a.jsonl", tmp_path / "q.jsonl"
    path.write_text("\n".join([*good, "torn"]))
    there.write_text("old\n" * 1000)
    for _ in range(2):
        load(path, quarantine=there, **HOW)
        assert len(there.read_text().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "q.jsonl"]


def test_the_source_is_never_written_over(tmp_path, monkeypatch):
    path, inner = tmp_path / "a.jsonl", tmp_path / "texts" / "a" / "b.txt"
    path.write_text("\n".join([*map(json.dumps, GOOD), "torn"]))
    inner.parent.mkdir(parents=True)
    inner.write_text("hello")
    monkeypatch.chdir(tmp_path)
    os.symlink(path, "soft")
    os.link(path, "hard")
    before = path.read_bytes()
    for source in (path, str(path), "a.jsonl", "./texts/../a.jsonl", "soft"):
        for place in (path, "a.jsonl", "soft", "hard", "texts/../a.jsonl"):
            with pytest.raises(ConfigurationError, match="`quarantine` is what is re"):
                load(source, on_error="quarantine", quarantine=place)
    with pytest.raises(ConfigurationError, match="`quarantine` is what is read"):
        load("texts", on_error="quarantine", quarantine=inner)
    with pytest.raises(ConfigurationError, match="`quarantine` is what is read"):
        load("sqlite:///a.jsonl", on_error="quarantine", quarantine=path)
    assert path.read_bytes() == before and inner.read_text() == "hello"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (".", "is a folder"),
        ("nodir/q.jsonl", "`nodir`, which is no folder"),
        (5, "must be the path of a file, got 5"),
        ("a\0b", "must be the path of a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(place, words):
    with pytest.raises(ConfigurationError, match=f"`quarantine` .*{words}"):
        load("nowhere.jsonl", on_error="quarantine", quarantine=place)


def test_every_line_is_json(tmp_path):
    nan, far = float("nan"), float("inf")
    column = [1.0, nan, nan, far]
    held = [[1], [nan, {"a": far}], (nan,), {"b": nan}]
    frame = pd.DataFrame(dict(text=["a", "b", None, "c"], label=list("xyxy")))
    rows = [*GOOD, *GOOD, *(dict(text=None, group=x) for x in (*column, *held))]
    load(rows[:12], quarantine=tmp_path / "a", **HOW)
    frame["label"] = [0.0, 1.0, nan, nan]
    load(frame, on_error="quarantine", quarantine=tmp_path / "b")

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    for name in ("a", "b"):
        for line in (tmp_path / name).read_text().splitlines():
            json.loads(line, parse_constant=refuse)
    assert json.loads((tmp_path / "b").read_text().splitlines()[0])["fields"] == {
        "text": None,
        "label": None,
    }
