"Group reports against a loop over rows, whatever the rows, and settings that are wrong"

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats.calibration_error import ece
from fine_tune_llm.stats.costs import CostMatrix
from fine_tune_llm.stats.fairness import Fairness, group_report
from fine_tune_llm.stats.group_metrics import GROUP_METRICS, Measure
from fine_tune_llm.stats.groups import GroupCounts
from fine_tune_llm.stats.intervals import newcombe, wilson
from fine_tune_llm.testing import synthetic_problem

LABELS = np.array([1, 1, 1, 0, 0, 1, 1, 0, 0, 0])
DECIDED = np.array([1, 1, 0, 1, 0, 1, -1, 0, 0, -1])
COST = np.array([[0, 1, 2], [3, 0, 1], [9, 4, 0]])
ABSTAIN_COST = np.array([0.5, 1, 2])


@pytest.fixture(scope="module")
def hand():
    "Ten rows in two groups"
    groups = {"g": ["a"] * 5 + ["b"] * 5}
    return GroupCounts.from_arrays(LABELS, DECIDED, groups=groups)


@pytest.fixture(scope="module")
def by_hand(hand):
    return group_report(
        hand,
        seed=0,
        min_rows=1,
        n_resamples=99,
        cost=[[0, 1], [5, 0]],
        abstain_cost=0.5,
    )


class ThreeClasses:
    "Abstentions, sets, missing groups, and confidences on the edges of bins"

    def __init__(self):
        problem = synthetic_problem(3000, 3, 1.4, seed=0)
        odds = np.exp(problem.logits)
        probs = (odds / odds.sum(1, keepdims=True) * 15).round() / 15
        probs[:, 0] = 1 - probs[:, 1:].sum(1)
        rng = np.random.default_rng(1)
        first = rng.choice(["u", "v", None], 3000, p=[0.6, 0.3, 0.1])
        self.groups = {"a": first, "b": rng.choice(["1", "2"], 3000)}
        self.labels, self.probs, self.sets = problem.labels, probs, probs > 0.15
        self.decided = np.where(probs.max(1) > 0.6, probs.argmax(1), -1)
        self.counts = GroupCounts.from_arrays(
            self.labels,
            self.decided,
            groups=self.groups,
            probs=probs,
            sets=self.sets,
        )

    def rows_of(self, rate):
        "The rows of a group"
        rows = np.ones(3000, bool)
        if rate.view == "all rows":
            return rows
        for name, value in zip(rate.view.split(" x "), rate.cell):
            rows &= np.array([(v or "(missing)") == value for v in self.groups[name]])
        return rows

    def expected(self, rows):
        "Every metric of some rows, from the rows"
        labels, decided, probs = self.labels[rows], self.decided[rows], self.probs[rows]
        sets, kept = self.sets[rows], decided >= 0
        costs = np.where(kept, COST[labels, decided], ABSTAIN_COST[labels])
        conf, right = probs.max(1), probs.argmax(1) == labels
        return {
            "selection_rate": (decided[kept] == 2).mean(),
            "tpr": (decided[kept & (labels == 2)] == 2).mean(),
            "fpr": (decided[kept & (labels != 2)] == 2).mean(),
            "ppv": (labels[decided == 2] == 2).mean(),
            "npv": (labels[kept & (decided != 2)] != 2).mean(),
            "accuracy": (decided == labels)[kept].mean(),
            "abstention_rate": 1 - kept.mean(),
            "coverage": sets[np.arange(len(labels)), labels].mean(),
            "set_size": sets.sum(1).mean(),
            "overconfidence": (conf - right).mean(),
            "expected_cost": costs.mean(),
            "calibration_error": ece(probs, labels),
        }


@pytest.fixture(scope="module")
def three():
    return ThreeClasses()


@pytest.fixture(scope="module")
def report(three):
    return group_report(
        three.counts,
        seed=0,
        positive=2,
        cost=COST,
        abstain_cost=[0.5, 1, 2],
        n_resamples=199,
    )


