"A fit of no epochs: the frozen model with the best head, certified like any other"

import shutil

import numpy as np
import pytest
import transformers

from fine_tune_llm.core.errors import RunError
from fine_tune_llm.core.files import sha256_tree
from fine_tune_llm.run import journey
from fine_tune_llm.run.progress import FitProgress


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("frozen") / "run", epochs=0)


def test_no_step_is_taken(toy_fit, tmp_path, monkeypatch):
    def refuse(*args, **more):
        raise AssertionError("a Trainer was made")

    monkeypatch.setattr(transformers.Trainer, "__init__", refuse)
    run = toy_fit(tmp_path / "run", epochs=0)
    kinds = [e.type.removeprefix("training.") for e in run.events("training.*")]
    assert kinds == ["warm_started", "evaluated", "not_trained"]
    (evaluated,) = run.events("training.evaluated")
    (started,) = run.events("training.warm_started")
    assert evaluated.epoch == 0 and evaluated.step == 0
    assert started.data["gradient"] <= 1e-5 and started.data["strength"] > 0
    assert run.config.training.epochs == 0 and run.threshold is not None
    assert (run.predictions("test").probs.argmax(1) == 0).any()


def test_the_adapter_says_nothing(run):
    from safetensors.numpy import load_file

    tensors = load_file(run.path / "adapter" / "adapter_model.safetensors")
    last = [tensor for name, tensor in tensors.items() if "lora_B" in name]
    assert last and not any(tensor.any() for tensor in last)


def test_it_goes_on_where_it_was_stopped(run, toy_fit, tmp_path, monkeypatch):
    def stopped(job):
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setitem(journey.STAGES_OF_FIT, "prediction", stopped)
        with pytest.raises(KeyboardInterrupt):
            toy_fit(folder, epochs=0)
    adapter = sha256_tree(folder / "adapter")
    again = toy_fit(folder, epochs=0)
    assert (
        sha256_tree(folder / "adapter") == adapter == sha256_tree(run.path / "adapter")
    )
    assert again.certificate["id"] == run.certificate["id"]
    assert len(again.events("training.not_trained")) == 1


def test_stopped_in_the_middle_of_the_start(run, toy_fit, tmp_path, monkeypatch):
    from fine_tune_llm.training import recipe

    def stopped(*args, **more):
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "_keep_start", stopped)
        with pytest.raises(KeyboardInterrupt):
            toy_fit(folder, epochs=0)
    assert not (folder / "adapter").exists()
    assert toy_fit(folder, epochs=0).certificate["id"] == run.certificate["id"]


def test_more_epochs_are_another_run(run, toy_fit, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    with pytest.raises(RunError, match="training.epochs"):
        toy_fit(copy, epochs=1)


def test_the_bar_says_so(run):
    view = FitProgress()
    for event in run.events("*"):
        view(event)
    page = view._repr_html_()
    assert "training (none: the frozen model)" in page and "← kept" in page


def test_the_command(ftllm, tiny, tmp_path):
    words = ["fit", tiny / "rows.jsonl", "--model", tiny / "bert", "--epochs", "0"]
    words += ["--config", tiny / "more.yaml", "--target-risk", "0.4", "--out", "run"]
    done = ftllm(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 0" in done.stderr and "epoch 1" not in done.stderr


def test_the_head_alone_learns_the_toys(run):
    said = run.predictions("test")
    right = said.logits.argmax(1) == said.labels
    assert np.mean(right) > 0.8
