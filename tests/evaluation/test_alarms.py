"What the test role contradicts is told first, and scripts learn of it"

import json

import pytest

from fine_tune_llm.evaluation import audit, render_card, render_report
from fine_tune_llm.evaluation.alarms import contradicted
from fine_tune_llm.testing import toy_rows

ROWS = toy_rows(512)
SPLIT = {"train": 0.5, "validation": 0.15, "calibration": 0.3, "test": 0.05}


def swapped(row):
    other = {"kitchen": "garden", "garden": "kitchen"}
    return row | {"label": other[row["label"]], "text": row["text"] + " now"}


@pytest.fixture(scope="module")
def shifted(toy_fit, tmp_path_factory):
    "A run whose test role has the labels the wrong way round"
    return toy_fit(
        tmp_path_factory.mktemp("alarms") / "run",
        ROWS[:400],
        test=[swapped(row) for row in ROWS[400:]],
        epochs=4,
        target_risk=0.2,
        config={"data": SPLIT},
    )


def test_a_contradicted_certificate_is_told_first(shifted):
    evidence = audit(shifted)
    broken = {found.code for found in contradicted(evidence.findings)}
    assert broken == {"decisions_contradicted", "sets_contradicted"}
    page = render_report(evidence)
    words = "The test role contradicts"
    assert page.index("Not to be used as it is") < page.index(words)
    assert page.index(words) < page.index('<section id="promises"')
    card = render_card(evidence)
    assert card.index("- **high**: " + words) < card.index("| accuracy")
    assert json.loads(evidence.to_json()) == dict(evidence)


def test_a_run_that_keeps_its_promise_has_no_such_alarm(toy_fit, tmp_path):
    run = toy_fit(tmp_path / "run", epochs=4, target_risk=0.2)
    assert contradicted(audit(run).findings) == []


def test_the_command_exits_with_five(tiny, ftllm, tmp_path):
    for name, rows in (
        ("train.jsonl", ROWS[:400]),
        ("test.jsonl", [swapped(row) for row in ROWS[400:]]),
    ):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name).write_text(lines)
    words = ["train.jsonl", "--test", "test.jsonl", "--model", tiny / "bert"]
    words += ["--config", tiny / "more.yaml", "--target-risk", 0.2, "--epochs", 4]
    said = ftllm("fit", *words, "--out", "run", cwd=tmp_path)
    assert said.returncode == 5
    # a score on its head comes first: it explains what follows
    assert said.stdout.startswith("WARNING: the score runs against the label")
    assert "The test role contradicts" in " ".join(said.stdout.split())
    assert "the test role contradicts 2 of the promises" in said.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    again = ftllm("audit", "run", cwd=tmp_path)
    assert again.returncode == 5
