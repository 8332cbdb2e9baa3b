"Files that are damaged, endless or larger than they look: an error of ours, soon"

import bz2
import gzip
import io
import json
import lzma
import os
import sqlite3
import subprocess
import sys
import threading
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fine_tune_llm.core.errors import ConfigurationError, DataLoadingError
from fine_tune_llm.data import json_files, sources
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.rows import read_rows
from fine_tune_llm.data.sources import Limits, expand, read_bytes
from fine_tune_llm.testing import mutants, toy_rows

# damaged copies of each file: FTLLM_MUTANTS=4000 makes some 50,000
MUTANTS = int(os.environ.get("FTLLM_MUTANTS", 120))
ROWS = [dict(row, group=i % 3, note="é–ß") for i, row in enumerate(toy_rows(32)[10:22])]
CSV = "text,label,group,note\n" + "".join(
    f'"{r["text"]}, ""or""\nnot",{r["label"]},{r["group"]},{r["note"]}\n' for r in ROWS
)


def arrow_of(rows, new, **how):
    file, table = io.BytesIO(), pa.Table.from_pylist(rows)
    with new(file, table.schema, options=pa.ipc.IpcWriteOptions(**how)) as writer:
        writer.write_table(table, max_chunksize=5)
    return file.getvalue()


def workbook_of(rows):
    openpyxl = pytest.importorskip("openpyxl")
    book, file = openpyxl.Workbook(), io.BytesIO()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    book.active.merge_cells("D3:D5")
    book.save(file)
    return file.getvalue()


def stored(raw):
    "An archive without compression, so that damage reaches the XML"
    file, parts = io.BytesIO(), zipfile.ZipFile(io.BytesIO(raw))
    with zipfile.ZipFile(file, "w") as archive:
        for name in parts.namelist():
            archive.writestr(name, parts.read(name))
    return file.getvalue()


def database_of(rows):
    pytest.importorskip("sqlalchemy")
    connection = sqlite3.connect(":memory:")
    connection.execute('CREATE TABLE mails (text, label, "group", note)')
    columns = ("text", "label", "group", "note")
    values = [[row[column] for column in columns] for row in rows]
    connection.executemany("INSERT INTO mails VALUES (?, ?, ?, ?)", values)
    connection.commit()
    return connection.serialize()


def parquet_of(rows, **how):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, **how)
    return file.getvalue()


LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CHATS = [
    {"messages": [{"role": "user", "content": r["text"]}], "label": r["label"]}
    for r in ROWS
]
WELL = {
    "a.csv": CSV.encode(),
    "b.csv": CSV.encode("cp1252"),
    "c.tsv": CSV.replace(', ""or""\nnot', "").replace(",", "\t").encode("utf-16"),
    "a.jsonl": LINES.encode(),
    "b.jsonl": "".join(json.dumps(chat) + "\n" for chat in CHATS).encode(),
    "a.json": json.dumps(ROWS, indent=1).encode(),
    "b.json": json.dumps({k: [r[k] for r in ROWS] for k in ROWS[0]}).encode(),
    "a.parquet": parquet_of(ROWS),
    "b.parquet": parquet_of(CHATS, compression="gzip", use_dictionary=False),
    "a.csv.gz": gzip.compress(CSV.encode(), mtime=0),
    "a.jsonl.xz": lzma.compress(LINES.encode()),
    "a.csv.bz2": bz2.compress(CSV.encode()),
    "a.jsonl.zst": pa.compress(LINES.encode(), "zstd", asbytes=True),
    "a.arrow": arrow_of(ROWS, pa.ipc.new_file),
    "b.arrow": arrow_of(CHATS, pa.ipc.new_file, compression="zstd"),
    "c.arrow": arrow_of(ROWS, pa.ipc.new_stream, compression="lz4"),
    "d.arrow": arrow_of(CHATS, pa.ipc.new_stream),
    "a.xlsx": workbook_of(ROWS),
    "b.xlsx": stored(workbook_of(ROWS)),
    "a.db": database_of(ROWS),
    "nothing": LINES.encode(),
}


