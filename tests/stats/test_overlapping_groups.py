"Rows that belong to several groups, a group of reference, and control attributes"

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats.comparisons import family_of
from fine_tune_llm.stats.fairness import group_report
from fine_tune_llm.stats.gaps import critical_value, simultaneous_differences
from fine_tune_llm.stats.groups import GroupCounts, group_views

NAMES = ("a", "b", "c", "d", "e")


def least(n_sets, level=0.95):
    "Four standard errors below the level"
    return level - 4 * (level * (1 - level) / n_sets) ** 0.5


@pytest.fixture(scope="module")
def rows():
    "Labels, decisions with abstentions, a region, and identities that overlap"
    rng = np.random.default_rng(0)
    n = 4000
    labels = rng.integers(0, 2, n)
    decided = np.where(rng.random(n) < 0.2, 1 - labels, labels)
    decided[rng.random(n) < 0.1] = -1
    region = np.array(["north", "south", None], object)[rng.integers(0, 3, n)]
    return labels, decided, region, rng.random((n, 5)) < [0.5, 0.3, 0.1, 0.1, 0.002]


@pytest.fixture(scope="module")
def counts(rows):
    labels, decided, region, identity = rows
    return GroupCounts.from_arrays(
        labels,
        decided,
        groups={"region": region},
        memberships={"identity": (NAMES, identity)},
    )


def rows_of(view, cell, rows):
    "The rows of a group"
    _, _, region, identity = rows
    inside = np.ones(len(region), bool)
    if view == "all rows":
        return inside
    for attribute, value in zip(view.split(" x "), cell):
        if attribute == "region":
            inside &= np.array([(r or "(missing)") == value for r in region])
        elif value == "(none)":
            inside &= ~identity.any(1)
        else:
            inside &= identity[:, NAMES.index(value)]
    return inside


def test_every_rate_is_what_a_loop_over_rows_says(rows, counts):
    report = group_report(counts, seed=0, n_resamples=99)
    labels, decided, _, _ = rows
    assert {r.view for r in report.rates} == {
        "all rows",
        "region",
        "identity",
        "region x identity",
    }
    for rate in report.rates:
        inside = rows_of(rate.view, rate.cell, rows) & (decided >= 0)
        counted = {
            "tpr": (inside & (labels == 1), decided == 1),
            "npv": (inside & (decided == 0), labels == 0),
            "accuracy": (inside, labels == decided),
        }
        if rate.metric not in counted:
            continue
        among, hit = counted[rate.metric]
        assert rate.n == among.sum()
        assert (rate.value is None) == (rate.n < 30)
        if rate.value is not None:
            assert rate.value == pytest.approx((among & hit).sum() / rate.n, abs=1e-12)
    few = [r for r in report.by_group("tpr", "identity") if r.cell == ("e",)]
    assert "30 are needed" in few[0].reason


def test_groups_that_do_not_overlap_are_the_same_either_way(rows):
    "One group a row, once as values and once as memberships: the same report"
    labels, decided, region, _ = rows
    as_text = np.array([r or "unknown" for r in region], object)
    matrix = as_text[:, None] == np.array(["north", "south", "unknown"], object)
    values = GroupCounts.from_arrays(labels, decided, groups={"region": as_text})
    several = GroupCounts.from_arrays(
        labels,
        decided,
        memberships={"region": (("north", "south", "unknown"), matrix)},
    )
    of_values, of_several = (
        group_report(one, seed=3, n_resamples=499, family="metric")
        for one in (values, several)
    )
    for gap, other in zip(of_values.gaps, of_several.gaps):
        assert (gap.view, gap.metric, gap.worst) == (
            other.view,
            other.metric,
            other.worst,
        )
        assert gap.difference == pytest.approx(other.difference, abs=1e-12)
        if gap.low is not None:  # draws differ in the order of the table
            assert gap.low == pytest.approx(other.low, abs=0.02)
            assert gap.high == pytest.approx(other.high, abs=0.02)
    first, second = (one.tests[1].estimates.pair_se for one in (of_values, of_several))
    np.testing.assert_allclose(first, second, atol=1e-12)


