"Arrow files and streams, Parquet and data sets of the hub: equal to what wrote them"

import io
import socket
import struct
import threading
import time

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from fine_tune_llm.core.errors import ConfigurationError, DataLoadingError
from fine_tune_llm.data import arrow
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.rows import read_rows
from fine_tune_llm.data.sources import Limits

ODD = pa.table(
    {
        "text": ["a", None, "é – ß", ""] * 50,
        "label": pa.array(["x", "y", None, "x"] * 50).dictionary_encode(),
        "n": pa.array([1, None, -3, 2**60] * 50),
        "w": pa.array([0.5, None, float("inf"), 1e-300] * 50, pa.float64()),
        "when": pa.array([0, None, 10**15, -1] * 50, pa.timestamp("us", "UTC")),
        "tags": [["a", "b"], None, [], [None]] * 50,
        "more": [{"x": 1, "y": ["z"]}, None, {"x": None, "y": None}, {"x": 2}] * 50,
        "raw": [b"\0\xff", None, b"", b"a"] * 50,
        "yes": [True, None, False, True] * 50,
    }
)


def written(table, kind="file", rows=None, **how):
    file = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(**how)
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("rows", [None, 7])
def test_rows_are_those_of_the_table(kind, compression, rows):
    raw = written(ODD, kind, rows, compression=compression)
    found, facts = read_rows(raw, "x.bin")
    assert found == ODD.to_pylist() and facts.columns == tuple(ODD.column_names)
    assert facts.read == {"format": "arrow"} and not facts.notes
    some, facts = read_rows(raw, "x", columns=["LABEL", "more"])
    assert some == ODD.select(["label", "more"]).to_pylist()


def test_feather_and_paths(tmp_path):
    pyarrow.feather.write_feather(ODD, tmp_path / "a.feather")
    assert read_rows(tmp_path / "a.feather")[0] == ODD.to_pylist()
    with pytest.raises(DataLoadingError, match="Feather file of version 1.*pandas"):
        load(b"FEA1" + bytes(100) + b"FEA1", name="b.feather")


def test_what_polars_writes(tmp_path):
    pl = pytest.importorskip("polars")
    words = ["short", "longer than what a view holds by itself", None] * 9
    kinds = pl.Series(["x", "y", None] * 9, dtype=pl.Categorical)
    frame = pl.DataFrame({"text": words, "label": kinds})
    for compression in ("uncompressed", "lz4", "zstd"):
        frame.write_ipc(tmp_path / "a.arrow", compression=compression)
        assert read_rows(tmp_path / "a.arrow")[0] == frame.to_dicts()
        frame.write_ipc_stream(tmp_path / "b.arrow", compression=compression)
        assert read_rows(tmp_path / "b.arrow")[0] == frame.to_dicts()


def test_columns_that_stand_twice():
    table = pa.table([["a"], ["x"], ["y"]], names=["text", "label", "label"])
    rows, facts = read_rows(written(table), "x")
    assert rows == [{"text": "a"}] and facts.twice == ("label",)
    assert read_rows(written(table), "x", columns=["none"])[0] == [{}]


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_every_end_that_is_too_early_is_told(kind):
    raw = written(ODD.slice(0, 20), kind, 5)
    for cut in range(1, len(raw), 37):
        try:
            rows, facts = read_rows(raw[:cut], "x.arrow")
        except DataLoadingError as e:
            assert "`x.arrow`" in str(e)
        else:  # a stream may end behind any batch
            assert kind == "stream" and len(rows) <= 20
            assert facts.notes == ("the stream has no mark at its end: is it whole?",)


# ---- larger than they look ----


def test_a_compressed_bomb(refusal):
    zeros = pa.table({"text": ["\0" * 2**27], "label": ["x"]})
    limits = Limits(max_bytes=2**24)
    for kind in ("file", "stream"):
        raw = written(zeros, kind, compression="zstd")
        assert len(raw) < 2**16
        said = refusal(lambda raw=raw: load(raw, limits=limits), kind, mebibytes=50)
        assert said == "DataLoadingError"


