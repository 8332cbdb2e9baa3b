"Several adapters as one classifier: trained, killed, saved, decided by, refused"

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import AdapterError, ConfigurationError
from fine_tune_llm.evaluation.auditing import audit
from fine_tune_llm.models.ensembles import load_trained
from fine_tune_llm.models.text_model import TextModel, load_adapter
from fine_tune_llm.run.directory import Run, start_predictions
from fine_tune_llm.run.journey import STAGES_OF_FIT
from fine_tune_llm.run.members import member_seeds
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.uncertainty import mutual_information

TWO = {  # from the last token the frozen start is poor, so that members leave it
    "model": {"pooling": "last"},
    "training": {
        "learning_rate": 0.003,
        "batch_size": 16,
        "epochs": 4,
        "precision": "fp32",
        "members": 2,
    },
}
NEW = ["she said rake the leaves", "bake, then salt the bread", "nobody knows"]


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("members") / "run", epochs=None, config=TWO)


def test_the_run_decides_by_the_mean_of_its_members(run, tiny):
    adapter = run.path / "adapter"
    assert json.loads((adapter / "ensemble.json").read_text()) == {"members": 2}
    alone = [
        load_adapter(
            str(tiny / "bert"), adapter / f"member-{k}", run.path / "tokenizer"
        )
        for k in range(2)
    ]
    said = [softmax(one.logits(NEW)) for one in alone]
    assert np.abs(said[0] - said[1]).max() > 1e-3  # they are different models
    together = softmax(run.model.logits(NEW))
    np.testing.assert_allclose(together, np.mean(said, axis=0), atol=1e-6)
    stored = run.predictions("test")
    logits = run.model.logits([str(text) for text in stored.texts])
    np.testing.assert_allclose(logits, stored.logits, atol=1e-5)


def test_the_report_says_what_training_bought(run, toy_fit, tmp_path):
    one = {**TWO, "training": TWO["training"] | {"members": 1}}
    alone = toy_fit(tmp_path / "one", epochs=None, config=one)
    starts = [start_predictions(run), start_predictions(alone)]
    np.testing.assert_allclose(starts[0].logits, starts[1].logits, atol=1e-5)
    gain = audit(run)["training"]["gain"]
    assert gain["start"] == audit(alone)["training"]["gain"]["start"], gain


def test_a_decision_says_how_far_the_members_disagree(run, toy_fit, tmp_path):
    again = Run.load(run.path)
    found = [one.uncertainty.mutual_information for one in again.decide(NEW)]
    members = [softmax(logits) for logits in again.model.member_logits(NEW)]
    np.testing.assert_allclose(found, mutual_information(members), atol=1e-9)
    assert max(found) > 0
    one = toy_fit(tmp_path / "one")
    said = [d.uncertainty.mutual_information for d in one.decide(NEW)]
    assert said == [None] * 3


def test_an_unread_text_has_no_disagreement(run):
    empty, read = run.decide(["", NEW[0]])
    assert empty.error and read.uncertainty.mutual_information is not None


def test_a_kill_between_members_is_no_matter(run, toy_fit, tmp_path, monkeypatch):
    real, saved = TextModel.save, []

    def save(self, *parts):
        real(self, *parts)
        saved.append(parts)
        if len(saved) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(TextModel, "save", save)
    with pytest.raises(KeyboardInterrupt):
        toy_fit(tmp_path / "run", epochs=None, config=TWO)
    resumed = toy_fit(tmp_path / "run", epochs=None, config=TWO)
    names = [adapter.name for adapter, _ in saved]
    assert names == ["adapter-0", "adapter-1", "member-0", "member-1"]
    np.testing.assert_array_equal(resumed.model.logits(NEW), run.model.logits(NEW))
    assert "training" in STAGES_OF_FIT and not (resumed.path / ".work").exists()


def test_members_have_seeds_of_their_own():
    assert member_seeds(5, 1) == [5]
    assert member_seeds(5, 3)[:2] == member_seeds(5, 2)
    assert len(set(member_seeds(5, 20))) == 20


def test_an_ensemble_is_not_trained_on(run, toy_fit, tmp_path):
    with pytest.raises(ConfigurationError, match="several adapters"):
        toy_fit(tmp_path / "next", epochs=None, config=TWO, start=run.path)
    assert not (tmp_path / "next").exists()


def test_a_member_that_is_gone_is_refused(run, tiny, tmp_path):
    (tmp_path / "adapter").mkdir()
    for said in (
        b"{}",
        b"[]",
        b'{"members": 1}',
        b'{"members": "2"}',
        b"{",
        b"[" * 9999,
    ):
        (tmp_path / "adapter" / "ensemble.json").write_bytes(said)
        with pytest.raises(AdapterError, match="no ensemble"):
            load_trained(
                str(tiny / "bert"), tmp_path / "adapter", run.path / "tokenizer"
            )
    (tmp_path / "adapter" / "ensemble.json").write_text('{"members": 2}')
    with pytest.raises(AdapterError):
        load_trained(str(tiny / "bert"), tmp_path / "adapter", run.path / "tokenizer")


def test_a_wrong_strategy_or_number_is_refused_before_anything(toy_fit, tmp_path):
    wrong = {"members": 0}, {"strategies": ["emma"]}, {"best_by": "accuracy"}
    for training in wrong:
        with pytest.raises(ConfigurationError):
            toy_fit(tmp_path / "run", config={"training": training})
        assert not (tmp_path / "run").exists()
