"""Prediction sets beside torchcp and MAPIE: calibrate and predict on the same float32 arrays in one run; time, memory and the time that memory alone would take

python benchmarks/statistics/conformal.py [--quick]        (about 10 minutes: five runs of peers that take 20 seconds each)
"""

import functools
import sys
import warnings

import numpy as np
from common import arguments, bandwidth, import_torchcp, peak, peak_mb, race, save

CASES = {"K=1,000": (20_000, 1_000), "K=50,000": (2_000, 50_000)}
QUICK = {"K=1,000": (2_000, 1_000), "K=50,000": (200, 50_000)}
SCORES = "lac", "aps", "raps", "saps", "topk"
RAPS = dict(penalty=0.01, k_reg=5)


def half(n, K, seed):
    "Probabilities and labels drawn from them; made in blocks, so that memory holds little else"
    rng = np.random.default_rng(seed)
    p = np.empty((n, K), np.float32)
    y = np.empty(n, np.int64)
    for a in range(0, n, 100):
        z = rng.standard_normal((min(100, n - a), K), dtype=np.float32) * 3
        np.exp(z, out=z)
        z /= z.sum(1, keepdims=True, dtype=np.float64).astype(np.float32)
        p[a : a + 100] = z
        y[a : a + 100] = (z.cumsum(1) < rng.uniform(size=(len(z), 1)) * 0.999).sum(1)
    return p, np.minimum(y, K - 1)


def ours(score, cal, new, seed=0):
    from fine_tune_llm.stats.conformal import ConformalClassifier

    c = ConformalClassifier(
        score, 0.1, seed=seed, settings=RAPS if score == "raps" else None
    ).fit(*cal())
    return c.predict(new()[0])


def torchcp(score, cal, new):
    import_torchcp()
    import torch
    from torchcp.classification.predictor import SplitPredictor
    from torchcp.classification.score import APS, LAC, SAPS, TOPK
    from torchcp.classification.score import RAPS as Raps

    f = dict(
        lac=lambda: LAC(score_type="identity"),
        aps=lambda: APS(score_type="identity"),
        raps=lambda: Raps(
            score_type="identity", penalty=RAPS["penalty"], kreg=RAPS["k_reg"]
        ),
        saps=lambda: SAPS(score_type="identity", weight=0.1),
        topk=lambda: TOPK(score_type="identity"),
    )[score]()
    p = SplitPredictor(f)
    p._device = torch.device("cpu")
    a = cal()
    p.calculate_threshold(torch.from_numpy(a[0]), torch.from_numpy(a[1]), 0.1)
    del a
    return p.predict_with_logits(torch.from_numpy(new()[0]))


