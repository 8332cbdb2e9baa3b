"The bundled messages: what the data card says of them"

import json
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from fine_tune_llm.config.schema import DataConfig
from fine_tune_llm.data.fingerprints import text_hash
from fine_tune_llm.data.ledger import ROLES
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.samples import sample
from fine_tune_llm.data.splitting import split_ledger
from fine_tune_llm.evaluation.baseline import baselines
from fine_tune_llm.predictions import Predictions


@pytest.fixture(scope="module")
def rows():
    return [
        json.loads(line)
        for line in sample("triage").read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def others():
    return [
        json.loads(line)
        for line in sample("triage_out_of_scope")
        .read_text(encoding="utf-8")
        .splitlines()
    ]


def test_size_and_columns(rows, others):
    assert len(rows) >= 1200 and len(others) >= 150
    assert {tuple(r) for r in rows} == {
        ("text", "label", "channel", "english", "age_band")
    } and {tuple(r) for r in others} == {("text", "channel", "english", "age_band")}
    count = Counter(r["label"] for r in rows)
    assert set(count) == {"emergency", "urgent", "routine", "self_care"} and max(
        count.values()
    ) < 1.1 * min(count.values())
    assert (
        {r["channel"] for r in rows} == {"chat", "email", "voice"}
        and {r["english"] for r in rows} == {"fluent", "learner"}
        and {r["age_band"] for r in rows} == {"0-4", "5-17", "18-39", "40-64", "65+"}
    )


def test_lengths(rows):
    n = [len(r["text"].split()) for r in rows]
    assert (
        min(n) >= 4
        and max(n) <= 80
        and np.mean(np.array(n) < 12) > 0.1
        and np.mean(np.array(n) > 35) > 0.2
    )


def test_no_label_word_is_given_away(rows):
    for word in (
        "emergency",
        "urgent",
        "routine",
        "self-care",
        "self care",
        "triage",
        "ambulance",
    ):
        assert not [r["text"] for r in rows if word in r["text"].lower()]


def test_no_near_duplicates(rows, others):
    texts = [r["text"] for r in rows + others]
    assert len({text_hash(t) for t in texts}) == len(texts)
    v = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(5, 5), binary=True, use_idf=False, norm=None
    ).fit_transform(texts)
    both = (v @ v.T).tocoo()
    size = np.asarray(v.sum(1)).ravel()
    jaccard = both.data / (size[both.row] + size[both.col] - both.data)
    assert jaccard[both.row < both.col].max() < 0.45


def test_every_message_opens_its_own_way(rows):
    first = Counter(" ".join(r["text"].lower().split()[:4]) for r in rows)
    assert first.most_common(1)[0][1] <= 12


def test_bag_of_words_finds_it_neither_trivial_nor_hopeless():
    ds = load(sample("triage"))
    led = split_ledger(ds, {r: getattr(DataConfig(), r) for r in ROLES}, seed=0)

    def part(role):
        rows = led.roles[role]
        return Predictions(
            probs=np.full((len(rows), 4), 0.25),
            labels=ds.labels[rows],
            texts=[ds.texts[i] for i in rows],
        )

    assert 0.60 <= baselines(part("train"), part("test"))["tfidf"]["value"] <= 0.88
