"Where decisions go: never over a run or over what is read; and what is said when not"

import json
import shutil

import pytest

import fine_tune_llm as ft
from fine_tune_llm.cli.program import main
from fine_tune_llm.testing import toy_rows


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("outputs") / "run", toy_rows(512)[::3]).path


@pytest.fixture
def decide(run, tmp_path, capsys):
    "Decides on one text in a copy of the run; exit code, what was said, its folder"
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    texts = tmp_path / "new.jsonl"
    texts.write_text('{"text": "rake the lawn"}\n')

    def go(*more):
        with pytest.raises(SystemExit) as ended:
            main(["decide", str(folder), str(texts), *map(str, more)])
        said = capsys.readouterr()
        return ended.value.code, " ".join(said.err.split()), said.out

    go.folder, go.texts = folder, texts
    return go


@pytest.mark.parametrize(
    "name",
    [
        "certificate.json",
        "config.yaml",
        "events.db",
        "predictions/test.parquet",
        "adapter/new.jsonl",
        "./adapter/../data.json",
        ".lock",
    ],
)
def test_a_part_of_the_run_is_not_written_over(decide, name):
    code, said, _ = decide("-o", decide.folder / name)
    assert code == 2 and "would make its certificate void" in said
    assert ft.Run.load(decide.folder)


def test_a_link_to_a_part_of_the_run_neither(decide, tmp_path):
    (tmp_path / "link").symlink_to(decide.folder / "certificate.json")
    assert decide("-o", tmp_path / "link")[0] == 2
    (tmp_path / "second").hardlink_to(decide.folder / "certificate.json")
    assert ft.Run.load(decide.folder)


def test_what_is_read_is_not_written_over(decide, tmp_path):
    before = decide.texts.read_bytes()
    (tmp_path / "link").symlink_to(decide.texts)
    for output in (decide.texts, tmp_path / "link"):
        code, said, _ = decide("-o", output)
        assert code == 2 and "is the file that is read" in said
    assert decide.texts.read_bytes() == before


def test_decisions_may_lie_in_the_run(decide):
    output = decide.folder / "decisions.jsonl"
    assert decide("-o", output)[0] == decide("-o", output)[0]
    assert json.loads(output.read_text())["id"] == "0"
    assert ft.Run.load(decide.folder)


def test_damaged_events_are_no_trouble_of_the_output(decide):
    (decide.folder / "events.db").write_bytes(b"garbage" * 100)
    code, said, _ = decide()
    assert code == 2 and "events.db" in said and "standard output" not in said


def test_a_folder_as_output(decide, tmp_path):
    code, said, _ = decide("-o", tmp_path)
    assert code == 2 and "is a directory" in said
    assert decide("-o", tmp_path / "no" / "where")[0] == 2
