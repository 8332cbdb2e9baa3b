"What training bought: the start beside the finished model, on the same rows"

import shutil

import numpy as np
import pytest

from fine_tune_llm.core.errors import CertificateError
from fine_tune_llm.evaluation.auditing import audit
from fine_tune_llm.evaluation.card import render_card
from fine_tune_llm.evaluation.report import render_report
from fine_tune_llm.run.directory import Run, start_predictions
from fine_tune_llm.stats import best_temperature, compare_rows

START = "predictions/start.parquet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gain")


@pytest.fixture(scope="module")
def fits(toy_fit, folder):
    "A trained run and, of the same rows, one of no epochs"

    def go(name, **more):
        return toy_fit(folder / name, **more)

    return go


@pytest.fixture(scope="module")
def trained(fits):
    return fits("trained", epochs=4)


@pytest.fixture(scope="module")
def frozen(fits):
    return fits("frozen", epochs=0)


def test_the_start_is_what_no_epochs_give(trained, frozen):
    start = start_predictions(trained)
    raw = frozen.predictions("test").logits
    validation = frozen.predictions("validation")
    temperature = best_temperature(validation.logits, validation.labels)
    np.testing.assert_allclose(start.logits, raw / temperature, atol=2e-4)
    assert start.ids.tolist() == trained.predictions("test").ids.tolist()
    assert start_predictions(frozen) is None


def test_the_numbers_are_those_of_the_pairs(trained):
    gain = audit(trained)["training"]["gain"]
    outcome, start = trained.outcome("test"), start_predictions(trained)
    labels = outcome.predictions.labels
    rows = np.arange(len(labels))
    accuracy = compare_rows(
        outcome.likeliest == labels,
        start.probs.argmax(1) == labels,
        name="accuracy",
        seed=0,
    )
    assert gain["difference"]["accuracy"] == accuracy.to_dict()
    losses = [-np.log(p.probs[rows, labels]) for p in (outcome, start)]
    nll = gain["difference"]["nll"]["difference"]
    assert nll == pytest.approx(losses[0].mean() - losses[1].mean(), abs=1e-9)
    assert gain["nll"] == pytest.approx(losses[1].mean(), abs=1e-9)
    assert gain["kind"] == "head"


def test_it_is_said_everywhere(trained, frozen):
    evidence = audit(trained)
    said = evidence["training"]["gain"]["said"]
    assert said.removeprefix("training") in render_report(evidence)
    assert said in render_card(evidence)
    evidence = audit(frozen)
    reason = "nothing was trained (training.epochs is 0): this is the start itself"
    assert evidence["training"]["gain"]["reason"] == reason
    assert reason in render_report(evidence)
    assert reason in render_card(evidence)


def test_a_start_that_was_kept_has_no_rows_of_its_own(fits):
    thrown = {"training": {"learning_rate": 0.9, "dropout": 0.0, "precision": "fp32"}}
    run = fits("thrown", epochs=1, config=thrown)
    assert run.events("training.start_kept") and start_predictions(run) is None
    assert "its start was kept" in audit(run)["training"]["gain"]["reason"]


def test_it_is_certified(trained, folder):
    copy = shutil.copytree(trained.path, folder / "copy")
    other = (copy / "predictions/test.parquet").read_bytes()
    (copy / START).write_bytes(other)
    with pytest.raises(CertificateError, match="start_rows"):
        Run.load(copy)
    (copy / START).unlink()
    with pytest.raises(CertificateError, match="start_rows"):
        Run.load(copy)


def test_it_is_made_again_where_it_is_missing(trained, fits, folder):
    "Also when the weights of the start are gone with the folder of checkpoints"
    again = shutil.copytree(trained.path, folder / "again")
    for name in (START, "certificate.json"):
        (again / name).unlink()
    made = fits("again", epochs=4)
    was, now = start_predictions(trained), start_predictions(made)
    np.testing.assert_allclose(now.logits, was.logits, atol=1e-4)
    assert made.certificate["fingerprints"]["start_rows"] is not None


def test_the_report_says_how_the_model_is_built(trained, frozen, fits):
    said = {
        "with a LoRA adapter and a classification head": trained,
        "with its weights as they came and a classification head": frozen,
        "with an adapter (ia3) and a classification head": fits(
            "ia3", config={"lora": {"kind": "ia3"}}
        ),
        "with 2 adapters (lora) and a classification head": fits(
            "members", config={"training": {"members": 2}}
        ),
    }
    for words, run in said.items():
        evidence = audit(run)
        assert evidence["identity"]["built"] == words
        assert words in render_report(evidence)
