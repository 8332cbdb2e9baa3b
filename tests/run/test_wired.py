"""Each setting of a promise, from the command line's words to certificate and report

The model is a stand-in: predictions are drawn from a problem whose truth is known, put
into a run directory as `fit` leaves it, and certified by the settings."""

import json

import numpy as np
import pytest

from fine_tune_llm.config.layers import cli_layer, make_config
from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.run import classifier as classifier_module
from fine_tune_llm.run.certificate import classifier_of, derive_certificate, promises
from fine_tune_llm.run.classifier import check_promises, cost_of
from fine_tune_llm.testing import synthetic_problem

CLASSES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def roles():
    problem = synthetic_problem(4000, temperature=2.0, spread=5.0, seed=0)
    site = np.array(["north", "south"])[np.arange(4000) % 2]
    said = Predictions(
        logits=problem.logits,
        labels=problem.labels,
        classes=CLASSES,
        groups={"site": site},
        ids=range(4000),
        texts=[f"text {i}" for i in range(4000)],
    )
    return said[:500], said[500:2500], said[2500:]


def settings(*words):
    "Settings as `--set` gives them"
    return make_config(cli_layer(["data.group=site", *words]))


def certified(roles, *words):
    "The certificate through JSON, as it lies on the disk, and its classifier"
    config = settings(*words)
    check_promises(config, CLASSES)
    certificate = json.loads(json.dumps(derive_certificate(*roles[:2], config)))
    return certificate, classifier_of(certificate)


def decisions(certificate):
    return certificate["promises"]["decisions"]


COSTS = ("risk.miss=a:5,b:2", "risk.target_cost=0.4")


def test_harms_by_class(roles):
    certificate, classifier = certified(roles, *COSTS, "risk.false_alarm=d:0.5")
    (one,) = decisions(certificate)
    assert (one["name"], one["target_risk"]) == ("cost", 0.4)
    cost = classifier.selective.cost
    assert cost.cost[0].tolist() == [0, 5, 5, 5.5] and cost.classes == CLASSES
    assert "the mean loss (cost) of decisions is at most 0.4" in promises(certificate)
    outcome = classifier.outcome(roles[2])
    paid = cost.cost[roles[2].labels, outcome.decided][outcome.kept]
    assert paid.mean() < 0.4 + 3 * paid.std() / len(paid) ** 0.5


def test_the_whole_matrix_and_the_cost_of_a_person(roles):
    matrix = "risk.cost=0,1,1,1;4,0,1,1;1,1,0,1;1,1,1,0"
    words = (matrix, "risk.target_cost=0.2", "risk.abstain_cost=0.3")
    _, classifier = certified(roles, *words)
    assert classifier.selective.cost.cost[1, 0] == 4
    assert classifier.selective.cost.abstain_cost.tolist() == [0.3] * 4


def test_critical_errors_and_several_targets(roles):
    words = ("risk.critical=a>b", "risk.targets=critical:0.02", "risk.target_risk=0.1")
    certificate, classifier = certified(roles, *words)
    assert [one["name"] for one in decisions(certificate)] == ["error", "critical"]
    critical = classifier.selective.targets[0]
    assert critical.loss.sum() == critical.loss[0, 1] == 1
    text = promises(certificate)
    assert "at most 10.0% of decisions" in text and "mean loss (critical)" in text


def test_targets_with_chains_of_their_own(roles):
    words = ("risk.target_risk=0.1", "risk.together=no", "risk.weight=3")
    words += ("risk.critical=a", "risk.targets=critical:0.05")
    certificate, classifier = certified(roles, *words, "risk.transitions=0,1;1,0")
    assert classifier.selective.together is False
    assert classifier.selective.weight == 3
    assert np.array(classifier.selective.transitions).tolist() == [[0, 1], [1, 0]]
    assert "graphical testing" in decisions(certificate)[0]["theorem"]


