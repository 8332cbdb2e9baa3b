"Costs and decisions: wrong input, other layouts, rows alone and in company"

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError, SchemaError
from fine_tune_llm.stats import (
    CostMatrix,
    as_cost,
    bayes_decide,
    expected_cost,
    mean_expected_cost,
    mean_realised_cost,
    realised_cost,
)
from fine_tune_llm.stats.costs import least_cost
from fine_tune_llm.testing import synthetic_problem

TRIAGE = CostMatrix.from_harms(
    ["routine", "urgent", "emergency"],
    miss={"emergency": 20, "urgent": 4},
    false_alarm={"emergency": 1},
    abstain_cost=0.5,
    critical=["emergency"],
)
FIRE = CostMatrix.from_harms(["calm", "fire"], miss={"fire": 10}, abstain_cost=0.5)
ROWS = [[0.8, 0.2], [0.4, 0.6], [0.95, 0.05]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: CostMatrix("ab", [[0, 1], [-1, 0]]),
            "true 'b', decided 'a' costs -1",
        ),
        (
            lambda: CostMatrix("ab", [[2, 1], [1, 0]]),
            "below the cost of deciding right: true 'a', decided 'b' costs 1",
        ),
        (lambda: CostMatrix("ab", np.zeros((2, 2))), "is 0 everywhere"),
        (lambda: CostMatrix("ab", [["x", 1], [1, 0]]), "`cost` must hold numbers"),
        (lambda: CostMatrix("abc", 1 - np.eye(2)), "must have shape \\(3, 3\\)"),
        (lambda: CostMatrix("aa", 1 - np.eye(2)), "two distinct names"),
        (lambda: CostMatrix(3, 1 - np.eye(2)), "two distinct names, got 3"),
        (lambda: CostMatrix.from_harms("ab", miss={"c": 1}), "`miss` names 'c'"),
        (
            lambda: CostMatrix.from_harms("ab", miss=[1, 2, 3]),
            "`miss` must be a number or one per class",
        ),
        (
            lambda: CostMatrix.from_harms("ab", critical=[("a", "x")]),
            "`critical` must hold",
        ),
        (lambda: CostMatrix.from_harms("ab", critical=7), "`critical` must hold"),
        (
            lambda: CostMatrix.from_harms("ab", abstain_cost={"a": 3}),
            "`abstain_cost` says nothing of 'b'",
        ),
        (lambda: as_cost(TRIAGE, abstain_cost=1), "given twice"),
        (lambda: as_cost([1, 2]), "for K classes"),
        (lambda: bayes_decide(ROWS, TRIAGE), r"for 2 classes, got \(3, 3\)"),
    ],
)
def test_wrong_costs(make, words):
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_harms_by_name():
    np.testing.assert_array_equal(TRIAGE.cost, [[0, 1, 2], [4, 0, 5], [20, 20, 0]])
    free = CostMatrix.from_harms("ab", abstain_cost={"a": 3, "b": 0})
    assert free.abstain_cost.tolist() == [3.0, 0.0]
    assert CostMatrix.from_harms("ab", critical="a").critical == (("a", "b"),)
    assert as_cost(1 - np.eye(2), abstain_cost=0.1).abstain_cost.tolist() == [0.1, 0.1]
    assert not TRIAGE.cost.flags.writeable


def test_a_cost_matrix_survives_a_file():
    again = CostMatrix.from_dict(json.loads(json.dumps(TRIAGE.to_dict())))
    assert again == TRIAGE
    with pytest.raises(SchemaError, match="this is no cost matrix"):
        CostMatrix.from_dict({})


def test_a_name_with_a_bar_does_not_break_the_table():
    table = CostMatrix.from_harms(["a|b", "c"])._repr_markdown_()
    assert {line.replace("\\|", "").count("|") for line in table.splitlines()} == {4}


def test_bayes_decisions_of_other_layouts():
    assert bayes_decide(ROWS[:2], CostMatrix(FIRE.classes, FIRE.cost)).tolist() == [
        1,
        1,
    ]
    assert bayes_decide(ROWS[:2], FIRE.cost).tolist() == [1, 1]
    np.testing.assert_array_equal(
        expected_cost(ROWS, FIRE.cost.tolist()), expected_cost(ROWS, FIRE)
    )
    p = synthetic_problem(2000, 5, seed=0).true_probs
    chow = CostMatrix.from_harms("abcde", abstain_cost=0.3)
    expected = np.where(p.max(1) >= 0.7, p.argmax(1), -1)
    assert (bayes_decide(p, chow) == expected).all()
    assert (bayes_decide(p.astype(">f4")[::-1], chow) == expected[::-1]).all()


def test_a_row_alone_is_decided_as_in_company():
    draw = np.random.default_rng(0).dirichlet(np.ones(1100) * 0.01, 1000)
    probs = draw.astype(np.float32)
    cost = np.random.default_rng(1).random((1100, 1100))
    best, value = least_cost(probs, cost)
    np.testing.assert_allclose(
        value, (probs.astype(np.float64) @ cost).min(1), rtol=1e-12
    )
    one, least = least_cost(probs[[7]], cost)
    assert (one[0], least[0]) == (best[7], value[7])


@pytest.mark.parametrize(
    ("decided", "words"),
    [
        ([np.nan, 0], "must be class indices"),
        (["a", "b"], "which is none of the 2 classes"),
        ([2, 0], r"must lie in \[-1, 2\), row 0 is 2"),
        (1, r"must have shape \(2,\)"),
    ],
)
def test_wrong_decisions(decided, words):
    with pytest.raises(PredictionError, match=words):
        realised_cost(decided, [0, 1], FIRE)


def test_realised_costs():
    assert realised_cost([0.0, 1.0], [1, 1], FIRE.cost).tolist() == [10.0, 0.0]
    with pytest.raises(ConfigurationError, match="1 abstentions have no cost"):
        realised_cost([-1], [0], CostMatrix.from_harms("ab"))
    with pytest.raises(PredictionError, match="`labels` is empty"):
        realised_cost([], [], FIRE)


def test_whole_weights_are_repeated_rows():
    rng = np.random.default_rng(17)
    probs, labels = rng.dirichlet([1, 1, 1], 40), rng.integers(0, 3, 40)
    cost = CostMatrix("abc", rng.random((3, 3)) * (1 - np.eye(3)), abstain_cost=0.2)
    times = rng.integers(0, 4, 40)
    rows = np.repeat(np.arange(40), times)
    decided = bayes_decide(probs, cost)
    assert (decided < 0).any()
    weighted = mean_realised_cost(decided, labels, cost, weights=times)
    again = mean_realised_cost(decided[rows], labels[rows], cost)
    assert weighted == pytest.approx(again, rel=1e-12)
    weighted = mean_expected_cost(probs, cost, weights=times)
    assert weighted == pytest.approx(mean_expected_cost(probs[rows], cost), rel=1e-12)
    given = mean_expected_cost(probs, cost, decided=decided, weights=times)
    assert given == weighted
    with pytest.raises(ConfigurationError, match="abstentions have no cost"):
        mean_expected_cost(probs, cost.cost, decided=decided)
    with pytest.raises(PredictionError, match="row 3 has"):
        mean_realised_cost(decided, labels, cost, weights=[1, 1, 1, -1] * 10)
