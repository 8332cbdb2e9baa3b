"""Metrics beside netcal, torchmetrics, relplot and MAPIE

The same arrays in one run, in turns. `--quick` is smaller, to see that it runs.
"""

import json
import math
import os
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from common import (
    HERE,
    ROOT,
    arguments,
    bandwidth,
    circumstances,
    peak,
    peak_mb,
    race,
    save,
)

from fine_tune_llm.stats.arrays import conf_right, softmax
from fine_tune_llm.stats.calibration_error import (
    ace,
    classwise_ece,
    ece,
    mce,
    murphy,
    smooth_ece,
)
from fine_tune_llm.stats.calibration_tests import (
    ks_test,
    kuiper_test,
    spiegelhalter_test,
)
from fine_tune_llm.stats.kernels import compile_times
from fine_tune_llm.stats.metric_summary import METRICS, interval
from fine_tune_llm.stats.metrics import accuracy, brier, nll
from fine_tune_llm.stats.selective import aurc, confidence_auroc
from fine_tune_llm.stats.streaming import StreamingCalibration
from fine_tune_llm.stats.uncertainty import auprc, auroc, out_of_scope
from fine_tune_llm.testing import synthetic_problem

warnings.simplefilter("ignore")  # peers' own; this is a script and no library

TESTS = {"ks": ks_test, "kuiper": kuiper_test, "spiegelhalter": spiegelhalter_test}
AT_ONCE = 20_000  # rows made at a time


def rows(n, K, seed=0):
    "Over-confident probabilities, float32, and labels"
    rng = np.random.default_rng(seed)
    probs = np.empty((n, K), np.float32)
    labels = np.empty(n, np.int64)
    for start in range(0, n, AT_ONCE):
        size = min(AT_ONCE, n - start)
        logits = rng.normal(scale=2.5, size=(size, K)).astype(np.float32)
        truth = np.exp(logits - logits.max(1, keepdims=True))
        truth /= truth.sum(1, keepdims=True)
        drawn = (truth.cumsum(1) < rng.uniform(size=(size, 1))).sum(1)
        labels[start : start + size] = np.minimum(drawn, K - 1)
        truth **= 1.5
        probs[start : start + size] = truth / truth.sum(1, keepdims=True)
    return probs, labels


def torchmetrics_ece(probs, labels, K, n_bins=15):
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    error = multiclass_calibration_error(
        torch.from_numpy(probs),
        torch.from_numpy(labels),
        num_classes=K,
        n_bins=n_bins,
        validate_args=False,
    )
    return float(error)


def netcal_ece(probs, labels, n_bins=15):
    from netcal.metrics import ECE

    return float(ECE(n_bins).measure(probs, labels))


def contestants(probs, labels):
    return {
        "ours": lambda: ece(probs, labels),
        "netcal": lambda: netcal_ece(probs, labels),
        "torchmetrics": lambda: torchmetrics_ece(probs, labels, probs.shape[1]),
    }


def medians(times):
    "Median seconds by name, from `race`"
    return {name: result["median"] for name, result in times.items()}


def speed(n, K):
    "ECE-15 of one matrix, and what reading it once costs"
    probs, labels = rows(n, K)
    times = race(contestants(probs, labels), 7)
    read_gb_s = bandwidth()
    roof = probs.nbytes / read_gb_s / 1e9
    median = medians(times)
    return {
        "n": n,
        "K": K,
        "seconds": times,
        "times_netcal": median["netcal"] / median["ours"],
        "times_torchmetrics": median["torchmetrics"] / median["ours"],
        "bandwidth_gb_s": read_gb_s,
        "roof_seconds": roof,
        "share_of_roof": roof / median["ours"],
        "values": {name: f() for name, f in contestants(probs, labels).items()},
    }


def other_metrics(n, K):
    "Seconds of the other metrics on the same matrix, and of intervals"
    probs, labels = rows(n, K)
    metrics = (
        accuracy,
        nll,
        brier,
        mce,
        classwise_ece,
        murphy,
        smooth_ece,
        aurc,
        confidence_auroc,
    )
    jobs = {m.__name__: (partial(m, probs, labels), 3) for m in metrics}
    jobs["ace"] = (partial(ace, probs, labels), 1)
    for name, metric in (
        ("interval_ece", "ece"),
        ("interval_auroc", "confidence_auroc"),
    ):
        jobs[name] = (partial(interval, metric, probs, labels, seed=0), 1)
    return {"n": n, "K": K, "seconds": medians(race(jobs))}


