"Two audits: what is called beyond noise is, and what is noise is not"

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.evaluation import (
    FairnessAnalyzer,
    diff_evidence,
    measured,
    share,
    subject_of,
)
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.stats import interval, softmax
from fine_tune_llm.stats.fairness import group_report

LEVEL = 0.95


def said(seed, n=400, noise=0.0, worse_in=None):
    "What one classifier says of n new rows; noisier in one group where asked"
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    site = rng.choice(["A", "B", "C"], n)
    logits = rng.normal(size=(n, 2)) + 2.2 * np.eye(2)[labels]
    spread = np.where(site == worse_in, 3.0, noise)[:, None]
    logits = logits + spread * rng.normal(size=(n, 2))
    ids = [f"{seed}-{i}" for i in range(n)]
    return Predictions(
        probs=softmax(logits),
        labels=labels,
        classes=["no", "yes"],
        groups={"site": site},
        ids=ids,
    )


def audited(predictions, seed=0, n_resamples=200):
    "The numbers of an audit, from the same functions that an audit takes"
    subject = subject_of(predictions)
    right = subject.decided == subject.labels
    per_class = {}
    for k, name in enumerate(subject.classes):
        true, taken = subject.labels == k, subject.decided == k
        per_class[name] = {
            "recall": share(int((true & taken).sum()), int(true.sum())),
            "precision": share(int((true & taken).sum()), int(taken.sum())),
        }
    intervals = {
        name: measured(
            interval(
                name, subject.probs, subject.labels, seed=seed, n_resamples=n_resamples
            ),
            len(subject),
        )
        for name in ("nll", "brier", "aurc")
    }
    fairness = group_report(
        subject.counts,
        seed=seed,
        metrics=("accuracy", "selection_rate", "tpr", "fpr", "ppv", "overconfidence"),
        order=1,
        n_resamples=n_resamples,
    )
    return {
        "identity": {"name": "said", "kind": "predictions"},
        "performance": {
            "accuracy": share(int(right.sum()), len(right)),
            "per_class": per_class,
            "intervals": intervals,
        },
        "fairness": fairness.to_dict(),
        "findings": [],
        "gates": [],
    }


def beyond(first, second, **more):
    return diff_evidence(first, second, level=LEVEL, seed=0, **more).of("beyond noise")


def test_the_same_classifier_on_other_rows_is_within_noise():
    "Over all numbers together, in at most 1 of 20 pairs of audits: 200 seeds, 3 sigma"
    n_false, n_tested = 0, []
    for seed in range(200):
        n = 400 if seed % 2 else 1200  # as many rows, or three times as many
        first, second = audited(said(2 * seed)), audited(said(2 * seed + 1, n))
        diff = diff_evidence(first, second, level=LEVEL, seed=0)
        n_false += bool(diff.of("beyond noise"))
        n_tested.append(len(diff.of("within noise")) + len(diff.of("beyond noise")))
    assert min(n_tested) > 30  # so many numbers at once
    assert n_false <= 200 * (1 - LEVEL)


def test_a_real_difference_is_found():
    n_found = 0
    for seed in range(20):
        first, second = said(2 * seed, n=1000), said(2 * seed + 1, n=1000, noise=1.5)
        n_found += "accuracy" in {
            one.name for one in beyond(*map(audited, (first, second)))
        }
    assert n_found >= 18


def test_a_group_that_got_worse_is_named():
    first, second = audited(said(0, 3000)), audited(said(1, 3000, worse_in="B"))
    names = {one.name for one in beyond(first, second)}
    assert {"tpr(group=site:B)", "max_gap(tpr, attribute=site)"} <= names
    assert not {"tpr(group=site:A)", "tpr(group=site:C)"} & names


def test_on_the_same_rows_pairs_see_more():
    "A small change of the same model: too small for two samples, clear row by row"
    rows = said(3, 2000)
    better = rows.probs.copy()
    wrong = np.flatnonzero(~rows.right)[:40]
    better[wrong] = better[wrong][:, ::-1]
    other = Predictions(
        probs=better,
        labels=rows.label_names,
        classes=rows.classes,
        groups=rows.groups,
        ids=rows.ids,
    )
    first, second = audited(rows), audited(other)
    assert "accuracy" not in {one.name for one in beyond(first, second)}
    mixed = other[np.random.default_rng(0).permutation(2000)]
    diff = diff_evidence(first, second, first_said=rows, second_said=mixed, seed=0)
    found = {one.name: one for one in diff.of("beyond noise")}
    assert diff.same_rows and found["accuracy"].difference == pytest.approx(0.02)
    assert found["accuracy"].low < 0.02 < found["accuracy"].high


