"Does a file name its columns? And what else is odd about the files people have"

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pytest

from fine_tune_llm.core.errors import (
    ConfigurationError,
    DataLoadingError,
    SchemaError,
)
from fine_tune_llm.data.csv_files import csv_rows
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.pieces import read_pieces
from fine_tune_llm.data.records import Wanted
from fine_tune_llm.data.rows import read_rows
from fine_tune_llm.testing import toy_rows

CASES = Path(__file__).parent.parent / "cases"
ASKED = Wanted(["text", "label", "id"])
SMS = "ham\tGo until jurong point, crazy..\nspam\tFree entry, txt FA\nham\tOk lar\n"


def table(rows, header=None):
    file = io.StringIO()
    csv.writer(file).writerows([*([header] if header else []), *rows])
    return file.getvalue().encode()


SENTENCES = [(row["text"], row["label"]) for row in toy_rows(40)]
NUMBERED = [(i % 2, text) for i, (text, _) in enumerate(SENTENCES)]


@pytest.mark.parametrize(
    ("raw", "header"),
    [
        (table(SENTENCES, ("text", "label")), "yes"),
        (table(SENTENCES, ("message", "team")), "yes"),
        (table(SENTENCES, ("How can we help you?", "Which team?")), "yes"),
        (table(SENTENCES, ("", "")), "yes"),
        (table(SENTENCES), "no"),
        (table([s[::-1] for s in SENTENCES]), "no"),
        (table([(i, *s) for i, s in enumerate(SENTENCES)]), "no"),
        (table(NUMBERED, ("label", "text")), "yes"),
        (table(NUMBERED), "no"),
        (table(NUMBERED, ("0", "1")), "yes"),  # as pandas names columns
        (table([(i, *r) for i, r in enumerate(NUMBERED)], ("", "0", "1")), "yes"),
        # a column that is called like a class in it
        (
            table(
                [
                    (t, "toxic" if i % 3 else "fine")
                    for i, (t, _) in enumerate(SENTENCES)
                ],
                ("comment", "toxic"),
            ),
            "yes",
        ),
        (table([("yes", "no"), ("no", "yes")], ("left", "right")), "yes"),
        (table([(x, x) for x in "abab"], ("a", "b")), "no"),
        (table([("2019", "2020"), ("3", "4"), ("5", "6")]), "no"),
        (table([], ("text", "label")), "yes"),
        (table(SENTENCES[:1], ("text", "label")), "yes"),
        # two files behind one another: the header stands again below
        (table([*SENTENCES, ("body", "team"), *SENTENCES], ("body", "team")), "yes"),
        (b"Hello there\nHow are you\nI am well\n", "yes"),
        (SMS.encode(), "no"),
    ],
)
def test_is_the_first_record_a_header(raw, header):
    assert csv_rows(raw, "x.csv").facts["header"] == header


@pytest.mark.parametrize("asked", [None, ASKED])
def test_headers_of_real_files(real_data, asked):
    "With their header and without: none is taken for the other"
    files = [*CASES.glob("*.csv"), *real_data.glob("*/*.csv")]
    assert len(files) > 15
    for file in files:
        raw = file.read_bytes()
        found = csv_rows(raw, file.name, wanted=asked)
        assert found.facts["header"] == "yes", file
        encoding, separator = found.facts["encoding"], found.facts["separator"]
        rest = raw.decode(encoding).partition("\n")[2].encode("utf-8")
        found = csv_rows(rest, file.name, separator=separator, wanted=asked)
        if file.name != "empty_rows.csv":  # no class stands twice at its beginning
            assert found.facts["header"] == "no", file


def test_a_file_of_short_messages():
    "What is wanted is not there: the error names what to ask for"
    with pytest.raises(SchemaError) as error:
        load(SMS.encode(), name="SMSSpamCollection")
    assert 'have no names: read it with text="1", label="0"' in str(error.value)
    data = load(SMS.encode(), text="1", label="0")
    assert data.classes == ("ham", "spam") and len(data) == 3
    assert data.source["read"]["header"] == "no"
    assert "the first line is read as data" in data.source["notes"][0]


def test_numbers_that_are_asked_for_are_places():
    raw = b"5,fine words\n"
    assert load(raw, text="1", label="0").texts == ("fine words",)
    with pytest.raises(SchemaError, match="no column `1`"):
        load(2 * raw, text="1", label="0", header="yes")


@pytest.mark.parametrize("header", [True, "yes", False, "no"])
def test_it_is_as_somebody_says(header):
    is_header = header in (True, "yes")
    rows, facts = read_rows(SMS.encode(), "x.tsv", header=header)
    assert len(rows) == 3 - is_header and not facts.notes
    assert facts.read["header"] == ("yes" if is_header else "no")
    with pytest.raises(ConfigurationError, match="`header` must be"):
        read_rows(SMS.encode(), "x.tsv", header="perhaps")