def relative_errors(n, truth, probs, labels):
    "How far each library's ECE of two classes is from the truth"
    return {
        "n": n,
        "truth": truth,
        "ours": ece(probs, labels) / truth - 1,
        "torchmetrics": torchmetrics_ece(probs, labels, 2) / truth - 1,
    }


def one_bin(sizes):
    """Relative error of the ECE where all confidences share a bin

    So they do in a good model: float32(.9), 80% right.
    """
    conf = np.float32(0.9)
    found = []
    for n in sizes:
        probs = np.empty((n, 2), np.float32)
        probs[:] = conf, 1 - conf
        labels = (np.arange(n) % 5 == 0).astype(np.int64)
        truth = abs(float(conf) - 0.8)
        found.append(relative_errors(n, truth, probs, labels))
    return found


def exact_ece(probs, labels):
    "The ECE with the sums of `math.fsum`"
    conf = conf_right(probs, labels)[0]
    at = np.searchsorted(np.linspace(0, 1, 16)[1:-1], conf)
    order = np.argsort(at, kind="stable")
    cuts = np.searchsorted(at[order], np.arange(16))
    excess = (conf - (labels == 0))[order]
    sums = (math.fsum(excess[a:b]) for a, b in zip(cuts, cuts[1:]))
    return math.fsum(abs(total) for total in sums) / len(labels)


def accuracy_at(sizes):
    """Relative error of the ECE against exact sums

    Confidences in (.5, 1), two classes, float32.
    """
    found = []
    for n in sizes:
        rng = np.random.default_rng(1)
        conf = rng.uniform(0.5, 1, n).astype(np.float32)
        probs = np.c_[conf, 1 - conf]
        labels = (rng.uniform(size=n) < 0.8 * conf).astype(int) ^ 1
        truth = exact_ece(probs, labels)
        found.append(relative_errors(n, truth, probs, labels))
    return found


def our_stream(batches):
    stream = StreamingCalibration()
    for probs, labels in batches:
        stream.update(probs, labels)
    stream.summary()
    return stream


def their_stream(batches, K):
    from torchmetrics.classification import MulticlassCalibrationError

    stream = MulticlassCalibrationError(K, n_bins=15, validate_args=False)
    for probs, labels in batches:
        stream.update(probs, labels)
    stream.compute()
    return stream


def streams(batches, size, K):
    """Batches into an ECE: time, size of the state, and whether their order matters"""
    import torch

    data = [rows(size, K, seed) for seed in range(batches)]
    tensors = [(torch.from_numpy(p), torch.from_numpy(y)) for p, y in data]
    times = race(
        {
            "ours": lambda: our_stream(data),
            "torchmetrics": lambda: their_stream(tensors, K),
        },
        5,
    )
    ours, back = our_stream(data), our_stream(data[::-1])
    theirs, turned = their_stream(tensors, K), their_stream(tensors[::-1], K)
    kept = [*theirs.confidences, *theirs.accuracies]
    return {
        "batches": batches,
        "rows_per_batch": size,
        "K": K,
        "seconds": times,
        "what": "ours: accuracy, NLL, Brier, ECE and MCE; torchmetrics: ECE",
        "state_bytes": {
            "ours": len(pickle.dumps(ours)),
            "torchmetrics": sum(x.numel() * x.element_size() for x in kept),
        },
        "json_bytes": len(json.dumps(back.to_dict())),
        "reversed_is_equal": {
            "ours": back.summary() == ours.summary(),
            "torchmetrics": float(turned.compute()) == float(theirs.compute()),
        },
    }


def test_pairs(probs, labels):
    "p-values of our tests and MAPIE's, on 400 rows"
    from mapie.metrics import calibration as peer

    conf, right = conf_right(probs[:400], labels[:400])
    theirs = {
        "ks": peer.kolmogorov_smirnov_p_value,
        "kuiper": peer.kuiper_p_value,
        "spiegelhalter": peer.spiegelhalter_p_value,
    }
    return {
        f"{test.__name__}_p_mapie": (
            test(probs[:400], labels[:400]).p_value,
            float(theirs[name](right.astype(int), conf)),
        )
        for name, test in TESTS.items()
    }