def test_every_rate_is_what_a_loop_over_rows_says(three, report):
    seen = 0
    for rate in report.rates:
        expected = three.expected(three.rows_of(rate))
        if rate.value is not None and rate.metric in expected:
            assert rate.value == pytest.approx(expected[rate.metric], abs=1e-9)
            assert rate.low - 1e-9 <= rate.value <= rate.high + 1e-9
            seen += 1
    assert seen == 12 * (1 + 3 + 2 + 6)
    n_missing = sum(value is None for value in three.groups["a"])
    assert report.missing == {"a": n_missing, "b": 0}


def test_missing_values_can_be_excluded(three):
    without = group_report(
        three.counts, seed=0, positive=2, missing="exclude", n_resamples=99
    )
    cells = [rate.cell for rate in without.by_group("tpr", "a x b")]
    assert cells == [(u, v) for u in "uv" for v in "12"]


def test_each_class_in_turn_is_that_class(three):
    about = {"seed": 0, "n_resamples": 199, "order": 1}
    each = group_report(three.counts, positive="each", **about)
    two = group_report(three.counts, positive=2, **about)
    of_each = [rate.value for rate in each.by_group("tpr[2]")]
    assert of_each == [rate.value for rate in two.by_group("tpr")]
    assert sum(gap.metric.startswith("ppv[") for gap in each.gaps) == 3 * 2


def test_ten_rows_by_hand(by_hand):
    assert len(by_hand.rates) == 3 * 10
    overall = by_hand.by_group("accuracy", "all rows")
    assert [rate.value for rate in overall] == pytest.approx([6 / 8], abs=1e-12)
    gap = by_hand.gap("tpr")
    assert (gap.difference, gap.ratio) == pytest.approx((1 / 3, 2 / 3), abs=1e-12)
    assert (gap.highest, gap.lowest, gap.worst) == (("b",), ("a",), ("a",))
    pair = by_hand.pairs("tpr")[0]
    assert (pair.difference, pair.ratio) == pytest.approx((-1 / 3, 2 / 3), abs=1e-12)
    assert pair.alone == pytest.approx(
        newcombe(2, 3, other_successes=1, other_trials=1), abs=1e-12
    )
    rate = by_hand.by_group("tpr")[0]
    assert (rate.low, rate.high) == pytest.approx(wilson(2, 3), abs=1e-12)


def test_costs_come_as_a_matrix_or_as_its_class(hand, by_hand):
    cost = CostMatrix("01", [[0, 1], [5, 0]], abstain_cost=0.5)
    again = group_report(hand, seed=0, min_rows=np.int64(1), n_resamples=99, cost=cost)
    assert json.dumps(again.to_dict()) == json.dumps(by_hand.to_dict())
    with pytest.raises(ConfigurationError, match="`abstain_cost` is given twice"):
        group_report(hand, seed=0, cost=cost, abstain_cost=1)


def test_a_name_alone_is_a_metric(hand):
    report = group_report(hand, seed=0, n_resamples=19, metrics="accuracy")
    assert [gap.metric for gap in report.gaps] == ["accuracy"]


def test_few_rows_are_not_evaluated(hand):
    few = group_report(hand, seed=0, min_rows=3, n_resamples=99)
    counted = "decided rows that are truly positive"
    of_b = few.by_group("tpr")[1]
    assert str(of_b) == f"not evaluated: 1 {counted}; 3 are needed"
    why = f"only one of 2 groups has 3 {counted}"
    assert str(few.gap("tpr")) == f"not evaluated: {why}"
    assert str(few.gap("equalised_odds")) == f"not evaluated: tpr: {why}"
    assert few.gap("accuracy").difference == pytest.approx(2 / 5, abs=1e-12)
    assert few.pairs("tpr") == []


