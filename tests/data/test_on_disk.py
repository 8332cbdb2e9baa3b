"All columns of a schema are the same, read from disk and read at once"

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import tempfile
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import DataLoadingError, FineTuneLLMError
from fine_tune_llm.data import blocks
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.schema import Schema
from fine_tune_llm.data.sources import Limits
from fine_tune_llm.data.spill import Column

TINY = Limits(in_memory=1)
SCHEMAS = {
    "labels": Schema(
        text="text",
        label="label",
        group=["team", "meta.site"],
        cluster="who",
        weight="weight",
        time="time",
        split="split",
    ),
    "votes": Schema(votes=["one", "two"], id="key", label_names="exact"),
    "list": Schema(votes="all", weight="weight"),
    "classes": Schema(classes=["b", "a"], time="time"),
    "nested": Schema(text="meta.site", label="label", time="meta.at"),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 97)


def listed(values):
    return None if values is None else [str(value) for value in values]


def what_comes(path, **how):
    "All that a load gives, or its error in words"
    try:
        data = load(path, **how)
    except FineTuneLLMError as e:
        return type(e).__name__, str(e)
    arrays = ("labels", "clusters", "weights", "votes", "times", "splits")
    return {
        "texts": list(data.texts),
        "classes": data.classes,
        "ids": list(data.ids),
        "groups": {name: list(values) for name, values in data.groups.items()},
        **{name: listed(getattr(data, name)) for name in arrays},
        "places": [data.place(row) for row in range(len(data))],
        "source": data.source,
        "quarantine": list(data.quarantine.entries() if data.quarantine else ()),
    }


def assert_same(raw, name, **how):
    "The same refused and set aside, and every row of it on disk"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(raw)
        for on_error in ("raise", "quarantine"):
            at_once = what_comes(path, on_error=on_error, **how)
            on_disk = what_comes(path, on_error=on_error, limits=TINY, **how)
            assert on_disk == at_once, (raw[:300], on_error)
    return at_once


def on_disk(raw, name, folder, **how):
    path = folder / name
    path.write_bytes(raw)
    data = load(path, limits=TINY, **how)
    assert isinstance(data.texts, Column)
    return data