def test_what_is_recognised_is_told_and_can_be_set():
    raw = "größe|klasse\nja, „gut“|a\n".encode("cp1252")
    read = load(raw, "größe", "klasse", name="x.csv").source["read"]
    assert read == {
        "format": "csv",
        "encoding": "cp1252",
        "separator": "|",
        "quoting": "quotes",
        "header": "yes",
    }
    how = {"encoding": "cp1250", "separator": ",", "quoting": "none", "header": "no"}
    rows, facts = read_rows(b'a;"b\nc;d\n', "x.csv", **how)
    assert facts.read == {"format": "csv", **how} and rows[0] == {"0": 'a;"b'}


def test_a_file_in_pieces_is_read_alike(tmp_path):
    "What `decide` reads: columns by their places, and files that are no texts"
    (tmp_path / "sms").write_text(SMS * 20)
    pieces = read_pieces(tmp_path / "sms", rows=7, columns=["1"])
    rows = [row for piece in pieces for row in piece.rows]
    assert rows == read_rows(tmp_path / "sms")[0] and len(rows) == 60
    (piece,) = read_pieces(tmp_path / "sms", header="yes")
    assert len(piece.rows) == 59
    table = pa.table({"text": ["a", "b"]})
    pa.feather.write_feather(table, tmp_path / "a.feather")
    (piece,) = read_pieces(tmp_path / "a.feather")
    assert piece.rows == table.to_pylist()


# ---- oddities ----

CRLF = b'text,label\r\na,x\r\n"two\r\nlines",y\r\n'


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (CRLF, ("a", "two\r\nlines")),
        (b"text,label\ra,x\rb,y\r", ("a", "b")),
        (b"text,label,label2,label2\na,x,1,2\n", ("a",)),
        (b"text,label,,\na,x,,\nb,y,,\n", ("a", "b")),
        (b" Text ,LABEL\na,x\n", ("a",)),
        (b"\xef\xbb\xbf\xef\xbb\xbftext,label\na,x\n", ("a",)),
        (b"sep=;\ntext;label\na;x\n", ("a",)),
        (b"text,label\na,x\n\x1a", ("a",)),
    ],
)
def test_odd_files_are_read(raw, texts):
    assert load(raw, name="x.csv").texts == texts


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (
            b"text,label\na,x,more\nb\n",
            "2 rows of `x.csv` do not have the 2 cells.*2, 3",
        ),
        (b"text,text,label\na,b,x\n", "column `text` .*more than once"),
        (b"text,label\na\0b,x\n" * 60, r"zero character \(NUL\).*in line 2.*tr -d"),
        (bytes(range(256)) * 4, "is binary"),
        (b"text,label\n" + b"\xff\xfa\xc3(\x81" * 9 + b",x\n", "line 2.*data.encoding"),
        (b'text,label\n"a,x\nb,y\n', "quote that opens in line 2 is never closed"),
        (b"\n\n \n", "is empty"),
        (b"text,label\n", "has a header and no rows"),
    ],
)
def test_odd_files_are_refused_with_what_to_do(raw, says):
    with pytest.raises((DataLoadingError, SchemaError), match=says):
        load(raw, name="x.csv")


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        ("Größe", "cp1252"),
        ("it’s fine", "cp1252"),
        ("Привет, мир", "latin1"),
        ("你好世界", "latin1"),
        ("great 👍", "latin1"),
    ],
)
def test_words_damaged_before_are_told(words, encoding):
    damaged = words.encode().decode(encoding, "replace")
    rows = [{"text": "well", "label": "a"}, {"text": damaged, "label": "a"}]
    raw = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    data = load(raw.encode())
    assert data.texts[1] == damaged  # it is not mended
    (note,) = data.source["notes"]
    assert "(line 2); they were damaged before" in note
    raw = table([("well", "a"), (words, "b")], ("text", "label"))
    (note,) = load(raw, encoding=encoding, name="x.csv").source["notes"]
    assert "try encoding=utf-8" in note and "(line 3)" in note


@pytest.mark.parametrize(
    "words",
    [
        "Größe „Spaß“ “Spaß”",
        "AÇÃO, NÃO; «MAÇÃ»",
        "Привет, мир",
        "ÐÑ",
        "naïve café à la crème",
        "你好，世界",
        "żółć",
        "Â",
        "it’s – “fine” …",
        "Ärger über Öl für 5 €",
        "TÜRKÇE İĞNE",
        "Ålesund åäö",
    ],
)
def test_words_of_many_languages_are_well(words):
    data = load([{"text": words, "label": "a"}])
    assert "notes" not in data.source


def test_real_texts(real_data):
    assert "notes" not in load(real_data / "banking77" / "train.jsonl").source
    data = load(real_data / "snips7" / "train.jsonl")
    (note,) = data.source["notes"]  # such as "play the MÃºsica Da SÃ©rie"
    assert "(lines 5327, 5335, 5365, 5377, 5455 and 16 more)" in note