@pytest.mark.parametrize("score", ["margin", "entropy", "expected_cost"])
def test_confidence(roles, score):
    words = COSTS if score == "expected_cost" else ("risk.target_risk=0.1",)
    certificate, classifier = certified(roles, *words, f"risk.confidence={score}")
    assert decisions(certificate)[0]["score"] == score
    outcome = classifier.outcome(roles[2])
    assert not np.allclose(outcome.conf, outcome.probs.max(1))
    expected = classifier.selective.decide(outcome.probs)
    assert (outcome.decided == expected).all()


def test_a_certificate_for_every_group(roles):
    words = ("risk.group=site", "risk.target_risk=0.1")
    certificate, classifier = certified(roles, *words)
    assert [one["group"] for one in decisions(certificate)] == ["north", "south"]
    assert sorted(classifier.threshold) == ["north", "south"]
    outcome = classifier.outcome(roles[2])
    for site, threshold in classifier.threshold.items():
        mine = roles[2].groups["site"] == site
        assert (outcome.needed[mine] == threshold).all()
    expected = classifier.selective.decide(
        outcome.probs, groups=roles[2].groups["site"]
    )
    assert (outcome.decided == expected).all()


def test_method_correction_and_grid(roles):
    words = ("risk.method=hb", "risk.correction=bonferroni", "risk.grid=.99,.9,.8,.5")
    certificate, classifier = certified(roles, *words, "risk.target_risk=0.2")
    (one,) = decisions(certificate)
    assert "Bonferroni" in one["theorem"] and one["threshold"] in (0.99, 0.9, 0.8, 0.5)
    assert list(classifier.selective.grid) == [0.99, 0.9, 0.8, 0.5]


def test_rare_classes_are_told_by_the_train_role(roles):
    "Validation and calibration have 125 and 500 rows of each class; train few of c, d"
    config = settings("conformal.condition=class")
    few = np.flatnonzero(np.isin(roles[2].labels, (2, 3)))[:6]
    many = np.flatnonzero(roles[2].labels < 2)
    train = roles[2][np.sort(np.r_[few, many])]
    certificate = derive_certificate(*roles[:2], config, train=train)
    sets = certificate["promises"]["sets"]
    rare = [row for row in sets["cells"] if "rare" in row["cell"]]
    assert [row["cell"][:7] for row in rare] == ["class c", "class d"]
    assert all(row["promised"] for row in rare)
    assert rare[0]["threshold"] == rare[1]["threshold"] and sets["rare_told_by"]
    text = promises(certificate)
    assert "within every class that is not rare" in text
    assert "The train role says which are rare: class c, class d." in text
    assert "exact for them taken together" in text
    alone = derive_certificate(*roles[:2], config)["promises"]["sets"]
    assert alone["rare_told_by"] == "validation" and len(alone["cells"]) == 4
    assert not any("rare" in row["cell"] for row in alone["cells"])


@pytest.mark.parametrize(
    "condition, cells",
    [("class", 4), ("group", 2), ("class+group", 8)],
)
def test_condition(roles, condition, cells):
    certificate, classifier = certified(roles, f"conformal.condition={condition}")
    sets = certificate["promises"]["sets"]
    assert sets["condition"] == condition and len(sets["cells"]) == cells
    last = {"class": "class d", "group": "group south"}
    assert sets["cells"][-1]["cell"] == last.get(condition, "group south, class d")
    assert f"within every {condition.replace('+', ' and ')}" in promises(certificate)
    outcome = classifier.outcome(roles[2])
    hit = outcome.sets[np.arange(len(outcome)), roles[2].labels]
    for k in range(4) if "class" in condition else []:
        mine = roles[2].labels == k
        assert abs(hit[mine].mean() - 0.9) < 4 * (0.09 / mine.sum()) ** 0.5 + 0.03


def test_several_alphas(roles):
    certificate, classifier = certified(roles, "conformal.more_alphas=.05,.2")
    assert certificate["promises"]["sets"]["alphas"] == [0.1, 0.05, 0.2]
    outcome = classifier.outcome(roles[2])
    sizes = [outcome.more_sets[0.05], outcome.sets, outcome.more_sets[0.2]]
    assert sorted((s.sum() for s in sizes), reverse=True) == [s.sum() for s in sizes]


