"Intervals where they are hard: few rows, few errors, no variation, weights, clusters"

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.special import expit
from scipy.stats import binom

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats import (
    METRICS,
    interval,
    ks_test,
    kuiper_test,
    softmax,
    spiegelhalter_test,
    summary,
)
from fine_tune_llm.stats.error_intervals import gaps_of_classes, gaps_of_confidence
from fine_tune_llm.stats.metrics import confusion
from fine_tune_llm.stats.uncertainty import auprc, auroc
from fine_tune_llm.testing import synthetic_problem

LEVEL = 0.9


def said(decided, n_classes, conf=0.9):
    rest = (1 - conf) / (n_classes - 1)
    probs = np.full((len(decided), n_classes), rest)
    probs[np.arange(len(decided)), decided] = conf
    return probs


def zipf(n_classes, n=100_000):
    "Classes of falling frequency, the rare ones decided worse"
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, n_classes + 1)
    labels, other = rng.choice(n_classes, (2, n), p=share / share.sum())
    right = rng.random(n) < 0.95 - 0.5 * labels / n_classes
    return said(np.where(right, labels, other), n_classes), labels


def sure_and_right(apart, share_wrong, n=100_000):
    rng = np.random.default_rng(0)
    wrong = rng.random(n) < share_wrong
    conf = 0.5 + expit(rng.normal(np.where(wrong, 0.0, apart), 1)) / 2
    return np.c_[conf, 1 - conf], wrong.astype(int)


def two_classes(confs, accuracies, n=4000):
    rows = [np.tile([c, 1 - c], (n, 1)) for c in confs]
    labels = [(np.arange(n) >= round(a * n)).astype(int) for a in accuracies]
    return np.concatenate(rows), np.concatenate(labels)


def share_held(metric, rows, n, samples):
    "How often the 90% interval of a sample holds the number of the population"
    probs, labels = rows
    truth, rng, held = METRICS.create(metric)(probs, labels), None, 0
    rng = np.random.default_rng(10)
    for seed in range(samples):
        pick = rng.integers(len(labels), size=n)
        found = interval(
            metric,
            probs[pick],
            labels[pick],
            level=LEVEL,
            seed=seed,
            n_resamples=100,
        )
        held += found.low - 1e-9 <= truth <= found.high + 1e-9
    return held / samples


def least(samples):
    "4 sigma below the level"
    return LEVEL - 4 * (LEVEL * (1 - LEVEL) / samples) ** 0.5


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy"])
@pytest.mark.parametrize("n_classes, n", [(50, 250), (50, 1000), (20, 100), (3, 60)])
def test_means_over_classes_with_few_rows_or_none(metric, n_classes, n):
    "The bootstrap held in .60 of samples of 250 rows of 50 classes"
    assert share_held(metric, zipf(n_classes), n, 300) >= least(300)


@pytest.mark.parametrize("apart, share, n", [(2.9, 0.06, 250), (2.0, 0.06, 250)])
def test_auroc_near_one(apart, share, n):
    "DeLong's held in .79"
    rows = sure_and_right(apart, share)
    assert share_held("confidence_auroc", rows, n, 400) >= least(400)


@pytest.mark.parametrize("metric", ["aurc", "e_aurc", "auarc"])
def test_areas_where_errors_are_few(metric):
    for apart, share in ((1.0, 0.06), (2.0, 0.06)):
        assert share_held(metric, sure_and_right(apart, share), 250, 300) >= least(300)


FIVE = (0.55, 0.65, 0.75, 0.85, 0.95)


@pytest.mark.parametrize("metric", ["overconfidence", "underconfidence"])
@pytest.mark.parametrize(
    "confs, accuracies",
    [
        ((0.95,), (0.94,)),
        ((0.95,), (0.96,)),
        ((0.97, 0.99), (0.96, 0.97)),
        ((0.9, 0.95), (0.93, 0.96)),
        (FIVE, tuple(c - 0.02 for c in FIVE)),
    ],
)
def test_one_side_of_the_error(metric, confs, accuracies):
    "One bin, .01 over: [0, 0] where it looked under, and held in .73"
    rows = two_classes(confs, accuracies)
    assert share_held(metric, rows, 250, 100) >= least(100)


TEN = tuple(np.arange(0.525, 1, 0.05))
NINE = TEN[:-1]
GAPS = {
    "calibrated": (FIVE, FIVE),
    "over": (FIVE, (0.55, 0.62, 0.7, 0.75, 0.8)),
    "one bin of ten": (TEN, tuple(c - 0.25 * (c == TEN[5]) for c in TEN)),
    "in turns": (NINE, tuple(c + 0.06 * (-1) ** i for i, c in enumerate(NINE))),
    "two sure bins": ((0.9, 0.95), (0.93, 0.96)),
}


