"A file that is read piece by piece gives what it gives when it is read at once"

import bz2
import csv
import gc
import gzip
import io
import json
import lzma
import os
import pickle
import random
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import DataError, DataLoadingError, FineTuneLLMError
from fine_tune_llm.data import blocks, streaming
from fine_tune_llm.data.held_rows import SpilledRows
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.sources import Limits
from fine_tune_llm.data.spill import Column, Runs, hold
from fine_tune_llm.testing import mutants

TINY = Limits(in_memory=1)
HOW = {"group": ["group"], "cluster": "who", "on_empty": "keep"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 97)


def what_comes(path, **how):
    "Everything that a load gives, or its error in words"
    try:
        data = load(path, **how)
    except FineTuneLLMError as e:
        return type(e).__name__, str(e), e.details if hasattr(e, "details") else None
    return {
        "texts": list(data.texts),
        "labels": None if data.labels is None else data.labels.tolist(),
        "classes": data.classes,
        "ids": list(data.ids),
        "groups": {name: list(values) for name, values in data.groups.items()},
        "clusters": None if data.clusters is None else list(data.clusters),
        "places": [data.place(row) for row in range(len(data))],
        "source": data.source,
        "quarantine": list(data.quarantine.entries() if data.quarantine else ()),
    }


def assert_same(raw, name, **how):
    "Read at once and piece by piece, refused and set aside"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(raw)
        for on_error in ("raise", "quarantine"):
            at_once = what_comes(path, on_error=on_error, **how)
            piecewise = what_comes(path, on_error=on_error, limits=TINY, **how)
            assert piecewise == at_once, (raw[:300], on_error)
    return at_once


def was_streamed(path, **how):
    data = load(path, limits=TINY, **how)
    return isinstance(data.texts, Column)


# ---- JSON lines ----

TEXTS = st.one_of(
    st.sampled_from(
        ["a", "", " ", "\u200b", "Grüße", "数学", "x" * 300, "😀", "\ufeff"]
    ),
    st.text(max_size=20),
    st.text(alphabet='{}[]",:\\\n\r\t NaInf0', max_size=12),
)
VALUES = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.lists(TEXTS, max_size=3),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)
LABELS = st.sampled_from(["a", "b", 1, 2, "1.0", "Grün"])
ROWS = st.fixed_dictionaries(
    {"text": TEXTS, "label": LABELS},
    optional={
        "id": st.one_of(st.integers(0, 99), TEXTS, st.none()),
        "group": VALUES,
        "who": st.sampled_from(["ann", "bob", None]),
        "more": VALUES,
        "other": st.integers(),
    },
)
ODD_LINES = [
    "",
    "  ",
    "{",
    "[1]",
    "7",
    '{"text": "a", "text": "b"}',
    '{"text": "a", "label": "x"} {"text": "b", "label": "x"}',
    '{"text": "a", "label": "x", "more": {"k": 1, "k": 2}}',
    '{"text": "a", "label": "x", "more": [{"k": 1, "k": 2}]}',
    '{"text": "a", "label": "x", "more": Inf}',
    '{"text": "a", "label": "x", "more": -NaN}',
    '{"text": "a", "label": "x", "more": NaN}',
    '{"text": "a", "label": "x", "more": Infinity}',
    '{"text": "\\ud800", "label": "x"}',
    '{"text": "\\ud83d\\ude00", "label": "x"}',
    '{"text": "\\u0000", "label": "x"}',
    '{"text": "a", "label": "x", "id": 01}',
    '{"text": "a", "label": "x", "id": 1.0}',
    '{"text": "a", "label": "x", "id": -0}',
    '{"text": "a", "label": "x", "id": 1e999}',
    '{"text": "2020-01-01T00:00:00Z", "label": "x"}',
    '{"te\\u0078t": "a", "label": "x"}',
    '{"Text": "a", "label": "x"}',
    '\ufeff{"text": "a", "label": "x"}',
    '{"text": "a", "label": "x",}',
    "{'text': 'a', 'label': 'x'}",
    '{"text": "a",\r"label": "x"}',
    '{"text": "a", "label": "x"} // no',
    '{"text": 7, "label": "x"}',
    '{"text": "a", "label": null}',
    '{"text": "a", "label": 1.5}',
    '{"text": "a", "label": "x", "more": ' + "[" * 300 + "]" * 300 + "}",
    '{"text": "a", "label": "x", "": 1}',
]


