"A model reads as many tokens as are said, and not one more"

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from fine_tune_llm.models.lengths import _AFTER_PADDING, token_limit

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 20,
}
MORE = {
    "esm": {"pad_token_id": 1},
    "lilt": {"hidden_size": 24, "pad_token_id": 1},
    "markuplm": {"pad_token_id": 1},
    "longformer": {"attention_window": 4},
    "xmod": {"languages": ["en"], "default_language": "en"},
}
BERTS = ("bert", "distilbert", "deberta-v2", "electra", "ernie", "albert", "gpt2")
ENDLESS = SimpleNamespace(model_max_length=10**30)  # a tokenizer that knows no limit


def reads(model, n):
    ids = torch.full((1, n), 7)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))


@pytest.mark.parametrize("kind", [*_AFTER_PADDING, *BERTS])
def test_the_limit_is_read_and_one_more_is_not(kind):
    shape = CONFIG_MAPPING[kind](**SHAPE | MORE.get(kind, {}))
    model = AutoModel.from_config(shape).eval()
    limit = token_limit(shape, ENDLESS)
    assert limit == (18 if kind in _AFTER_PADDING else 20)
    reads(model, limit)
    with pytest.raises((IndexError, RuntimeError)):
        reads(model, limit + 1)


def test_a_model_without_a_limit():
    "It was -1: every text was too long"
    shape = CONFIG_MAPPING["xlnet"](vocab_size=50, d_model=16, n_layer=1, n_head=2)
    assert token_limit(shape, ENDLESS) > 100_000
    assert token_limit(shape, SimpleNamespace(model_max_length=512)) == 512


def test_a_tokenizer_may_say_less():
    shape = CONFIG_MAPPING["roberta"](**SHAPE)
    assert token_limit(shape, SimpleNamespace(model_max_length=12)) == 12
