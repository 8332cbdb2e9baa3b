"""Groups at a million rows, and whether what is said of them holds

    python benchmarks/group_audit/run.py --part speed
    python benchmarks/group_audit/run.py --part areas
    python benchmarks/group_audit/run.py --part coverage
    python benchmarks/group_audit/run.py --part flags

`--quick` is smaller, to see that it runs; it writes nothing.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.special import expit, logit, ndtr

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import about  # noqa: E402

from fine_tune_llm.stats.comparisons import family_of  # noqa: E402
from fine_tune_llm.stats.fairness import group_report  # noqa: E402
from fine_tune_llm.stats.gaps import (  # noqa: E402
    resampled_counts,
    simultaneous_differences,
)
from fine_tune_llm.stats.group_metrics import measures_of  # noqa: E402
from fine_tune_llm.stats.groups import (  # noqa: E402
    GroupCounts,
    group_views,
    sums_by_cell,
)
from fine_tune_llm.stats.metric_intervals import Asked, newcombe_range  # noqa: E402
from fine_tune_llm.stats.subgroup_areas import Placement, subgroup_auc  # noqa: E402

SHARED = "selection_rate", "tpr", "fpr", "fnr", "ppv", "accuracy"
STUDIED = "selection_rate", "tpr", "fpr", "ppv", "npv", "accuracy"
PERCENTILES = [0.025, 0.975]
NOTE = (
    "CPU seconds of one thread, for the machine was shared; fairlearn's bootstrap was "
    "timed at the small n, and what 1,000 bootstraps of all rows take is extrapolated "
    "from its point values of all rows, for a bootstrap computes these again each time"
)


def seconds_of(function):
    "CPU seconds of a call, and what it returned"
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


def peak_mb():
    "Peak resident memory of this process"
    with open("/proc/self/status") as file:
        lines = [line for line in file if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024


# ---- speed


@dataclass(frozen=True)
class Rows:
    "Rows with all that an audit of groups can have"

    labels: np.ndarray
    decided: np.ndarray
    probs: np.ndarray
    sets: np.ndarray
    groups: dict

    @classmethod
    def simulated(cls, n, *, abstains, seed=0):
        rng = np.random.default_rng(seed)
        first = np.array([f"group {i:02}" for i in range(20)], object)
        second = np.array(["north", "east", "south", "west"], object)
        groups = {
            "first": first[rng.integers(0, 20, n)],
            "second": second[rng.integers(0, 4, n)],
        }
        prob = rng.beta(2, 2, n)
        labels = (rng.random(n) < prob) * 1
        decided = (prob > 0.5) * 1
        if abstains:
            decided[np.abs(prob - 0.5) < 0.05] = -1
        probs = np.c_[1 - prob, prob]
        return cls(labels, decided, probs, probs > 0.2, groups)

    def counts(self):
        return GroupCounts.from_arrays(
            self.labels,
            self.decided,
            groups=self.groups,
            probs=self.probs,
            sets=self.sets,
        )


def everything(rows, n_resamples=1000):
    "All metrics, both attributes and their crossing, with intervals and tests"
    return group_report(
        rows.counts(),
        seed=0,
        n_resamples=n_resamples,
        cost=[[0, 1], [5, 0]],
        abstain_cost=0.3,
    )


def fairlearn_frame(rows, **bootstrap):
    "The metrics that both have, by both attributes crossed"
    import fairlearn.metrics as theirs
    import pandas as pd
    from sklearn.metrics import accuracy_score, precision_score

    metrics = {
        "selection_rate": theirs.selection_rate,
        "tpr": theirs.true_positive_rate,
        "fpr": theirs.false_positive_rate,
        "fnr": theirs.false_negative_rate,
        "ppv": precision_score,
        "accuracy": accuracy_score,
    }
    return theirs.MetricFrame(
        metrics=metrics,
        y_true=rows.labels,
        y_pred=rows.decided,
        sensitive_features=pd.DataFrame(rows.groups),
        **bootstrap,
    )


def beside_fairlearn(n, small_n, few):
    "Point values at n, a bootstrap at a small n, and the largest difference of values"
    rows = Rows.simulated(n, abstains=False)
    ours = [
        seconds_of(
            lambda: group_report(
                rows.counts(), seed=0, metrics=SHARED, n_resamples=1000, min_rows=1
            )
        )
        for _ in range(3)
    ]
    theirs = [seconds_of(lambda: fairlearn_frame(rows)) for _ in range(3)]
    by_group = theirs[0][1].by_group
    off = [
        abs(by_group[rate.metric][rate.cell] - rate.value)
        for rate in ours[0][1].rates
        if rate.view == "first x second"
    ]
    small = Rows.simulated(small_n, abstains=False)
    boot = seconds_of(
        lambda: fairlearn_frame(
            small, n_boot=few, ci_quantiles=PERCENTILES, random_state=0
        )
    )[0]
    ours_small = min(
        seconds_of(
            lambda: group_report(
                small.counts(), seed=0, metrics=SHARED, n_resamples=1000, min_rows=1
            )
        )[0]
        for _ in range(3)
    )
    points = min(seconds for seconds, _ in theirs)
    return {
        "n": n,
        "values_compared": len(off),
        "largest_difference": float(max(off)),
        "ours_1000_resamples_s": [round(s, 3) for s, _ in ours],
        "fairlearn_point_values_s": [round(s, 3) for s, _ in theirs],
        "small_n": small_n,
        "fairlearn_bootstraps": few,
        "fairlearn_bootstrap_s": round(boot, 2),
        "ours_small_1000_resamples_s": round(ours_small, 3),
        "fairlearn_1000_bootstraps_extrapolated_s": round(1000 * points),
        "note": NOTE,
    }


def areas(n):
    "Twenty overlapping groups"
    rng = np.random.default_rng(0)
    labels = rng.random(n) < 0.3
    scores = rng.normal(0.8 * labels, 1)
    groups = {f"group {i:02}": rng.random(n) < 0.1 for i in range(20)}
    return seconds_of(lambda: subgroup_auc(scores, labels, groups=groups))[0]


def alone(what, n):
    "One run in a process of its own: its seconds and its peak memory"
    words = [sys.executable, __file__, "--alone", what, "--rows", str(n)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def run_alone(what, n):
    rows = Rows.simulated(n, abstains=what == "everything")
    before = peak_mb()
    runs = {
        "everything": lambda: everything(rows),
        "fairlearn": lambda: fairlearn_frame(rows),
    }
    start = time.perf_counter()
    seconds, found = seconds_of(runs[what])
    wall = time.perf_counter() - start
    said = {"first_call_s": round(seconds, 2), "first_call_wall_s": round(wall, 2)}
    if what == "everything":
        said["again_s"] = [round(seconds_of(runs[what])[0], 2) for _ in range(3)]
        said["metrics"] = len({rate.metric for rate in found.rates})
        said["groups"] = len({(rate.view, rate.cell) for rate in found.rates})
        said["distinct_rows"] = len(rows.counts())
    said |= {"peak_mb": round(peak_mb()), "rows_themselves_mb": round(before)}
    print(json.dumps(said))


def speed(quick):
    n = 50_000 if quick else 1_000_000
    return {
        "n": n,
        "everything": alone("everything", n),
        "fairlearn_memory": alone("fairlearn", n),
        "beside_fairlearn": beside_fairlearn(
            n, 5000 if quick else 10_000, 2 if quick else 10
        ),
        "subgroup_auc_20_groups_s": round(areas(n), 2),
    }


# ---- intervals of an area under the curve


def normal(mean, sd=1):
    return lambda rng, n: rng.normal(mean, sd, n)


def one_or_none(share):
    return lambda rng, n: (rng.random(n) < share) * 1.0


# scores of positive rows, scores of others, true area
SHAPES = {
    "no better than chance": (normal(0), normal(0), 0.5),
    "one apart": (normal(1), normal(0), ndtr(1 / 2**0.5)),
    "three apart": (normal(3), normal(0), ndtr(3 / 2**0.5)),
    "positives spread thrice": (normal(1.5, 3), normal(0), ndtr(1.5 / 10**0.5)),
    "two scores, .9 and .2": (one_or_none(0.9), one_or_none(0.2), 0.85),
    "two scores, .2 and .02": (one_or_none(0.2), one_or_none(0.02), 0.59),
}


def area_coverage(shape, n_positive, n_other, n_sets):
    "Shares of runs in which each 95% interval holds the true area"
    of_positive, of_other, true = SHAPES[shape]
    rng, hits = np.random.default_rng(0), np.zeros(3)
    labels = np.r_[np.ones(n_positive, bool), np.zeros(n_other, bool)]
    everyone = {"all": np.ones(len(labels), bool)}
    for _ in range(n_sets):
        scores = np.r_[of_positive(rng, n_positive), of_other(rng, n_other)]
        area = subgroup_auc(scores, labels, groups=everyone)[0].auc
        newcombe = newcombe_range(
            area.value, Asked(0.95, 0, rng), n_positive=n_positive, n_other=n_other
        )
        delong = delong_range(scores, labels, newcombe)
        for i, (low, high) in enumerate(
            ((area.low, area.high), (newcombe.low, newcombe.high), delong)
        ):
            hits[i] += low <= true <= high
    shares = dict(zip(("ours", "newcombe", "delong"), (hits / n_sets).tolist()))
    return {"scores": shape, "positive": n_positive, "other": n_other, **shares}


def delong_range(scores, labels, otherwise):
    "DeLong's interval on the scale of log-odds; Newcombe's at an area of 0 or 1"
    levels, rank = np.unique(-scores, return_inverse=True)
    counted = [
        np.bincount(rank[rows], minlength=len(levels)) for rows in (labels, ~labels)
    ]
    placed = Placement.of(*counted)
    if not 0 < placed.area < 1:
        return otherwise.low, otherwise.high
    half = 1.959964 * placed.variance**0.5 / (placed.area * (1 - placed.area))
    return expit(logit(placed.area) - half), expit(logit(placed.area) + half)


def area_intervals(quick):
    n_sets = 50 if quick else 1000
    sizes = (30, 30), (30, 1000), (300, 300)
    found = [area_coverage(s, *size, n_sets) for s in SHAPES for size in sizes]
    lowest = {k: min(one[k] for one in found) for k in ("ours", "newcombe", "delong")}
    return {"runs": n_sets, "level": 0.95, "lowest": lowest, "cases": found}


# ---- do intervals hold?


@dataclass(frozen=True)
class World:
    "Every kind of row there is, with its probability: the truth of all metrics"

    labels: np.ndarray
    decided: np.ndarray
    groups: dict  # Attribute -> group of each kind
    memberships: dict  # Attribute -> (names, matrix)
    probability: np.ndarray

    def counts(self, rows=slice(None)):
        several = {k: (names, m[rows]) for k, (names, m) in self.memberships.items()}
        return GroupCounts.from_arrays(
            self.labels[rows],
            self.decided[rows],
            groups={k: v[rows] for k, v in self.groups.items()},
            memberships=several,
        )

    def drawn(self, n, rng):
        "n rows of it"
        return self.counts(rng.choice(len(self.labels), n, p=self.probability))

    def truth(self, metrics):
        "(view, metric) -> group -> true value"
        counts = self.counts()
        weights = self.probability[None]  # one entry a kind, in their order
        assert len(counts) == len(self.labels)
        order = np.lexsort([*reversed(list(self._columns(counts)))])
        weights = weights[:, order]
        found = {}
        for view in group_views(counts)[0]:
            for name, one in measures_of(counts, metrics).found.items():
                moments = np.c_[one.mask, one.mask * one.values]
                sums = sums_by_cell(weights, view, moments)[0]
                values = sums[:, 1] / sums[:, 0]
                found[view.name, name] = dict(zip(view.cells, values))
        return found

    def _columns(self, counts):
        "The kinds as the table orders them"
        for name in self.groups:
            groups = counts.values[counts.attributes.index(name)]
            yield np.array([groups.index(value) for value in self.groups[name]])
        for _, matrix in self.memberships.values():
            yield np.packbits(matrix, axis=1)[:, 0]
        yield self.labels
        yield self.decided


def world(effects, memberships=0, base=0.3):
    """Twenty groups by four, or identities that may come together

    `effects` are how much likelier an error is in each first group.
    """
    kinds = []
    patterns = np.ndindex(*[2] * memberships) if memberships else [()]
    seconds = 1 if memberships else 4
    for pattern, i, j in product(patterns, range(len(effects)), range(seconds)):
        wrong = 0.1 + effects[i] + 0.02 * sum(pattern)
        share = np.prod([0.3 if bit else 0.7 for bit in pattern])
        share /= len(effects) * seconds
        for label, err in product((0, 1), repeat=2):
            p = share * (base if label else 1 - base) * (wrong if err else 1 - wrong)
            kinds.append((i, j, pattern, label, abs(label - err), p))
    first, second, pattern, labels, decided, probability = zip(*kinds)
    groups = {"first": np.array([f"{i:02}" for i in first], object)}
    several = {}
    if memberships:
        names = tuple(f"identity {i}" for i in range(memberships))
        several = {"identity": (names, np.array(pattern, bool))}
    else:
        groups["second"] = np.array([str(j) for j in second], object)
    return World(
        np.array(labels), np.array(decided), groups, several, np.array(probability)
    )


def all_held(report, truth):
    "Does every interval of every pair in every view hold its truth?"
    compared = [one for one in report.tests if not one.is_all_rows]
    critical = family_of(compared).critical(report.settings.level)
    for one in compared:
        if one.estimates.largest is None:
            continue
        true = truth[one.view.name, one.name]
        values = np.array([true[cell] for cell in one.evaluated])
        difference = values[:, None] - values
        low, high = simultaneous_differences(one.estimates, critical)
        if (low > difference + 1e-12).any() or (high < difference - 1e-12).any():
            return False
    return True


def gaps_held(report, truth):
    "View and metric -> does the interval of the largest gap hold it?"
    held = {}
    for one in report.tests:
        if one.is_all_rows or one.estimates.largest is None:
            continue
        gap = report.gap(one.name, one.view.name)
        values = [truth[one.view.name, one.name][cell] for cell in one.evaluated]
        held[one.view.name, one.name] = gap.low <= np.ptp(values) <= gap.high
    return held


def percentiles(counts, metrics, n_resamples, rng):
    "Metric -> percentile bootstrap of largest minus smallest rate of the first view"
    view = group_views(counts)[0][1]
    kept = {name: [] for name in metrics}
    found = measures_of(counts, metrics).found
    for weights in resampled_counts(counts, n_resamples, rng):
        for name, one in found.items():
            moments = np.c_[one.mask, one.mask * one.values]
            sums = sums_by_cell(weights, view, moments)
            kept[name].append(np.ptp(sums[..., 1] / sums[..., 0], axis=1))
    return {
        name: np.quantile(np.concatenate(gaps), PERCENTILES)
        for name, gaps in kept.items()
    }


def coverage_of(made, n, n_sets, n_resamples):
    "Shares of data sets that hold: all intervals, each gap, percentile bootstraps"
    truth = made.truth(STUDIED)
    rng = np.random.default_rng(0)
    whole, gap_hits, others = 0, {}, dict.fromkeys(STUDIED, 0)
    first = {name: np.ptp([*truth["first", name].values()]) for name in STUDIED}
    for seed in range(n_sets):
        counts = made.drawn(n, rng)
        report = group_report(
            counts, seed=seed, metrics=STUDIED, n_resamples=n_resamples
        )
        whole += all_held(report, truth)
        for key, hit in gaps_held(report, truth).items():
            gap_hits.setdefault(key, []).append(hit)
        for name, (low, high) in percentiles(counts, STUDIED, 200, rng).items():
            others[name] += low <= first[name] <= high
    return {
        "n": n,
        "data_sets": n_sets,
        "level": 0.95,
        "pairs_all_together": whole / n_sets,
        "lowest_share_of_a_gap": min(float(np.mean(h)) for h in gap_hits.values()),
        "gaps": len(gap_hits),
        "true_gap_first": {name: round(float(gap), 4) for name, gap in first.items()},
        "percentile_bootstrap": {k: hits / n_sets for k, hits in others.items()},
    }


def fairlearn_itself(made, n, n_sets, n_boot):
    "The percentile bootstrap by fairlearn: false positive rates of the first attribute"
    from fairlearn.metrics import MetricFrame, false_positive_rate

    true = np.ptp([*made.truth(["fpr"])["first", "fpr"].values()])
    rng, held = np.random.default_rng(1), 0
    for seed in range(n_sets):
        rows = rng.choice(len(made.labels), n, p=made.probability)
        frame = MetricFrame(
            metrics=false_positive_rate,
            y_true=made.labels[rows],
            y_pred=made.decided[rows],
            sensitive_features=made.groups["first"][rows],
            n_boot=n_boot,
            ci_quantiles=PERCENTILES,
            random_state=seed,
        )
        low, high = frame.difference_ci()
        held += low <= true <= high
    return {"n": n, "data_sets": n_sets, "bootstraps": n_boot, "held": held / n_sets}


def coverage(quick):
    n_sets, n_resamples = (10, 99) if quick else (200, 299)
    spread = np.linspace(0, 0.02, 20)
    cases = {
        "equal groups": world(np.zeros(20)),
        "small gaps": world(spread),
        "six identities that overlap": world([0, 0.05], memberships=6),
    }
    found = {
        name: [coverage_of(made, n, n_sets, n_resamples) for n in (10_000, 100_000)]
        for name, made in cases.items()
    }
    least = 0.95 - 4 * (0.95 * 0.05 / n_sets) ** 0.5
    lowest = min(one["pairs_all_together"] for case in found.values() for one in case)
    itself = fairlearn_itself(cases["small gaps"], 10_000, 3 if quick else 20, 100)
    return {
        "cases": found,
        "lowest": lowest,
        "allowed_by_chance": round(least, 4),
        "holds": bool(lowest >= least),
        "fairlearn_itself": itself,
    }


# ---- is planted bias flagged, and other rows not?


def flags(report):
    "Names of what is flagged: gaps whose interval leaves 0"
    return {
        (gap.view, gap.metric) for gap in report.gaps if gap.low is not None and gap.low
    }


def planted(n, gap, rng):
    "Four regions by three ages; in one region errors are likelier by `gap`"
    region, age = rng.integers(0, 4, n), rng.integers(0, 3, n)
    labels = (rng.random(n) < 0.4) * 1
    wrong = rng.random(n) < 0.1 + gap * (region == 3)
    groups = {"region": region, "age": age}
    return labels, np.where(wrong, 1 - labels, labels), groups


def flagged_share(n, gap, n_sets, n_resamples, permuted):
    "Shares of data sets with any flag, and with one on the region that is worse"
    rng, some, right = np.random.default_rng(0), 0, 0
    for seed in range(n_sets):
        labels, decided, groups = planted(n, gap, rng)
        if permuted:
            groups = {name: rng.permutation(values) for name, values in groups.items()}
        counts = GroupCounts.from_arrays(labels, decided, groups=groups)
        report = group_report(counts, seed=seed, n_resamples=n_resamples)
        found = flags(report)
        some += bool(found)
        right += ("region", "accuracy") in found and report.gap(
            "accuracy", "region"
        ).worst == ("3",)
    return {"n": n, "gap": gap, "any_flag": some / n_sets, "region": right / n_sets}


def planted_and_permuted(quick):
    n_sets, n_resamples = (10, 99) if quick else (200, 299)
    sizes, sets = (1000, 10_000), (n_sets, n_resamples)
    gaps = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
    permuted = [flagged_share(n, 0.2, *sets, True) for n in sizes]
    most = 0.05 + 4 * (0.05 * 0.95 / n_sets) ** 0.5
    return {
        "data_sets": n_sets,
        "permuted": permuted,
        "false_flags_allowed_by_chance": round(most, 4),
        "holds": all(one["any_flag"] <= most for one in permuted),
        "power": [flagged_share(n, gap, *sets, False) for n in sizes for gap in gaps],
    }


PARTS = {
    "speed": speed,
    "areas": area_intervals,
    "coverage": coverage,
    "flags": planted_and_permuted,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--alone", choices=["everything", "fairlearn"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.alone:
        run_alone(given.alone, given.rows)
        return
    for name in [given.part] if given.part else PARTS:
        found = PARTS[name](given.quick)
        found = {"seed": 0, **about("numpy", "scipy", "fairlearn"), **found}
        text = json.dumps(found, indent=1)
        print(text)
        if not given.quick:
            (HERE / "results" / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
