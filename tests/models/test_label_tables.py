"Labels as token sequences: distinct, none another's beginning, closed by the quote"

import json

import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.data import LabelPrompt
from fine_tune_llm.data.frame import Frame
from fine_tune_llm.data.templates import CHAT_TEMPLATES
from fine_tune_llm.models import render_prompt, tokenize_prompt
from fine_tune_llm.models.prompts import answer_ids

LABELS = {
    "beginnings": ("garden", "garden shed", "garden shed roof", "gard", "g"),
    "quotes": ('say "no"', 'say "', '"', '""', "'", "say"),
    "backslashes": ("a\\", "a\\\\", 'a\\"', "a"),
    "json": ("null", '", "rationale": "', "}", '"}', "false,", ","),
    "blanks": (" a", "a ", "a", "a b", "a  b"),
    "lines": ("a\nb", "a\tb", "a\r\nb", "a b"),
    "letters": ("Zoë", "Zoe", "zoe", "ZOE", "ß", "ss"),
    "scripts": ("中文", "中", "العربية", "עברית", "ไทย"),
    "emoji": ("😀", "😁", "👩‍👩‍👧", "👩"),
    "numbers": ("1", "01", "1.0", "10", "100"),
    "jinja": ("{{ text }}", "{% if %}", "{#"),
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("kind", ["bytes", "sentence_pieces"])
@pytest.mark.parametrize("chat", ["plain", *CHAT_TEMPLATES])
def test_every_label_has_a_path_of_its_own(kind, name, chat, tokenizer_of):
    tokenizer, labels = tokenizer_of(kind), LABELS[name]
    prompt = LabelPrompt(labels, chat_template=chat)
    tokens = tokenize_prompt(prompt, tokenizer)
    assert len(set(tokens.labels)) == len(labels)
    for one in tokens.labels:
        begun = [two for two in tokens.labels if two[: len(one)] == one]
        assert begun == [one]
    _, tail = render_prompt(prompt, tokenizer)
    for label, ids in zip(labels, tokens.labels, strict=True):
        # behind a text, so that no tokenizer strips what it begins with
        said = tokenizer.decode([*tokens.prefix, *tokens.suffix, *ids])
        written = json.dumps(label, ensure_ascii=False)[1:-1]
        assert said.endswith(tail + written + '",')


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("kind", ["bytes", "sentence_pieces"])
def test_what_is_scored_is_how_a_written_answer_begins(kind, name, tokenizer_of):
    "Token by token, whichever tokens join the quote and the comma"
    tokenizer, labels = tokenizer_of(kind), LABELS[name]
    prompt = LabelPrompt(labels, chat_template="chatml")
    tokens = tokenize_prompt(prompt, tokenizer)
    frames = [Frame(label, "because") for label in labels]
    answers = answer_ids(prompt, tokenizer, frames)
    for ids, (_, whole) in zip(tokens.labels, answers, strict=True):
        scored = [*tokens.suffix, *ids]
        assert whole[: len(scored)] == scored


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("Garden", "garden", "shed"), "'Garden' and 'garden' are the same"),
        (("a b", "a  b"), "are the same"),
        (("Zoë", "zoe"), "are the same"),
        (("a\\n", "a\\N"), "are the same"),
    ],
)
def test_labels_that_become_one_are_named(labels, words, tokenizer_of):
    "Word pieces lower letters, take accents off and lose blanks"
    with pytest.raises(ConfigurationError, match=words):
        tokenize_prompt(LabelPrompt(labels), tokenizer_of("word_pieces"))


def test_labels_that_unicode_makes_one_are_named(tokenizer_of):
    "Qwen's tokenizer writes NFC"
    import copy

    from tokenizers import normalizers

    tokenizer = copy.deepcopy(tokenizer_of("bytes"))
    labels = ("Zo\u00eb", "Zoe\u0308")
    assert len(set(tokenize_prompt(LabelPrompt(labels), tokenizer).labels)) == 2
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    with pytest.raises(ConfigurationError, match="are the same tokens"):
        tokenize_prompt(LabelPrompt(labels), tokenizer)


def test_real_labels_of_77_classes(tokenizer_of):
    names = [f"card_{i}" for i in range(60)] + [f"card_{i}_fee" for i in range(60)]
    for kind in ("bytes", "sentence_pieces", "word_pieces"):
        tokens = tokenize_prompt(LabelPrompt(names), tokenizer_of(kind))
        assert len(set(tokens.labels)) == len(names)
