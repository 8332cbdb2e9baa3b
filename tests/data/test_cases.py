"Files that people have: each is read as what it is, or refused with its line"

import gzip
import json
from pathlib import Path

import pytest

from fine_tune_llm.core.errors import (
    ConfigurationError,
    DataLoadingError,
    DataValidationError,
    SchemaError,
)
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.rows import read_rows

CASES = Path(__file__).parent.parent / "cases"
GERMAN = "Ärger über Grüße Nr. 0 – “schön”"


@pytest.mark.parametrize(
    ("file", "encoding", "separator", "first"),
    [
        ("bom.csv", "utf-8-sig", ",", GERMAN),
        ("cp1252.csv", "cp1252", ",", GERMAN),
        ("utf16.csv", "utf-16", "\t", GERMAN),
        ("latin1_semicolon.csv", "cp1252", ";", 'Ärger über Grüße Nr. 0 - "schön"'),
        ("tabs.csv", "utf-8", "\t", GERMAN),
        ("spaces.csv", "utf-8", ",", GERMAN),
        ("gzipped.csv.gz", "utf-8", ",", GERMAN),
    ],
)
def test_encoding_and_separator(file, encoding, separator, first):
    data = load(CASES / file)
    assert data.texts[0] == first
    read = data.source["read"]
    assert (read["encoding"], read["separator"]) == (encoding, separator)
    if encoding == "cp1252":
        assert data.classes == ("größer", "schlecht")


def test_compression_is_told():
    assert load(CASES / "gzipped.csv.gz").source["read"]["compression"] == "gzip"


def test_what_was_recognised_can_be_overridden():
    raw = "text;label\n1,5 Volt Größe;a\n".encode("latin1")
    data = load(raw, name="x.csv", encoding="cp850", separator=";")
    assert data.texts == (raw[11:-3].decode("cp850"),)
    with pytest.raises(SchemaError, match="no column `text`"):
        load(raw, name="x.csv", separator="|")
    with pytest.raises(ConfigurationError, match="`encoding` 'utf-9' is unknown"):
        load(raw, name="x.csv", encoding="utf-9")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Привет как дела", "cp1251"),
        ("żółć i gęś nad łąką", "cp1250"),
        ("これはペンです", "shift_jis"),
        ("这是一个测试", "gb18030"),
        ("café à la crème brûlée", "mac_roman"),
        ("die schöne Größe", "cp850"),
    ],
)
def test_other_encodings_are_not_taken_for_cp1252(text, encoding):
    raw = f"text,label\n{text},a\n".encode(encoding)
    with pytest.raises(DataLoadingError, match="line 2.*data.encoding"):
        load(raw, name="x.csv")
    assert load(raw, name="x.csv", encoding=encoding).texts == (text,)


def test_one_broken_byte_in_utf8_is_no_other_encoding():
    raw = "text,label\nüber Größe,a\n".encode() * 50
    with pytest.raises(DataLoadingError, match="byte 0xff in line 101"):
        load(raw + b"\xff,a\n", name="x.csv")


@pytest.mark.parametrize("file", ["speech", "speech_closed", "speech_unclosed"])
def test_quotes_between_tabs_are_text(file):
    data = load(CASES / f"{file}.tsv")
    assert len(data) == 60 and data.classes == ("bad", "good")
    assert any(text.startswith('"Never again') for text in data.texts)


def test_quotes_between_tabs_as_asked():
    with pytest.raises(DataLoadingError, match="line 8.*quoting='none'"):
        load(CASES / "speech_closed.tsv", quoting="quotes")
    swallowed = load(CASES / "speech.tsv", quoting="quotes")
    notes = " ".join(swallowed.source["notes"])
    assert len(swallowed) < 60 and "swallowed by a quote" in notes and "line" in notes
    raw = b'text\tlabel\n"He said ""hi"""\ta\n'
    assert "quoting='quotes'" in load(raw, name="x.tsv").source["notes"][0]
    assert load(raw, name="x.tsv", quoting="quotes").texts == ('He said "hi"',)


def test_a_file_of_short_messages_without_a_header():
    "The shape of the UCI SMS collection"
    raw = b'ham\tGo until jurong point, crazy.. "quite\nspam\tFree entry, txt FA\n'
    data = load(raw, text=1, label=0, header=False, name="SMSSpamCollection")
    assert data.texts[0] == 'Go until jurong point, crazy.. "quite'
    assert data.classes == ("ham", "spam")
    with pytest.raises(
        SchemaError, match='header=no .data.header. and text="1", label="0"'
    ):
        load(raw, name="SMSSpamCollection")


