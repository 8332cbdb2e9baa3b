"""Calibrators beside their peers

Temperature at K=1,000, then vector, Dirichlet, isotonic and Venn-Abers; what each
found, and the roofline of the temperature's pass.
"""

import time
import warnings

import numpy as np
from common import arguments, bandwidth, import_torchcp, peak, peak_mb, race, save

import fine_tune_llm.stats.temperature as temperature_module
from fine_tune_llm.stats.binary_calibration import IsotonicCalibration
from fine_tune_llm.stats.calibration import CALIBRATORS
from fine_tune_llm.stats.calibrators import Rows
from fine_tune_llm.stats.kernels import by_rows, threads
from fine_tune_llm.stats.matrix_scaling import VectorScaling
from fine_tune_llm.stats.temperature import (
    TemperatureScaling,
    _loss_moments,
    best_temperature,
    slopes_of,
    temperature_of,
)
from fine_tune_llm.stats.venn_abers import VennAbers

T = 1.5  # the models below are over-confident by this


def problem(n, K, seed=0, spread=2.0):
    """float32 logits of a model that is right once divided by T, and their labels

    Drawn in blocks, so that nothing large is left behind.
    """
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((n, K), dtype=np.float32)
    labels = np.empty(n, np.int64)
    logits *= np.float32(spread)
    for i in range(0, n, 4096):
        total = np.exp(logits[i : i + 4096].astype(np.float64)).cumsum(1)
        drawn = rng.uniform(size=(len(total), 1)) * total[:, -1:]
        labels[i : i + 4096] = (total < drawn).sum(1)
    logits *= np.float32(T)
    return logits, labels


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


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


def slope_at(logits, labels, t):
    "Derivative of the mean loss in log T: zero at the optimum"
    return float(slopes_of(Rows(logits), labels, 1)(1 / t)[0])


def outcome(function):
    "What a contestant answers, or why it does not"
    try:
        return function()
    except Exception as e:
        return f"{type(e).__name__}: {str(e)[:200]}"


def once(function):
    "Seconds of one run, and its answer"
    start = time.perf_counter()
    answer = outcome(function)
    return dict(median=time.perf_counter() - start, runs=1), answer


def netcal_of_logits(logits, labels):
    return netcal_temperature(softmax(logits), labels)


def netcal_of_float64(logits, labels):
    return netcal_temperature(softmax(logits.astype(np.float64)), labels)


CASES = {
    "ours": best_temperature,
    "scikit-learn": sklearn_temperature,
    "probmetrics": probmetrics_temperature,
    "netcal": netcal_of_logits,
    "netcal, float64": netcal_of_float64,
    "torchcp": torchcp_temperature,
}


def size(quick):
    "Rows and classes of the large problem"
    return (20_000, 200) if quick else (100_000, 1000)


def race_temperatures(logits, labels):
    "Seconds and answers of everyone"
    found, seconds = {}, {}

    def run(name):
        found[name] = outcome(lambda: CASES[name](logits, labels))

    def fit_and_predict():
        TemperatureScaling().fit(logits, labels).predict_proba(logits)

    ours = {"ours": lambda: run("ours"), "ours, fit and predict": fit_and_predict}
    seconds.update(race(ours, 7))
    slow = {
        "scikit-learn": (lambda: run("scikit-learn"), 5),
        "probmetrics": (lambda: run("probmetrics"), 3),
    }
    seconds.update(race(slow, warm=0))
    for name in ("netcal", "torchcp"):
        seconds[name], found[name] = once(lambda name=name: CASES[name](logits, labels))
    return seconds, found


def temperature(quick):
    "Everyone's seconds and temperature, and the slope of the loss there"
    n, K = size(quick)
    logits, labels = problem(n, K)
    seconds, found = race_temperatures(logits, labels)
    numbers = {name: t for name, t in found.items() if not isinstance(t, str)}
    ours = seconds["ours"]["median"]
    peers = ("scikit-learn", "probmetrics", "netcal", "torchcp")
    return dict(
        n=n,
        K=K,
        seconds=seconds,
        temperature=found,
        slope={name: slope_at(logits, labels, t) for name, t in numbers.items()},
        float64=best_temperature(logits.astype(np.float64), labels),
        ratio={name: seconds[name]["median"] / ours for name in peers},
    )