def test_rare_empty_randomize_and_score_settings(roles):
    words = ("conformal.score=raps", "conformal.settings=penalty:0.1,k_reg:2")
    words += ("conformal.randomize=no", "conformal.empty=top1", "conformal.rare=all")
    certificate, classifier = certified(roles, *words, "conformal.condition=class")
    sets = certificate["promises"]["sets"]
    assert sets["settings"] == {"penalty": 0.1, "k_reg": 2}
    assert (sets["rare"], sets["empty"], sets["randomize"]) == ("all", "top1", False)
    assert classifier.outcome(roles[2]).sets.any(1).all()


def test_clusters(roles):
    words = ("conformal.condition=cluster", "conformal.clusters=2")
    _, classifier = certified(roles, *words, "conformal.cluster_share=0.4")
    assert (classifier.conformal.clusters, classifier.conformal.cluster_share) == (
        2,
        0.4,
    )


def test_calibrator_by_name_with_settings(roles):
    words = ("calibration.method=histogram", "calibration.settings=n_bins:7")
    _, classifier = certified(roles, *words)
    assert classifier.calibrator.kind == "histogram"
    assert classifier.calibrator.n_bins == 7


def test_calibrator_chosen_among_candidates(roles):
    words = ("calibration.method=auto", "calibration.candidates=none,temperature")
    certificate, classifier = certified(roles, *words, "calibration.folds=3")
    choice = certificate["choice"]
    assert [row["name"] for row in choice["rows"]] == ["none", "temperature"]
    assert (choice["folds"], choice["name"]) == (3, classifier.calibrator.kind)
    assert choice["name"] == "temperature"  # the problem is over-confident by 2


@pytest.mark.parametrize(
    "words, said",
    [
        (["risk.miss=attic:2", "risk.target_cost=1"], "'attic'"),
        (["risk.miss=a:2"], "target_cost"),
        (["risk.target_cost=1"], "needs costs"),
        (["risk.targets=critical:0.1"], "critical"),
        (["risk.confidence=sure"], "sure"),
        (["risk.method=magic"], "magic"),
        (["risk.group=age"], "none of data.group"),
        (["risk.transitions=0,1;1,0"], "together"),
        (["risk.critical=attic"], "attic"),
        (["conformal.score=lacc"], "lacc"),
        (["conformal.condition=group", "conformal.group=age"], "none of data.group"),
        (["calibration.method=temprature"], "temperature"),
        (["calibration.candidates=foo", "calibration.method=auto"], "foo"),
        (["calibration.settings=n_bin:3", "calibration.method=histogram"], "n_bin"),
    ],
)
def test_what_will_not_do_is_refused_before_any_work(words, said):
    with pytest.raises(ConfigurationError) as e:
        check_promises(settings(*words), CLASSES)
    assert said in str(e.value)


def test_critical_errors_without_costs_are_named():
    costs = cost_of(settings("risk.critical=a>b"), CLASSES)
    assert costs.critical == (("a", "b"),)


def test_probabilities_sets_and_decisions_are_computed_once(roles, monkeypatch):
    "One outcome costs one calibration, one judgement and one set a row and alpha"
    _, classifier = certified(roles, "conformal.more_alphas=0.2")
    calls = {"judge": 0, "predict_proba": 0, "predict": 0}

    def counted(name, function):
        def call(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    judge = counted("judge", classifier_module.judge)
    monkeypatch.setattr(classifier_module, "judge", judge)
    for part, name in (
        (classifier.calibrator, "predict_proba"),
        (classifier.conformal, "predict"),
    ):
        kind = type(part)
        monkeypatch.setattr(kind, name, counted(name, getattr(kind, name)))
    classifier.outcome(roles[2])
    assert calls == {"judge": 1, "predict_proba": 1, "predict": 2}
