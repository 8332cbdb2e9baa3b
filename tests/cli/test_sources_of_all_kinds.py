"What `ftllm fit` and `ftllm decide` read beside files of lines, through the commands"

import json
import os
import sqlite3
from pathlib import Path

import pytest

from fine_tune_llm.cli.app import in_options
from fine_tune_llm.config.layers import make_config
from fine_tune_llm.run.directory import Run
from fine_tune_llm.run.file_decisions import decide_file, decide_pieces, file_options
from fine_tune_llm.run.roles import read_data


@pytest.fixture(scope="module")
def sources(tiny, tmp_path_factory):
    "The same rows as a workbook, a database and a folder"
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("sqlalchemy")
    home = tmp_path_factory.mktemp("sources")
    lines = (tiny / "rows.jsonl").read_text().splitlines()
    rows = list(map(json.loads, lines))
    book = openpyxl.Workbook()
    book.active.title = "notes"
    book.create_sheet("mails").append(["text", "label"])
    connection = sqlite3.connect(home / "mails.db")
    connection.execute("CREATE TABLE mails (body, team)")
    for i, row in enumerate(rows):
        book["mails"].append([row["text"], row["label"]])
        connection.execute(
            "INSERT INTO mails VALUES (?, ?)", (row["text"], row["label"])
        )
        place = home / "letters" / row["label"]
        os.makedirs(place, exist_ok=True)
        (place / f"{i}.txt").write_text(row["text"])
    book.save(home / "mails.xlsx")
    connection.commit()
    connection.close()
    return home


QUERY = "SELECT body AS text, team AS label FROM mails"


def test_one_model_from_a_workbook_for_all(sources, tiny, ftllm):
    "What was read is recorded; the same rows are decided alike wherever they lie"
    small = ("--model", tiny / "bert", "--config", tiny / "more.yaml", "--epochs", "0")
    done = ftllm("fit", "mails.xlsx", *small, cwd=sources)
    assert done.returncode in (0, 3), done.stderr
    said = json.loads((sources / "runs" / "mails" / "data.json").read_text())
    assert said["source"]["rows"] == 512 and said["source"]["read"]["sheet"] == "mails"
    address = ("sqlite:///mails.db", "--table", QUERY)
    done = ftllm("decide", "runs/mails", *address, cwd=sources)
    assert done.returncode in (0, 3), done.stderr
    decided = [json.loads(line)["confidence"] for line in done.stdout.splitlines()]
    assert len(decided) == 512 and len(set(decided)) > 100
    run = Run.load(sources / "runs" / "mails", device="cpu")
    output = sources / "out.jsonl"
    for source, table in (("mails.xlsx", None), ("mails.db", QUERY)):
        decide_file(run, sources / source, output, table=table)
        lines = map(json.loads, output.read_text().splitlines())
        assert [line["confidence"] for line in lines] == pytest.approx(decided)
    pieces = decide_pieces(run, sources / "letters", file_options(run))
    of = {one.id: one.confidence for part, _ in pieces for one in part}
    files = {int(Path(name).stem): name for name in of}
    assert [of[files[i]] for i in range(512)] == pytest.approx(decided, abs=1e-5)


def test_a_query_is_a_setting(sources):
    config = make_config({"data": {"table": QUERY}})
    data, _ = read_data(f"sqlite:///{sources / 'mails.db'}", None, config)
    assert len(data) == 512 and data.source["read"]["query"] == QUERY


def test_errors_speak_of_options(sources, tiny, ftllm):
    (sources / "sms").write_text("ham\tgo on\nspam\twin, win\nham\tno\n")
    done = ftllm("fit", "sms", cwd=sources)
    assert done.returncode == 2 and '--text "1", --label "0"' in done.stderr
    with sqlite3.connect(sources / "two.db") as connection:
        connection.executescript("CREATE TABLE a (b); CREATE TABLE c (d)")
    done = ftllm("fit", "two.db", cwd=sources)
    assert done.returncode == 2 and "Name one with --table a" in done.stderr
    done = ftllm("decide", tiny, "postgresql://ann:hunter22xyz@h/db", cwd=sources)
    assert done.returncode == 2 and "hunter22xyz" not in done.stderr + done.stdout
    assert in_options("(data.header) with header=no (data.header)") == (
        "(data.header) with --set data.header=no"
    )