def test_the_error_of_a_difference_counts_shared_rows():
    "Standard errors beside the spread of 2,000 data sets: within 4 errors of an sd"
    rng, n = np.random.default_rng(0), 800
    found, said = [], []
    for seed in range(2000):
        base = rng.random(n) < 0.5
        identity = np.stack([base ^ (rng.random(n) < 0.1) for _ in range(2)], 1)
        right = (rng.random(n) < 0.7) * 1
        table = GroupCounts.from_arrays(
            np.ones(n, int), right, memberships={"g": (("a", "b"), identity)}
        )
        if seed < 20:
            tests = group_report(
                table, seed=0, metrics="accuracy", n_resamples=19, missing="exclude"
            ).tests
            said.append(tests[1].estimates.pair_se[0, 1])
        a, b = (right[identity[:, j]].mean() for j in range(2))
        found.append(a - b)
    error = 4 / (2 * 2000) ** 0.5
    assert np.mean(said) == pytest.approx(np.std(found), rel=error + 0.02)
    disjoint = 2**0.5 * (0.7 * 0.3 / (n / 2)) ** 0.5
    assert np.mean(said) < 0.7 * disjoint


def drawn(kind, rng, n):
    "Identities of n rows"
    if kind == "apart":
        return rng.random((n, 5)) < 0.3
    if kind == "nested":
        outer = rng.random(n) < 0.5
        return np.c_[outer & (rng.random(n) < 0.97), outer]
    base = rng.random(n) < 0.5
    return np.stack([base ^ (rng.random(n) < 0.05) for _ in range(5)], 1)


def nothing(identity):
    return np.full(len(identity), 0.8)


