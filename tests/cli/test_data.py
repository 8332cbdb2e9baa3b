"`ftllm data`: what it reads, what it writes and never writes over"

import json
import os
import shlex
from pathlib import Path

import pytest

from fine_tune_llm.cli.data_split import is_read_again
from fine_tune_llm.cli.program import main
from fine_tune_llm.cli.streams import Output
from fine_tune_llm.config.layers import make_config
from fine_tune_llm.core.errors import ResourceError
from fine_tune_llm.run.roles import read_data, share_data

ROWS = [
    {"text": f"the {word} {i} is here", "label": "ab"[i % 2], "n": i}
    for i in range(120)
    for word in ("red", "blue")
]


def lines_of(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A folder to work in, with rows in it"
    (tmp_path / "rows.jsonl").write_text(lines_of(ROWS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def data(capsys):
    "Runs `ftllm data ...`; its exit code, and what it said in one line each"

    def run(*words):
        with pytest.raises(SystemExit) as e:
            main(["data", *map(str, words)])
        said = capsys.readouterr()
        return e.value.code, said.out, " ".join(said.err.split())

    return run


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("option", [[], ["--test", "held.jsonl"]])
def test_metadata_never_take_the_place_of_what_is_read(home, data, force, option):
    (home / "held.jsonl").write_text(lines_of(ROWS[:20]))
    (home / "link.json").symlink_to("rows.jsonl")
    names = ["rows.jsonl", "link.json", *option[1:]]
    for name in names:
        before = Path(name).read_bytes()
        code, _, err = data("check", "rows.jsonl", *option, "--croissant", name, *force)
        assert code == 2 and "would be written over" in err
        assert Path(name).read_bytes() == before


WHERE = {
    "nodir/x.json": "nodir is no directory",
    "rows.jsonl/x.json": "rows.jsonl is no directory",
    ".": "is a directory",
    "there.json": "there already",
}


@pytest.mark.parametrize("place", WHERE)
def test_a_place_for_metadata_is_looked_at_before_reading(home, data, place):
    (home / "there.json").write_text("mine")
    (home / "rows.jsonl").write_text("no rows")
    code, _, err = data("check", "rows.jsonl", "--croissant", place)
    assert code == 2 and WHERE[place] in err
    assert (home / "there.json").read_text() == "mine"


def test_metadata_describe_files(home, data):
    for source in ("-", ".", "hub:some/rows", "sqlite:///rows.db"):
        code, _, err = data("check", source, "--croissant", "x.json")
        assert code == 2 and "describes files" in err


@pytest.mark.parametrize(
    "place", ["rows.jsonl/x", "rows.jsonl/x/y", "/proc/x", "rows.jsonl"]
)
def test_a_place_for_roles_is_looked_at_before_reading(home, data, place):
    if place.startswith("/proc") and not os.path.isdir("/proc"):
        pytest.skip("needs /proc")
    (home / "rows.jsonl").write_text("no rows")
    code, _, err = data("split", "rows.jsonl", "--out", place)
    assert code == 2 and ("cannot be written" in err or "there already" in err)
    code, _, err = data("split", "rows.jsonl", "--out", "new/deep/x")
    assert code == 2 and "cannot be written" not in err
    assert [path.name for path in home.iterdir()] == ["rows.jsonl"]


OPTIONS = ["--text", "the body", "--label", "team", "--group", "g", "--group", "h"]
OPTIONS += ["--cluster", "who", "--seed", "5", "--by", "hash", "--config", "a b.json"]
OPTIONS += ["--set", "data.id=key", "--set", "data.time=when", "--set", "data.weight=w"]
MANY_COLUMNS = [
    {
        "the body": row["text"],
        "team": row["label"],
        "g": "x",
        "h": row["n"] % 3,
        "who": f"p{i}",
        "key": f"k{i}",
        "when": f"2026-01-{1 + i % 28:02}T10:00:00+01:00",
        "w": 1 + i % 2,
    }
    for i, row in enumerate(ROWS)
]


def assert_same_rows(one, two):
    assert one.texts == two.texts and one.ids == two.ids
    for name in ("labels", "weights", "times", "clusters"):
        assert (getattr(one, name) == getattr(two, name)).all(), name
    assert all((one.groups[k] == two.groups[k]).all() for k in "gh")


def test_the_next_command_reads_the_same(home, data, monkeypatch):
    "Its words go to `fit`, whose settings share the rows out as they were shared"
    (home / "the rows.jsonl").write_text(lines_of(MANY_COLUMNS))
    (home / "a b.json").write_text('{"data": {"min_rows": 3}}')
    code, out, _ = data("split", "the rows.jsonl", *OPTIONS, "--out", "my split")
    assert code == 0
    words = shlex.split(out.splitlines()[-1].removeprefix("next: ftllm "))
    asked = {}

    def fit(source, **more):
        asked.update(more, source=source)
        raise KeyboardInterrupt

    monkeypatch.setattr("fine_tune_llm.run.journey.fit", fit)
    with pytest.raises(SystemExit):
        main(words)
    settings = asked["config"]
    assert (settings.data.min_rows, settings.seed) == (3, 5)
    dataset, dealt = share_data(asked["source"], None, settings)
    for role, taken in dealt.roles.items():
        file = home / "my split" / f"{role}.jsonl"
        keys = [json.loads(line)["key"] for line in file.read_text().splitlines()]
        assert keys == [dataset.ids[row] for row in taken]
        again, _ = read_data(file, None, settings)
        assert_same_rows(again, dataset.take(taken))


def test_nothing_comes_next_after_what_is_gone(home):
    assert is_read_again("rows.jsonl") and is_read_again("sqlite:///rows.db")
    assert not is_read_again("-") and not is_read_again(os.devnull)


def test_files_of_roles_keep_votes_and_given_roles(home, data):
    roles = ["train", "validation", "calibration", "test"]
    rows = [
        {
            "text": row["text"],
            "one": "ab"[i // 3 % 2],
            "two": "ab"[i // 5 % 2],
            "role": role,
        }
        for i, row in enumerate(ROWS)
        for role in [roles[i // 2 % 4]]
    ]
    (home / "rows.jsonl").write_text(lines_of(rows))
    pairs = ["data.votes=[one, two]", "data.split=role", "data.split_by=column"]
    words = [word for pair in pairs for word in ("--set", pair)]
    code, _, err = data("split", "rows.jsonl", *words, "--out", "split")
    assert code == 0, err
    read = {"votes": ["one", "two"], "split": "role", "split_by": "column"}
    settings = make_config({"data": read})
    dataset, dealt = share_data("rows.jsonl", None, settings)
    for role, taken in dealt.roles.items():
        again, _ = read_data(f"split/{role}.jsonl", None, settings)
        part = dataset.take(taken)
        assert (again.votes == part.votes).all() and (again.splits == role).all()
        assert (again.labels == part.labels).all() and len(again) == len(part)


def test_rows_set_aside_are_written_beside_the_roles(home, data):
    good = (home / "rows.jsonl").read_text()
    (home / "rows.jsonl").write_text(good + '{"text": "no label"}\nnot json\n')
    aside = ["--set", "data.on_error=quarantine"]
    assert data("split", "rows.jsonl", *aside, "--out", "split")[0] == 0
    lines = (home / "split" / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [241, 242]
    (home / "rows.jsonl").write_text(good)
    assert data("split", "rows.jsonl", *aside, "--out", "other")[0] == 0
    assert not (home / "other" / "quarantine.jsonl").exists()


def converted(home):
    return [json.loads(line) for line in (home / "out.jsonl").open()]


HEADERS = {"text,label,note,note": "`note`", "text,label,,": "``"}


@pytest.mark.parametrize("kind", ["csv", "tsv", "xlsx", "parquet", "pipe"])
@pytest.mark.parametrize("header", HEADERS)
def test_columns_of_one_name_are_refused_or_counted(home, data, header, kind):
    "None is lost without a word, whatever the rows are read from"
    names, cells = header.split(","), ["Hi", "a", "x", "y"]
    source = home / f"rows.{kind}"
    if kind == "xlsx":
        if "" in names:
            pytest.skip("sheets name such columns by their letters")
        book = pytest.importorskip("openpyxl").Workbook()
        book.active.append(names)
        book.active.append(cells)
        book.save(source)
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table([[cell] for cell in cells], names=names), source)
    else:
        between = "\t" if kind == "tsv" else ","
        lines = "\n".join(between.join(row) for row in (names, cells)) + "\n"
        source.write_text(lines, encoding="utf-16" if kind == "pipe" else "utf-8")
    how = ["convert", source, "out.jsonl", "--to", "openai"]
    code, _, err = data(*how)
    assert code == 2 and f"several columns of one name: {HEADERS[header]}" in err
    assert "--drop" in err and not (home / "out.jsonl").exists()
    code, out, err = data(*how, "--drop")
    assert code == 0 and "is left out of 1 rows" in err + out
    assert [*converted(home)[0]] == ["messages"]


def test_reasons_are_given_with_their_lines(home, data):
    lines = ['{"text": "Hi", "label": "a"}', *['{"text": ', "[1]"] * 12]
    (home / "rows.jsonl").write_text("\n".join(lines) + "\n")
    code, _, err = data("convert", "rows.jsonl", "out.jsonl", "--to", "openai")
    assert code == 2 and "24 rows of `rows.jsonl`" in err
    assert "The first of them: line 2 is not JSON" in err
    assert "line 3 is a JSON int, not an object" in err


def test_what_cannot_be_told_is_said_in_options(home, data):
    (home / "rows.jsonl").write_text('{"a": 1}\n')
    code, _, err = data("convert", "rows.jsonl", "out.jsonl", "--to", "openai")
    assert code == 2
    assert "Name the form with --from, or the columns with --text and --label" in err


FORMS_OF_ROWS = {
    "columns.json": '{"text": ["Hi", "Ho"], "label": ["a", "b"]}',
    "field.json": '{"rows": [{"text": "Hi", "label": "a"}, '
    '{"text": "Ho", "label": "b"}]}',
    "case.csv": "Text,Label\nHi,a\nHo,b\n",
    "one.jsonl": '{"text": "Hi", "label": "a"}',
}


@pytest.mark.parametrize("name", FORMS_OF_ROWS)
def test_what_fit_reads_is_converted(home, data, name):
    (home / name).write_text(FORMS_OF_ROWS[name])
    code, _, err = data("convert", name, "out.jsonl", "--to", "prompt_completion")
    assert code == 0, err
    wanted = [("Hi", "a"), ("Ho", "b")][: 1 if name == "one.jsonl" else 2]
    assert [(row["prompt"], row["completion"]) for row in converted(home)] == wanted
    assert all(len(row) == 2 for row in converted(home))


def test_a_nested_field_is_named_by_its_path(home, data):
    rows = [{"data": {"body": "Hi"}, "tags": ["a", "x"]}]
    (home / "rows.jsonl").write_text(lines_of(rows * 2))
    how = ["--to", "prompt_completion", "--text", "data.body", "--label", "tags.0"]
    code, _, err = data("convert", "rows.jsonl", "out.jsonl", *how)
    assert code == 0, err
    assert converted(home) == [{"prompt": "Hi", "completion": "a", **rows[0]}] * 2


def test_a_database_is_checked_and_converted(home, data):
    import sqlite3

    pytest.importorskip("sqlalchemy")
    with sqlite3.connect(home / "rows.db") as connection:
        connection.execute("CREATE TABLE other (x)")
        connection.execute("CREATE TABLE mails (text, label)")
        pairs = [(row["text"], row["label"]) for row in ROWS]
        connection.executemany("INSERT INTO mails VALUES (?, ?)", pairs)
    connection.close()
    source = ["sqlite:///rows.db", "--table", "mails"]
    code, out, err = data("check", *source, "--json")
    assert code == 0, err
    code, _, err = data(
        "convert", source[0], "out.jsonl", "--to", "openai", *source[1:]
    )
    assert code == 0 and len(converted(home)) == len(ROWS), err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_output_speaks_of_no_option_that_a_command_lacks():
    with open("/dev/full", "wb") as file:
        out = Output(file.fileno())
        out.write(b"x")
        with pytest.raises(ResourceError) as e:
            out.flush()
    assert "no space left" in str(e.value) and "-o" not in str(e.value)
