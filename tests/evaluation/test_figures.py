"Pictures of the evidence: what they say, in which order, of what there is nothing"

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from fine_tune_llm.evaluation import errors, figures, subject_of
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.stats import CostMatrix
from fine_tune_llm.stats.audit_plots import (
    ForestRow,
    plot_confusion,
    plot_coverage_band,
    plot_forest,
    plot_seeds,
    plot_training,
)

sys.path.insert(0, str(Path(__file__).parent))
from made_evidence import (  # noqa: E402
    full_evidence,
    open_evidence,
    predictions_evidence,
)

NAMES = [name for name in dir(figures) if name.startswith("fig_")]
EVIL = "<script>alert(1)</script>\u202e$x_"


def evidence_with_errors(classes=("a", "b", "c"), critical=()):
    rng = np.random.default_rng(0)
    K = len(classes)
    labels = rng.integers(0, K, 200)
    said = Predictions(
        logits=rng.normal(size=(200, K)) + np.eye(K)[labels],
        labels=labels,
        classes=classes,
    )
    decided = np.where(said.conf > 0.5, said.decided, -1)
    cost = CostMatrix(classes, 5 * (1.0 - np.eye(K)), critical=critical)
    found = errors.ErrorAnalyzer().analyze(subject_of(said, decided=decided, cost=cost))
    evidence = full_evidence()
    evidence["performance"]["errors"] = json.loads(json.dumps(found.to_dict()))
    return evidence


def alt_of(picture):
    return re.findall('aria-label="(.*?)"', picture)


@pytest.mark.parametrize("name", NAMES)
def test_there_is_a_picture_that_says_what_it_shows(name):
    evidence = evidence_with_errors()
    picture = getattr(figures, name)(evidence)
    assert picture.startswith("<svg") and alt_of(picture)
    for svg in re.findall(r"<svg.*?</svg>", picture, flags=re.S):
        ElementTree.fromstring(svg.replace("xlink:", ""))
    assert getattr(figures, name)(evidence_with_errors()) == picture
    assert not re.search('(href|src)="http', picture)


@pytest.mark.parametrize("name", NAMES)
def test_of_what_was_not_evaluated_there_is_none(name):
    assert getattr(figures, name)(open_evidence()) == ""
    assert getattr(figures, name)({}) == ""


def test_bare_predictions_have_the_pictures_that_they_can_have():
    drawn = {n for n in NAMES if getattr(figures, n)(predictions_evidence())}
    assert drawn >= {"fig_reliability", "fig_groups"}
    assert not drawn & {
        "fig_coverage",
        "fig_risk_coverage",
        "fig_training",
        "fig_seeds",
    }
    assert "before" not in alt_of(figures.fig_reliability(predictions_evidence()))[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_fits_a_narrow_page(name):
    picture = getattr(figures, name)(evidence_with_errors())
    sizes = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture)
    assert sizes
    for width, height in sizes:  # in points
        assert float(width) <= 4 * 72 and float(height) <= 3 * 72


@pytest.mark.parametrize("name", NAMES)
def test_colours_are_those_that_a_dark_page_replaces(name):
    picture = getattr(figures, name)(evidence_with_errors(critical=[("a", "b")]))
    colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", picture))
    assert not colours  # each is `currentColor`, or a variable with a colour to fall to
    assert "var(--mark" in picture


def rates_of(groups, metric="selective_risk"):
    rates = [
        {"view": "age", "cell": [name], "metric": metric, "value": 0.1 + i / 100}
        | {"low": 0.05, "high": 0.3, "n": 100, "reason": ""}
        for i, name in enumerate(groups)
    ]
    whole = {"view": "all rows", "cell": [], "metric": metric, "value": 0.1}
    whole |= {"low": 0.08, "high": 0.12, "n": 500, "reason": ""}
    return {"fairness": {"rates": [whole, *rates]}}


def test_groups_stand_in_the_order_that_people_know():
    groups = ["18-39", "(missing)", "65+", "5-17", "0-4", "40-64"]
    (alt,) = alt_of(figures.fig_groups(rates_of(groups)))
    at = [alt.index(name) for name in ("0-4", "5-17", "18-39", "40-64", "65+")]
    assert at == sorted(at) and alt.index("(missing)") > at[-1]


