"What an event may hold, and what it refuses"

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.core.events import ErrorRaised, Event, ModelSaved, json_safe


def test_json_safe():
    held = {"mean_token_accuracy": 0.9, "x": ValueError("no"), "y": Path("x")}
    assert json_safe(held) == {"mean_token_accuracy": 0.9, "x": "no", "y": "x"}
    odd = {"x": object(), "y": ValueError("no"), "z": [np.nan] * 2}
    assert json.dumps(json_safe(odd), allow_nan=False)


def test_an_event_does_not_change():
    event = Event("user.note", step=3)
    with pytest.raises(FrozenInstanceError):
        event.step = 4


def test_no_control_codes_reach_a_terminal():
    line = str(Event("user.note", {"s": "\x1b[2J"}, time=0))
    assert line.endswith(r"s='\x1b[2J'")


def holds_itself():
    loop = {}
    loop["me"] = loop
    return loop


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Event("user"), "such as 'user.note', got 'user'"),
        (lambda: Event("trainig.x"), "Categories are training, model"),
        (lambda: Event("user.note", holds_itself()), "or holds itself"),
        (lambda: Event("user.note", step="two"), "a whole number, got 'two'"),
        (lambda: Event("user.note", time=np.nan), "a finite number, got nan"),
        (
            lambda: ModelSaved(type="user.note", name="adapter"),
            "is of type 'model.saved', got 'user.note'",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ConfigurationError) as error:
        make()
    assert words in str(error.value)


def test_errors_of_others_go_by_their_name():
    event = ErrorRaised.of(ZeroDivisionError("division by zero"), "fit")
    assert event.code == "ZeroDivisionError"


@pytest.mark.parametrize(
    "strange",
    [
        {"type": "weather.rained", "data": {"mm": 3}},
        {"type": "system.error", "data": {"code": "x"}},
    ],
)
def test_unknown_types_and_records_that_lack_a_field_open_plain(strange):
    assert type(Event.from_dict({**strange, "time": 1.0})) is Event