def agreement(n):
    "The same numbers as peers where both exist"
    from netcal.metrics import MCE
    from relplot import smECE
    from sklearn.metrics import roc_auc_score

    probs, labels = rows(n, 5)
    probs = probs.astype(np.float64)
    probs /= probs.sum(1, keepdims=True)
    conf, right = conf_right(probs, labels)
    hits = right.astype(int)
    pairs = {
        "ece_netcal": (ece(probs, labels), netcal_ece(probs, labels)),
        "mce_netcal": (mce(probs, labels), float(MCE(15).measure(probs, labels))),
        "ece_torchmetrics": (ece(probs, labels), torchmetrics_ece(probs, labels, 5)),
        "smooth_ece_relplot": (smooth_ece(probs, labels), float(smECE(conf, hits))),
        **test_pairs(probs, labels),
        "auroc_sklearn": (auroc(conf, right), float(roc_auc_score(right, conf))),
    }
    times = race(
        {
            "ours": lambda: smooth_ece(probs, labels),
            "relplot": lambda: smECE(conf, hits),
        },
        3,
    )
    return {"n": n, "ours_and_peer": pairs, "smooth_ece_seconds": medians(times)}


POPULATIONS = {
    "calibrated": (0.55, 0.65, 0.75, 0.85, 0.95),
    "over": (0.55, 0.62, 0.7, 0.75, 0.8),
    "mixed": (0.65, 0.7, 0.75, 0.85, 0.9),
}


def population(accuracies):
    "10,000 rows of two classes: five confidences, as often right as said"
    cells = [
        (conf, k, i >= accuracy * 1000)
        for conf, accuracy in zip(POPULATIONS["calibrated"], accuracies)
        for k in (0, 1)
        for i in range(1000)
    ]
    probs = [[conf, 1 - conf] if k == 0 else [1 - conf, conf] for conf, k, _ in cells]
    return np.array(probs), np.array([k ^ wrong for _, k, wrong in cells]).astype(int)


def vgg():
    "Probabilities and labels of VGG-16 on CIFAR-10, where they are at hand"
    data = Path(os.environ.get("FTLLM_DATA", ROOT.parent / "shared/data"))
    file = data / "cifar10_vgg" / "cifar10_test_probs.npz"
    if not file.exists():
        return None
    with np.load(file) as saved:
        return saved["probs"], saved["labels"]


def rows_of(kind):
    "A population by its name"
    if kind in POPULATIONS:
        return population(POPULATIONS[kind])
    if kind == "cifar10_vgg":
        return vgg()
    problem = synthetic_problem(100_000, 20, temperature=2.0, seed=0)
    return softmax(problem.logits), problem.labels


QUICK = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "brier",
    "aurc",
    "e_aurc",
    "confidence_auroc",
    "selective_risk_at",
    "ece",
    "ece_debiased",
    "mce",
    "overconfidence",
    "underconfidence",
    "classwise_ece",
    "ace",
)


def held(job):
    """How often the 90% interval of a metric holds the population's value

    Over samples of 250 rows.
    """
    name, kind, sets = job
    probs, labels = rows_of(kind)
    truth = METRICS.create(name)(probs, labels)
    rng = np.random.default_rng(10)
    hits = []
    for j in range(sets):
        i = rng.integers(len(labels), size=250)
        found = interval(name, probs[i], labels[i], level=0.9, seed=j, n_resamples=200)
        hits.append(truth in found)
    return name, kind, float(np.mean(hits))


def coverage(sets):
    "`held` for every metric and population, in two processes"
    names = [name for name in METRICS if name != "top_k_accuracy"]
    real = ["cifar10_vgg"] if vgg() else []

    def sets_of(name, kind):
        few = kind not in POPULATIONS and name not in QUICK
        return sets * (2 if name in QUICK else 1) // (2 if few else 1)

    kinds = [*POPULATIONS, "20 classes", *real]
    jobs = [(name, kind, sets_of(name, kind)) for name in names for kind in kinds]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(held, jobs))
    missing = {"cifar10_vgg": "its outputs are not on this machine"}
    return {
        "level": 0.9,
        "rows": 250,
        "sets": sets,
        "sets_of_quick": 2 * sets,
        "quick": QUICK,
        "sets_of_others_elsewhere": sets // 2,
        "tolerance_3_sigma": 3 * (0.09 / sets) ** 0.5,
        "held": {
            name: {kind: share for metric, kind, share in found if metric == name}
            for name in names
        },
        "not_evaluated": {} if real else missing,
    }


def two_classes(rng, apart, n_inside, n_outside):
    """Probabilities of rows in scope and out of it

    Their scores are normal and `apart`; the score is one minus the first probability.
    """
    x = np.r_[rng.normal(-apart, 1, n_inside), rng.normal(0, 1, n_outside)]
    pairs = np.stack([1 / (1 + np.exp(x)), 1 / (1 + np.exp(-x))], 1)
    return pairs / 2 + [0.5, 0]


