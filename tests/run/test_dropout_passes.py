"Passes with dropout say how open a decision is, and change none"

import json
import threading

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.models.adapters import ADAPTERS, drops
from fine_tune_llm.models.ensembles import dropout_logits
from fine_tune_llm.run.directory import Run
from fine_tune_llm.run.export import export_run
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.uncertainty import mutual_information

NEW = ["she said rake the leaves", "bake, then salt the bread", "nobody knows"]
PASSES = {"model": {"dropout_passes": 4}}


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("passes") / "run", config=PASSES)


def test_a_decision_says_how_far_the_passes_disagree(run):
    found = [one.uncertainty.mutual_information for one in run.decide(NEW)]
    passes = dropout_logits(run.model, NEW, n_passes=4, seed=run.config.seed)
    wanted = mutual_information([softmax(logits) for logits in passes])
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert max(found) > 0
    assert found == [one.uncertainty.mutual_information for one in run.decide(NEW)]


def test_they_decide_nothing_and_void_nothing(run, toy_fit, tmp_path):
    plain = toy_fit(tmp_path / "plain")
    assert plain.certificate["promises"] == run.certificate["promises"]
    for one, other in zip(run.decide(NEW), plain.decide(NEW), strict=True):
        assert one.decision == other.decision
        assert one.confidence == pytest.approx(other.confidence, abs=1e-6)
        assert other.uncertainty.mutual_information is None
    text = (plain.path / "config.yaml").read_text()
    (plain.path / "config.yaml").write_text(
        text.replace("dropout_passes: 0", "dropout_passes: 3")
    )
    again = Run.load(plain.path)  # it is no part of what is certified
    assert again.decide(NEW)[0].uncertainty.mutual_information is not None


def test_an_adapter_that_drops_is_not_folded(toy_fit, tmp_path):
    config = PASSES | {"lora": {"dropout": 0.3}}
    run = toy_fit(tmp_path / "run", config=config)
    assert run.model.has_adapter
    assert max(d.uncertainty.mutual_information for d in run.decide(NEW)) > 0


@pytest.fixture(scope="module")
def still(tiny, tmp_path_factory):
    "A base in which nothing drops"
    folder = tmp_path_factory.mktemp("still")
    for file in (tiny / "bert").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    said = json.loads((folder / "config.json").read_text())
    said |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(said))
    return str(folder)


@pytest.mark.parametrize("kind", list(ADAPTERS))
def test_what_drops_is_known_before_training(toy_fit, tmp_path, still, kind):
    config = PASSES | {"lora": {"kind": kind, "dropout": 0.3}}
    asked = {"model": still, "config": config, "out": tmp_path / "run"}
    if kind == "qlora":
        pytest.skip("four bits need a GPU")
    if not drops(kind):
        with pytest.raises(ConfigurationError, match="nothing in .* drops anything"):
            toy_fit(**asked)
        assert not (tmp_path / "run").exists()
        return
    disagreement = [
        one.uncertainty.mutual_information for one in toy_fit(**asked).decide(NEW)
    ]
    assert max(disagreement) >= 0


def test_nothing_that_drops_is_refused_by_its_name(toy_fit, still, tmp_path):
    with pytest.raises(ConfigurationError, match="nothing in .* drops anything"):
        toy_fit(tmp_path / "run", model=still, config=PASSES)
    with pytest.raises(ConfigurationError, match="Leave one of them out"):
        toy_fit(tmp_path / "run", config=PASSES | {"training": {"members": 2}})
    with pytest.raises(ConfigurationError, match="one pass disagrees with nothing"):
        toy_fit(tmp_path / "run", config={"model": {"dropout_passes": 1}})
    assert not (tmp_path / "run").exists()
    run = toy_fit(tmp_path / "run", model=still)
    file = run.path / "config.yaml"
    file.write_text(file.read_text().replace("dropout_passes: 0", "dropout_passes: 3"))
    with pytest.raises(ConfigurationError, match="`model.dropout_passes` is 3"):
        Run.load(run.path).decide(NEW)


def test_threads_do_not_see_each_others_layers(run):
    wanted = [one.uncertainty.mutual_information for one in run.decide(NEW)]
    found = []

    def ask():
        for _ in range(15):
            said = run.decide(NEW, rationale=False)
            found.append([one.uncertainty.mutual_information for one in said])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 60


def test_a_graph_has_none(run, tmp_path):
    exported = export_run(run, tmp_path / "graph")
    said = exported.decide(NEW, rationale=False)
    assert [one.uncertainty.mutual_information for one in said] == [None] * 3
