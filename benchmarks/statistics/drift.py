"""Drift monitors over 300 seeds, and steps per second beside crepes

False alarms, detection and delays, and coverage after a change.

python benchmarks/statistics/drift.py [--quick]
"""

import json
import math
import time

import numpy as np
from common import arguments, race, save

from fine_tune_llm.stats.adaptive import ACI, ConformalPID, DtACI
from fine_tune_llm.stats.martingales import COMPOSITE, ConformalMartingale, evidence
from fine_tune_llm.stats.monitors import restore
from fine_tune_llm.stats.quantiles import conformal_quantile
from fine_tune_llm.stats.risk_monitor import RiskMonitor
from fine_tune_llm.stats.score_bag import ScoreBag, growing_p_values
from fine_tune_llm.stats.shift import (
    LabelFreeTrigger,
    WeightedConformal,
    weighted_quantile,
)

RULES = (
    "wealth, simple jumper",
    "wealth, composite",
    "CUSUM, simple jumper",
    "CUSUM, composite",
    "Shiryaev-Roberts, simple jumper",
    "Shiryaev-Roberts, composite",
)
ARL, LEVEL = 10_000, 0.05


def stream(seed, before, after, rate, score, n_ref=1000):
    """Reference and stream whose error rate goes from 7% to `rate`

    Scores are errors (all ties) or what a model's 1 - p would be.
    """
    r = np.random.default_rng([seed, before, after])
    n = n_ref + before + after
    wrong = r.uniform(size=n) < np.repeat([0.07, rate], [n_ref + before, after])
    s = (
        wrong * 1.0
        if score == "error"
        else np.where(wrong, r.beta(6, 2, n), r.beta(1, 8, n))
    )
    return s[:n_ref], s[n_ref:], wrong[:n_ref] * 1.0, wrong[n_ref:] * 1.0


def first(path, c):
    return int((path >= c).argmax()) + 1 if (path >= c).any() else math.inf


def first_alarms(seed, *args):
    ref, s, ref_wrong, wrong = stream(seed, *args)
    p = growing_p_values(s, seed=seed, reference=ref)
    out = {}
    for name, jumps in (("simple jumper", (0.01,)), ("composite", COMPOSITE)):
        e = evidence(p, jumps)
        out.update(
            {
                f"wealth, {name}": first(e.wealth, -math.log(LEVEL)),
                f"CUSUM, {name}": first(e.cusum, math.log(ARL)),
                f"Shiryaev-Roberts, {name}": first(e.sr, math.log(ARL)),
            }
        )
    out["risk monitor, tolerance .02"] = next(
        (a.step for a in RiskMonitor(0.02, LEVEL).fit(ref_wrong).update(wrong)),
        math.inf,
    )
    return out


def alarms(seeds, *args):
    rows = [first_alarms(k, *args) for k in range(seeds)]
    return {k: np.array([r[k] for r in rows]) for k in rows[0]}


def quiet(seeds, n):
    "Share of streams without any change in which it rang at all"
    return {
        f"{score}, {n} labels": {
            k: float(np.isfinite(v).mean())
            for k, v in alarms(seeds, 0, n, 0.07, score).items()
        }
        for score in ("error", "one minus p")
    }


def quantile(d, q):
    "`None`: later than the labels there were"
    v = np.quantile(d, q, method="higher") if len(d) else math.inf
    return float(v) if math.isfinite(v) else None


def delays(seeds, before, score):
    "After the change, among streams that had not rung before"
    out = {}
    for k, v in alarms(seeds, before, 1500, 0.3, score).items():
        d = v[v > before] - before
        out[k] = dict(
            rang_before=float((v <= before).mean()),
            detected_within_1500=float((d <= 1500).mean()),
            median=quantile(d, 0.5),
            p90=quantile(d, 0.9),
        )
    return out


def frozen(seeds, n_ref=200, n=1000):
    "False alarms of the simple jumper at 5%: p-values over a frozen set, a growing bag"
    hits = np.zeros(2)
    for k in range(seeds):
        r = np.random.default_rng(k)
        ref, s, u = np.sort(r.normal(size=n_ref)), r.normal(size=n), r.uniform(size=n)
        p = (
            (n_ref - np.searchsorted(ref, s, "right") + u) / (n_ref + 1),
            growing_p_values(s, seed=k, reference=ref),
        )
        hits += [evidence(x).wealth.max() >= -math.log(LEVEL) for x in p]
    return dict(n_ref=n_ref, labels=n, frozen=hits[0] / seeds, growing=hits[1] / seeds)