@pytest.mark.parametrize("name", WELL)
def test_well_files_are_read(name):
    data = load(WELL[name], name=name)
    assert len(data) == len(ROWS) and data.classes == ("garden", "kitchen")


@pytest.mark.parametrize("name", WELL)
def test_mutants(name, refusal):
    "About 1,500 damaged files: a dataset or an error of ours, soon, in little memory"
    for damaged in mutants(WELL[name], MUTANTS, seed=len(name)):

        def call(damaged=damaged):
            load(damaged, group=["group"], name=name, limits=Limits(max_bytes=2**22))

        refusal(call, damaged)


# ---- larger than they look ----


def test_a_header_of_many_columns(refusal):
    header = ",".join(f"c{i}" for i in range(9_000))
    row = ",".join("x" * 9_000)
    raw = f"{header},text,label\n{row},a,b\n".encode()
    assert load(raw, name="x.csv").texts == ("a",)
    many = ",".join(f"c{i}" for i in range(100_000)).encode() + b"\n"
    with pytest.raises(DataLoadingError, match="more than 10,000 columns.*max_columns"):
        load(many, name="x.csv")
    with pytest.raises(DataLoadingError, match="a line has more than 10,000 columns"):
        load(b"text,label\n" + b"," * 2_000_000, name="x.csv")
    fields = json.dumps({f"c{i}": 1 for i in range(100_000)}).encode()
    with pytest.raises(DataLoadingError, match="more than 10,000 columns"):
        load(fields, name="x.jsonl")


def test_many_rows():
    raw = b"text\n" + b"a\n" * 11
    with pytest.raises(DataLoadingError, match="more than 10 rows.*data.max_rows"):
        load(raw, name="x.csv", label=None, limits=Limits(max_rows=10))
    with pytest.raises(DataLoadingError, match="more than 10 rows"):
        load([{"text": "a"}] * 11, label=None, limits=Limits(max_rows=10))


def test_deep_json(refusal):
    for raw in (b"[" * 10**6, b'{"a":' * 10**6, b'{"text": ' + b"[" * 10**5):
        assert refusal(lambda raw=raw: load(raw), raw[:20]) == "DataLoadingError"
    deep = [{"text": "a", "label": "x", "more": None}]
    for _ in range(10**5):
        deep[0]["more"] = [deep[0]["more"]]
    assert refusal(lambda: load(deep), "deep") is None


def test_json_of_nothing_but_brackets(monkeypatch):
    monkeypatch.setattr(json_files, "_MOST_VALUES", 1000)
    with pytest.raises(DataLoadingError, match="more than 1,000 values"):
        load(b'{"text": [' + b"[]," * 600 + b"[]]}")


def zstd(raw):
    return pa.compress(raw, "zstd", asbytes=True)


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_compressed_bombs(squeeze, refusal):
    raw = squeeze(bytes(30 * 2**20))
    with pytest.raises(DataLoadingError, match="expands to has more than .*max_bytes"):
        load(raw, name="x.csv", limits=Limits(max_bytes=2**20))
    twice = squeeze(b"text\n") + squeeze(b"a\n")
    assert load(twice, name="x.csv", label=None).texts == ("a",)
    torn = squeeze(b"text\na\n" * 1000)
    for cut in (1, 5, 20, len(torn) // 2):
        with pytest.raises(DataLoadingError, match="not readable as"):
            expand(torn[:-cut], "x")


def test_a_zip_archive_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", bytes(10**7))
    with pytest.raises(DataLoadingError, match="is a zip archive"):
        load(file.getvalue(), name="a.csv")


def test_a_dictionary_that_expands_is_refused(refusal):
    "One text of 1 MB that stands in 6,000 rows of a file of some kilobytes"
    texts = pa.DictionaryArray.from_arrays([0] * 6000, ["a" * 2**20])
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "label": ["x"] * 6000}), file)
    raw = file.getvalue()
    assert len(raw) < 2**21
    limits = Limits(max_bytes=2**26)
    said = refusal(lambda: load(raw, limits=limits), "dictionary", mebibytes=200)
    assert said == "DataLoadingError"


