"Workbooks, databases and folders: read as what they are, never written"

import builtins
import datetime
import gzip
import io
import os
import sqlite3
import zipfile

import pytest

from fine_tune_llm.core.errors import (
    ConfigurationError,
    DataLoadingError,
    DataValidationError,
    MissingDependencyError,
    SchemaError,
)
from fine_tune_llm.core.redaction import redact
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.rows import read_rows
from fine_tune_llm.data.sources import Limits

ROWS = [("win a prize", "spam"), ("see you at 6", "ham"), ("lunch?", "ham")]


def without(monkeypatch, module):
    "As if a library were not installed"
    real = builtins.__import__

    def refuse(name, *more, **how):
        if name.partition(".")[0] == module:
            raise ImportError(f"No module named {module!r}", name=module)
        return real(name, *more, **how)

    monkeypatch.setattr(builtins, "__import__", refuse)


# ---- workbooks ----


@pytest.fixture(scope="module")
def openpyxl():
    return pytest.importorskip("openpyxl")


@pytest.fixture
def book(openpyxl):
    "Makes the bytes of a workbook: rows of its sheets by name"

    def make(change=None, /, **sheets):
        made = openpyxl.Workbook()
        made.remove(made.active)
        for title, rows in sheets.items():
            sheet = made.create_sheet(title)
            for row in rows:
                sheet.append(row)
        if change is not None:
            change(made)
        file = io.BytesIO()
        made.save(file)
        return file.getvalue()

    return make


HEADED = [("text", "label"), *ROWS]


def test_a_sheet_is_read(book, tmp_path):
    (tmp_path / "mails.xlsx").write_bytes(book(mails=HEADED))
    data = load(tmp_path / "mails.xlsx")
    assert data.texts == tuple(text for text, _ in ROWS)
    assert data.classes == ("ham", "spam") and "notes" not in data.source
    read = {"format": "xlsx", "sheet": "mails", "header": "yes"}
    assert data.source["read"] == read
    packed = load(gzip.compress(book(mails=HEADED)), name="a.xlsx.gz")
    assert packed.source["read"] == read | {"compression": "gzip"}


def test_the_sheet_that_is_meant(book):
    raw = book(cover=[], mails=HEADED, old=HEADED[:2])
    data = load(raw)
    assert len(data) == 3 and data.source["read"]["sheet"] == "mails"
    assert "there are `cover`, `old`, too (data.table)" in data.source["notes"][0]
    data = load(raw, table="old")
    assert len(data) == 1 and "notes" not in data.source
    with pytest.raises(ConfigurationError, match="no sheet `mail`.*Did you mean"):
        load(raw, table="mail")
    with pytest.raises(
        DataLoadingError, match="sheet `cover` of `input` holds nothing"
    ):
        load(raw, table="cover")
    with pytest.raises(DataLoadingError, match="holds nothing"):
        load(book(a=[], b=[]))

    def hide(made):
        made["hidden"].sheet_state = "hidden"

    raw = book(hide, hidden=HEADED[:2], shown=HEADED)
    assert load(raw).source["read"]["sheet"] == "shown"


def test_values_of_cells(book):
    day = datetime.datetime(2024, 5, 1, 13, 30)
    rows = [
        ("text", "label", "n", "when"),
        ("a", 1, 1.0, day),
        (911, 1.0, 2.5, datetime.date(2024, 5, 2)),
        (True, "1", None, None),
        ("d", 2, "x", "soon"),
    ]
    data = load(book(s=rows), group=["n", "when"])
    assert data.texts == ("a", "911", "True", "d") and data.classes == ("1", "2")
    assert list(data.groups["n"]) == ["1", "2.5", None, "x"]
    assert list(data.groups["when"])[1:] == ["2024-05-02", None, "soon"]
    assert (
        "numbers among the texts of `text` are read as words (rows 3, 4)"
        in (data.source["notes"])
    )
    with pytest.raises(
        DataValidationError, match="text that is no string but int: lines 2, 3"
    ):
        load(book(s=[("text", "label"), (1, "a"), (2, "b")]))


def test_places_are_rows_of_the_sheet(book):
    rows = [(), (), ("text", "label"), ("a", "x"), (None, None), ("b", None)]
    with pytest.raises(DataValidationError, match="line 6 has no label"):
        load(book(s=rows), name="a.xlsx")
    rows[-1] = ("b", "#N/A")
    with pytest.raises(DataValidationError, match="line 6 has no label"):
        load(book(s=rows), name="a.xlsx")
    data = load(book(s=[*rows, ("c", "y")]), label=None)
    assert data.place(2) == "`input` line 7"
    assert "#N/A are read as empty (row 6)" in data.source["notes"][0]


