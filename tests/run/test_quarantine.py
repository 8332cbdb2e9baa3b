"A fit that sets rows aside: counts in data.json, the rows in quarantine.jsonl"

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fine_tune_llm.data import loading
from fine_tune_llm.data.sources import Limits
from fine_tune_llm.data.spill import Column
from fine_tune_llm.run import roles

FTLLM = str(Path(sys.executable).parent / "ftllm")  # the installed command
SHARES = {"train": 0.4, "validation": 0.1, "calibration": 0.3, "test": 0.2}
BAD = ['{"text": "torn"', '{"text": 7, "label": "a"}', '{"text": "no label"}']


@pytest.fixture
def damaged(tiny, tmp_path):
    "The toy rows with bad lines among them, and without"
    lines = (tiny / "rows.jsonl").read_text().splitlines()
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*lines[:100], *BAD, *lines[100:]]) + "\n")
    return path


def words(tiny, data, out):
    model, more = tiny / "bert", tiny / "more.yaml"
    said = f"fit {data} --model {model} --out {out} --config {more} --epochs 1"
    return [FTLLM, *said.split(), "--set", "data.on_error=quarantine"]


def test_killed_and_resumed(tiny, damaged, tmp_path):
    "Whenever it is killed, each bad row is there once, and nothing else differs"
    out, begun = tmp_path / "whole", time.monotonic()
    done = subprocess.run(words(tiny, damaged, out), capture_output=True, text=True)
    took = time.monotonic() - begun
    assert done.returncode in (0, 3), done.stderr
    assert "3 of 515 rows are set aside: line 101 is not JSON" in done.stderr
    entries = [json.loads(x) for x in (out / "quarantine.jsonl").open()]
    assert [entry["raw"] for entry in entries] == BAD
    assert [entry["line"] for entry in entries] == [101, 102, 103]
    source = json.loads((out / "data.json").read_text())["source"]
    kept = {"read": 515, "kept": 512, "quarantined": 3, "empty": 0, "blank": 0}
    assert source["counts"] == kept
    for share in (0.6, 0.9):
        again = tmp_path / f"killed{share}"
        process = subprocess.Popen(
            words(tiny, damaged, again),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(share * took)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done = subprocess.run(
            words(tiny, damaged, again), capture_output=True, text=True
        )
        assert done.returncode in (0, 3), done.stderr
        for name in ("quarantine.jsonl", "data.json", "certificate.json"):
            assert (again / name).read_bytes() == (out / name).read_bytes(), name


def test_a_test_file_has_its_own(toy_fit, damaged, tmp_path):
    test = tmp_path / "test.jsonl"
    rows = [f'{{"text": "fresh {i}", "label": "garden"}}' for i in range(8)]
    test.write_text("\n".join([*rows, "torn"]))
    config = {"data": SHARES | {"on_error": "quarantine"}}
    run = toy_fit(tmp_path / "run", rows=damaged, test=test, config=config)
    entries = [json.loads(x) for x in (run.path / "quarantine.jsonl").open()]
    assert [entry["source"] for entry in entries] == ["rows.jsonl"] * 3 + ["test.jsonl"]
    assert run.data["source"]["test"]["counts"]["quarantined"] == 1


def test_a_fit_on_a_large_file_is_that_on_a_small_one(
    toy_fit, tiny, tmp_path, monkeypatch
):
    data = tiny / "rows.jsonl"
    small = toy_fit(tmp_path / "small", rows=data)
    seen = []

    def tiny_memory(settings):
        return loading.load_options(settings) | {"limits": Limits(in_memory=1)}

    def watched(*args, **how):
        seen.append(loading.load(*args, **how))
        return seen[-1]

    monkeypatch.setattr(roles, "load_options", tiny_memory)
    monkeypatch.setattr(roles, "load", watched)
    large = toy_fit(tmp_path / "large", rows=data)
    assert isinstance(seen[0].texts, Column)
    for name in ("data.json", "certificate.json"):
        assert (large.path / name).read_bytes() == (small.path / name).read_bytes()
