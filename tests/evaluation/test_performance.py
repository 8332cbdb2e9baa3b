"How often a classifier is right: beside scikit-learn, upside down, and beside others"

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as peer

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.evaluation import (
    CalibrationAnalyzer,
    PerformanceAnalyzer,
    by_severity,
    compare_baselines,
    subject_of,
)
from fine_tune_llm.evaluation.auditing import audit
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.stats import compare_rows, softmax
from fine_tune_llm.testing import synthetic_problem

ADULT = Path(os.environ.get("FTLLM_DATA", "")) / "adult_rf" / "adult_rf_binary.csv"
needs_data = pytest.mark.skipif(
    "FTLLM_DATA" not in os.environ or not ADULT.is_file(),
    reason="FTLLM_DATA names no folder with adult_rf",
)


def drawn(n=800, K=4, *, seed=0, **more):
    problem = synthetic_problem(n, K, seed=seed)
    return Predictions(probs=softmax(problem.logits), labels=problem.labels, **more)


def analyzed(said, **more):
    return PerformanceAnalyzer(seed=0).analyze(said, **more)


def codes(analysis):
    return [one.code for one in analysis.findings]


@needs_data
def test_the_score_of_adult_rf_runs_against_its_label_and_that_is_said_first():
    rows = list(csv.DictReader(ADULT.open()))
    score = np.array([float(row["score"]) for row in rows])
    said = Predictions(
        probs=np.stack([1 - score, score], 1),
        labels=[int(row["label_value"]) for row in rows],
        groups={k: [row[k] for row in rows] for k in ("gender", "race", "education")},
    )
    found = analyzed(said)
    calibration = CalibrationAnalyzer(seed=0).analyze(said)
    first = by_severity([*found.findings, *calibration.findings])[0]
    assert (first.code, first.severity) == ("score_against_label", "high")
    assert found.auc["value"] == pytest.approx(
        peer.roc_auc_score(said.labels, score), abs=1e-12
    )
    assert found.auc["high"] < 0.25 and found.auc["direction"] == "against the label"
    turned = Predictions(probs=said.probs[:, ::-1], labels=said.labels)
    assert "score_against_label" not in codes(analyzed(turned))


@pytest.mark.parametrize("n_classes", [2, 3, 11])
def test_values_are_those_of_scikit_learn(n_classes):
    said = drawn(700, n_classes, seed=n_classes)
    found, y, decided = analyzed(said), said.labels, said.decided
    expected = {
        "accuracy": peer.accuracy_score(y, decided),
        "balanced_accuracy": peer.balanced_accuracy_score(y, decided),
        "macro_f1": peer.f1_score(y, decided, average="macro"),
        "nll": peer.log_loss(y, said.probs, labels=range(n_classes)),
        "brier": ((said.probs - np.eye(n_classes)[y]) ** 2).sum(1).mean(),
    }
    for name, value in expected.items():
        one = found.intervals[name]
        assert one["value"] == pytest.approx(value, abs=1e-12), name
        assert one["low"] <= value <= one["high"] and one["n"] == 700
    assert found.nll == found.intervals["nll"]["value"]
    assert (peer.confusion_matrix(y, decided) == np.array(found.confusion)).all()
    recall = peer.recall_score(y, decided, average=None)
    precision = peer.precision_score(y, decided, average=None)
    for k, one in enumerate(found.per_class.values()):
        assert one["recall"]["value"] == pytest.approx(recall[k], abs=1e-12)
        assert one["precision"]["value"] == pytest.approx(precision[k], abs=1e-12)
    by_chance = np.bincount(y) @ np.bincount(decided, minlength=n_classes) / 700**2
    kappa = peer.cohen_kappa_score(y, decided)
    beyond = found.beyond_chance["value"]
    assert beyond / (1 - by_chance) == pytest.approx(kappa, abs=1e-12)


