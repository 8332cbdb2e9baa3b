"The model beside its baselines: the paired difference in evidence and in the page"

import numpy as np

from fine_tune_llm.evaluation.baseline import baselines
from fine_tune_llm.evaluation.pages import templates
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.stats import compare_rows
from fine_tune_llm.testing import toy_rows

ROWS = toy_rows(512)
LABELLED = Predictions(
    probs=[[0.5, 0.5]] * 512,
    labels=[row["label"] for row in ROWS],
    classes=["garden", "kitchen"],
    texts=[row["text"] for row in ROWS],
)
TRAIN, TEST = LABELLED.split(0.5, seed=0)


def shown(difference):
    "As the report writes it"
    page = templates(strict=False).from_string("{{ found|shown('points') }}")
    return page.render(found=difference)


def test_the_difference_is_that_of_the_pairs():
    decided = np.where(np.arange(len(TEST)) % 10 == 0, 1 - TEST.labels, TEST.labels)
    found = baselines(TRAIN, TEST, decided=decided)
    commonest = np.bincount(TRAIN.labels).argmax()
    expected = compare_rows(
        decided == TEST.labels, TEST.labels == commonest, name="accuracy", seed=0
    )
    assert found["majority"]["difference"] == expected.to_dict()
    assert found["tfidf"]["difference"]["p_value"] < 0.001
    assert found["tfidf"]["difference"]["high"] < 0
    page = shown(found["majority"]["difference"])
    assert f"{100 * expected.difference:+.1f} points" in page


def test_without_decisions_or_words_nothing_is_said():
    assert "difference" not in baselines(TRAIN, TEST)["tfidf"]
    wordless = Predictions(
        probs=TEST.probs, labels=TEST.labels, texts=["."] * len(TEST)
    )
    found = baselines(wordless, wordless, decided=TEST.labels)
    assert found["tfidf"] == {
        "evaluated": False,
        "reason": found["tfidf"]["reason"],
    }
    assert "not evaluated" in shown(found["tfidf"].get("difference"))
