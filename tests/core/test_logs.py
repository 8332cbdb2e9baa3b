"Lines are written once, however often the module or its class was made anew"

import importlib
import io
import json
import logging
import warnings

import pytest
import structlog

from fine_tune_llm.core import logs


@pytest.fixture
def afterwards_quiet():
    # an earlier test took the warnings, and pytest took them back: begin anew
    logging.captureWarnings(False)
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    for handler in list(logging.getLogger().handlers):
        if handler.get_name() == "fine_tune_llm":
            logging.getLogger().removeHandler(handler)


def _lines(out):
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("anew", [False, True])
def test_a_warning_is_one_line(anew, afterwards_quiet):
    "`%autoreload` in JupyterLab makes the handler's class another class"
    logs.configure_logging("info", stream=io.StringIO())
    module = importlib.reload(logs) if anew else logs
    out = io.StringIO()
    module.configure_logging("info", json_lines=True, stream=out)
    logging.getLogger("some_library").warning("old option")
    warnings.warn("older option", FutureWarning, stacklevel=1)
    said = [line["component"] for line in _lines(out)]
    assert said == ["some_library", "py.warnings"]


def test_the_handler_of_a_user_stays(afterwards_quiet):
    theirs = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(theirs)
    try:
        logs.configure_logging("info", stream=io.StringIO())
        assert theirs in logging.getLogger().handlers
    finally:
        logging.getLogger().removeHandler(theirs)


def test_a_progress_bar_steps_aside_for_a_line(afterwards_quiet, monkeypatch):
    from tqdm import tqdm

    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    logs.configure_logging("warning")
    with tqdm(total=2, ncols=60) as bar:
        bar.update(1)
        logs.get_logger("x").warning("careful")
    line = next(line for line in shown.getvalue().split("\n") if "careful" in line)
    assert "%|" not in line.rsplit("\r", 1)[-1]
