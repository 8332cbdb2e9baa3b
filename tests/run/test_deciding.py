"Deciding on ordinary input: rows that cannot be read, many rows, threads, long texts"

import json
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fine_tune_llm as ft
from fine_tune_llm.core.errors import ConfigurationError, DataValidationError
from fine_tune_llm.core.logs import capture_logs
from fine_tune_llm.models.lengths import choose_length, text_lengths
from fine_tune_llm.run import directory
from fine_tune_llm.run.deciding import outcome_of
from fine_tune_llm.testing import toy_rows

CASES = Path(__file__).resolve().parent.parent / "cases"
ROWS = toy_rows(512)
TRAINING = {"learning_rate": 1e-2, "dropout": 0.1, "precision": "fp32"}


@pytest.fixture(scope="module")
def go(toy_fit):
    def run(out, config=None, **more):
        config = {"training": TRAINING} | (config or {})
        return toy_fit(out, config=config, **{"epochs": 2, "target_risk": 0.2} | more)

    return run


@pytest.fixture(scope="module")
def run(go, tmp_path_factory):
    return go(tmp_path_factory.mktemp("deciding") / "run")


def test_one_empty_row_spoils_no_other(run):
    texts = ["rake the lawn", "", "\u200b\u200d\ufeff", None, "salt the water"]
    said = run.decide(texts, ids=["a", "b", "c", "d", "e"])
    alone = run.decide(["rake the lawn", "salt the water"], ids=["a", "e"])
    assert [said[0], said[4]] == alone
    for decision, name in zip(said[1:4], "bcd"):
        assert (decision.id, decision.error) == (name, "the text is empty")
        assert decision.abstain and decision.confidence is None
        assert decision.prediction_set == () and decision.rationale is None


def test_a_text_beyond_the_limit_is_not_read(run):
    (decision,) = run.decide("x" * 100_001)
    assert decision.error == "the text has 100,001 characters, more than 100,000"


@pytest.mark.parametrize("given", [{"ids": ["one"]}, {"groups": {"team": ["x"]}}])
def test_as_many_ids_and_groups_as_texts(run, given):
    with pytest.raises(DataValidationError, match="has 1 values for 2 texts"):
        run.decide(["rake the lawn", "salt the water"], **given)


def test_nothing_and_one_text(run):
    assert run.predict_proba([]).shape == (0, 2)
    assert run.decide([]) == []
    one = run.predict_proba("rake the lawn")
    np.testing.assert_array_equal(one, run.predict_proba(["rake the lawn"]))


def test_many_texts_are_scored_a_part_at_a_time(run, monkeypatch):
    at_once = []
    real = directory.Run.predict_proba

    def counted(self, texts):
        at_once.append(len(texts))
        return real(self, texts)

    monkeypatch.setattr(directory.Run, "predict_proba", counted)
    texts = [row["text"] for row in ROWS] * 2
    assert len(run.decide(texts, rationale=True)) == 1024
    assert len(at_once) == 4 and max(at_once) <= 256 * 24
    first = next(run.stream(texts, rationale=True))  # before the rest is looked at
    assert first.id == "0"


def test_a_file_with_empty_rows_is_decided(run, ftllm, tmp_path):
    said = ftllm(
        "decide", run.path, CASES / "empty_rows.csv", "-o", "said.jsonl", cwd=tmp_path
    )
    lines = [json.loads(x) for x in (tmp_path / "said.jsonl").read_text().splitlines()]
    empty = [line for line in lines if line["error"]]
    assert said.returncode == 0 and len(lines) > len(empty) > 0
    assert "could not be read" in said.stderr
    assert all(line["rationale"] is None for line in lines)


def test_a_cut_text_is_said(run, tiny):
    whole = " ".join(["salt the water"] * 100)
    decisions = run.decide([whole, "salt the water"], rationale=False)
    assert [decision.cut for decision in decisions] == [True, False]


def test_fits_in_threads_are_the_same_as_alone(go, tmp_path):
    alone = [go(tmp_path / f"alone{s}", seed=s) for s in (0, 1)]
    together = {}

    def fit_in_thread(seed):
        together[seed] = go(tmp_path / f"both{seed}", seed=seed)

    threads = [threading.Thread(target=fit_in_thread, args=(s,)) for s in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 1):
        assert together[seed].certificate == alone[seed].certificate