@settings(max_examples=int(os.environ.get("FTLLM_EXAMPLES", 60)), deadline=None)
@given(
    st.lists(st.one_of(ROWS, st.sampled_from(ODD_LINES)), min_size=1, max_size=40),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.booleans(),
    st.integers(0, 30),
)
def test_json_lines(rows, end, is_ascii, n_plain):
    plain = [{"text": f"plain {i}", "label": "ab"[i % 2]} for i in range(n_plain)]
    lines = [
        row if isinstance(row, str) else json.dumps(row, ensure_ascii=is_ascii)
        for row in plain + rows
    ]
    raw = end.join([*lines, ""]).encode("utf-8", "backslashreplace")
    assert_same(raw, "a.jsonl", **HOW)


@pytest.mark.parametrize("line", ODD_LINES)
def test_a_line_among_plain_ones(line):
    plain = [json.dumps({"text": f"t{i}", "label": "ab"[i % 2]}) for i in range(40)]
    for at in (1, 20, 40):
        lines = [*plain[:at], line, *plain[at:]]
        assert_same("\n".join(lines).encode(), "a.jsonl")


def test_arrow_reads_most_blocks_and_says_the_same(monkeypatch):
    "So that the fast reader is what the tests above compare"
    monkeypatch.setattr(blocks, "_BLOCK", 2000)
    seen = []
    by_arrow = streaming._JsonBlocks._by_arrow

    def counted(self, block):
        table = by_arrow(self, block)
        seen.append(table is not None)
        return table

    monkeypatch.setattr(streaming._JsonBlocks, "_by_arrow", counted)
    rows = [
        {"text": f"Grüße {i}", "label": i % 3, "id": i, "more": [1, 2], "x": {"y": i}}
        for i in range(2000)
    ]
    raw = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    assert_same(raw, "a.jsonl")
    assert sum(seen) > 0.9 * len(seen) > 20


def test_chats(tmp_path):
    chats = [
        {"messages": [{"role": "user", "content": f"say {i}"}], "label": "ab"[i % 2]}
        for i in range(50)
    ]
    raw = "".join(json.dumps(chat) + "\n" for chat in chats).encode()
    assert assert_same(raw, "a.jsonl")["texts"][7] == "say 7"
    (tmp_path / "a.jsonl").write_bytes(raw)
    assert was_streamed(tmp_path / "a.jsonl")


def test_nested_fields():
    rows = [{"data": {"text": f"t{i}", "y": ["ab"[i % 2]]}} for i in range(50)]
    raw = "".join(json.dumps(row) + "\n" for row in rows).encode()
    read = assert_same(raw, "a.jsonl", text="data.text", label="data.y.0")
    assert read["classes"] == ("a", "b")


# ---- CSV ----


@settings(max_examples=int(os.environ.get("FTLLM_EXAMPLES", 50)), deadline=None)
@given(
    st.lists(st.tuples(TEXTS, LABELS, TEXTS), min_size=1, max_size=30),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\r\n", "\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    st.sampled_from(
        ["", '"open,a,b\n', "a,b\n", '"a"b,c,d\n', ",,\n", "\n", "a,b,c,d\n"]
    ),
    st.integers(0, 30),
)
def test_csv(rows, separator, end, encoding, odd, at):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end)
    writer.writerow(["text", "label", "who"])
    for i, row in enumerate(rows):
        if i == at:
            file.write(odd.replace(",", separator))
        writer.writerow([str(cell).encode("utf-8", "replace").decode() for cell in row])
    raw = file.getvalue().encode(encoding, "replace")
    assert_same(raw, "a.csv", cluster="who", on_empty="skip")


def test_cells_over_blocks():
    raw = b"text,label\n" + b'"one\ntwo, ""three""\n\nfour",a\n"five\r\nsix",b\n' * 60
    read = assert_same(raw, "a.csv")
    assert len(read["texts"]) == 120 and read["places"][1] == "`a.csv` line 6"


