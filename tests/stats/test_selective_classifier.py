"Certificates and refusals: promises kept by every way to certify, wrong input, files"

import json

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.base import clone

from fine_tune_llm.core.errors import (
    CertificateError,
    ConfigurationError,
    NotFittedError,
    PredictionError,
    SchemaError,
)
from fine_tune_llm.stats import (
    CONFIDENCES,
    CostMatrix,
    SelectiveClassifier,
    Target,
    certificate_curve,
    certify,
    conf_right,
    decide_at,
    selective_risk,
    softmax,
)
from fine_tune_llm.stats.bounds import binomial_p_value
from fine_tune_llm.stats.costs import least_cost
from fine_tune_llm.stats.intervals import clopper_pearson
from fine_tune_llm.testing import synthetic_problem

TRIAGE = CostMatrix.from_harms(
    ["routine", "urgent", "emergency"],
    miss={"emergency": 20, "urgent": 4},
    false_alarm={"emergency": 1},
    abstain_cost=0.5,
    critical=["emergency"],
)
MISSED = Target(
    "missed emergencies",
    0.02,
    loss=TRIAGE.critical_loss,
    classes=["emergency"],
    given="all",
)
BY_COST = {"cost": TRIAGE, "score": "expected_cost"}


def triage_rows(n, seed):
    problem = synthetic_problem(n, 3, seed=seed, spread=4.0)
    return softmax(problem.logits * 1.2), problem.labels


def through_a_file(classifier):
    return SelectiveClassifier.from_dict(json.loads(json.dumps(classifier.to_dict())))


def test_the_certificate_is_what_the_binomial_says():
    problem = synthetic_problem(3000, 4, seed=0, spread=4.0)
    probs, labels = softmax(problem.logits)[:1500], problem.labels[:1500]
    fitted = SelectiveClassifier(target_risk=0.05, delta=0.1).fit(probs, labels)
    c = fitted.certificate_
    assert binom.cdf(c.n_errors, c.n_decided, 0.05) <= 0.1
    assert c.n_decided == (probs.max(1) >= c.threshold).sum()
    assert certify(*conf_right(probs, labels), target_risk=0.05, delta=0.1) == c
    assert c.n_errors / c.n_decided <= c.risk_bound <= 0.05
    upper = clopper_pearson(c.n_errors, c.n_decided, 0.9, side="upper")[1]
    assert c.risk_bound == upper
    upper = clopper_pearson(3, 80, 0.9, side="upper")[1]
    assert binomial_p_value(3, 80, upper) == pytest.approx(0.1, abs=1e-9)
    again = through_a_file(fitted)
    assert again.certificate_ == c
    assert (again.decide(probs) == fitted.decide(probs)).all()
    decided = fitted.decide([[0.97, 0.01, 0.01, 0.01], [0.4, 0.3, 0.2, 0.1]])
    assert decided.tolist() == [0, -1]
    with pytest.raises(PredictionError, match="`probs` has 2 classes, fitted with 4"):
        fitted.decide([[0.5, 0.5]])


@pytest.fixture(scope="module")
def both():
    "Cost and missed emergencies at one threshold, and the rows they were certified on"
    calibration, pilot = triage_rows(4000, 1), triage_rows(1000, 2)
    fitted = SelectiveClassifier(0.25, 0.1, targets=[MISSED], seed=1, **BY_COST)
    return fitted.fit(*calibration, pilot=pilot), calibration, pilot


def test_costs_and_a_second_target_on_fresh_rows(both):
    fitted, calibration, pilot = both
    fresh, truth = triage_rows(50_000, 3)
    decided = fitted.decide(fresh)
    on = decided >= 0
    emergency = truth == 2
    assert TRIAGE.cost[truth, decided][on].mean() < 0.25
    assert (on & (decided != 2))[emergency].mean() < 0.02
    hb = SelectiveClassifier(0.25, 0.1, targets=[MISSED], **BY_COST)
    hb.fit(*calibration, pilot=pilot)
    betting = fitted.certificate_.selective_coverage
    assert hb.certificate_.selective_coverage < betting
    with pytest.raises(ConfigurationError, match=r"for 2 classes, got \(3, 3\)"):
        fitted.decide([[0.5, 0.5]])


