"""Altered copies: the same for one seed, of whole words, never of another text"""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.core.texts import is_blank
from fine_tune_llm.data.augmentation import (
    AUGMENTERS,
    Copies,
    Synonyms,
    altered_copies,
    casing,
    make_augmenters,
    typos,
)
from fine_tune_llm.data.fingerprints import text_hash
from fine_tune_llm.data.processors import Chain

TEXTS = st.text(max_size=60)
WORDS = st.text(st.sampled_from("abc é\u0301 XYZ 09,.'-ß"), min_size=1, max_size=30)
NAMES = ["typos", "typos:0.3", "casing"]


def rng(seed=0):
    return np.random.default_rng(seed)


@given(texts=st.lists(WORDS, max_size=8), seed=st.integers(0, 9))
def test_copies_depend_on_seed_and_text_alone(texts, seed):
    once = altered_copies(texts, NAMES, seed=seed)
    again = altered_copies(texts, NAMES, seed=seed)
    assert once.texts == again.texts and once.rows.tolist() == again.rows.tolist()
    turned = altered_copies(texts[::-1], NAMES, seed=seed)
    assert set(turned.texts) == set(once.texts)


@given(texts=st.lists(WORDS, max_size=8), others=st.lists(WORDS, max_size=8))
def test_no_copy_says_what_another_text_says(texts, others):
    found = altered_copies(texts, NAMES, seed=0, others=others)
    own, theirs = [*map(text_hash, texts)], set(map(text_hash, others))
    assert len(set(found.texts)) == len(found.texts)
    assert not set(found.texts) & set(texts)
    for copy, row in zip(found.texts, found.rows, strict=True):
        mark = text_hash(copy)
        assert not is_blank(copy)
        assert mark == own[row] or mark not in theirs | set(own)


@given(texts=st.lists(WORDS, max_size=8))
def test_every_copy_is_counted_or_named(texts):
    found = altered_copies(texts, NAMES, seed=0)
    assert sum(found.counts.values()) == len(NAMES) * len(texts)
    assert sum(found.counts[name] for name in NAMES) == len(found)
    assert json.loads(json.dumps(found.to_dict()))["copies"] == len(found)


def test_what_the_model_reads_says_whether_a_copy_is_another_text():
    chain = Chain(["mask_urls"])
    AUGMENTERS.register("test_link", lambda text, rng: f"{text} http://b.org")
    texts, others = ["see", "see http://a.org"], ["look http://c.org"]
    found = altered_copies(
        [texts[0], "look"],
        ["test_link"],
        seed=0,
        others=others,
        read_as=chain.process,
    )
    assert found.texts == ("see http://b.org",)
    assert altered_copies(texts, ["test_link"], seed=0).texts != ()
    assert "another text says the same" in [*found.counts][-1]


def test_no_names_no_copies():
    assert len(altered_copies(["a"], [], seed=0)) == 0
    assert Copies().to_dict()["copies"] == 0


# ---- typos and casing


@given(text=TEXTS, seed=st.integers(0, 99))
def test_slips_change_letters_alone(text, seed):
    made = typos(text, rng(seed), rate=0.5)

    def rest(text):
        return [c for c in text if not c.isalpha()]

    assert rest(made) == rest(text) and len(made) <= len(text)


def test_as_many_letters_are_struck_as_asked():
    text = "the quick brown fox jumps over the lazy dog " * 500
    made = typos(text, rng(), rate=0.1)
    n_letters = sum(map(str.isalpha, text))
    # a third of the slips leave a letter out, and swaps of equal letters show nothing
    left_out = len(text) - len(made)
    expected = 0.1 * n_letters / 3
    assert abs(left_out - expected) < 4 * expected**0.5  # 4 sigma


def test_accents_are_not_torn_from_their_letters():
    text = "e\u0301" * 200
    assert typos(text, rng(), rate=0.9) == text


@given(text=TEXTS, seed=st.integers(0, 9))
def test_casing_changes_case_alone(text, seed):
    made = casing(text, rng(seed))
    folded = [unicodedata.normalize("NFKC", t.upper().casefold()) for t in (made, text)]
    assert folded[0] == folded[1] or not text.isascii()


@pytest.mark.parametrize("rate", ["0", "1", "-1", "x", "nan", ""])
def test_a_rate_is_a_share(rate):
    with pytest.raises(ConfigurationError):
        altered_copies(["a"], [f"typos:{rate}"], seed=0)


# ---- synonyms


@pytest.fixture
def table(tmp_path):
    def write(text, name="words.tsv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return Synonyms(str(tmp_path / name))

    return write


def test_whole_words_in_their_case(table):
    exchange = table("card\tplastic\nfällig\tüberfällig\nweb-site\tpage\n")
    for text, made in {
        "card": "plastic",
        "Card, CARD; (card).": "Plastic, PLASTIC; (plastic).",
        "cards discard card's": "cards discard card's",
        "'card' -card-": "'plastic' -plastic-",
        "f\u0061\u0308llig FÄLLIG": "überfällig ÜBERFÄLLIG",
        "Web-site": "Page",
        "": "",
    }.items():
        assert exchange(text, rng()) == made


def test_json_and_tsv_say_the_same(table):
    by_line = table("card\tplastic\tbank card\n\ncard\tpiece\n")
    by_name = table('{"card": ["plastic", "bank card", "piece"]}', "words.json")
    texts = [f"card {n}" for n in range(50)]
    said = [
        [one(text, rng(i)) for i, text in enumerate(texts)]
        for one in (by_line, by_name)
    ]
    assert said[0] == said[1]
    assert {text.rpartition(" ")[0] for text in said[0]} == {
        "plastic",
        "bank card",
        "piece",
    }


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.tsv", "", "it is empty"),
        ("a.tsv", "card", "line 1"),
        ("a.tsv", "card\tplastic\nbank card\tx\n", "line 2"),
        ("a.tsv", "card\t\n", "line 1"),
        ("a.tsv", "\tx\n", "line 1"),
        ("a.json", "[]", "not an object"),
        ("a.json", '{"card": []}', "'card'"),
        ("a.json", '{"card": [1]}', "'card'"),
        ("a.json", '{"card": null}', "'card'"),
        ("a.json", "{", "no table"),
        ("a.json", "[" * 100_000, "no table"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(table, name, text, words):
    with pytest.raises(ConfigurationError) as caught:
        table(text, name)
    assert words in str(caught.value)


def test_a_table_that_is_not_there_or_not_text(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"\xff\xfe\x00")
    for file in ("nowhere.tsv", str(tmp_path), str(tmp_path / "a.tsv"), "", "a\x00b"):
        with pytest.raises(ConfigurationError, match="no table of synonyms"):
            make_augmenters([f"synonyms:{file}"])
    with pytest.raises(ConfigurationError, match="needs an argument"):
        make_augmenters(["synonyms"])
