"Ids, weights, votes, times, order of classes and spellings, from the file to the run"

import html
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fine_tune_llm.config.layers import make_config
from fine_tune_llm.core.errors import ConfigurationError, DataValidationError
from fine_tune_llm.evaluation import audit
from fine_tune_llm.run.file_decisions import decide_pieces, file_options
from fine_tune_llm.run.roles import read_data
from fine_tune_llm.testing import toy_rows
from fine_tune_llm.training import recipe

ROWS = toy_rows(512)
NOT_TRAINED = {"epochs": 0}


def voted(rows, seed=0):
    "Three annotators, the third of whom errs now and then; and what a row is worth"
    rng = np.random.default_rng(seed)
    names = sorted({row["label"] for row in rows})
    return [
        {
            "text": row["text"],
            "anna": row["label"].upper(),
            "ben": row["label"],
            "cleo": str(rng.choice(names)),
            "trust": float(rng.integers(0, 4)),
            "number": f"n{i}",
        }
        for i, row in enumerate(rows)
    ]


def settings(**data):
    return make_config({"data": data})


@pytest.fixture
def seen(monkeypatch):
    "What training was given"
    given = []
    real = recipe.train

    def train(model, train_rows, *more, **settings):
        given.append((train_rows, more[0]))
        return real(model, train_rows, *more, **settings)

    monkeypatch.setattr("fine_tune_llm.run.journey.train", train)
    return given


def test_a_fit_learns_from_votes_and_weights_and_promises_by_the_majority(
    toy_fit, tmp_path, seen
):
    rows = voted(ROWS)
    data = {"votes": ["anna", "ben", "cleo"], "weight": "trust", "id": "number"}
    run = toy_fit(tmp_path / "run", rows, config={"data": data}, **NOT_TRAINED)
    (texts, labels, weights), validation = seen[0]
    expected = set()
    for row in rows:
        said = [row[who].lower() for who in ("anna", "ben", "cleo")]
        for name in said:
            share = row["trust"] * said.count(name) / 3
            expected.add((row["text"], name, round(share, 6)))
    names = [run.classes[k].lower() for k in labels]
    assert {*zip(texts, names, weights.round(6))} <= expected
    assert len(validation) == 2  # no weights
    by_text = {row["text"]: row for row in rows}
    for role in ("validation", "calibration", "test"):
        found = run.predictions(role)
        true = [by_text[text]["ben"] for text in found.texts]
        assert [run.classes[k] for k in found.labels] == true
        assert set(found.ids) <= {row["number"] for row in rows}
    file = tmp_path / "new.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    ((decisions, _),) = decide_pieces(run, file, file_options(run))
    assert [one.id for one in decisions] == ["n0", "n1", "n2"]
    _check_what_is_said(run)


def _check_what_is_said(run):
    "In data.json and in the report"
    schema = run.data["schema"]
    assert schema["votes"] == ["anna", "ben", "cleo"] and schema["weight"] == "trust"
    notes = " ".join(run.data["source"]["notes"])
    assert "labels are the majority of the votes in `anna`, `ben`, `cleo`" in notes
    assert "in training rows count by `trust` (0 to 3)" in notes
    assert "spelling" in notes
    audit(run).save(run.path)
    assert "rows count by `trust`" in html.unescape(
        (run.path / "report.html").read_text()
    )


def test_equal_weights_make_the_same_run(toy_fit, tmp_path):
    rows = [row | {"w": 2} for row in ROWS]
    plain = toy_fit(tmp_path / "plain", rows, config={"data": {}})
    equal = toy_fit(tmp_path / "equal", rows, config={"data": {"weight": "w"}})
    for role in ("validation", "calibration", "test"):
        one, two = (run.predictions(role).logits for run in (plain, equal))
        np.testing.assert_array_equal(one, two)


def test_the_order_of_classes_is_kept_everywhere(toy_fit, tmp_path):
    order = ["kitchen", "garden"]
    config = {"data": {"classes": order}}
    run = toy_fit(tmp_path / "run", config=config, **NOT_TRAINED)
    assert run.classes == ("kitchen", "garden") and run.data["classes"] == order
    assert run.predictions("test").classes == run.classes
    plain = toy_fit(tmp_path / "plain", **NOT_TRAINED)
    texts = [row["text"] for row in ROWS[:5]]
    one, two = run.predict_proba(texts), plain.predict_proba(texts)
    assert plain.classes == ("garden", "kitchen")
    assert (one.argmax(1) == 1 - two.argmax(1)).all()