def test_costs_and_a_second_target_say_what_was_seen(both):
    fitted, (probs, labels), pilot = both
    cost, missed = fitted.certificates_
    assert (cost.threshold, cost.name) == (missed.threshold, "cost")
    assert (missed.name, missed.given) == ("missed emergencies", "all")
    assert missed.n == (labels == 2).sum()
    d = fitted.decide(probs)
    mean_cost = TRIAGE.cost[labels, d][d >= 0].mean()
    mean_missed = ((d >= 0) & (d != 2))[labels == 2].mean()
    assert cost.mean_loss == pytest.approx(mean_cost, abs=1e-9)
    assert missed.mean_loss == pytest.approx(mean_missed, abs=1e-9)
    again = through_a_file(fitted)
    assert again.certificates_ == fitted.certificates_
    assert (again.decide(pilot[0]) == fitted.decide(pilot[0])).all()


def test_a_group_whose_main_target_is_refused_decides_nothing():
    groups = ["a"] * 200 + ["b"] * 200
    by = SelectiveClassifier(0.05, targets=[Target("other", 0.9)], together=False)
    by.fit([[0.99, 0.01]] * 400, [0] * 200 + [0, 1] * 100, groups=groups)
    assert by.thresholds_["b"] is None
    assert {c.group for c in by.certificates_} == {"a"}


def test_groups():
    problem = synthetic_problem(6000, 4, seed=6, spread=4.0)
    probs, labels = softmax(problem.logits), problem.labels
    g = np.random.default_rng(6).choice(
        ["north", "south", "islands"], 6000, p=[0.6, 0.39, 0.01]
    )
    fitted = SelectiveClassifier(0.05, 0.1).fit(
        probs[:3000],
        labels[:3000],
        groups=g[:3000],
        pilot=(probs[3000:], labels[3000:]),
    )
    n_islands = (g[:3000] == "islands").sum()
    assert fitted.refusals_[0]["context"]["rows_that_would_do"] > n_islands
    d = fitted.decide(probs, groups=g)
    assert (d[g == "islands"] == -1).all() and (d >= 0).any()
    north = fitted.thresholds_["north"]
    assert (d[g == "north"] == decide_at(probs[g == "north"], north)).all()
    assert (through_a_file(fitted).decide(probs, groups=g) == d).all()
    rows = {"probs": probs[:3000], "labels": labels[:3000], "groups": g[:3000]}
    curve = certificate_curve(fitted, **rows, group="north")
    bound = fitted.certificates_[0].risk_bound
    assert curve.bound[curve.chosen] == pytest.approx(bound, abs=1e-8)
    words = "no certificate of target 0 for group 'islands'"
    with pytest.raises(ConfigurationError, match=words):
        certificate_curve(fitted, **rows, group="islands")
    with pytest.raises(ConfigurationError, match="`groups` are part of the fit"):
        fitted.decide(probs)
    with pytest.raises(PredictionError, match=r"must have shape \(3000,\)"):
        SelectiveClassifier().fit(probs[:3000], labels[:3000], groups=["a"])