WORDS = st.sampled_from(["a", "Grüße", "GrÃ¼ÃŸe", "no", "No ", "", "x" * 90])
TIMES = st.sampled_from(
    ["2026-03-01", "2026-03-01T09:30:00+01:00", 1.7e9, 1700000000, "soon", "", None]
)
NUMBERS = st.sampled_from([0, 1, 2.5, "3", "", -1, None, True, "0.25"])
LABELS = st.sampled_from(["a", "b", "B", 1, "1.0", None, "", 0.5])
VOTES = st.one_of(
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=3),
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(-1, 3), max_size=2),
    LABELS,
)
SITES = st.fixed_dictionaries({"site": WORDS, "at": TIMES})
COLUMNS = {
    "text": WORDS,
    "label": LABELS,
    "team": WORDS,
    "meta": SITES,
    "who": WORDS,
    "weight": NUMBERS,
    "time": TIMES,
    "split": st.sampled_from(["train", "test", None, 3]),
    "one": LABELS,
    "two": LABELS,
    "all": VOTES,
    "key": st.one_of(WORDS, st.integers(0, 9)),
    "id": st.one_of(st.none(), WORDS, st.integers(0, 9)),
}
WHOLE = st.fixed_dictionaries(COLUMNS)
ODD = st.fixed_dictionaries({}, optional=COLUMNS)
GOOD = {
    "text": "hello",
    "label": "a",
    "team": "A",
    "meta": {"site": "Ulm", "at": "2026-03-01"},
    "who": "ann",
    "weight": 1,
    "time": "2026-03-01",
    "split": "train",
    "one": "a",
    "two": "b",
    "all": ["a", "b"],
    "key": "k",
    "id": 7,
}
MOSTLY_GOOD = st.lists(
    st.one_of(st.just(GOOD), st.just({**GOOD, "label": "b"}), WHOLE, ODD),
    min_size=2,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(rows=MOSTLY_GOOD, on_empty=st.sampled_from(["keep", "skip", "error"]))
@pytest.mark.parametrize("schema", SCHEMAS)
def test_json_lines(schema, rows, on_empty):
    raw = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    how = {"schema": SCHEMAS[schema], "on_empty": on_empty}
    assert_same(raw.encode("utf-8", "surrogatepass"), "a.jsonl", **how)


def csv_of(rows, separator=",", header=True):
    out = io.StringIO(newline="")
    names = [*COLUMNS, "meta.site", "meta.at"]
    table = csv.DictWriter(
        out, names, delimiter=separator, extrasaction="ignore", restval=""
    )
    if header:
        table.writeheader()
    for row in rows:
        meta = {f"meta.{k}": v for k, v in (row.get("meta") or {}).items()}
        votes = row.get("all")
        said = votes if isinstance(votes, (str, type(None))) else json.dumps(votes)
        table.writerow({**row, **meta, "all": said})
    return out.getvalue()


@settings(max_examples=40, deadline=None)
@given(rows=MOSTLY_GOOD, separator=st.sampled_from(",;\t"))
@pytest.mark.parametrize("schema", SCHEMAS)
def test_csv(schema, rows, separator):
    raw = csv_of(rows, separator).encode()
    assert_same(raw, "a.csv", schema=SCHEMAS[schema], on_empty="keep")


@settings(max_examples=40, deadline=None)
@given(rows=MOSTLY_GOOD, header=st.sampled_from(["auto", "yes", "no"]))
@pytest.mark.parametrize("begins", ["", "sep=;\r\n", "\ufeffsep=;\r\n"])
@pytest.mark.parametrize("ends", ["", "\x1a"])
def test_csv_without_names(rows, header, begins, ends):
    raw = (begins + csv_of(rows, ";", header=False) + ends).encode()
    schema = Schema(text="0", label="1", weight="5", time="6")
    assert_same(raw, "a.csv", schema=schema, on_empty="keep", header=header)


TYPED = {
    "text": pa.string(),
    "label": pa.string(),
    "team": pa.dictionary(pa.int8(), pa.string()),
    "meta": pa.struct([("site", pa.string()), ("at", pa.string())]),
    "who": pa.large_string(),
    "weight": pa.float64(),
    "time": pa.timestamp("us", "UTC"),
    "split": pa.string_view(),
    "one": pa.int8(),
    "two": pa.int64(),
    "all": pa.list_(pa.string()),
    "key": pa.int32(),
    "id": pa.string(),
}
AS_TYPED = {
    **dict.fromkeys(["text", "label", "team", "who", "split", "id"], WORDS),
    "meta": SITES.map(lambda site: {"site": site["site"], "at": None}),
    "weight": st.sampled_from([0.0, 1.0, 2.5, -1.0, float("nan"), None]),
    "time": st.sampled_from([datetime(2026, 3, 1, tzinfo=UTC), None]),
    "one": st.integers(-1, 2),
    "two": st.sampled_from([None, 1, 2]),
    "all": st.lists(st.sampled_from(["a", "b", ""]), max_size=3),
    "key": st.sampled_from([None, 1, 2]),
}
NAMED = {"one": {"names": ["no", "yes"], "_type": "ClassLabel"}}


def parquet_of(rows, **how):
    columns = {
        name: pa.array([row.get(name) for row in rows], kind)
        for name, kind in TYPED.items()
    }
    said = json.dumps({"info": {"features": NAMED}}).encode()
    table = pa.table(columns).replace_schema_metadata({b"huggingface": said})
    out = io.BytesIO()
    pq.write_table(table, out, **how)
    return out.getvalue()


TYPED_GOOD = {
    "text": "hello",
    "label": "a",
    "weight": 1.0,
    "time": datetime(2026, 3, 1, tzinfo=UTC),
    "one": 1,
    "two": 2,
    "all": ["a", "b"],
    "meta": {"site": "Ulm", "at": "2026-03-01"},
}


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.one_of(st.just(TYPED_GOOD), st.fixed_dictionaries(AS_TYPED)),
        min_size=1,
        max_size=12,
    )
)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_parquet(schema, rows):
    how = {"schema": SCHEMAS[schema], "on_empty": "keep"}
    assert_same(parquet_of(rows), "a.parquet", **how)


