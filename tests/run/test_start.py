"A finished run is trained on as a new version; what it has seen may not judge it"

import json

import numpy as np
import pytest
import yaml

from fine_tune_llm.core.errors import ConfigurationError, LeakageError, RunError
from fine_tune_llm.run.directory import Run
from fine_tune_llm.testing import toy_rows

ROWS = toy_rows(512)
TRAINING = {"learning_rate": 5e-4, "dropout": 0.0, "precision": "fp32"}


@pytest.fixture(scope="module")
def go(toy_fit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")

    def fit(name, **more):
        more["config"] = {"training": TRAINING} | more.get("config", {})
        return toy_fit(folder / name, **{"target_risk": 0.3} | more)

    return fit


def test_a_finished_run_is_trained_on(go):
    first = go("first")
    before = (first.path / "certificate.json").read_bytes()
    slower = {"training": TRAINING | {"learning_rate": 1e-3}}
    second = go("second", start=first.path, epochs=3, config=slower)
    assert second.data["start"] == {"certificate": first.certificate["id"]}
    assert second.data["ledger"] == first.data["ledger"]
    start, *epochs = second.events("training.evaluated")
    kept = [
        e.metrics["eval_nll_calibrated"] for e in first.events("training.evaluated")
    ]
    assert start.metrics["eval_nll_calibrated"] == pytest.approx(min(kept), abs=1e-6)
    best = min(e.metrics["eval_nll_calibrated"] for e in epochs)
    assert best < start.metrics["eval_nll_calibrated"]
    moved = second.predictions("test").logits - first.predictions("test").logits
    assert np.abs(moved).max() > 0.01
    assert (first.path / "certificate.json").read_bytes() == before
    again = go("second", start=first.path, epochs=3, config=slower)
    assert again.certificate == second.certificate


def test_what_was_seen_may_not_judge(go):
    first = go("first")
    with pytest.raises(LeakageError, match="were in the train role of the run"):
        go("other-split", start=first.path, seed=1)
    with pytest.raises(ConfigurationError, match="lora.r is 4 there and 8 here"):
        go("other-adapter", start=first.path, config={"lora": {"r": 8}})
    assert not (first.path.parent / "other-split").exists()


def test_the_command(go, tiny, ftllm, tmp_path):
    first = go("first")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    used = yaml.safe_load((tiny / "more.yaml").read_text())
    used["training"] = TRAINING
    (tmp_path / "same.yaml").write_text(json.dumps(used))
    said = ftllm(
        *("fit", "rows.jsonl", "--start", first.path, "--out", "second"),
        *("--model", tiny / "bert", "--config", "same.yaml", "--target-risk", 0.3),
        cwd=tmp_path,
    )
    assert said.returncode in (0, 3, 5), said.stderr
    data = json.loads((tmp_path / "second" / "data.json").read_text())
    assert data["start"] == {"certificate": first.certificate["id"]}


def test_what_formed_an_ancestor_may_not_judge(toy_fit, tmp_path):
    def fit(name, rows, **more):
        return toy_fit(tmp_path / name, rows, config={"training": TRAINING}, **more)

    one, other = ROWS[::4], ROWS[1::4]
    first = fit("first", one, seed=0)
    second = fit("second", other, start=first)
    assert second.data["formed_before"]["train"] == sorted(
        first.data["ledger"]["roles"]["train"]
    )
    with pytest.raises(LeakageError, match="that training starts from"):
        fit("third", one, seed=1, start=second.path)
    assert not (tmp_path / "third").exists()
    third = fit("third", one, seed=0, start=second.path)
    assert set(third.data["formed_before"]["train"]) > set(
        second.data["formed_before"]["train"]
    )
    for part in ("adapter", "predictions", "certificates"):
        with pytest.raises(RunError, match=f"is within `{part}/` of the run"):
            fit(f"first/{part}/new", other)
    assert Run.load(first.path).certificate == first.certificate