def mapie(score, cal, new):
    from mapie.classification import SplitConformalClassifier

    class Given:  # MAPIE asks a fitted model for its probabilities
        def __init__(self, K):
            self.classes_ = np.arange(K)
            self.n_features_in_ = K

        def fit(self, X, y):
            return self

        def predict_proba(self, X):
            return X

        def predict(self, X):
            return X.argmax(1)

        def __sklearn_is_fitted__(self):
            return True

    a = cal()
    m = SplitConformalClassifier(
        Given(a[0].shape[1]),
        confidence_level=0.9,
        conformity_score=score,
        prefit=True,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m.conformalize(a[0], a[1])
        del a
        return m.predict_set(new()[0])


PEERS = dict(ours=ours, torchcp=torchcp, mapie=mapie)


WITHOUT = (
    "not run: this study races MAPIE on lac and aps",
    "not run at this size: single trials of the whole process took 27 s for lac and 103 s and 6.9 GB for aps (2 cores, shared, MAPIE 1.6.0)",
    "not run with --quick",
)


def study(score, cal, new, quick):
    "Times of all contestants that know the score: seven runs of ours, five of the peers"
    big = cal[0].shape[1] > 4096
    no_mapie = (
        WITHOUT[0]
        if score not in ("lac", "aps")
        else WITHOUT[1]
        if big
        else WITHOUT[2]
        if quick
        else None
    )
    run = {
        k: functools.partial(f, score, lambda: cal, lambda: new)
        for k, f in PEERS.items()
        if k != "mapie" or not no_mapie
    }
    run["ours"]()  # compiles, or reads from disk
    r = race(
        {k: f if k == "ours" else (f, 5) for k, f in run.items()},
        repeats=7,
        warm=0 if big else 1,
    )
    return {
        **r,
        "ratio": {k: r[k]["median"] / r["ours"]["median"] for k in r if k != "ours"},
        **({"mapie": no_mapie} if no_mapie else {}),
    }


def main():
    a = arguments()
    cases = QUICK if a.quick else CASES
    if a.memory:
        case, name = a.memory
        if case.endswith("inputs only"):
            half(*cases[case.split("/")[0]], 1)
            print(peak())
            return
        size, score = case.split("/")
        n, K = cases[size]
        PEERS[name](score, lambda: half(n, K, 1), lambda: half(n, K, 2))
        print(peak())
        return
    from fine_tune_llm.stats import kernels
    from fine_tune_llm.stats.quantiles import coverage, set_size

    result = dict(
        bandwidth_gb_s=bandwidth(),
        what="calibrate on n rows and predict n others, float32; roofline: both matrices read once and the sets written once",
        cases={},
    )
    for size, (n, K) in cases.items():
        cal, new = half(n, K, 1), half(n, K, 2)
        for score in SCORES:
            r = study(score, cal, new, a.quick)
            s = ours(score, lambda p=cal: p, lambda p=new: p)
            r["coverage"], r["size"] = coverage(s, new[1]), set_size(s)
            r["roofline_s"] = (
                (2 * cal[0].nbytes + (n * K if K <= 4096 else 4 * r["size"] * n))
                / result["bandwidth_gb_s"]
                / 1e9
            )
            result["cases"][f"{size}/{score}"] = r
            print(
                size,
                score,
                {
                    k: round(v["median"], 4)
                    for k, v in r.items()
                    if isinstance(v, dict) and "median" in v
                },
                r["ratio"],
                file=sys.stderr,
            )
        cal = new = None
    result["compile"] = kernels.compile_times()
    memory = {}
    for size in cases:
        memory[size] = dict(
            inputs_of_one_half_mb=cases[size][0] * cases[size][1] * 4 / 2**20,
            process_with_one_half=peak_mb(
                __file__, f"{size}/inputs only", "ours", a.quick
            ),
        )
        for score in ("lac", "aps", "raps"):
            memory[size][score] = {
                k: peak_mb(__file__, f"{size}/{score}", k, a.quick)
                for k in (
                    ("ours", "torchcp")
                    if score != "raps" or size == "K=50,000"
                    else ("ours",)
                )
            }
    result["peak_mb"] = memory
    result["goals"] = goals(result, memory) if not a.quick else None
    save("conformal", result)


def goals(r, m):
    c = r["cases"]
    at = lambda k: c[k]["ratio"]["torchcp"]
    return {
        "APS K=1,000 >= 25x torchcp": [at("K=1,000/aps"), at("K=1,000/aps") >= 25],
        "LAC K=1,000 >= 5x torchcp": [at("K=1,000/lac"), at("K=1,000/lac") >= 5],
        "APS K=50,000 >= 50x torchcp": [at("K=50,000/aps"), at("K=50,000/aps") >= 50],
        "RAPS K=50,000 >= 50x torchcp": [
            at("K=50,000/raps"),
            at("K=50,000/raps") >= 50,
        ],
        "APS and RAPS K=50,000 <= 0.7 GB": [
            max(m["K=50,000"][s]["ours"] for s in ("aps", "raps")),
            max(m["K=50,000"][s]["ours"] for s in ("aps", "raps")) <= 700,
        ],
    }


if __name__ == "__main__":
    main()
