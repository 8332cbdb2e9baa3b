"Two processes train as one does: losses, evaluations, weights"

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("trained_alone.py")
spec = importlib.util.spec_from_file_location("trained_alone", SCRIPT)
trained_alone = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trained_alone)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    "Results of all cases, on two processes that talk by gloo"
    out = tmp_path_factory.mktemp("two") / "found.json"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_port", str(20_000 + os.getpid() % 20_000)]
    words = [*launch, str(SCRIPT), str(out), *trained_alone.CASES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("case", trained_alone.CASES)
def test_two_processes_are_one(by_two, tmp_path, case):
    one, two = trained_alone.result_of(case, tmp_path), by_two[case]
    assert len(one["losses"]) == len(two["losses"]) == 12
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=0, atol=1e-6)
    for here, there in zip(one["evaluations"], two["evaluations"], strict=True):
        assert here.keys() == there.keys()
        for name, value in here.items():
            assert there[name] == pytest.approx(value, abs=1e-6), name
    np.testing.assert_allclose(two["weights"], one["weights"], rtol=0, atol=1e-4)


ENDING = """
import atexit, sys, weakref
from torch import distributed
from transformers import TrainingArguments
from fine_tune_llm.training.resuming import ResumableTrainer
from fine_tune_llm.testing import tiny_model

store = distributed.HashStore()
distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
group = weakref.ref(distributed.group.WORLD)
atexit.register(lambda: print(group()))
for _ in range(2):
    arguments = TrainingArguments(sys.argv[1], use_cpu=True, report_to="none")
    ResumableTrainer(tiny_model("bert", seed=0), arguments)
"""


def test_gloo_is_left_before_python_ends(tmp_path):
    "Its threads release tensors, for which an ending Python would end them and all"
    words = [sys.executable, "-c", ENDING, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr[-3000:]


def test_a_process_that_fails_waits_for_nobody(tmp_path):
    words = [sys.executable, "-c", f"{ENDING}\nraise OSError('disk')", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and "OSError: disk" in done.stderr
    assert "ProcessGroup object" in done.stdout


@pytest.mark.parametrize("case", ["weighted", "weighted_rows", "pairs"])
def test_parts_are_the_whole(tmp_path, monkeypatch, case):
    "Accumulation in whatever parts gives the losses of one batch"
    _, loss, more = trained_alone.CASES[case]
    rows = {name: value for name, value in more.items() if name == "row_weights"}
    cases = {
        "whole": ({}, loss, rows),
        "micro": ({"gradient_accumulation_steps": 4}, loss, rows),
        "parts": ({}, loss, {"accumulation": 3} | rows),
        "both": ({"gradient_accumulation_steps": 2}, loss, {"accumulation": 2} | rows),
    }
    monkeypatch.setattr(trained_alone, "CASES", cases)
    whole = trained_alone.result_of("whole", tmp_path / "whole")
    for name in ("micro", "parts", "both"):
        found = trained_alone.result_of(name, tmp_path / name)
        np.testing.assert_allclose(
            found["losses"], whole["losses"], rtol=0, atol=1e-6, err_msg=name
        )
