"What mitigations change, with intervals that hold, and where there are none"

import json

import numpy as np
import pytest

from fine_tune_llm import Predictions
from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.evaluation import (
    gap_change,
    measure_change,
    measure_mitigations,
    subject_of,
)


def role(seed, n=3000, K=2, sites=("A", "B")):
    "Scores that tell the class of B's rows worse than that of the others"
    rng = np.random.default_rng(seed)
    site = rng.choice(sites, n)
    labels = rng.integers(0, K, n)
    logits = rng.normal(size=(n, K))
    logits[np.arange(n), labels] += np.where(site == "B", 0.8, 3.0)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(probs=probs, labels=labels, groups={"site": site})


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (0.5, 0.7, 0.9)])
def test_the_change_of_a_gap_is_covered(shares):
    "300 data sets of 900 rows; a row keeps it with .9, or gets it with .3"
    rng = np.random.default_rng(0)
    before = np.array(shares)
    truth = np.ptp(before * 0.9 + (1 - before) * 0.3) - np.ptp(before)
    n_sets, held = 300, 0
    for _ in range(n_sets):
        group = rng.integers(0, 3, 900)
        first = rng.random(900) < before[group]
        second = rng.random(900) < np.where(first, 0.9, 0.3)
        members = {str(k): group == k for k in range(3)}
        held += (
            truth in gap_change(first, second, members=members, level=0.9).difference
        )
    assert held / n_sets >= 0.9 - 4 * (0.9 * 0.1 / n_sets) ** 0.5


@pytest.mark.parametrize("K", [2, 4])
def test_sets_by_group_give_each_group_what_was_promised(K):
    "5,000 rows a role; 4 sigma of the draw of both roles"
    offers = measure_mitigations(role(0, 5000, K), role(1, 5000, K), seed=0)
    names = [offer["name"] for offer in offers]
    assert names == ["group_conditional_sets", "group_thresholds"][: 1 + (K == 2)]
    sets = offers[0]
    assert sets["change"]["coverage"]["verdict"] == "narrower"
    for group in ("A", "B"):
        got = sets["after"]["coverage"]["groups"][group]
        assert abs(got["value"] - 0.9) < 4 * (0.09 * 2 / got["n"]) ** 0.5
    assert sets["before"]["coverage"]["groups"]["B"]["high"] < 0.9
    json.dumps(offers, allow_nan=False)


def test_thresholds_by_group_close_the_gap_in_what_they_make_equal():
    roles = role(0), role(1)
    again, offers = (measure_mitigations(*roles, seed=0) for _ in range(2))
    assert again == offers
    odds = offers[1]
    for rate in ("tpr", "fpr"):
        assert odds["change"][rate]["verdict"] == "narrower"
        assert odds["after"][rate]["gap"]["value"] < 0.06
    one = measure_mitigations(
        *roles, seed=0, constraint="equal_opportunity", randomize=False
    )[1]
    assert all(len(rule) == 1 for rule in one["rules"].values())
    assert one["change"]["tpr"]["verdict"] == "narrower"


def test_what_an_error_costs_moves_the_thresholds():
    roles = role(0), role(1)
    cost = [[0, 1], [9, 0]]
    plain, costly = (
        measure_mitigations(*map(made, roles), seed=0)[1]
        for made in (subject_of, lambda one: subject_of(one, cost=cost))
    )
    fair, dear = (one["after"]["tpr"]["groups"]["all rows"] for one in (plain, costly))
    assert dear["low"] > fair["high"]


def test_where_nothing_can_be_offered_the_reason_is_said():
    known, test = role(0), role(1, sites=("A", "B", "C"))
    (offer,) = measure_mitigations(known, test, seed=0)
    assert offer["evaluated"] is False and "C" in offer["reason"]
    truth = known.labels.copy()
    truth[known.groups["site"] == "B"] = 0
    one_sided = Predictions(probs=known.probs, labels=truth, groups=dict(known.groups))
    sets, thresholds = measure_mitigations(one_sided, role(1), seed=0)
    assert "said" in sets
    assert thresholds["evaluated"] is False and "'B'" in thresholds["reason"]
    bare = Predictions(probs=known.probs, labels=known.labels)
    (offer,) = measure_mitigations(bare, role(1), seed=0)
    assert "no column site" in offer["reason"]


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"constraint": "fair"}, "constraint"),
        ({"attributes": ("town",)}, "attributes"),
    ],
)
def test_what_there_is_not_is_refused(asked, words):
    with pytest.raises(ConfigurationError, match=words):
        measure_mitigations(role(0, 200), role(1, 200), seed=0, **asked)


def test_other_rows_are_no_before_and_after():
    with pytest.raises(ConfigurationError, match="same classes"):
        measure_mitigations(role(0, 200), role(1, 200, K=3), seed=0)
    with pytest.raises(PredictionError, match="same rows"):
        measure_change(role(0, 200), role(1, 200), name="other")
    (same,) = measure_change(role(0), role(0), name="nothing")
    assert same["price"]["difference"] == 0
    assert {one["verdict"] for one in same["change"].values()} == {"open"}
