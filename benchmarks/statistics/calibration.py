"Calibrators beside their peers: temperature at K=1,000, then vector, Dirichlet, isotonic and Venn-Abers; what each found, and the roofline of the temperature's pass"

import time
import warnings

import numpy as np
from common import arguments, bandwidth, import_torchcp, peak, peak_mb, race, save

from fine_tune_llm.stats.binary_calibration import IsotonicCalibration
from fine_tune_llm.stats.calibrators import CALIBRATORS, Rows
from fine_tune_llm.stats.kernels import by_rows, threads
from fine_tune_llm.stats.matrix_scaling import VectorScaling
from fine_tune_llm.stats.temperature import (
    TemperatureScaling,
    _best,
    _moments,
    _slopes,
    best_temperature,
)
from fine_tune_llm.stats.venn_abers import VennAbers

T = 1.5  # the models below are over-confident by this


def problem(n, K, seed=0, spread=2.0):
    "float32 logits of a model that is right once divided by T, and labels drawn from it; in blocks, so that nothing large is left behind"
    rng = np.random.default_rng(seed)
    z, y = rng.standard_normal((n, K), dtype=np.float32), np.empty(n, np.int64)
    z *= np.float32(spread)
    for i in range(0, n, 4096):
        p = np.exp(z[i : i + 4096].astype(np.float64)).cumsum(1)
        y[i : i + 4096] = (p < rng.uniform(size=(len(p), 1)) * p[:, -1:]).sum(1)
    z *= np.float32(T)
    return z, y


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sklearn_temperature(z, y):
    from sklearn.calibration import _TemperatureScaling

    return 1 / float(_TemperatureScaling().fit(z, y).beta_)


def probmetrics_temperature(z, y):
    import torch
    from probmetrics.calibrators import TemperatureScalingCalibrator
    from probmetrics.distributions import CategoricalLogits

    return 1 / float(
        TemperatureScalingCalibrator()
        .fit_torch(CategoricalLogits(torch.from_numpy(z)), torch.from_numpy(y))
        .invtemp_
    )


def netcal_temperature(p, y):
    from netcal.scaling import TemperatureScaling

    t = TemperatureScaling()
    t.fit(p, y, tensorboard=False)
    return 1 / float(np.ravel(t.temperature)[0])  # netcal's "temperature" multiplies


def torchcp_temperature(z, y):
    import torch

    import_torchcp()
    from torchcp.classification.trainer.ts_trainer import TSTrainer

    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(z), torch.from_numpy(y)),
        batch_size=4096,
    )
    return float(
        TSTrainer(torch.nn.Identity(), init_temperature=1.0, verbose=False)
        .train(data)
        .temperature
    )


def slope_at(z, y, t):
    "Derivative of the mean loss in log T: zero at the optimum"
    return float(_slopes(Rows(z), y, 1)(1 / t)[0])


def outcome(f):
    "What a contestant answers, or why it does not"
    try:
        return f()
    except Exception as e:
        return f"{type(e).__name__}: {str(e)[:200]}"


def once(f):
    start = time.perf_counter()
    out = outcome(f)
    return dict(median=time.perf_counter() - start, runs=1), out


CASES = {
    "ours": best_temperature,
    "scikit-learn": sklearn_temperature,
    "probmetrics": probmetrics_temperature,
    "netcal": lambda z, y: netcal_temperature(softmax(z), y),
    "netcal, float64": lambda z, y: netcal_temperature(
        softmax(z.astype(np.float64)), y
    ),
    "torchcp": torchcp_temperature,
}


def temperature(quick):
    n, K = (20_000, 200) if quick else (100_000, 1000)
    z, y = problem(n, K)
    found, time_of = {}, {}
    fast = {
        k: (lambda f=CASES[k], k=k: found.update({k: outcome(lambda: f(z, y))}))
        for k in ("ours", "scikit-learn", "probmetrics")
    }
    time_of.update(
        race(
            {
                "ours": fast["ours"],
                "ours, fit and predict": lambda: (
                    TemperatureScaling().fit(z, y).predict_proba(z)
                ),
            },
            7,
        )
    )
    time_of.update(
        race(
            {
                "scikit-learn": (fast["scikit-learn"], 5),
                "probmetrics": (fast["probmetrics"], 3),
            },
            warm=0,
        )
    )
    for k in ("netcal", "torchcp"):
        time_of[k], found[k] = once(lambda k=k: CASES[k](z, y))
    ours = time_of["ours"]["median"]
    return dict(
        n=n,
        K=K,
        seconds=time_of,
        temperature=found,
        slope={
            k: slope_at(z, y, t) for k, t in found.items() if not isinstance(t, str)
        },
        float64=best_temperature(z.astype(np.float64), y),
        ratio={
            k: time_of[k]["median"] / ours
            for k in ("scikit-learn", "probmetrics", "netcal", "torchcp")
        },
    )