def run_lengths(n, arl=1000):
    "Mean number of observations between false alarms when `arl` is promised"
    out = {}
    for rule in ("cusum", "sr"):
        m = ConformalMartingale(rule=rule, seed=0, arl=arl)
        m.update(np.random.default_rng(1).normal(size=n))
        out[rule] = dict(
            promised=arl,
            observations=n,
            alarms=m.n_alarms_,
            mean_run=n / m.n_alarms_ if m.n_alarms_ else None,
        )
    return out


def steered(seeds):
    "Miss rates in the 1,500 labels after the change; frozen calibration, target 10%"
    rates = {}
    for k in range(seeds):
        ref, s, _, _ = stream(k, 1000, 1500, 0.3, "one minus p")
        cal = np.sort(ref)
        p = (1 + len(cal) - np.searchsorted(cal, s)) / (len(cal) + 1)
        q = conformal_quantile(ref, 0.1)
        for name, missed in (
            ("frozen", p <= 0.1),
            ("ACI .02", ACI(0.1, 0.02).replay(p)),
            ("ACI .05", ACI(0.1, 0.05).replay(p)),
            ("DtACI", DtACI(0.1).replay(p)),
            ("PID, P", ConformalPID(0.1, start=q).replay(s)),
            ("PID, P and I", ConformalPID(0.1, start=q, integrate=0.2).replay(s)),
        ):
            rates.setdefault(name, []).append(missed[1000:].mean())
    return {
        k: dict(
            mean=float(np.mean(v)),
            worst_distance=float(np.abs(np.array(v) - 0.1).max()),
        )
        for k, v in rates.items()
    }


def shifted(seeds, n=1000):
    "Coverage at 90% where inputs moved from N(0, 1) to N(1, 1)"
    rows = []
    for k in range(seeds):
        r = np.random.default_rng(k)
        x, z = r.normal(size=n), r.normal(size=n) + 1
        s, t = (np.abs(r.normal(size=n)) * np.exp(v / 2) for v in (x, z))
        w = WeightedConformal(0.1, seed=k).fit(s, x[:, None], z[:, None])
        rows.append(
            [
                (t <= q).mean()
                for q in (
                    conformal_quantile(s, 0.1),
                    weighted_quantile(s, np.exp(x - 0.5), np.exp(z - 0.5), alpha=0.1),
                    w.thresholds(z[:, None]),
                )
            ]
            + [w.effective_rows_]
        )
    m = np.array(rows)
    return {
        k: dict(mean=float(v.mean()), standard_error=float(v.std() / seeds**0.5))
        for k, v in zip(("frozen", "known", "learnt", "effective rows"), m.T)
    }


def rings(seed, shift):
    "Does the trigger ring on confidences that `shift` makes smaller?"
    reference = np.random.default_rng([seed, 0]).beta(8, 2, 1000)
    n = 600 if shift else 5000
    stream = np.random.default_rng([seed, 1]).beta(8 - shift, 2, n)
    return bool(LabelFreeTrigger().fit(reference).update(stream))


def triggers(seeds):
    quiet_share = np.mean([rings(k, 0.0) for k in range(seeds)])
    found_share = np.mean([rings(k, 1.0) for k in range(seeds)])
    return dict(quiet_5000=float(quiet_share), changed_600=float(found_share))


def agreement(n=3000):
    "Element by element with crepes, given the same random numbers"
    from crepes.martingales import (
        CompositeMartingale,
        EpsilonBettingFunction,
        SimpleJumper,
        semi_online_p_values,
    )

    bets = EpsilonBettingFunction([-1, 0, 1])
    s = np.random.default_rng(0).normal(size=n).round(2)
    theirs = semi_online_p_values(s, seed=5)
    np.random.seed(5)
    ours = ScoreBag().p_values(s, np.random.rand(n))
    w = [
        (evidence(ours, j).wealth, np.log(m.apply(theirs)))
        for j, m in (
            ((0.01,), SimpleJumper(0.01, bets)),
            (
                (0.1, 0.01),
                CompositeMartingale(
                    [SimpleJumper(0.1, bets), SimpleJumper(0.01, bets)]
                ),
            ),
        )
    ]
    return dict(
        p_values_equal=bool((ours == theirs).all()),
        largest_log_wealth_difference=float(max(np.abs(a - b).max() for a, b in w)),
    )