# ---- encodings, compression, Parquet ----


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("given", [True, False])
def test_encodings(encoding, given):
    rows = "text,label\n" + "schöne Grüße – „ja“,a\nnein,b\n" * 40
    how = {"encoding": encoding} if given else {}
    read = assert_same(rows.encode(encoding), "a.csv", **how)
    assert read["texts"][0] == "schöne Grüße – „ja“"


@pytest.mark.parametrize("bad", [b"caf\xe9", b"\xff\xfe\x81", b"a\0b", b"\xed\xa0\x80"])
@pytest.mark.parametrize("good", ["plain", "Grüße", "naïve"])
@pytest.mark.parametrize("given", [None, "utf-8", "ascii", "cp1252"])
def test_lines_that_do_not_fit(bad, good, given):
    lines = [f"{good} {i},{'ab'[i % 2]}".encode() for i in range(60)]
    for at in (0, 30, 60):
        mixed = [b"text,label", *lines[:at], bad + b",a", *lines[at:], b"a,b,c"]
        assert_same(b"\n".join(mixed), "a.csv", encoding=given)
        rows = [json.dumps({"text": good, "label": "a"}).encode()] * 50
        rows.insert(at, b'{"text": "' + bad + b'", "label": "b"}')
        assert_same(b"\n".join(rows), "a.jsonl", encoding=given)


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed(squeeze):
    ending = {gzip: ".gz", bz2: ".bz2", lzma: ".xz"}[
        next(m for m in (gzip, bz2, lzma) if m.compress is squeeze)
    ]
    rows = [
        json.dumps({"text": f"t{random.Random(i).random()}", "label": i % 2}) + "\n"
        for i in range(400)
    ]
    parts = ["".join(rows[:150]).encode(), "".join(rows[150:]).encode()]
    raw = squeeze(parts[0]) + squeeze(parts[1])
    name = f"a.jsonl{ending}"
    assert len(assert_same(raw, name)["texts"]) == 400
    for torn in (
        raw[:-1],
        raw[:-40],
        raw[: len(raw) // 2],
        raw + b"rest",
        raw + b"\0\0",
    ):
        assert_same(torn, name)


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 2**20)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + b"a,b\n" * 2**22))
    limits = Limits(in_memory=1, max_whole_bytes=2**23)
    with pytest.raises(DataLoadingError, match="more than 200 times its size"):
        load(path, limits=limits)
    with pytest.raises(DataLoadingError, match="expands to has more than 5,000,000"):
        load(path, limits=Limits(in_memory=1, max_bytes=5_000_000))
    with pytest.raises(DataLoadingError, match="more than 1,000 rows.*data.max_rows"):
        load(path, limits=Limits(in_memory=1, max_rows=1000))
    with open(tmp_path / "sparse.csv", "wb") as file:
        file.truncate(2**37)
    with pytest.raises(DataLoadingError, match="more than 68,719,476,736 bytes"):
        load(tmp_path / "sparse.csv")


def parquet_of(rows, schema=None, **how):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, **how)
    return file.getvalue()


PARQUET = {
    "texts": [{"text": f"t{i} ü", "label": "ab"[i % 2], "id": i} for i in range(300)],
    "words": [{"text": "one text", "label": "a", "group": None}] * 300,
    "blank": [{"text": [None, "", "x"][i % 3], "label": i % 2} for i in range(300)],
    "chats": [
        {"messages": [{"role": "user", "content": f"t{i}"}], "label": True}
        for i in range(300)
    ],
    "nested": [{"data": {"text": "a"}, "label": "b", "text": "c"} for _ in range(300)],
    "numbers": [{"text": 7, "label": 1.5} for _ in range(300)],
    "bytes": [{"text": b"a", "label": b"b"} for _ in range(300)],
}


