"What a notebook shows of a fit that was stopped, and goes on"

import traceback

import pytest

import fine_tune_llm as ft
from fine_tune_llm.core.events import Event, TrainingEvaluated
from fine_tune_llm.run.directory import read_events
from fine_tune_llm.run.journey import FitProgress


class Stop:
    "A bus on which somebody presses the stop button after an epoch"

    def __init__(self, epoch):
        self.epoch = epoch

    def publish(self, event):
        if isinstance(event, TrainingEvaluated) and event.epoch >= self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    "Arguments of a fit that was interrupted after two epochs, and what it raised"
    out = tmp_path_factory.mktemp("progress") / "run"
    arguments = {
        "data": tiny / "rows.jsonl",
        "out": out,
        "model": str(tiny / "bert"),
        "config": tiny / "more.yaml",
        "epochs": 4,
        "seed": 0,
        "progress": False,
    }
    with pytest.raises(KeyboardInterrupt) as raised:
        ft.fit(**arguments, bus=Stop(2))
    return arguments, raised.value


def shown(folder, monkeypatch):
    "What the view of a folder holds when it is drawn first"
    monkeypatch.setattr("IPython.display.display", lambda *args, **more: None)
    view = FitProgress()
    view.show(folder)
    return view._repr_html_()


def test_an_interrupt_says_what_to_do_in_few_lines(stopped):
    arguments, error = stopped
    assert f"`{arguments['out']}` is whole; call fit again" in str(error)
    frames = traceback.extract_tb(error.__traceback__)
    assert not any("/torch/" in frame.filename for frame in frames)
    text = "".join(traceback.format_exception(error))
    assert len(text.splitlines()) < 30


def test_an_interrupt_is_in_the_events_and_in_the_view(stopped):
    out = stopped[0]["out"]
    assert [e.data["stage"] for e in read_events(out, "system.interrupted")] == [
        "training"
    ]
    view = FitProgress()
    view(Event("system.interrupted", {"stage": "training"}))
    assert "<b>stopped:</b> interrupted" in view._repr_html_()
    assert "▸" not in view._repr_html_()


def test_a_fit_that_goes_on_shows_what_was_done_before(stopped, monkeypatch):
    page = shown(stopped[0]["out"], monkeypatch)
    assert "✓ data" in page
    assert "▸ training" in page
    assert "<td>1</td>" in page  # the epochs of the first attempt


def test_a_finished_fit_called_again_shows_that_all_is_there(stopped, monkeypatch):
    arguments, _ = stopped
    ft.fit(**arguments)
    page = shown(arguments["out"], monkeypatch)
    for stage in ("data", "training", "prediction", "certification"):
        assert f"✓ {stage}" in page
    assert "▸" not in page
    assert page.count("<td>2</td>") == 1  # trained again, and shown once


def test_the_link_to_the_report_can_be_followed(stopped, monkeypatch, tmp_path):
    arguments, _ = stopped
    run = ft.fit(**arguments)
    (run.path / "report.html").write_text("<!doctype html>")
    monkeypatch.chdir(run.path.parent)
    assert "[Report](run/report.html)" in run._repr_markdown_()
    monkeypatch.chdir(tmp_path)  # a notebook cannot serve what lies elsewhere
    assert f"Report: `{run.path / 'report.html'}`" in run._repr_markdown_()


def test_one_decision_is_a_table_too(stopped):
    run = ft.fit(**stopped[0])
    (decision,) = run.decide(["rake the leaves"])
    assert "<td " in decision._repr_html_()