def test_groups_are_known_by_their_names():
    one = SelectiveClassifier(0.05, 0.1).fit(
        [[0.99, 0.01]] * 400, [0] * 400, groups=[1, 2, None, np.nan] * 100
    )
    d = one.decide([[0.99, 0.01]] * 4, groups=np.array([1.0, 2.0, np.nan, 3.0]))
    assert d.tolist() == [0, 0, 0, -1]
    assert [*one.thresholds_] == ["1", "2", "(missing)"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"target_risk": "a"}, r"`target_risk` must be in \(0, 1\), got 'a'"),
        ({"target_risk": 21, "cost": TRIAGE}, r"must be in \(0, 20\), got 21"),
        ({"delta": 0}, r"`delta` must be in \(0, 1\), got 0"),
        ({"cost": np.eye(2)}, "below the cost of deciding right"),
        ({"seed": -1}, "`seed` must be a whole number"),
        ({"together": "no"}, "`together` must be"),
        ({"weight": 0}, "`weight` must be positive"),
        ({"correction": "none"}, "`correction` must be fixed, bonferroni or holm"),
        ({"method": "wsr"}, "Pass seed="),
        ({"score": "luck"}, "luck"),
        ({"grid": [0.1, 0.9]}, "highest first"),
        ({"targets": Target("error", 0.1)}, "need names of their own"),
        ({"targets": ["x"]}, "must hold `Target`s, got 'x'"),
        (
            {"targets": [Target("x", 0.1)], "transitions": np.zeros((2, 2))},
            "with together=True there is one",
        ),
        (
            {
                "targets": [Target("x", 0.1)],
                "together": False,
                "transitions": np.eye(3),
            },
            r"`transitions` must have shape \(2, 2\)",
        ),
    ],
)
def test_wrong_parameters_are_refused_by_fit(parameters, words):
    classifier = SelectiveClassifier(**parameters)
    with pytest.raises(ConfigurationError, match=words):
        classifier.fit([[0.9, 0.1]] * 50, [0] * 50)
    with pytest.raises(NotFittedError, match="Call fit"):
        classifier.decide([[0.5, 0.5]])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"risk": 0}, "`risk` must be"),
        ({"risk": 0.1, "given": "some"}, "`given` must be"),
        ({"risk": 0.1, "loss": [[0, 0], [0, 0]]}, "must be a square matrix"),
        ({"risk": 0.1, "loss": [[0, -1], [0, 0]]}, "must be a square matrix"),
        ({"risk": 0.1, "loss": [0, 1]}, "must be a square matrix"),
        ({"risk": 0.1, "weight": -1}, "`weight` must be positive"),
    ],
)
def test_wrong_targets(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        Target("x", **arguments)


def test_targets_that_do_not_fit_the_rows():
    rows = [[0.9, 0.1]] * 50, [0] * 50
    three = Target("x", 0.1, loss=1 - np.eye(3))
    with pytest.raises(PredictionError, match="the loss of target 'x' has 3"):
        SelectiveClassifier(targets=[three]).fit(*rows)
    named = Target("x", 0.1, classes="fire")
    with pytest.raises(ConfigurationError, match="names 'fire', which is no class"):
        SelectiveClassifier(targets=[named]).fit(*rows)


@pytest.mark.parametrize(
    ("conf", "right"),
    [
        ([99.0] * 60, [True] * 60),
        ([0.9] * 60, [7] * 60),
        ([0.9] * 60, ["False"] * 60),
        ([0.9] * 60, [True] * 6),
        ([], []),
    ],
)
def test_wrong_decisions_from_elsewhere(conf, right):
    with pytest.raises(PredictionError):
        certify(conf, right, target_risk=0.2, delta=0.1)


def test_wrong_rows():
    with pytest.raises(PredictionError, match="`labels`"):
        selective_risk([0, 1], ["a", "b"])
    with pytest.raises(PredictionError, match="`labels` is empty"):
        selective_risk([], [])
    with pytest.raises(PredictionError, match="`pilot` must be"):
        SelectiveClassifier().fit([[0.6, 0.4]] * 10, [0] * 10, pilot=([[0.6, 0.4]],))
    with pytest.raises(PredictionError, match="has 3 classes, and 2 are wanted"):
        pilot = ([[0.6, 0.2, 0.2]] * 9, [0] * 9)
        SelectiveClassifier().fit([[0.6, 0.4]] * 10, [0] * 10, pilot=pilot)


def test_what_is_no_saved_classifier():
    with pytest.raises(SchemaError, match="no saved selective_classifier"):
        SelectiveClassifier.from_dict({})
    fitted = SelectiveClassifier().fit([[0.99, 0.01]] * 200, [0] * 200)
    saved = fitted.to_dict()
    del saved["state"]["certificates_"]
    with pytest.raises(SchemaError, match="certificates_"):
        SelectiveClassifier.from_dict(saved)
    with pytest.raises(NotFittedError):
        SelectiveClassifier().to_dict()


def test_clone_and_parameters():
    classifier = SelectiveClassifier(
        0.25, cost=TRIAGE, targets=[MISSED], grid=[0.9, 0.5], classes=("a", "b", "c")
    )
    copied = clone(classifier)
    assert copied.get_params().keys() == classifier.get_params().keys()
    assert copied.cost == TRIAGE and copied.targets == [MISSED]
    assert classifier.set_params(delta=0.2).delta == 0.2
    assert "target_risk=0.25" in repr(classifier)


# The promise, kept: 20,000 rows of an over-confident model are the whole world, so that
# the true risk of every threshold is known.

WORLD = synthetic_problem(20_000, 4, temperature=1.5, seed=1, spread=4.0)
PROBS, LABELS = softmax(WORLD.logits), WORLD.labels
SIDE = np.where(WORLD.true_probs[:, 0] > 0.5, "a", "b")
HARM = CostMatrix.from_harms("abcd", miss={"d": 5}, false_alarm=0.2)
LATE = Target("missed d", 0.08, classes=["d"], given="all")


def error_truth(score="max_prob"):
    return PROBS.argmax(1) != LABELS, CONFIDENCES.get(score)(PROBS)


def cost_truth():
    best, _ = least_cost(PROBS, HARM.cost)
    return HARM.cost[LABELS, best], CONFIDENCES.get("expected_cost")(PROBS, HARM.cost)


def missed_truth():
    return PROBS.argmax(1) != 3, PROBS.max(1)


def is_false(certificate, loss, conf):
    "Is the true risk above what is promised?"
    on = conf >= certificate.threshold
    if certificate.group:
        on &= certificate.group == SIDE
    rows = on if certificate.given == "decided" else LABELS == 3
    return (loss * on)[rows].mean() > certificate.target_risk


COARSE = {"correction": "holm", "grid": [0.99, 0.95, 0.9, 0.8, 0.6, 0.0]}
TWO = {"targets": [LATE], "classes": "abcd"}
COST = {"cost": HARM, "score": "expected_cost"}


@pytest.mark.parametrize(
    ("risk", "truths", "by_group", "how"),
    [
        (0.08, [error_truth()], False, {}),
        (0.12, [error_truth()], False, COARSE),
        (0.08, [error_truth("margin")], False, {"score": "margin"}),
        (0.3, [cost_truth()], False, COST),
        (0.3, [cost_truth()], False, {**COST, "seed": 0}),
        (0.08, [error_truth()], True, {}),
        (0.08, [error_truth(), missed_truth()], False, TWO),
        (0.08, [error_truth(), missed_truth()], False, {**TWO, "together": False}),
    ],
    ids=[
        "exact, fixed",
        "exact, Holm over six thresholds",
        "margin",
        "cost, Hoeffding-Bentkus",
        "cost, betting",
        "two groups",
        "two targets, one threshold",
        "two targets, graph",
    ],
)
def test_the_promise_is_kept(risk, truths, by_group, how, delta=0.2, runs=150):
    "At most a share delta of the fits promise anything false; three sigma are allowed"
    classifier = SelectiveClassifier(risk, delta, **how)
    rng = np.random.default_rng(0)
    broken = refused = 0
    for _ in range(runs):
        rows = rng.integers(0, len(LABELS), 400)
        groups = SIDE[rows] if by_group else None
        try:
            classifier.fit(PROBS[rows], LABELS[rows], groups=groups)
        except CertificateError:
            refused += 1
            continue
        truth_of = truths if len(truths) > 1 else truths * 2
        broken += any(
            is_false(certificate, *truth)
            for certificate, truth in zip(classifier.certificates_, truth_of)
        )
    assert broken / runs <= delta + 3 * (delta * (1 - delta) / runs) ** 0.5
    assert refused < runs / 2
