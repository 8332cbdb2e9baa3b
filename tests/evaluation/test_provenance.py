"Where a classifier comes from: its day, who set what, what was not found"

import json
from datetime import UTC, datetime

import pytest
import yaml

from fine_tune_llm.core.event_store import EventStore
from fine_tune_llm.core.events import AuditFinished, StageFinished
from fine_tune_llm.evaluation import (
    curve_of,
    data_of,
    day_of,
    identity_of,
    settings_of,
    training_of,
)
from fine_tune_llm.run.directory import Run

USE = {"audit": {"intended_use": "Sorts <b>notes</b>", "min_group_size": 7}}


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    out = tmp_path_factory.mktemp("provenance") / "run"
    return toy_fit(out, epochs=2, config=USE)


def by_key(run):
    return {row["key"]: row for row in settings_of(run)}


def test_the_day_is_that_of_the_last_stage_and_stays_it(run):
    last = max(event.time for event in run.events(StageFinished))
    assert day_of(run) == datetime.fromtimestamp(last, UTC).date().isoformat()
    much_later = AuditFinished(certificate="x", n_test=1, time=last + 1e8)
    with EventStore(run.path / "events.db") as store:
        store.append(much_later)
    assert day_of(Run.load(run.path)) == day_of(run)


def test_who_set_what(run):
    rows = by_key(run)
    assert rows["training.epochs"] == {
        "key": "training.epochs",
        "value": 2,
        "source": "arguments",
    }
    assert rows["audit.min_group_size"]["value"] == 7
    assert rows["risk.delta"]["source"] == "default"
    changed = {origin.name for origin in run.config.changed()}
    shown = changed - {"audit.intended_use"}
    assert shown <= set(rows)
    assert all(rows[key]["source"] != "default" for key in shown)


def test_a_setting_that_was_edited_since_says_so(run):
    file = run.path / "config.yaml"
    before = file.read_text()
    settings = yaml.safe_load(before)
    settings["audit"]["min_group_size"] = 9
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    row = by_key(Run.load(run.path))["audit.min_group_size"]
    file.write_text(before)
    assert (row["value"], row["source"]) == (9, "the run's config.yaml")


def test_no_folder_of_this_machine_is_told(run):
    said = json.dumps([identity_of(run), training_of(run), data_of(run)])
    assert str(run.path.parent) not in said
    assert str(run.config.model.name) not in said  # an absolute path here
    assert by_key(run)["model.name"]["value"] == "bert"


def test_the_curve_has_every_evaluation(run):
    curve = curve_of(run)
    assert [row["epoch"] for row in curve] == [0.0, 1.0, 2.0]
    assert all({"eval_nll", "eval_ece", "step"} <= row.keys() for row in curve)
    assert json.dumps(curve, allow_nan=False)


def test_checks_are_findings_or_silent(run):
    quality = run.data["quality"]
    silent = set(quality["silent"])
    assert silent <= set(quality["checks"])
    (said, *_) = data_of(run)["nothing_found"]
    n_silent, n_checks = len(silent), len(quality["checks"])
    assert said.startswith(f"{n_silent} of {n_checks} checks found nothing: ")
    assert (n_silent < n_checks) == bool(quality["findings"])


def test_what_was_not_stated_says_so(run):
    identity = identity_of(run)
    assert identity["intended_use"] == "Sorts <b>notes</b>"
    assert identity["limits"].startswith("Not stated")
    assert identity["stated"] == {"intended_use": True, "limits": False}
