"Losses that want more than logits and labels, through a whole fit"

import json

import numpy as np
import pytest

from fine_tune_llm.config.schema import Config
from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.core.events import TrainingEvaluated
from fine_tune_llm.run.loss import check_loss
from fine_tune_llm.testing import toy_rows

ROWS = toy_rows(256)
NAMES = sorted({row["label"] for row in ROWS})
for _row in ROWS[::4]:  # wrong labels, so that not every row is right in an epoch
    _row["label"] = NAMES[1 - NAMES.index(_row["label"])]


def fitted(toy_fit, folder, name, **more):
    "With a loss, for two epochs"
    loss = {"loss": {"name": name, "class_weights": "balanced"}}
    return toy_fit(folder, ROWS, epochs=2, config=loss, **more)


def test_an_abstaining_output_is_trained_and_kept_and_nobody_sees_it(toy_fit, tmp_path):
    run = fitted(toy_fit, tmp_path / "run", "cross_entropy+gambler(payoff=1.5)")
    note = json.loads((run.path / "adapter" / "backend.json").read_text())
    assert note["extra_outputs"] == 1
    assert run.predictions("test").logits.shape[1] == 2
    assert len(run.decide(["rake the lawn"], rationale=False)) == 1
    more = fitted(toy_fit, tmp_path / "more", "cross_entropy", start=tmp_path / "run")
    note = json.loads((more.path / "adapter" / "backend.json").read_text())
    assert "extra_outputs" not in note


def test_a_history_of_rows_reaches_the_loss(toy_fit, tmp_path):
    "The first epoch has none, the second has"
    names = {"crl": "cross_entropy+5*crl", "plain": "cross_entropy"}
    runs = [fitted(toy_fit, tmp_path / key, name) for key, name in names.items()]
    found = [
        [e.metrics["eval_nll"] for e in run.events(TrainingEvaluated) if e.step]
        for run in runs
    ]
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    assert abs(found[0][1] - found[1][1]) > 1e-6


def test_label_tokens_have_no_output_to_abstain_with():
    config = Config(loss={"name": "gambler(payoff=1.5)"})
    check_loss(config, ("a", "b"), backend="head")
    with pytest.raises(ConfigurationError, match="outputs of label tokens"):
        check_loss(config, ("a", "b"), backend="label_tokens")