def test_words_that_look_missing_are_words():
    data = load(CASES / "nan_words.csv")
    assert {"nan", "null"} <= set(data.texts)
    assert load(CASES / "nan_labels.csv").classes == ("BHP", "NA", "NAN")
    rows = [{"text": text, "label": "NaN"} for text in ("nan", "NA", "null", "None")]
    assert load(rows).classes == ("NaN",)


@pytest.mark.parametrize("missing", [None, float("nan"), "", " ", "\u200b"])
def test_missing_values_are_missing(missing):
    with pytest.raises(DataValidationError, match="row 0 has no text"):
        load([{"text": missing, "label": "x"}])
    with pytest.raises(DataValidationError, match="row 0 has no label"):
        load([{"text": "a", "label": missing}])
    assert load([{"text": "a", "label": "x", "g": missing}], group="g").groups["g"] == [
        None
    ]


@pytest.mark.parametrize("file", ["list.json", "columns.json", "pretty.json"])
def test_json_in_other_shapes(file):
    data = load(CASES / file)
    assert data.texts[1] == "message number 1" and set(data.classes) == {"a", "b"}


def test_lines_that_end_as_on_windows():
    assert load(CASES / "crlf.jsonl").texts[0] == "message number 0"


def test_nested_fields_by_their_path():
    path = "annotations.0.result.0.value.choices.0"
    data = load(CASES / "nested.jsonl", "data.text", path)
    assert data.texts[0] == "message number 0" and data.classes == ("a", "b")
    with pytest.raises(SchemaError, match="Did you mean text=`data.text`"):
        load(CASES / "nested.jsonl")
    with pytest.raises(SchemaError, match=r"it has: data.text, annotations.0.*choices"):
        load(CASES / "nested.jsonl", "data.text")


def test_chats():
    data = load(CASES / "chat.jsonl")
    assert data.texts[0] == "message number 0" and data.classes == ("a", "b")
    assert data.source["notes"] == ["texts are what the user says in `messages`"]
    chat = [
        {"from": "system", "value": "Be kind"},
        {"from": "human", "value": "one"},
        {"from": "gpt", "value": "hm"},
        {"from": "human", "value": "two"},
        {"from": "gpt", "value": "yes"},
    ]
    data = load([{"conversations": chat}])
    assert (data.texts, data.classes) == (("one\ntwo",), ("yes",))
    parts = [{"role": "user", "content": [{"type": "text", "text": "see"}, {}]}]
    assert load([{"m": parts}], "m", label=None).texts == ("see",)
    silent = {"messages": [{"role": "assistant", "content": "a"}]}
    with pytest.raises(DataValidationError, match="row 1 has no text"):
        load([{"messages": chat[1:]}, silent], on_empty="error")


def test_a_key_that_stands_twice():
    with pytest.raises(
        DataLoadingError, match="have the key `label` twice: lines 1, 2"
    ):
        load(CASES / "dupkey.jsonl")
    deep = b'{"text": "a", "label": "x", "more": {"a": 1, "a": 2}}\n'
    with pytest.raises(DataLoadingError, match="line 1 has the key `a` twice"):
        load(deep)
    with pytest.raises(DataLoadingError, match="line 2 has the key `text` twice"):
        load(b'[{"text": "a"},\n{"text": "a", "text": "b"}]', label=None)


def test_columns_that_stand_twice_in_a_frame():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame([["a", "x", "y"]], columns=["text", "label", "label"])
    with pytest.raises(SchemaError, match="appears more than once"):
        load(frame)
    with pytest.raises(SchemaError, match="appears more than once"):
        load(pd.DataFrame([["a", "x", "y"]], columns=["text", 1, "1"]), label="1")


def test_frames_with_odd_names_and_values():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({0: ["a", "b"], None: ["x", "y"], "g": [1.0, None]})
    data = load(frame, text=0, label="", group="g")
    assert data.texts == ("a", "b") and data.classes == ("x", "y")
    assert list(data.groups["g"]) == ["1", None]
    rows = [{"text": "a", "label": "x", "g": pd.NA, 3: pd.NaT, None: 1}]
    assert list(load(rows, group=["g", "3"]).groups["3"]) == [None]
    with pytest.raises(DataValidationError, match="row 0 has no text"):
        load([{"text": pd.NA, "label": "x"}])


def test_frames_of_other_libraries():
    "Whatever hands out Arrow data is a table"
    pa = pytest.importorskip("pyarrow")

    class Frame:
        columns = ["text", "label"]

        def to_dict(self, as_series=True):
            raise TypeError("no records here")

        def __arrow_c_stream__(self, requested_schema=None):
            table = pa.table({"text": ["a"], "label": ["x"]})
            return table.__arrow_c_stream__(requested_schema)

    assert load(Frame()).classes == ("x",)


