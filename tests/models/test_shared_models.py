"One model asked by several threads, and asked in other ways in between"

import threading

import numpy as np
import pytest
import torch

from fine_tune_llm.config.schema import LoraSection
from fine_tune_llm.models.ensembles import dropout_logits, ensemble
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.testing import tiny_folder, toy_rows

TEXTS = [row["text"] for row in toy_rows(60)]
LABELS = ("bathroom", "kitchen")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    return {
        arch: tiny_folder(arch, folder / arch, seed=0) for arch in ("llama", "bert")
    }


def words(place, seed=0, **lora):
    lora = LoraSection(r=4, **lora)
    model = load_model(place["llama"], LABELS, seed=seed, lora=lora)
    with torch.no_grad():
        for weights in model.learning().values():
            weights.add_(torch.full_like(weights, 0.02 * (seed + 1)))
    return model


def head(place):
    model = load_model(place["bert"], 2, seed=0)
    model.net.requires_grad_(False)
    model.precision = "bf16"
    return model


def pair(place):
    return ensemble([words(place, 0), words(place, 1)])


@pytest.mark.parametrize("make", [words, head, pair])
def test_threads_get_what_one_gets(place, make):
    model = make(place)
    asked = {start: TEXTS[start : start + 3 + 18 * (start % 2)] for start in range(8)}
    truth = {start: model.logits(texts) for start, texts in asked.items()}
    errors = []

    def work(seed):
        for start in np.random.default_rng(seed).integers(0, 8, 12).tolist():
            try:
                got = model.logits(asked[start])
                np.testing.assert_allclose(got, truth[start], atol=1e-3)
            except BaseException as e:
                errors.append(repr(e)[:200])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}


def test_what_was_read_of_a_prompt_is_kept_from_call_to_call(place):
    model = words(place)
    model.logits(TEXTS[:2])
    kept = model.net.scorer.engine.kept
    model.logits(TEXTS[2:3])
    assert kept is not None and model.net.scorer.engine.kept is kept


def test_dropout_leaves_nothing_behind(place):
    model = words(place, dropout=0.3)
    before = model.net.scores(TEXTS[:4])
    said = dropout_logits(model, TEXTS[:4], n_passes=3, seed=0)
    assert torch.equal(model.net.scores(TEXTS[:4]), before)
    assert np.abs(said[0] - said[1]).max() > 1e-3  # each pass reads the prompt anew


def test_several_adapters_score_words(place):
    together = pair(place)
    apart = [words(place, seed).logits(TEXTS[:5]) for seed in (0, 1)]
    np.testing.assert_allclose(together.member_logits(TEXTS[:5]), apart, atol=1e-5)
    assert together.net.prompt.labels == LABELS
