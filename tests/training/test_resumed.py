"What is resumed from is what was written: nothing else is opened"

import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fine_tune_llm.config.schema import LoraSection, TrainingConfig
from fine_tune_llm.core.errors import CheckpointError
from fine_tune_llm.core.events import ModelSaved
from fine_tune_llm.core.files import read_json, sha256_file, write_json
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.testing import toy_rows
from fine_tune_llm.training.checkpoints import CheckpointManager
from fine_tune_llm.training.recipe import train

ROWS = toy_rows(96)
TEXTS = [row["text"] for row in ROWS]
LABELS = [int(row["label"] == "kitchen") for row in ROWS]
CONFIG = TrainingConfig(epochs=3, learning_rate=1e-2, dropout=0.0, precision="fp32")


@pytest.fixture(scope="module")
def go(tiny):
    "Trains in a folder; killed when the first checkpoint is written, if asked"

    def trained(folder, killed=False, r=4, config=CONFIG):
        def publish(event):
            if killed and isinstance(event, ModelSaved):
                raise KeyboardInterrupt

        model = load_model(str(tiny / "bert"), 2, seed=0, lora=LoraSection(r=r))
        parts = [(TEXTS[:64], LABELS[:64]), (TEXTS[64:], LABELS[64:])]
        try:
            train(
                model,
                *parts,
                config=config,
                folder=folder,
                seed=0,
                device="cpu",
                publish=publish,
                progress=False,
            )
        except KeyboardInterrupt:
            return None
        return model.logits(TEXTS[64:])

    return trained


@pytest.fixture(scope="module")
def once(go, tmp_path_factory):
    folder = tmp_path_factory.mktemp("once") / "work"
    go(folder, killed=True)
    return folder


@pytest.fixture
def killed(once, tmp_path):
    "A folder with one whole checkpoint"
    work = shutil.copytree(once, tmp_path / "work")
    (checkpoint,) = [p for p in work.glob("checkpoint-*") if p.is_dir()]
    return checkpoint


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_no_pickle_is_written(killed):
    kinds = {file.suffix for file in killed.parent.rglob("*") if file.is_file()}
    assert kinds == {".json", ".safetensors"}


@pytest.mark.parametrize("file", ["optimizer.pt", "training_args.bin"])
def test_a_planted_pickle_is_refused_by_name(go, killed, tmp_path, file):
    mark = tmp_path / "it ran"
    torch.save(Evil(mark), killed / file, pickle_module=pickle)
    with pytest.raises(CheckpointError, match=f"{file}` was not written"):
        go(killed.parent)
    manifest = read_json(killed / "manifest.json")
    manifest["files"][file] = sha256_file(killed / file)
    write_json(killed / "manifest.json", manifest)
    with pytest.raises(CheckpointError, match=f"{file}` may run code"):
        go(killed.parent)
    assert not mark.exists()


FILES = ["learned.safetensors", "state.safetensors", "state.json", "trainer_state.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["changed", "cut", "missing"])
def test_a_tampered_file_is_refused_by_name(go, killed, tmp_path, file, how):
    whole = (killed / file).read_bytes()
    (killed / file).write_bytes(whole[:-9] if how == "cut" else whole + b" ")
    if how == "missing":
        (killed / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file}` is not as it was written") as e:
        go(killed.parent)
    assert "Remove" in e.value.hint and str(killed) in e.value.hint
    if (file, how) == (FILES[0], "changed"):
        shutil.rmtree(killed)  # as the hint says
        np.testing.assert_array_equal(go(killed.parent), go(tmp_path / "whole"))


def test_a_moved_run_resumes_to_the_same(go, killed, tmp_path):
    moved = killed.parent.rename(tmp_path / "moved")
    np.testing.assert_array_equal(go(moved), go(tmp_path / "whole"))


def test_a_best_epoch_of_another_run_is_not_taken(go, killed, tmp_path):
    "The path that a checkpoint remembers may be another run's by now"
    moved = shutil.copytree(killed.parent, tmp_path / "moved")
    for file in killed.glob("learned.safetensors"):
        file.write_bytes(b"of another run")
    np.testing.assert_array_equal(go(moved), go(tmp_path / "whole"))


def test_a_changed_start_is_refused(go, killed):
    with open(killed.parent / "start.safetensors", "ab") as file:
        file.write(b" ")
    with pytest.raises(CheckpointError, match="not as it was written"):
        go(killed.parent)


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"null", b"[" * 100_000, b'{"step": 1, "files": 1}']
)
def test_a_broken_manifest_is_refused(go, killed, manifest):
    (killed / "manifest.json").write_bytes(manifest)
    with pytest.raises(CheckpointError, match=r"manifest.json` is not as it was"):
        go(killed.parent)


def test_a_checkpoint_of_another_adapter_is_refused(go, killed):
    with pytest.raises(CheckpointError, match="of another adapter or head"):
        go(killed.parent, r=8)


def test_a_lost_head_is_named(go, killed):
    "A checkpoint that says it is whole, without the head"
    file = killed / "learned.safetensors"
    tensors = {n: t for n, t in load_file(file).items() if not n.startswith("head")}
    save_file(tensors, file)
    manifest = read_json(killed / "manifest.json")
    manifest["files"][file.name] = sha256_file(file)
    write_json(killed / "manifest.json", manifest)
    with pytest.raises(CheckpointError, match="head.bias, head.weight"):
        go(killed.parent)


def test_stopped_early_stays_stopped(go, tmp_path):
    """Killed after the last checkpoint of a training that stopped early

    When it is called again it does not go on.
    """
    late = TrainingConfig(
        epochs=9, learning_rate=0.5, dropout=0.0, precision="fp32", patience=1
    )
    whole = go(tmp_path / "whole", config=late)
    steps = CheckpointManager(tmp_path / "whole").last().step
    assert steps < 9 * 2
    (tmp_path / "again").mkdir()
    shutil.copytree(tmp_path / "whole", tmp_path / "again", dirs_exist_ok=True)
    np.testing.assert_array_equal(go(tmp_path / "again", config=late), whole)
    assert CheckpointManager(tmp_path / "again").last().step == steps
