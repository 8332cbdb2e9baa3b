"""Every family of the catalogue, as a tiny random model on disk

It is found, read strictly, pooled, trained for a step and, if it is causal, scored in
words: windows shorter than the prompt, soft caps, logit scales, experts, hybrids.
"""

import functools

import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from fine_tune_llm.data import LabelPrompt
from fine_tune_llm.models import LabelTokenClassifier
from fine_tune_llm.models.catalogue import CATALOGUE
from fine_tune_llm.models.head import PooledClassifier
from fine_tune_llm.models.hub import find_model
from fine_tune_llm.models.label_engines import naive_scores
from fine_tune_llm.models.lengths import token_limit
from fine_tune_llm.models.memory import kept_for_backward
from fine_tune_llm.models.targets import find_targets
from fine_tune_llm.models.weights import (
    check_model,
    is_encoder,
    read_backbone,
    read_causal,
    read_config,
    read_tokenizer,
)
from fine_tune_llm.testing import tiny_folder, tiny_model, toy_rows

# What of a model for images and text is read, where the names differ
TEXT_PART = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "mistral3": "ministral3",
    "qwen3_5": "qwen3_5_text",
}
KINDS = {  # of the catalogue, and two with experts beside them
    TEXT_PART.get(entry.family, entry.family): entry.kind
    for entry in (CATALOGUE.get(name) for name in CATALOGUE)
} | {"qwen3_moe": "causal", "ministral": "causal"}
HERE = [arch for arch in KINDS if arch in CONFIG_MAPPING_NAMES]
CAUSAL = [arch for arch in HERE if KINDS[arch] == "causal"]
TEXTS = [row["text"] for row in toy_rows(4)]
PROMPT = LabelPrompt(("kitchen", "garden", "garden shed"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    "The tiny model of an architecture, found as any other"
    place = tmp_path_factory.mktemp("families")

    @functools.cache
    def made(arch):
        return find_model(tiny_folder(arch, place / arch, seed=0))

    return made


def batch(tokenizer, texts=TEXTS):
    return tokenizer(
        texts, padding=True, return_tensors="pt", return_token_type_ids=False
    )


def test_the_newest_transformers_has_every_family():
    "Gemma 4 and EuroBERT came after 5.2"
    assert set(KINDS) - set(HERE) <= {"gemma4_text", "eurobert"}


@pytest.mark.parametrize("arch", HERE)
def test_it_is_read_whole_and_pooled_and_learns(source, arch):
    found = source(arch)
    check_model(found)
    tokenizer = read_tokenizer(found.folder, arch)
    is_causal = KINDS[arch] == "causal"
    net = PooledClassifier(
        read_backbone(found), 3, pooling="last" if is_causal else "mean_max"
    )
    given = batch(tokenizer)
    with torch.inference_mode():
        together = net.eval()(**given)["logits"]
        alone = net(**batch(tokenizer, TEXTS[:1]))["logits"]
    torch.testing.assert_close(together[:1], alone, atol=1e-4, rtol=0)
    assert together.shape == (4, 3) and together.isfinite().all()
    net.train()(**given, labels=torch.tensor([0, 1, 2, 0]))["loss"].backward()
    adapted = find_targets(net.backbone)
    weights = dict(net.backbone.named_parameters())
    moved = [weights[f"{name}.weight"].grad for name in adapted.layers]
    moved += [weights[name].grad for name in adapted.parameters]
    assert len(moved) >= 8
    reached = [grad is not None and bool(grad.abs().sum() > 0) for grad in moved]
    assert sum(reached) >= 0.8 * len(reached)  # an expert may have had no token


@pytest.mark.parametrize("arch", HERE)
def test_lengths_are_those_it_has_positions_for(source, arch):
    found = source(arch)
    config, tokenizer = read_config(found), read_tokenizer(found.folder, arch)
    assert is_encoder(config) == (KINDS[arch] == "encoder")
    limit = token_limit(config, tokenizer)
    assert limit == (512 if KINDS[arch] == "causal" else 64)
    net = read_backbone(found).eval()
    with torch.inference_mode():
        net(input_ids=torch.full((1, limit), 5))
    assert kept_for_backward(net.train(), 8) > 0


@pytest.mark.parametrize("arch", CAUSAL)
def test_in_words_it_scores_as_the_naive_way_does(source, arch):
    found = source(arch)
    check_model(found, causal=True)
    model = read_causal(found).eval()
    net = LabelTokenClassifier(model, read_tokenizer(found.folder, arch), PROMPT).eval()
    window = getattr(model.config, "sliding_window", None)
    assert window is None or window < len(net.tokens.prefix)
    ids = net.prepare(TEXTS)
    longest = max(map(len, ids))
    input_ids = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in ids])
    with torch.no_grad():
        truth = naive_scores(model, net.tokens, ids)
        found_scores = net(input_ids=input_ids, attention_mask=mask)["logits"]
    torch.testing.assert_close(found_scores, truth, atol=1e-4, rtol=0)
    assert truth.std() > 0.1  # a wrong mask would show
    if arch in ("llama", "qwen3", "gemma2", "gpt_oss"):
        assert net.engine == "packed"


def test_encoders_are_other_models_than_their_kin():
    "Tiny models of one library class differ in what the configuration says"
    for arch in ("modernbert", "deberta-v2"):
        if arch in HERE:
            assert tiny_model(arch, seed=0).config.model_type == arch