def test_polars():
    pl = pytest.importorskip("polars")
    assert load(pl.DataFrame({"text": ["a"], "label": ["x"]})).classes == ("x",)


def test_half_characters_stay_different_and_are_told():
    rows = [{"text": f"a{h}", "label": f"x{h}", "g": h} for h in ("\ud800", "\ud801")]
    data = load(rows, group="g")
    assert len(data.classes) == len(set(data.texts)) == len(set(data.groups["g"])) == 2
    assert sum("half a character" in note for note in data.source["notes"]) == 3
    json.dumps(data.texts).encode()


def test_errors_name_all_lines():
    raw = 'text,label\n"two\nlines",x\n,x\nok,\n' + ",y\n" * 200
    with pytest.raises(DataValidationError) as error:
        load(raw.encode(), name="mails.csv")
    said = "201 rows of `mails.csv` have no text: lines 4, 6, 7, 8, 9 and 196 more"
    assert said in str(error.value)
    with pytest.raises(DataValidationError, match="`mails.csv` line 5 has no label"):
        load(raw.encode(), name="mails.csv", on_empty="skip")
    place = load(raw[:25].encode() + b"b,z\n", name="m.csv").place
    assert (place(0), place(1)) == ("`m.csv` line 2", "`m.csv` line 4")


def test_lines_that_cannot_be_read_are_told_together():
    raw = b"a,b\n" + b"1,2,3\n" * 9 + b"1,2\n"
    with pytest.raises(DataLoadingError, match="9 rows of.*lines 2, 3, 4, 5, 6 and 4"):
        load(raw, name="x.csv")
    raw = b'{"text": "a"}\n' + b"oops\n" * 9 + b"[1]\n"
    with pytest.raises(DataLoadingError, match="9 rows.*not JSON.*line 11 is a JSON l"):
        load(raw, name="x.jsonl")


def test_what_a_spreadsheet_adds():
    data = load(b"text,label,,\na,x,,\n,,,\nb,y,,,,\n", name="x.csv")
    assert data.texts == ("a", "b")
    assert "without any cell filled are left out (line 3)" in data.source["notes"][0]


def test_one_column_of_sentences():
    data = load(b'text\nHello, world\n"Hi", she said\n', label=None, name="x.csv")
    assert data.texts == ("Hello, world", '"Hi", she said')


def test_spaces_after_separators():
    assert load(b'text, label\n"a, b", x\n', name="x.csv").texts == ("a, b",)


@pytest.mark.parametrize("write", ["{!r}.gz", "plain"])
def test_columns_and_wrapped_rows(write):
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    wrapped = json.dumps({"version": 1, "data": rows}).encode()
    raw = gzip.compress(wrapped) if write != "plain" else wrapped
    data = load(raw, name="x.json.gz" if write != "plain" else "x.json")
    assert data.texts == ("a", "b")
    assert data.source["notes"] == ["rows are those of the field `data`"]
    by_key = {"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}}
    assert load(json.dumps(by_key).encode()).texts == ("a", "b")
    assert load({"text": ["a"], "label": ["x"]}).texts == ("a",)


@pytest.mark.parametrize(
    ("file", "columns"),
    [
        ("convabuse_duplicate_headers.csv", {"text": "user", "label": "bot"}),
        ("davidson_embedded_newlines.csv", {"text": "tweet", "label": "class"}),
        ("hatecheck_blank_groups.csv", {"text": "test_case", "label": "label_gold"}),
        ("kaggle_spam_empty_headers.csv", {"text": "v2", "label": "v1"}),
    ],
)
def test_messy_files(real_data, file, columns):
    path = real_data / "messy" / file
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    data = load(path, **columns, on_empty="skip")
    assert len(data) > 2000 and len(data.classes) >= 2


def test_a_messy_file_that_holds_no_rows(real_data):
    path = real_data / "messy" / "snips_playmusic_latin1.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with pytest.raises(SchemaError, match="no column `text`.*it has: data.0.text"):
        load(path)  # the pieces of a sentence, in a list
    song, _ = read_rows(path)
    words = "".join(piece["text"] for row in song for piece in row["data"])
    assert "\U0001f355" in words  # as two halves, in the file
    column = "Annotator6_transphobic"
    path = real_data / "messy" / "convabuse_duplicate_headers.csv"
    with pytest.raises(SchemaError, match="appears more than once"):
        load(path, "user", column)
