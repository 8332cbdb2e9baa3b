"What is resumed from is what was written: pickles of others are not opened"

import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from fine_tune_llm.config.schema import LoraSection, TrainingConfig
from fine_tune_llm.core.errors import CheckpointError
from fine_tune_llm.core.events import ModelSaved
from fine_tune_llm.core.files import sha256_tree, write_json
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.testing import toy_rows
from fine_tune_llm.training.trainer import train

ROWS = toy_rows(96)
TEXTS = [row["text"] for row in ROWS]
LABELS = [int(row["label"] == "kitchen") for row in ROWS]
CONFIG = TrainingConfig(epochs=3, learning_rate=1e-2, dropout=0.0, precision="fp32")


@pytest.fixture
def go(tiny):
    "Trains in a folder; killed when the first checkpoint is written, if asked"

    def trained(folder, killed=False):
        def publish(event):
            if killed and isinstance(event, ModelSaved):
                raise KeyboardInterrupt

        model = load_model(str(tiny / "bert"), 2, seed=0, lora=LoraSection(r=4))
        parts = [(TEXTS[:64], LABELS[:64]), (TEXTS[64:], LABELS[64:])]
        try:
            train(
                model,
                *parts,
                config=CONFIG,
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


@pytest.fixture
def killed(go, tmp_path):
    "A folder with one whole checkpoint"
    go(tmp_path / "work", killed=True)
    (checkpoint,) = [p for p in (tmp_path / "work").glob("checkpoint-*") if p.is_dir()]
    return checkpoint


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


PICKLES = ["optimizer.pt", "scheduler.pt", "rng_state.pth"]


@pytest.mark.parametrize("file", PICKLES)
def test_a_planted_pickle_is_never_run(go, killed, tmp_path, file):
    mark = tmp_path / "it ran"
    assert (killed / file).is_file()
    torch.save(Evil(mark), killed / file, pickle_module=pickle)
    with_mark = shutil.copytree(killed.parent, tmp_path / "copy") / killed.name
    whole = go(tmp_path / "whole")
    np.testing.assert_array_equal(go(killed.parent), whole)  # from the start
    write_json(with_mark.with_suffix(".json"), {"sha256": sha256_tree(with_mark)})
    try:
        go(with_mark.parent)
    except Exception as e:
        assert "weights_only" in str(e).lower() or "Unsupported" in str(e)
    assert not mark.exists()


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
    "mark", [b"", b"[]", b"null", b"[" * 100_000, b'{"sha256": 1}']
)
def test_a_broken_mark_is_a_torn_checkpoint(go, killed, tmp_path, mark):
    killed.with_suffix(".json").write_bytes(mark)
    np.testing.assert_array_equal(go(killed.parent), go(tmp_path / "whole"))


def test_checkpoints_within_a_second_are_no_news(go, tmp_path, caplog):
    from transformers import trainer_utils

    trainer_utils.logger.warning_once.cache_clear()
    go(tmp_path / "a")
    assert "mtime" not in caplog.text
