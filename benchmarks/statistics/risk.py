"""Speed of certificates beside MAPIE's controllers, and of what has no peer

On the same arrays. MAPIE's `BinaryClassificationController` certifies a precision over
thresholds: the same promise as abstention with a certified error rate over two classes.
Its p-values for 0/1 losses are binomial tails too, but n times the share of errors is
rounded up and may come to one error more than there are; then it takes that tail, or
Hoeffding's bound where that is smaller. So with its correction we certify the same
thresholds or a few more, and in a fixed sequence more still. Its
`MultiLabelClassificationController` is conformal risk control of the recall.
"""

import warnings

import common
import numpy as np

from fine_tune_llm.stats import (
    ConformalRiskControl,
    CostMatrix,
    Nested,
    SelectiveClassifier,
    bayes_decide,
    binomial_p_value,
    hoeffding_bentkus,
    risk_test,
    threshold_grid,
)

GRID = threshold_grid()
UPPER_GRID = GRID[GRID >= 0.5]

# Rows of each case; a tenth when quick
CASES = {
    "precision over 280 thresholds": 100_000,
    "recall of sets, 20 labels": 10_000,
    "betting over 280 thresholds": 100_000,
    "Bayes decisions, K=77": 100_000,
}


def two_classes(n):
    "Positive decisions of a calibrated model, and whether they were right"
    rng = np.random.default_rng(0)
    positive = 1 - 0.5 * rng.beta(0.6, 3, n)
    probs = np.column_stack([1 - positive, positive])
    return probs, (rng.random(n) < positive).astype(int)


def several_labels(n, n_labels=20):
    "Probabilities of labels, and which are true: at least one a row"
    rng = np.random.default_rng(1)
    probs = rng.beta(0.4, 1.2, (n, n_labels))
    truth = rng.random((n, n_labels)) < probs
    truth[np.arange(n), probs.argmax(1)] = True
    return probs, truth


def our_precision(probs, labels, correction="fixed"):
    classifier = SelectiveClassifier(0.05, 0.1, grid=UPPER_GRID, correction=correction)
    return classifier.fit(probs, labels)


def mapie_precision(probs, labels):
    from mapie.risk_control import BinaryClassificationController

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BinaryClassificationController(
            lambda rows: rows,
            "precision",
            0.95,
            confidence_level=0.9,
            list_predict_params=UPPER_GRID,
            fwer_method="bonferroni",
        ).calibrate(probs, labels)


def mapie_recall(probs, truth):
    from mapie.risk_control import MultiLabelClassificationController

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MultiLabelClassificationController(
            lambda rows: rows, risk="recall", method="crc", target_level=0.9
        ).calibrate(probs, truth.astype(int))


def precision_contestants(n):
    probs, labels = two_classes(n)
    return {
        "fine_tune_llm, Bonferroni": lambda: our_precision(probs, labels, "bonferroni"),
        "fine_tune_llm, fixed sequence": lambda: our_precision(probs, labels),
        "mapie, Bonferroni": lambda: mapie_precision(probs, labels),
    }


def recall_contestants(n):
    probs, truth = several_labels(n)
    return {
        "fine_tune_llm": lambda: ConformalRiskControl(0.1).fit(probs, truth),
        "mapie": lambda: mapie_recall(probs, truth),
    }


def betting_contestants(n):
    rng = np.random.default_rng(2)
    loss = rng.choice([0.0, 0.02, 0.1, 1.0], n, p=[0.9, 0.06, 0.03, 0.01])
    enter = np.searchsorted(-GRID, -rng.beta(6, 1, n))
    nested = Nested(loss, enter, len(GRID))
    _, betting = risk_test("wsr", loss, 0)
    return {"fine_tune_llm": lambda: betting(nested, 0.03)}


def bayes_contestants(n):
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=3, size=(n, 77))
    weights = np.exp(logits - logits.max(1, keepdims=True))
    probs = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    cost = CostMatrix.from_harms(
        range(77), miss=rng.integers(1, 20, 77), false_alarm=0.5
    )
    return {
        "fine_tune_llm": lambda: bayes_decide(probs, cost),
        "numpy: probs @ cost, argmin": lambda: (probs @ cost.cost).argmin(1),
    }


