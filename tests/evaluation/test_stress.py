"Other mixes, noise and worst cases: against brute force on a population that is known"

import json

import numpy as np
import pytest

from fine_tune_llm import Predictions
from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.evaluation import StressTest, subject_of
from fine_tune_llm.predictions import Outcome
from fine_tune_llm.stats import CostMatrix

CLASSES = ("a", "b", "c")
COST = CostMatrix(CLASSES, [[0, 1, 2], [5, 0, 1], [20, 4, 0]], abstain_cost=0.5)


def drawn(n, *, seed, priors=(0.7, 0.25, 0.05), groups=None):
    "Rows of three classes, of which the rare one is hard, with two groups"
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=priors)
    site = rng.choice(["A", "B"], size=n, p=groups or (0.8, 0.2))
    strength = np.array([2.5, 1.8, 1.0])[labels] - 0.8 * (site == "B")
    logits = rng.normal(0, 1, (n, 3))
    logits[np.arange(n), labels] += strength
    said = Predictions(
        logits=logits, labels=labels, classes=CLASSES, groups={"site": site}
    )
    conf = said.probs.max(1)
    decided = np.where(conf >= 0.6, said.probs.argmax(1), -1)
    sets = said.probs >= 0.1
    return subject_of(said, cost=COST, decided=decided, sets=sets)


def case_of(analysis, name):
    return next(case for case in analysis.cases if case["name"] == name)


def values(case):
    return {key: case[key]["value"] for key in ("error", "selective_risk", "cost")}


def truth(population):
    "Error, selective risk and cost of a large population"
    wrong = population.likeliest != population.labels
    kept = population.kept
    answered = np.where(kept, population.decided, population.likeliest)
    paid = np.where(
        kept, COST.cost[population.labels, population.decided], COST.abstain_cost[0]
    )
    return {
        "error": (answered != population.labels).mean(),
        "selective_risk": wrong[kept].mean(),
        "cost": paid.mean(),
    }


@pytest.fixture(scope="module")
def analysis():
    return StressTest(seed=0).analyze(drawn(40_000, seed=0))


