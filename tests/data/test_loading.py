"What a file can be, and what a row can lack: each refused with the place"

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fine_tune_llm.core.errors import (
    ConfigurationError,
    DataLoadingError,
    DataValidationError,
    SchemaError,
)
from fine_tune_llm.data.encodings import decode
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.rows import read_rows
from fine_tune_llm.data.splitting import split_ledger
from fine_tune_llm.testing import toy_rows

SHARES = {"train": 0.5, "validation": 0.15, "calibration": 0.2, "test": 0.15}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("a\nкафе".encode("cp1251"), "byte 0xea in line 2"),
        (b"\x89PNG\r\n", "is a PNG picture"),
        (b"ab\0c", "holds a zero character"),
        (b" \n", "`x` is empty"),
    ],
)
def test_bytes_that_are_no_text(raw, words):
    with pytest.raises(DataLoadingError, match=words):
        decode(raw, "x")


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(DataLoadingError, match="is a directory"):
        read_rows(tmp_path)
    with pytest.raises(OSError, match="does not exist"):
        read_rows(tmp_path / "nowhere")


def test_only_a_line_feed_ends_a_line():
    rows, _ = read_rows(b'{"a": 1}\n\n{"a": "\\u2028"}\n')
    assert rows == [{"a": 1}, {"a": "\u2028"}]
    raw = '{"a": "x\u2028y"}\r\n{"a": "\x85"}\n'.encode()
    assert read_rows(raw, "x.jsonl")[0] == [{"a": "x\u2028y"}, {"a": "\x85"}]


def test_parquet_from_a_path_and_from_bytes(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["é"]}), tmp_path / "x.parquet")
    rows = [{"a": 1, "b": "é"}]
    assert read_rows(tmp_path / "x.parquet")[0] == rows
    assert read_rows((tmp_path / "x.parquet").read_bytes())[0] == rows


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        (b"PAR1 torn", "x.parquet", "is not readable as Parquet"),
        (b'{"a": 1}\n{"a": ', None, "line 2 is not JSON"),
        (b"[1, 2]", "x.json", "2 rows of `x.json` are no JSON objects: line 1"),
        (b"a,b\n1,2,3\n", "x.csv", "line 2 has 3 cells, the header has 2"),
        (b"a,b\n", "x.csv", "header and no rows"),
        ([{}, "x"], None, "row 1 is a str"),
        ([], None, "the list is empty"),
    ],
)
def test_rows_that_cannot_be_read(source, name, words):
    with pytest.raises(DataLoadingError, match=words):
        read_rows(source, name)


@pytest.mark.parametrize("source", [None, 5, {"text": "a"}, (r for r in [])])
def test_sources_that_are_none(source):
    with pytest.raises(DataLoadingError, match="a list of dicts"):
        load(source)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": " ", "label": "x"}, "row 0 has no text"),
        ({"text": 5, "label": "x"}, "row 0 text must be a string, got int"),
        ({"text": "a" * 10 * 2**20, "label": "x"}, "10,485,760 characters, more than"),
        ({"text": "a", "label": 1.5}, "got 1.5"),
        ({"text": "a", "label": float("nan")}, r"row 0 has no label \(it is nan\)"),
    ],
)
def test_rows_that_cannot_be_used(row, words):
    with pytest.raises(DataValidationError, match=words):
        load([row])


def test_columns():
    with pytest.raises(ConfigurationError, match="`group` must be a column's name"):
        load([{"text": "a", "label": "x"}], group=5.5)
    with pytest.raises(SchemaError, match="appears more than once"):
        load(b"text,label,label\na,b,c\n", name="x.csv")


def test_labels_sort_as_numbers_only_when_they_are():
    rows = [{"text": "a", "label": "--5"}, {"text": "b", "label": "-5"}]
    assert load(rows).classes == ("-5", "--5")


def test_half_a_surrogate_pair_can_be_stored():
    half = {"text": "a\ud800", "label": "x\ud800", "g": "\ud800", "id": "\ud800"}
    other = {"text": "a\udc80", "label": "x\udc80", "g": "\udc80", "id": "\udc80"}
    data = load([half, other], group="g")
    assert data.texts == ("a\\ud800", "a\\udc80")
    # names stay apart
    assert data.classes == ("x\\ud800", "x\\udc80")
    assert data.ids == tuple(data.groups["g"]) == ("\\ud800", "\\udc80")


def test_frames_and_tables():
    pd = pytest.importorskip("pandas")
    table = pa.table({"text": ["a"], "label": ["x"]})
    assert load(table).texts == ("a",)
    frame = load(pd.DataFrame({"text": ["a"], "label": ["x"]})).to_pandas()
    assert json.loads(frame.to_json(orient="records")) == [
        {"id": "0", "text": "a", "label": "x"}
    ]


def test_splits_that_cannot_be():
    data = load(toy_rows())
    words = (
        "`shares` must be positive for train, validation, calibration, test, "
        "got {'test': -0.1}"
    )
    with pytest.raises(ConfigurationError) as error:
        split_ledger(data, {**SHARES, "test": -0.1}, seed=0)
    assert words in str(error.value)
    with pytest.raises(ConfigurationError, match="`seed` must be a whole number"):
        split_ledger(data, SHARES, seed=-1)
    with pytest.raises(DataValidationError, match="`data` has no labels"):
        split_ledger(load([{"text": "a"}], label=None), SHARES, seed=0)


def test_copies_share_a_role_under_any_seed():
    copies = [{**row, "text": row["text"].upper() + "  "} for row in toy_rows()]
    twice = load([*toy_rows(), *copies])
    for seed in range(5):
        ledger = split_ledger(twice, SHARES, seed=seed)
        by_role = [{ledger.hashes[i] for i in ix} for ix in ledger.roles.values()]
        assert sum(map(len, by_role)) == len(set.union(*by_role))
        rows = np.concatenate(list(ledger.roles.values()))
        assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("column", [pd.Series(["a", "b"]), pd.Index(["a", "b"])])
def test_one_column_is_no_table(column):
    with pytest.raises(DataLoadingError, match="`source` must be a path"):
        load(column)
