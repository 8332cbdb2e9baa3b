"What is trouble of the line or the hub, and what is an answer"

from types import SimpleNamespace

import pytest

from fine_tune_llm.models.hub import _is_hub_trouble


def caused(error, by=None):
    error.__cause__ = by
    return error


def status(code):
    error = OSError()
    error.response = SimpleNamespace(status_code=code)
    return error


ReadTimeout = type("ReadTimeout", (type("TimeoutException", (Exception,), {}),), {})
TROUBLE = (
    ConnectionResetError(),
    ReadTimeout(),
    status(503),
    caused(FileNotFoundError(), status(500)),
    caused(FileNotFoundError(), ReadTimeout()),
)
ANSWERS = (
    FileNotFoundError(),
    status(404),
    status(429),
    caused(FileNotFoundError(), status(403)),
    PermissionError(),
    ValueError(),
)


@pytest.mark.parametrize("error", TROUBLE, ids=repr)
def test_trouble(error):
    assert _is_hub_trouble(error)


@pytest.mark.parametrize("error", ANSWERS, ids=repr)
def test_an_answer_is_no_trouble(error):
    assert not _is_hub_trouble(error)
