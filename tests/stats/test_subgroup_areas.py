"Subgroup, BPSN and BNSP areas, and calibration of each class by group"

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats.intervals import clopper_pearson
from fine_tune_llm.stats.subgroup_areas import Placement, subgroup_auc
from fine_tune_llm.stats.subgroup_calibration import class_calibration


def least(n_sets, level=0.95):
    "Four standard errors below the level"
    return level - 4 * (level * (1 - level) / n_sets) ** 0.5


@pytest.fixture(scope="module")
def scored():
    "Scores with ties, labels, and three groups that overlap"
    rng = np.random.default_rng(0)
    labels = rng.random(3000) < 0.3
    scores = np.round(rng.normal(0.8 * labels, 1), 1)
    groups = {f"g{j}": rng.random(3000) < share for j, share in enumerate((0.3, 0.1))}
    return scores, labels, groups | {"all": np.ones(3000, bool)}


def pairs_in_order(positive, other):
    "By definition: over all pairs, ties half"
    difference = positive[:, None] - other
    return ((difference > 0) + (difference == 0) / 2).mean()


def parts_of(labels, inside):
    "Area -> positive rows and other rows"
    return {
        "auc": (labels & inside, ~labels & inside),
        "bpsn": (labels & ~inside, ~labels & inside),
        "bnsp": (labels & inside, ~labels & ~inside),
        "background": (labels & ~inside, ~labels & ~inside),
    }


def test_areas_are_shares_of_pairs(scored):
    scores, labels, groups = scored
    for found in subgroup_auc(scores, labels, groups=groups):
        for name, (positive, other) in parts_of(labels, groups[found.group]).items():
            area = found.areas[name]
            assert (area.n_positive, area.n_other) == (positive.sum(), other.sum())
            if found.group == "all" and name != "auc":
                assert area.value is None
                continue
            by_pairs = pairs_in_order(scores[positive], scores[other])
            assert area.value == pytest.approx(by_pairs, abs=1e-12)
            assert area.low < area.value < area.high
        assert json.dumps(found.to_dict(), allow_nan=False)


def test_areas_are_those_of_scikit_learn(scored):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels, groups = scored
    for found in subgroup_auc(scores, labels, groups=groups):
        for name, (positive, other) in parts_of(labels, groups[found.group]).items():
            rows, area = positive | other, found.areas[name]
            if area.value is not None:
                theirs = metrics.roc_auc_score(labels[rows], scores[rows])
                assert area.value == pytest.approx(theirs, abs=1e-12)


def test_the_variance_is_delongs():
    "From the placements of the rows themselves, with n - 1"
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, 40) + 1, rng.integers(0, 6, 30)
    above = np.array([pairs_in_order(np.array([x]), second) for x in first])
    below = np.array([pairs_in_order(first, np.array([y])) for y in second])
    variance = above.var(ddof=1) / 40 + below.var(ddof=1) / 30
    scores = np.arange(6, -1, -1)
    counted = [(one[:, None] == scores).sum(0) for one in (first, second)]
    placed = Placement.of(*counted)
    assert placed.area == pytest.approx(above.mean(), abs=1e-12)
    assert placed.variance == pytest.approx(variance, abs=1e-12)


