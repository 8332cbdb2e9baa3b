"""Are certificates and risk control as good as their word? 1,000 draws for each method

On real outputs (CIFAR-10, VGG-16) and on synthetic ones. A world is a finite set of
rows; calibration rows are drawn from it with replacement, so that they are independent
and the true risk of every threshold is known exactly. A fit counts as a violation when
any of its certificates is false; at most delta of the fits may be, and three standard
errors are allowed. A refusal is no violation. For conformal risk control the mean true
loss over the draws may exceed alpha by at most four standard errors.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import common
import numpy as np

from fine_tune_llm.core.errors import CertificateError
from fine_tune_llm.stats import (
    CONFIDENCES,
    ConformalRiskControl,
    CostMatrix,
    LearnThenTest,
    SelectiveClassifier,
    Target,
    graphical,
    softmax,
)
from fine_tune_llm.stats.selective_classifier import walk_plan
from fine_tune_llm.testing import synthetic_problem

DATA = Path(os.environ.get("FTLLM_DATA", common.ROOT.parent / "shared" / "data"))
DELTA = 0.1
CORRECTIONS = ("fixed", "bonferroni", "holm")
COARSE = [0.99, 0.97, 0.95, 0.9, 0.8, 0.6, 0.4, 0.0]
COARSE_COSTS = [0.999, 0.995, 0.99, 0.98, 0.95, 0.9, 0.0]


class World:
    "Rows whose true risks are known, because they are all there is"

    def __init__(self, probs, labels, rare):
        self.probs = probs
        self.labels = labels
        self.rare = rare  # The class that should not be missed
        n_classes = probs.shape[1]
        self.harm = CostMatrix.from_harms(
            [f"c{k}" for k in range(n_classes)],
            miss={f"c{rare}": 10},
            false_alarm=0.3,
            critical=[f"c{rare}"],
        )
        every_fifth = np.arange(len(labels)) % 5 == 0
        self.groups = np.where(labels % 3 == 0, "a", np.where(every_fifth, "b", "c"))
        self._judged = {}

    def judged(self, classifier):
        "Confidence and decision of every row"
        key = classifier.score, classifier.cost is not None
        if key not in self._judged:
            cost = None if classifier.cost is None else self.harm.cost
            decided = self.probs.argmax(1)
            if cost is not None:
                decided = (self.probs.astype(np.float64) @ cost).argmin(1)
            conf = CONFIDENCES.get(classifier.score)(self.probs, cost)
            self._judged[key] = np.asarray(conf, dtype=np.float64), decided
        return self._judged[key]

    def true_risk(self, classifier, certificate):
        "Of the target that a certificate is for, at its threshold"
        targets = {target.name: target for target in walk_plan(classifier).targets}
        target = targets[certificate.name]
        conf, decided = self.judged(classifier)
        loss = (decided != self.labels) * 1.0
        if target.loss is not None:
            loss = target.loss[self.labels, decided]
        rows = np.ones(len(loss), bool)
        if certificate.group is not None:
            rows = self.groups == certificate.group
        if target.classes is not None:
            rows &= self.labels == self.rare
        on = conf >= certificate.threshold
        if target.given == "decided":
            return loss[rows & on].mean()
        return (loss * on)[rows].mean()


@lru_cache
def world(name):
    if name == "synthetic":
        problem = synthetic_problem(20_000, 5, temperature=1.5, seed=1, spread=4.0)
        return World(softmax(problem.logits), problem.labels, 4)
    file = np.load(DATA / "cifar10_vgg" / "cifar10_test_probs.npz")
    return World(file["probs"], file["labels"], 3)


@dataclass(frozen=True)
class Risks:
    "What is promised in a world; loosely where a correction would refuse too often"

    error: float
    cost: float
    loose_error: float
    loose_cost: float


RISKS = {
    "synthetic": Risks(0.08, 0.3, 0.12, 0.51),
    "cifar10_vgg": Risks(0.03, 0.08, 0.06, 0.27),
}


@dataclass(frozen=True)
class Case:
    "One way to certify"

    classifier: SelectiveClassifier
    by_group: bool = False
    with_pilot: bool = True


def error_cases(risks):
    "Error rates: tests, corrections and confidences"
    certify = partial(SelectiveClassifier, risks.error, DELTA)
    found = {
        "exact, fixed, pilot": Case(certify()),
        "exact, fixed, no pilot": Case(certify(), with_pilot=False),
    }
    for method in ("hb", "wsr"):
        classifier = certify(method=method, seed=0)
        found[f"{method}, fixed, 0/1 loss"] = Case(classifier)
    for correction in ("bonferroni", "holm"):
        for grid in (None, COARSE):
            n_thresholds = 280 if grid is None else len(grid)
            loose = SelectiveClassifier(
                risks.loose_error, DELTA, correction=correction, grid=grid
            )
            name = f"exact, {correction}, {n_thresholds} thresholds"
            found[name] = Case(loose, with_pilot=False)
    for score in ("margin", "entropy"):
        found[f"{score}, exact, fixed"] = Case(certify(score=score))
    return found


def cost_cases(risks, by_cost):
    "Mean costs: two tests and three corrections"
    found = {}
    for method in ("hb", "wsr"):
        for correction in CORRECTIONS:
            is_fixed = correction == "fixed"
            classifier = SelectiveClassifier(
                risks.cost if is_fixed else risks.loose_cost,
                DELTA,
                method=method,
                seed=0,
                correction=correction,
                grid=None if is_fixed else COARSE_COSTS,
                **by_cost,
            )
            found[f"cost, {method}, {correction}"] = Case(
                classifier, with_pilot=is_fixed
            )
    return found


def group_cases(risks, by_cost):
    "Every group with a threshold of its own"
    certify = partial(SelectiveClassifier, delta=DELTA)
    by_group = partial(Case, by_group=True)
    holm = certify(risks.loose_error, correction="holm", grid=COARSE)
    costs = certify(2 * risks.cost, seed=0, **by_cost)
    return {
        "groups, exact, fixed": by_group(certify(risks.error)),
        "groups, exact, fixed, no pilot": by_group(
            certify(risks.error), with_pilot=False
        ),
        "groups, exact, holm": by_group(holm, with_pilot=False),
        "groups, cost, wsr": by_group(costs),
    }


def target_cases(risks, by_cost, missed, late):
    "Several targets, at one threshold or in a graph"
    certify = partial(SelectiveClassifier, delta=DELTA)
    ways = {"one threshold": True, "graph": False}
    found = {}
    for way, together in ways.items():
        two = certify(risks.error, targets=[late], together=together)
        found[f"two targets, {way}"] = Case(two)
    arrows = certify(
        risks.error,
        targets=[late],
        together=False,
        weight=3,
        transitions=[[0, 1], [1, 0]],
    )
    name = "two targets, arrows and a weight, no pilot"
    found[name] = Case(arrows, with_pilot=False)
    for way, together in ways.items():
        three = certify(
            risks.cost, targets=[missed, late], together=together, seed=0, **by_cost
        )
        found[f"three targets with costs, {way}"] = Case(three)
    return found


def cases(name):
    "Every way to certify in a world, by name"
    w = world(name)
    risks = RISKS[name]
    by_cost = {"cost": w.harm, "score": "expected_cost"}
    missed = Target(
        "missed", 0.1, loss=w.harm.critical_loss, classes=[w.rare], given="all"
    )
    late = Target("wrong of the rare class", 0.12, classes=[w.rare])
    return {
        **error_cases(risks),
        **cost_cases(risks, by_cost),
        **group_cases(risks, by_cost),
        **target_cases(risks, by_cost, missed, late),
    }


def fit_draw(w, case, draw):
    "Fit on calibration rows drawn from the world, and a pilot half as large"
    n = 2500 if case.by_group else 1000
    rng = np.random.default_rng([draw, 7])
    rows = rng.integers(0, len(w.labels), n)
    others = rng.integers(0, len(w.labels), n // 2)
    pilot = None
    if case.with_pilot:
        pilot = w.probs[others], w.labels[others], w.groups[others]
    groups = w.groups[rows] if case.by_group else None
    case.classifier.fit(w.probs[rows], w.labels[rows], groups=groups, pilot=pilot)


def true_share_decided(w, classifier):
    "Share of the whole world that is decided"
    conf, _ = w.judged(classifier)
    thresholds = classifier.thresholds_
    if None in thresholds:
        return (conf >= thresholds[None]).mean()
    needed = [thresholds.get(group) for group in w.groups]
    return (conf >= [np.inf if value is None else value for value in needed]).mean()


def certificates(name, case_name, runs):
    "Violations, refusals and what is decided, over the draws"
    w = world(name)
    case = cases(name)[case_name]
    classifier = case.classifier
    broken = refused = refused_in_part = 0
    decided = []
    for draw in range(runs):
        try:
            fit_draw(w, case, draw)
        except CertificateError:
            refused += 1
            continue
        refused_in_part += bool(classifier.refusals_)
        broken += any(
            w.true_risk(classifier, certificate) > certificate.target_risk
            for certificate in classifier.certificates_
        )
        decided.append(true_share_decided(w, classifier))
    return {
        **violations(broken, runs),
        "refused": refused / runs,
        "refused_in_part": refused_in_part / runs,
        "decided": float(np.mean(decided)) if decided else None,
    }


def violations(broken, runs):
    "Share of fits that broke their word, and how many may: delta and three sigma"
    limit = DELTA + 3 * (DELTA * (1 - DELTA) / runs) ** 0.5
    return {
        "violations": float(broken / runs),
        "delta": DELTA,
        "limit": round(limit, 4),
        "kept_its_word": bool(broken / runs <= limit),
    }


def learn_then_test(name, case, runs, n=600):
    "24 settings, losses in [0, 1] that are no thresholds of anything, half unsafe"
    method, correction = case
    true_means = np.r_[np.linspace(0.02, 0.049, 12), np.linspace(0.0501, 0.08, 12)]
    rule = correction
    if correction == "graph":
        two_starts = np.r_[0.5, np.zeros(11), 0.5, np.zeros(11)]
        to_the_next = np.roll(np.eye(24), 1, 1)
        rule = partial(graphical, weights=two_starts, transitions=to_the_next)
    broken = refused = 0
    found = []
    for draw in range(runs):
        rng = np.random.default_rng([draw, 8])
        happens = rng.random((n, 1)) < 2 * true_means
        losses = happens * rng.choice([0.25, 0.75], (n, 1))
        tester = LearnThenTest(0.05, DELTA, method=method, correction=rule, seed=draw)
        try:
            certified = tester.fit(losses).certified_
        except CertificateError:
            refused += 1
            continue
        broken += certified[12:].any()
        found.append(certified[:12].mean())
    return {
        **violations(broken, runs),
        "refused": refused / runs,
        "safe_settings_found": float(np.mean(found)) if found else None,
    }


ALPHAS = {"miscoverage": 0.03, "cost-weighted": 0.1, "false-negative rate": 0.05}


@dataclass(frozen=True)
class SetProblem:
    "Rows and truth for risk control, and the true mean loss at every threshold"

    probs: np.ndarray
    truth: np.ndarray  # Classes, or is each label true?
    miss_cost: np.ndarray | None
    label_probs: np.ndarray  # Probability of each true label, ascending
    lost_below: np.ndarray  # Mean loss when so many of them are missed

    def true_loss(self, threshold):
        return self.lost_below[np.searchsorted(self.label_probs, threshold)]


def set_problem(w, case):
    "Single labels, costs of ten for the rare class, or several labels a row"
    n = len(w.labels)
    if case == "false-negative rate":
        probs = np.sqrt(w.probs)
        rng = np.random.default_rng(3)
        truth = rng.random(probs.shape) < np.clip(probs, 0.001, 0.999)
        rows, columns = np.nonzero(truth)
        label_probs = probs[rows, columns].astype(np.float64)
        cost = 1 / truth.sum(1)[rows]
        weights = None
    else:
        probs, truth = w.probs, w.labels
        weights = np.ones(probs.shape[1])
        if case == "cost-weighted":
            weights[w.rare] = 10.0
        label_probs = probs[np.arange(n), truth].astype(np.float64)
        cost = weights[truth]
    order = np.argsort(label_probs)
    lost_below = np.r_[0, np.cumsum(cost[order])] / n
    miss_cost = weights if case == "cost-weighted" else None
    return SetProblem(probs, truth, miss_cost, label_probs[order], lost_below)


def risk_control(name, case, runs, n=200):
    "Mean true loss of sets over the draws"
    w = world(name)
    alpha = ALPHAS[case]
    problem = set_problem(w, case)
    losses = []
    for draw in range(runs):
        rows = np.random.default_rng([draw, 9]).integers(0, len(w.labels), n)
        control = ConformalRiskControl(alpha, miss_cost=problem.miss_cost)
        control.fit(problem.probs[rows], problem.truth[rows])
        losses.append(problem.true_loss(control.threshold_))
    error = float(np.std(losses) / runs**0.5)
    return {
        "mean_loss": float(np.mean(losses)),
        "alpha": alpha,
        "standard_error": error,
        "kept_its_word": bool(np.mean(losses) <= alpha + 4 * error),
    }


def all_jobs():
    "(function, world, case) of everything that is measured"
    worlds = ["synthetic"]
    if (DATA / "cifar10_vgg").is_dir():
        worlds.append("cifar10_vgg")
    jobs = [(certificates, w, case) for w in worlds for case in cases(w)]
    jobs += [(risk_control, w, case) for w in worlds for case in ALPHAS]
    for method in ("hb", "wsr"):
        for correction in (*CORRECTIONS, "graph"):
            jobs.append((learn_then_test, "any", (method, correction)))
    return jobs


def main():
    quick = common.arguments().quick
    runs = 40 if quick else 1000
    jobs = all_jobs()
    os.environ["OMP_NUM_THREADS"] = "1"
    results = {}
    kept = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        futures = [pool.submit(job, w, case, runs) for job, w, case in jobs]
        for (job, w, case), future in zip(jobs, futures):
            name = case if isinstance(case, str) else ", ".join(case)
            found = future.result()
            results.setdefault(job.__name__, {}).setdefault(w, {})[name] = found
            kept.append(found["kept_its_word"])
    common.save(
        "validity_risk" + ("_quick" if quick else ""),
        {"draws": runs, "all_kept_their_word": all(kept), **results},
    )
    if not all(kept):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
