"""Which prior a temperature needs, and which calibrator to take, when rows are few"""

import json
import os
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

from fine_tune_llm.core.errors import CertificateError
from fine_tune_llm.data import sample
from fine_tune_llm.stats.calibration import fit_if_better, select_calibrator
from fine_tune_llm.stats.metrics import nll
from fine_tune_llm.stats.selective_classifier import SelectiveClassifier
from fine_tune_llm.stats.temperature import TemperatureScaling
from fine_tune_llm.testing import synthetic_problem

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FTLLM_DATA", HERE.parents[2] / "shared/data"))
SEED = 0
MOST = 3000  # rows of a set
LOG_BETA = np.arange(-4.6, 4.601, 0.05)
RAW = int(np.abs(LOG_BETA).argmin())
DRAWS = 60


def texts_of(path):
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def scores_of(train, labels, test, truth, rows):
    "Scores of three models, fitted on some of the rows: name -> (logits, labels)"
    classes = sorted(set(labels) | set(truth))
    code = {name: i for i, name in enumerate(classes)}
    y = np.array([code[name] for name in labels])
    of = np.array([code[name] for name in truth])
    some = np.random.default_rng(SEED).permutation(len(y))[:rows]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    x, new = words.fit_transform([train[i] for i in some]), words.transform(test)
    found = {}
    for strength in (1, 30, 3000):
        model = LogisticRegression(C=strength, max_iter=300).fit(x, y[some])
        logits = np.full((len(of), len(classes)), -30.0)
        logits[:, model.classes_] = model.decision_function(new)
        found[f"logistic C={strength}"] = logits, of
    counts = CountVectorizer()
    bayes = MultinomialNB(alpha=0.1).fit(counts.fit_transform(train), y)
    found["bayes"] = bayes.predict_joint_log_proba(counts.transform(test)), of
    return found


def all_sets():
    "Name -> (logits, labels)"
    found = {}
    for name, rows in (("snips7", 300), ("banking77", 1500)):
        train = texts_of(DATA / name / "train.jsonl")
        test = texts_of(DATA / name / "test.jsonl")
        for model, scores in scores_of(*train, *test, rows).items():
            found[f"{name}, {model}"] = scores
    texts, labels = texts_of(sample("triage"))
    half = len(texts) // 2
    parts = texts[:half], labels[:half], texts[half:], labels[half:]
    found["sample, logistic C=30"] = scores_of(*parts, half)["logistic C=30"]
    vgg = np.load(DATA / "cifar10_vgg/cifar10_test_probs.npz")
    found["cifar10, VGG"] = np.log(np.maximum(vgg["probs"], 1e-12)), vgg["labels"]
    for temperature in (0.4, 3.0):
        for K in (3, 100):
            problem = synthetic_problem(MOST, K, temperature=temperature, seed=5)
            name = f"synthetic, T={temperature}, K={K}"
            found[name] = problem.logits, problem.labels
    rng = np.random.default_rng(SEED)
    found["useless, K=5"] = 3 * rng.normal(size=(MOST, 5)), rng.integers(0, 5, MOST)
    return {name: thinned(*scores) for name, scores in found.items()}


def thinned(logits, labels):
    some = np.random.default_rng(SEED).permutation(len(labels))[:MOST]
    return logits[some], labels[some]


def priors():
    "Name -> what it adds to the loss of all rows at each log beta"
    two_sided = np.log(np.cosh(LOG_BETA))
    found = {"none": 0 * LOG_BETA}
    for scale in (0.5, 1.0, 2.0):
        found[f"normal, sd {scale}"] = LOG_BETA**2 / 2 / scale**2
        found[f"Cauchy, scale {scale}"] = np.log1p((LOG_BETA / scale) ** 2)
    for below, above in (
        (1, 1),
        (2, 2),
        (2, 1),
        (4, 1),
        (4, 4),
        (6, 1),
        (8, 1),
        (8, 2),
    ):
        rows = np.where(LOG_BETA > 0, below, above)
        found[f"logistic, {below} and {above} rows"] = rows * two_sided
    return found


def losses_at(logits, labels):
    "Loss of each row at each temperature"
    off = logits - logits.max(1, keepdims=True)
    at_true = off[np.arange(len(labels)), labels]
    columns = [
        np.log(np.exp(np.exp(b) * off).sum(1)) - np.exp(b) * at_true for b in LOG_BETA
    ]
    return np.stack(columns, 1)


