"Templates of a user: what stands around a text, and what they may not do"

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.data import LabelPrompt, around_text
from fine_tune_llm.data.prompts import CHATS
from fine_tune_llm.data.templates import CHAT_TEMPLATES, chat_template

LABELS = ("kitchen", "garden")
SAID = {"garden": "plants"}
GOOD = {
    "{{ text }}": ("", ""),
    "{{text}}": ("", ""),
    "a {{- text -}} b": ("a", "b"),
    "Mail:\n{{ text }}\n": ("Mail:\n", "\n"),
    "{{ labels | join(', ') }}: {{ text }}": ("kitchen, garden: ", ""),
    "{{ labels | length }} {{ text }}": ("2 ", ""),
    "{% for label in labels %}\n{{ loop.index }} {{ label }}\n{% endfor %}{{ text }}": (
        "1 kitchen\n2 garden\n",
        "",
    ),
    "{% for n, d in descriptions.items() %}{{ n }}={{ d }};{% endfor %}{{ text }}": (
        "kitchen=;garden=plants;",
        "",
    ),
    "{{ descriptions['garden'] }}{{ descriptions.get('attic', '?') }}{{ text }}": (
        "plants?",
        "",
    ),
    "{% if labels | length > 9 %}many{% else %}few{% endif %} {{ text }}": ("few ", ""),
    "{{ 'a' if descriptions.kitchen else 'b' }}{{ text }}": ("b", ""),
    "{# no #}TEXT TEXTX {{ text }} TEXT": ("TEXT TEXTX ", " TEXT"),
    "{{ labels[0] | upper ~ '!' }}{{ text }}": ("KITCHEN!", ""),
}


@pytest.mark.parametrize("template", GOOD)
def test_what_stands_around_a_text(template):
    assert around_text(template, LABELS, SAID) == GOOD[template]


def test_a_label_that_is_called_text():
    template = "{{ labels | join(' ') | upper }} {{ text }}"
    assert around_text(template, ("text", "a")) == ("TEXT A ", "")


DEEP = "{% if labels %}" * 300 + "{{ text }}" + "{% endif %}" * 300
WRONG = {
    "": "exactly once",
    "text": "exactly once",
    "{{ text }}{{ text }}": "exactly once",
    "{{ text | upper }}": "exactly once",
    "{{ text[0] }}": "exactly once",
    "{{ text ~ 'a' }}": "exactly once",
    "{{ text.upper() }}": "calls a function",
    "{{ (text, 1) }}": "exactly once",
    "{{ text if labels else 1 }}": "exactly once",
    "{% if text %}{{ text }}{% endif %}": "exactly once",
    "{% for c in text %}{{ text }}{% endfor %}": "exactly once",
    "{% for label in labels %}{{ text }}{% endfor %}": "2 times",
    "{% if not labels %}{{ text }}{% endif %}": "0 times",
    "{% for text in labels %}{{ text }}{% endfor %}": "exactly once",
    "{% set text = 'a' %}{{ text }}": "uses `assign`",
    "{{ text": "is no jinja2 template",
    "{% endif %}{{ text }}": "is no jinja2 template",
    "{{ text }}{{ who }}": "names `who`",
    "{{ text }}{{ label }}": "Did you mean 'labels'",
    "{{ text }}{{ labels | shout }}": "shout",
    "{{ text }}{{ labels | tojson }}": "tojson",
    "{{ text }}{{ labels | map('upper') | join }}": "map",
    "{{ text }}{{ '%s' | format('a') }}": "format",
    "{{ text }}{{ labels.__class__ }}": "asks for `__class__`",
    "{{ text }}{{ labels['__class__'] }}": "cannot be filled in",
    "{{ text }}{{ labels | attr('__class__') }}": "attr",
    "{{ text }}{{ descriptions.get.__func__ }}": "asks for `__func__`",
    "{{ text }}{{ descriptions.pop('garden') }}": "calls a function",
    "{{ text }}{{ descriptions.clear() }}": "calls a function",
    "{{ text }}{{ ''.join(labels) }}": "calls a function",
    "{{ text }}{{ labels.__init__.__globals__ }}": "asks for `__",
    "{{ text }}{{ self }}": "names `self`",
    "{{ text }}{{ range(9) }}": "calls a function|names `",
    "{{ text }}{{ lipsum() }}": "calls a function|names `",
    "{{ text }}{{ cycler('a') }}": "calls a function|names `",
    "{{ text }}{{ namespace() }}": "calls a function|names `",
    "{{ text }}{{ loop(labels) }}": "calls a function",
    "{{ text }}{{ 'a' * 9999999999 }}": "uses `mul`",
    "{{ text }}{{ 9 ** 9999999 }}": "uses `pow`",
    "{{ text }}{{ 1 / 0 }}": "uses `div`",
    "{{ text }}{{ [1] + [2] }}": "uses `add`|uses `list`",
    "{{ text }}{{ {} }}": "uses `dict`",
    "{% include 'x' %}{{ text }}": "uses `include`",
    "{% import 'x' as x %}{{ text }}": "uses `import`",
    "{% extends 'x' %}{{ text }}": "uses `extends`",
    "{% macro a() %}{% endmacro %}{{ text }}": "uses `macro`",
    "{% filter upper %}{{ text }}{% endfilter %}": "uses `filterblock`",
    "{% for a in labels recursive %}{{ loop(labels) }}{% endfor %}{{ text }}": (
        "calls a function"
    ),
    "{% for a in labels %}{% for b in labels %}{% endfor %}{% endfor %}{{ text }}": (
        "a loop in a loop"
    ),
    "{{ text }}{% if labels > 3 %}{% endif %}": "cannot be filled in",
    DEEP: "`template` ",
}