@pytest.mark.parametrize("n", [60, 1000])
@pytest.mark.parametrize("kind", list(GAPS))
def test_calibration_errors_wherever_the_gaps_are(kind, n):
    """At 90%, `ace` held in .74 of samples and `classwise_ece` in .77: one bin of ten

    `ece` held in .80, `mce` in .84, `ece_debiased` in .85.
    """
    rows = two_classes(*GAPS[kind])
    for metric in ("ece", "classwise_ece", "ace", "ece_debiased", "mce"):
        assert share_held(metric, rows, n, 150) >= least(150), metric


def exact_share_held(metric, n, conf, wrong):
    "How often the 90% interval holds, summed over the binomial law of the errors"
    probs = np.tile([conf, 1 - conf], (n, 1))
    chances = binom.pmf(np.arange(n + 1), n, wrong)
    held = 0.0
    for n_wrong in np.flatnonzero(chances > 1e-5):
        labels = (np.arange(n) < n_wrong).astype(int)
        found = interval(metric, probs, labels, level=LEVEL, seed=0)
        held += chances[n_wrong] * (found.low - 1e-9 <= conf - 1 + wrong <= found.high)
    return held


@pytest.mark.parametrize(
    "n, conf, wrong",
    [(60, 0.999, 0.05), (120, 0.999, 0.03), (500, 0.999, 0.005), (120, 0.97, 0.08)],
)
def test_calibration_errors_where_errors_are_few(n, conf, wrong):
    "By a normal law `ece` held in .80, .87, .78 and .82; `ece_debiased` in .85"
    for metric in ("ece", "classwise_ece", "ace", "ece_debiased"):
        # of a lattice no interval holds in exactly 90% wherever the truth is
        assert exact_share_held(metric, n, conf, wrong) >= 0.88, metric


@pytest.mark.parametrize("n_classes, temperature", [(4, 1.0), (4, 2.0), (20, 2.0)])
def test_sums_of_gaps_of_more_classes(n_classes, temperature):
    problem = synthetic_problem(50_000, n_classes, temperature, seed=0)
    rows = softmax(problem.logits), problem.labels
    for metric in ("classwise_ece", "ace"):
        assert share_held(metric, rows, 250, 60) >= least(60), metric


def test_the_bias_of_a_sum_of_gaps_is_within_its_bound():
    "Mean of 400 samples of a calibrated model, 4 sigma; and nearly all of it is bias"
    problem = synthetic_problem(400 * 200, 4, temperature=1.0, seed=0)
    probs, labels = softmax(problem.logits), problem.labels
    for gaps_of in (gaps_of_confidence, gaps_of_classes):
        found = [
            gaps_of(probs[i : i + 200], labels[i : i + 200])
            for i in range(0, 400 * 200, 200)
        ]
        values, bounds = (
            np.array([getattr(one, name) for one in found])
            for name in ("value", "bias")
        )
        off = 4 * (values - bounds).std() / 400**0.5
        assert 0.9 * bounds.mean() - off < values.mean() < bounds.mean() + off


def test_the_deviation_is_no_smaller_than_that_of_the_samples():
    "Of two classes (the same twice) and of four; by the slopes of the rows"
    for n_classes, temperature in ((2, 1.0), (2, 3.0), (4, 1.0), (4, 3.0)):
        problem = synthetic_problem(300 * 200, n_classes, temperature, seed=1)
        probs, labels = softmax(problem.logits), problem.labels
        found = [
            gaps_of_classes(probs[i : i + 200], labels[i : i + 200]).bounded
            for i in range(0, 300 * 200, 200)
        ]
        spread = np.std([one.value for one in found])
        said = np.mean([one.sd for one in found])
        assert said > spread * (1 - 4 / 600**0.5), (n_classes, temperature)


def alike(kind, n):
    "Rows of which nothing, or nearly nothing, varies"
    rng = np.random.default_rng(3)
    conf = rng.uniform(0.5, 1, n)
    some = np.c_[conf, 1 - conf]
    return {
        "all right and sure": (np.tile([1.0, 0.0], (n, 1)), np.zeros(n, int)),
        "all wrong and sure": (np.tile([1.0, 0.0], (n, 1)), np.ones(n, int)),
        "all right": (some, np.zeros(n, int)),
        "all wrong": (some, np.ones(n, int)),
        "undecided": (np.full((n, 2), 0.5), np.arange(n) % 2),
        "one class of five": (said(np.zeros(n, int), 5), np.zeros(n, int)),
        "none of five": (said(np.zeros(n, int), 5), np.full(n, 4)),
    }[kind]


