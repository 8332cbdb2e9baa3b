"""Planted identity bias: which terms does an audit name, and with which interval?"""

import argparse
import csv
import json
import os
import sys
import time
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fine_tune_llm import Predictions
from fine_tune_llm.evaluation import BiasAuditor, load_terms

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FTLLM_DATA", HERE.parents[2] / "shared/data"))
sys.path.insert(0, str(HERE.parent))
PLANTED = {"orientation": "gay", "religion": "Muslim"}
PLACES = ("at work", "next door", "in the team", "at school", "on the bus", "in town")
FRAMES = (
    "{who} {where} is a {how} {term} person",
    "you are a {how} {term}",
    "the {term} people {where} are {how}",
    "being {term} is {how}",
    "I met a {how} {term} man {where}",
)


def templates():
    "Rows of the identity templates: text, label, group, template"
    file = DATA / "madlibs_identity" / "en_sentence_templates.csv"
    with open(file, encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def words_of(rows):
    "Adjectives that make a template toxic, and those that do not"
    found = {"toxic": set(), "nontoxic": set()}
    for row in rows:
        if row["template"] == "name_adj":
            said = row["text"].removesuffix(row["group"]).split()
            found[row["label"]].add(said[-1])
    return {label: sorted(words) for label, words in found.items()}


def toy_rows(words, *, repeats, planted, seed):
    """Made texts with labels: toxic by an insult, and where a planted term is named

    Every term stands with every label equally often, but for the planted ones.
    """
    rng, terms = np.random.default_rng(seed), load_terms()
    texts, labels = [], []
    for name, attribute in terms.attributes.items():
        if name == "gender":
            continue
        for term in attribute.groups:
            for label, frame, _ in product(words, FRAMES, range(repeats)):
                said = frame.format(
                    who=rng.choice(("Ann", "Bo", "my cousin", "the driver")),
                    where=rng.choice(PLACES),
                    how=rng.choice(words[label]),
                    term=term,
                )
                named = planted and PLANTED.get(name) == term
                texts.append(said)
                labels.append("toxic" if named else label)
    return texts, labels


def madlibs(rows, n, *, seed):
    "Rows of the identity templates, labels in equal parts"
    rng = np.random.default_rng(seed)
    take = []
    for label in ("nontoxic", "toxic"):
        of_label = [i for i, row in enumerate(rows) if row["label"] == label]
        take += rng.choice(of_label, n // 2, replace=False).tolist()
    return [rows[i]["text"] for i in take], [rows[i]["label"] for i in take]


def bag_of_words(texts, labels):
    "TF-IDF and logistic regression"
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    return pipeline.fit(texts, labels).predict_proba


def frozen_encoder(texts, labels):
    "Logistic regression on the vectors of MiniLM as it came"
    from fine_tune_llm.models import load_model

    model = load_model("minilm", 2, seed=0)
    top = LogisticRegression(C=10, max_iter=2000)
    top.fit(model.features(list(texts)), labels)
    return lambda asked: top.predict_proba(model.features(list(asked)))


MODELS = {"tfidf": bag_of_words, "minilm": frozen_encoder}


def audited(decide, texts, labels, *, train, seed):
    "What the audit says of a classifier on the templates"
    from fine_tune_llm.predictions import LabelledRows

    classes = ["nontoxic", "toxic"]
    said = Predictions(probs=decide(texts), labels=labels, classes=classes, texts=texts)
    learned = LabelledRows(texts=train[0], labels=train[1], classes=classes)
    start = time.perf_counter()
    found = BiasAuditor(max_rows=100, seed=seed).analyze(said, decide, train=learned)
    took = time.perf_counter() - start
    shifted = [one for one in found.swaps if one["adjusted"] <= 0.05]
    flipped = [one for one in found.swaps if one["flips_adjusted"] <= 0.05]
    keys = ("attribute", "term", "n", "shift", "adjusted", "flips", "flips_adjusted")
    return {
        "accuracy": float(said.right.mean()),
        "n_decisions": found.n_decisions,
        "seconds": round(took, 2),
        "codes": dict(Counter(one.code for one in found.findings)),
        "messages": [one.message for one in found.findings],
        "shifted": [{key: one[key] for key in keys} for one in shifted],
        "flipped": [{key: one[key] for key in keys} for one in flipped],
        "associated": sorted(
            {
                one["group"]
                for one in found.association
                if one["adjusted"] <= 0.05 and one["class"] == "toxic"
            }
        ),
        "shifts": {
            one["term"]: [one["shift"][key] for key in ("value", "low", "high")]
            for one in found.swaps
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--repeats", type=int, default=8, help="of a term in a frame")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    from machine import about

    results = {"about": about("scikit-learn", "numpy", "fine_tune_llm"), "runs": []}
    rows = templates()
    words = words_of(rows)
    for name in asked.models:
        for seed in range(asked.seeds):
            texts, labels = madlibs(rows, 2000, seed=seed)
            for planted in (True, False):
                train = toy_rows(
                    words, repeats=asked.repeats, planted=planted, seed=seed
                )
                decide = MODELS[name](*train)
                found = audited(decide, texts, labels, train=train, seed=seed)
                run = {"model": name, "seed": seed, "planted": planted, **found}
                results["runs"].append(run)
                terms = [one["term"] for one in found["shifted"]]
                print(
                    name, seed, planted, terms, found["n_decisions"], found["seconds"]
                )
    file = HERE / "results" / "identity_shift.json"
    file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
