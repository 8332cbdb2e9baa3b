"Identity terms: what is a whole word, and what a text becomes"

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.evaluation import load_terms

TERMS = load_terms()
MINE = """
attributes:
  sex:
    groups: [f, m]
    verbs: {f: {is: be}}
    forms:
      word: [she, he]
"""


@pytest.mark.parametrize(
    "text",
    [
        "the theme is there",
        "he\u0301 said",  # a letter and an accent of its own
        "s\u0301he said",
        "s\u200bhe said",  # a character that nobody sees
        "he_1 and 2he and hé",
        "a she-wolf, a he-man",
        "O'he",
    ],
)
def test_what_is_no_whole_word(text):
    assert TERMS.mentions(text, "gender") == []


@pytest.mark.parametrize(
    ("text", "group", "wanted"),
    [
        ("He said he's late.", "female", "She said she's late."),
        ("IS HE HERE", "female", "IS SHE HERE"),
        ("his car is his", "female", "her car is hers"),
        ("I saw her and her car", "male", "I saw him and his car"),
        ("he was ill, he has a cough", "neutral", "they were ill, they have a cough"),
        ("She’s been here", "neutral", "They’ve been here"),
        ("an uncle of a woman", "female", "an aunt of a man"),
        ("the man\u2019s wife", "female", "the woman\u2019s husband"),
        ("(he)", "female", "(she)"),
        ("he/she", "female", "she/he"),
    ],
)
def test_what_a_text_becomes(text, group, wanted):
    found = TERMS.versions(text, "gender")
    assert found[group].replace("’", "'") == wanted.replace("’", "'")


@pytest.mark.parametrize(
    ("text", "attribute", "group", "wanted"),
    [
        ("a Muslim prays in a mosque", "religion", "Jewish", "a Jewish prays in a syn"),
        ("muslim men", "religion", "Hindu", "hindu men"),
        ("Gays are nice", "orientation", "lesbian", "Lesbians are nice"),
        ("an LGBT group", "orientation", "bisexual", "a bisexual group"),
        ("a gay man", "orientation", "LGBT", "an LGBT man"),
        ("a British woman", "origin", "African American", "an African American woman"),
        ("middle-aged people", "age", "old", "old people"),
        ("middle aged people", "age", "old", "old people"),
    ],
)
def test_other_attributes(text, attribute, group, wanted):
    assert TERMS.versions(text, attribute)[group].startswith(wanted)


@pytest.mark.parametrize(
    ("text", "attribute"),
    [
        ("black coffee on a white table", "origin"),
        ("an Indian restaurant", "origin"),
        ("go straight ahead", "orientation"),
        ("my old phone has a 5-year-old battery", "age"),
        ("a blind spot", "disability"),
    ],
)
def test_what_is_said_of_things_is_left_alone(text, attribute):
    assert TERMS.versions(text, attribute) == {}


def test_a_version_that_cannot_be_written_is_left_out():
    assert set(TERMS.versions("she juggles", "gender")) == {"female", "male"}
    assert "neutral" in TERMS.versions("she juggled", "gender")
    assert set(TERMS.versions("my aunt", "gender")) == {"female", "male"}


@given(
    st.text(st.characters(exclude_characters="aA"), max_size=30),  # no articles
    st.sampled_from(["she", "man", "Her", "women"]),
)
def test_exchanging_twice_gives_the_text_back(around, term):
    text = f"{around} {term}, {around}"
    versions = TERMS.versions(text, "gender")
    own = next(iter(versions), None)
    for group in {"female", "male"} & set(versions) - {own}:
        assert TERMS.versions(versions[group], "gender")[own] == text


@given(st.text(max_size=60), st.sampled_from([*TERMS.attributes]))
def test_mentions_are_words_of_the_lists(text, attribute):
    known = TERMS.attributes[attribute]
    for one in TERMS.mentions(text, attribute):
        found = unicodedata.normalize("NFC", text[one.start : one.end]).casefold()
        words = found.replace("-", " ").split()
        listed = {x.casefold() for of in one.form.sought for x in of}
        assert " ".join(words) in {x.replace("-", " ") for x in listed}
        assert one.group < len(known.groups)
        for beside in (text[one.start - 1 : one.start], text[one.end : one.end + 1]):
            assert not beside.isalnum()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[she, he]", "[she]", "line 7: `attributes.sex.forms.word` needs 2 terms"),
        ("[she, he]", "[she, on]", "must hold words, got True; put a word such as on"),
        ("[she, he]", "[+she, +he]", "have no term that is looked for"),
        ("[she, he]", "{terms: [she, he], subjects: true}", "word.subjects` is not"),
        ("[she, he]", "{terms: [she, he], subject: 1}", "must be true or false, got 1"),
        ("[f, m]", "[f, f]", "line 4: `attributes.sex.groups` must be two or more"),
        ("[f, m]", "f", "`attributes.sex.groups` must be a list, got 'f'"),
        ("{f: {is", "{x: {is", "`attributes.sex.verbs.x` is none of the groups f, m"),
        ("    groups", "    grups", "line 4: `attributes.sex.grups` is not known"),
        ("attributes:", "lists:", "line 2: `lists` is not known"),
        ("attributes:", "attributes: [", "is not readable as YAML (line"),
    ],
)
def test_a_list_that_does_not_fit(tmp_path, old, new, why):
    file = tmp_path / "mine.yaml"
    file.write_text(MINE.replace(old, new))
    with pytest.raises(ConfigurationError) as e:
        load_terms(file)
    assert why in str(e.value) and "mine.yaml" in str(e.value)


def test_an_unknown_language_or_attribute():
    with pytest.raises(ConfigurationError, match="`language` must be one of en"):
        load_terms(language="xx")
    with pytest.raises(ConfigurationError, match="`attribute` must be one of gender"):
        TERMS.mentions("he", "sex")
