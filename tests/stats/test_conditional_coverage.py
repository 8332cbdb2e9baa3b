"Coverage within cells: what is refused, and when a report has no band"

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.conditional_coverage import (
    coverage_by,
    coverage_report,
    excess_risk,
    size_stratified,
    worst_slab,
    worst_window,
)
from fine_tune_llm.stats.conformal import ConformalClassifier
from fine_tune_llm.testing import synthetic_problem

SETS = np.array([[1, 0, 0]] * 3 + [[0, 1, 0]] * 3, dtype=bool)
LABELS = [0, 0, 0, 0, 1, 1]


def test_groups_and_labels_that_do_not_fit():
    with pytest.raises(PredictionError, match=r"`by` must have shape \(6,\)"):
        coverage_by(SETS, LABELS, ["a"])
    with pytest.raises(PredictionError, match=r"`labels` must lie in \[0, 3\)"):
        coverage_by(SETS, [0, 0, 0, 0, 1, 7])
    for more, words in (
        (dict(level="x"), r"`level` must be in \(0, 1\)"),
        (dict(min_rows="x"), "`min_rows` must be"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            coverage_by(SETS, LABELS, **more)
    mixed = [1, "1", 1.0, None, np.nan, "x"]
    assert coverage_by(SETS, LABELS, mixed).cells == ("1", "x", "(missing)")


@pytest.mark.parametrize("edges", [(1, 2), (), "01", (0, np.nan), (0, 0.5)])
def test_edges_that_are_none(edges):
    words = "`edges` must be whole numbers that rise from 0"
    with pytest.raises(ConfigurationError, match=words):
        size_stratified(SETS, LABELS, edges=edges)


@pytest.mark.parametrize("least", [0, 5, 1.5])
def test_windows_that_are_none(least):
    words = "`least` must be a whole number of rows, 1 to 2"
    with pytest.raises(ConfigurationError, match=words):
        worst_window([1, 0], least)


def test_windows_by_hand():
    assert worst_window([1, 1, 0, 0, 1], 2) == (0.0, 2, 4)
    assert worst_window([1, 1, 1], 2)[0] == 1.0


def test_features_that_do_not_fit():
    with pytest.raises(PredictionError, match=r"`x` must have shape \(6, d\)"):
        worst_slab(np.zeros((3, 2)), SETS, LABELS, seed=0)
    x = np.ones((6, 2))
    words = "`directions` must be a whole number, 1 or more, got 0"
    with pytest.raises(ConfigurationError, match=words):
        worst_slab(x, SETS, LABELS, seed=0, directions=0)
    x[4, 1] = np.nan
    with pytest.raises(PredictionError, match="`x` must be finite, row 4 is not"):
        worst_slab(x, SETS, LABELS, seed=0)


def test_reports_that_cannot_be():
    with pytest.raises(ConfigurationError, match=r"`alpha` must be in \(0, 1\)"):
        coverage_report(SETS, LABELS, alpha=2.0)
    with pytest.raises(PredictionError, match="Probabilities become sets by"):
        coverage_report(np.full((6, 3), 1 / 3), LABELS, alpha=0.1)


@pytest.fixture(scope="module")
def rows():
    problem = synthetic_problem(4000, 5, temperature=2.0, seed=0)
    p = softmax(problem.logits + np.array([0, 0, 0, 0, 2.0]))
    return p, problem.labels, np.where(np.arange(4000) % 2, "odd", "even")


def report(rows, classifier, cal=1000, **more):
    "Fit on the first rows, report on those from 1,000 on"
    p, y, g = rows
    of = g if classifier.condition == "group" else [None]
    groups = None if of is not g else g[:cal]
    fitted = classifier.fit(p[:cal], y[:cal], groups=groups)
    new = None if of is not g else g[1000:]
    sets = fitted.predict(p[1000:], groups=new)
    return coverage_report(sets, y[1000:], alpha=0.1, fitted=fitted, **more)


def test_bands(rows):
    by_group = ConformalClassifier(condition="group")
    assert report(rows, by_group, groups=rows[2][1000:]).band is not None
    assert report(rows, by_group).no_band == "`groups` are not given"
    filled = report(rows, ConformalClassifier(empty="top1"))
    assert filled.no_band == "sets that would be empty were filled"
    other = report(rows, ConformalClassifier(alpha=0.2))
    assert other.no_band == "the sets were fitted for alpha 0.2"
    few = report(rows, ConformalClassifier(condition="class"), cal=20)
    assert "too few calibration rows" in few.no_band


def test_what_was_not_fitted(rows):
    p, y, _ = rows
    words = "must be a fitted ConformalClassifier over 5 classes, got 1000"
    with pytest.raises(ConfigurationError, match=words):
        coverage_report(p[:9] > 0.2, y[:9], alpha=0.1, fitted=1000)
    with pytest.raises(ConfigurationError, match="must be a fitted ConformalClass"):
        coverage_report(p[:9] > 0.2, y[:9], alpha=0.1, fitted=ConformalClassifier())


def test_excess_risk_finds_what_coverage_hides():
    "Coverage .8 on one side and 1 on the other is .9: the distance squared is .01"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6000, 3))
    labels = np.zeros(6000, int)
    uneven = rng.random(6000) < np.where(x[:, 0] > 0, 0.8, 1.0)
    even = rng.random(6000) < 0.9
    found = excess_risk(x, uneven[:, None], labels, alpha=0.1, seed=0)
    assert 0 < found.low <= found.value <= 0.0105 and found.high > 0.008
    nothing = excess_risk(x, even[:, None], labels, alpha=0.1, seed=0)
    assert nothing.low <= 0 < 0.002 and nothing.value < 0.002


def test_a_table_by_class_names_who_falls_short():
    labels = np.repeat([0, 1, 2], 100)
    sets = np.eye(3, dtype=bool)[labels]
    sets[150:200] = False  # half of the second class
    sets[295:] = False
    table = coverage_by(sets, labels, classes=["ham", "spam", "news"])
    short = table.short_of(0.97)
    assert [row["cell"] for row in short] == ["spam", "news"]
    assert [row["proven"] for row in short] == [True, False]