@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize(
    "kind",
    [
        "all right and sure",
        "all wrong and sure",
        "all right",
        "all wrong",
        "undecided",
        "one class of five",
        "none of five",
    ],
)
def test_no_interval_is_a_point(kind, n):
    "Rows that are all alike prove nothing about those that were not seen"
    probs, labels = alike(kind, n)
    for name in METRICS:
        found = interval(name, probs, labels, seed=0, n_resamples=100)
        width = found.high - found.low
        # what the five best classes hold, or half of two, is all there is
        if name == "top_k_accuracy":
            continue
        assert np.isnan(found.value) or width > 0.5 / n, (name, str(found))


def test_all_wrong_holds_as_often_as_it_says():
    "20 rows at .9 that are right 5 in 100: summed over the number of right rows"
    probs = np.tile([0.9, 0.1], (1000, 1))
    for name in ("ece", "overconfidence", "ks_error", "brier", "smooth_ece"):
        truth = METRICS.create(name)(probs, (np.arange(1000) >= 50).astype(int))
        held = []
        for k in range(6):
            labels = (np.arange(20) >= k).astype(int)
            held.append(truth in interval(name, probs[:20], labels, seed=0))
        chance = binom.pmf(np.arange(6), 20, 0.05)
        assert chance @ held >= 0.93, (name, held)


@pytest.mark.parametrize("conf, n", [(0.999, 5000), (0.99, 520), (0.99, 2000)])
def test_level_of_calibration_tests_where_all_rows_are_equally_sure(conf, n):
    "Spiegelhalter's z refused .14 at .1; summed over the law of the wrong rows"
    wrong = np.arange(round(n * (1 - conf) * 3) + 10)
    chance = binom.pmf(wrong, n, 1 - conf)
    probs = np.tile([conf, 1 - conf], (n, 1))
    for test in (ks_test, kuiper_test, spiegelhalter_test):
        p = np.array([test(probs, np.arange(n) < k).p_value for k in wrong])
        for level in (0.1, 0.05, 0.01):
            # an atom of the law whose p is at the level is drawn on either side
            assert chance @ (p <= level) <= level * 1.1 + 0.002, test.__name__


PROBLEM = synthetic_problem(400, 4, temperature=1.5, seed=2)
PROBS, LABELS = softmax(PROBLEM.logits), PROBLEM.labels
WHOLE = np.random.default_rng(0).integers(1, 4, 400)
BY_RANK = ("aurc", "e_aurc", "auarc", "selective_risk_at")


@pytest.mark.parametrize("name", list(METRICS))
def test_equal_weights_are_no_weights(name):
    metric = METRICS.create(name)
    for same in (np.ones(400), np.full(400, 7), np.full(400, 1e-300)):
        assert metric(PROBS, LABELS, weights=same) == metric(PROBS, LABELS)


@pytest.mark.parametrize("name", list(METRICS))
def test_whole_weights_are_repeated_rows(name):
    """To rounding; areas are means over ranks and `ece_debiased` counts observations

    Those two know that a repeated row is no further row: they agree to 1/n.
    """
    metric = METRICS.create(name)
    repeated = metric(np.repeat(PROBS, WHOLE, axis=0), np.repeat(LABELS, WHOLE))
    weighted = metric(PROBS, LABELS, weights=WHOLE)
    close = 1e-9 if name not in (*BY_RANK, "ece_debiased") else 0.02
    assert weighted == pytest.approx(repeated, abs=close)
    scaled = metric(PROBS, LABELS, weights=WHOLE * 0.37)
    assert weighted == pytest.approx(scaled, abs=1e-9)


def test_a_row_of_weight_zero_is_not_there():
    weights = (np.arange(400) < 300) * 1.0
    for name in METRICS:
        metric = METRICS.create(name)
        found = metric(PROBS, LABELS, weights=weights)
        assert found == pytest.approx(metric(PROBS[:300], LABELS[:300]), abs=5e-3), name