def test_the_area_is_of_the_class_that_counts_as_positive():
    said = drawn(600, 3)
    assert analyzed(said).auc["evaluated"] is False
    found = analyzed(subject_of(said, positive="1"))
    area = peer.roc_auc_score(said.labels == 1, said.probs[:, 1])
    assert found.auc["value"] == pytest.approx(area, abs=1e-12)
    assert found.auc["positive"] == "1"


def test_the_p_value_of_the_area_is_that_of_mann_and_whitney():
    from scipy.stats import mannwhitneyu

    said = drawn(120, 2, seed=3)
    score, y = said.probs[:, 1], said.labels
    noise = np.random.default_rng(0).permutation(y)
    found = analyzed(Predictions(probs=said.probs, labels=noise)).auc
    other = mannwhitneyu(
        score[noise == 1], score[noise == 0], use_continuity=False, method="asymptotic"
    )
    assert found["p_value"] == pytest.approx(other.pvalue, abs=1e-9)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_labels_dealt_out_at_random_are_not_called_upside_down(n_classes):
    "200 seeds at level .95: a flag needs one side of a two-sided test, so 2.5%"
    flags = covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        probs = rng.dirichlet(np.ones(n_classes), 300)
        said = Predictions(probs=probs, labels=rng.integers(0, n_classes, 300))
        analyzer = PerformanceAnalyzer(seed=seed, n_resamples=100)
        found = analyzer.analyze(said)
        flags += "score_against_label" in codes(found)
        one = found.auc if n_classes == 2 else found.beyond_chance
        covered += one["low"] <= (0.5 if n_classes == 2 else 0) <= one["high"]
    assert flags <= 200 * 0.025 + 3 * (200 * 0.025 * 0.975) ** 0.5
    assert covered >= 200 * 0.95 - 3 * (200 * 0.95 * 0.05) ** 0.5


@pytest.mark.parametrize("n_classes", [2, 5])
def test_labels_that_avoid_the_decision_are(n_classes):
    rng = np.random.default_rng(0)
    said = Predictions(probs=rng.dirichlet(np.ones(n_classes), 300))
    labels = (said.decided + rng.integers(1, n_classes, 300)) % n_classes
    found = analyzed(Predictions(probs=said.probs, labels=labels))
    assert codes(found)[0] == "score_against_label" and found.verdict == "fail"


def test_clusters_count_as_what_they_are():
    "Each row three times: as sure as the third of the rows, not as three times"
    one = drawn(150, 2, seed=5)
    times = np.repeat(np.arange(150), 3)
    thrice = Predictions(
        probs=one.probs[times], labels=one.labels[times], clusters=times.astype(str)
    )
    few, many = analyzed(one), analyzed(thrice)
    assert many.auc["value"] == few.auc["value"]
    assert many.auc["low"] == pytest.approx(few.auc["low"], abs=1e-12)
    widths = [
        found.beyond_chance["high"] - found.beyond_chance["low"]
        for found in (few, many)
    ]
    assert widths[0] == pytest.approx(widths[1], rel=1e-9)


def test_baselines_of_others_are_matched_by_id_and_compared_in_pairs():
    ids = np.arange(800).astype(str)
    said, other = drawn(ids=ids), drawn(seed=1, ids=ids)
    order = np.random.default_rng(0).permutation(800)
    weak = Predictions(probs=other.probs, labels=said.labels, ids=ids)
    found = analyzed(said, baselines={"weak": weak[order]}).baselines["weak"]
    expected = compare_rows(
        said.right, weak.decided == said.labels, name="accuracy", seed=0
    )
    assert found["difference"] == expected.to_dict()
    loss = peer.log_loss(said.labels, weak.probs, labels=range(4))
    assert found["nll"] == pytest.approx(loss, abs=1e-12)
    assert found["value"] == pytest.approx(np.mean(weak.decided == said.labels))
    assert found == compare_baselines(said, {"weak": weak})["weak"]