def test_parquet_with_more_rows_than_it_looks():
    raw = parquet_of([{"text": "a", "label": "x"}] * 20_000)
    with pytest.raises(DataLoadingError, match="more than 10,000 rows"):
        load(raw, limits=Limits(max_rows=10_000))


# ---- paths that are no files ----


def test_devices_have_no_end(tmp_path):
    with pytest.raises(DataLoadingError, match="/dev/zero` is a device"):
        load("/dev/zero")
    with pytest.raises(DataLoadingError, match="is empty"):
        load("/dev/null")


def test_a_pipe_without_a_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_PIPE_WAIT", 0.1)
    os.mkfifo(tmp_path / "p.csv")
    with pytest.raises(DataLoadingError, match="is a pipe that nobody writes to"):
        load(tmp_path / "p.csv")


def test_a_pipe_with_a_writer(tmp_path):
    path = tmp_path / "p.csv"
    os.mkfifo(path)
    raw = b"text,label\n" + b"hello,a\n" * 50_000

    def write():
        with open(path, "wb", buffering=0) as file:
            file.write(raw)

    writer = threading.Thread(target=write)
    writer.start()
    assert len(load(path)) == 50_000
    writer.join()


def test_an_endless_pipe_is_stopped(tmp_path):
    path = tmp_path / "p.csv"
    os.mkfifo(path)
    endless = subprocess.Popen(["sh", "-c", f"yes a,b > {path}"])
    try:
        with pytest.raises(DataLoadingError, match="more than 1,000,000 bytes"):
            load(path, limits=Limits(max_bytes=10**6))
    finally:
        endless.kill()
        endless.wait()


def test_process_substitution_and_standard_input(tmp_path):
    code = "import sys; from fine_tune_llm.data import load; print(load(sys.argv[1]))"
    rows = "text,label\\na,x\\nb,y\\n"
    for words in (f"<(printf '{rows}')", f"- < <(printf '{rows}')", "- <&-", "<(true)"):
        command = f'{sys.executable} -c "{code}" {words}'
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        if "printf" in words:
            assert "Dataset(2 texts" in done.stdout, done.stderr
        else:
            assert "DataLoadingError" in done.stderr.splitlines()[-1], done.stderr


def test_links_and_modes(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataLoadingError, match="is a link that leads back to itself"):
        load(tmp_path / "loop")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(DataLoadingError, match="nowhere.csv`, which does not exist"):
        load(tmp_path / "lost")
    (tmp_path / "good").symlink_to(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("text,label\na,x\n")
    assert load(tmp_path / "good").classes == ("x",)
    with pytest.raises(DataLoadingError, match="is no path"):
        load("a\0b")
    with pytest.raises(DataLoadingError, match="cannot be read"):
        load("a" * 5000)
    if os.geteuid():
        (tmp_path / "a.csv").chmod(0)
        with pytest.raises(DataLoadingError, match="permission denied"):
            load(tmp_path / "a.csv")


def test_a_file_is_not_read_beyond_the_limit(tmp_path):
    with open(tmp_path / "sparse.csv", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataLoadingError, match="more than 1,073,741,824 bytes"):
        read_bytes(tmp_path / "sparse.csv")
    with pytest.raises(DataLoadingError, match="more than 3 bytes"):
        read_rows(b"text", limits=Limits(max_bytes=3))
    with pytest.raises(ConfigurationError, match="`max_rows` must be a whole number"):
        Limits(max_rows=0)