@pytest.mark.parametrize("name", PARQUET)
@pytest.mark.parametrize("how", [{}, {"use_dictionary": False}, {"row_group_size": 7}])
def test_parquet(name, how):
    raw = parquet_of(PARQUET[name], **how)
    assert_same(raw, "a.parquet", on_empty="skip")
    assert_same(raw[: len(raw) // 2] + raw[-200:], "a.parquet")


def test_parquet_of_categories_and_days():
    table = pa.table(
        {
            "text": pa.array(["a", "b", "a", None]).dictionary_encode(),
            "label": pa.array([1, 2, 3, 4], pa.date32()),
            "group": pa.array(["x", None, "x", "y"], pa.large_string()),
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    read = assert_same(file.getvalue(), "a.parquet", group="group", on_empty="skip")
    assert read["texts"] == ["a", "b", "a"]


def test_a_parquet_dictionary_that_expands_is_refused(tmp_path):
    texts = pa.DictionaryArray.from_arrays([0] * 6000, ["a" * 2**20])
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts, "label": ["x"] * 6000}), path)
    with pytest.raises(DataLoadingError, match="expands to more than 200 times"):
        load(path, limits=Limits(in_memory=1, max_whole_bytes=2**26))


# ---- what lies on disk ----


def test_mutants(refusal):
    "Damaged large files: the same data set, or the same error of ours"
    n = int(os.environ.get("FTLLM_MUTANTS", 30))
    rows = [{"text": f"Grüße {i}", "label": "ab"[i % 2], "id": i} for i in range(12)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    cells = "".join(f'"t {i}, ""x""\nmore",{i % 2}\n' for i in range(12))
    well = {
        "a.jsonl": lines,
        "a.csv": f"text,label\n{cells}".encode(),
        "a.csv.gz": gzip.compress(f"text,label\n{cells}".encode(), mtime=0),
        "a.parquet": parquet_of(rows),
    }
    for name, raw in well.items():
        for damaged in mutants(raw, n, seed=len(name)):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, name)
                with open(path, "wb") as file:
                    file.write(damaged)
                for on_error in ("raise", "quarantine"):

                    def call(path=path, on_error=on_error):
                        load(path, limits=TINY, on_error=on_error)

                    refusal(call, damaged)
            if name != "a.parquet":
                assert_same(damaged, name)


def test_a_column_is_a_sequence(tmp_path):
    words = [f"w{i}" for i in range(1000)] + [None, "", 7, [1], "half \ud800"]
    column = hold(words)
    assert column == words and len(column) == len(words)
    assert column[-1] == words[-1] and column[2:5] == ("w2", "w3", "w4")
    assert column[np.array([5, 3, 5])] == ("w5", "w3", "w5")
    assert list(column.take([1, 1002])) == ["w1", 7]
    assert list(column.at([900, 3])) == ["w900", "w3"]
    assert column + ("x",) == [*words, "x"] and ("x",) + column == ["x", *words]
    assert pickle.loads(pickle.dumps(column)) == tuple(words)
    assert list(hold([])) == [] and "w7" in column
    with pytest.raises(IndexError):
        column[len(words)]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=50))
def test_runs(steps):
    numbers = np.cumsum(steps).tolist()
    runs = Runs()
    for number in numbers:
        runs.extend(number)
    assert list(runs) == numbers and [runs[i] for i in range(len(runs))] == numbers
    assert runs[-1] == numbers[-1] and list(runs.take([0])) == numbers[:1]


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n' * 500)
    data = load(path, limits=TINY)
    assert isinstance(data.texts, Column) and os.listdir(folder) == []
    assert os.listdir(tmp_path) == ["a.jsonl", "tmp"] or len(os.listdir(tmp_path)) == 2
    n_open = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    del data
    gc.collect()
    if n_open:
        assert len(os.listdir("/proc/self/fd")) < n_open


def test_rows_of_a_large_data_set(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "a,x\nb,y\n" * 200)
    data = load(path, limits=TINY)
    some = data.take(np.array([0, 3, 2]))
    assert list(some.texts) == ["a", "b", "a"] and some.place(1) == "`a.csv` line 5"
    assert isinstance(some.texts, Column) and list(some.ids) == ["0", "3", "2"]
    assert list(data.to_pandas()["text"][:2]) == ["a", "b"]
    rows = SpilledRows({"text": hold(["a", "b"])}, 2)
    assert list(rows) == [{"text": "a"}, {"text": "b"}]


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "a,x\n" * 200)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(FineTuneLLMError, match="has no room.*TMPDIR"):
        load(path, limits=TINY)


def test_data_errors_name_the_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "a,x\n" * 200 + ",x\n")
    with pytest.raises(DataError, match="line 202 has no text"):
        load(path, limits=TINY)
