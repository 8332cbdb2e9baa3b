"What a run asks, from its settings"

import numpy as np
import pytest

from fine_tune_llm.config import make_config
from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.data import load
from fine_tune_llm.data.prompts import Example
from fine_tune_llm.run.asked import asked_prompt
from fine_tune_llm.testing import toy_rows

ROWS = load(toy_rows(32))


def asked(**settings):
    config = make_config({f"prompt.{name}": value for name, value in settings.items()})
    return asked_prompt(config, ROWS, train=np.arange(20))


def test_every_setting_reaches_the_prompt():
    prompt = asked(
        system="You speak for the allotments.",
        template="A neighbour said:\n{{ text }}",
        chat_template="glm4",
        examples=[
            {"text": "rake", "label": "garden"},
            {"text": "stew", "label": "kitchen", "rationale": "pots"},
            {"text": "the moon", "abstain": True, "rationale": "neither"},
            ["bulbs", "garden"],
            ["the sea", None],
        ],
    )
    assert prompt.examples == (
        Example("rake", "garden"),
        Example("stew", "kitchen", "pots"),
        Example("the moon", None, "neither"),
        Example("bulbs", "garden"),
        Example("the sea", None),
    )
    assert prompt.request.startswith("You speak for the allotments.\n\nRead the")
    assert '{"decision": null, "rationale": "why", "abstain": true}' in prompt.request
    assert prompt.turns("x")[-1]["content"] == "A neighbour said:\nx"
    assert prompt.chat_template == "glm4"


def test_nothing_is_said_of_abstaining_where_nothing_shows_it():
    assert "null" not in asked(examples=[["rake", "garden"]]).request


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "a"}, "either a label, or `abstain: true`"),
        ({"text": "a", "label": None}, "either a label, or `abstain: true`"),
        ({"text": "a", "label": "garden", "abstain": True}, "either a label, or"),
        ({"text": "a", "abstain": "yes"}, "either a label, or"),
        ({"text": "a", "label": "garden", "why": "b"}, "got 'why'"),
        ({"label": "garden"}, "examples"),
        (["a"], "examples"),
        (["a", "garden", "b", "c"], "examples"),
    ],
)
def test_examples_that_are_none(row, words):
    with pytest.raises(ConfigurationError, match=words):
        asked(examples=[row])


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("template", "Decide.", "must show the text exactly once"),
        ("template", "{{ text }}{{ 7 * 7 }}", "uses `mul`"),
        ("chat_template", "llama", "chat_template"),
    ],
)
def test_templates_that_are_refused(setting, value, words):
    with pytest.raises(ConfigurationError, match=words):
        asked(**{setting: value})