WRONG = [
    (dict(seed=-1), "`seed` must be"),
    (dict(level="a"), "`level` must be"),
    (dict(n_resamples=99.5), "`n_resamples` must be a whole number"),
    (dict(order="a"), "`order` must be"),
    (dict(cost="x"), "`cost` must hold numbers"),
    (dict(metrics=["acuracy"]), "unknown group_metric 'acuracy'"),
    (dict(family="some"), "`family` must be all or metric"),
    (
        dict(n_resamples=18),
        "`n_resamples` of 18 is too few for level 0.95; at least 19",
    ),
]


@pytest.mark.parametrize("changed, words", WRONG)
def test_wrong_settings_are_named(hand, changed, words):
    with pytest.raises(ConfigurationError) as error:
        group_report(hand, **{"seed": 0, "n_resamples": 19, **changed})
    assert words in str(error.value)


def test_wrong_classes_costs_and_names_are_named(three, report, by_hand):
    with pytest.raises(ConfigurationError, match="its index or 'each', got 3"):
        group_report(three.counts, seed=0, positive=3)
    with pytest.raises(ConfigurationError, match=r"for 3 classes, got \(2, 2\)"):
        group_report(three.counts, seed=0, cost=1 - np.eye(2))
    with pytest.raises(ConfigurationError, match="no gap of 'recall' in 'a'"):
        report.gap("recall", "a")
    with pytest.raises(ConfigurationError, match="'equalised_odds' has no pairs"):
        by_hand.pairs("equalised_odds")
    with pytest.raises(PredictionError, match="`counts` must be a `GroupCounts`"):
        group_report(LABELS, seed=0)
    bare = Fairness(**{**vars(by_hand), "tests": ()})
    with pytest.raises(ConfigurationError, match="without its tests has no pairs"):
        bare.pairs("tpr")


def test_a_metric_that_leaves_its_range_is_refused(hand, monkeypatch):
    "For each class too"
    monkeypatch.setattr(GROUP_METRICS, "_own", dict(GROUP_METRICS._own))

    @GROUP_METRICS.register("too_large")
    def too_large(rows):
        if rows.positive is None:
            return "no positive class was named"
        return Measure(rows.all_rows, rows.true * 2.0, "rows")

    for positive in (1, "each"):
        with pytest.raises(ConfigurationError, match=r"stay in \[0, 1\], got 0 to 2"):
            group_report(hand, seed=0, metrics="too_large", positive=positive)


def test_a_constant_has_no_gap():
    groups = {"g": ["a", "b", "b", "a"] * 20}
    counts = GroupCounts.from_arrays([0, 1] * 40, [1, 1] * 40, groups=groups)
    cost = np.full((2, 2), 0.3)
    gap = group_report(counts, seed=0, cost=cost, n_resamples=99).gap("expected_cost")
    assert gap.difference < 1e-12 and gap.high < 1e-9 and gap.p_value == 1


def test_one_group_has_nothing_to_be_compared_with():
    counts = GroupCounts.from_arrays([0, 1] * 40, [0, 1] * 40, groups={"g": ["a"] * 80})
    one = group_report(counts, seed=0, n_resamples=99)
    gap = one.gap("tpr")
    assert (gap.difference, gap.low, gap.high) == (0, 0, 0)
    assert gap.reason == "one group only: nothing to compare it with"
    assert one.pairs("tpr") == []


def test_where_nothing_was_decided_only_that_is_said():
    groups = {"g": ["a", "b"] * 40}
    counts = GroupCounts.from_arrays([0, 1] * 40, [-1] * 80, groups=groups)
    none = group_report(counts, seed=0, n_resamples=99)
    why = "not evaluated: 0 decided rows; 30 are needed"
    assert str(none.by_group("accuracy")[0]) == why
    assert none.by_group("abstention_rate")[0].value == 1


def test_one_row_without_a_group():
    counts = GroupCounts.from_arrays([1], [1], groups={"g": [None]})
    report = group_report(counts, seed=0, n_resamples=19)
    found = {(rate.label, rate.value) for rate in report.rates}
    assert found == {("all rows", None), ("(missing)", None)}