def test_a_length_that_a_file_makes_up(refusal):
    "The length before a compressed part is what Arrow would take of memory"
    table = pa.table({"text": ["abc" * 500] * 20, "label": ["x"] * 20})
    raw = written(table, compression="zstd")
    at = raw.index(struct.pack("<q", 20 * 1500))
    for length in (2**45, -5):
        damaged = raw[:at] + struct.pack("<q", length) + raw[at + 8 :]
        said = refusal(lambda d=damaged: load(d), length, mebibytes=50)
        assert said == "DataLoadingError"


def test_lists_of_nothing(refusal):
    "A few bytes that stand for 2**31 values"
    nothing = pa.nulls(2**31 - 1)
    lists = pa.ListArray.from_arrays(pa.array([0, 2**31 - 1], pa.int32()), nothing)
    raw = written(pa.table({"text": ["a"], "label": ["x"], "id": lists}))
    assert len(raw) < 2000
    said = refusal(lambda: load(raw), "nulls", mebibytes=50)
    assert said == "DataLoadingError"
    raw = written(pa.table({"text": pa.nulls(6_000_000)}))
    with pytest.raises(DataLoadingError, match="more than 5,000,000 rows"):
        load(raw)


def test_texts_that_lie_over_each_other(refusal):
    view = struct.pack("<i4sii", 2**18, b"aaaa", 0, 0)
    buffers = [None, pa.py_buffer(view * 100), pa.py_buffer(b"a" * 2**18)]
    texts = pa.Array.from_buffers(pa.string_view(), 100, buffers)
    raw = written(pa.table({"text": texts, "label": ["x"] * 100}))
    assert len(raw) < 2**19
    limits = Limits(max_bytes=2**22)
    said = refusal(lambda: load(raw, limits=limits), "views", mebibytes=20)
    assert said == "DataLoadingError"
    assert load(raw, max_chars=2**18).texts == ("a" * 2**18,) * 100


def test_one_text_in_many_rows(refusal):
    texts = pa.DictionaryArray.from_arrays([0] * 6000, ["a" * 2**20])
    raw = written(pa.table({"text": texts, "label": ["x"] * 6000}))
    limits = Limits(max_bytes=2**26)
    said = refusal(lambda: load(raw, limits=limits), "dictionary", mebibytes=200)
    assert said == "DataLoadingError"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["a"]], pa.list_(pa.string_view())),
        pa.array([["a"]], pa.list_view(pa.string())),
        pa.array([{"x": "a"}], pa.struct({"x": pa.dictionary(pa.int8(), pa.string())})),
        pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), ["a"]),
    ],
    ids=lambda column: str(column.type),
)
def test_types_whose_values_may_lie_over_each_other(column):
    raw = written(pa.table({"text": ["a"], "label": ["x"], "id": column}))
    with pytest.raises(DataLoadingError, match="`id` of .* is of type .*not read"):
        load(raw)
    assert read_rows(raw, "x", columns=["text"])[0] == [{"text": "a"}]


# ---- the hub's library ----


@pytest.fixture(scope="module")
def hub():
    return pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def mails(hub):
    kinds = hub.ClassLabel(names=["ham", "spam"])
    features = {"text": hub.Value("string"), "label": kinds, "all": hub.List(kinds)}
    columns = {
        "text": ["a", "b", "c"],
        "label": [1, 0, -1],
        "all": [[0, 1], [], [-1]],
    }
    return hub.Dataset.from_dict(columns, features=hub.Features(features))


NAMED = [
    {"text": "a", "label": "spam", "all": ["ham", "spam"]},
    {"text": "b", "label": "ham", "all": []},
    {"text": "c", "label": None, "all": [None]},
]


