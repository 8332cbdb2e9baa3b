"""Group metrics beside fairlearn

The same values, the time of 200 bootstraps, and how often an interval of the largest
gap holds the truth.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import ROOT, arguments, peak, peak_mb, race, save

from fine_tune_llm.stats.fairness import group_report
from fine_tune_llm.stats.groups import GroupCounts

METRICS = "selection_rate", "tpr", "fpr", "fnr", "ppv", "accuracy"
QUANTILES = [0.025, 0.975]
# our metric, and fairlearn's functions with _difference and _ratio after their name
GAPS = {
    "selection_rate": "demographic_parity",
    "equalised_odds": "equalized_odds",
    "tpr": "equal_opportunity",
}


@dataclass(frozen=True)
class Decisions:
    "Rows whose groups are compared"

    labels: np.ndarray  # Shape (n,), 0 or 1
    decided: np.ndarray  # Shape (n,), 0 or 1
    groups: dict  # Attribute -> value of each row

    @property
    def view(self):
        return " x ".join(self.groups)

    @property
    def crossed(self):
        "One name a row for all attributes together"
        if len(self.groups) == 1:
            return self.groups[self.view]
        return np.array([" & ".join(values) for values in zip(*self.groups.values())])

    def counts(self, **asked):
        return GroupCounts.from_arrays(
            self.labels, self.decided, groups=self.groups, **asked
        )

    def report(self, *, seed=0, **asked):
        return group_report(self.counts(), seed=seed, **asked)


def simulated(n, n_groups, seed=0):
    "Decisions whose error rates differ a little between groups"
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n)
    labels = (rng.random(n) < 0.3) * 1
    wrong = rng.random(n) < 0.1 + 0.005 * group
    names = np.array([f"group {i:02}" for i in range(n_groups)], object)
    return Decisions(labels, np.where(wrong, 1 - labels, labels), {"g": names[group]})


# ---- fairlearn


def fairlearn_metrics():
    import fairlearn.metrics as theirs
    from sklearn.metrics import accuracy_score, precision_score

    return {
        "selection_rate": theirs.selection_rate,
        "tpr": theirs.true_positive_rate,
        "fpr": theirs.false_positive_rate,
        "fnr": theirs.false_negative_rate,
        "ppv": precision_score,
        "accuracy": accuracy_score,
    }


def frame(rows, metrics=None, **bootstrap):
    import pandas as pd
    from fairlearn.metrics import MetricFrame

    return MetricFrame(
        metrics=metrics or fairlearn_metrics(),
        y_true=rows.labels,
        y_pred=rows.decided,
        sensitive_features=pd.DataFrame(rows.groups),
        **bootstrap,
    )


# ---- values


def rate_differences(rows, report):
    "Absolute differences to fairlearn of every rate"
    by_group = frame(rows).by_group
    for rate in report.rates:
        if rate.view == rows.view and rate.value is not None:
            cell = rate.cell if len(rate.cell) > 1 else rate.cell[0]
            yield abs(by_group[rate.metric][cell] - rate.value)


def gap_differences(rows, report):
    "Absolute differences to fairlearn of every gap and ratio"
    import fairlearn.metrics as theirs

    for metric, name in GAPS.items():
        gap = report.gap(metric, rows.view)
        if gap.n_skipped:
            continue
        about = {"sensitive_features": rows.crossed}
        for kind, value in (("difference", gap.difference), ("ratio", gap.ratio)):
            measure = getattr(theirs, f"{name}_{kind}")
            yield abs(measure(rows.labels, rows.decided, **about) - value)


def same_values(rows):
    "Largest absolute difference to fairlearn over rates, differences and ratios"
    report = rows.report(min_rows=1, n_resamples=19, metrics=METRICS)
    off = [*rate_differences(rows, report), *gap_differences(rows, report)]
    return {
        "rows": len(rows.labels),
        "groups": len({*zip(*rows.groups.values())}),
        "compared": len(off),
        "largest_difference": float(max(off)),
    }


def adult_decisions():
    "Published decisions of a random forest on UCI Adult, or nothing where they are not"
    import pandas as pd

    data = Path(os.environ.get("FTLLM_DATA", ROOT.parent / "shared" / "data"))
    path = data / "adult_rf" / "adult_rf_binary.csv"
    if not path.exists():
        return None
    table = pd.read_csv(path)
    attributes = "gender", "race", "education"
    return Decisions(
        table.label_value.to_numpy(),
        table.score.astype(int).to_numpy(),
        {name: table[name].to_numpy(object) for name in attributes},
    )


def only(rows, *names):
    "The same decisions with some of the attributes"
    groups = {name: rows.groups[name] for name in names}
    return Decisions(rows.labels, rows.decided, groups)


def values():
    rows = simulated(5000, 6)
    other = np.random.default_rng(1).choice(["x", "y"], 5000)
    crossed = Decisions(rows.labels, rows.decided, {**rows.groups, "h": other})
    found = {"random": same_values(rows), "random, crossed": same_values(crossed)}
    adult = adult_decisions()
    if adult is None:
        return found
    for names in (["gender"], ["race"], ["gender", "race"], ["education"]):
        found["adult_rf " + " x ".join(names)] = same_values(only(adult, *names))
    report = only(adult, "gender").report()
    found["adult_rf signs"] = {
        metric: {rate.cell[0]: round(rate.value, 4) for rate in report.by_group(metric)}
        for metric in ("tpr", "fpr")
    }
    return found


# ---- time

NOTE = (
    "fairlearn was run five times with few bootstraps; its time for 200 is "
    "extrapolated linearly from the better runs, by the lower of slope and mean per "
    "bootstrap"
)


def ours(rows, n_resamples=200):
    return rows.report(n_resamples=n_resamples, metrics=METRICS, order=1)


def seconds_of_fairlearn(rows, n_resamples):
    start = time.perf_counter()
    frame(rows, n_boot=n_resamples, ci_quantiles=QUANTILES, random_state=0)
    return time.perf_counter() - start


def speed(n, few=(3, 6)):
    "Ours with 200 and 2,000 bootstraps; fairlearn with few, extrapolated to 200"
    rows = simulated(n, 20)
    contestants = {
        "ours_200": lambda: ours(rows),
        "ours_2000": lambda: ours(rows, 2000),
        "count_only": rows.counts,
    }
    measured = race(contestants, repeats=9)
    seconds_of_fairlearn(rows, 1)  # once to warm up
    runs = [{k: seconds_of_fairlearn(rows, k) for k in few} for _ in range(5)]
    best = {k: min(run[k] for run in runs) for k in few}
    fewer, more = few
    slope = (best[more] - best[fewer]) / (more - fewer)
    each = min(slope, best[more] / more)
    whole = best[more] + (200 - more) * each
    return {
        "n": n,
        "groups": 20,
        "metrics": METRICS,
        "ours": measured,
        "fairlearn": {f"{k} bootstraps": round(v, 3) for k, v in best.items()},
        "fairlearn_times": {
            f"{k} bootstraps": [round(run[k], 3) for run in runs] for k in few
        },
        "fairlearn_seconds_per_bootstrap": each,
        "fairlearn_200_extrapolated": whole,
        "ratio_200": whole / measured["ours_200"]["median"],
        "note": NOTE,
    }


# ---- coverage


def truths(n_groups, gap):
    "True rates of the groups, evenly spread over a gap around 0.3"
    if not gap:
        return np.full(n_groups, 0.3)
    return np.linspace(0.3 - gap / 2, 0.3 + gap / 2, n_groups)


def draw(rng, n, rates):
    "n rows in each group (or one number each), all positive, found at the group's rate"
    sizes = np.broadcast_to(n, len(rates))
    group = np.repeat(np.arange(len(rates)), sizes)
    found = (rng.random(len(group)) < np.asarray(rates)[group]) * 1
    return Decisions(np.ones(len(group), int), found, {"g": group})


def percentile_interval(rng, rows, n, n_resamples):
    "The percentile bootstrap of max - min, fairlearn's way, from the table of counts"
    n = np.array(n)
    found = np.bincount(rows.groups["g"], rows.decided)
    again = rng.binomial(n, found / n, size=(n_resamples, len(found))) / n
    return np.quantile(again.max(1) - again.min(1), QUANTILES)


def coverage(n, rates, n_sets, n_resamples=499):
    "Share of data sets whose interval of the largest gap holds it"
    rng = np.random.default_rng(0)
    gap, ratio = max(rates) - min(rates), min(rates) / max(rates)
    hits, width = np.zeros(3), 0.0
    for seed in range(n_sets):
        rows = draw(rng, n, rates)
        report = rows.report(seed=seed, metrics="accuracy", n_resamples=n_resamples)
        found = report.gap("accuracy")
        low, high = percentile_interval(rng, rows, n, n_resamples)
        hits += (
            found.low <= gap <= found.high,
            found.ratio is None
            or found.ratio_low - 1e-12 <= ratio <= found.ratio_high + 1e-12,
            low <= gap <= high,
        )
        width += found.high - found.low
    return {
        "n_per_group": n,
        "groups": len(rates),
        "true_gap": round(float(gap), 4),
        "lowest_rate": round(float(min(rates)), 4),
        "ours": hits[0] / n_sets,
        "ours_ratio": hits[1] / n_sets,
        "percentile_bootstrap": hits[2] / n_sets,
        "mean_width": width / n_sets,
    }


def beside_fairlearn(n_sets, n=200, n_groups=5, n_resamples=50):
    "The same data sets through fairlearn itself: equal groups"
    from fairlearn.metrics import true_positive_rate

    rng, hits = np.random.default_rng(0), np.zeros(2)
    for seed in range(n_sets):
        rows = draw(rng, n, truths(n_groups, 0))
        counts = rows.counts(classes=["no", "yes"])
        found = group_report(counts, seed=seed, metrics="tpr", n_resamples=499)
        theirs = frame(
            rows,
            true_positive_rate,
            n_boot=n_resamples,
            ci_quantiles=QUANTILES,
            random_state=seed,
        )
        low, high = theirs.difference_ci()
        gap = found.gap("tpr")
        hits += (gap.low <= 0 <= gap.high, low <= 0 <= high)
    return {
        "data_sets": n_sets,
        "n_per_group": n,
        "groups": n_groups,
        "true_gap": 0.0,
        "fairlearn_bootstraps": n_resamples,
        "ours": hits[0] / n_sets,
        "fairlearn": hits[1] / n_sets,
    }


CALIBRATION = ["calibration_error", "overconfidence"]
OFF = np.array([0, 0, 0.1, 0.1])  # how over-confident each of four groups is


def calibration_hits(rng, n, **asked):
    "Two groups are 10 points over-confident: is that held by each interval?"
    group = np.repeat(np.arange(4), n)
    conf = rng.choice([0.6, 0.7, 0.8, 0.9], 4 * n)
    right = (rng.random(4 * n) < conf - OFF[group]) * 1
    counts = GroupCounts.from_arrays(
        right,
        np.ones(4 * n, int),
        groups={"g": group},
        probs=np.c_[1 - conf, conf],
        n_bins=10,
    )
    report = group_report(counts, metrics=CALIBRATION, **asked)
    held = [report.gap(m).low <= 0.1 <= report.gap(m).high for m in CALIBRATION]
    worst = report.multicalibration
    return {
        **dict(zip(CALIBRATION, held)),
        "both_together": all(held),
        "multicalibration": worst.low <= 0.1 <= worst.high,
    }


def cost_hit(rng, n, **asked):
    "A rare high cost, the same in four groups: is a gap of 0 held?"
    u = rng.random(4 * n)
    labels = (u < 0.01) * 1
    decided = ((u >= 0.01) & (u < 0.2)) * 1
    rows = Decisions(labels, decided, {"g": np.repeat(np.arange(4), n)})
    report = rows.report(metrics="expected_cost", cost=[[0, 1], [20, 0]], **asked)
    gap = report.gap("expected_cost")
    return {"expected_cost": gap.low <= 0 <= gap.high}


def other_metrics(n, n_sets, n_resamples=299):
    "Shares held for calibration and for cost"
    rng, hits = np.random.default_rng(0), {}
    for seed in range(n_sets):
        asked = {"seed": seed, "n_resamples": n_resamples}
        held = {**calibration_hits(rng, n, **asked), **cost_hit(rng, n, **asked)}
        hits = {name: hits.get(name, 0) + hit for name, hit in held.items()}
    return {"n_per_group": n, **{name: hit / n_sets for name, hit in hits.items()}}


def smallest_holm(report):
    "The smallest p-value by Holm over all pairs of all views"
    return min(
        pair.p_holm
        for tested in report.tests
        if tested.estimates.largest is not None and not tested.is_all_rows
        for pair in report.pairs(tested.name, tested.view.name)
    )


def familywise(n, n_sets, n_resamples=499):
    "Equal groups: how often is any of all gaps called different from 0?"
    rng, wrong = np.random.default_rng(0), np.zeros(2)
    for seed in range(n_sets):
        labels = (rng.random(n) < 0.4) * 1
        decided = np.where(rng.random(n) < 0.2, 1 - labels, labels)
        groups = {"a": rng.integers(0, 4, n), "b": rng.integers(0, 3, n)}
        rows = Decisions(labels, decided, groups)
        report = rows.report(seed=seed, n_resamples=n_resamples, metrics=METRICS)
        called = any(gap.low and gap.low > 0 for gap in report.gaps)
        wrong += (called, smallest_holm(report) <= 0.05)
    return {
        "n": n,
        "data_sets": n_sets,
        "any_gap_by_max_t": wrong[0] / n_sets,
        "any_pair_by_holm": wrong[1] / n_sets,
        "allowed": 0.05,
    }


# Groups of unequal size: rows of each, and true rates of each
UNEQUAL = [
    ((30, 10_000), [0.01, 0.01]),
    ((30, 10_000), [0.005, 0.05]),
    ((30, 10_000), [0.01, 0.05]),
    ((30, 10_000), [0.1, 0.1]),
    ((50, 5000), [0.01, 0.01]),
    ((50, 5000), [0.02, 0.05]),
    ((50, 5000), [0.2, 0.2]),
    ((100, 5000), [0.01, 0.01]),
    ((200, 10_000), [0.005, 0.005]),
    ((200, 20_000), [0.01, 0.02]),
    ((30, 30, 5000), [0.02, 0.02, 0.3]),
    ((31, 400), [0.5, 0.98]),
]


def all_coverage(n_sets):
    "Every case, and whether the lowest share is what it may be by chance"
    sizes = 30, 100, 1000
    equal = [
        (n, truths(n_groups, gap))
        for n in sizes
        for n_groups in (2, 5, 20)
        for gap in (0, 0.1)
    ]
    rare = [(n, np.full(n_groups, 0.02)) for n in sizes for n_groups in (5, 20)]
    cases = [coverage(n, rates, n_sets) for n, rates in [*equal, *rare, *UNEQUAL]]
    lowest = min(min(case["ours"], case["ours_ratio"]) for case in cases)
    least = 0.95 - 4 * (0.95 * 0.05 / n_sets) ** 0.5
    kept = {"lowest": lowest, "allowed": least, "holds": bool(lowest >= least)}
    return {"data_sets": n_sets, "level": 0.95, "kept": kept, "cases": cases}


def run_once(name, n):
    "One contestant alone, for its memory"
    rows = simulated(n, 20)
    if name == "ours":
        ours(rows)
    else:
        frame(rows, n_boot=2, ci_quantiles=[0.5], random_state=0)
    print(peak())


def main():
    given = arguments()
    n = 20_000 if given.quick else 100_000
    n_sets = 40 if given.quick else 200
    if given.memory:
        run_once(given.memory[1], n)
        return
    # first of all: a child's peak starts at its parent's
    memory = {
        name: peak_mb(__file__, "report", name, given.quick)
        for name in ("ours", "fairlearn")
    }
    result = {
        "values": values(),
        "speed": speed(n),
        "memory_mb": memory,
        "coverage": all_coverage(n_sets),
        "beside_fairlearn": beside_fairlearn(10 if given.quick else 40),
        "other_metrics": [other_metrics(k, n_sets // 2) for k in (100, 1000)],
        "familywise": [familywise(k, n_sets // 2) for k in (1500, 10_000)],
    }
    save("fairness", result)


if __name__ == "__main__":
    main()