CONTESTANTS = {
    "precision over 280 thresholds": precision_contestants,
    "recall of sets, 20 labels": recall_contestants,
    "betting over 280 thresholds": betting_contestants,
    "Bayes decisions, K=77": bayes_contestants,
}


def contestants(case, quick):
    "Name -> function, of one case"
    n = CASES[case] // (10 if quick else 1)
    return CONTESTANTS[case](n)


def compare_p_values(controller, probs, labels):
    "How many of MAPIE's p-values are ours, or differ for a reason that is known"
    enter = np.searchsorted(-UPPER_GRID, -probs[:, 1])
    rows, wrong = Nested(1.0 - labels, enter, len(UPPER_GRID)).totals()
    used = rows > 0
    theirs = np.ravel(controller.p_values)[used]
    exact = binomial_p_value(wrong, rows, 0.05)[used]
    one_more = binomial_p_value(np.minimum(wrong + 1, rows), rows, 0.05)[used]
    smaller = np.minimum(hoeffding(wrong, rows)[used], one_more)
    equal = np.abs(theirs - exact) < 1e-9
    counts_more = np.abs(theirs - one_more) < 1e-9
    takes_hoeffding = np.abs(theirs - smaller) < 1e-9
    return {
        "equal": int(equal.sum()),
        "mapie_counts_one_error_more": int((counts_more & ~equal).sum()),
        "mapie_takes_hoeffding_instead": int(
            (takes_hoeffding & ~counts_more & ~equal).sum()
        ),
        "unexplained": int((~(equal | counts_more | takes_hoeffding)).sum()),
        "of": int(used.sum()),
    }


def hoeffding(wrong, rows, risk=0.05):
    "Hoeffding's bound on the p-value against a risk, in its relative-entropy form"
    from scipy.special import rel_entr

    share = np.minimum(wrong / np.maximum(rows, 1), risk)
    distance = rel_entr(share, risk) + rel_entr(1 - share, 1 - risk)
    return np.exp(-rows * distance)


def largest_bentkus_difference():
    "Between our Hoeffding-Bentkus p-values and MAPIE's, over 50 means"
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

    mean = np.linspace(0.0013, 0.0987, 50)
    ours = hoeffding_bentkus(mean * 1000, 1000, 0.1)
    theirs = compute_hoeffding_bentkus_p_value(mean, 1000, 0.1).ravel()
    return float(np.abs(ours - theirs).max())


def agreement(quick):
    """The same thresholds, p-values and recall threshold as MAPIE

    And what the fixed sequence keeps beyond. The recall threshold is the same within
    MAPIE's grid of .01.
    """
    probs, labels = two_classes(2000 if quick else 20_000)
    controller = mapie_precision(probs, labels)
    bonferroni = our_precision(probs, labels, "bonferroni")
    fixed = our_precision(probs, labels)
    several, truth = several_labels(1000)
    recall = np.ravel(mapie_recall(several, truth).best_predict_param)[0]
    return {
        "lowest_threshold": {
            "ours": bonferroni.threshold_,
            "mapie": float(np.min(controller.valid_predict_params)),
        },
        "p_values": compare_p_values(controller, probs, labels),
        "decided": {
            "bonferroni": bonferroni.certificate_.selective_coverage,
            "fixed_sequence": fixed.certificate_.selective_coverage,
        },
        "hoeffding_bentkus_largest_difference": largest_bentkus_difference(),
        "recall_threshold": {
            "ours": ConformalRiskControl(0.1).fit(several, truth).threshold_,
            "mapie": float(recall),
        },
    }


def main():
    arguments = common.arguments()
    quick = arguments.quick
    if arguments.memory:
        case, name = arguments.memory
        contestants(case, quick)[name]()
        print(common.peak())
        return
    memory = {}  # before anything else: a child's peak starts at its parent's
    for case in CASES:
        names = contestants(case, True)
        memory[case] = {
            name: common.peak_mb(__file__, case, name, quick) for name in names
        }
    races = {case: common.race(contestants(case, quick), repeats=5) for case in CASES}
    rows = {case: n // (10 if quick else 1) for case, n in CASES.items()}
    common.save(
        "risk" + ("_quick" if quick else ""),
        {
            "agreement": agreement(quick),
            "rows": rows,
            "memory_mb": memory,
            "cases": races,
        },
    )


if __name__ == "__main__":
    main()
