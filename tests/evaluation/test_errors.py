"Wrong decisions: counted as others count them, the worst first, no text unless asked"

import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from fine_tune_llm.core.errors import (
    CertificateError,
    ConfigurationError,
    PredictionError,
)
from fine_tune_llm.evaluation import (
    ErrorAnalyzer,
    shown_text,
    subject_of,
)
from fine_tune_llm.evaluation.evidence import abstentions_of
from fine_tune_llm.predictions import Outcome, Predictions
from fine_tune_llm.stats import CostMatrix, SelectiveClassifier

CLASSES = ("emergency", "urgent", "routine", "self_care")
SECRET = "call me at ann.smith@example.com about the blue umbrella"


def said_of(n=400, *, seed=0, texts=None, ids=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[labels]
    return Predictions(
        logits=logits, labels=labels, classes=CLASSES, texts=texts, ids=ids
    )


def costs(critical=()):
    cost = 1.0 - np.eye(4)
    cost[0] = [0, 5, 20, 50]
    return CostMatrix(CLASSES, cost, critical=critical)


def test_counts_are_those_of_scikit_learn():
    said = said_of()
    decided = np.where(said.conf > 0.5, said.decided, -1)
    found = ErrorAnalyzer().analyze(subject_of(said, decided=decided))
    kept = decided >= 0
    table = confusion_matrix(said.labels[kept], decided[kept], labels=range(4))
    assert found.confusion["counts"] == table.tolist()
    abstained = np.bincount(said.labels[~kept], minlength=4)
    assert found.confusion["abstained"] == abstained.tolist()
    assert found.count == kept.sum() - np.trace(table)
    listed = {(p["true"], p["decided"]): p["n"] for p in found.pairs}
    for i, true in enumerate(CLASSES):
        for j, other in enumerate(CLASSES):
            assert listed.get((true, other), 0) == (table[i, j] if i != j else 0)


def test_intervals_of_pairs_are_exact_shares_of_the_true_class():
    said = said_of()
    n_of = np.bincount(said.labels, minlength=4)
    for pair in ErrorAnalyzer(level=0.9).analyze(said).pairs:
        n_rows = int(n_of[CLASSES.index(pair["true"])])
        assert pair["share"]["n"] == n_rows
        exact = binomtest(pair["n"], n_rows).proportion_ci(0.9, method="exact")
        ends = (pair["share"]["low"], pair["share"]["high"])
        np.testing.assert_allclose(ends, exact, atol=1e-10)


def test_critical_errors_come_first_then_what_cost_most():
    found = ErrorAnalyzer(most=1000).analyze(
        said_of(), cost=costs(critical=[("urgent", "self_care")])
    )
    pairs = found.pairs
    assert (pairs[0]["true"], pairs[0]["decided"]) == ("urgent", "self_care")
    totals = [pair["total"] for pair in pairs[1:]]
    assert totals == sorted(totals, reverse=True)
    keys = [
        (-r["critical"], -r["cost"], -r["confidence"], r["row"]) for r in found.rows
    ]
    assert keys == sorted(keys)
    assert len(found.rows) == found.count
    assert sum(pair["n"] for pair in pairs) == found.count


def test_at_most_so_many_are_listed_and_all_are_counted():
    said = said_of(20_000)
    found = ErrorAnalyzer().analyze(said, cost=costs())
    assert len(found.rows) == 50 < found.count == int((~said.right).sum())
    few = ErrorAnalyzer(most=2).analyze(said)
    assert (len(few.pairs), few.n_pairs, len(few.rows)) == (2, 12, 2)
    assert ErrorAnalyzer(most=0).analyze(said).rows == ()


def test_no_text_is_there_unless_asked_for():
    said = said_of(texts=[SECRET] * 400)
    assert "umbrella" not in json.dumps(ErrorAnalyzer().analyze(said).to_dict())
    assert "umbrella" not in ErrorAnalyzer().analyze(said)._repr_markdown_()
    asked = ErrorAnalyzer(texts=True).analyze(said)
    for row in asked.rows:
        assert "umbrella" in row["text"] and "ann.smith" not in row["text"]


def test_texts_that_are_not_there_are_none():
    assert ErrorAnalyzer(texts=True).analyze(said_of()).rows[0]["text"] is None


@pytest.mark.parametrize("before", (0, 100, 5000, 100_000))
def test_personal_data_are_masked_wherever_they_are_shown(before):
    text = f"{SECRET} {'word ' * (before // 5)}{SECRET}"
    shown = shown_text(text, limit=400)
    assert "ann.smith" not in shown and "example.com" not in shown
    assert len(shown) <= max(400, 2 * len(SECRET) + 60) + 40


def test_abstentions_hold_no_text_unless_asked_for():
    said = said_of(texts=[SECRET] * 400, ids=[f"m{i}" for i in range(400)])
    decided = np.where(said.conf > 0.6, said.decided, -1)
    outcome = Outcome(
        said,
        said.probs,
        sets=said.probs > 0.2,
        decided=decided,
        conf=said.conf,
        needed=np.full(400, 0.6),
    )
    assert {row["text"] for row in abstentions_of(outcome)} == {None}
    (text,) = {row["text"] for row in abstentions_of(outcome, texts=True)}
    assert "umbrella" in text and "ann.smith" not in text


def test_markup_in_names_is_only_shown():
    names = ("<script>alert(1)</script>", "a|b", "\u202egnorw", "$x$")
    said = Predictions(logits=said_of().logits, labels=said_of().labels, classes=names)
    found = ErrorAnalyzer().analyze(said)
    shown = found._repr_markdown_()
    assert "<script" not in shown and "\u202e" not in shown
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_many_classes_have_pairs_and_no_table():
    rng = np.random.default_rng(0)
    said = Predictions(logits=rng.normal(size=(300, 60)), labels=np.arange(300) % 60)
    found = ErrorAnalyzer().analyze(said)
    assert found.confusion["evaluated"] is False and len(found.pairs) == 50


def test_the_same_rows_give_the_same_bytes():
    texts = [f"{SECRET} {i}" for i in range(400)]
    both = [
        json.dumps(ErrorAnalyzer(texts=True).analyze(said, cost=costs()).to_dict())
        for said in (said_of(texts=texts), said_of(texts=texts))
    ]
    assert both[0] == both[1]


def test_what_cannot_be_is_refused():
    unlabelled = Predictions(probs=[[0.5, 0.5]])
    with pytest.raises(PredictionError, match="has no labels"):
        ErrorAnalyzer().analyze(unlabelled)
    with pytest.raises(ConfigurationError, match="`most`"):
        ErrorAnalyzer(most=-1)


# What would other targets take?


@pytest.fixture(scope="module")
def finished(toy_fit, tmp_path_factory):
    out = tmp_path_factory.mktemp("errors") / "run"
    return toy_fit(out, epochs=3, target_risk=0.2)


@pytest.fixture(scope="module")
def table(finished):
    from fine_tune_llm.evaluation.evidence import other_targets_of

    return other_targets_of(finished, finished.outcome("test"))


def test_other_targets_are_those_of_a_fresh_fit(finished, table):
    roles = [finished.predictions(role) for role in ("validation", "calibration")]
    pilot, rows = [
        (finished.calibrator.predict_proba(s.logits), s.labels) for s in roles
    ]
    test = finished.outcome("test")
    assert [row["target"] for row in table["rows"]] == [0.01, 0.02, 0.05, 0.1, 0.2]
    assert {row["certified"] for row in table["rows"]} == {True, False}
    for row in table["rows"]:
        again = SelectiveClassifier(
            row["target"], finished.config.risk.delta, seed=finished.selective.seed
        )
        try:
            again.fit(*rows, pilot=pilot)
        except CertificateError as e:
            assert not row["certified"]
            assert row["rows_that_would_do"] == e.context["rows_that_would_do"]
            assert row["decided"]["evaluated"] is False
            continue
        decided = again.decide(test.probs)
        wrong = (decided != test.predictions.labels) & (decided >= 0)
        assert row["certified"]
        assert (row["decided"]["k"], row["wrong"]["k"]) == (
            (decided >= 0).sum(),
            wrong.sum(),
        )


def test_its_own_target_is_what_the_run_does(finished, table):
    (own,) = [row for row in table["rows"] if row["is_own"]]
    kept = finished.outcome("test").kept
    assert own["target"] == finished.config.risk.target_risk == table["own"]
    assert (own["decided"]["k"], own["decided"]["n"]) == (kept.sum(), len(kept))


def test_the_table_says_that_it_is_no_promise(table):
    assert "looked at the rows first" in table["note"]
    assert json.dumps(table, allow_nan=False)


def test_rows_that_are_missing_are_said(table):
    for row in table["rows"]:
        if row["rows_that_would_do"] is not None:
            assert row["more_rows"] == max(0, row["rows_that_would_do"] - row["n"])