rows = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        *(
            st.lists(values, min_size=n, max_size=n)
            for values in (
                st.integers(0, 2),
                st.integers(-1, 2),
                st.sampled_from(["a", "b", "c", None]),
            )
        )
    )
)


def rates(labels, decided, group):
    counts = GroupCounts.from_arrays(
        labels, decided, groups={"g": group}, classes="xyz"
    )
    report = group_report(counts, seed=0, min_rows=1, n_resamples=19, positive=0)
    return {(rate.view, rate.cell, rate.metric): rate.value for rate in report.rates}


def rounded(found):
    return {key: value and round(value, 12) for key, value in found.items()}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows, st.randoms(use_true_random=False))
def test_order_names_and_repeats_of_rows_do_not_matter(data, random):
    labels, decided, group = map(list, data)
    base = rates(labels, decided, group)
    order = [*range(len(labels))]
    random.shuffle(order)
    assert rates(*([column[i] for i in order] for column in data)) == base
    assert rounded(rates(labels * 3, decided * 3, group * 3)) == rounded(base)
    new = {"a": "c", "b": "z", "c": "a"}
    renamed = {
        (view, tuple(new.get(value, value) for value in cell), metric): rate
        for (view, cell, metric), rate in base.items()
    }
    assert rates(labels, decided, [new.get(value) for value in group]) == renamed
    kept = np.array(decided) >= 0
    right = np.array(labels)[kept] == np.array(decided)[kept]
    accuracy = right.mean() if kept.any() else None
    assert base.get(("all rows", (), "accuracy")) == accuracy


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows, st.integers(1, 5), st.sampled_from(["all", "metric"]))
def test_gaps_are_inside_their_intervals(data, min_rows, family):
    labels, decided, group = data
    groups = {"g": group, "h": group[::-1]}
    report = group_report(
        GroupCounts.from_arrays(labels, decided, groups=groups, classes="xyz"),
        seed=0,
        min_rows=min_rows,
        n_resamples=39,
        positive="each",
        cost=1 - np.eye(3),
        family=family,
    )
    for gap in report.gaps:
        if gap.difference is None:
            assert gap.reason and gap.low is None and gap.n_groups < 2
            continue
        check_gap(gap)
        for pair in report.pairs(gap.metric, gap.view):
            assert pair.low - 1e-9 <= pair.difference <= pair.high + 1e-9
            assert 0 < pair.p_value <= 1 and 0 <= pair.p_holm <= 1
    assert report._repr_markdown_() and json.dumps(report.to_dict(), allow_nan=False)


def check_gap(gap):
    assert 0 <= gap.low <= gap.difference + 1e-9 and gap.difference <= gap.high + 1e-9
    if gap.ratio is None or gap.p_value is None:
        return
    assert 0 <= gap.ratio_low <= gap.ratio + 1e-9 <= gap.ratio_high + 2e-9
    assert gap.metric == "equalised_odds" or (gap.low == 0) == (gap.ratio_high == 1)


def test_max_t_and_holm_judge_the_same_pairs():
    "One group of six is worse by 15 points"
    rng = np.random.default_rng(3)
    group = np.repeat(list("abcdef"), 600)
    right = (rng.random(3600) < np.where(group == "f", 0.65, 0.8)) * 1
    counts = GroupCounts.from_arrays(np.ones(3600, int), right, groups={"g": group})
    report = group_report(counts, seed=0, metrics=["accuracy"])
    pairs = report.pairs("accuracy")
    for pair in pairs:
        has_f = "f" in (*pair.first, *pair.second)
        judged = pair.p_value < 0.05, pair.p_holm < 0.05, pair.low > 0 or pair.high < 0
        assert judged == (has_f,) * 3
    top = max(pairs, key=lambda pair: abs(pair.difference))
    gap = report.gap("accuracy")
    assert gap.p_value == top.p_value <= min(pair.p_value for pair in pairs)
    assert gap.worst == ("f",) and gap.low > 0
