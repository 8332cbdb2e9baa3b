"Sets by cluster, by weight, over cells of one's own, and rare cells told elsewhere"

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats import ConformalClassifier, coverage_report, softmax

DRAWS = 500


def two_classes(scores):
    "Probabilities whose true class 0 has these scores"
    return np.column_stack([1 - scores, scores]), np.zeros(len(scores), int)


def by_people(rng, n_people):
    "(scores, who): people with one text or twenty, those with twenty being hard"
    hard = rng.random(n_people) < 0.5
    rows = np.where(hard, 20, 1)
    who = np.repeat(np.arange(n_people), rows)
    centre = np.where(hard, 0.2, 0.6) + 0.1 * rng.standard_normal(n_people)
    scores = centre[who] + 0.1 * rng.standard_normal(len(who))
    return np.clip(scores, 0.001, 0.999), who


def coverage_over(draws, fit):
    found = []
    for number in range(draws):
        rng = np.random.default_rng([8, number])
        found.append(fit(rng))
    return np.mean(found), np.std(found) / draws**0.5


@pytest.mark.parametrize("by_cluster", [False, True])
def test_a_new_person_is_covered_by_cluster_and_not_by_rows(by_cluster):
    def fit(rng):
        scores, who = by_people(rng, 60)
        probs, labels = two_classes(scores)
        given = {"cluster": who} if by_cluster else {}
        fitted = ConformalClassifier("lac", 0.1).fit(probs, labels, **given)
        new, who = by_people(rng, 400)
        one_each = np.unique(who, return_index=True)[1]
        return (new[one_each] <= fitted.threshold_).mean()

    share, error = coverage_over(DRAWS, fit)
    if by_cluster:
        assert 0.9 - 3 * error <= share <= 0.93
    else:
        assert share < 0.8


def test_classes_are_covered_by_cluster():
    def fit(rng):
        scores, who = by_people(rng, 120)
        labels = (rng.random(len(scores)) < 0.4).astype(int)
        probs = np.column_stack([1 - scores, scores])
        probs = np.where(labels[:, None] == 0, probs, probs[:, ::-1])
        old = who < 60
        fitted = ConformalClassifier("lac", 0.1, condition="class").fit(
            probs[old], labels[old], cluster=who[old]
        )
        first = np.unique(who, return_index=True)[1][60:]
        sets = fitted.predict(probs[first])
        ones = labels[first] == 1
        return sets[ones, 1].mean() if ones.any() else 0.9

    share, error = coverage_over(DRAWS, fit)
    assert share >= 0.9 - 3 * error


@pytest.mark.parametrize("by_weight", [False, True])
def test_the_population_is_covered_by_weight(by_weight):
    "Hard rows are 10% here and half there"

    def draw(rng, n, share):
        hard = rng.random(n) < share
        scores = np.clip(np.where(hard, 0.6, 0.2) + 0.1 * rng.standard_normal(n), 0, 1)
        return scores, np.where(hard, 5.0, 0.5 / 0.9)

    def fit(rng):
        scores, weights = draw(rng, 300, 0.1)
        given = {"weights": weights, "max_weight": 5} if by_weight else {}
        fitted = ConformalClassifier("lac", 0.1).fit(*two_classes(scores), **given)
        return (draw(rng, 500, 0.5)[0] <= fitted.threshold_).mean()

    share, error = coverage_over(DRAWS, fit)
    if by_weight:
        assert 0.9 - 3 * error <= share <= 0.94
    else:
        assert share < 0.7


def test_whole_weights_are_no_repeated_rows():
    scores = np.linspace(0.05, 0.95, 19)
    probs, labels = two_classes(scores)
    repeated = ConformalClassifier("lac", 0.1).fit(
        np.repeat(probs, 2, 0), np.repeat(labels, 2)
    )
    weighed = ConformalClassifier("lac", 0.1).fit(
        probs, labels, weights=np.full(19, 2), max_weight=2
    )
    plain = ConformalClassifier("lac", 0.1).fit(probs, labels)
    assert weighed.threshold_ == plain.threshold_ >= repeated.threshold_