def zstd(raw):
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(raw)
    return out.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("pack", "ending"),
    [
        (gzip.compress, ".gz"),
        (bz2.compress, ".bz2"),
        (lzma.compress, ".xz"),
        (zstd, ".zst"),
    ],
)
def test_compressed(pack, ending, tmp_path):
    lines = [json.dumps({**GOOD, "text": f"row {i}"}) for i in range(99)]
    raw = pack(("\n".join([*lines, '{"text": 7}']) + "\n").encode())
    schema = SCHEMAS["labels"]
    both = assert_same(raw, f"a.jsonl{ending}", schema=schema)
    assert both["source"]["read"]["compression"] in ("gzip", "bzip2", "xz", "zstd")
    assert len(both["texts"]) == 99
    (aside,) = both["quarantine"]
    assert (aside["line"], aside["raw"]) == (100, '{"text": 7}')
    data = on_disk(raw, f"b.jsonl{ending}", tmp_path, on_error="quarantine")
    assert len(data) == 99
    assert_same(raw[: len(raw) // 2], f"c.jsonl{ending}", schema=schema)


def test_names_of_classes_on_disk(tmp_path):
    "A file of the hub gives names, however large it is"
    rows = [{**TYPED_GOOD, "one": i % 2} for i in range(9)]
    data = on_disk(parquet_of(rows), "a.parquet", tmp_path, label="one")
    assert data.classes == ("no", "yes")


def test_damaged_words_are_noted_on_disk(tmp_path):
    lines = [json.dumps({"text": "GrÃ¼ÃŸe", "label": "a", "n": i}) for i in range(99)]
    for raw in ("\n".join(lines), json.dumps({"text": "hi", "label": "a"}) + "\n"):
        data = on_disk(raw.encode() + b"\n" + lines[0].encode(), "a", tmp_path)
        assert "words look like UTF-8" in data.source["notes"][0]


# ---- what is read whole stays within its limits, however large a file may be ----


WHOLE_LIMITS = Limits(max_whole_bytes=2**20, max_whole_rows=1000)


def refused(source, **how):
    with pytest.raises(DataLoadingError) as caught:
        load(source, limits=WHOLE_LIMITS, **how)
    return caught.value


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_bombs_in_bytes(pack):
    raw = pack(b'[{"text": "' + b"a" * 2**22 + b'"}]')
    error = refused(raw, name="a.json")
    assert error.context["limit"] == "max_whole_bytes"


def test_bombs_of_arrow_and_zstd():
    table = pa.table({"text": ["x" * 2**11] * 999, "label": ["a"] * 999})
    out = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(out, table.schema, options=options) as file:
        file.write_table(table)
    assert refused(out.getvalue(), name="a.arrow").context["limit"] == "max_whole_bytes"
    raw = zstd(b"text,label\n" + b"x" * 2**21)
    assert refused(raw, name="a.csv.zst").context["limit"] == "max_whole_bytes"


def test_too_many_rows_read_whole(tmp_path):
    rows = [{"text": str(i), "label": "a"} for i in range(1001)]
    whole = json.dumps(rows).encode()
    assert refused(whole, name="a.json").context["limit"] == "max_whole_rows"
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    limits = Limits(max_whole_bytes=2**20, max_whole_rows=1000, in_memory=100)
    assert len(load(path, limits=limits)) == 1001
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    assert refused(out.getvalue(), name="a").context["limit"] == "max_whole_rows"


def test_a_parquet_file_that_expands_far(tmp_path):
    "A text that stands once in the file, and in every row"
    texts = pa.array(["x" * 2**12]).take(pa.array([0] * 2**12))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts, "label": texts}), path)
    limits = Limits(max_whole_bytes=2**20, in_memory=100)
    with pytest.raises(DataLoadingError, match="more than 200 times its size"):
        load(path, limits=limits)