@pytest.mark.parametrize("template", WRONG, ids=lambda template: template[:70])
def test_what_a_template_may_not(template):
    with pytest.raises(ConfigurationError, match=WRONG[template]):
        around_text(template, LABELS, SAID)


def test_it_ends_whatever_the_template_says():
    "Small templates that would fill the memory, and many labels"
    wide = "x" * 4000
    grows = (
        "{{ text }}{{ labels | join('" + wide + "') }}",
        "{{ text }}{{ labels | join(labels | join(labels | join)) }}",
        "{{ text }}{% for a in labels %}" + wide + "{% endfor %}",
    )
    for template in grows:
        with pytest.raises(ConfigurationError, match="more than 100,000 characters"):
            around_text(template, [f"label {i}" for i in range(5000)])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=30))
def test_no_text_is_read_as_a_template(text):
    prompt = LabelPrompt(LABELS, template="Mail: {{ text }}.")
    assert prompt.turns(text)[-1]["content"] == f"Mail: {text}."


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.text(
        st.sampled_from("{}%# \ntextlabsfori|()'_.-+*0")
        | st.characters(max_codepoint=300),
        max_size=40,
    )
)
def test_any_template_is_read_or_refused(template):
    for whole in (template, template + "{{ text }}"):
        try:
            before, after = around_text(whole, LABELS)
        except ConfigurationError:
            continue
        assert len(before) + len(after) <= 100_000


def test_the_settings_know_the_same_templates():
    from typing import get_args

    from fine_tune_llm.config.schema import PromptConfig

    assert get_args(PromptConfig.model_fields["chat_template"].annotation) == CHATS
    with pytest.raises(ConfigurationError, match="`chat_template` must be one of"):
        chat_template("llama")


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_a_chat_template_says_where_it_is_from(name):
    assert chat_template(name).startswith("{#- ")


@pytest.mark.parametrize("labels", ["ab", b"ab", (1, 2), None, 5, ("a", None)])
def test_labels_that_are_no_names(labels):
    with pytest.raises(ConfigurationError, match="`labels` must be a list of class"):
        LabelPrompt(labels, "Sort it")


def test_labels_in_any_list():
    for labels in (["a", "b"], ("a", "b"), iter(("a", "b"))):
        assert LabelPrompt(labels, "Sort it").labels == ("a", "b")


@pytest.mark.parametrize(
    "odd",
    [
        {"instruction": 5},
        {"system": None},
        {"template": 5},
        {"descriptions": ["a"]},
        {"descriptions": None},
        {"examples": 5},
        {"examples": ["ab"]},
        {"examples": [("a",)]},
        {"examples": [("a", 1)]},
        {"examples": [(None, "kitchen")]},
        {"examples": [("a", None, None)]},
    ],
)
def test_words_of_a_prompt_that_are_none(odd):
    ((name, _),) = odd.items()
    with pytest.raises(ConfigurationError, match=f"`{name}` must be"):
        LabelPrompt(LABELS, **{"instruction": "Sort it", **odd})