def test_a_dataset_gives_names(hub, mails, tmp_path):
    assert read_rows(mails)[0] == NAMED
    assert read_rows(mails.to_iterable_dataset())[0] == NAMED
    assert read_rows(mails.with_format("numpy"))[0] == NAMED
    assert read_rows(mails.select([2, 0]))[0] == [NAMED[2], NAMED[0]]
    assert load(mails.select([0, 1])).classes == ("ham", "spam")
    assert read_rows(mails.data.table)[0] == mails.data.table.to_pylist()
    hub.disable_progress_bars()
    mails.to_parquet(tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet")[0] == NAMED
    mails.save_to_disk(tmp_path / "saved", num_shards=2)
    rows, facts = read_rows(tmp_path / "saved")
    assert rows == NAMED and facts.read == {"format": "dataset"}
    (shard,) = (tmp_path / "saved").glob("data-00000*")
    shard.write_bytes(shard.read_bytes()[:-400])
    with pytest.raises(DataLoadingError, match="not readable as Arrow|not whole"):
        load(tmp_path / "saved")


def test_splits(hub, mails, tmp_path):
    hub.disable_progress_bars()
    both = hub.DatasetDict(train=mails, test=mails.select([0]))
    both.save_to_disk(tmp_path / "saved")
    for source in (both, tmp_path / "saved"):
        rows, facts = read_rows(source)
        assert rows == NAMED and facts.read["split"] == "train"
        assert "there are test, too" in facts.notes[0]
        rows, facts = read_rows(source, table="test")
        assert rows == NAMED[:1] and not facts.notes
        with pytest.raises(ConfigurationError, match="no split `tests`; it has: train"):
            read_rows(source, table="tests")
    halves = hub.DatasetDict(a=mails, b=mails)
    with pytest.raises(ConfigurationError, match="several splits: a, b. Name one with"):
        load(halves)
    with pytest.raises(ConfigurationError, match="has no splits"):
        load(mails, table="train")


def test_a_class_without_a_name(hub):
    kinds = hub.ClassLabel(names=["ham"])
    features = hub.Features({"text": hub.Value("string"), "label": kinds})
    table = pa.table({"text": ["a"], "label": pa.array([3], pa.int64())})
    raw = written(table.cast(features.arrow_schema))
    with pytest.raises(DataLoadingError, match="`label` has class 3, and names for 1"):
        load(raw)


def test_names_that_somebody_made_up():
    for said in (b"[]", b"{", b'{"info": {"features": []}}', b'{"info": 3}'):
        table = pa.table({"text": ["a"], "label": [0]})
        raw = written(table.replace_schema_metadata({b"huggingface": said}))
        assert load(raw).classes == ("0",)
        file = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({b"huggingface": said}), file)
        assert load(file.getvalue()).classes == ("0",)


# ---- the hub itself ----


def test_offline_it_is_told_at_once(hub):
    begun = time.monotonic()
    with pytest.raises(DataLoadingError, match="hub:nobody/nothing.*HF_HUB_OFFLINE"):
        load("hub:nobody/nothing")
    assert time.monotonic() - begun < 5
    with pytest.raises(ConfigurationError, match="Such as hub:owner/name"):
        load("hub:../../etc")


def test_a_hub_that_does_not_answer(hub, monkeypatch):
    "It takes the connection, and says nothing"
    from huggingface_hub import constants

    silent = socket.create_server(("127.0.0.1", 0))
    held = []

    def hold():
        while True:
            try:
                held.append(silent.accept())
            except OSError:
                return

    threading.Thread(target=hold, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    address = f"http://127.0.0.1:{silent.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
    monkeypatch.setattr(arrow, "_HUB_WAIT", 0.2)
    try:
        with pytest.raises(DataLoadingError, match="cannot be loaded"):
            load("hub:owner/name")
    finally:
        silent.close()


def test_what_looks_like_a_name_of_the_hub_gets_a_hint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("imdb", "owner/name"):
        with pytest.raises(DataLoadingError, match=f"is named hub:{name}"):
            load(name)
    with pytest.raises(DataLoadingError, match="does not exist. Check") as error:
        load("some/folder/mails.csv")
    assert "hub" not in str(error.value)


def test_a_dataset_of_the_hub(hub, mails, monkeypatch):
    "By its configuration and split; what the library downloads stands in for it"
    asked = []

    def load_dataset(name, config, *, revision):
        asked.append((name, config, revision))
        return hub.DatasetDict(train=mails, test=mails.select([0]))

    monkeypatch.setattr(hub, "load_dataset", load_dataset)
    rows, facts = read_rows("hub:owner/name@v1", table="small/test")
    assert asked == [("owner/name", "small", "v1")] and rows == NAMED[:1]
    told = {"format": "dataset", "split": "test", "revision": "v1"}
    assert facts.read == told | {"configuration": "small"}
    assert facts.name == "hub:owner/name@v1"