def roofline(quick):
    "One pass: exponentials a second, beside the same pass over a matrix that fits the cache, and bytes a second beside what memory gives"
    n, K = (20_000, 200) if quick else (100_000, 1000)
    z, y = problem(n, K)
    r = Rows(z)
    passes = []

    def one(beta):
        passes.append(1)
        return _slopes(r, y, 1)(beta)

    small = slice(0, max(1, (1 << 16) // K))
    zs, ts, ys = z[small], r.top[small], y[small]
    t = race(
        {
            "pass": lambda: one(1 / T),
            "in cache, one thread": lambda: _moments(zs, ts, ys, 1 / T, 1, 0, len(zs)),
            "door": lambda: Rows(z),
            "numpy exp": lambda: by_rows(
                lambda a, b: np.exp(z[a:b].astype(np.float64)), n, K
            ),
        },
        7,
    )
    gb = bandwidth()
    return dict(
        seconds={k: v["median"] for k, v in t.items()},
        threads=threads(),
        exp_per_second=z.size / t["pass"]["median"],
        exp_per_second_in_cache_one_thread=zs.size / t["in cache, one thread"]["best"],
        gb_per_second=z.nbytes / t["pass"]["median"] / 1e9,
        bandwidth_gb_per_second=gb,
        passes_over_everything=full_passes(r, y),
    )


def full_passes(r, y):
    import fine_tune_llm.stats.temperature as module

    count, plain = [], module._slopes

    def counted(r, y, step):
        f = plain(r, y, step)
        return lambda beta: (count.append(step), f(beta))[1]

    module._slopes = counted
    try:
        _best(r, y, (0.01, 100.0))
    finally:
        module._slopes = plain
    return {f"every {s}": count.count(s) for s in sorted(set(count))}


def precision():
    "float32 and float64 of the same 20,000 x 10 logits: where each ends, and the slope there"
    z, y = problem(20_000, 10, seed=1)
    wide = z.astype(np.float64)
    out = {}
    for k, f in CASES.items():
        if "," in k:
            continue
        out[k] = {
            d: outcome(lambda f=f, x=x: f(x, y))
            for d, x in (("float32", z), ("float64", wide))
        }
        out[k] |= {
            f"slope at {d}": slope_at(wide, y, v)
            for d, v in list(out[k].items())
            if not isinstance(v, str)
        }
    return out


def linear(n, K):
    "A model that also over-rates class 0: seconds, and the loss of rows not fitted on"
    from probmetrics.calibrators import SMSCalibrator, VectorScalingCalibrator

    (z, y), (zh, yh) = problem(n, K, seed=2), problem(n, K, seed=3)
    z[:, 0] += 2
    zh[:, 0] += 2
    p, ph = softmax(z.astype(np.float64)), softmax(zh.astype(np.float64))
    found = {}

    def loss(q):
        return float(-np.log(np.maximum(q[np.arange(n), yh], 1e-38)).mean())

    def ours(k):
        found[k] = loss(CALIBRATORS.create(k).fit(z, y).predict_proba(zh))

    def theirs(k, c):
        found[k] = outcome(lambda: loss(c().fit(p, y).predict_proba(ph)))

    case = {
        "vector": lambda: ours("vector"),
        "vector, probmetrics": lambda: theirs(
            "vector, probmetrics", VectorScalingCalibrator
        ),
        "dirichlet": lambda: ours("dirichlet"),
    }
    if K <= 20:
        case["matrix, probmetrics"] = lambda: theirs(
            "matrix, probmetrics", SMSCalibrator
        )
    return dict(seconds=race(case, 3), held_out_nll=dict(found, raw=loss(ph)))


def vector_and_dirichlet(quick):
    out = {
        f"n={n}, K={K}": linear(n, K)
        for n, K in (((2000, 20),) if quick else ((20_000, 100), (5000, 20)))
    }
    if not quick:
        z, y = problem(100_000, 1000)
        out["vector, n=100000, K=1000"] = once(
            lambda: len(VectorScaling().fit(z, y).offsets_)
        )[0]
    return out


def isotonic(quick):
    from sklearn.isotonic import IsotonicRegression

    n, K = (20_000, 10) if quick else (100_000, 20)
    z, y = problem(n, K, seed=4)
    p = softmax(z.astype(np.float64))

    def theirs():
        return np.stack(
            [
                IsotonicRegression(out_of_bounds="clip")
                .fit(p[:, k], y == k)
                .predict(p[:, k])
                for k in range(K)
            ],
            1,
        )

    ours = IsotonicCalibration().fit(probs=p, labels=y)
    raw = np.stack([ours._map(m, p[:, k], None) for k, m in enumerate(ours.maps_)], 1)
    return dict(
        n=n,
        K=K,
        seconds=race(
            {
                "ours": lambda: (
                    IsotonicCalibration().fit(probs=p, labels=y).predict_proba(probs=p)
                ),
                "scikit-learn, class by class": theirs,
            },
            3,
        ),
        largest_difference=float(
            np.abs(raw - np.clip(theirs(), 1 / (n + 2), 1 - 1 / (n + 2))).max()
        ),
    )


def venn_abers(quick):
    from venn_abers import VennAbers as Theirs

    n = 2000 if quick else 20_000
    z, y = problem(2 * n, 2, seed=5)
    p = softmax(z.astype(np.float64))
    fit, new = slice(0, n), slice(n, None)

    def ours():
        return VennAbers().fit(probs=p[fit], labels=y[fit]).interval(probs=p[new])

    def theirs():
        c = Theirs()
        c.fit(p[fit], y[fit])
        return c.predict_proba(p[new])[1]

    low, high = ours()
    pair = theirs()
    return dict(
        n=n,
        seconds=race({"ours": ours, "venn-abers": theirs}, 5),
        largest_difference=float(
            max(
                np.abs(low[:, 1] - pair[:, 0]).max(),
                np.abs(high[:, 1] - pair[:, 1]).max(),
            )
        ),
    )


def absent(quick):
    "A class without rows: scikit-learn's calibrators with a prefitted model, and all of ours"
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    z, y = problem(500, 4, seed=6)
    keep = y < 3

    class Model(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.arange(4)
            return self

        def decision_function(self, X):
            return X

        def predict_proba(self, X):
            return softmax(X)

        def predict(self, X):
            return X.argmax(1)

    theirs = {
        m: outcome(
            lambda m=m: (
                f"{CalibratedClassifierCV(FrozenEstimator(Model().fit(z, y)), method=m).fit(z[keep], y[keep]).predict_proba(z).shape}"
            )
        )
        for m in ("sigmoid", "isotonic", "temperature")
    }
    return {
        "scikit-learn": theirs,
        "ours": {
            k: outcome(
                lambda k=k: str(
                    CALIBRATORS.create(k).fit(z[keep], y[keep]).predict_proba(z).shape
                )
            )
            for k in CALIBRATORS
        },
    }


if __name__ == "__main__":
    a = arguments()
    warnings.simplefilter("ignore")
    if a.memory:
        z, y = problem(*((20_000, 200) if a.quick else (100_000, 1000)))
        before = peak()
        if a.memory[1] != "data":
            CASES[a.memory[1]](z, y)
        print(before, peak())
    else:
        parts = dict(
            temperature=temperature,
            roofline=roofline,
            vector_and_dirichlet=vector_and_dirichlet,
            isotonic=isotonic,
            venn_abers=venn_abers,
            absent_class=absent,
        )
        memory = {
            k: peak_mb(__file__, "temperature", k, a.quick)
            for k in ("data", "ours", "scikit-learn")
        }
        save(
            "calibration",
            dict(
                {k: f(a.quick) for k, f in parts.items()},
                precision=precision(),
                peak_mb=memory,
            ),
        )