@pytest.mark.parametrize(
    "name, priors",
    [
        ("as measured", (0.7, 0.25, 0.05)),
        ("class c twice as frequent", (0.7 * 0.9 / 0.95, 0.25 * 0.9 / 0.95, 0.1)),
        ("class b half as frequent", (0.7 * 0.875 / 0.75, 0.125, 0.05 * 0.875 / 0.75)),
        ("all classes equally frequent", (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_another_mix_of_classes_is_what_a_population_of_that_mix_shows(
    analysis, name, priors
):
    wanted = truth(drawn(1_000_000, seed=1, priors=priors))
    case = case_of(analysis, name)
    for key, value in wanted.items():
        found = case[key]
        sd = (found["high"] - found["low"]) / 3.92
        # 4 sigma; shares of the sample differ from .7, .25 and .05, too
        assert abs(found["value"] - value) < 4 * sd + 0.02 * value, key


def test_a_group_that_is_twice_as_frequent(analysis):
    wanted = truth(drawn(1_000_000, seed=2, groups=(0.6, 0.4)))
    found = case_of(analysis, "site B twice as frequent")
    for key, value in wanted.items():
        sd = (found[key]["high"] - found[key]["low"]) / 3.92
        assert abs(found[key]["value"] - value) < 4 * sd + 0.02 * value, key


def test_intervals_of_other_mixes_hold_the_truth():
    wanted = truth(drawn(2_000_000, seed=3, priors=(1 / 3, 1 / 3, 1 / 3)))
    missed, R = dict.fromkeys(wanted, 0), 150
    only = StressTest(seed=0, label_noise=(), score_noise=(), parts=())
    for seed in range(R):
        analysis = only.analyze(drawn(1500, seed=100 + seed))
        case = case_of(analysis, "all classes equally frequent")
        for key, value in wanted.items():
            missed[key] += not case[key]["low"] <= value <= case[key]["high"]
    most = 0.05 + 3 * (0.05 * 0.95 / R) ** 0.5  # 3 sigma
    assert max(missed.values()) / R <= most


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_wrong_labels_are_taken_away(noise):
    rng, clean = np.random.default_rng(0), drawn(60_000, seed=4)
    n = len(clean)
    wrong = rng.uniform(size=n) < noise
    seen = np.where(
        wrong, (clean.labels + rng.integers(1, 3, size=n)) % 3, clean.labels
    )
    said = Predictions(probs=clean.probs, labels=seen, classes=CLASSES)
    noisy = subject_of(said, cost=COST, decided=clean.decided)
    case = case_of(
        StressTest(seed=0, label_noise=(noise,)).analyze(noisy),
        f"{noise:.0%} of the labels are wrong",
    )
    for key, value in truth(clean).items():
        sd = (case[key]["high"] - case[key]["low"]) / 3.92
        assert abs(case[key]["value"] - value) < 4 * sd, key  # 4 sigma
    due = ((clean.likeliest == clean.labels) & wrong).mean()
    share = due / (noisy.likeliest != seen).mean()
    assert abs(case["error"]["due_to_labels"] - share) < 0.03


def test_more_wrong_labels_than_errors_is_not_evaluated():
    said = Predictions(probs=[[0.9, 0.1]] * 200, labels=[0] * 200)
    case = StressTest(seed=0, label_noise=(0.05, 0.6)).analyze(said).cases
    few = next(one for one in case if one["name"].startswith("5%"))
    many = next(one for one in case if one["name"].startswith("60%"))
    assert few["error"]["evaluated"] is False and "fewer" in few["error"]["reason"]
    assert "say nothing" in many["error"]["reason"]


def test_scores_that_shake_change_decisions_more_the_more_they_shake():
    said = drawn(20_000, seed=5).predictions
    analysis = StressTest(seed=0, score_noise=(1e-9, 0.5, 2.0)).analyze(said)
    names = [f"scores shaken by {size:g}" for size in (1e-9, 0.5, 2.0)]
    still, some, much = (case_of(analysis, name) for name in names)
    assert still["changed"]["value"] == 0
    assert still["error"]["value"] == case_of(analysis, "as measured")["error"]["value"]
    assert some["changed"]["high"] < much["changed"]["low"]
    assert some["error"]["value"] < much["error"]["value"]
    assert still["coverage"]["evaluated"] is False


def test_the_rule_of_a_certificate_is_followed_and_others_are_not_guessed():
    subject = drawn(5000, seed=6)
    outcome = Outcome(
        predictions=subject.predictions,
        probs=subject.probs,
        sets=np.asarray(subject.sets),
        decided=subject.decided,
        conf=subject.conf,
        needed=np.full(len(subject), 0.6),
    )
    test = StressTest(seed=0, score_noise=(1e-9, 1.0))
    of_outcome = test.analyze(outcome)
    still = case_of(of_outcome, "scores shaken by 1e-09")
    assert still["changed"]["value"] == 0
    assert still["abstained"]["value"] == (~subject.kept).mean()
    unknown = case_of(test.analyze(subject), "scores shaken by 1")
    assert "not known" in unknown["error"]["reason"]
    costly = np.where(subject.kept, 2, -1)
    other = subject_of(subject.predictions, decided=costly)
    assert (
        "not known"
        in case_of(test.analyze(other), "scores shaken by 1")["error"]["reason"]
    )


def test_the_worst_mix_is_no_better_than_any_mix_within_it(analysis):
    worst = case_of(analysis, "the worst mix by class, each up to 2 times more or less")
    for name in (
        "as measured",
        "class c twice as frequent",
        "class b twice as frequent",
    ):
        seen = values(case_of(analysis, name))["error"]
        assert worst["error"]["value"] >= seen - 1e-12


def test_numbers_that_stand_on_too_little_are_not_evaluated():
    labels = [0] * 200 + [1] * 3
    probs = [[0.9, 0.1]] * 200 + [[0.2, 0.8]] * 3
    analysis = StressTest(seed=0).analyze(Predictions(probs=probs, labels=labels))
    alike = case_of(analysis, "all classes equally frequent")
    assert alike["n_eff"] < 30
    assert "effective rows" in alike["error"]["reason"]
    impossible = case_of(analysis, "class 0 twice as frequent")
    assert "no weights" in impossible["error"]["reason"]
    only = StressTest(seed=0).analyze(
        Predictions(probs=[[0.9, 0.1, 0.0]] * 60, labels=[0] * 60)
    )
    assert (
        "no weights" in case_of(only, "all classes equally frequent")["error"]["reason"]
    )


def test_a_promise_that_a_mix_breaks_is_fragile_and_one_that_none_breaks_is_not():
    subject = drawn(20_000, seed=7)
    now = case_of(StressTest(seed=0).analyze(subject), "as measured")["selective_risk"]
    tight = StressTest(seed=0).analyze(subject, target_risk=now["value"] * 1.05)
    (finding,) = tight.findings
    assert finding.code == "fragile_under_prior_shift" and finding.severity == "medium"
    assert finding.details["rate"]["low"] > finding.details["target_risk"]
    assert StressTest(seed=0).analyze(subject, target_risk=0.9).findings == ()
    broken = StressTest(seed=0).analyze(subject, target_risk=now["value"] * 0.5)
    assert broken.findings == ()  # that it does not hold at all is for others to say


def test_groups_that_overlap_are_doubled_one_by_one():
    rng = np.random.default_rng(8)
    probs = rng.dirichlet(np.ones(2), 400)
    names = rng.choice(["x|y", "x", "", "y"], size=400)
    said = Predictions(probs=probs, labels=rng.integers(2, size=400))
    analysis = StressTest(seed=0).analyze(
        subject_of(said, memberships={"who": names.tolist()})
    )
    case = case_of(analysis, "who x twice as frequent")
    has = np.array(["x" in name for name in names])
    share = has.mean()
    wrong = said.probs.argmax(1) != said.labels
    if 2 * share >= 1:
        assert case["error"]["evaluated"] is False
    else:
        value = 2 * share * wrong[has].mean() + (1 - 2 * share) * wrong[~has].mean()
        assert abs(case["error"]["value"] - value) < 1e-12
    half = case_of(analysis, "who y half as frequent")
    has = np.array(["y" in name for name in names])
    share = has.mean() / 2
    value = share * wrong[has].mean() + (1 - share) * wrong[~has].mean()
    assert abs(half["error"]["value"] - value) < 1e-12


def test_results_are_json_and_the_same_twice():
    subject = drawn(3000, seed=9)
    first, second = (
        json.dumps(StressTest(seed=4).analyze(subject, target_risk=0.2).to_dict())
        for _ in range(2)
    )
    assert first == second
    assert all(
        set(case) >= {"name", "kind", "setting", "assumed", "n_eff", "error", "cost"}
        for case in json.loads(first)["cases"]
    )


@pytest.mark.parametrize(
    "setting",
    [
        {"factors": (0,)},
        {"label_noise": (1.0,)},
        {"score_noise": (-1,)},
        {"parts": (0.0,)},
        {"level": 1},
        {"min_rows": 0},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_named(setting):
    name = next(iter(setting))
    with pytest.raises(ConfigurationError, match=f"`{name}`"):
        StressTest(**({"seed": 0} | setting)).analyze(drawn(100, seed=0))


def test_rows_without_labels_are_refused():
    with pytest.raises(PredictionError, match="no labels"):
        StressTest(seed=0).analyze(Predictions(probs=[[0.5, 0.5]]))
