"Metrics beside netcal, torchmetrics, relplot and MAPIE: the same arrays in one run, in turns. `--quick` is smaller, to see that it runs"

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
from common import ROOT, arguments, bandwidth, peak, peak_mb, race, save

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


def rows(n, K, seed=0):
    "Over-confident probabilities, float32, and labels"
    rng = np.random.default_rng(seed)
    p = np.empty((n, K), np.float32)
    y = np.empty(n, np.int64)
    for a in range(0, n, 20_000):
        z = rng.normal(scale=2.5, size=(min(20_000, n - a), K)).astype(np.float32)
        q = np.exp(z - z.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        y[a : a + len(z)] = np.minimum(
            (q.cumsum(1) < rng.uniform(size=(len(z), 1))).sum(1), K - 1
        )
        q **= 1.5
        p[a : a + len(z)] = q / q.sum(1, keepdims=True)
    return p, y


def torchmetrics_ece(p, y, K, n_bins=15):
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    return float(
        multiclass_calibration_error(
            torch.from_numpy(p),
            torch.from_numpy(y),
            num_classes=K,
            n_bins=n_bins,
            validate_args=False,
        )
    )


def netcal_ece(p, y, n_bins=15):
    from netcal.metrics import ECE

    return float(ECE(n_bins).measure(p, y))


def contestants(p, y):
    return dict(
        ours=lambda: ece(p, y),
        netcal=lambda: netcal_ece(p, y),
        torchmetrics=lambda: torchmetrics_ece(p, y, p.shape[1]),
    )


def speed(n, K):
    "ECE-15 of one matrix, and what reading it once costs"
    p, y = rows(n, K)
    t = race(contestants(p, y), 7)
    gbs = bandwidth()
    roof = p.nbytes / gbs / 1e9
    m = {k: v["median"] for k, v in t.items()}
    return dict(
        n=n,
        K=K,
        seconds=t,
        times_netcal=m["netcal"] / m["ours"],
        times_torchmetrics=m["torchmetrics"] / m["ours"],
        bandwidth_gb_s=gbs,
        roof_seconds=roof,
        share_of_roof=roof / m["ours"],
        values={k: f() for k, f in contestants(p, y).items()},
    )


def other_metrics(n, K):
    "Seconds of the other metrics on the same matrix, and of intervals"
    p, y = rows(n, K)
    fs = {
        f.__name__: partial(f, p, y)
        for f in (
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
    }
    fs = {k: (f, 3) for k, f in fs.items()} | dict(
        ace=(partial(ace, p, y), 1),
        interval_ece=(partial(interval, "ece", p, y, seed=0), 1),
        interval_auroc=(partial(interval, "confidence_auroc", p, y, seed=0), 1),
    )
    return dict(n=n, K=K, seconds={k: v["median"] for k, v in race(fs).items()})


def one_bin(sizes):
    "The same where all confidences share a bin, as most do in a good model: float32(.9), 80% right"
    out, c = [], np.float32(0.9)
    for n in sizes:
        p = np.empty((n, 2), np.float32)
        p[:] = c, 1 - c
        y = (np.arange(n) % 5 == 0).astype(np.int64)
        truth = abs(float(c) - 0.8)
        out.append(
            dict(
                n=n,
                truth=truth,
                ours=ece(p, y) / truth - 1,
                torchmetrics=torchmetrics_ece(p, y, 2) / truth - 1,
            )
        )
        del p, y
    return out


def accuracy_at(sizes):
    "Relative error of the ECE against exact sums: confidences in (.5, 1), two classes, float32"
    out = []
    for n in sizes:
        rng = np.random.default_rng(1)
        c = rng.uniform(0.5, 1, n).astype(np.float32)
        p = np.c_[c, 1 - c]
        y = (rng.uniform(size=n) < 0.8 * c).astype(int) ^ 1
        c = conf_right(p, y)[0]
        at = np.searchsorted(np.linspace(0, 1, 16)[1:-1], c)
        order = np.argsort(at, kind="stable")
        cut = np.searchsorted(at[order], np.arange(16))
        d = (c - (y == 0))[order]
        truth = math.fsum(abs(math.fsum(d[a:b])) for a, b in zip(cut, cut[1:])) / n
        del d, order, at
        out.append(
            dict(
                n=n,
                truth=truth,
                ours=ece(p, y) / truth - 1,
                torchmetrics=torchmetrics_ece(p, y, 2) / truth - 1,
            )
        )
    return out


def streams(batches, size, K):
    "Batches into an ECE: time, size of the state, and whether the order of batches changes the number"
    import torch
    from torchmetrics.classification import MulticlassCalibrationError

    data = [rows(size, K, seed) for seed in range(batches)]
    tensors = [(torch.from_numpy(p), torch.from_numpy(y)) for p, y in data]

    def ours(data=data):
        s = StreamingCalibration()
        for p, y in data:
            s.update(p, y)
        s.summary()
        return s

    def theirs(data=tensors):
        m = MulticlassCalibrationError(K, n_bins=15, validate_args=False)
        for p, y in data:
            m.update(p, y)
        m.compute()
        return m

    t = race(dict(ours=ours, torchmetrics=theirs), 5)
    m = theirs()
    state = sum(
        x.numel() * x.element_size() for v in (m.confidences, m.accuracies) for x in v
    )
    back, turned = ours(data[::-1]), theirs(tensors[::-1])
    return dict(
        batches=batches,
        rows_per_batch=size,
        K=K,
        seconds=t,
        what="ours: accuracy, NLL, Brier, ECE and MCE; torchmetrics: ECE",
        state_bytes=dict(ours=len(pickle.dumps(ours())), torchmetrics=state),
        json_bytes=len(json.dumps(back.to_dict())),
        reversed_is_equal=dict(
            ours=back.summary() == ours().summary(),
            torchmetrics=float(turned.compute()) == float(m.compute()),
        ),
    )


def agreement(n):
    "The same numbers as peers where both exist"
    from mapie.metrics import calibration as mc
    from netcal.metrics import MCE
    from relplot import smECE

    p, y = rows(n, 5)
    p = p.astype(np.float64)
    p /= p.sum(1, keepdims=True)
    c, r = conf_right(p, y)
    r1 = r.astype(int)
    pairs = dict(
        ece_netcal=(ece(p, y), netcal_ece(p, y)),
        mce_netcal=(mce(p, y), float(MCE(15).measure(p, y))),
        ece_torchmetrics=(ece(p, y), torchmetrics_ece(p, y, 5)),
        smooth_ece_relplot=(smooth_ece(p, y), float(smECE(c, r1))),
    )
    few = slice(0, 400)
    for f, g in (
        (ks_test, mc.kolmogorov_smirnov_p_value),
        (kuiper_test, mc.kuiper_p_value),
        (spiegelhalter_test, mc.spiegelhalter_p_value),
    ):
        pairs[f"{f.__name__}_p_mapie"] = (
            f(p[few], y[few]).p_value,
            float(g(r1[few], c[few])),
        )
    pairs["auroc_sklearn"] = (
        auroc(c, r),
        float(__import__("sklearn.metrics").metrics.roc_auc_score(r, c)),
    )
    t = race(dict(ours=lambda: smooth_ece(p, y), relplot=lambda: smECE(c, r1)), 3)
    return dict(
        n=n,
        ours_and_peer=pairs,
        smooth_ece_seconds={k: v["median"] for k, v in t.items()},
    )


def population(acc):
    rows = [
        (c, k, i >= a * 1000)
        for c, a in zip((0.55, 0.65, 0.75, 0.85, 0.95), acc)
        for k in (0, 1)
        for i in range(1000)
    ]
    return np.array(
        [[c, 1 - c] if k == 0 else [1 - c, c] for c, k, _ in rows]
    ), np.array([k ^ wrong for _, k, wrong in rows]).astype(int)


POPULATIONS = dict(
    calibrated=(0.55, 0.65, 0.75, 0.85, 0.95),
    over=(0.55, 0.62, 0.7, 0.75, 0.8),
    mixed=(0.65, 0.7, 0.75, 0.85, 0.9),
)


def vgg():
    "Probabilities and labels of VGG-16 on CIFAR-10, where they are at hand"
    f = (
        Path(os.environ.get("FTLLM_DATA", ROOT.parent / "shared/data"))
        / "cifar10_vgg"
        / "cifar10_test_probs.npz"
    )
    if not f.exists():
        return None
    with np.load(f) as d:
        return d["probs"], d["labels"]


def rows_of(kind):
    if kind in POPULATIONS:
        return population(POPULATIONS[kind])
    if kind == "cifar10_vgg":
        return vgg()
    s = synthetic_problem(100_000, 20, temperature=2.0, seed=0)
    return softmax(s.logits), s.labels


QUICK = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "brier",
    "aurc",
    "e_aurc",
    "confidence_auroc",
    "selective_risk_at",
)


def held(job):
    "How often the 90% interval of a metric holds the population's value, over samples of 250 rows"
    name, kind, sets = job
    p, y = rows_of(kind)
    truth, rng = METRICS.create(name)(p, y), np.random.default_rng(10)
    hit = [
        truth in interval(name, p[i], y[i], level=0.9, seed=j, n_resamples=200)
        for j in range(sets)
        for i in [rng.integers(len(y), size=250)]
    ]
    return name, kind, float(np.mean(hit))


def coverage(sets):
    names = [n for n in METRICS if n != "top_k_accuracy"]
    kinds = [*POPULATIONS, "20 classes", *(["cifar10_vgg"] if vgg() else [])]
    jobs = [
        (
            n,
            k,
            sets
            * (2 if n in QUICK else 1)
            // (1 if k in POPULATIONS or n in QUICK else 2),
        )
        for n in names
        for k in kinds
    ]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        out = list(pool.map(held, jobs))
    return dict(
        level=0.9,
        rows=250,
        sets=sets,
        sets_of_quick=2 * sets,
        quick=QUICK,
        sets_of_others_elsewhere=sets // 2,
        tolerance_3_sigma=3 * (0.09 / sets) ** 0.5,
        held={n: {k: v for m, k, v in out if m == n} for n in names},
        not_evaluated={}
        if vgg()
        else dict(cifar10_vgg="its outputs are not on this machine"),
    )


def two_classes(rng, apart, n, m):
    "Probabilities of n rows in scope and m out of it, whose scores are normal and `apart`; the score is one minus the first"
    x = np.r_[rng.normal(-apart, 1, n), rng.normal(0, 1, m)]
    return np.stack([1 / (1 + np.exp(x)), 1 / (1 + np.exp(-x))], 1) / 2 + [0.5, 0]


def scope_coverage(sets):
    "How often the 90% intervals of AUROC and average precision hold: rows in scope and out of it"
    out, rng = [], np.random.default_rng(1)
    for apart, n, m in ((1.5, 200, 40), (3, 200, 40), (4, 200, 40), (1.5, 1000, 200)):
        s = 1 - two_classes(rng, apart, 2000 * n, 2000 * m)[:, 0]
        out_of = np.arange(len(s)) >= 2000 * n
        a, b = auroc(s, out_of), auprc(s, out_of)
        found = []
        for j in range(sets):
            x = two_classes(rng, apart, n, m)
            o = out_of_scope(x[:n], x[n:], level=0.9, seed=j, n_resamples=100)
            found.append((a in o.auroc, b in o.auprc))
        out.append(
            dict(
                apart=apart,
                inside=n,
                outside=m,
                auroc=a,
                auprc=b,
                held=dict(zip(("auroc", "auprc"), np.mean(found, 0).tolist())),
            )
        )
    return dict(level=0.9, sets=sets, cases=out)


def levels_of_tests(sets):
    "How often the tests refuse a calibrated model at 5%, over confidences of three kinds"
    rng, cases = (
        np.random.default_rng(3),
        {
            "200 rows at .999": lambda: np.full(200, 0.999),
            "250 rows in (.5, 1)": lambda: rng.uniform(0.5, 1, 250),
        },
    )
    out = {}
    if v := vgg():
        c = np.minimum(v[0].max(1).astype(float), 1)
        cases["100 rows of cifar10_vgg"] = lambda: rng.choice(c, 100)
    for k, draw in cases.items():
        p = []
        for _ in range(sets):
            q = draw()
            p.append(
                [
                    f(
                        np.c_[q, 1 - q], (rng.uniform(size=len(q)) > q).astype(int)
                    ).p_value
                    for f in (ks_test, kuiper_test, spiegelhalter_test)
                ]
            )
        out[k] = dict(
            zip(
                ("ks", "kuiper", "spiegelhalter"),
                (np.array(p) <= 0.05).mean(0).tolist(),
            )
        )
    return dict(level=0.05, sets=sets, refused=out)


if __name__ == "__main__":
    a = arguments()
    n, K = (20_000, 200) if a.quick else (100_000, 1000)
    if a.memory:
        p, y = rows(n, K)
        contestants(p, y)[a.memory[1]]() if a.memory[1] != "input" else None
        print(peak())
    else:
        memory = {
            k: peak_mb(__file__, "ece", k, a.quick)
            for k in ("input", "ours", "netcal", "torchmetrics")
        }
        result = dict(
            ece=speed(n, K),
            peak_mb=memory,
            accuracy=accuracy_at(
                (100_000, 1_000_000) if a.quick else (1_000_000, 3_000_000, 10_000_000)
            ),
            accuracy_one_bin=one_bin(
                (1_000_000,) if a.quick else (10_000_000, 30_000_000)
            ),
            stream=streams(*((10, 1000, 20) if a.quick else (50, 20_000, 100))),
            agreement=agreement(2000 if a.quick else 100_000),
            others=other_metrics(n, K),
            coverage=coverage(20 if a.quick else 200),
            scope_coverage=scope_coverage(50 if a.quick else 500),
            test_levels=levels_of_tests(50 if a.quick else 500),
            first_calls=compile_times(),
        )
        save("metrics", result)
