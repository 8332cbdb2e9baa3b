"Two models on the same rows: intervals hold, and tests agree with them"

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats import METRICS, CostMatrix, compare, compare_rows, softmax
from fine_tune_llm.testing import synthetic_problem

LEVEL = 0.9
COST = np.array([[0, 1, 1, 5], [1, 0, 1, 1], [1, 1, 0, 1], [2, 1, 1, 0]], float)


def two_models(noise=(0.3, 1.0), sharp=(0.92, 0.9), spread=4.0, n=30_000):
    "Two models that are wrong together"
    problem = synthetic_problem(n, 4, seed=0, spread=spread)
    rng = np.random.default_rng(1)
    shared = rng.normal(size=problem.logits.shape)
    probs = [
        softmax(sharp[i] * (problem.logits + noise[i] * (shared + own)))
        for i, own in enumerate(rng.normal(size=(2, *shared.shape)))
    ]
    return *probs, problem.labels


CASES = {"one better": two_models(), "alike": two_models((0.5, 0.5), (0.9, 0.9))}
ERRORS = {
    "one under, one over": two_models((0.3, 0.3), (0.5, 1.6), 2.0),
    "calibrated, over": two_models((0.3, 0.3), (0.92, 1.8), 2.0),
    "alike, over": two_models((0.3, 0.3), (1.8, 1.8), 2.0),
}


def true_gap(metric, first, second, labels):
    if metric != "cost":
        value = METRICS.create(metric)
        return value(first, labels) - value(second, labels)
    means = [COST[labels, (p @ COST).argmin(1)].mean() for p in (first, second)]
    return means[0] - means[1]


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize(
    "metric, samples",
    [
        ("accuracy", 400),
        ("nll", 400),
        ("brier", 400),
        ("cost", 400),
        ("aurc", 300),
        ("e_aurc", 200),
        ("confidence_auroc", 300),
        ("ece", 60),
    ],
)
def test_intervals_hold_and_agree_with_their_test(metric, samples, case):
    "250 rows at 90%, less 4 sigma"
    first, second, labels = CASES[case]
    truth, rng, held = true_gap(metric, first, second, labels), None, 0
    rng = np.random.default_rng(2)
    for seed in range(samples):
        rows = rng.integers(len(labels), size=250)
        found = compare(
            first[rows],
            second[rows],
            labels[rows],
            metric=metric,
            cost=COST if metric == "cost" else None,
            level=LEVEL,
            seed=seed,
            n_resamples=100,
        )
        held += found.low <= truth <= found.high
        assert (found.p_value > 1 - LEVEL) == (found.low <= 0 <= found.high)
    assert held / samples >= LEVEL - 4 * (0.09 / samples) ** 0.5


@pytest.mark.parametrize(
    "metric, n", [("ece", 250), ("ece", 1000), ("classwise_ece", 250), ("ace", 250)]
)
@pytest.mark.parametrize("case", list(ERRORS))
def test_calibration_errors_of_two_models(case, metric, n):
    "One says too little, one too much: as if independent, .77 held where .9 was said"
    truth, rng, held = true_gap(metric, *ERRORS[case]), np.random.default_rng(2), 0
    for seed in range(200):
        rows = rng.integers(30_000, size=n)
        sample = (part[rows] for part in ERRORS[case])
        found = compare(*sample, metric=metric, level=LEVEL, seed=seed)
        assert (found.p_value > 1 - LEVEL) == (found.low <= 0 <= found.high)
        held += found.low <= truth <= found.high
    assert held / 200 >= LEVEL - 4 * (0.09 / 200) ** 0.5


def sure_pair(n, confs, wrong, rng):
    "Two models of two classes, right or wrong on their own"
    labels = rng.integers(2, size=n)
    for conf, share in zip(confs, wrong):
        decided = np.where(rng.random(n) < share, 1 - labels, labels)
        probs = np.full((n, 2), 1 - conf)
        probs[np.arange(n), decided] = conf
        yield probs
    yield labels


def test_calibration_errors_of_two_models_with_few_errors():
    "By a normal law, .82 held where .9 was said"
    rng, held = np.random.default_rng(3), 0
    for _ in range(300):
        sample = sure_pair(500, (0.999, 0.97), (0.01, 0.01), rng)
        found = compare(*sample, metric="ece", level=LEVEL, seed=0)
        held += found.low - 1e-9 <= 0.009 - 0.02 <= found.high + 1e-9
    assert held / 300 >= LEVEL - 3 * (0.09 / 300) ** 0.5