def test_a_merged_cell_stands_for_all_its_rows(book):
    rows = [("text", "label"), *((f"t{i}", "x" if i == 1 else None) for i in range(5))]
    rows[1] = ("t0", "w")

    def merge(made):
        made["s"].merge_cells("B3:B5")
        made["s"].merge_cells("A1:A1")

    with pytest.raises(DataValidationError, match="line 6 has no label"):
        load(book(merge, s=rows))
    rows[-1] = ("t4", "z")
    data = load(book(merge, s=rows))
    assert [data.classes[y] for y in data.labels] == ["w", "x", "x", "x", "z"]


def test_columns_without_names(book):
    data = load(book(s=ROWS * 3), text="0", label="1")
    assert len(data) == 9 and data.source["read"]["header"] == "no"
    with pytest.raises(SchemaError, match='text="0", label="1"'):
        load(book(s=ROWS * 3))
    raw = book(s=[("text", "label", None, None), ("a", "x", 1, 2)])
    assert load(raw).texts == ("a",)  # cells under no name


def test_what_a_workbook_says_of_its_size_is_not_believed(book):
    parts = zipfile.ZipFile(io.BytesIO(book(s=HEADED)))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for part in parts.namelist():
            said = parts.read(part)
            if part.endswith("sheet1.xml"):
                assert b'ref="A1:B4"' in said
                said = said.replace(b'ref="A1:B4"', b'ref="A1"')
            archive.writestr(part, said)
    assert len(load(file.getvalue())) == 3


def changed(raw, part, old, new, n=1):
    "A workbook with another word in one of its parts"
    parts = zipfile.ZipFile(io.BytesIO(raw))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in parts.namelist():
            said = parts.read(name)
            if name == part:
                assert old in said
                said = said.replace(old, new, n)
            archive.writestr(name, said)
    return file.getvalue()


SHEET = "xl/worksheets/sheet1.xml"


def test_workbooks_that_are_larger_than_they_look(book, refusal):
    raw = book(s=HEADED)
    fat = changed(raw, SHEET, b"<sheetData>", b"<sheetData>" + b" " * 2**25)
    assert len(fat) < 2**17
    with pytest.raises(DataLoadingError, match="expands to has more than .* bytes"):
        load(fat, limits=Limits(max_bytes=2**22))
    far = changed(raw, SHEET, b'<row r="4"', b'<row r="99999999999"')
    assert refusal(lambda: load(far), "a row far below") in (None, "DataLoadingError")
    with pytest.raises(DataLoadingError, match="more than 2 rows"):
        load(raw, limits=Limits(max_rows=2))
    wide = changed(raw, SHEET, b'r="B4"', b'r="ZZZ4"')
    with pytest.raises(DataLoadingError, match="more than 10,000 columns"):
        load(wide)
    words = b'<!DOCTYPE a [<!ENTITY a "aaaa">]><worksheet'
    with pytest.raises(DataLoadingError, match="DOCTYPE"):
        load(changed(raw, SHEET, b"<worksheet", words))


def zipped(**parts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, said in parts.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), said)
    return file.getvalue()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 64,
            r"old Excel workbook \(.xls\).*save it",
        ),
        (
            zipped(mimetype="", content_dot_xml=""),
            r"OpenDocument file \(.ods\).*Save it",
        ),
        (zipped(xl__workbook_dot_bin=""), r"binary workbook \(.xlsb\)"),
        (zipped(train_dot_csv="text"), "zip archive of train.csv.*Unpack it"),
        (zipped(xl__worksheets__sheet1_dot_xml=""), "not readable as a workbook"),
        (b"PK\3\4 torn", "not readable as a workbook"),
    ],
)
def test_what_is_no_workbook(openpyxl, raw, says):
    with pytest.raises(DataLoadingError, match=says):
        load(raw, name="mails.xlsx")


def test_without_openpyxl(book, monkeypatch):
    raw = book(s=HEADED)
    without(monkeypatch, "openpyxl")
    with pytest.raises(MissingDependencyError, match="fine_tune_llm.excel."):
        load(raw)


