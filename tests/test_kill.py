"A run killed at any instant resumes to the same certificate and leaves no torn file"

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from fine_tune_llm.core.locks import single_writer
from fine_tune_llm.predictions import LabelledRows
from fine_tune_llm.run.directory import Run


def start(tiny, out):
    words = [
        "fit",
        tiny / "rows.jsonl",
        "--model",
        tiny / "bert",
        "--out",
        out,
        "--config",
        tiny / "more.yaml",
        "--epochs",
        "3",
    ]
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "ftllm"), *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    err = process.communicate(timeout=300)[1]
    return process.returncode, err


def check_no_torn_file(out):
    "Whatever has its final name is whole"
    for p in out.rglob("*"):
        inside = p.relative_to(out).parts
        if not p.is_file() or any(".tmp-" in n for n in inside) or inside[0] == ".work":
            continue
        if p.suffix == ".json":
            json.loads(p.read_text(encoding="utf-8"))
        if p.suffix == ".parquet":
            assert len(LabelledRows.load(p))
        if p.suffix == ".safetensors":
            with safe_open(p, "numpy") as f:
                assert sum(f.get_tensor(k).size for k in list(f.keys()))
        if p.suffix == ".html":
            assert p.read_text(encoding="utf-8").rstrip().endswith("</html>")


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    "An uninterrupted run, and how long it took"
    out = tmp_path_factory.mktemp("whole") / "run"
    t = time.monotonic()
    code, err = finish(start(tiny, out))
    assert code in (0, 3), err
    return (out / "certificate.json").read_bytes(), time.monotonic() - t, code


@pytest.mark.parametrize("i", range(10))
def test_killed_then_resumed(tiny, whole, tmp_path, i):
    certificate, took, code = whole
    out = tmp_path / "run"
    # The first third is only imports
    share = random.Random(20261123 + i).uniform(0.35, 1.0)
    p = start(tiny, out)
    try:
        p.wait(share * took)
    except subprocess.TimeoutExpired:
        os.kill(p.pid, signal.SIGKILL)
    p.communicate()
    if out.exists():
        check_no_torn_file(out)
    again, err = finish(start(tiny, out))
    assert again == code, err
    assert (out / "certificate.json").read_bytes() == certificate
    check_no_torn_file(out)
    assert not [q for q in out.rglob("*") if ".tmp-" in q.name]
    assert not (out / ".work").exists()
    assert Run.load(out).certificate == json.loads(certificate)


def test_two_writers(tiny, tmp_path):
    """While one process holds a run's folder, a second is refused and writes nothing

    Afterwards it may.
    """
    out = tmp_path / "run"
    out.mkdir()
    with single_writer(out):
        code, err = finish(start(tiny, out))
        assert code == 2 and "another process" in " ".join(err.split()), err
        assert [p.name for p in out.iterdir()] == [".lock"]
    assert finish(start(tiny, out))[0] in (0, 3)
    Run.load(out)