def test_predictions_on_other_rows_are_compared_as_such_and_that_is_said():
    one, two = said(0), said(1)
    diff = diff_evidence(
        audited(one), audited(two), first_said=one, second_said=two, seed=0
    )
    assert "Not compared row by row" in diff.notes[0]
    with pytest.raises(ConfigurationError, match="belong together"):
        diff_evidence(audited(one), audited(two), first_said=one, seed=0)


def test_an_audit_and_itself():
    found = audited(said(0))
    found["identity"]["fingerprints"] = {"test_rows": "ab"}
    diff = diff_evidence(found, found, seed=0)
    assert diff.same_rows and not diff.of("beyond noise")
    assert all(one.difference == 0 for one in diff.of("within noise"))
    assert not (diff.new_findings or diff.gone_findings or diff.gates or diff.settings)
    assert "row by row" in diff.notes[0]


def test_what_is_not_a_number_is_compared_by_what_it_is_about():
    def finding(group, severity="high"):
        details = {"attribute": "site", "group": group}
        about = {"part": "fairness", "code": "low_tpr", "severity": severity}
        return about | {"message": f"{group} is low", "details": details}

    first, second = audited(said(0)), audited(said(0))
    first["findings"] = [finding("A"), finding("B")]
    second["findings"] = [finding("B", "medium"), finding("C")]
    first["gates"] = [{"rule": "ece <= 0.1", "status": "pass"}]
    second["gates"] = [{"rule": "ece <= 0.1", "status": "not evaluated"}]
    first["training"] = {"settings": [{"key": "training.epochs", "value": 3}]}
    second["training"] = {"settings": [{"key": "training.epochs", "value": 5}]}
    diff = diff_evidence(first, second, seed=0)
    assert [row["message"] for row in diff.new_findings] == ["C is low"]
    assert [row["message"] for row in diff.gone_findings] == ["A is low"]
    assert diff.gates == (
        {"rule": "ece <= 0.1", "first": "pass", "second": "not evaluated"},
    )
    assert {"what": "training.epochs", "first": 3, "second": 5} in diff.settings
    assert repr(diff) == f"AuditDiff({str(diff).splitlines()[0]})"
    for said_of in (str(diff), diff._repr_markdown_()):
        assert "C is low" in said_of and "training.epochs: 3 -" in said_of


def test_a_number_in_one_of_two_cannot_be_compared():
    first, second = audited(said(0)), audited(said(1))
    second["performance"]["accuracy"] = {"evaluated": False, "reason": "no labels"}
    del second["performance"]["intervals"]["nll"]
    second["performance"]["nll"] = 0.4
    diff = diff_evidence(first, second, seed=0)
    whys = {one.name: one.why for one in diff.of("cannot say")}
    assert whys["accuracy"] == "not evaluated in the second: no labels"
    assert whys["nll"] == "no interval in the second"
    for wrong in (3, {}, {"version": 2}):
        with pytest.raises(ConfigurationError, match="`second` must be what `audit`"):
            diff_evidence(first, wrong, seed=0)


@pytest.mark.parametrize("about", ["attribute", "baseline", "name", "source"])
def test_findings_of_one_code_are_told_apart_by_what_they_are_about(about):
    def finding(what):
        row = {"part": "fairness", "code": "subgroup_auc_low", "severity": "medium"}
        return {**row, "message": f"{what} is low", "details": {about: what}}

    first, second = audited(said(0)), audited(said(0))
    first["findings"] = [finding("site")]
    second["findings"] = [finding("site"), finding("age")]
    diff = diff_evidence(first, second, seed=0)
    assert [row["message"] for row in diff.new_findings] == ["age is low"]


def test_analysers_say_what_each_of_their_findings_is_about():
    "Two attributes with the same fault: two findings, with keys of their own"
    rng = np.random.default_rng(0)
    n = 3000
    site, age = rng.choice(["A", "B"], n), rng.choice(["old", "young"], n)
    score = rng.beta(2, 2, n)
    off = (0.25 * (site == "A") + 0.25 * (age == "old")) * np.sign(0.5 - score)
    labels = (rng.random(n) < np.clip(score + 2 * off, 0, 1)).astype(int)
    judged = Predictions(
        probs=np.c_[1 - score, score], labels=labels, groups={"site": site, "age": age}
    )
    found = FairnessAnalyzer(seed=0).analyze(judged).findings
    keys = [
        tuple(str(one.details.get(key)) for key in ("attribute", "view", "metric"))
        for one in found
        if one.code in ("group_miscalibrated", "subgroup_auc_low")
    ]
    assert {key[0] for key in keys} == {"site", "age"}