CASES = {
    "apart, equal": ("apart", nothing),
    "much in common, equal": ("common", nothing),
    "much in common, unlike": ("common", lambda m: 0.5 + 0.08 * m.sum(1)),
    "much in common, rare": ("common", lambda m: np.full(len(m), 0.03)),
    "one within the other": ("nested", lambda m: np.where(m[:, 0], 0.9, 0.5)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reference", [None, {"g": "a"}])
def test_intervals_of_all_pairs_hold_together(case, reference):
    "200 data sets of 1,000 rows at 95%, four standard errors of the share allowed"
    kind, chance = CASES[case]
    every = drawn(kind, np.random.default_rng(9), 1_000_000)
    true = {
        name: chance(every)[every[:, j]].mean()
        for j, name in zip(range(every.shape[1]), NAMES)
    }
    true["(none)"] = chance(every)[~every.any(1)].mean()
    rng, n, held = np.random.default_rng(0), 1000, 0
    for seed in range(200):
        identity = drawn(kind, rng, n)
        right = (rng.random(n) < chance(identity)) * 1
        table = GroupCounts.from_arrays(
            np.ones(n, int),
            right,
            memberships={"g": (NAMES[: identity.shape[1]], identity)},
        )
        report = group_report(
            table,
            seed=seed,
            metrics="accuracy",
            n_resamples=199,
            reference=reference,
        )
        tested = report.tests[1]
        low, high = simultaneous_differences(
            tested.estimates, family_of([tested]).critical(0.95)
        )
        values = np.array([true[cell[0]] for cell in tested.evaluated])
        difference = values[:, None] - values
        asked = tested.estimates.is_pair
        held += ((low <= difference) & (difference <= high))[asked].all()
    assert held / 200 >= least(200)


def test_two_names_for_the_same_rows_do_not_differ():
    "What is left are the imagined rows, two for each of 250: sd below sqrt(2) / 250"
    rng = np.random.default_rng(0)
    one = rng.random(500) < 0.5
    right = (rng.random(500) < 0.7) * 1
    table = GroupCounts.from_arrays(
        np.ones(500, int), right, memberships={"g": (("a", "b"), np.c_[one, one])}
    )
    pair = group_report(table, seed=0, n_resamples=199, missing="exclude").pairs(
        "accuracy"
    )[0]
    assert pair.difference == 0 and pair.low <= 0 <= pair.high
    assert pair.high < 3 * 2**0.5 / 250


# A group of reference


def test_the_critical_value_of_one_reference_is_dunnetts():
    """Two-sided 95%, four equal large groups against one: 2.442 (Dunnett 1964)

    All ten pairs need Tukey's 2.728. Four standard errors of a quantile of 4,000 draws.
    """
    n = 2000
    right = np.tile(np.arange(n) < 0.3 * n, 5) * 1
    group = np.repeat(list("abcde"), n)
    counts = GroupCounts.from_arrays(np.ones(5 * n, int), right, groups={"g": group})
    found = {}
    for reference in (None, {"g": "c"}):
        report = group_report(
            counts, seed=0, metrics="accuracy", n_resamples=4000, reference=reference
        )
        largest = report.tests[1].estimates.largest
        found[reference is None] = critical_value(largest, 0.95)
    # the density of the maximum at its quantile is near .12: .0138 / .12
    assert found[False] == pytest.approx(2.442, abs=0.115)
    assert found[True] == pytest.approx(2.728, abs=0.115)
    assert found[False] < found[True]


def test_pairs_are_with_the_reference_only(counts):
    asked = {"seed": 0, "n_resamples": 199, "metrics": ["tpr", "fpr", "accuracy"]}
    report = group_report(counts, reference={"identity": "(none)"}, **asked)
    pairs = report.pairs("tpr", "identity")
    assert [pair.first for pair in pairs] == [("a",), ("b",), ("c",), ("d",)]
    assert {pair.second for pair in pairs} == {("(none)",)}
    rates = {r.cell: r.value for r in report.by_group("tpr", "identity") if r.value}
    apart = {cell: abs(v - rates["(none)",]) for cell, v in rates.items()}
    gap = report.gap("tpr", "identity")
    assert gap.difference == pytest.approx(max(apart.values()), abs=1e-12)
    assert gap.low <= gap.difference <= gap.high
    assert ("(none)",) in (gap.highest, gap.lowest)
    small = min(
        min(v, rates["(none)",]) / max(v, rates["(none)",]) for v in rates.values()
    )
    assert gap.ratio == pytest.approx(small, abs=1e-12)
    # the region has no reference, and keeps all of its pairs
    assert len(report.pairs("tpr", "region")) == 3
    both = {"identity": "(none)", "region": "north"}
    crossed = group_report(counts, reference=both, **asked)
    pairs = crossed.pairs("tpr", "region x identity")
    assert {pair.second for pair in pairs} == {("north", "(none)")}
    assert json.dumps(crossed.to_dict(), allow_nan=False)
    assert crossed.to_dict()["settings"]["reference"] == both


def test_a_reference_with_too_few_rows_is_said(counts):
    report = group_report(
        counts, seed=0, n_resamples=99, metrics="tpr", reference={"identity": "e"}
    )
    gap = report.gap("tpr", "identity")
    assert gap.difference is None
    assert gap.reason.startswith("the reference group e has ")
    assert gap.reason.endswith("decided rows that are truly positive; 30 are needed")
    assert report.pairs("tpr", "identity") == []


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"reference": {"sex": "f"}}, "`reference` names 'sex', which is no attribute"),
        (
            {"reference": {"region": "west"}},
            "names 'west', which is no group of 'region'",
        ),
        ({"reference": "north"}, "must be attributes and their groups, got str"),
        ({"control": "sex"}, "`control` names 'sex', which is no attribute"),
        ({"control": ["region", "identity"]}, "none is left to compare"),
        (
            {"control": "region", "reference": {"region": "north"}},
            "which is a control attribute",
        ),
    ],
)
def test_what_does_not_fit_is_named(counts, asked, words):
    with pytest.raises(ConfigurationError, match=words):
        group_report(counts, seed=0, n_resamples=99, **asked)


# Control attributes


def test_within_a_value_is_a_report_of_these_rows_alone(rows, counts):
    labels, decided, region, identity = rows
    report = group_report(counts, seed=0, n_resamples=99, control="region")
    views = {gap.view for gap in report.gaps}
    assert views == {
        f"identity within region={name}" for name in ("(missing)", "north", "south")
    }
    inside = region == "north"
    alone = group_report(
        GroupCounts.from_arrays(
            labels[inside],
            decided[inside],
            memberships={"identity": (NAMES, identity[inside])},
        ),
        seed=0,
        n_resamples=99,
    )
    view = "identity within region=north"
    for metric in ("tpr", "fpr", "selection_rate", "accuracy"):
        within = [(r.cell, r.value, r.n) for r in report.by_group(metric, view)]
        assert within == [
            (r.cell, r.value, r.n) for r in alone.by_group(metric, "identity")
        ]
        gap, other = report.gap(metric, view), alone.gap(metric, "identity")
        assert (gap.difference, gap.ratio) == (other.difference, other.ratio)
    assert report.settings.control == ("region",)


