"Thresholds by group: the best there are, by linear programming and beside fairlearn"

import numpy as np
import pytest
from scipy.optimize import linprog

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats import CONSTRAINTS, GroupThresholds, independence_weights


def rows(seed, n=400, n_groups=3, digits=2):
    "Scores that tell the class of some groups better than of others"
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n)
    truth = (rng.random(n) < 0.3 + 0.1 * group).astype(int)
    scores = rng.normal(truth * (0.5 + 0.7 * group) + 0.3 * group).round(digits)
    return scores, truth, group.astype(str)


def mean_cost(chance, truth, costs):
    "Expected cost of decisions that are positive with a chance"
    return float(
        np.where(truth == 1, costs[1] * (1 - chance), costs[0] * chance).mean()
    )


def rates(chance, truth, inside, constraint):
    "The rates of a group that a constraint makes equal"
    tpr = chance[inside & (truth == 1)].mean()
    fpr = chance[inside & (truth == 0)].mean()
    return {
        "equalised_odds": [tpr, fpr],
        "equal_opportunity": [tpr],
        "predictive_equality": [fpr],
        "demographic_parity": [chance[inside].mean()],
    }[constraint]


def least_cost(scores, truth, group, constraint, costs):
    "By linear programming: a chance for each threshold of each group, rates alike"
    names = sorted(set(group))
    columns, parts, rate_rows = [], [], []
    for name in names:
        inside = group == name
        cuts = np.concatenate([[np.inf], np.unique(scores[inside])[::-1]])
        for cut in cuts:
            chance = (scores >= cut) * 1.0
            own = np.where(inside, np.where(truth == 1, 1 - chance, chance), 0)
            weight = np.where(truth == 1, costs[1], costs[0])
            columns.append((own * weight).sum() / len(scores))
            parts.append(name)
            rate_rows.append(rates(chance, truth, inside, constraint))
    parts, rate_rows = np.array(parts), np.array(rate_rows)
    one_each = [(parts == name) * 1.0 for name in names]
    alike = [
        (parts == name) * rate_rows[:, k] - (parts == names[0]) * rate_rows[:, k]
        for name in names[1:]
        for k in range(rate_rows.shape[1])
    ]
    solved = linprog(
        columns,
        A_eq=np.array([*one_each, *alike]),
        b_eq=[1.0] * len(names) + [0.0] * len(alike),
    )
    return solved.fun


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("costs", [(1.0, 1.0), (1.0, 4.0), (3.0, 1.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_mix_of_thresholds_costs_less(constraint, costs, seed):
    scores, truth, group = rows(seed)
    rule = GroupThresholds(
        constraint, seed=0, false_positive_cost=costs[0], false_negative_cost=costs[1]
    ).fit(scores, truth, groups=group)
    chance = rule.rates(scores, groups=group)
    known = [rates(chance, truth, group == name, constraint) for name in "012"]
    np.testing.assert_allclose(known, [known[0]] * 3, atol=1e-12)
    best = least_cost(scores, truth, group, constraint, costs)
    assert mean_cost(chance, truth, costs) == pytest.approx(best, abs=1e-8)


@pytest.mark.parametrize(
    "constraint, theirs",
    [
        ("equalised_odds", "equalized_odds"),
        ("equal_opportunity", "true_positive_rate_parity"),
        ("predictive_equality", "false_positive_rate_parity"),
        ("demographic_parity", "demographic_parity"),
    ],
)
def test_fairlearn_finds_nothing_better(constraint, theirs):
    "fairlearn searches a grid of 1,000 places: no better, and within a grid step"
    post = pytest.importorskip(
        "fairlearn.postprocessing", reason="fairlearn is in the extra bench"
    )
    base = pytest.importorskip("sklearn.base")
    scores, truth, group = rows(3, n=600, n_groups=2)

    class Score(base.BaseEstimator):
        "An estimator that hands its only feature on"

        def fit(self, X, y):
            return self

        def predict(self, X):
            return np.asarray(X)[:, 0]

        def __sklearn_is_fitted__(self):
            return True

    optimizer = post.ThresholdOptimizer(
        estimator=Score(), constraints=theirs, prefit=True, predict_method="predict"
    )
    X = scores[:, None]
    optimizer.fit(X, truth, sensitive_features=group)
    other = optimizer._pmf_predict(X, sensitive_features=group)[:, 1]
    rule = GroupThresholds(constraint, seed=0).fit(scores, truth, groups=group)
    mine = rule.rates(scores, groups=group)
    ours, fairlearns = (mean_cost(one, truth, (1, 1)) for one in (mine, other))
    assert ours <= fairlearns + 1e-12
    assert fairlearns - ours < 2e-3
    for name in "01":
        inside = group == name
        np.testing.assert_allclose(
            rates(mine, truth, inside, constraint),
            rates(other, truth, inside, constraint),
            atol=0.05,
        )


def test_draws_keep_to_their_chances():
    "20,000 rows; 4 sigma for each group"
    scores, truth, group = rows(5, n=20_000)
    rule = GroupThresholds(seed=1).fit(scores, truth, groups=group)
    chance, decided = (f(scores, groups=group) for f in (rule.rates, rule.predict))
    for name in "012":
        inside = group == name
        sigma = (chance[inside] * (1 - chance[inside])).sum() ** 0.5
        assert abs((decided - chance)[inside].sum()) <= 4 * max(sigma, 1e-9)
    test = np.array_equal
    assert test(decided, rule.predict(scores, groups=group))
    other = GroupThresholds(seed=2).fit(scores, truth, groups=group)
    assert not test(decided, other.predict(scores, groups=group))


def test_named_rows_are_drawn_alike_wherever_they_stand():
    scores, truth, group = rows(5)
    rule = GroupThresholds(seed=1).fit(scores, truth, groups=group)
    ids = [f"row {i}" for i in range(len(scores))]
    decided = rule.predict(scores, groups=group, ids=ids)
    order = np.random.default_rng(0).permutation(len(scores))
    again = rule.predict(
        scores[order], groups=group[order], ids=[ids[i] for i in order]
    )
    assert np.array_equal(again, decided[order])


def test_a_single_threshold_is_no_draw():
    scores, truth, group = rows(5)
    rule = GroupThresholds(seed=1, randomize=False).fit(scores, truth, groups=group)
    chance = rule.rates(scores, groups=group)
    assert set(np.unique(chance)) <= {0.0, 1.0}
    target = [rule.target_["tpr"], rule.target_["fpr"]]
    for name in "012":
        inside = group == name
        found, *others = (
            np.subtract(rates(one, truth, inside, "equalised_odds"), target)
            for one in (chance, *((scores >= cut) * 1.0 for cut in scores[inside]))
        )
        nearest = min(np.hypot(*other) for other in others)
        assert np.hypot(*found) <= nearest + 1e-12


@pytest.mark.parametrize(
    "call, error, words",
    [
        (
            lambda r: r.fit([0.1, 0.2], [1, 1], groups=["a", "a"]),
            PredictionError,
            "no tr",
        ),
        (
            lambda r: r.fit([0.1, np.nan], [0, 1], groups=[1, 1]),
            PredictionError,
            "finite",
        ),
        (lambda r: r.fit([0.1, 0.2], [0, 2], groups=[1, 1]), PredictionError, "labels"),
        (lambda r: r.fit([0.1], [0, 1], groups=[1, 1]), PredictionError, "1"),
        (
            lambda r: r.set_params(constraint="fair").fit(
                [1, 2], [0, 1], groups=[1, 1]
            ),
            ConfigurationError,
            "constraint",
        ),
        (
            lambda r: r.set_params(false_positive_cost=0).fit([1], [0], groups=[1]),
            ConfigurationError,
            "false_positive_cost",
        ),
    ],
)
def test_wrong_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call(GroupThresholds(seed=0))


@pytest.mark.parametrize("seed", range(3))
def test_weights_make_class_and_groups_independent(seed):
    "For any columns and weights: the joint share is the product of the two"
    rng = np.random.default_rng(seed)
    n = 500
    site, age = rng.choice(["A", "B", None], n), rng.integers(0, 3, n)
    labels = rng.integers(0, 3, n)
    own = rng.uniform(0, 2, n)
    weights = independence_weights(labels, [site, age], weights=own)
    total = own.sum()
    cells = [f"{s}|{a}" for s, a in zip(site, age)]
    scaled = own * n / total
    for cell in set(cells):
        inside = np.array([one == cell for one in cells])
        for k in range(3):
            both = inside & (labels == k)
            if both.any():
                wanted = scaled[inside].sum() * scaled[labels == k].sum() / n
                assert weights[both].sum() == pytest.approx(wanted, rel=1e-9)
    with pytest.raises(PredictionError, match="groups"):
        independence_weights([0, 1], [["a"]])
