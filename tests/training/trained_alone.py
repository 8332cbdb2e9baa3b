"""Small trainings for tests: in this process, or in several by torch.distributed.run

`python trained_alone.py OUT CASE...` writes what each case gave to OUT as JSON.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from fine_tune_llm.models.head import PooledClassifier
from fine_tune_llm.testing import tiny_model
from fine_tune_llm.training.batches import BatchCollator, TokenRows
from fine_tune_llm.training.losses import make_loss
from fine_tune_llm.training.trainer import CalibratedTrainer

ROWS = 45  # 8 a step: 5 whole steps and one of 5 rows, which two processes share badly


class PairLoss:
    "A loss that has no value for a row alone, and remembers"

    def __init__(self):
        self.seen = torch.zeros(2)

    def __call__(self, logits, labels):
        loss = torch.nn.functional.cross_entropy(logits, labels)
        gap = logits.softmax(1).mean(0)[1] - labels.float().mean()
        memory = self.seen[1] / self.seen[0].clamp(min=1)
        return loss + gap.abs() + 0.1 * memory * logits.square().mean()

    def observe(self, logits, labels):
        self.seen = self.seen + torch.tensor([len(labels), labels.sum()]).float()

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


WEIGHTS = [0.2, 3.0]
CASES = {
    "plain": (dict(), lambda: make_loss("cross_entropy"), {}),
    "weighted": (
        dict(gradient_accumulation_steps=2),
        lambda: make_loss("cross_entropy", class_weights=WEIGHTS),
        dict(accumulation=2),
    ),
    "weighted_rows": (
        dict(gradient_accumulation_steps=2),
        lambda: make_loss("cross_entropy", class_weights=WEIGHTS),
        dict(accumulation=2, row_weights=True),
    ),
    "pairs": (dict(gradient_accumulation_steps=2), PairLoss, {}),
    "pairs_whole": (dict(), PairLoss, dict(metrics=["aurc"])),
}


class Notes(TrainerCallback):
    def __init__(self):
        self.losses = []

    def on_step_end(self, args, state, control, **extra):
        self.losses.append(self.trainer.losses.total - sum(self.losses))


def trainer_of(folder, settings, loss, more, *, rows=ROWS, callbacks=()):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, rows)
    ids = [[5 + y, *rng.integers(8, 30, rng.integers(3, 9)).tolist()] for y in labels]
    n_processes = int(os.environ.get("WORLD_SIZE", 1))
    at_once = n_processes * settings.get("gradient_accumulation_steps", 1)
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=8 // at_once,
        per_device_eval_batch_size=16,
        num_train_epochs=2,
        learning_rate=5e-3,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        metric_for_best_model="nll_calibrated",
        greater_is_better=False,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=True,
        **{"report_to": "none"} | settings,
    )
    torch.manual_seed(0)
    net = PooledClassifier(tiny_model("bert", seed=0), 2, dropout=0.0)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    notes = Notes()
    more = dict(more)
    weights = rng.exponential(size=rows) if more.pop("row_weights", False) else None
    trainer = CalibratedTrainer(
        net,
        arguments,
        data_collator=BatchCollator(0),
        train_dataset=TokenRows(ids, labels, weights),
        eval_dataset=TokenRows(ids, labels),
        loss=loss,
        callbacks=[notes, *callbacks],
        **more,
    )
    trainer.remove_callback(PrinterCallback)
    notes.trainer = trainer
    return trainer, notes


def result_of(case, folder):
    settings, loss, more = CASES[case]
    trainer, notes = trainer_of(folder, settings, loss(), more)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "eval_nll" in line]
    kept = ("loss", "accuracy", "nll", "brier", "ece", "mce", "nll_calibrated", "aurc")
    evaluations = [
        {name: line[f"eval_{name}"] for name in kept if f"eval_{name}" in line}
        for line in lines
    ]
    weights = [p.detach().double().sum().item() for p in trainer.model.parameters()]
    return {"losses": notes.losses, "evaluations": evaluations, "weights": weights}


def main(out, *cases):
    folder = Path(tempfile.mkdtemp()) if "RANK" not in os.environ else Path(out).parent
    found = {case: result_of(case, folder / case) for case in cases}
    if int(os.environ.get("RANK", 0)) == 0:
        Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