def test_classes_without_rows_and_rows_without_classes_are_refused():
    with pytest.raises(
        DataValidationError, match="1 of the 3 classes have no rows: 'x'"
    ):
        read_data(ROWS, None, settings(classes=["garden", "x", "kitchen"]))
    with pytest.raises(DataValidationError, match="have the label 'garden', none of"):
        read_data(ROWS, None, settings(classes=["kitchen", "shed"]))


def test_a_test_file_is_spelled_as_the_data_and_unknown_labels_are_placed():
    test = [{"text": "a pot", "label": " Kitchen", "g": "F"}]
    test += [{"text": "a rake", "label": "GARDEN", "g": "M"}]
    rows = [row | {"g": "fm"[i % 2]} for i, row in enumerate(ROWS)]
    data, n = read_data(rows, test, settings(group=("g",)))
    assert n == 2 and data.classes == ("garden", "kitchen")
    assert data.labels[-2:].tolist() == [1, 0]
    assert data.groups["g"][-2:].tolist() == ["f", "m"]
    assert data.ids[-2:] == ("test-0", "test-1")
    test += [{"text": "a car", "label": "garage"}] * 2
    with pytest.raises(DataValidationError, match="'garage', none of.*rows 2, 3"):
        read_data(ROWS, test, settings())


def test_a_test_file_needs_neither_weights_nor_votes():
    rows, test = voted(ROWS), ROWS[:4]
    asked = settings(votes=("anna", "ben"), weight="trust")
    data, n = read_data(rows, test, asked)
    assert n == 4 and data.weights[-4:].tolist() == [1] * 4
    assert (data.votes[-4:].argmax(1) == data.labels[-4:]).all()
    with pytest.raises(DataValidationError, match="no text"):
        read_data(rows, [{"text": "", "anna": "kitchen", "ben": ""}], asked)


def test_a_class_that_is_never_trained_on_is_refused_before_anything_is_written(
    toy_fit, tmp_path
):
    rows = [row | {"w": float(row["label"] == "garden")} for row in ROWS]
    with pytest.raises(DataValidationError, match="of the weight 0: 'kitchen'"):
        toy_fit(tmp_path / "run", rows, config={"data": {"weight": "w"}})
    assert not (tmp_path / "run").exists()


def test_a_loss_that_cannot_weigh_is_refused_at_the_door(toy_fit, tmp_path):
    rows = [row | {"w": 1 + i % 2} for i, row in enumerate(ROWS)]
    config = {"data": {"weight": "w"}, "loss": {"name": "cross_entropy+mdca"}}
    with pytest.raises(ConfigurationError, match="'mdca' counts all rows the same"):
        toy_fit(tmp_path / "run", rows, config=config)
    assert not (tmp_path / "run").exists()


def test_groups_are_spelled_as_the_run_knows_them(toy_fit, tmp_path):
    rows = [row | {"g": ("f", "m", "f", "M")[i % 4]} for i, row in enumerate(ROWS)]
    config = {"conformal": {"condition": "group"}}
    run = toy_fit(tmp_path / "run", rows, group="g", config=config, **NOT_TRAINED)
    assert "groups of `g`" in " ".join(run.data["source"]["notes"])
    texts = [row["text"] for row in ROWS[:4]]
    sets = [
        [
            one.prediction_set
            for one in run.decide(texts, groups={"g": values}, rationale=False)
        ]
        for values in (["f", "f", "m", "m"], ["F", " f", "M", "m"])
    ]
    assert sets[0] == sets[1]


def test_the_command_line_reaches_it(tiny, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in voted(ROWS)))
    words = [str(Path(sys.executable).parent / "ftllm"), "fit", str(rows)]
    words += ["--model", str(tiny / "bert"), "--out", str(tmp_path / "run")]
    words += ["--config", str(tiny / "more.yaml"), "--epochs", "0"]
    words += ["--set", "data.votes=anna,cleo", "--set", "data.weight=trust"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 3), done.stderr
    data = json.loads((tmp_path / "run/data.json").read_text())
    assert data["schema"]["votes"] == ["anna", "cleo"]
    assert "in training rows count by `trust`" in " ".join(data["source"]["notes"])