def test_within_groups_that_overlap(rows, counts):
    "A row with two identities counts within both"
    labels, decided, region, identity = rows
    views, _ = group_views(counts, control="identity")
    sizes = {
        view.name: sum(counts.count[entries].sum() for entries in view.entries)
        for view in views
    }
    assert sizes["region within identity=a"] == identity[:, 0].sum()
    assert sizes["region within identity=b"] == identity[:, 1].sum()
    assert sizes["region within identity=(none)"] == (~identity.any(1)).sum()


# What comes in


def test_the_table_survives_json(counts):
    again = GroupCounts.from_dict(json.loads(json.dumps(counts.to_dict())))
    assert again.to_dict() == counts.to_dict()
    reports = [
        group_report(one, seed=0, n_resamples=99).to_dict() for one in (counts, again)
    ]
    assert reports[0] == reports[1]
    assert counts._repr_markdown_().count("|") > 20


def test_seventy_groups_and_a_class_with_names_and_rows():
    class Memberships:
        names = tuple(f"g{i:02}" for i in range(70))
        rows = np.random.default_rng(0).random((3000, 70)) < 0.2

    right = np.random.default_rng(1).integers(0, 2, 3000)
    table = GroupCounts.from_arrays(
        np.ones(3000, int), right, memberships={"g": Memberships()}
    )
    report = group_report(table, seed=0, metrics="accuracy", n_resamples=99)
    for j, rate in enumerate(report.by_group("accuracy")[:70]):
        inside = Memberships.rows[:, j]
        assert rate.value == pytest.approx(right[inside].mean(), abs=1e-12)
    everything = np.ones((3000, 15), bool)
    names = tuple(map(str, range(15)))
    wide = GroupCounts.from_arrays(
        right, right, memberships=dict.fromkeys(("g", "h"), (names, everything))
    )
    _, too_many = group_views(wide)
    assert too_many == {"g x h": "225 groups; at most 200 are compared"}


@pytest.mark.parametrize(
    "memberships, words",
    [
        ({"g": np.ones((3, 2), bool)}, r"must be \(names, matrix\), got ndarray"),
        ({"g": (["a", "b"], np.ones((3, 2)))}, "got float64 of shape"),
        ({"g": (["a"], np.ones((3, 2), bool))}, r"bool matrix of shape \(3, 1\)"),
        ({"g": (["a", "a"], np.ones((3, 2), bool))}, "needs distinct names"),
        ({"g": (["a", "(none)"], np.ones((3, 2), bool))}, "needs distinct names"),
        ({"g": ([], np.ones((3, 0), bool))}, "at least one column"),
        ({"sex": (["a"], np.ones((3, 1), bool))}, "distinct names other than"),
        ([], "`groups` is empty|must be names"),
        ("identity", "`memberships` must be names of attributes"),
    ],
)
def test_memberships_that_are_none(memberships, words):
    groups = {"sex": ["f", "m", "f"]} if memberships != [] else None
    with pytest.raises(PredictionError, match=words):
        GroupCounts.from_arrays(
            [0, 1, 1], [0, 1, 0], groups=groups, memberships=memberships
        )


def test_views_that_nothing_is_left_of():
    "Rows without any group, left out: views are empty, and nothing is compared"
    nobody = np.zeros((40, 2), bool)
    table = GroupCounts.from_arrays(
        [0, 1] * 20,
        [0, 1] * 20,
        groups={"region": [None] * 40},
        memberships={"identity": (("a", "b"), nobody)},
    )
    for control in ((), "region", "identity"):
        report = group_report(
            table, seed=0, n_resamples=99, missing="exclude", control=control
        )
        assert all(gap.difference is None for gap in report.gaps)
        assert {rate.view for rate in report.rates} == {"all rows"}
