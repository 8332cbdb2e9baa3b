"What the catalogue says agrees with transformers and reaches the hub's client"

import huggingface_hub
import pytest
from transformers.models.auto import configuration_auto, modeling_auto

from fine_tune_llm.core.errors import ModelLoadError
from fine_tune_llm.models import hub
from fine_tune_llm.models.catalogue import CATALOGUE
from fine_tune_llm.models.hub import find_model

ENTRIES = {name: CATALOGUE.get(name) for name in CATALOGUE}
FAMILIES = {entry.family for entry in ENTRIES.values()}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_whole(name):
    entry = ENTRIES[name]
    assert entry.hub.count("/") == 1 and entry.licence and 1e7 < entry.parameters < 1e11
    assert (entry.package is None) == (entry.sha256 is None)
    assert entry.gguf is None or entry.gguf.endswith(".gguf")
    assert entry.revision is None or len(entry.revision) == 40


def test_families_are_of_the_kind_that_is_said():
    encoders = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = {
        **modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "mistral3": "its text_config is a Ministral3Config",
    }
    known = configuration_auto.CONFIG_MAPPING_NAMES
    for name, entry in ENTRIES.items():
        if entry.family in known:  # an older transformers lacks the newest
            there = encoders if entry.kind == "encoder" else causal
            assert entry.family in there, name


def test_what_was_asked_for_is_there():
    asked = {"bert", "roberta", "deberta-v2", "modernbert", "eurobert"}
    asked |= {"llama", "smollm3", "qwen2", "qwen3", "qwen3_5", "mistral", "mistral3"}
    asked |= {"glm4", "gemma2", "gemma3", "gemma4", "phi", "phi3", "granite"}
    assert asked | {"lfm2", "gpt2", "gpt_oss"} <= FAMILIES


def test_the_commit_is_asked_for_and_no_other_format(monkeypatch, tmp_path):
    asked = {}

    def snapshot(repository, **given):
        asked[repository] = given
        raise OSError("not cached")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ModelLoadError):
        find_model("deberta-v3", local=True)
    given = asked["microsoft/deberta-v3-base"]
    assert given["revision"] == ENTRIES["deberta-v3"].revision
    assert "*.bin" not in given["allow_patterns"]
    assert "*.jinja" in given["allow_patterns"]  # chat templates
    assert "consolidated*" in given["ignore_patterns"]


def test_of_a_gated_model_it_is_said_where_to_ask(monkeypatch):
    monkeypatch.setattr(hub, "_from_hub", lambda *a, **k: (None, "not allowed"))
    with pytest.raises(ModelLoadError, match="not allowed") as e:
        find_model("llama3-8b")
    assert "huggingface.co/meta-llama/Meta-Llama-3-8B-Instruct" in e.value.hint
    assert "hf_token" in e.value.hint