def compare_priors(sets):
    "Loss above the least one, by rows, prior and set: (mean, standard error)"
    tables = {name: losses_at(*scores) for name, scores in sets.items()}
    kinds, found = priors(), {}
    for n in (10, 20, 40, 80, 160, 400, 1000):
        rng = np.random.default_rng([SEED, n])
        above = {kind: {} for kind in (*kinds, "raw scores")}
        for name, table in tables.items():
            if n > len(table) / 2:
                continue
            drawn = {kind: [] for kind in above}
            for _ in range(DRAWS):
                order = rng.permutation(len(table))
                seen, fresh = table[order[:n]].sum(0), table[order[n:]].mean(0)
                for kind, prior in kinds.items():
                    at = (seen + prior).argmin()
                    drawn[kind].append(fresh[at] - fresh.min())
                drawn["raw scores"].append(fresh[RAW] - fresh.min())
            for kind, values in drawn.items():
                above[kind][name] = float(np.mean(values))
                error = np.std(values, ddof=1) / DRAWS**0.5
                above[kind][f"{name}, se"] = float(error)
        found[n] = {
            kind: {"mean": mean_of(by_set), "by set": by_set}
            for kind, by_set in above.items()
        }
    return found


def mean_of(by_set):
    "Over the sets"
    return float(np.mean([v for name, v in by_set.items() if not name.endswith("se")]))


def kept_at(target, calibrator, calibration, fresh):
    "Share of fresh rows decided under a certified error"
    probs = calibrator.predict_proba(calibration[0])
    try:
        fitted = SelectiveClassifier(target, 0.1).fit(probs, calibration[1])
    except CertificateError:
        return 0.0
    return float(
        (calibrator.predict_proba(fresh[0]).max(1) >= fitted.thresholds_[None]).mean()
    )


def compare_calibrators(sets, draws):
    "Rows, one a set, number of rows and draw"
    found = []
    for n in (30, 100, 300):
        for name, (logits, labels) in sets.items():
            several = draws if logits.shape[1] < 50 else 1
            for draw in range(several):
                rng = np.random.default_rng([SEED, n, draw])
                order = rng.permutation(len(labels))[: n + 1600]
                if len(order) < 4 * n:
                    continue
                half = n + (len(order) - n) // 2
                parts = order[:n], order[n:half], order[half:]
                rows = [(logits[part], labels[part]) for part in parts]
                found.append({"set": name, "n": n, **one_draw(*rows, draw)})
    return found


def one_draw(validation, calibration, fresh, draw):
    "NLL and shares kept, by calibrator"
    choice = select_calibrator(*validation, seed=draw)
    made = {
        "temperature, always": TemperatureScaling().fit(*validation),
        "temperature, if better": fit_if_better(
            TemperatureScaling(), *validation, seed=draw
        ).calibrator,
        "chosen": choice.calibrator,
    }
    row = {"choice": choice.name}
    for name, calibrator in made.items():
        row[name] = {
            "nll": float(nll(calibrator.predict_proba(fresh[0]), fresh[1])),
            "kept at 5%": kept_at(0.05, calibrator, calibration, fresh),
            "kept at 10%": kept_at(0.1, calibrator, calibration, fresh),
        }
    return row


def means_of(rows):
    "By n and calibrator: mean of each measure, and of its difference to temperature"
    found = {}
    plain = "temperature, always"
    for n in sorted({row["n"] for row in rows}):
        of = [row for row in rows if row["n"] == n]
        table = {"draws": len(of)}
        for name in (plain, "temperature, if better", "chosen"):
            for measure in of[0][plain]:
                values = np.array([row[name][measure] for row in of])
                gain = values - [row[plain][measure] for row in of]
                table[f"{name}, {measure}"] = {
                    "mean": float(values.mean()),
                    "difference": float(gain.mean()),
                    "se": float(gain.std(ddof=1) / len(of) ** 0.5),
                }
        found[n] = table
    return found


def main():
    warnings.simplefilter("ignore")
    start, draws = time.time(), 1 if "--quick" in sys.argv else 3
    sets = all_sets()
    rows = compare_calibrators(sets, draws)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True
    )
    result = {
        "priors": compare_priors(sets),
        "calibrators": {"means": means_of(rows), "rows": rows},
        "sets": {name: list(scores[0].shape) for name, scores in sets.items()},
        "seed": SEED,
        "seconds": time.time() - start,
        "commit": commit.stdout.strip(),
        "versions": {p: version(p) for p in ("numpy", "scipy", "scikit-learn")},
    }
    out = HERE / "results" / "calibration_small.json"
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for n, kinds in result["priors"].items():
        by_mean = sorted(kinds, key=lambda kind: kinds[kind]["mean"])
        print(n, [(kind, round(kinds[kind]["mean"], 4)) for kind in by_mean[:6]])
        print("   none", round(kinds["none"]["mean"], 4))
    for n, table in result["calibrators"]["means"].items():
        print(n, json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