def test_weights_beside_scikit_learn():
    weights = np.random.default_rng(1).exponential(size=400)
    decided = PROBS.argmax(1)
    table = sk.confusion_matrix(LABELS, decided, sample_weight=weights)
    ours = confusion(PROBS, LABELS, weights=weights)
    np.testing.assert_allclose(ours * weights.mean(), table, rtol=1e-9)
    found = summary(
        PROBS,
        LABELS,
        names=("accuracy", "balanced_accuracy", "macro_f1", "nll"),
        weights=weights,
    )
    theirs = {
        "accuracy": sk.accuracy_score(LABELS, decided, sample_weight=weights),
        "balanced_accuracy": sk.balanced_accuracy_score(
            LABELS, decided, sample_weight=weights
        ),
        "macro_f1": sk.f1_score(
            LABELS, decided, average="macro", sample_weight=weights
        ),
        "nll": sk.log_loss(LABELS, PROBS, sample_weight=weights),
    }
    assert found == pytest.approx(theirs, abs=1e-9)
    conf, right = PROBS.max(1), decided == LABELS
    by_metric = METRICS.create("confidence_auroc")(PROBS, LABELS, weights=weights)
    theirs = sk.roc_auc_score(right, conf, sample_weight=weights)
    assert by_metric == pytest.approx(theirs, abs=1e-9)
    assert auroc(conf, right, weights=weights) == pytest.approx(theirs, abs=1e-9)
    theirs = sk.average_precision_score(right, conf, sample_weight=weights)
    assert auprc(conf, right, weights=weights) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    "weights, words",
    [
        (np.ones(3), "must have shape"),
        (-np.ones(400), "row 0 has -1.0"),
        (np.full(400, np.nan), "must be finite"),
        (np.zeros(400), "are all 0"),
        (["a"] * 400, "`weights`"),
    ],
)
def test_weights_that_are_none(weights, words):
    with pytest.raises((PredictionError, ConfigurationError), match=words):
        METRICS.create("accuracy")(PROBS, LABELS, weights=weights)


def people(n_people=3000, each=8, seed=0):
    "Texts of one person are hard or easy together, and the model knows a part of it"
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(n_people), each)
    own = rng.normal(size=n_people)[person]
    conf = 0.5 + expit(1.2 - 0.8 * own - 0.6 * rng.normal(size=len(person))) / 2
    labels = (rng.random(len(conf)) > conf - 0.05 - 0.2 * own).astype(int)
    return np.c_[conf, 1 - conf], labels


@pytest.mark.parametrize("metric", ["nll", "brier", "aurc", "confidence_auroc"])
def test_clusters_hold_where_independent_rows_do_not(metric):
    "50 people with 8 texts each; 100 samples, less 4 sigma"
    probs, labels = people()
    truth, rng = METRICS.create(metric)(probs, labels), np.random.default_rng(5)
    held, widths = 0, []
    for seed in range(100):
        drawn = rng.integers(3000, size=50)
        rows = (drawn[:, None] * 8 + np.arange(8)).ravel()
        found, naive = (
            interval(
                metric,
                probs[rows],
                labels[rows],
                level=LEVEL,
                seed=seed,
                n_resamples=100,
                cluster=cluster,
            )
            for cluster in (np.repeat(np.arange(50), 8), None)
        )
        held += truth in found
        widths.append((found.high - found.low) / (naive.high - naive.low))
    assert held / 100 >= least(100)
    assert metric == "confidence_auroc" or np.mean(widths) > 1.2


def test_weighted_intervals_hold():
    "Sure rows are drawn more often and weighted back: 150 samples, less 4 sigma"
    probs, labels = people(20_000, 1)
    chance = 0.2 + (probs[:, 0] - 0.5) * 3
    rng = np.random.default_rng(6)
    picks = [rng.choice(20_000, 300, p=chance / chance.sum()) for _ in range(150)]
    for metric in ("accuracy", "nll", "aurc"):
        truth = METRICS.create(metric)(probs, labels)
        held = [
            truth
            in interval(
                metric,
                probs[pick],
                labels[pick],
                level=LEVEL,
                seed=i,
                n_resamples=100,
                weights=1 / chance[pick],
            )
            for i, pick in enumerate(picks)
        ]
        assert np.mean(held) >= least(150), metric


def test_what_has_no_method_says_why():
    person = np.arange(400) // 4
    for name in ("ece", "mce", "overconfidence", "ace", "ks_error", "smooth_ece"):
        found = interval(name, PROBS, LABELS, seed=0, cluster=person)
        assert found.method.startswith("not evaluated: biased upwards")
        assert (found.low, found.high) == (0, 1)
    few = interval("macro_f1", PROBS, LABELS, seed=0, cluster=np.arange(400) // 100)
    assert "5 are needed" in few.method
    one = interval("accuracy", PROBS, LABELS, seed=0, cluster=["ann"] * 400)
    assert one.high - one.low > 0.8  # one person says next to nothing


def test_a_metric_of_ones_own_by_cluster():
    def surest(probs, labels):
        return float(probs.max(1).mean())

    person = np.repeat(np.arange(40), 10)
    found = interval(surest, PROBS, LABELS, seed=0, cluster=person)
    assert found.method == "bootstrap of units" and found.low < found.value < found.high
    with pytest.raises(ConfigurationError, match="takes no weights"):
        interval(surest, PROBS, LABELS, seed=0, weights=WHOLE)