def test_p_values_and_sets_agree_by_cluster_and_survive_a_file():
    rng = np.random.default_rng(0)
    scores, who = by_people(rng, 50)
    fitted = ConformalClassifier("lac", [0.1, 0.2], condition="class").fit(
        *two_classes(scores), cluster=who
    )
    probs = softmax(rng.normal(size=(300, 2)))
    for alpha in (0.1, 0.2):
        sets = fitted.predict(probs, alpha=alpha)
        np.testing.assert_array_equal(sets, fitted.p_values(probs) > alpha)
    saved = json.loads(json.dumps(fitted.to_dict(scores=True)))
    again = ConformalClassifier.from_dict(saved)
    np.testing.assert_array_equal(again.p_values(probs), fitted.p_values(probs))
    report = coverage_report(
        fitted.predict(probs), np.zeros(300, int), alpha=0.1, fitted=fitted
    )
    assert report.band is None and "clusters" in report.no_band


def rare_world(rng, n):
    "20 classes of which 15 are rare and hard"
    share = np.r_[np.full(5, 0.17), np.full(15, 0.01)]
    labels = rng.choice(20, n, p=share)
    hard = np.where(labels < 5, 0.2, 0.5)
    scores = np.clip(hard + 0.15 * rng.standard_normal(n), 0.01, 0.99)
    probs = np.repeat((scores / 19)[:, None], 20, 1)
    probs[np.arange(n), labels] = 1 - scores
    return probs, labels


def test_rare_cells_told_by_training_rows_are_promised_exactly():
    def fit(rng):
        _, training = rare_world(rng, 2000)
        fitted = ConformalClassifier("lac", 0.1, condition="class").fit(
            *rare_world(rng, 300), rare_from=(training,)
        )
        assert all(row["promised"] for row in fitted.cells_.promises())
        probs, labels = rare_world(rng, 1000)
        sets = fitted.predict(probs)
        return sets[np.arange(1000), labels][labels >= 5].mean()

    share, error = coverage_over(200, fit)
    assert 0.9 - 3 * error <= share <= 0.95


def test_cells_are_any_function_of_what_is_known_before_the_label():
    "Coverage where the model is unsure, by a function handed to fit and predict"

    def by_confidence(probs):
        return np.where(probs.max(1) < 0.6, "unsure", "sure")

    def fit(rng):
        probs = softmax(rng.normal(size=(3000, 3)) * 1.5)
        hard = softmax(np.log(probs) * np.where(probs.max(1) < 0.6, 0.2, 2)[:, None])
        labels = (hard.cumsum(1) < rng.random((3000, 1))).sum(1).clip(0, 2)
        fitted = ConformalClassifier("lac", 0.2, condition="group").fit(
            probs[:1000], labels[:1000], groups=by_confidence
        )
        sets = fitted.predict(probs[1000:], groups=by_confidence)
        unsure = by_confidence(probs[1000:]) == "unsure"
        return sets[np.arange(2000), labels[1000:]][unsure].mean()

    share, error = coverage_over(100, fit)
    assert abs(share - 0.8) <= 3 * error + 0.01


@pytest.mark.parametrize(
    "how, given, error, words",
    [
        ({"condition": "cluster", "seed": 0}, {"cluster": [1, 1]}, None, "'cluster'"),
        ({}, {"weights": [1, 2]}, None, "at least the largest weight, 2"),
        ({}, {"cluster": [1, None]}, PredictionError, "missing for 1 rows"),
        ({"condition": "class"}, {"rare_from": [0, 1, 1]}, PredictionError, "must be"),
    ],
)
def test_what_would_break_the_promise_is_refused(how, given, error, words):
    with pytest.raises(error or ConfigurationError, match=words):
        ConformalClassifier(**how).fit([[0.9, 0.1], [0.2, 0.8]], [0, 1], **given)