def test_texts_are_read_as_far_as_the_model_can(go, tiny, tmp_path):
    rows = [
        row | {"text": " ".join([row["text"]] * (1 + i % 8))}
        for i, row in enumerate(ROWS)
    ]
    lengths, limit = text_lengths(str(tiny / "bert"), [row["text"] for row in rows])
    apart = {"data": {"near_duplicates": 0}}
    with capture_logs() as lines:
        run = go(tmp_path / "long", rows=rows, config=apart)
    read = run.data["texts_read"]
    assert run.config.model.max_length == limit == run.model.max_length == 64
    assert sum(read["cut"].values()) == (lengths > limit).sum() > 0
    warned = [x["event"] for x in lines if "are longer than 64 tokens" in x["event"]]
    assert len(warned) == 1 and "choose a model that reads more" in warned[0]


def test_the_length_is_chosen_from_the_data():
    lines = (CASES / "long_mails.jsonl").read_text(encoding="utf-8").splitlines()
    mails = [json.loads(line)["text"] for line in lines]
    lengths, limit = text_lengths("minilm", mails)
    assert lengths.min() > 128 and choose_length(lengths, limit) >= lengths.max()


def test_a_run_keeps_the_cores_it_began_with(go, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = go(tmp_path / "cores")
    (run.path / "certificate.json").unlink()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    again = go(tmp_path / "cores")
    assert again.config.training.threads == run.config.training.threads == 1
    assert again.certificate == run.certificate


def test_balanced_weights_find_the_rare_class(go, tmp_path):
    kitchen = [row for row in ROWS if row["label"] == "kitchen"]
    garden = [row for row in ROWS if row["label"] == "garden"][:24]
    recalls = {}
    for weights in ("none", "balanced"):
        config = {"loss": {"class_weights": weights}}
        run = go(tmp_path / weights, rows=kitchen + garden, config=config, epochs=1)
        said = run.predictions("test")
        rare = said.labels == run.classes.index("garden")
        recalls[weights] = said.probs[rare].argmax(1).mean()
    assert recalls["balanced"] != recalls["none"]


TEXT = "rake the lawn"


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"text": [TEXT], "label": ["a"]}),
        {"text": [TEXT]},
        {TEXT, "salt the water"},
        TEXT.encode(),
        np.array([[TEXT]]),
        np.array(TEXT),
        pa.table({"text": [TEXT]}),
        7,
        None,
    ],
)
def test_what_is_no_list_of_texts_is_refused(run, table):
    "A table was taken for its column names, which were decided on"
    outcome = partial(outcome_of, run)
    for ask in (run.decide, run.predict_proba, outcome):
        with pytest.raises(DataValidationError, match="`texts` must be one text or a"):
            ask(table)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.nan])
def test_a_missing_text_is_a_row_that_cannot_be_read(run, missing):
    said = run.decide(pd.Series([TEXT, missing], index=[5, 5], dtype=object))
    assert said[1].error == "the text is empty" and said[0] == run.decide(TEXT)[0]


def test_columns_of_any_library(run):
    said = run.decide([TEXT, TEXT])
    for column in (
        pd.Series([TEXT, TEXT], dtype="string"),
        pa.array([TEXT, TEXT]),
        pa.chunked_array([[TEXT], [TEXT]]),
        np.array([TEXT, TEXT]),
        iter((TEXT, TEXT)),
    ):
        assert run.decide(column) == said


def test_half_a_character_is_read_as_from_a_file(run, tmp_path):
    (tmp_path / "halves.jsonl").write_text(json.dumps({"text": f"{TEXT} \ud800"}))
    read = ft.load(tmp_path / "halves.jsonl", label=None).texts
    assert run.decide([f"{TEXT} \ud800"]) == run.decide(read)
    assert run.decide(["\ud800"])[0].error == "the text is empty"


def test_groups_and_ids_of_odd_shapes(run):
    texts = [TEXT, "salt the water"]
    said = run.decide(texts)
    assert run.decide(texts, groups=pd.DataFrame({"team": ["a", None]})) == said
    assert run.decide(texts, groups={"team": [("a", "b"), ("c", "d")]}) == said
    for groups in (["a", "b"], pd.Series(["a", "b"]), "ab", {"team": 3}):
        with pytest.raises(DataValidationError, match="must be"):
            run.decide(texts, groups=groups)
    with pytest.raises(DataValidationError, match="`ids` must be a list, got 3"):
        run.decide(texts, ids=3)


@pytest.mark.parametrize("role", ["nope", "../../other", None])
def test_roles_that_are_none(run, role):
    for ask in (run.predictions, run.outcome):
        with pytest.raises(
            ConfigurationError, match="`role` must be one of validation"
        ):
            ask(role)
