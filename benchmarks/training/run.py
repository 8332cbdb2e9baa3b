"""What monitored training costs beside a plain Trainer, in one process, in turns"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from fine_tune_llm.core.files import atomic_write
from fine_tune_llm.models.head import PooledClassifier
from fine_tune_llm.training.batches import BatchCollator, TokenRows
from fine_tune_llm.training.trainer import CalibratedTrainer

HERE = Path(__file__).resolve().parent
K = 20


class PlainCollator(BatchCollator):
    "What a plain Trainer takes: no row numbers"

    def __call__(self, rows):
        batch = super().__call__(rows)
        del batch["rows"]
        return batch


def network(width, layers):
    config = BertConfig(
        vocab_size=2000,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(2, width // 32),
        intermediate_size=4 * width,
    )
    set_seed(0)
    net = PooledClassifier(BertModel(config, add_pooling_layer=False), K)
    for name, p in net.named_parameters():
        p.requires_grad_("attention.self" in name or name.startswith("head"))
    return net


def rows_of(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, n)
    ids = [rng.integers(5, 2000, rng.integers(8, 40)).tolist() for _ in range(n)]
    return TokenRows(ids, labels)


def seconds_of(kind, net, train, held_out, epochs):
    "Processor seconds of a training with an evaluation and a checkpoint an epoch"
    collator = BatchCollator(0) if kind is CalibratedTrainer else PlainCollator(0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=2,
            logging_strategy="epoch",
            train_sampling_strategy="group_by_length",
            remove_unused_columns=False,
            label_names=["labels"],
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = kind(
            net,
            arguments,
            data_collator=collator,
            train_dataset=train,
            eval_dataset=held_out,
        )
        trainer.remove_callback(PrinterCallback)
        begun = time.process_time()
        trainer.train()
        return time.process_time() - begun


def monitored(tiny, turns):
    width, layers, n = (64, 2, 640) if tiny else (384, 6, 640)
    train, held_out = rows_of(n, 0), rows_of(n // 4, 1)
    found = {"plain": [], "monitored": []}
    for turn in range(turns + 1):  # the first one warms up
        for name, kind in (("plain", Trainer), ("monitored", CalibratedTrainer)):
            seconds = seconds_of(kind, network(width, layers), train, held_out, 1)
            if turn:
                found[name].append(round(seconds, 3))
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {
        "rows": n,
        "width": width,
        "layers": layers,
        "seconds": found,
        "ratio": round(medians["monitored"] / medians["plain"], 4),
        "ratios_by_turn": [
            round(b / a, 4) for a, b in zip(found["plain"], found["monitored"])
        ],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["monitored"])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    told = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True
    )
    result = {
        "seed": 0,
        "commit": told.stdout.strip(),
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("torch", "transformers", "accelerate")},
        **monitored(asked.tiny, asked.turns),
    }
    name = "monitored_tiny" if asked.tiny else "monitored"
    with atomic_write(HERE / "results" / f"{name}.json") as file:
        file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
