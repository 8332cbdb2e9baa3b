"""A training that is ended at any instant goes on to the same losses and weights

Trainings are forked, so that a kill is a real one and costs no imports.
"""

import importlib.util
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from fine_tune_llm.core.errors import CheckpointError, ConvergenceError, ResourceError
from fine_tune_llm.core.files import read_json, sha256_file, sha256_json, write_json
from fine_tune_llm.training.checkpoints import CheckpointManager

SCRIPT = Path(__file__).with_name("trained_alone.py")
spec = importlib.util.spec_from_file_location("trained_alone", SCRIPT)
trained_alone = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trained_alone)
PAIRS = trained_alone.PairLoss
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


class Log(TrainerCallback):
    "Appends the loss of every step to a file, and may wait"

    def __init__(self, file, wait=0.0):
        self.file, self.wait, self.trainer = file, wait, None

    def on_step_end(self, args, state, control, **extra):
        total = self.trainer.losses.total
        with open(self.file, "a") as file:
            file.write(f"{state.global_step} {total!r}\n")
        time.sleep(self.wait)


def go(folder, *, wait=0.0, rows=45):
    "Train, or go on; with dropout, mid-epoch checkpoints and a loss that remembers"
    log = Log(folder / "losses.txt", wait)
    more = {"save_every": "2 steps", "accumulation": 2}
    trainer, _ = trained_alone.trainer_of(
        folder / "work", {}, PAIRS(), more, rows=rows, callbacks=[log]
    )
    log.trainer = trainer
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    trainer.train(resume_from_checkpoint=True)
    return trainer


def forked(folder, wait=0.0):
    "A child that trains; it exits with 0, or 130 when it was interrupted"
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        # what a shell begins in the background ignores it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        go(folder, wait=wait)
        code = 0
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def catches(process, number):
    "Has it a handler for this signal? After the first one that it noted it has none"
    file = Path(f"/proc/{process}/status")
    if not file.exists():  # no Linux
        time.sleep(1)
        return False
    caught = re.search(r"SigCgt:\s*(\w+)", file.read_text())[1]
    return bool(int(caught, 16) >> (number - 1) & 1)


def said(trainer):
    "The curve and the weights"
    names = ("loss", "eval_nll", "eval_nll_calibrated", "learning_rate", "step")
    lines = [line for line in trainer.state.log_history if "train_loss" not in line]
    curve = [[line.get(name) for name in names] for line in lines]
    return curve, [p.detach().double().sum().item() for p in trainer.model.parameters()]


def losses(folder):
    file = folder / "losses.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(line.split()[0]), float(line.split()[1])) for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    begun = time.monotonic()
    found = said(go(folder))
    return found, dict(losses(folder)), time.monotonic() - begun


def check_same(folder, whole):
    "Whatever was interrupted, the end and every step on the way are those of one go"
    curve, by_step, _ = whole
    found = said(go(folder))
    assert found == curve
    for step, total in losses(folder):
        assert total == pytest.approx(by_step[step], abs=1e-6), step


@needs_fork
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_after_a_saved_step(tmp_path, whole, name):
    child = forked(tmp_path, wait=0.1)
    while len(losses(tmp_path)) < 3:
        time.sleep(0.01)
    os.kill(child, getattr(signal, name))
    assert ended(child) == 130
    done = losses(tmp_path)[-1][0]
    assert CheckpointManager(tmp_path / "work").last().step == done < 12
    check_same(tmp_path, whole)


@needs_fork
def test_a_second_signal_ends_at_once(tmp_path):
    child = forked(tmp_path, wait=600)
    while not losses(tmp_path):
        time.sleep(0.01)
    begun = time.monotonic()
    os.kill(child, signal.SIGINT)
    while catches(child, signal.SIGTERM):  # two that come at once would count as one
        time.sleep(0.05)
    os.kill(child, signal.SIGINT)
    assert ended(child) == 130
    assert time.monotonic() - begun < 300  # it did not wait for the step


@needs_fork
@pytest.mark.parametrize("i", range(20))
def test_killed_at_any_instant(tmp_path, whole, i):
    seconds = random.Random(i).uniform(0.0, 1.1) * whole[2]
    child = forked(tmp_path)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert ended(child) in (-signal.SIGKILL, 0)
    check_same(tmp_path, whole)
    left = [p.name for p in (tmp_path / "work").iterdir()]
    assert all(name.startswith("checkpoint-") for name in left), left


