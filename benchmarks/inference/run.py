"""How fast a certified classifier decides, by engine; see README.md beside this file"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
from fine_tune_llm.core.files import atomic_write  # noqa: E402
from fine_tune_llm.models.ensembles import load_trained  # noqa: E402
from fine_tune_llm.predictions import Predictions  # noqa: E402
from fine_tune_llm.run.export import export_run  # noqa: E402
from fine_tune_llm.run.journey import fit  # noqa: E402

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FTLLM_DATA", HERE.parents[2] / "shared/data"))


def fitted(folder, epochs, every, **config):
    "A run on BANKING77, certified at 5%"
    settings = {"model.name": "minilm", "training.epochs": epochs} | config
    lines = (DATA / "banking77/train.jsonl").read_text("utf-8").splitlines()[::every]
    return fit(
        [json.loads(line) for line in lines],
        test=DATA / "banking77/test.jsonl",
        out=folder,
        config=settings,
        progress=False,
    )


def runs_by_engine(folder, epochs, every):
    "Name -> certified run; each has thresholds of its own"
    whole = fitted(folder / "fp32", epochs, every)
    half = fitted(folder / "bf16", epochs, every, **{"model.precision": "bf16"})
    exported = {
        f"onnx {precision}": export_run(
            whole, folder / f"onnx-{precision}", precision=precision
        )
        for precision in ("fp32", "int8")
    }
    return {"fp32": whole, "bf16": half} | exported


def before(run):
    "As it was: the adapter beside the weights, batches of 64"
    model = load_trained(
        run.config.model.name,
        run.path / "adapter",
        run.path / "tokenizer",
        max_length=run.config.model.max_length,
    )
    return lambda ids: model.logits_of(ids, batch_size=64)


def in_turns(engines, ids, n_turns):
    "Seconds of every turn by engine, wall and processor"
    seconds = {name: {"wall": [], "processor": []} for name in engines}
    for engine in engines.values():
        engine(ids[:128])  # warm
    for _ in range(n_turns):
        for name, engine in engines.items():
            began = time.perf_counter(), time.process_time()
            engine(ids)
            ended = time.perf_counter(), time.process_time()
            for kind, start, end in zip(("wall", "processor"), began, ended):
                seconds[name][kind].append(round(end - start, 3))
    return seconds


def held_against(run, base, texts):
    "What an engine says of the test role beside float32, under its own certificate"
    stored = base.predictions("test")
    said = Predictions(
        logits=run.model.logits(texts), labels=stored.labels, classes=stored.classes
    )
    own = run.classifier.outcome(said)
    plain = base.classifier.outcome(stored)
    under_base = base.classifier.outcome(said)
    right = own.decided == stored.labels
    is_made = own.decided >= 0
    return {
        "largest_difference": float(np.abs(under_base.probs - plain.probs).max()),
        "labels_flipped": flipped(under_base.probs.argmax(1), plain.probs.argmax(1)),
        "decisions_flipped": flipped(under_base.decided, plain.decided),
        "decided_under_own_certificate": float(is_made.mean()),
        "wrong_under_own_certificate": float(1 - right[is_made].mean()),
        "accuracy": float((own.probs.argmax(1) == stored.labels).mean()),
        "certificate": run.certificate["id"],
        "basis": run.certificate.get("basis", {}).get("asked"),
    }


def flipped(one, two):
    return {"rows": int((one != two).sum()), "of": len(one)}


def about():
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    return {
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "threads": torch.get_num_threads(),
        "load_before": [round(x, 1) for x in os.getloadavg()],
        **{name: version(name) for name in ("torch", "transformers", "onnxruntime")},
    }


def measured(asked, folder):
    "Speed by engine, and what it says beside float32"
    runs = runs_by_engine(folder, asked.epochs, asked.every)
    base = runs["fp32"]
    texts = [str(text) for text in base.predictions("test").texts]
    ids = base.model.prepare(texts[: asked.texts])
    engines = {"before": before(base)}
    engines |= {name: run.model.logits_of for name, run in runs.items()}
    seconds = in_turns(engines, ids, asked.turns)
    found = {name: speed(seconds, name, len(ids)) for name in engines}
    for name, run in runs.items():
        found[name] |= held_against(run, base, texts)
    return found


def speed(seconds, name, n_texts):
    middle = {
        kind: [statistics.median(seconds[which][kind]) for which in ("before", name)]
        for kind in ("wall", "processor")
    }
    ratios = {kind: round(then / now, 2) for kind, (then, now) in middle.items()}
    rate = round(n_texts / middle["wall"][1], 1)
    return {
        "seconds": seconds[name],
        "texts_per_second": rate,
        "times_as_fast": ratios,
    }


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--epochs", type=int, default=0)
    ask.add_argument("--every", type=int, default=1, help="take every nth row")
    ask.add_argument("--texts", type=int, default=1024, help="texts that are timed")
    ask.add_argument("--turns", type=int, default=7)
    ask.add_argument("--threads", type=int, default=0)
    asked = ask.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    result = {"about": about(), "asked": vars(asked)}
    with tempfile.TemporaryDirectory() as folder:
        result["engines"] = measured(asked, Path(folder))
    result["about"]["load_after"] = [round(x, 1) for x in os.getloadavg()]
    (HERE / "results").mkdir(exist_ok=True)
    name = f"engines_{torch.get_num_threads()}_threads.json"
    with atomic_write(HERE / "results" / name) as file:
        file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