def test_of_many_groups_the_farthest_are_drawn_and_it_says_so():
    (alt,) = alt_of(figures.fig_groups(rates_of([f"site {i}" for i in range(40)])))
    assert "(9 of 40 groups)" in alt and "site 39" in alt and "site 3 " not in alt


def test_a_metric_that_was_not_measured_has_no_picture():
    assert figures.fig_groups(rates_of(["a"]), metric="coverage") == ""


def test_markup_in_names_is_only_shown():
    evidence = evidence_with_errors(classes=(EVIL, "b"), critical=[(EVIL, "b")])
    evidence |= rates_of([EVIL])
    shift = {"value": 0.1, "low": 0.0, "high": 0.2, "n": 9}
    swap = {"attribute": EVIL, "term": EVIL, "n": 9, "shift": shift, "adjusted": 0.01}
    evidence["behaviour"] = {"swaps": [swap]}
    metric = {"mean": 0.5, "values": [0.4, 0.6], "low": None, "high": None}
    evidence["seeds"] = {"metrics": {EVIL: metric}}
    for name in NAMES:
        picture = getattr(figures, name)(evidence)
        assert "<script" not in picture


def test_confusion_says_how_many_are_critical():
    evidence = evidence_with_errors(critical=[("a", "b")])
    table = evidence["performance"]["errors"]["confusion"]
    wrong = np.sum(table["counts"]) - np.trace(table["counts"])
    (alt,) = alt_of(figures.fig_confusion(evidence))
    assert alt.startswith(f"{wrong:,} of {np.sum(table['counts']):,} decisions")
    assert f"{table['counts'][0][1]} of them critical" in alt


def test_more_classes_than_can_be_read_have_no_table():
    many = evidence_with_errors(classes=[f"c{k}" for k in range(13)])
    assert figures.fig_confusion(many) == ""


def overlap(figure):
    "Does a legend lie on the axes?"
    figure.draw_without_rendering()
    inside = figure.axes[0].get_window_extent()
    legends = [*figure.legends, figure.axes[0].get_legend()]
    return any(
        legend.get_window_extent().overlaps(inside) for legend in legends if legend
    )


ROWS = [ForestRow(f"a rather long name {i}", 0.5, low=0.4, high=0.6) for i in range(9)]
PLOTS = {
    "forest": lambda ax: plot_forest(ROWS, overall=0.5, xlabel="x (share)", ax=ax),
    "band": lambda ax: plot_coverage_band(ROWS, 0.1, band=(0.8, 0.95), ax=ax),
    "seeds": lambda ax: plot_seeds(
        {"m": {"mean": 1, "low": 0, "high": 2, "values": [0, 2]}}, ax=ax
    ),
    "training": lambda ax: plot_training(
        [{"epoch": i, "loss": 1 / (i + 1), "eval_nll": 1.0} for i in range(5)], ax=ax
    ),
    "confusion": lambda ax: plot_confusion([[3, 1], [0, 4]], ["a", "b"], ax=ax),
}


@pytest.mark.parametrize("name", PLOTS)
def test_numbers_in_axes_out_and_no_legend_over_data(name):
    figure = Figure(figsize=(4, 3), layout="constrained")
    ax = figure.subplots()
    assert PLOTS[name](ax) is ax
    assert ax.get_xlabel()
    figures.legend_below(ax)
    assert not overlap(figure)


@pytest.mark.parametrize("name", PLOTS)
def test_without_axes_there_is_a_new_small_figure(name):
    with matplotlib.rc_context({"figure.max_open_warning": 0}):
        ax = PLOTS[name](None)
    width, height = ax.figure.get_size_inches()
    assert width <= 4 and height <= 3
    matplotlib.pyplot.close(ax.figure)


def test_what_is_marked_is_seen_without_colours():
    ax = plot_forest([ForestRow("a", 0.1), ForestRow("b", 0.2, is_marked=True)])
    assert [line.get_marker() for line in ax.get_lines()] == ["o", "D"]
    matplotlib.pyplot.close(ax.figure)