def test_what_pandas_writes(openpyxl, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    frame.to_excel(tmp_path / "a.xlsx")
    assert load(tmp_path / "a.xlsx").texts == tuple(frame["text"])


# ---- databases ----


@pytest.fixture(scope="module")
def sqlalchemy():
    return pytest.importorskip("sqlalchemy")


@pytest.fixture
def database(sqlalchemy, tmp_path):
    "A file of two tables and a view"
    connection = sqlite3.connect(tmp_path / "mails.db")
    connection.executescript(
        'CREATE TABLE mails (id, text, label, "group");'
        "CREATE TABLE notes (body); CREATE VIEW spam AS SELECT * FROM mails "
        "WHERE label = 'spam'"
    )
    rows = [(f"m{i}", *row, i) for i, row in enumerate(ROWS)]
    connection.executemany("INSERT INTO mails VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return tmp_path / "mails.db"


@pytest.mark.parametrize("way", ["path", "text", "address", "engine", "bytes", "gzip"])
def test_a_table(database, sqlalchemy, way):
    source, name = {
        "path": (database, None),
        "text": (str(database), None),
        "address": (f"sqlite:///{database}", None),
        "engine": (sqlalchemy.create_engine(f"sqlite:///{database}"), None),
        "bytes": (database.read_bytes(), "mails.db"),
        "gzip": (gzip.compress(database.read_bytes()), "mails.db.gz"),
    }[way]
    before = database.read_bytes(), sorted(os.listdir(database.parent))
    data = load(source, table="mails", group="group", name=name)
    assert data.texts == tuple(text for text, _ in ROWS)
    assert data.ids == ("m0", "m1", "m2") and list(data.groups["group"]) == list("012")
    read = {"format": "database", "table": "mails", "dialect": "sqlite"}
    read |= {"compression": "gzip"} if way == "gzip" else {}
    assert data.source["read"] == read
    assert "mails.db" in data.source["name"]
    assert before == (database.read_bytes(), sorted(os.listdir(database.parent)))


def test_a_query_and_a_view(database):
    query = (
        "-- mails\nSELECT upper(text) AS text, label FROM mails WHERE label != ':x';"
    )
    data = load(database, table=query)
    assert data.texts[0] == "WIN A PRIZE"
    assert data.source["read"]["query"] == query
    assert load(f"sqlite:///{database}", table="spam").classes == ("spam",)
    both = "SELECT a.text, b.text, a.label FROM mails a, mails b"
    with pytest.raises(SchemaError, match="`text` .* appears more than once"):
        load(database, table=both)


def test_the_only_table(sqlalchemy, database):
    with pytest.raises(
        ConfigurationError, match="has tables: mails, notes, spam. Name"
    ):
        load(database)
    with pytest.raises(ConfigurationError, match="no table `mail`; it has: mails"):
        load(database, table="mail")
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO notes VALUES ('a')")
    with pytest.raises(SchemaError, match="Its other tables: mails, spam"):
        load(database, table="notes", text="subject")
    with sqlite3.connect(database) as connection:
        connection.executescript("DROP VIEW spam; DROP TABLE notes")
    assert len(load(database)) == 3


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM mails",
        "drop table mails",
        "SELECT 1; DROP TABLE mails",
        "WITH a AS (DELETE FROM mails RETURNING *) SELECT * FROM a",
        "select * into copy from mails",
        "INSERT INTO mails VALUES (1)",
        "UPDATE mails SET label = 'x'",
        "/* SELECT */ CREATE TABLE a (b)",
        "SELECT ';' ; DELETE FROM mails",
        "ATTACH DATABASE 'x.db' AS x",
    ],
)
def test_what_writes_is_not_sent(database, query):
    before = database.read_bytes()
    with pytest.raises(ConfigurationError, match="one query that only reads; it has `"):
        load(database, table=query)
    assert before == database.read_bytes()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT text, label FROM mails WHERE text != 'delete; drop'",
        'SELECT text, label AS "label" FROM mails -- update',
        "WITH a AS (SELECT text, label FROM mails) SELECT * FROM a",
        "VALUES (1, 2)",
        "select\n*\nfrom\nmails;",
    ],
)
def test_what_reads_is_sent(database, query):
    rows, _ = read_rows(database, table=query)
    assert rows


def test_even_sqlite_cannot_write(database, sqlalchemy, monkeypatch):
    "Were a word overlooked, the connection refuses it"
    from fine_tune_llm.data import tables

    monkeypatch.setattr(tables, "_is_query", lambda table: True)
    for source in (database, database.read_bytes()):
        with pytest.raises(DataLoadingError, match="readonly|not allow"):
            read_rows(source, table="DELETE FROM mails")


def test_an_open_connection_is_left_as_it_was(database, sqlalchemy):
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        assert len(load(connection, table="mails")) == 3
        assert not connection.in_transaction()
        connection.execute(sqlalchemy.text("INSERT INTO notes VALUES ('mine')"))
        assert len(read_rows(connection, table="notes")[0]) == 1
        assert connection.in_transaction()
        with pytest.raises(ConfigurationError):
            load(connection, table="nowhere")
        connection.commit()
    assert len(read_rows(database, table="notes")[0]) == 1