def roofline(quick):
    """One pass beside what the machine can do

    Exponentials a second, beside the same pass over a matrix that fits the cache, and
    bytes a second beside what memory gives.
    """
    n, K = size(quick)
    logits, labels = problem(n, K)
    rows = Rows(logits)
    slopes = slopes_of(rows, labels, 1)
    m = max(1, (1 << 16) // K)
    few = logits[:m], rows.top[:m], labels[:m]

    def exponentials(start, stop):
        return np.exp(logits[start:stop].astype(np.float64))

    contest = {
        "pass": lambda: slopes(1 / T),
        "in cache, one thread": lambda: _loss_moments(*few, 1 / T, 1, 0, m),
        "door": lambda: Rows(logits),
        "numpy exp": lambda: by_rows(exponentials, n, K),
    }
    taken = race(contest, 7)
    one_pass = taken["pass"]["median"]
    in_cache = few[0].size / taken["in cache, one thread"]["best"]
    return dict(
        seconds={name: times["median"] for name, times in taken.items()},
        threads=threads(),
        exp_per_second=logits.size / one_pass,
        exp_per_second_in_cache_one_thread=in_cache,
        gb_per_second=logits.nbytes / one_pass / 1e9,
        bandwidth_gb_per_second=bandwidth(),
        passes_over_everything=full_passes(rows, labels),
    )


def full_passes(rows, labels):
    "How often every row, every 8th and every 64th is passed"
    count, plain = [], temperature_module.slopes_of

    def counted(rows, labels, step):
        slopes = plain(rows, labels, step)

        def counting(beta):
            count.append(step)
            return slopes(beta)

        return counting

    temperature_module.slopes_of = counted
    try:
        temperature_of(rows, labels)
    finally:
        temperature_module.slopes_of = plain
    return {f"every {step}": count.count(step) for step in sorted(set(count))}


def precision():
    "float32 and float64 of the same 20,000 x 10 logits: where each ends, and the slope"
    logits, labels = problem(20_000, 10, seed=1)
    wide = logits.astype(np.float64)
    out = {}
    for name, find in CASES.items():
        if "," in name:
            continue
        row = {}
        for dtype, x in (("float32", logits), ("float64", wide)):
            row[dtype] = outcome(lambda find=find, x=x: find(x, labels))
        for dtype, t in list(row.items()):
            if not isinstance(t, str):
                row[f"slope at {dtype}"] = slope_at(wide, labels, t)
        out[name] = row
    return out


def linear(n, K):
    "A model that also over-rates class 0: seconds, and the loss of rows not fitted on"
    from probmetrics.calibrators import SMSCalibrator, VectorScalingCalibrator

    logits, labels = problem(n, K, seed=2)
    held, held_labels = problem(n, K, seed=3)
    logits[:, 0] += 2
    held[:, 0] += 2
    probs, held_probs = softmax(logits.astype(float)), softmax(held.astype(float))
    found = {}

    def loss(after):
        right = after[np.arange(n), held_labels]
        return float(-np.log(np.maximum(right, 1e-38)).mean())

    def ours(kind):
        calibrator = CALIBRATORS.create(kind).fit(logits, labels)
        found[kind] = loss(calibrator.predict_proba(held))

    def theirs(name, calibrator):
        def run():
            fitted = calibrator().fit(probs, labels)
            return loss(fitted.predict_proba(held_probs))

        found[name] = outcome(run)

    vector, matrix = "vector, probmetrics", "matrix, probmetrics"
    case = {
        "vector": lambda: ours("vector"),
        vector: lambda: theirs(vector, VectorScalingCalibrator),
        "dirichlet": lambda: ours("dirichlet"),
    }
    if K <= 20:
        case[matrix] = lambda: theirs(matrix, SMSCalibrator)
    return dict(seconds=race(case, 3), held_out_nll=dict(found, raw=loss(held_probs)))


def vector_and_dirichlet(quick):
    sizes = ((2000, 20),) if quick else ((20_000, 100), (5000, 20))
    out = {f"n={n}, K={K}": linear(n, K) for n, K in sizes}
    if not quick:
        logits, labels = problem(100_000, 1000)
        seconds, _ = once(lambda: len(VectorScaling().fit(logits, labels).offsets_))
        out["vector, n=100000, K=1000"] = seconds
    return out


def isotonic(quick):
    "All classes of a problem, ours and scikit-learn's class by class"
    from sklearn.isotonic import IsotonicRegression

    n, K = (20_000, 10) if quick else (100_000, 20)
    logits, labels = problem(n, K, seed=4)
    probs = softmax(logits.astype(np.float64))

    def one_class(k):
        regression = IsotonicRegression(out_of_bounds="clip")
        return regression.fit(probs[:, k], labels == k).predict(probs[:, k])

    def theirs():
        return np.stack([one_class(k) for k in range(K)], 1)

    def ours():
        fitted = IsotonicCalibration().fit(probs=probs, labels=labels)
        return fitted, fitted.predict_proba(probs=probs)

    fitted, _ = ours()
    columns = enumerate(fitted.maps_)
    raw = [fitted._apply_map(numbers, probs[:, k], None) for k, numbers in columns]
    clipped = np.clip(theirs(), 1 / (n + 2), 1 - 1 / (n + 2))
    return dict(
        n=n,
        K=K,
        seconds=race({"ours": ours, "scikit-learn, class by class": theirs}, 3),
        largest_difference=float(np.abs(np.stack(raw, 1) - clipped).max()),
    )


def venn_abers(quick):
    "The interval of two classes, ours and the reference's"
    from venn_abers import VennAbers as Theirs

    n = 2000 if quick else 20_000
    logits, labels = problem(2 * n, 2, seed=5)
    probs = softmax(logits.astype(np.float64))
    fit, new = slice(0, n), slice(n, None)

    def ours():
        fitted = VennAbers().fit(probs=probs[fit], labels=labels[fit])
        return fitted.interval(probs=probs[new])

    def theirs():
        fitted = Theirs()
        fitted.fit(probs[fit], labels[fit])
        return fitted.predict_proba(probs[new])[1]

    low, high = ours()
    off = np.abs(np.c_[low[:, 1], high[:, 1]] - theirs())
    return dict(
        n=n,
        seconds=race({"ours": ours, "venn-abers": theirs}, 5),
        largest_difference=float(off.max()),
    )


def prefitted(logits, labels):
    "The logits themselves as a fitted scikit-learn classifier"
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.frozen import FrozenEstimator

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

    return FrozenEstimator(Model().fit(logits, labels))


def absent(quick):
    "A class without rows: scikit-learn's calibrators of a prefitted model, and ours"
    from sklearn.calibration import CalibratedClassifierCV

    logits, labels = problem(500, 4, seed=6)
    keep = labels < 3
    model = prefitted(logits, labels)

    def shape(calibrator):
        return str(
            calibrator.fit(logits[keep], labels[keep]).predict_proba(logits).shape
        )

    def theirs(method):
        return outcome(lambda: shape(CalibratedClassifierCV(model, method=method)))

    def ours(kind):
        return outcome(lambda: shape(CALIBRATORS.create(kind)))

    methods = ("sigmoid", "isotonic", "temperature")
    return {
        "scikit-learn": {method: theirs(method) for method in methods},
        "ours": {kind: ours(kind) for kind in CALIBRATORS},
    }


def one_peak(name, quick):
    "Print this process's peak memory before and after one contestant"
    logits, labels = problem(*size(quick))
    before = peak()
    if name != "data":
        CASES[name](logits, labels)
    print(before, peak())


PARTS = dict(
    temperature=temperature,
    roofline=roofline,
    vector_and_dirichlet=vector_and_dirichlet,
    isotonic=isotonic,
    venn_abers=venn_abers,
    absent_class=absent,
)


def main():
    options = arguments()
    warnings.simplefilter("ignore")
    if options.memory:
        one_peak(options.memory[1], options.quick)
        return
    memory = {}
    for name in ("data", "ours", "scikit-learn"):
        memory[name] = peak_mb(__file__, "temperature", name, options.quick)
    parts = {name: part(options.quick) for name, part in PARTS.items()}
    save("calibration", dict(parts, precision=precision(), peak_mb=memory))


if __name__ == "__main__":
    main()
