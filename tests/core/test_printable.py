"Nasty texts at every destination: what leaves only shows"

import json
import random
import unicodedata

import pytest
import yaml

from fine_tune_llm.core.errors import DataError
from fine_tune_llm.core.printable import (
    code_for_markdown,
    cut,
    for_html,
    for_json,
    for_markdown,
    for_plot,
    for_terminal,
    message_for_terminal,
)

NASTY = (
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m C1",
    "\u202etxt.exe\u202c \u2066x\u2069",
    "over\rwritten \x08\x08",
    "a\nb\n---\nlicense: mit\n---",
    "\ud800 half",
    "\ufeff\u200b\u2060 none",
    "\U000e0041\U000e0042 tags",
    "line\u2028separator\u2029\x85",
    "<script>alert(1)</script><img src=x onerror=y>",
    "&lt;b&gt; &#60;",
    "[a](javascript:alert(1)) ![i](https://e.v/x.png) <https://e.v>",
    "| a | b |\n|---|---|",
    "$x^2$ and $$y$$ \\frac",
    "`code` ``more`` ~~gone~~ **bold** _it_ __b__",
    "# head\n> quote\n- list\n1. one",
    "_hidden",
    "x" * 1_000_000,
    "\x1b" * 100_000,
)


def is_plain(text, kept=""):
    return all(
        c in kept or c in "\u200c\u200d" or unicodedata.category(c)[0] not in "C"
        for c in text
    )


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text)[:20])
def test_only_shows(text):
    assert is_plain(for_terminal(text)) and len(for_terminal(text)) < 13_000
    assert is_plain(for_html(text), "\n\t")
    assert not set("<>\"'") & set(for_html(text))
    assert is_plain(for_plot(text)) and "$" not in for_plot(text).replace("\\$", "")
    said = for_markdown(text)
    assert is_plain(said) and len(said) < 5000
    bare = said.replace("<span>", "").replace("</span>", "").replace("\\\\", "")
    assert not {"<", "$"} & set(bare) and "://" not in bare
    assert "](" not in bare.replace("\\](", "")
    for mark in "|`*~":
        assert bare.count(mark) == bare.count("\\" + mark)
    code = code_for_markdown(text)
    assert is_plain(code) and code.startswith("`") and code.endswith("`")
    assert is_plain(message_for_terminal(text), "\n\t")


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text)[:20])
def test_json_says_the_same(text):
    line = for_json(json.dumps({"label": text}, ensure_ascii=False))
    assert is_plain(line) and json.loads(line) == {"label": text}


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text)[:20])
def test_errors_only_show(text):
    error = DataError(f"no column {text!s} here", hint=text, value=text)
    assert is_plain(str(error), "\n\t") and len(str(error)) < 110_000
    assert is_plain(error.args[0], "\n\t")
    assert "here" in error.message


def test_twice_changes_nothing():
    for text in NASTY:
        assert for_terminal(for_terminal(text), limit=None) == for_terminal(text)


def test_what_people_write_stays():
    for text in (
        "naïve café",
        "میخواهم می\u200cخواهم",
        "任务，完成",
        "👩\u200d🚀 ok",
    ):
        assert for_terminal(text) == text == for_markdown(text) == for_plot(text)
    assert for_terminal("10\u00a0€") == "10\u00a0€"


def test_rendered_markdown_shows_the_text():
    "A renderer of its own kind: what it makes of a cell has no tag of the text's"
    markdown_it = pytest.importorskip("markdown_it")
    render = markdown_it.MarkdownIt("gfm-like", {"html": True, "linkify": False}).render
    for text in NASTY:
        page = render(f"| class |\n|---|\n| {for_markdown(text)} |\n")
        assert page.count("<td>") == 1 and "<tr>" in page
        for tag in ("<script", "<img", "<a ", "<code", "<em", "<strong", "<s>", "<h"):
            assert tag not in page


def test_random_characters_never_leave():
    rng = random.Random(0)
    for _ in range(2000):
        text = "".join(chr(rng.randrange(0x11000)) for _ in range(20))
        assert is_plain(for_terminal(text))
        assert is_plain(for_markdown(text))
        assert yaml.safe_load(for_json(json.dumps(for_terminal(text)))) is not None


def test_cut_keeps_both_ends():
    text = "begin " + "x" * 10_000 + " end"
    assert cut(text, 100).startswith("begin ") and cut(text, 100).endswith(" end")
    assert "10,010 characters" in cut(text, 100)