def test_a_database_in_use(database):
    "What a writer has committed is seen, what it has not is not"
    with sqlite3.connect(database) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO notes VALUES ('in the log')")
        writer.commit()
        writer.execute("INSERT INTO notes VALUES ('open')")
        assert read_rows(database, table="notes")[0] == [{"body": "in the log"}]
    assert len(read_rows(database.read_bytes(), table="mails")[0]) == 3


def test_credentials_are_not_told(monkeypatch, sqlalchemy):
    secret = "s3cr/t@w?rd"
    for address in (
        f"postgresql+psycopg://ann:{secret}@127.0.0.1:1/mails",
        f"oracle+nothing://ann:{secret}@127.0.0.1:1/mails",
        f"mysql+pymysql://127.0.0.1:1/mails?user=ann&password={secret}",
        f"nothing://ann:{secret}@",
    ):
        with pytest.raises((ConfigurationError, MissingDependencyError)) as error:
            load(address, table="mails")
        said = f"{error.value} {error.value.context} {error.value.__cause__}"
        assert not any(part in said for part in ("ann", "s3cr", "t@w", "rd")), said
    for address in (
        "https://ann:hunter22@host/a.csv",
        "s3://bucket/a.csv?key=hunter22",
    ):
        with pytest.raises(DataLoadingError, match="Download it") as error:
            load(address)
        assert "hunter22" not in str(error.value)


def test_what_a_driver_says_is_told_without_secrets(sqlalchemy):
    "A driver that says all it knows, as some do"

    def connect():
        raise sqlite3.OperationalError("no entry for ann:hunter22xyz on host\nmore")

    engine = sqlalchemy.create_engine("sqlite://", creator=connect)
    url = sqlalchemy.make_url("postgresql://ann:hunter22xyz@host/mails")
    engine.url = url
    with pytest.raises(DataLoadingError) as error:
        load(engine, table="mails")
    assert "`postgresql://host/mails` cannot be read" in str(error.value)
    assert "hunter22xyz" not in f"{error.value}{error.value.__cause__}"
    assert "hunter22xyz" not in redact("hunter22xyz")  # in no log from now on


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("sqlite:///nowhere.db", "`nowhere.db` does not exist"),
        ("sqlite://", "is a directory|does not exist"),
        (b"SQLite format 3\0" + b"\xff" * 5000, "cannot be read: "),
        ("file:///etc/passwd", "Name its path"),
    ],
)
def test_what_is_no_database(sqlalchemy, tmp_path, monkeypatch, source, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataLoadingError, match=says):
        load(source)


def test_texts_that_are_none_are_told(sqlalchemy, database):
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO notes VALUES (CAST(x'ff41' AS TEXT))")
    with pytest.raises(DataLoadingError, match="Could not decode"):
        read_rows(database, table="notes")
    query = "SELECT replace(hex(zeroblob(1000)), '0', 'aaaaaaaa') AS text FROM mails"
    with pytest.raises(DataLoadingError, match="more than 10,000 bytes|too big"):
        read_rows(database, table=query, limits=Limits(max_bytes=10_000))


def test_without_sqlalchemy(database, monkeypatch):
    without(monkeypatch, "sqlalchemy")
    for source in (database, database.read_bytes(), "postgresql://host/mails"):
        with pytest.raises(MissingDependencyError, match="fine_tune_llm.sql."):
            load(source)


# ---- folders ----


@pytest.fixture
def folder(tmp_path):
    "Three texts under two labels"
    home = tmp_path / "mails"
    for i, (text, label) in enumerate(ROWS):
        (home / label).mkdir(parents=True, exist_ok=True)
        (home / label / f"{i}.txt").write_text(text)
    return home


def test_a_folder(folder):
    data = load(folder)
    assert data.ids == ("ham/1.txt", "ham/2.txt", "spam/0.txt")
    assert data.texts == ("see you at 6", "lunch?", "win a prize")
    assert [data.classes[y] for y in data.labels] == ["ham", "ham", "spam"]
    assert data.source["read"] == {"format": "folder", "encoding": "utf-8"}
    assert data.source["name"] == "mails" and "notes" not in data.source
    assert load(folder).source["sha256"] == data.source["sha256"]
    assert load(str(folder) + os.sep).ids == data.ids