def test_a_baseline_that_is_not_beaten_is_said():
    strong = drawn(600, 3)
    noisy = softmax(
        np.log(strong.probs) + np.random.default_rng(1).normal(0, 2, (600, 3))
    )
    weak = Predictions(probs=noisy, labels=strong.labels)
    worse = analyzed(weak, baselines={"last year": strong})
    (found,) = (f for f in worse.findings if f.code == "no_better_than_baseline")
    assert found.severity == "medium" and "'last year'" in found.message
    same = analyzed(strong, baselines={"twin": strong})
    (found,) = same.findings
    assert found.severity == "low" and found.details["baseline"] == "twin"
    assert codes(analyzed(strong, baselines={"weak": weak})) == []


def test_a_baseline_that_loses_in_nll_only_is_beaten():
    said = drawn(2000, 3)
    vague = Predictions(probs=softmax(np.log(said.probs) / 5), labels=said.labels)
    assert codes(analyzed(said, baselines={"vague": vague})) == []
    assert codes(analyzed(vague, baselines={"sure": said})) != []


def test_baselines_that_miss_say_why():
    found = analyzed(drawn())
    for name in ("tfidf", "frozen"):
        assert found.baselines[name]["evaluated"] is False
        assert found.not_evaluated[name] == found.baselines[name]["reason"]
    assert found.baselines["majority"]["difference"]["low"] > 0


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"x": "probs"}, r"`baselines\['x'\]` must be Predictions, got str"),
        ({"x": drawn(700)}, "must hold the same rows"),
        ({"x": drawn(800, 3)}, "has the classes"),
        ({"x": drawn(800, seed=9)}, "other true labels"),
    ],
)
def test_baselines_that_do_not_fit_are_named(others, words):
    with pytest.raises(PredictionError, match=words):
        analyzed(drawn(), baselines=others)


def test_settings_are_checked():
    for wrong in ({"level": 1.5}, {"seed": -1}, {"n_resamples": 3}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            PerformanceAnalyzer(**{"seed": 0} | wrong)


@pytest.mark.parametrize("labels", [[0, 0], [0]])
def test_what_cannot_be_measured_is_no_number(labels):
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])[: len(labels)]
    found = analyzed(Predictions(probs=probs, labels=labels)).to_dict()
    assert found["auc"]["evaluated"] is False
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_same_rows_give_the_same_bytes():
    one, other = (json.dumps(analyzed(drawn()).to_dict()) for _ in range(2))
    assert one == other


def test_the_frozen_backbone_is_the_third_baseline_of_a_run(toy_fit, tmp_path):
    evidence = audit(toy_fit(tmp_path / "trained", epochs=4))
    gain = evidence["training"]["gain"]
    found = evidence["performance"]["baselines"]["frozen"]
    assert found["difference"] == gain["difference"]["accuracy"]
    assert found["nll_difference"] == gain["difference"]["nll"]
    assert found["value"] == gain["accuracy"]["value"]
    evidence = audit(toy_fit(tmp_path / "frozen", epochs=0))
    found = evidence["performance"]["baselines"]["frozen"]
    assert found == evidence["training"]["gain"]
    assert "nothing was trained" in found["reason"]


def test_a_baseline_may_have_any_name():
    said = drawn()
    names = ("auc", "direction", "beyond_chance", "n")
    found = analyzed(said, baselines=dict.fromkeys(names, said))
    assert {one.details["baseline"] for one in found.findings} == set(names)
    assert set(names) < set(found.baselines)


def test_intervals_of_the_area_hold_its_truth():
    "Two normal scores 1 apart: the area is Phi(1 / 2 ** .5); 200 sets of 150 rows"
    from scipy.stats import norm

    truth, held = norm.cdf(0.5**0.5), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = (rng.random(150) < 0.3) * 1
        score = 1 / (1 + np.exp(-(labels + rng.normal(size=150))))
        said = Predictions(probs=np.stack([1 - score, score], 1), labels=labels)
        found = PerformanceAnalyzer(seed=seed, n_resamples=100).analyze(said).auc
        held += found["low"] <= truth <= found["high"]
    assert held >= 200 * 0.95 - 3 * (200 * 0.95 * 0.05) ** 0.5
