"Decisions on files: stopped at every write, killed for good, bad rows, wrong parts"

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from fine_tune_llm.core.errors import ConfigurationError, RunError, SchemaError
from fine_tune_llm.core.events import DecisionMade
from fine_tune_llm.models.ensembles import ensemble
from fine_tune_llm.models.text_model import load_adapter
from fine_tune_llm.run import file_decisions
from fine_tune_llm.run.directory import Run
from fine_tune_llm.run.file_decisions import decide_file
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.uncertainty import mutual_information
from fine_tune_llm.testing import toy_rows


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("files") / "run", toy_rows(512)[::2])


@pytest.fixture
def small(monkeypatch):
    "Pieces of four rows"
    monkeypatch.setattr(file_decisions, "_ROWS", 4)


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "new.jsonl"
    rows = [{"id": f"q{i}", "text": row["text"]} for i, row in enumerate(toy_rows(14))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


class Killed(BaseException):
    "The process is gone: nothing that runs in it may tidy up"


@pytest.fixture
def killer(monkeypatch):
    "Its `left` says at which system call the process is gone; never when below 1"
    calls = {"left": 0}

    def counted(function):
        def go(*args, **more):
            calls["left"] -= 1
            if calls["left"] == 0:
                raise Killed
            return function(*args, **more)

        return go

    for name in ("fsync", "replace", "truncate", "unlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    return calls


def test_stopped_at_every_write(run, source, small, tmp_path, killer):
    whole = tmp_path / "whole.jsonl"
    decide_file(run, source, whole)
    stopped, n_kills = True, 0
    while stopped:
        n_kills += 1
        output = tmp_path / f"out{n_kills}.jsonl"
        killer["left"], stopped = n_kills, False
        try:
            decide_file(run, source, output)
        except Killed:
            stopped = True
        killer["left"] = 0
        if stopped:
            assert not output.exists() or output.read_bytes() == whole.read_bytes()
            tally = decide_file(run, source, output)
            assert tally.total == 14 and tally.resumed % 4 in (0, 2)
        assert output.read_bytes() == whole.read_bytes()
        assert not [*tmp_path.glob(f"out{n_kills}.*part*")]
    assert n_kills > 10


def test_killed_for_good(run, tmp_path):
    "SIGKILL of a process that decides, twice, then an end"
    source = tmp_path / "new.jsonl"
    rows = toy_rows(512) * 4
    source.write_text("".join(json.dumps({"text": r["text"]}) + "\n" for r in rows))
    code = (
        "import sys, fine_tune_llm as ft\n"
        "from fine_tune_llm.run import decide_file\n"
        "decide_file(ft.Run.load(sys.argv[1]), *sys.argv[2:])\n"
    )
    output = tmp_path / "out.jsonl"
    cursor = tmp_path / "out.jsonl.part.json"
    words = [sys.executable, "-c", code, str(run.path), str(source), str(output)]
    seen = -1
    for _ in range(2):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        for _ in range(6000):
            if process.poll() is not None:
                break
            if cursor.exists() and json.loads(cursor.read_text())["bytes"] > seen:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if cursor.exists():
            seen = json.loads(cursor.read_text())["bytes"]
    tally = decide_file(run, source, output)
    whole = tmp_path / "whole.jsonl"
    decide_file(run, source, whole)
    assert tally.total == 2048 and output.read_bytes() == whole.read_bytes()


def test_a_part_of_something_else_is_not_gone_on_with(run, source, small, tmp_path):
    output = tmp_path / "out.jsonl"

    def stop(tally, share):
        raise Killed

    with pytest.raises(Killed):
        decide_file(run, source, output, progress=stop)
    with pytest.raises(RunError, match="another input, certificate or settings"):
        decide_file(run, source, output, rationale=True)
    before = source.read_text()
    source.write_text(before + '{"text": "one more"}\n')
    with pytest.raises(RunError, match="another input"):
        decide_file(run, source, output)
    source.write_text(before)
    (tmp_path / "out.jsonl.part").write_bytes(b"")
    with pytest.raises(RunError, match="shorter than it was"):
        decide_file(run, source, output)
    (tmp_path / "out.jsonl.part.json").unlink()
    assert decide_file(run, source, output).resumed == 0


def test_an_input_that_changes_meanwhile(run, source, small, tmp_path):
    def grow(tally, share):
        with open(source, "a") as file:
            file.write('{"text": "and another"}\n')

    with pytest.raises(RunError, match="was changed while it was read"):
        decide_file(run, source, tmp_path / "out.jsonl", progress=grow)
    assert not (tmp_path / "out.jsonl").exists()


def test_bad_rows_stop_nothing(run, small, tmp_path):
    lines = [
        '{"text": "rake the lawn", "id": "a"}',
        "nonsense",
        '{"text": ""}',
        '{"text": 5}',
        '{"other": "no text"}',
        '["a list"]',
        '{"text": ["a", "list"]}',
        '{"text": "' + "x" * 200_000 + '"}',
        '{"text": "boil the rice", "id": "b"}',
    ]
    source = tmp_path / "bad.jsonl"
    source.write_text("\n".join(lines))
    tally = decide_file(run, source, tmp_path / "out.jsonl")
    said = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [d["id"] for d in said] == ["a", *map(str, range(1, 8)), "b"]
    is_bad = [d["abstain_reason"] == "invalid" for d in said]
    assert is_bad[1] and is_bad[2] and is_bad[4] and is_bad[5] and is_bad[7]
    assert not is_bad[0] and not is_bad[8]
    assert all((d["error"] is not None) == bad for d, bad in zip(said, is_bad))
    assert tally.total == 9 and tally.unread == sum(is_bad)


def test_a_text_that_brings_the_model_down(run, source, small, tmp_path, monkeypatch):
    usual = file_decisions.decide_part

    def frail(run, inputs, *, rationale):
        if "q5" in inputs.ids:
            raise RuntimeError("no such token")
        return usual(run, inputs, rationale=rationale)

    monkeypatch.setattr(file_decisions, "decide_part", frail)
    tally = decide_file(run, source, tmp_path / "out.jsonl")
    said = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert tally.unread == 1 and said[5]["error"].endswith("no such token")

    def broken(run, inputs, *, rationale):
        raise RuntimeError("out of everything")

    monkeypatch.setattr(file_decisions, "decide_part", broken)
    with pytest.raises(RuntimeError, match="out of everything"):
        decide_file(run, source, tmp_path / "none.jsonl")


def test_formats_and_wrong_columns(run, source, tmp_path):
    rows = [json.loads(line) for line in source.open()]
    wanted = tmp_path / "a.jsonl"
    decide_file(run, source, wanted)
    cells = "id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in rows)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(cells.encode()))
    decide_file(run, tmp_path / "b.csv.gz", tmp_path / "b.jsonl")
    assert (tmp_path / "b.jsonl").read_bytes() == wanted.read_bytes()
    with pytest.raises(SchemaError, match="body"):
        decide_file(run, source, tmp_path / "c.jsonl", text="body")
    with pytest.raises(ConfigurationError, match="is no file"):
        decide_file(run, tmp_path, tmp_path / "c.jsonl")


def test_events_are_told_once(run, source, small, tmp_path):
    told = len(run.events(DecisionMade))
    calls = []

    def stop(tally, share):
        calls.append(share)
        if len(calls) == 2:
            raise Killed

    output = tmp_path / "out.jsonl"
    with pytest.raises(Killed):
        decide_file(run, source, output, record=True, progress=stop)
    decide_file(run, source, output, record=True, progress=lambda tally, share: None)
    events = run.events(DecisionMade)[told:]
    assert [event.input_id for event in events] == [f"q{i}" for i in range(14)]


def test_members_say_how_far_they_disagree(run):
    asked = (run.config.model.name, run.path / "adapter", run.path / "tokenizer")
    models = [load_adapter(*asked, max_length=24) for _ in range(2)]
    with torch.no_grad():
        models[1].net.head.weight.neg_()
    texts = ["rake the lawn", "boil the rice"]
    (one,) = run.decide(texts[:1], rationale=False)
    assert one.uncertainty.mutual_information is None
    several = Run.load(run.path)
    several.__dict__["model"] = ensemble(models)
    said = [softmax(logits) for logits in several.model.member_logits(texts)]
    decisions = several.decide(texts, rationale=False)
    found = [d.uncertainty.mutual_information for d in decisions]
    np.testing.assert_allclose(found, mutual_information(said), atol=1e-6)
    assert min(found) > 0
