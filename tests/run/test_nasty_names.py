"""One run whose classes, groups, columns and folder are called nasty things

Everything that leaves it, wherever it goes, only shows them.
"""

import json
import re
import shutil
import unicodedata

import matplotlib.pyplot as plt
import pytest
import yaml

import fine_tune_llm as ft
from fine_tune_llm.cli.program import main
from fine_tune_llm.cli.summary import summary_text
from fine_tune_llm.core.events import event_line
from fine_tune_llm.stats import (
    CostMatrix,
    GroupCounts,
    coverage_by,
    group_report,
    plots,
)
from fine_tune_llm.testing import toy_rows

ESCAPE = "\x1b[2J\r\x1b]0;owned\x07\x9b31m\u202e"
CLASSES = {
    "0": f"<script>alert(1)</script> {ESCAPE}",
    "1": "| a | `b` $x$ and $y$ [z](javascript:0) ![i](http://e.v/i.png)",
}
COLUMN = "shift <b>\u202e|"
SHIFTS = ("$day$ <img src=x>", "_night_\x1b[2J | x")
FOLDER = "run\n---\nlicense: mit\n---\n# <b>own</b> | `x`\x1b[31m"
FORBIDDEN = ("<script", "<img", "<b>own", "<b>\\u", "\n---\nlicense")


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nasty") / FOLDER
    names = {}
    rows = []
    for i, row in enumerate(toy_rows(512)):
        label = names.setdefault(row["label"], CLASSES[str(len(names) % 2)])
        rows.append({"text": row["text"], "label": label, COLUMN: SHIFTS[i % 2]})
    found = toy_fit(folder, rows, group=COLUMN, epochs=2, target_risk=0.45)
    ft.audit(found).save(found.path)
    yield found
    shutil.rmtree(folder, ignore_errors=True)


def hidden_in(text):
    "Characters that cannot be seen"
    return {c for c in text if unicodedata.category(c)[0] == "C"} - {"\n", "\t"}


def check(text):
    "Nothing that cannot be seen, and no markup of the names"
    assert not hidden_in(text), (hidden_in(text), text[:300])
    bare = re.sub(r"(?<!\\)(`+)(?!`).*?(?<![`\\])\1(?!`)", "", text)  # code is safe
    is_markdown = not text.startswith("<")
    assert not (is_markdown and re.search(r"(?<!\\)\]\((?:javascript|http)", bare))
    for word in FORBIDDEN:
        assert word not in bare, (word, bare[max(0, bare.find(word) - 200) :][:400])


def test_the_model_card(run, tiny):
    card = (run.path / "model_card.md").read_text()
    check(card)
    _, front, body = card.split("---\n", 2)
    said = yaml.safe_load(front)
    assert "license" not in said and "base_model" not in said
    assert str(tiny) not in card and "/tmp" not in card
    assert body.count("\n# ") == 1
    table = [line for line in body.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {3}


def test_the_report(run, tiny):
    page = (run.path / "report.html").read_text()
    before, _, script = page.rpartition("<script>")  # the page's own, which sorts
    check(before + script.partition("</script>")[2])
    assert "&lt;script&gt;" in page and str(tiny) not in page


def test_what_machines_read_is_as_it_was(run):
    evidence = json.loads((run.path / "audit.json").read_text())
    assert set(evidence["data"]["classes"]) == set(CLASSES.values())
    assert set(run.classes) == set(CLASSES.values())


def test_the_terminal(run, capsys, tmp_path, monkeypatch):
    evidence = json.loads((run.path / "audit.json").read_text())
    assert not hidden_in(summary_text(evidence, width=100))
    inputs = tmp_path / "in.jsonl"
    inputs.write_text(json.dumps({"text": "a1 a2 b3", COLUMN: SHIFTS[0]}) + "\n")
    for words in (
        ["decide", run.path, inputs],
        ["decide", run.path, inputs, "-o", tmp_path / "out.jsonl"],
        ["audit", run.path],
        ["events", run.path, "-n", "0"],
        ["events", run.path, "-n", "0", "--json"],
        ["events", run.path, "--summary"],
        ["config", "show", run.path, "--origin"],
        ["config", "explain", "data.group", run.path],
        ["config", "diff", run.path],
        ["decide", run.path, f"nowhere{ESCAPE}"],
        ["fit", inputs, "--label", f"no{ESCAPE}", "--out", tmp_path / FOLDER],
        ["config", "show", "--set", f"a{ESCAPE}=1"],
        ["--debug", "config", "show", "--set", f"a{ESCAPE}=1"],
        [f"--{ESCAPE}"],
    ):
        with pytest.raises(SystemExit):
            main(list(map(str, words)))
        said = capsys.readouterr()
        for text in (said.out, said.err):
            assert not hidden_in(text), (words, hidden_in(text), text[:500])


def test_events(run):
    for event in run.events():
        assert not hidden_in(event_line(event))


def test_tables_in_a_notebook(run):
    test = run.outcome("test")
    labels = test.predictions.labels
    groups = test.predictions.groups[COLUMN]
    decided = test.decided
    counts = GroupCounts.from_arrays(labels, decided, groups=test.predictions.groups)
    fairness = group_report(counts, seed=0, n_resamples=200, min_rows=5)
    shown = [
        run,
        test,
        test.predictions,
        run.calibrator,
        run.conformal,
        run.selective,
        *run.selective.certificates_,
        run.config,
        CostMatrix(run.classes, [[0, 1], [1, 0]]),
        coverage_by(test.sets, labels, groups),
        counts,
        fairness,
        fairness.multicalibration,
        *fairness.rates,
        *fairness.gaps,
        run.decide(["a1 a2 b3"], groups={COLUMN: [SHIFTS[0]]}),
    ]
    for one in shown:
        for method in ("_repr_markdown_", "_repr_html_"):
            if hasattr(one, method):
                text = getattr(one, method)()
                check(text)
                rows = [line for line in text.splitlines() if line.startswith("|")]
                wide = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
                assert len(wide) <= 1, (type(one), rows[:4])


def test_labels_of_plots_are_no_formulas(run):
    test = run.outcome("test")
    groups = test.predictions.groups[COLUMN]
    table = coverage_by(test.sets, test.predictions.labels, groups)
    ax = plots.plot_coverage(table, 0.1)
    ax.figure.canvas.draw()
    names = [tick.get_text() for tick in ax.get_xticklabels()]
    assert any("day" in name for name in names)
    for name in names:
        assert name.count("$") == name.count("\\$") and "\x1b" not in name
    plt.close(ax.figure)
