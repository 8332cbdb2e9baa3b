"What the frozen start is worth, and what training adds; see README.md beside this file"

import argparse
import os
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
from data import (  # noqa: E402
    SPLIT_SEED,
    Clock,
    Judged,
    as_the_files_are,
    as_the_journey_splits,
    bag_of_words,
    store,
)
from machine import about  # noqa: E402

from fine_tune_llm.config.schema import TrainingConfig  # noqa: E402
from fine_tune_llm.models import load_model  # noqa: E402
from fine_tune_llm.models.ensembles import ensemble  # noqa: E402
from fine_tune_llm.models.weights import native_bf16  # noqa: E402
from fine_tune_llm.run.members import member_seeds  # noqa: E402
from fine_tune_llm.training import train, warm_start  # noqa: E402

MODEL = "minilm"
LONGEST = 128  # tokens read
PACKAGES = ("torch", "transformers", "peft", "scikit-learn", "numpy")


def fresh(roles, seed=0):
    return load_model(MODEL, len(roles.classes), seed=seed, max_length=LONGEST)


def judged(model, roles):
    scores = [model.logits(roles.texts[role]) for role in ("validation", "test")]
    return Judged.of(*scores, roles)


def regression_of_scikit_learn(model, roles):
    "The same features by scikit-learn, as it was (tol 1e-3) and converged"
    from sklearn.linear_model import LogisticRegression

    rows = {role: model.features(texts) for role, texts in roles.texts.items()}
    scale = np.linalg.norm(rows["train"], axis=1).mean()
    found = {}
    for tol in (1e-3, 1e-6):
        regression = LogisticRegression(C=30, tol=tol, max_iter=2000)
        with Clock() as clock:
            regression.fit(rows["train"] / scale, roles.labels["train"])
        scores = [
            regression.decision_function(rows[role] / scale)
            for role in ("validation", "test")
        ]
        n_iter = int(regression.n_iter_[0])
        said = Judged.of(*scores, roles).said
        found[f"tol={tol:g}"] = {**said, "n_iter": n_iter, **clock.seconds}
    return found


def frozen(asked):
    "Part 1: accuracy and time of the start alone, on BANKING77"
    result = {"about": about(*PACKAGES), "threads": torch.get_num_threads(), "sets": {}}
    for roles in (as_the_journey_splits("banking77"), as_the_files_are("banking77")):
        model = fresh(roles)
        with Clock() as whole:
            parts = [
                (model.prepare(texts), labels)
                for texts, labels in map(roles.part, ("train", "validation"))
            ]
            start = warm_start(model, *parts, bf16=native_bf16())
        found = judged(model, roles)
        words = bag_of_words(roles)
        result["sets"][str(len(roles.texts["train"]))] = {
            "rows": roles.sizes(),
            "start": asdict(start),
            "seconds": whole.seconds,
            "load_after": [round(x, 1) for x in os.getloadavg()],
            "test": found.said,
            "tfidf": words.said,
            "less_tfidf": found.less(words),
            "scikit_learn": regression_of_scikit_learn(model, roles)
            if asked.scikit_learn
            else "not run",
        }
    store("frozen", result)


def trained(asked):
    "Part 2: what epochs of LoRA add to the start"
    name = f"trained_{asked.set}"
    if asked.all_rows:
        roles, name = as_the_files_are(asked.set), f"{name}_all_rows"
    else:
        roles = as_the_journey_splits(asked.set, asked.rows)
    if asked.members > 1:
        name = f"{name}_{asked.members}_members"
    words = bag_of_words(roles)
    result = {
        "about": about(*PACKAGES),
        "set": asked.set,
        "split_seed": SPLIT_SEED,
        "rows": roles.sizes(),
        "threads": torch.get_num_threads(),
        "tfidf": words.said,
        "runs": [],
    }
    start = None
    for seed in asked.seeds:
        for rate in asked.rates:
            for epochs in asked.epochs:
                if start is None:
                    start = one_run(roles, 0, seed, rate)[1]
                    result["start"] = start.said | {"less_tfidf": start.less(words)}
                line, found = several(roles, epochs, seed, rate, asked.members)
                line |= {"less_start": found.less(start)}
                line |= {"less_tfidf": found.less(words)}
                result["runs"].append(line)
                store(name, result)


def several(roles, epochs, seed, rate, members):
    "The same of one adapter, or of those of several seeds as one model"
    seeds = member_seeds(seed, members)
    lines, found, models = zip(*(one_run(roles, epochs, own, rate) for own in seeds))
    if members == 1:
        return lines[0], found[0]
    together = judged(ensemble(models), roles)
    line = {"seed": seed, "learning_rate": rate, "epochs": epochs, "members": lines}
    return line | {"test": together.said}, together


def one_run(roles, epochs, seed, rate):
    "Settings, time and result of one training, what it says of the test role, and it"
    model = fresh(roles, seed)
    happened = []
    config = TrainingConfig(epochs=epochs, learning_rate=rate)
    with Clock() as clock, tempfile.TemporaryDirectory() as folder:
        log = train(
            model,
            roles.part("train"),
            roles.part("validation"),
            config=config,
            folder=Path(folder),
            seed=seed,
            publish=lambda event: happened.append(event.type),
            progress=False,
        )
    watched = [line for line in log if "eval_nll_calibrated" in line]
    best = min(watched, key=lambda line: line["eval_nll_calibrated"])
    found = judged(model, roles)
    line = {"seed": seed, "learning_rate": rate, "epochs": epochs}
    line |= {"kept_epoch": round(best["epoch"], 2), "seconds": clock.seconds}
    line |= {"start_kept": "training.start_kept" in happened, "test": found.said}
    return line, found, model


def plain(asked):
    "Part 3: plain `Trainer` and peft, the start and the recipe, one after another"
    from plain import plain_trainer

    roles = as_the_journey_splits(asked.set)
    result = {
        "about": about(*PACKAGES),
        "set": asked.set,
        "rows": roles.sizes(),
        "runs": [],
    }
    for seed in asked.seeds:
        with Clock() as clock:
            scores = plain_trainer(MODEL, roles, seed=seed, longest=LONGEST)
        theirs = Judged.of(*scores, roles)
        line = {"seed": seed, "plain": theirs.said | clock.seconds}
        for name, epochs in (("start", 0), ("recipe", asked.epochs[0])):
            ours, found, _ = one_run(roles, epochs, seed, asked.rates[0])
            ratio = {
                kind: ours["seconds"][kind] / clock.seconds[kind]
                for kind in clock.seconds
            }
            line[name] = ours | {"of_plain": ratio, "less_plain": found.less(theirs)}
        result["runs"].append(line)
        store(f"plain_{asked.set}", result)


PARTS = {"frozen": frozen, "trained": trained, "plain": plain}


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("part", choices=PARTS)
    ask.add_argument("--set", default="triage", help="triage, snips7 or banking77")
    ask.add_argument("--rows", type=int, default=None, help="so many rows of train")
    ask.add_argument("--all-rows", action="store_true", help="all of train.jsonl")
    ask.add_argument("--rates", type=float, nargs="+", default=[5e-4])
    ask.add_argument("--members", type=int, default=1, help="adapters that decide")
    ask.add_argument("--epochs", type=int, nargs="+", default=[1])
    ask.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    ask.add_argument("--scikit-learn", action="store_true")
    ask.add_argument("--threads", type=int, default=0)
    asked = ask.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    warnings.filterwarnings("ignore", category=FutureWarning)
    PARTS[asked.part](asked)


if __name__ == "__main__":
    main()
