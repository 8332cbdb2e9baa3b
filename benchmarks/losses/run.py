"""Which loss earns its place: each on BANKING77, raw and after temperature

One cell is a loss, a share of the train rows and a seed. A cell that was computed is
not computed again; `results/PART.json` is made anew from all cells there are.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from fine_tune_llm.config.schema import LossConfig, TrainingConfig
from fine_tune_llm.core.files import atomic_write
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.calibration_error import ece
from fine_tune_llm.stats.conformal import ConformalClassifier
from fine_tune_llm.stats.metrics import accuracy, nll
from fine_tune_llm.stats.paired import compare, compare_rows
from fine_tune_llm.stats.selective import aurc
from fine_tune_llm.stats.temperature import best_temperature
from fine_tune_llm.training.losses import make_loss
from fine_tune_llm.training.recipe import train

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FTLLM_DATA", HERE.parents[2] / "shared/data")) / "banking77"
PLAIN = "cross_entropy"
LOSSES = (
    PLAIN,
    "cross_entropy(label_smoothing=0.05)",
    "focal(gamma=1)",
    "focal(gamma=2)",
    "focal(gamma=3)",
    "flsd53",
    "dual_focal(gamma=5)",
    "cross_entropy+mdca",
    "focal(gamma=2)+mdca",
    "aurc",
    "cross_entropy+crl",
    "gambler(payoff=2)",
    "cross_entropy+gambler(payoff=2)",
    "cross_entropy+conformal_size",
    "cross_entropy+margin_smoothing",
    "cross_entropy+0.5*expected_cost",
)
ALPHA = 0.05  # of the prediction sets
EPOCHS, RATE, BATCH, WEIGHT_DECAY = 40, 0.05, 64, 0.0  # of the linear part
MEASURES = {"accuracy": accuracy, "nll": nll, "ece": ece, "aurc": aurc}


def read_rows():
    "Texts and labels by file"
    found = {}
    for name in ("train", "valid", "test"):
        lines = (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        found[name] = [row["text"] for row in rows], [row["label"] for row in rows]
    classes = sorted(set(found["train"][1]))
    code = {name: k for k, name in enumerate(classes)}
    return {
        name: (texts, np.array([code[label] for label in labels]))
        for name, (texts, labels) in found.items()
    }


def features(work, rows):
    "Mean and maximum of MiniLM's last layer, each of length 1, kept in a file"
    file = work / "features.npz"
    if not file.is_file():
        model = load_model("minilm", 77, seed=0, pooling="mean_max", max_length=64)
        made = {}
        for name, (texts, _) in rows.items():
            halves = np.split(model.features(texts), 2, axis=1)
            made[name] = np.hstack(
                [half / np.linalg.norm(half, axis=1, keepdims=True) for half in halves]
            )
        with atomic_write(file) as temporary, open(temporary, "wb") as f:
            np.savez(f, **made)
    return np.load(file)


def chosen(rows, share, seed):
    "Rows of the train file, and halves of the validation file for choice and sets"
    rng = np.random.default_rng([seed, 77])
    n_train, n_valid = len(rows["train"][1]), len(rows["valid"][1])
    order, valid = rng.permutation(n_train), rng.permutation(n_valid)
    return order[: round(share * n_train)], valid[: n_valid // 2], valid[n_valid // 2 :]


def known():
    "Every error costs 1"
    return {"cost": 1 - np.eye(77)}


def linear_cell(work, rows, text, share, seed):
    "Logits of validation and test file by a linear head on frozen features"
    vectors = {k: torch.from_numpy(v) for k, v in features(work, rows).items()}
    labels = {k: torch.from_numpy(y) for k, (_, y) in rows.items()}
    some, choice, _ = chosen(rows, share, seed)
    x, y = vectors["train"][some], labels["train"][some]
    loss = make_loss(text, known=known())
    head = torch.nn.Linear(x.shape[1], 77 + loss.extra_outputs)
    torch.nn.init.zeros_(head.weight)  # the same start for every loss
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    n_steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    order = torch.Generator().manual_seed(seed)
    best = np.inf, None
    for _ in range(EPOCHS):
        one_epoch(head, loss, (x, y), optimizer, schedule, order)
        with torch.no_grad():
            out = {k: head(vectors[k])[:, :77].numpy() for k in ("valid", "test")}
        found = calibrated_nll(out["valid"][choice], rows["valid"][1][choice])
        best = min(best, (found, out), key=lambda pair: pair[0])
    return best[1]


def one_epoch(head, loss, data, optimizer, schedule, order):
    "All rows once"
    x, y = data
    for part in torch.randperm(len(x), generator=order).split(BATCH):
        logits = head(x[part])
        optimizer.zero_grad()
        loss(logits, y[part], part).backward()
        optimizer.step()
        schedule.step()
        loss.observe(logits, y[part], part)
    loss.end_epoch()


def lora_cell(work, rows, text, share, seed):
    "The same after training MiniLM with LoRA as a fit does it"
    some, choice, _ = chosen(rows, share, seed)
    (texts, labels), (valid, truth) = rows["train"], rows["valid"]
    model = load_model("minilm", 77, seed=seed, max_length=64)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        train(
            model,
            ([texts[i] for i in some], labels[some]),
            ([valid[i] for i in choice], truth[choice]),
            config=TrainingConfig(),
            folder=Path(folder),
            seed=seed,
            loss=LossConfig(name=text),
            known=known(),
            progress=False,
        )
    return {name: model.logits(rows[name][0]) for name in ("valid", "test")}


PARTS = {"linear": linear_cell, "lora": lora_cell}


def calibrated_nll(logits, labels):
    return nll(softmax(logits / best_temperature(logits, labels)), labels)


def judged(rows, logits, share, seed):
    "Measures on the test file, raw and after temperature; and what pairs need"
    _, choice, sets = chosen(rows, share, seed)
    truth, labels = rows["valid"][1], rows["test"][1]
    temperature = best_temperature(logits["valid"][choice], truth[choice])
    found, kept = {"temperature": float(temperature)}, {}
    for name, T in (("raw", 1.0), ("after temperature", temperature)):
        probs = softmax(logits["test"] / T)
        held = softmax(logits["valid"][sets] / T)
        conformal = ConformalClassifier("lac", ALPHA).fit(held, truth[sets])
        members = conformal.predict(probs, sparse=False)
        found[name] = {
            measure: float(function(probs, labels))
            for measure, function in MEASURES.items()
        }
        found[name]["set size"] = float(members.sum(1).mean())
        found[name]["coverage"] = float(members[np.arange(len(labels)), labels].mean())
        kept[name] = probs.astype(np.float32)
        kept[f"{name}, sizes"] = members.sum(1)
    return found, kept


def cell_file(work, part, text, share, seed):
    name = "".join(c if c.isalnum() else "_" for c in text)
    return work / f"{part}-{round(100 * share)}-{seed}-{name}.json"


def run_cell(work, part, text, share, seed, rows):
    "One cell: its numbers as JSON, its probabilities beside it"
    file = cell_file(work, part, text, share, seed)
    if file.is_file():
        return
    start = time.perf_counter()
    logits = PARTS[part](work, rows, text, share, seed)
    seconds = time.perf_counter() - start
    found, kept = judged(rows, logits, share, seed)
    arrays = file.with_suffix(".npz")
    with atomic_write(arrays) as temporary, open(temporary, "wb") as f:
        np.savez(f, **kept)
    cell = {"loss": text, "share": share, "seed": seed, "seconds": seconds, **found}
    with atomic_write(file) as temporary:
        Path(temporary).write_text(json.dumps(cell), encoding="utf-8")
    print(f"{file.stem}: {found['after temperature']}", flush=True)


def compared(cells, plain, labels):
    "Differences to cross-entropy after temperature, of all seeds together"
    row = np.tile(np.arange(len(labels)), len(cells))
    truth = np.tile(labels, len(cells))
    reference = np.concatenate([one["after temperature"] for one in plain])
    found = {}
    for name in ("raw", "after temperature"):
        probs = np.concatenate([one[name] for one in cells])
        found[name] = {
            measure: in_short(
                compare(probs, reference, truth, metric=measure, cluster=row, seed=0)
            )
            for measure in ("accuracy", "nll", "aurc")
        }
        sizes = [
            np.concatenate([one[key] for one in group]).astype(float)
            for group, key in (
                (cells, f"{name}, sizes"),
                (plain, "after temperature, sizes"),
            )
        ]
        found[name]["set size"] = in_short(compare_rows(*sizes, cluster=row, seed=0))
        # an interval of a difference of ECE needs rows that stand once
        found[name]["ece, by seed"] = [
            in_short(
                compare(
                    one[name], other["after temperature"], labels, metric="ece", seed=0
                )
            )
            for one, other in zip(cells, plain, strict=True)
        ]
    return found


def in_short(difference):
    return {
        "difference": difference.difference,
        "low": difference.low,
        "high": difference.high,
    }


def merged(work, part, rows):
    "All cells of a part: numbers by loss and share, means over seeds, differences"
    cells = [json.loads(f.read_text()) for f in sorted(work.glob(f"{part}-*.json"))]
    tables = {}
    for share in sorted({cell["share"] for cell in cells}):
        tables[f"{share:g}"] = table_of(
            work, part, rows, [cell for cell in cells if cell["share"] == share]
        )
    return {"tables": tables, "cells": cells}


def table_of(work, part, rows, cells):
    by_loss = {text: [c for c in cells if c["loss"] == text] for text in LOSSES}
    seeds = sorted(c["seed"] for c in by_loss[PLAIN])
    table = {"seeds": seeds}
    for text, own in by_loss.items():
        if sorted(c["seed"] for c in own) != seeds:
            continue  # not all of its cells are there yet
        pairs = [
            [
                np.load(
                    cell_file(work, part, t, own[0]["share"], seed).with_suffix(".npz")
                )
                for seed in seeds
            ]
            for t in (text, PLAIN)
        ]
        table[text] = {
            name: {
                key: float(np.mean([c[name][key] for c in own])) for key in own[0][name]
            }
            for name in ("raw", "after temperature")
        }
        table[text]["temperature"] = [c["temperature"] for c in own]
        table[text]["against cross-entropy after temperature"] = compared(
            *pairs, rows["test"][1]
        )
    return table


def facts():
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True
    )
    return {
        "settings": {
            "epochs": EPOCHS,
            "rate": RATE,
            "batch": BATCH,
            "weight decay": WEIGHT_DECAY,
            "alpha": ALPHA,
        },
        "commit": commit.stdout.strip(),
        "versions": {p: version(p) for p in ("numpy", "torch", "transformers")},
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "date": time.strftime("%Y-%m-%d"),
    }


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--part", choices=PARTS, default="linear")
    ask.add_argument(
        "--share", type=float, action="append", help="0.2 and 1 unless set"
    )
    ask.add_argument("--seed", type=int, action="append", help="0, 1 and 2 unless set")
    ask.add_argument("--loss", action="append", help="all unless set")
    ask.add_argument("--work", default=Path(tempfile.gettempdir()) / "ftllm-losses")
    asked = ask.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"skipped: BANKING77 is not here ({DATA}); set FTLLM_DATA")
    os.environ["HF_HUB_OFFLINE"] = "1"
    work = Path(asked.work)
    work.mkdir(parents=True, exist_ok=True)
    rows = read_rows()
    for share in asked.share or (0.2, 1.0):
        for seed in asked.seed or (0, 1, 2):
            for text in asked.loss or LOSSES:
                run_cell(work, asked.part, text, share, seed, rows)
    result = {**merged(work, asked.part, rows), **facts()}
    out = HERE / "results" / f"{asked.part}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
