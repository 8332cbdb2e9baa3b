"""Speed of certificates beside MAPIE's controllers on the same arrays, and of what has no peer

MAPIE's `BinaryClassificationController` certifies a precision over thresholds: the same promise as abstention with a certified error rate over two classes. Its p-values for 0/1 losses are binomial
tails too, but n times the share of errors is rounded up and may come to one error more than there are; then it takes that tail, or Hoeffding's bound where that is smaller. So with its correction we certify the same thresholds or a few more, and in a fixed sequence more still. Its `MultiLabelClassificationController` is conformal risk control of the recall.
"""

import warnings

import common
import numpy as np

from fine_tune_llm.stats.bounds import (
    Nested,
    binomial_p_value,
    hoeffding_bentkus,
    risk_test,
)
from fine_tune_llm.stats.costs import CostMatrix, bayes_decide
from fine_tune_llm.stats.risk_control import ConformalRiskControl
from fine_tune_llm.stats.selection import threshold_grid
from fine_tune_llm.stats.selective_classifier import SelectiveClassifier

GRID = threshold_grid()


def two_classes(n):
    "Positive decisions of a calibrated model, and whether they were right"
    rng = np.random.default_rng(0)
    p1 = 1 - 0.5 * rng.beta(0.6, 3, n)
    return np.c_[1 - p1, p1], (rng.random(n) < p1).astype(int)


def mapie_precision(p, y, correction="bonferroni"):
    from mapie.risk_control import BinaryClassificationController

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BinaryClassificationController(
            lambda X: X,
            "precision",
            0.95,
            confidence_level=0.9,
            list_predict_params=GRID[GRID >= 0.5],
            fwer_method=correction,
        ).calibrate(p, y)


def ours(p, y, **how):
    return SelectiveClassifier(0.05, 0.1, grid=GRID[GRID >= 0.5], **how).fit(p, y)


def several_labels(n, K=20):
    rng = np.random.default_rng(1)
    p = rng.beta(0.4, 1.2, (n, K))
    true = rng.random((n, K)) < p
    true[np.arange(n), p.argmax(1)] = True
    return p, true


def mapie_recall(p, true):
    from mapie.risk_control import MultiLabelClassificationController

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MultiLabelClassificationController(
            lambda X: X, risk="recall", method="crc", target_level=0.9
        ).calibrate(p, true.astype(int))


def contestants(case, quick):
    "Name -> function, of one case"
    if case == "precision over 280 thresholds":
        p, y = two_classes(10_000 if quick else 100_000)
        return {
            "fine_tune_llm, Bonferroni": lambda: ours(p, y, correction="bonferroni"),
            "fine_tune_llm, fixed sequence": lambda: ours(p, y),
            "mapie, Bonferroni": lambda: mapie_precision(p, y),
        }
    if case == "recall of sets, 20 labels":
        p, true = several_labels(1000 if quick else 10_000)
        return {
            "fine_tune_llm": lambda: ConformalRiskControl(0.1).fit(p, true),
            "mapie": lambda: mapie_recall(p, true),
        }
    rng = np.random.default_rng(2)
    n = 10_000 if quick else 100_000
    if case == "betting over 280 thresholds":
        loss = rng.choice([0.0, 0.02, 0.1, 1.0], n, p=[0.9, 0.06, 0.03, 0.01])
        z = Nested(loss, np.searchsorted(-GRID, -rng.beta(6, 1, n)), len(GRID))
        wsr = risk_test("wsr", loss, 0)[1]
        return {"fine_tune_llm": lambda: wsr(z, 0.03)}
    x = rng.normal(scale=3, size=(n, 77))
    x = np.exp(x - x.max(1, keepdims=True))
    x = (x / x.sum(1, keepdims=True)).astype(np.float32)
    c = CostMatrix.from_harms(range(77), miss=rng.integers(1, 20, 77), false_alarm=0.5)
    return {
        "fine_tune_llm": lambda: bayes_decide(x, c),
        "numpy: probs @ cost, argmin": lambda: (x @ c.cost).argmin(1),
    }


CASES = {
    "precision over 280 thresholds": 100_000,
    "recall of sets, 20 labels": 10_000,
    "betting over 280 thresholds": 100_000,
    "Bayes decisions, K=77": 100_000,
}  # rows; a tenth when quick


def agreement(quick):
    "The same thresholds certified, with the same p-values; what the fixed sequence keeps beyond; the same Hoeffding-Bentkus values; the same recall threshold within MAPIE's grid of .01"
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
    from scipy.special import rel_entr

    p, y = two_classes(2000 if quick else 20_000)
    g = GRID[GRID >= 0.5]
    m, s = mapie_precision(p, y), ours(p, y, correction="bonferroni")
    z = Nested(1.0 - y, np.searchsorted(-g, -p[:, 1]), len(g))
    rows, wrong = z.totals()
    use = rows > 0
    exact = binomial_p_value(wrong, rows, 0.05)[use]
    one_more = binomial_p_value(np.minimum(wrong + 1, rows), rows, 0.05)[use]
    hoeffding = np.exp(
        -rows
        * (
            rel_entr(q := np.minimum(wrong / np.maximum(rows, 1), 0.05), 0.05)
            + rel_entr(1 - q, 0.95)
        )
    )[use]
    theirs_p = np.ravel(m.p_values)[use]
    like = lambda x: np.abs(theirs_p - x) < 1e-9
    equal, more, hoeff = (
        like(exact),
        like(one_more),
        like(np.minimum(hoeffding, one_more)),
    )
    mean = np.linspace(0.0013, 0.0987, 50)
    hb = hoeffding_bentkus(mean * 1000, 1000, 0.1)
    theirs = compute_hoeffding_bentkus_p_value(mean, 1000, 0.1).ravel()
    q, true = several_labels(1000)
    return dict(
        lowest_threshold=dict(
            ours=s.threshold_, mapie=float(np.min(m.valid_predict_params))
        ),
        p_values=dict(
            equal=int(equal.sum()),
            mapie_counts_one_error_more=int((more & ~equal).sum()),
            mapie_takes_hoeffding_instead=int((hoeff & ~more & ~equal).sum()),
            unexplained=int((~(equal | more | hoeff)).sum()),
            of=int(use.sum()),
        ),
        decided=dict(
            bonferroni=s.certificate_.selective_coverage,
            fixed_sequence=ours(p, y).certificate_.selective_coverage,
        ),
        hoeffding_bentkus_largest_difference=float(np.abs(hb - theirs).max()),
        recall_threshold=dict(
            ours=ConformalRiskControl(0.1).fit(q, true).threshold_,
            mapie=float(np.ravel(mapie_recall(q, true).best_predict_param)[0]),
        ),
    )


def main():
    a = common.arguments()
    if a.memory:
        contestants(a.memory[0], a.quick)[a.memory[1]]()
        print(common.peak())
        return
    memory = {
        c: {k: common.peak_mb(__file__, c, k, a.quick) for k in contestants(c, True)}
        for c in CASES
    }  # first: a child's peak starts at its parent's
    out = {c: common.race(contestants(c, a.quick), repeats=5) for c in CASES}
    common.save(
        "risk" + ("_quick" if a.quick else ""),
        dict(
            agreement=agreement(a.quick),
            rows={c: n // (10 if a.quick else 1) for c, n in CASES.items()},
            memory_mb=memory,
            cases=out,
        ),
    )


if __name__ == "__main__":
    main()
