"The three sets, their roles and their baselines, for run.py"

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fine_tune_llm.config.layers import make_config
from fine_tune_llm.data import sample, share_out
from fine_tune_llm.run.roles import read_data
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.calibration_error import ece
from fine_tune_llm.stats.metrics import nll
from fine_tune_llm.stats.paired import compare_rows
from fine_tune_llm.stats.temperature import best_temperature

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FTLLM_DATA", HERE.parents[2] / "shared/data"))
SPLIT_SEED = 0


@dataclass(frozen=True)
class Roles:
    "Texts and labels by role: train, validation, test"

    name: str
    classes: tuple[str, ...]
    texts: dict[str, list[str]]
    labels: dict[str, np.ndarray]

    def part(self, role: str) -> tuple[list[str], np.ndarray]:
        return self.texts[role], self.labels[role]

    def sizes(self) -> dict[str, int]:
        return {role: len(texts) for role, texts in self.texts.items()}


def as_the_journey_splits(name: str, most: int | None = None) -> Roles:
    "The roles that `fit` would give, with the test file where there is one"
    files = {
        "triage": (sample("triage"), None),
        "banking77": (DATA / "banking77/train.jsonl", DATA / "banking77/test.jsonl"),
        "snips7": (DATA / "snips7/train.jsonl", DATA / "snips7/test.jsonl"),
    }
    config = make_config({"seed": SPLIT_SEED})
    dataset, n_test = read_data(*files[name], config)
    shares = {
        role: getattr(config.data, role)
        for role in ("train", "validation", "calibration", "test")
    }
    dataset, ledger = share_out(dataset, shares, seed=SPLIT_SEED, n_test_file=n_test)
    rows = {r: ledger.roles[r] for r in ("train", "validation", "test")}
    if most is not None:  # files may be sorted by class
        drawn = np.random.default_rng(SPLIT_SEED).permutation(rows["train"])
        rows["train"] = np.sort(drawn[:most])
    texts = {r: [dataset.texts[i] for i in index] for r, index in rows.items()}
    labels = {r: dataset.labels[index] for r, index in rows.items()}
    return Roles(name, dataset.classes, texts, labels)


def as_the_files_are(name: str) -> Roles:
    "All of train.jsonl, valid.jsonl and test.jsonl"
    texts, named = {}, {}
    for role, file in (("train", "train"), ("validation", "valid"), ("test", "test")):
        lines = (DATA / name / f"{file}.jsonl").read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        texts[role] = [row["text"] for row in rows]
        named[role] = [row["label"] for row in rows]
    classes = tuple(sorted(set(named["train"])))
    labels = {r: np.array([classes.index(y) for y in ys]) for r, ys in named.items()}
    return Roles(name, classes, texts, labels)


class Clock:
    "Wall and processor seconds of a block"

    def __enter__(self):
        self.begun = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall = round(time.perf_counter() - self.begun[0], 2)
        self.cpu = round(time.process_time() - self.begun[1], 2)

    @property
    def seconds(self) -> dict[str, float]:
        return {"wall": self.wall, "processor": self.cpu}


@dataclass(frozen=True)
class Judged:
    "What a model says of the test role, after the temperature of its validation role"

    right: np.ndarray
    losses: np.ndarray
    said: dict[str, float]

    @classmethod
    def of(cls, validation: np.ndarray, test: np.ndarray, roles: Roles) -> "Judged":
        labels = roles.labels["test"]
        temperature = best_temperature(validation, roles.labels["validation"])
        probs = softmax(test.astype(np.float64) / temperature)
        right = probs.argmax(1) == labels
        losses = -np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-300))
        said = {
            "accuracy": round(float(right.mean()), 4),
            "nll": round(float(nll(probs, labels)), 4),
            "ece15": round(float(ece(probs, labels, 15)), 4),
            "temperature": round(float(temperature), 3),
        }
        return cls(right, losses, said)

    def less(self, other: "Judged") -> dict[str, Any]:
        "This one less another on the same rows, with intervals"
        return {
            "accuracy": _short(compare_rows(self.right, other.right, seed=0)),
            "nll": _short(compare_rows(self.losses, other.losses, seed=0)),
        }


def _short(found):
    said = found.to_dict()
    names = ("difference", "low", "high", "p_value")
    return {name: round(float(said[name]), 5) for name in names}


def bag_of_words(roles: Roles) -> Judged:
    "TF-IDF of words and pairs, and logistic regression, as the report has them"
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=2000),
    ).fit(*roles.part("train"))
    scores = [
        np.log(model.predict_proba(roles.texts[role]))
        for role in ("validation", "test")
    ]
    return Judged.of(*scores, roles)


def store(name: str, result: dict[str, Any]) -> None:
    "Put a result beside the script"
    (HERE / "results").mkdir(exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    (HERE / "results" / f"{name}.json").write_text(text, encoding="utf-8")
    print(text)