def speed(quick):
    from crepes.martingales import (
        EpsilonBettingFunction,
        SimpleJumper,
        semi_online_p_values,
    )

    n, m = (200_000, 4000) if quick else (1_000_000, 20_000)
    s = np.random.default_rng(0).normal(size=n)
    ties = (s > 1.5) * 1.0

    def batch(x, jumps=(0.01,)):
        return lambda: ConformalMartingale(jumps, seed=0).update(x)

    def singly():
        k = ConformalMartingale((0.01,), seed=0)
        for v in s[:5000]:
            k.update(v)

    contestants = {
        f"ours, {n} in one batch": batch(s),
        f"ours, {n} in one batch, composite of 6": batch(s, COMPOSITE),
        f"ours, {n} in one batch, two values only": batch(ties),
        f"ours, {m} in one batch": batch(s[:m]),
        "ours, 5000 one by one": singly,
        f"ours, risk monitor, {n // 5} in one batch": lambda: (
            RiskMonitor(0.02).fit(np.zeros(500)).update(ties[: n // 5])
        ),
        f"crepes, {m}": lambda: SimpleJumper(
            0.01, EpsilonBettingFunction([-1, 0, 1])
        ).apply(semi_online_p_values(s[:m], seed=0)),
    }
    steps = [n, n, n, m, 5000, n // 5, m]
    t = race(contestants, repeats=5)
    big = ConformalMartingale((0.01,), seed=0)
    big.update(s)
    start = time.perf_counter()
    text = json.dumps(big.to_dict())
    wrote = time.perf_counter() - start
    restore(json.loads(text))
    return dict(
        rows={
            k: dict(
                seconds=v["median"], times=v["times"], steps_per_second=x / v["median"]
            )
            for (k, v), x in zip(t.items(), steps)
        },
        state=dict(
            observations=n,
            megabytes=len(text) / 1e6,
            seconds_to_write=wrote,
            seconds_both_ways=time.perf_counter() - start,
        ),
    )


def changes(seeds, quick):
    "Delays after an error rate of 7% became 30%"
    return {
        f"{score}, after {before} quiet labels": delays(seeds, before, score)
        for score in ("error", "one minus p")
        for before in ((500, 2000) if quick else (500, 5000, 20_000))
    }


def acceptance(found):
    "What the library asks of itself"
    rules = (*RULES[:2], "risk monitor, tolerance .02")
    false_alarms = [
        shares[rule] for shares in found["quiet"].values() for rule in rules
    ]
    detected = [
        delay["detected_within_1500"]
        for name, by_rule in found["change_7_to_30"].items()
        if "after 500 " in name
        for delay in by_rule.values()
    ]
    distances = [
        found["steered"][name]["worst_distance"] for name in ("ACI .02", "ACI .05")
    ]
    batched = next(iter(found["speed"]["rows"].values()))
    return dict(
        null_false_alarms_at_most_007=max(false_alarms) <= 0.07,
        detection_at_least_095=min(detected) >= 0.95,
        aci_within_0015=max(distances) <= 0.015,
        batched_steps_per_second_at_least_200000=batched["steps_per_second"] >= 200_000,
    )


if __name__ == "__main__":
    quick = arguments().quick
    seeds = 40 if quick else 300
    found = dict(
        seeds=seeds,
        level=LEVEL,
        arl=ARL,
        agreement=agreement(),
        speed=speed(quick),
        quiet=quiet(seeds, 1500),
        quiet_long=quiet(seeds, 3000 if quick else 10_000),
        change_7_to_30=changes(seeds, quick),
        frozen=frozen(seeds),
        run_lengths=run_lengths(200_000 if quick else 2_000_000),
        steered=steered(seeds),
        covariate_shift=shifted(min(seeds, 100)),
        triggers=triggers(seeds),
    )
    found["acceptance"] = acceptance(found)
    save("drift", found)
