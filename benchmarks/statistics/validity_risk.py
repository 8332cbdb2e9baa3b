"""Are the promises of `risk` and `bounds` kept? 1,000 calibration draws for every method, on real outputs (CIFAR-10, VGG-16) and on synthetic ones

A world is a finite set of rows; calibration rows are drawn from it with replacement, so that they are independent and the true risk of every threshold is known exactly.
A fit counts as a violation when any of its certificates is false; at most delta of the fits may be, and three standard errors are allowed. A refusal is no violation.
For conformal risk control the mean true loss over the draws may exceed alpha by at most four standard errors.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import common
import numpy as np

from fine_tune_llm.core.errors import CertificateError
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.certificates import Target
from fine_tune_llm.stats.costs import CostMatrix
from fine_tune_llm.stats.learn_then_test import LearnThenTest
from fine_tune_llm.stats.multiple_testing import graphical
from fine_tune_llm.stats.risk_control import ConformalRiskControl
from fine_tune_llm.stats.selection import CONFIDENCES
from fine_tune_llm.stats.selective_classifier import SelectiveClassifier
from fine_tune_llm.testing import synthetic_problem

DATA = Path(os.environ.get("FTLLM_DATA", common.ROOT.parent / "shared" / "data"))
COARSE = [0.99, 0.97, 0.95, 0.9, 0.8, 0.6, 0.4, 0.0]


class World:
    "Rows whose true risks are known, because they are all there is"

    def __init__(self, probs, labels, rare):
        self.p, self.y, self.K, self.rare = probs, labels, probs.shape[1], rare
        self.names = [f"c{k}" for k in range(self.K)]
        self.harm = CostMatrix.from_harms(
            self.names, miss={f"c{rare}": 10}, false_alarm=0.3, critical=[f"c{rare}"]
        )
        self.groups = np.where(
            labels % 3 == 0, "a", np.where(np.arange(len(labels)) % 5 == 0, "b", "c")
        )
        self._judged = {}

    def judged(self, score, with_cost):
        "Confidence and decision of every row"
        if (score, with_cost) not in self._judged:
            cost = self.harm.cost if with_cost else None
            decided = (
                self.p.argmax(1)
                if cost is None
                else (self.p.astype(np.float64) @ cost).argmin(1)
            )
            self._judged[score, with_cost] = (
                np.asarray(CONFIDENCES.get(score)(self.p, cost), dtype=np.float64),
                decided,
            )
        return self._judged[score, with_cost]

    def true_risk(self, s, c):
        "Of the target that certificate `c` of classifier `s` is for, at its threshold"
        t = next(t for t in s.targets if t.name == c.name)
        conf, decided = self.judged(s.score, s.cost is not None)
        loss = (decided != self.y) * 1.0 if t.loss is None else t.loss[self.y, decided]
        rows = np.ones(len(loss), bool) if c.group is None else self.groups == c.group
        if t.classes is not None:
            rows &= self.y == self.rare
        on = conf >= c.threshold
        return (
            loss[rows & on].mean() if t.given == "decided" else (loss * on)[rows].mean()
        )


@lru_cache
def world(name):
    if name == "synthetic":
        s = synthetic_problem(20_000, 5, temperature=1.5, seed=1, spread=4.0)
        return World(softmax(s.logits), s.labels, 4)
    f = np.load(DATA / "cifar10_vgg" / "cifar10_test_probs.npz")
    return World(f["probs"], f["labels"], 3)


def cases(name):
    "Name -> (classifier, fit by group?, with pilot?)"
    w = world(name)
    r, rc, loose, costly = (
        (0.03, 0.08, 0.06, 0.27) if name == "cifar10_vgg" else (0.08, 0.3, 0.12, 0.51)
    )
    d = 0.1  # loose: where Bonferroni's correction is not refused most of the time, and so could break its word
    miss = Target(
        "missed", 0.1, loss=w.harm.critical_loss, classes=[w.rare], given="all"
    )
    late = Target("wrong of the rare class", 0.12, classes=[w.rare])
    S = SelectiveClassifier
    cost = dict(cost=w.harm, score="expected_cost")
    out = {
        "exact, fixed, pilot": (S(r, d), 0, 1),
        "exact, fixed, no pilot": (S(r, d), 0, 0),
    }
    out |= {
        f"{m}, fixed, 0/1 loss": (S(r, d, method=m, seed=0), 0, 1)
        for m in ("hb", "wsr")
    }
    out |= {
        f"exact, {c}, {len(g) if g else 280} thresholds": (
            S(loose, d, correction=c, grid=g),
            0,
            0,
        )
        for c in ("bonferroni", "holm")
        for g in (None, COARSE)
    }
    out |= {
        f"{s}, exact, fixed": (S(r, d, score=s), 0, 1) for s in ("margin", "entropy")
    }
    out |= {
        f"cost, {m}, {c}": (
            S(
                rc if c == "fixed" else costly,
                d,
                method=m,
                seed=0,
                correction=c,
                grid=None
                if c == "fixed"
                else [0.999, 0.995, 0.99, 0.98, 0.95, 0.9, 0.0],
                **cost,
            ),
            0,
            c == "fixed",
        )
        for m in ("hb", "wsr")
        for c in ("fixed", "bonferroni", "holm")
    }
    out |= {
        "groups, exact, fixed": (S(r, d), 1, 1),
        "groups, exact, fixed, no pilot": (S(r, d), 1, 0),
        "groups, exact, holm": (S(loose, d, correction="holm", grid=COARSE), 1, 0),
        "groups, cost, wsr": (S(2 * rc, d, seed=0, **cost), 1, 1),
    }
    out |= {
        f"two targets, {k}": (
            S(r, d, targets=[late], together=k == "one threshold"),
            0,
            1,
        )
        for k in ("one threshold", "graph")
    }
    out |= {
        "two targets, arrows and a weight, no pilot": (
            S(
                r,
                d,
                targets=[late],
                together=False,
                weight=3,
                transitions=[[0, 1], [1, 0]],
            ),
            0,
            0,
        )
    }
    out |= {
        f"three targets with costs, {k}": (
            S(
                rc,
                d,
                targets=[miss, late],
                together=k == "one threshold",
                seed=0,
                **cost,
            ),
            0,
            1,
        )
        for k in ("one threshold", "graph")
    }
    return out


def certificates(name, case, runs):
    "Violations, refusals and what is decided, over the draws"
    w = world(name)
    s, by_group, pilot = cases(name)[case]
    n = 2500 if by_group else 1000
    bad = refused = partly = 0
    kept = []
    for i in range(runs):
        rng = np.random.default_rng([i, 7])
        a, b = rng.integers(0, len(w.y), n), rng.integers(0, len(w.y), n // 2)
        g = dict(groups=w.groups[a]) if by_group else {}
        pil = (w.p[b], w.y[b], w.groups[b]) if pilot else None
        try:
            s.fit(w.p[a], w.y[a], pilot=pil, **g)
        except CertificateError:
            refused += 1
            continue
        partly += bool(s.refusals_)
        bad += any(w.true_risk(s, c) > c.target_risk for c in s.certificates_)
        t = (
            np.array(
                [
                    np.inf if s.thresholds_.get(x) is None else s.thresholds_[x]
                    for x in w.groups
                ]
            )
            if by_group
            else s.threshold_
        )
        kept.append((w.judged(s.score, s.cost is not None)[0] >= t).mean())
    limit = s.delta + 3 * (s.delta * (1 - s.delta) / runs) ** 0.5
    return dict(
        violations=float(bad / runs),
        delta=s.delta,
        limit=round(limit, 4),
        kept_its_word=bool(bad / runs <= limit),
        refused=refused / runs,
        refused_in_part=partly / runs,
        decided=float(np.mean(kept)) if kept else None,
    )


def learn_then_test(name, case, runs, n=600):
    "24 settings, losses in [0, 1] that are no thresholds of anything, half of them unsafe"
    method, correction = case
    truth = np.r_[np.linspace(0.02, 0.049, 12), np.linspace(0.0501, 0.08, 12)]
    bad = refused = 0
    found = []
    rule = (
        partial(
            graphical,
            weights=np.r_[0.5, np.zeros(11), 0.5, np.zeros(11)],
            transitions=np.roll(np.eye(24), 1, 1),
        )
        if correction == "graph"
        else correction
    )
    for i in range(runs):
        rng = np.random.default_rng([i, 8])
        x = (rng.random((n, 1)) < 2 * truth) * rng.choice(
            [0.25, 0.75], (n, 1)
        )  # mean: 2*truth*.5
        try:
            ok = (
                LearnThenTest(0.05, 0.1, method=method, correction=rule, seed=i)
                .fit(x)
                .certified_
            )
        except CertificateError:
            refused += 1
            continue
        bad += ok[12:].any()
        found.append(ok[:12].mean())
    limit = 0.1 + 3 * (0.1 * 0.9 / runs) ** 0.5
    return dict(
        violations=float(bad / runs),
        delta=0.1,
        limit=round(limit, 4),
        kept_its_word=bool(bad / runs <= limit),
        refused=refused / runs,
        safe_settings_found=float(np.mean(found)) if found else None,
    )


def risk_control(name, case, runs, n=200):
    "Mean true loss of sets over the draws"
    w = world(name)
    rng = np.random.default_rng(3)
    weights = np.ones(w.K)
    several = case == "false-negative rate"
    alpha = dict(
        zip(("miscoverage", "cost-weighted", "false-negative rate"), (0.03, 0.1, 0.05))
    )[case]
    if case == "cost-weighted":
        weights[w.rare] = 10.0
    p = np.sqrt(w.p) if several else w.p
    true = (rng.random(p.shape) < np.clip(p, 0.001, 0.999)) if several else None
    own = w.p[np.arange(len(w.y)), w.y].astype(np.float64)
    if several:
        rows, ks = np.nonzero(true)
        q, share = p[rows, ks].astype(np.float64), 1 / true.sum(1)[rows]
    else:
        q, share = own, weights[w.y]
    o = np.argsort(q)
    cum, q = np.r_[0, np.cumsum(share[o])] / len(w.y), q[o]
    losses = []
    for i in range(runs):
        a = np.random.default_rng([i, 9]).integers(0, len(w.y), n)
        t = (
            ConformalRiskControl(
                alpha, miss_cost=weights if case == "cost-weighted" else None
            )
            .fit(p[a], true[a] if several else w.y[a])
            .threshold_
        )
        losses.append(cum[np.searchsorted(q, t)])
    se = float(np.std(losses) / runs**0.5)
    return dict(
        mean_loss=float(np.mean(losses)),
        alpha=alpha,
        standard_error=se,
        kept_its_word=bool(np.mean(losses) <= alpha + 4 * se),
    )


def main():
    quick = common.arguments().quick
    runs = 40 if quick else 1000
    worlds = ["synthetic"] + ["cifar10_vgg"] * (DATA / "cifar10_vgg").is_dir()
    jobs = [(certificates, w, c) for w in worlds for c in cases(w)] + [
        (risk_control, w, c)
        for w in worlds
        for c in ("miscoverage", "cost-weighted", "false-negative rate")
    ]
    jobs += [
        (learn_then_test, "any", (m, c))
        for m in ("hb", "wsr")
        for c in ("fixed", "bonferroni", "holm", "graph")
    ]
    os.environ["OMP_NUM_THREADS"] = "1"
    out = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for (f, w, c), r in zip(jobs, [pool.submit(f, w, c, runs) for f, w, c in jobs]):
            out.setdefault(f.__name__, {}).setdefault(w, {})[
                c if isinstance(c, str) else ", ".join(c)
            ] = r.result()
    ok = all(
        r["kept_its_word"] for f in out.values() for w in f.values() for r in w.values()
    )
    common.save(
        "validity_risk" + ("_quick" if quick else ""),
        dict(draws=runs, all_kept_their_word=ok, **out),
    )
    if not ok:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