def test_what_else_lies_in_a_folder(folder):
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD.txt").write_text("no text")
    (folder / "ham" / ".hidden.txt").write_text("no text")
    (folder / "README.md").write_text("About")
    (folder / "ham" / "logo.png").write_bytes(b"\x89PNG")
    (folder / "ham" / "deep").mkdir()
    (folder / "ham" / "deep" / "4.md").write_text("# deep")
    (folder / "ham" / "5").write_text("no ending")
    os.mkfifo(folder / "ham" / "pipe.txt")
    data = load(folder)
    assert set(data.ids) - {"ham/1.txt", "ham/2.txt", "spam/0.txt"} == {
        "ham/deep/4.md",
        "ham/5",
    }
    (note,) = data.source["notes"]
    assert note == "2 files are left out, such as README.md, ham/logo.png"


def test_links_that_lead_outside_are_not_followed(folder, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "ham" / "a.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "ham" / "b.txt").symlink_to(folder / "ham" / "1.txt")
    (folder / "ham" / "c").symlink_to(tmp_path)
    (folder / "ham" / "d").symlink_to(folder)
    (folder / "ham" / "lost.txt").symlink_to(tmp_path / "nowhere")
    data = load(folder)
    assert "secret" not in data.texts and "ham/b.txt" in data.ids and len(data) == 4
    assert data.source["notes"] == ["links are not followed: ham/a.txt, ham/c, ham/d"]


def test_encodings_of_a_folder(folder):
    (folder / "ham" / "3.txt").write_bytes("Grüße aus Köln".encode("cp1252"))
    (folder / "ham" / "4.txt").write_bytes("Grüße".encode("utf-16"))
    data = load(folder)
    assert data.texts[2:4] == ("Grüße aus Köln", "Grüße")
    assert data.source["read"]["encoding"] == "cp1252, utf-16, utf-8"
    (folder / "ham" / "5.txt").write_bytes("Привет".encode("cp1251"))
    (folder / "ham" / "6.txt").write_bytes(b"\x89PNG")
    with pytest.raises(DataLoadingError) as error:
        load(folder)
    said = "2 files of `mails` are no texts: ham/5.txt, ham/6.txt"
    assert said in str(error.value) and "data.encoding" in str(error.value)
    (folder / "ham" / "4.txt").unlink()
    (folder / "ham" / "6.txt").unlink()
    assert "Привет" in load(folder, encoding="cp1251").texts


def test_empty_texts_of_a_folder(folder):
    (folder / "ham" / "3.txt").write_bytes(b"\xef\xbb\xbf \n")
    with pytest.raises(DataValidationError, match="file ham/3.txt has no text"):
        load(folder)
    assert len(load(folder, on_empty="skip")) == 3


def test_splits_of_a_folder(folder, tmp_path):
    home = tmp_path / "imdb"
    home.mkdir()
    for split in ("train", "test"):
        os.makedirs(home / split / "pos", exist_ok=True)
        (home / split / "pos" / "1.txt").write_text(f"good {split}")
        os.makedirs(home / split / "neg", exist_ok=True)
        (home / split / "neg" / "1.txt").write_text(f"bad {split}")
    (home / "README").write_text("about")
    data = load(home)
    assert data.classes == ("neg", "pos") and data.ids[0] == "train/neg/1.txt"
    assert "the split `train` is read" in data.source["notes"][0]
    assert load(home, table="test").texts == ("bad test", "good test")
    with pytest.raises(ConfigurationError, match="no split `tset`"):
        load(home, table="tset")
    with pytest.raises(ConfigurationError, match="has no splits"):
        load(folder, table="test")


def test_a_folder_without_labels(folder):
    assert load(folder / "ham", label=None).ids == ("1.txt", "2.txt")
    with pytest.raises(SchemaError, match="no column `label`.*Put the texts of each"):
        load(folder / "ham")


def test_a_folder_of_data_files(tmp_path):
    with pytest.raises(
        DataLoadingError, match="is a directory without texts.*A folder"
    ):
        load(tmp_path)
    (tmp_path / "train.jsonl").write_text("{}")
    (tmp_path / "test.csv.gz").write_text("")
    (tmp_path / "README.md").write_text("about")
    says = "Name one of its files: test.csv.gz, train.jsonl"
    with pytest.raises(DataLoadingError, match=says):
        load(tmp_path)


def test_a_folder_within_the_limits(folder):
    with pytest.raises(DataLoadingError, match="the folder has more than 20 bytes"):
        load(folder, limits=Limits(max_bytes=20))
    with pytest.raises(DataLoadingError, match="the folder has more than 2 rows"):
        load(folder, limits=Limits(max_rows=2))
    if os.geteuid():
        (folder / "ham").chmod(0)
        with pytest.raises(DataLoadingError, match="permission denied"):
            load(folder)
        (folder / "ham").chmod(0o700)