SHAPES = {  # scores of positive rows, scores of others
    "alike": (lambda rng, n: rng.normal(1, 1, n), lambda rng, n: rng.normal(0, 1, n)),
    "spread": (lambda rng, n: rng.normal(1, 3, n), lambda rng, n: rng.normal(0, 1, n)),
    "sharp": (lambda rng, n: rng.normal(3, 1, n), lambda rng, n: rng.normal(0, 1, n)),
    "two scores": (
        lambda rng, n: (rng.random(n) < 0.9) * 1.0,
        lambda rng, n: (rng.random(n) < 0.2) * 1.0,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_all_areas_hold_together(shape):
    "300 data sets of three groups of which one is small; four standard errors allowed"
    of_positive, of_other = SHAPES[shape]
    rng = np.random.default_rng(0)
    true = pairs_in_order(of_positive(rng, 5000), of_other(rng, 5000))
    n, held = 1500, 0
    for _ in range(300):
        labels = rng.random(n) < 0.4
        scores = np.where(labels, of_positive(rng, n), of_other(rng, n))
        groups = {str(share): rng.random(n) < share for share in (0.06, 0.3, 0.5)}
        areas = subgroup_auc(scores, labels, groups=groups, min_rows=20)
        held += all(
            area.low - 0.005 <= true <= area.high + 0.005
            for one in areas
            for area in one.areas.values()
            if area.value is not None
        )
    assert held / 300 >= least(300)


@pytest.mark.parametrize(
    "asked, error, words",
    [
        ({"scores": [0.1, np.nan]}, PredictionError, "`scores` must be finite, row 1"),
        ({"scores": [[0.1], [0.2]]}, PredictionError, "must have shape"),
        ({"labels": [0, 2]}, PredictionError, "`labels`"),
        ({"groups": [[True, False]]}, PredictionError, "`groups` must be names"),
        ({"groups": {"g": [1, 0]}}, PredictionError, "must be bool of shape"),
        ({"level": 1}, ConfigurationError, "`level`"),
        ({"min_rows": 1}, ConfigurationError, "`min_rows`"),
    ],
)
def test_what_does_not_fit_is_named(asked, error, words):
    given = {"scores": [0.1, 0.2], "labels": [0, 1], "groups": {"g": [True, False]}}
    given |= asked
    with pytest.raises(error, match=words):
        subgroup_auc(given.pop("scores"), given.pop("labels"), **given)


# Calibration of each class


def test_each_class_in_each_group_is_what_a_loop_says():
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(3), 900), rng.integers(0, 3, 900)
    region = np.array(["north", "south", None], object)[rng.integers(0, 3, 900)]
    identity = rng.random((900, 2)) < 0.3
    found = class_calibration(
        probs,
        [("x", "y", "z")[y] for y in labels],
        {"region": region},
        memberships={"identity": (("a", "b"), identity)},
        classes=("x", "y", "z"),
    )
    masks = {
        ("region", name): np.array([(r or "(missing)") == name for r in region])
        for name in ("(missing)", "north", "south")
    }
    masks |= {("identity", name): identity[:, j] for j, name in enumerate("ab")}
    masks["identity", "(none)"] = ~identity.any(1)
    assert len(found) == 3 * len(masks)
    level = 1 - 0.05 / (3 * len(masks))
    for one in found:
        rows, k = masks[one.attribute, one.group], "xyz".index(one.class_name)
        n, true = rows.sum(), (labels[rows] == k).sum()
        mean = probs[rows, k].mean()
        assert one.n == n
        assert one.mean_prob == pytest.approx(mean, abs=1e-12)
        assert one.frequency == pytest.approx(true / n, abs=1e-12)
        low, high = clopper_pearson(true, n, level)
        assert one.excess.low == pytest.approx(mean - high, abs=1e-12)
        assert one.excess.high == pytest.approx(mean - low, abs=1e-12)
        assert json.dumps(one.to_dict(), allow_nan=False)


def test_a_small_group_is_not_evaluated():
    probs = np.tile([0.3, 0.7], (40, 1))
    found = class_calibration(probs, [1] * 40, {"g": ["a"] * 35 + ["b"] * 5})
    assert [one.reason for one in found] == ["", ""] + ["5 rows; 30 are needed"] * 2
    assert found[2].to_dict()["excess"]["evaluated"] is False
    # of two classes, one is the other's mirror: no price for both
    assert found[0].excess.level == pytest.approx(0.95)


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_class_calibration_holds_and_finds(off):
    "200 data sets: true rates hold together; a group 10 points off is found every time"
    rng, held, found = np.random.default_rng(0), 0, 0
    for _ in range(200):
        n = 2000
        group = rng.integers(0, 4, n)
        prob = rng.uniform(0.2, 0.8, n)
        true = prob - off * (group == 3)
        labels = (rng.random(n) < true) * 1
        checked = class_calibration(
            np.c_[1 - prob, prob], labels, {"g": group}, classes=("no", "yes")
        )
        yes = [one for one in checked if one.class_name == "yes"]
        expected = [(prob - true)[group == int(one.group)].mean() for one in yes]
        held += all(
            one.excess.low <= value <= one.excess.high
            for one, value in zip(yes, expected)
        )
        found += yes[3].excess.low > 0
    assert held / 200 >= least(200)
    assert found / 200 >= 0.9 if off else found / 200 <= 0.05