def scope_case(rng, apart, n_inside, n_outside, sets):
    "How often the intervals of AUROC and average precision hold, for one population"
    score = 1 - two_classes(rng, apart, 2000 * n_inside, 2000 * n_outside)[:, 0]
    outside = np.arange(len(score)) >= 2000 * n_inside
    true_auroc, true_auprc = auroc(score, outside), auprc(score, outside)
    hits = []
    for j in range(sets):
        x = two_classes(rng, apart, n_inside, n_outside)
        found = out_of_scope(
            x[:n_inside], x[n_inside:], level=0.9, seed=j, n_resamples=100
        )
        hits.append((true_auroc in found.auroc, true_auprc in found.auprc))
    return {
        "apart": apart,
        "inside": n_inside,
        "outside": n_outside,
        "auroc": true_auroc,
        "auprc": true_auprc,
        "held": dict(zip(("auroc", "auprc"), np.mean(hits, 0).tolist())),
    }


def scope_coverage(sets):
    "How often the 90% intervals of AUROC and average precision hold"
    rng = np.random.default_rng(1)
    cases = ((1.5, 200, 40), (3, 200, 40), (4, 200, 40), (1.5, 1000, 200))
    found = [scope_case(rng, *case, sets) for case in cases]
    return {"level": 0.9, "sets": sets, "cases": found}


def levels_of_tests(sets):
    """How often the tests refuse a calibrated model at 5%

    Over confidences of three kinds.
    """
    rng = np.random.default_rng(3)
    cases = {
        "200 rows at .999": lambda: np.full(200, 0.999),
        "250 rows in (.5, 1)": lambda: rng.uniform(0.5, 1, 250),
    }
    if real := vgg():
        conf = np.minimum(real[0].max(1).astype(float), 1)
        cases["100 rows of cifar10_vgg"] = lambda: rng.choice(conf, 100)
    refused = {}
    for name, draw in cases.items():
        p_values = []
        for _ in range(sets):
            q = draw()
            wrong = (rng.uniform(size=len(q)) > q).astype(int)
            pairs = np.c_[q, 1 - q]
            p_values.append([test(pairs, wrong).p_value for test in TESTS.values()])
        share = (np.array(p_values) <= 0.05).mean(0)
        refused[name] = dict(zip(TESTS, share.tolist()))
    return {"level": 0.05, "sets": sets, "refused": refused}


def memory(quick):
    "Peak memory of each contestant, in a process of its own"
    names = ("input", "ours", "netcal", "torchmetrics")
    return {name: peak_mb(__file__, "ece", name, quick) for name in names}


def study(quick, n, K):
    "Everything, as one result"
    exact_sizes = (100_000, 1_000_000) if quick else (1_000_000, 3_000_000, 10_000_000)
    peaks = memory(quick)
    return {
        "ece": speed(n, K),
        "peak_mb": peaks,
        "accuracy": accuracy_at(exact_sizes),
        "accuracy_one_bin": one_bin(
            (1_000_000,) if quick else (10_000_000, 30_000_000)
        ),
        "stream": streams(*((10, 1000, 20) if quick else (50, 20_000, 100))),
        "agreement": agreement(2000 if quick else 100_000),
        "others": other_metrics(n, K),
        "coverage": coverage(20 if quick else 200),
        "scope_coverage": scope_coverage(50 if quick else 500),
        "test_levels": levels_of_tests(50 if quick else 500),
        "first_calls": compile_times(),
    }


PROMISES = {
    "coverage": lambda: coverage(200),
    "scope_coverage": lambda: scope_coverage(500),
    "test_levels": lambda: levels_of_tests(500),
}


def promises_again():
    "The stored result with its parts on coverage measured anew; nothing is timed"
    file = HERE / "results" / "metrics.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    again = {name: measure() | circumstances() for name, measure in PROMISES.items()}
    file.write_text(json.dumps(stored | again, indent=1) + "\n", encoding="utf-8")


def main():
    asked = arguments()
    if asked.promises:
        promises_again()
        return
    n, K = (20_000, 200) if asked.quick else (100_000, 1000)
    if not asked.memory:
        save("metrics", study(asked.quick, n, K))
        return
    probs, labels = rows(n, K)
    name = asked.memory[1]
    if name != "input":
        contestants(probs, labels)[name]()
    print(peak())


if __name__ == "__main__":
    main()