def test_a_difference_of_calibration_errors_stays_below_one():
    "The ends were -1.03 and 1.83"
    labels = np.zeros(5, int)
    first, second = np.eye(2)[[1] * 5], np.eye(2)[[0, 0, 0, 1, 1]]
    found = compare(first, second, labels, metric="ece", seed=0)
    assert -1 <= found.low <= found.difference <= found.high <= 1


def test_pairs_tell_more_than_two_intervals():
    first, second, labels = (rows[:1000] for rows in CASES["one better"])
    found = compare(first, second, labels, metric="brier", seed=0)
    shuffled = np.random.default_rng(0).permutation(1000)
    apart = [
        np.var(((p - np.eye(4)[y]) ** 2).sum(1)) / 1000
        for p, y in ((first, labels), (second[shuffled], labels[shuffled]))
    ]
    assert found.high - found.low < 0.9 * 2 * 1.96 * sum(apart) ** 0.5


def test_accuracy_beside_exact_mcnemar():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.random((2, 200)) < 0.8
        found = compare_rows(first, second, name="accuracy", seed=0)
        more, less = int((first & ~second).sum()), int((second & ~first).sum())
        exact = binomtest(more, more + less).pvalue
        assert found.p_value <= exact + 1e-12 and exact - found.p_value < 0.3
        assert found.difference == pytest.approx((more - less) / 200)


def test_clusters_widen_what_people_share():
    "Each text written ten times: as exact as once"
    first, second, labels = (rows[:100] for rows in CASES["one better"])
    again = np.repeat(np.arange(100), 10)
    for metric in ("accuracy", "nll", "brier", "aurc"):
        once, many, naive = (
            compare(*rows, metric=metric, seed=0, cluster=cluster)
            for rows, cluster in (
                ((first, second, labels), np.arange(100)),
                ((first[again], second[again], labels[again]), again),
                ((first[again], second[again], labels[again]), None),
            )
        )
        width = many.high - many.low
        assert width == pytest.approx(once.high - once.low, rel=0.15), metric
        assert naive.high - naive.low < width / 2


def test_weights_count_rows():
    first, second, labels = (rows[:300] for rows in CASES["one better"])
    weights = np.random.default_rng(0).integers(1, 4, 300)
    for metric in ("accuracy", "nll", "aurc"):
        found = compare(first, second, labels, metric=metric, seed=0, weights=weights)
        value = METRICS.create(metric)
        assert found.first == pytest.approx(value(first, labels, weights=weights))
        equal = compare(first, second, labels, metric=metric, seed=0, weights=[2] * 300)
        assert equal == compare(first, second, labels, metric=metric, seed=0)


def test_models_that_are_the_same():
    first, _, labels = (rows[:50] for rows in CASES["one better"])
    for metric in ("accuracy", "nll", "brier", "ece", "classwise_ece", "ace"):
        found = compare(first, first, labels, metric=metric, seed=0)
        assert found.difference == 0 and found.p_value == 1
        assert found.low < 0 < found.high
    found = compare(first, first, labels, metric="aurc", seed=0)
    assert not found.is_evaluated and "nothing varied" in found.method


def test_what_is_not_evaluated_says_why():
    first, second, labels = (rows[:200] for rows in CASES["one better"])
    person = np.arange(200) // 4
    for metric, cluster in (("mce", None), ("ece", person), ("smooth_ece", None)):
        found = compare(first, second, labels, metric=metric, seed=0, cluster=cluster)
        assert found.p_value is None and "biased upwards" in found.method
        assert "not evaluated" in str(found)
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))


def test_a_metric_of_ones_own_and_costs_by_matrix():
    first, second, labels = (rows[:200] for rows in CASES["one better"])

    def surest(probs, labels):
        return float(probs.max(1).mean())

    found = compare(first, second, labels, metric=surest, seed=0)
    assert found.metric == "surest" and found.low < found.difference < found.high
    costs = CostMatrix(("a", "b", "c", "d"), COST)
    by_matrix, by_costs = (
        compare(first, second, labels, metric="cost", cost=cost, seed=0)
        for cost in (COST, costs)
    )
    assert by_matrix == by_costs and "p =" in by_matrix._repr_markdown_()


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(metric="acuracy"), "Did you mean"),
        (dict(metric="cost"), "`cost` belongs to"),
        (dict(cost=COST), "`cost` belongs to"),
        (dict(metric="cost", cost=COST[:2]), "`cost` must be 4 x 4"),
        (dict(level=95), "`level` must be"),
        (dict(cluster=[1]), "`cluster` must have shape"),
        (dict(weights=[1]), "`weights` must have shape"),
    ],
)
def test_what_is_refused(settings, words):
    first, second, labels = (rows[:20] for rows in CASES["one better"])
    with pytest.raises((ConfigurationError, PredictionError), match=words):
        compare(first, second, labels, seed=0, **settings)
