"What a file can be, and what a row can lack: each refused with the place"

import json
import sqlite3

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
from fine_tune_llm.data.schema import Schema
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


GOOD = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"max_chars": "5"}, "`max_chars` must be a whole number, 1 or more, got '5'"),
        ({"max_chars": 0}, "`max_chars` must be a whole number, 1 or more, got 0"),
        ({"max_chars": None}, "`max_chars` must be"),
        ({"limits": 5}, r"`limits` must be `Limits`, got 5.*Limits\(max_rows=1000\)"),
        ({"limits": 0}, "`limits` must be `Limits`, got 0"),
        ({"schema": {"text": "body"}}, r"must be a `Schema`.*Schema\(text='body'\)"),
        ({"schema": "body"}, r"must be a `Schema`.*Schema\(text='text'\)"),
        ({"schema": 0}, "must be a `Schema`, got 0"),
        ({"text": "text", "label": "text"}, "`text` and `label` both name the column"),
        ({"text": "Text", "label": "text"}, "`text` and `label` both name the column"),
        ({"schema": Schema(votes="text")}, "`text` and `votes` both name the column"),
    ],
)
def test_arguments_are_checked_in_words(how, words):
    with pytest.raises(ConfigurationError, match=words):
        load(GOOD, **how)


def test_a_vote_counts_once():
    with pytest.raises(ConfigurationError, match="names the column `v` twice"):
        Schema(votes=["v", "w", "v"])
    with pytest.raises(ConfigurationError, match="names the column `3` twice"):
        Schema(votes=[3, "3"])
    assert Schema(votes=["v", "w"]).votes == ("v", "w")


def test_a_chat_holds_text_and_label():
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "x"}]
    data = load([{"messages": said}], text="messages", label="messages")
    assert (data.texts, data.classes) == (("Hi",), ("x",))


KINDS = ("a path, bytes", "list of dicts", "dict of lists", "DataFrame", "Arrow table")
KINDS += ("`datasets`", "SQLAlchemy of a database")


def test_what_is_no_source_is_told_all_that_are():
    for source in (5, object(), {"text": "a"}, sqlite3.connect(":memory:")):
        with pytest.raises(DataLoadingError) as e:
            load(source, table="t")
        assert all(kind in str(e.value) for kind in KINDS)
    assert "got sqlite3.Connection" in str(e.value)
    assert "sqlalchemy.create_engine('sqlite:///mails.db')" in str(e.value)


@pytest.mark.parametrize("end", [list, tuple])
def test_columns_of_unequal_lengths(end):
    columns = {"text": end(["a", "b"]), "label": end(["x"])}
    with pytest.raises(DataLoadingError, match="number of values: `text` 2, `label` 1"):
        load(columns)


@pytest.mark.parametrize("source", [b"{}", b"[{}]", [{}], b"{}\n{}\n"])
def test_rows_without_fields(source):
    with pytest.raises(
        SchemaError, match="no column `text`; no row has a field.*Every"
    ):
        load(source, name="a.jsonl")


@pytest.mark.parametrize("used", [",", ";", "|", "\t"])
@pytest.mark.parametrize("written", [",", ";", "|", "\t"])
def test_the_wrong_separator_is_said(used, written):
    raw = f"Text{written}label\nhello{written}x\nmoin{written}y\n".encode()
    if used == written:
        assert load(raw, name="a.csv", separator=used).classes == ("x", "y")
        return
    with pytest.raises(SchemaError) as e:
        load(raw, name="a.csv", separator=used)
    assert f"probably {written!r} and not {used!r}" in str(e.value)
    assert "Did you mean" not in str(e.value)


def test_a_column_is_named_where_it_can_be():
    for what in ("split", "time", "weight", "votes"):
        with pytest.raises(SchemaError) as e:
            load(GOOD, schema=Schema(**{what: "gone"}))
        assert f"data.{what}= (in Python schema=Schema({what}=...))" in str(e.value)
    with pytest.raises(SchemaError, match=r"data.time=`wann` \(in Python schema=Sch"):
        load([dict(GOOD[0], wann="2024")], schema=Schema(time="wan"))
    for what in ("text", "label", "group", "cluster"):
        with pytest.raises(SchemaError, match=f"Name it with {what}="):
            load(GOOD, **{what: "gone"})


def test_files_of_a_folder_are_named(tmp_path):
    for name in ("a/1.txt", "a/2.txt", "b/3.txt", "b/4.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("" if name == "b/3.txt" else name)
    with pytest.raises(DataValidationError, match="file b/3.txt has no text"):
        load(tmp_path)
    (tmp_path / "a" / "2.txt").write_text(" ")
    with pytest.raises(DataValidationError, match="no text: files a/2.txt, b/3.txt"):
        load(tmp_path)
    with pytest.raises(DataValidationError, match="have no text: rows 1, 2"):
        load(tmp_path, schema=Schema(id="label"))


@pytest.mark.parametrize("odd", [5, "ab", True])
def test_a_separator_is_one_character(odd):
    with pytest.raises(ConfigurationError, match="`separator` must be one character"):
        load(b"text,label\na,x\n", name="a.csv", separator=odd)