@pytest.fixture
def states(tmp_path, monkeypatch):
    """What a kill can leave of a training

    A copy of its folder before every rename, sync and removal, one of each kind.
    """
    work = tmp_path / "run" / "work"
    found: dict[str, Path] = {}

    def recorded(call):
        def before(*args, **kwargs):
            if work.exists():
                files = [p for p in work.rglob("*") if p.is_file()]
                key = sha256_json(sorted((str(p), p.stat().st_size) for p in files))
                if key not in found:
                    found[key] = tmp_path / f"{len(found):03}"
                    shutil.copytree(work, found[key] / "work")
            return call(*args, **kwargs)

        return before

    (tmp_path / "run").mkdir()
    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "unlink", "rmdir"):
            patch.setattr(os, name, recorded(getattr(os, name)))
        go(tmp_path / "run")
    return list(found.values())


def test_killed_at_every_write_point(states, whole):
    assert len(states) > 30
    steps = set()
    for copy in states:  # each goes on from a checkpoint that is whole
        last = CheckpointManager(copy / "work").last()
        steps.add(last.step if last else 0)
    assert steps == {0, 2, 4, 6, 8, 10, 12}
    for copy in states[:: max(1, len(states) // 5)]:
        check_same(copy, whole)


SIZES = [500, 1_500, 3_000, 6_000, 12_000, 30_000, 60_000, 90_000, 120_000, 180_000]


@pytest.mark.parametrize("most", SIZES)
def test_a_full_disk_is_told_and_training_goes_on(tmp_path, whole, most):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(ResourceError, match="too large|space|full"):
            go(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [p for p in (tmp_path / "work").rglob("*") if p.is_file()]
    if most in SIZES[::5]:
        check_same(tmp_path, whole)


def test_other_processes_than_before_are_refused(tmp_path):
    trainer = go(tmp_path)
    last = trainer.checkpoints().last()
    file = last.path / "state.json"
    text = file.read_text().replace('"processes",\n   1', '"processes",\n   2')
    file.write_text(text)
    manifest = read_json(last.path / "manifest.json")
    manifest["files"]["state.json"] = sha256_file(file)
    write_json(last.path / "manifest.json", manifest)
    with pytest.raises(CheckpointError, match="by 2 processes, and now there are 1"):
        go(tmp_path)


def test_a_callback_that_fails_is_reported_once(tmp_path):
    class Fails(TrainerCallback):
        def on_step_end(self, args, state, control, **extra):
            raise RuntimeError("no")

    told = []
    trainer, notes = trained_alone.trainer_of(
        tmp_path, {}, PAIRS(), {"publish": told.append}, callbacks=[Fails()]
    )
    trainer.train()
    assert len(notes.losses) == 12
    assert [event.type for event in told] == ["training.callback_failed"]


def test_not_one_row_fits(tmp_path):
    trainer, _ = trained_alone.trainer_of(tmp_path, {}, PAIRS(), {})

    def full(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried")

    trainer.model.forward = full
    with pytest.raises(ResourceError, match="1 rows at once") as caught:
        trainer.train()
    assert "Not one row fits" in caught.value.hint


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_the_rows_that_gave_no_number_are_named(tmp_path, where):
    def loss(logits, labels):
        value = torch.nn.functional.cross_entropy(logits, labels)
        loss.calls += 1
        if loss.calls < 3:
            return value
        if where == "loss":
            return value * torch.inf
        return value + (logits.sum() * 0).clamp(min=0).sqrt()  # slope 0 * inf

    loss.calls = 0
    trainer, _ = trained_alone.trainer_of(tmp_path, {}, loss, {})
    before = [p.clone() for p in trainer.model.parameters()]
    words = "the loss is inf" if where == "loss" else "a gradient is not finite"
    with pytest.raises(ConvergenceError, match=f"{words} at step 3") as caught:
        trainer.train()
    rows = list(trainer.sampler)[16:24]
    assert caught.value.context["rows"] == sorted(rows)
    after = list(trainer.model.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    assert any((p != q).any() for p, q in zip(before, after))


def test_a_moment_of_no_memory_changes_nothing(tmp_path):
    "On the third micro-batch of a step, after gradients were added up"
    torch.manual_seed(0)
    cases = {}
    for fails in (False, True):
        settings = {"gradient_accumulation_steps": 4}
        weighted = trained_alone.CASES["weighted"][1]()
        folder = tmp_path / str(fails)
        trainer, notes = trained_alone.trainer_of(folder, settings, weighted, {})
        forward, calls = trainer.model.forward, [0]

        def scarce(*args, forward=forward, calls=calls, fails=fails, **kwargs):
            calls[0] += 1
            out = forward(*args, **kwargs)
            if fails and calls[0] == 7:
                raise MemoryError
            return out

        trainer.model.forward = scarce
        trainer.train()
        cases[fails] = notes.losses
        assert trainer.computer.n_parts == 1 + fails
    np.testing.assert_allclose(cases[True], cases[False], rtol=0, atol=1e-6)
