"""Prediction sets beside torchcp and MAPIE

Calibrate and predict on the same float32 arrays in one run: time, memory, and the time
that memory alone would take.

python benchmarks/statistics/conformal.py [--quick]
(about 10 minutes: five runs of peers that take 20 seconds each)
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
    "Probabilities and labels drawn from them; in blocks, so that memory holds little"
    rng = np.random.default_rng(seed)
    probs = np.empty((n, K), np.float32)
    labels = np.empty(n, np.int64)
    for start in range(0, n, 100):
        rows = slice(start, min(start + 100, n))
        block = rng.standard_normal((rows.stop - start, K), dtype=np.float32) * 3
        np.exp(block, out=block)
        block /= block.sum(1, keepdims=True, dtype=np.float64).astype(np.float32)
        probs[rows] = block
        drawn = rng.uniform(size=(len(block), 1)) * 0.999
        labels[rows] = (block.cumsum(1) < drawn).sum(1)
    return probs, np.minimum(labels, K - 1)


def ours(score, cal, new, seed=0):
    from fine_tune_llm.stats.conformal import ConformalClassifier

    settings = RAPS if score == "raps" else None
    classifier = ConformalClassifier(score, 0.1, seed=seed, settings=settings)
    return classifier.fit(*cal()).predict(new()[0])


def torchcp_score(score):
    "The score as torchcp calls it"
    from torchcp.classification.score import APS, LAC, SAPS, TOPK
    from torchcp.classification.score import RAPS as Raps

    make, settings = {
        "lac": (LAC, {}),
        "aps": (APS, {}),
        "raps": (Raps, dict(penalty=RAPS["penalty"], kreg=RAPS["k_reg"])),
        "saps": (SAPS, dict(weight=0.1)),
        "topk": (TOPK, {}),
    }[score]
    return make(score_type="identity", **settings)


def torchcp(score, cal, new):
    import_torchcp()
    import torch
    from torchcp.classification.predictor import SplitPredictor

    predictor = SplitPredictor(torchcp_score(score))
    predictor._device = torch.device("cpu")
    probs, labels = (torch.from_numpy(array) for array in cal())
    predictor.calculate_threshold(probs, labels, 0.1)
    del probs, labels
    return predictor.predict_with_logits(torch.from_numpy(new()[0]))


class GivenProbabilities:
    "MAPIE asks a fitted model for its probabilities; here its inputs are those"

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


def mapie_fitted(score, probs, labels):
    from mapie.classification import SplitConformalClassifier

    model = SplitConformalClassifier(
        GivenProbabilities(probs.shape[1]),
        confidence_level=0.9,
        conformity_score=score,
        prefit=True,
        random_state=0,
    )
    return model.conformalize(probs, labels)


def mapie(score, cal, new):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mapie_fitted(score, *cal())
        return model.predict_set(new()[0])


PEERS = dict(ours=ours, torchcp=torchcp, mapie=mapie)


WITHOUT = {
    "score": "not run: this study races MAPIE on lac and aps",
    "size": "not run at this size: single trials of the whole process took 27 s for "
    "lac and 103 s and 6.9 GB for aps (2 cores, shared, MAPIE 1.6.0)",
    "quick": "not run with --quick",
}


def why_no_mapie(score, big, quick):
    "The reason why MAPIE does not race, or `None`"
    if score not in ("lac", "aps"):
        return WITHOUT["score"]
    if big:
        return WITHOUT["size"]
    return WITHOUT["quick"] if quick else None


def study(score, cal, new, quick):
    "Times of all that know the score: seven runs of ours, five of the peers"
    big = cal[0].shape[1] > 4096
    no_mapie = why_no_mapie(score, big, quick)
    runs = {
        name: functools.partial(run, score, lambda: cal, lambda: new)
        for name, run in PEERS.items()
        if name != "mapie" or not no_mapie
    }
    runs["ours"]()  # compiles, or reads from disk
    found = race(
        {name: run if name == "ours" else (run, 5) for name, run in runs.items()},
        repeats=7,
        warm=0 if big else 1,
    )
    own = found["ours"]["median"]
    ratio = {name: found[name]["median"] / own for name in found if name != "ours"}
    return {**found, "ratio": ratio, **({"mapie": no_mapie} if no_mapie else {})}


def cases_of_size(size, n, K, quick, gb_s):
    "name -> times, coverage, size and roofline of each score"
    from fine_tune_llm.stats.quantiles import coverage, set_size

    cal, new = half(n, K, 1), half(n, K, 2)
    cases = {}
    for score in SCORES:
        found = study(score, cal, new, quick)
        sets = ours(score, lambda: cal, lambda: new)
        found["coverage"], found["size"] = coverage(sets, new[1]), set_size(sets)
        written = n * K if K <= 4096 else 4 * found["size"] * n
        found["roofline_s"] = (2 * cal[0].nbytes + written) / gb_s / 1e9
        cases[f"{size}/{score}"] = found
        times = {k: round(found[k]["median"], 4) for k in ("ours", "torchcp")}
        print(size, score, times, found["ratio"], file=sys.stderr)
    return cases


def memory_of_size(size, n, K, quick):
    "Peak memory of each contestant in a process of its own, in MB"
    inputs = peak_mb(__file__, f"{size}/inputs only", "ours", quick)
    memory = {
        "inputs_of_one_half_mb": n * K * 4 / 2**20,
        "process_with_one_half": inputs,
    }
    for score in ("lac", "aps", "raps"):
        both = score != "raps" or size == "K=50,000"
        names = ("ours", "torchcp") if both else ("ours",)
        memory[score] = {
            name: peak_mb(__file__, f"{size}/{score}", name, quick) for name in names
        }
    return memory


def one_contestant(cases, case, name):
    "For `peak_mb`: run one contestant, or make its inputs only, and print the peak"
    size, score = case.split("/")
    n, K = cases[size]
    if score == "inputs only":
        half(n, K, 1)
    else:
        PEERS[name](score, lambda: half(n, K, 1), lambda: half(n, K, 2))
    print(peak())


def goals(cases, memory):
    "What the design asks for, and whether it is reached"
    asked = [("APS", "K=1,000", 25), ("LAC", "K=1,000", 5)]
    asked += [("APS", "K=50,000", 50), ("RAPS", "K=50,000", 50)]
    found = {}
    for score, size, factor in asked:
        ratio = cases[f"{size}/{score.lower()}"]["ratio"]["torchcp"]
        found[f"{score} {size} >= {factor}x torchcp"] = [ratio, ratio >= factor]
    largest = max(memory["K=50,000"][score]["ours"] for score in ("aps", "raps"))
    found["APS and RAPS K=50,000 <= 0.7 GB"] = [largest, largest <= 700]
    return found


def main():
    asked = arguments()
    sizes = QUICK if asked.quick else CASES
    if asked.memory:
        return one_contestant(sizes, *asked.memory)
    from fine_tune_llm.stats.kernels import compile_times

    gb_s = bandwidth()
    cases, memory = {}, {}
    for size, (n, K) in sizes.items():
        cases |= cases_of_size(size, n, K, asked.quick, gb_s)
    compiled = compile_times()
    for size, (n, K) in sizes.items():
        memory[size] = memory_of_size(size, n, K, asked.quick)
    result = {
        "bandwidth_gb_s": gb_s,
        "what": "calibrate on n rows and predict n others, float32; roofline: both "
        "matrices read once and the sets written once",
        "cases": cases,
        "compile": compiled,
        "peak_mb": memory,
        "goals": None if asked.quick else goals(cases, memory),
    }
    save("conformal", result)


if __name__ == "__main__":
    main()
