"What cannot work is refused before a file is written, or works"

import json

import numpy as np
import pytest

from fine_tune_llm.config.schema import Config, LoraSection
from fine_tune_llm.core.errors import AdapterError, ConfigurationError
from fine_tune_llm.data.prompts import LabelPrompt
from fine_tune_llm.inference.generation import written_decisions
from fine_tune_llm.models.memory import memory_needed
from fine_tune_llm.models.onnx import export_onnx
from fine_tune_llm.models.prompts import tokenize_prompt
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.run.directory import Run
from fine_tune_llm.run.export import export_run
from fine_tune_llm.run.journey import fit
from fine_tune_llm.testing import tiny_folder, toy_chat_tokenizer, toy_rows
from fine_tune_llm.training.starting_point import _features

LABELS = ("bathroom", "kitchen")
SMALL = {
    "training": {"epochs": 1, "precision": "fp32", "batch_size": 16},
    "model": {"device": "cpu", "max_length": 32},
    "lora": {"r": 2},
}


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    return tiny_folder("llama", tmp_path_factory.mktemp("causal") / "llama", seed=0)


def asked(**sections):
    return {name: SMALL.get(name, {}) | sections.get(name, {}) for name in SMALL}


def test_nothing_that_learns_is_refused_by_its_name(causal, tmp_path):
    config = asked(lora={"kind": "none"})
    with pytest.raises(ConfigurationError, match="nothing would learn"):
        fit(toy_rows(120), model=causal, out=tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


def test_a_language_model_of_two_members(causal, tmp_path):
    config = asked(training={"members": 2})
    run = fit(toy_rows(256), model=causal, out=tmp_path / "run", config=config, seed=0)
    texts = ["she said rake the leaves", "bake the bread"]
    decisions = Run.load(run.path).decide(texts, rationale="written")
    assert all(d.uncertainty.mutual_information >= 0 for d in decisions)
    assert all(isinstance(d.rationale.text, str) for d in decisions)
    with pytest.raises(ConfigurationError, match="its prompt"):
        export_run(run, tmp_path / "graph")


def test_a_graph_is_no_start_and_no_source_of_a_graph(toy_fit, tmp_path, tiny):
    pytest.importorskip("onnxruntime")
    graph = export_run(toy_fit(tmp_path / "run"), tmp_path / "graph")
    with pytest.raises(ConfigurationError, match="is an export"):
        toy_fit(tmp_path / "again", start=graph.path)
    assert not (tmp_path / "again").exists()
    with pytest.raises(ConfigurationError, match="cannot become an ONNX graph"):
        export_onnx(graph.model, tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "a").exists()


def test_adalora_behind_a_head_that_learns_first(toy_fit, tmp_path):
    config = {
        "lora": {"kind": "adalora", "r": 6},
        "training": {
            "strategies": ["staged_unfreezing(head_epochs=0.5)"],
            "precision": "fp32",
            "batch_size": 16,
        },
    }
    run = toy_fit(tmp_path / "run", config=config)
    assert np.isfinite(run.predictions("test").logits).all()


def test_layers_that_the_last_blocks_do_not_have(tmp_path):
    name = tiny_folder("lfm2", tmp_path / "lfm2", seed=0)
    lora = LoraSection(targets=("in_proj",), last_layers=1)
    with pytest.raises(AdapterError, match="last_layers"):
        load_model(name, LABELS, seed=0, lora=lora)


def test_a_reason_stays_within_the_positions(tmp_path):
    name = tiny_folder("gpt2", tmp_path / "gpt2", seed=0)
    prompt = LabelPrompt(LABELS)
    model = load_model(
        name, LABELS, seed=0, backend="label_tokens", prompt=prompt, max_length=9999
    )
    long = "scrub the floor and bake the bread " * 200
    (said,) = written_decisions(model, [long], ["kitchen"])
    assert json.loads(said)["decision"] == "kitchen"


def test_a_template_may_say_text():
    tokenizer = toy_chat_tokenizer([row["text"] for row in toy_rows()])
    tokenizer.chat_template = "Answer in PLAIN TEXT." + tokenizer.chat_template
    found = tokenize_prompt(LabelPrompt(LABELS), tokenizer)
    assert "PLAIN TEXT" in tokenizer.decode(found.prefix)


def test_memory_knows_who_has_a_head(tmp_path):
    name = tiny_folder("llama", tmp_path / "chat", seed=0)
    silent = tiny_folder("llama", tmp_path / "silent", seed=0)
    (tmp_path / "silent" / "chat_template.jinja").unlink()
    need = {n: memory_needed(Config(model={"name": n})).fixed for n in (name, silent)}
    assert need[name] > 0 and need[silent] == 0


def test_the_start_is_read_in_the_format_that_was_asked_for(tiny):
    model = load_model(str(tiny / "bert"), 2, seed=0)
    ids = model.prepare([row["text"] for row in toy_rows(20)])
    half, whole = _features(model, ids, True), _features(model, ids, False)
    assert 0 < np.abs(half - whole).max() < 0.1 and model.precision == "fp32"
