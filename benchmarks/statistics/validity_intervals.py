"""Do the intervals of metrics hold as often as they say? Where they were weakest

90% intervals on samples of populations whose number is known: classes with few rows or
none, errors that are rare, an AUROC near 1, calibration that is nearly right, weighted
and clustered rows (beside the interval that takes them for independent), and the
differences of two models. Every share comes with its number of samples and its standard
error. Levels of the calibration tests are summed over the binomial law where all rows
are equally sure. Names of parts as arguments measure only these again.
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import common
import numpy as np
from scipy import stats
from scipy.special import expit

from fine_tune_llm.stats import (
    METRICS,
    compare,
    interval,
    ks_test,
    kuiper_test,
    rows_for_gap,
    softmax,
    spiegelhalter_test,
)
from fine_tune_llm.testing import synthetic_problem

LEVEL = 0.9
QUICK = "--quick" in sys.argv


@dataclass(frozen=True)
class Population:
    "Rows that are all there is"

    probs: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None  # Which rows come together


def said(decided, n_classes, conf=0.9):
    "Probabilities of a model that is equally sure of every decision"
    rest = (1 - conf) / (n_classes - 1)
    probs = np.full((len(decided), n_classes), rest, np.float32)
    probs[np.arange(len(decided)), decided] = conf
    return probs / probs.sum(1, keepdims=True)


@lru_cache(2)
def zipf(n_classes, best=0.95, worst=0.45, n=200_000):
    "Classes of falling frequency, the rare ones decided worse"
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, n_classes + 1)
    share /= share.sum()
    labels, other = rng.choice(n_classes, (2, n), p=share)
    skill = best - (best - worst) * labels / n_classes
    decided = np.where(rng.random(n) < skill, labels, other)
    return Population(said(decided, n_classes), labels)


@lru_cache(2)
def two_classes(confs, accuracies, n=8000):
    "As many rows at each confidence, right as often as said"
    rows = [np.tile([c, 1 - c], (n, 1)) for c in confs]
    labels = [(np.arange(n) >= round(a * n)).astype(int) for a in accuracies]
    return Population(np.concatenate(rows), np.concatenate(labels))


FIVE = (0.55, 0.65, 0.75, 0.85, 0.95)
SIDES = {
    "calibrated": (FIVE, FIVE),
    "all bins .02 over": (FIVE, tuple(c - 0.02 for c in FIVE)),
    "all bins .02 under": (FIVE, tuple(c + 0.02 for c in FIVE)),
    "one bin .01 over": ((0.95,), (0.94,)),
    "one bin .01 under": ((0.95,), (0.96,)),
    "two sure bins over": ((0.97, 0.99), (0.96, 0.97)),
    "two sure bins under": ((0.9, 0.95), (0.93, 0.96)),
}


@lru_cache(2)
def many_classes(temperature, spread, n_classes=20):
    problem = synthetic_problem(100_000, n_classes, temperature, seed=0, spread=spread)
    return Population(softmax(problem.logits), problem.labels)


@lru_cache(2)
def sure_and_right(apart, share_wrong, n=200_000):
    "Right rows are surer than wrong ones; logits of both are normal"
    rng = np.random.default_rng(0)
    wrong = rng.random(n) < share_wrong
    conf = 0.5 + expit(rng.normal(np.where(wrong, 0.0, apart), 1)) / 2
    return Population(np.c_[conf, 1 - conf], wrong.astype(int))


@lru_cache(2)
def people(per_person, alike, n_people=20_000, skill=1.2):
    "Texts of one person share a part of what makes them hard"
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(n_people), per_person)
    own = rng.normal(size=n_people)[person]
    hard = alike**0.5 * own + (1 - alike) ** 0.5 * rng.normal(size=len(person))
    conf = 0.5 + expit(skill - hard) / 2
    unknown = 0.05 + 0.2 * alike**0.5 * own  # what the model does not see
    labels = (rng.random(len(conf)) > conf - unknown).astype(int)
    return Population(np.c_[conf, 1 - conf], labels, person)


def sampled(population, n, rng):
    "Rows drawn with replacement; whole groups where there are some"
    if population.groups is None:
        rows = rng.integers(len(population.labels), size=n)
        return rows, None
    size = int((population.groups == population.groups[0]).sum())
    drawn = rng.integers(population.groups[-1] + 1, size=n // size)
    rows = (drawn[:, None] * size + np.arange(size)).ravel()
    return rows, np.repeat(np.arange(len(drawn)), size)


def share_of(hits):
    "A share with its number of samples and its standard error"
    share = float(np.mean(hits))
    return {
        "held": round(share, 4),
        "samples": len(hits),
        "se": round(math.sqrt(max(share * (1 - share), 0.09 * 0.1) / len(hits)), 4),
    }


def held(metric, population, n, samples, **settings):
    "How often the interval holds the population's number, and its mean width"
    truth = METRICS.create(metric)(population.probs, population.labels)
    rng, hits, widths = np.random.default_rng(1), [], []
    for seed in range(max(20, samples // 20) if QUICK else samples):
        rows, _ = sampled(population, n, rng)
        found = interval(
            metric,
            population.probs[rows],
            population.labels[rows],
            level=LEVEL,
            seed=seed,
            n_resamples=200,
            **settings,
        )
        # a rounding error of a truth of 0 is no miss
        hits.append(found.low - 1e-9 <= truth <= found.high + 1e-9)
        widths.append(found.high - found.low)
    return {"truth": truth, **share_of(hits), "mean_width": float(np.mean(widths))}


def classes():
    "Means over classes, of which many have few rows or none"
    found = {}
    for n_classes, n in ((50, 250), (50, 1000), (20, 250), (20, 100), (3, 60)):
        for metric in ("macro_f1", "balanced_accuracy"):
            name = f"{metric}, {n_classes} Zipf classes, {n} rows"
            found[name] = held(metric, zipf(n_classes), n, 250)
    for metric in ("macro_f1", "balanced_accuracy"):
        name = f"{metric}, 20 Zipf classes nearly always right, 250 rows"
        found[name] = held(metric, zipf(20, 0.995, 0.9), 250, 250)
    return found


def sides():
    "Over- and under-confidence, where little of either is seen"
    return {
        f"{metric}, {name}": held(metric, two_classes(*kind), 250, 150)
        for name, kind in SIDES.items()
        for metric in ("overconfidence", "underconfidence")
    }


def aurocs():
    "The chance that a right row is surer, up to nearly 1"
    found = {}
    for apart, share_wrong, n in (
        (1.0, 0.3, 250),
        (2.0, 0.06, 250),
        (2.9, 0.06, 250),
        (2.9, 0.3, 100),
        (3.5, 0.06, 250),
    ):
        name = f"{n} rows, {share_wrong:.0%} wrong, {apart} apart"
        population = sure_and_right(apart, share_wrong)
        found[name] = held("confidence_auroc", population, n, 1000)
    return found


def curves():
    "Areas under the risk-coverage curve, where errors are few"
    return {
        f"{metric}, {share:.0%} wrong": held(
            metric, sure_and_right(1.0, share), 250, 500
        )
        for share in (0.06, 0.12, 0.3)
        for metric in ("aurc", "e_aurc", "auarc")
    }


TEN = tuple(np.arange(0.525, 1, 0.05))
GAPS = {
    "calibrated": (FIVE, FIVE),
    "over": (FIVE, (0.55, 0.62, 0.7, 0.75, 0.8)),
    "one bin of ten .25 over": (TEN, tuple(c - 0.25 * (c == TEN[5]) for c in TEN)),
    "nine bins .06 off in turns": (
        TEN[:-1],
        tuple(c + 0.06 * (-1) ** i for i, c in enumerate(TEN[:-1])),
    ),
    "two sure bins under": ((0.9, 0.95), (0.93, 0.96)),
    "sure, half a percent wrong": ((0.999,), (0.995,)),
}


def error_cases():
    "Populations by name: of two classes by their gaps, and of 4 and 20"
    return {name: two_classes(*kind) for name, kind in GAPS.items()} | {
        "4 classes, calibrated": many_classes(1.0, 2.0, 4),
        "4 classes, over": many_classes(2.0, 2.0, 4),
        "20 classes, over": many_classes(2.0, 2.0),
        "20 classes, sharp": many_classes(1.3, 4.0),
    }


def class_errors():
    "Calibration errors of every class"
    return {
        f"{metric}, {name}, {n} rows": held(metric, population, n, 300)
        for name, population in error_cases().items()
        for metric in ("ace", "classwise_ece")
        for n in (60, 250, 1000)
    }


def confidence_errors():
    """Calibration errors of the decided class; of few bins that all hold rows for `mce`

    Others have bins of a handful of rows of the population, which no sample sees.
    """
    return {
        f"{metric}, {name}, {n} rows": held(metric, population, n, 300)
        for name, population in error_cases().items()
        for metric in ("ece", "ece_debiased", "mce", "ks_error")
        for n in (250, 1000)
        if metric != "mce" or name in GAPS
    }


def clustered():
    "Whole people are drawn: by person, and as if rows were independent"
    found = {}
    for per_person, alike in ((5, 0.3), (10, 0.6)):
        population = people(per_person, alike)
        for metric in ("accuracy", "nll", "brier", "aurc", "confidence_auroc"):
            truth = METRICS.create(metric)(population.probs, population.labels)
            rng = np.random.default_rng(1)
            hits = {"by person": [], "as if independent": []}
            for seed in range(20 if QUICK else 100):
                rows, person = sampled(population, 400, rng)
                for name, cluster in zip(hits, (person, None)):
                    one = interval(
                        metric,
                        population.probs[rows],
                        population.labels[rows],
                        level=LEVEL,
                        seed=seed,
                        n_resamples=200,
                        cluster=cluster,
                    )
                    hits[name].append(truth in one)
            case = f"{metric}, {per_person} rows a person, {alike} alike"
            found[case] = {name: share_of(by) for name, by in hits.items()}
    return found


def weighted():
    "Rows are drawn more often the surer they are, and weighted back"
    population = people(1, 0.0, n_people=100_000)
    conf = population.probs[:, 0]
    chance = 0.2 + (conf - 0.5) * 3
    chance /= chance.sum()
    found = {}
    for metric in ("accuracy", "nll", "brier", "aurc", "confidence_auroc"):
        truth = METRICS.create(metric)(population.probs, population.labels)
        rng = np.random.default_rng(1)
        hits = {"weighted": [], "as if drawn alike": []}
        for seed in range(20 if QUICK else 100):
            rows = rng.choice(len(conf), 400, p=chance)
            for name, weights in zip(hits, (1 / chance[rows], None)):
                one = interval(
                    metric,
                    population.probs[rows],
                    population.labels[rows],
                    level=LEVEL,
                    seed=seed,
                    n_resamples=200,
                    weights=weights,
                )
                hits[name].append(truth in one)
        found[metric] = {name: share_of(by) for name, by in hits.items()}
    return found


def two_models(noise, sharp, spread, n=60_000):
    "Two models of four classes that are wrong together"
    problem = synthetic_problem(n, 4, seed=0, spread=spread)
    rng = np.random.default_rng(1)
    shared = rng.normal(size=problem.logits.shape)
    probs = [
        softmax(sharp[i] * (problem.logits + noise[i] * (shared + own)))
        for i, own in enumerate(rng.normal(size=(2, *shared.shape)))
    ]
    return *probs, problem.labels


COST = np.array([[0, 1, 1, 5], [1, 0, 1, 1], [1, 1, 0, 1], [2, 1, 1, 0]], float)
SAMPLES = {"balanced_accuracy": 40}


def true_gap(metric, first, second, labels):
    "Of all rows"
    if metric == "cost":
        means = [COST[labels, (p @ COST).argmin(1)].mean() for p in (first, second)]
        return means[0] - means[1]
    value = METRICS.create(metric)
    return value(first, labels) - value(second, labels)


def held_gap(metric, case, n, samples):
    "How often the interval of a difference holds it, and how often it is refused"
    truth, rng = true_gap(metric, *case), np.random.default_rng(2)
    hits, widths, refused = [], [], []
    for seed in range(20 if QUICK else samples):
        rows = rng.integers(len(case[2]), size=n)
        one = compare(
            *(part[rows] for part in case),
            metric=metric,
            cost=COST if metric == "cost" else None,
            level=LEVEL,
            seed=seed,
            n_resamples=200,
        )
        hits.append(one.low <= truth <= one.high)
        widths.append(one.high - one.low)
        refused.append(one.p_value is not None and one.p_value <= 1 - LEVEL)
    return {
        "truth": truth,
        "mean_width": float(np.mean(widths)),
        "told_apart": float(np.mean(refused)),
        **share_of(hits),
    }


def differences():
    "Two models on the same 250 rows"
    metrics = (
        "accuracy",
        "nll",
        "brier",
        "cost",
        "aurc",
        "e_aurc",
        "confidence_auroc",
        "ece",
        "balanced_accuracy",
    )
    return {
        f"{metric}, {name}": held_gap(metric, case, 250, SAMPLES.get(metric, 400))
        for name, case in {
            "alike": two_models((0.5, 0.5), (0.85, 0.85), 2.0),
            "one better": two_models((0.3, 1.0), (0.9, 0.55), 2.0),
            "calibrated, over": two_models((0.3, 0.3), (0.92, 1.8), 2.0),
            "few errors": two_models((0.5, 1.0), (0.95, 0.9), 6.0),
        }.items()
        for metric in metrics
    }


def differences_of_errors():
    "The calibration error of two models, whose gaps go together or against each other"
    return {
        f"{metric}, {name}, {n} rows": held_gap(metric, case, n, 400)
        for name, case in {
            "alike": two_models((0.5, 0.5), (0.85, 0.85), 2.0),
            "alike, over": two_models((0.3, 0.3), (1.8, 1.8), 2.0),
            "calibrated, over": two_models((0.3, 0.3), (0.92, 1.8), 2.0),
            "over, more over": two_models((0.3, 0.3), (1.5, 3.0), 2.0),
            "one under, one over": two_models((0.3, 0.3), (0.5, 1.6), 2.0),
        }.items()
        for metric in ("ece", "classwise_ece", "ace")
        for n in (100, 250, 1000)
        if metric == "ece" or n == 250
    }


def test_levels():
    "How often calibrated rows that are all equally sure are refused at 10, 5 and 1%"
    found = {}
    for conf, n in ((0.999, 5000), (0.99, 520), (0.97, 190), (0.99, 2000)):
        wrong = np.arange(round(n * (1 - conf) * 3) + 10)
        chance = stats.binom.pmf(wrong, n, 1 - conf)
        probs = np.tile([conf, 1 - conf], (n, 1))
        sd = (n * conf * (1 - conf)) ** 0.5
        p = {
            "spiegelhalter, law of many rows": 2
            * stats.norm.sf(abs(wrong - n * (1 - conf)) / sd)
        }
        for test in (ks_test, kuiper_test, spiegelhalter_test):
            p[test.__name__] = np.array(
                [test(probs, np.arange(n) < k).p_value for k in wrong]
            )
        found[f"{n} rows at {conf}"] = {
            name: {
                str(a): round(float(chance @ (by <= a)), 4) for a in (0.1, 0.05, 0.01)
            }
            for name, by in p.items()
        }
    return found


def gap_power():
    "True power of the rows that `rows_for_gap` asks for, summed over all outcomes"
    found = {}
    for rate, gap in ((0.02, 0.05), (0.1, 0.1), (0.9, 0.2), (0.5, 0.1), (0.01, 0.03)):
        n = rows_for_gap(gap, rate)
        other = rate + gap if rate <= 0.5 else rate - gap
        x, y = np.arange(n + 1)[:, None], np.arange(n + 1)
        pooled = (x + y) / (2 * n)
        variance = pooled * (1 - pooled) * 2 / n
        z = abs(x - y) / n / np.sqrt(np.where(variance > 0, variance, np.inf))
        chance = stats.binom.pmf(x, n, rate) * stats.binom.pmf(y, n, other)
        power = float(chance[z > 1.959964].sum())
        found[f"{rate} against {other:.2f}"] = {"rows": n, "power": round(power, 4)}
    return found


PARTS: tuple[Callable[[], dict], ...] = (
    classes,
    sides,
    aurocs,
    curves,
    class_errors,
    confidence_errors,
    clustered,
    weighted,
    differences,
    differences_of_errors,
    test_levels,
    gap_power,
)


def parts_again(names):
    "The stored result with some of its parts measured anew"
    file = common.HERE / "results" / "validity_intervals.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    again = {part.__name__: part() for part in PARTS if part.__name__ in names}
    common.save("validity_intervals", stored | again)


if __name__ == "__main__":
    named = [part.__name__ for part in PARTS if part.__name__ in sys.argv[1:]]
    if named:
        parts_again(named)
    else:
        result = {"level": LEVEL, "seed": 1}
        for part in PARTS:
            result[part.__name__] = part()
        common.save("validity_intervals", result)
