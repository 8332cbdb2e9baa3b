"Predictions: what fits together, what is refused, and one file that loses nothing"

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fine_tune_llm.core.errors import (
    ConfigurationError,
    IntegrityError,
    NotFittedError,
    PredictionError,
)
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.stats.arrays import check_probs


@pytest.fixture
def said():
    return Predictions(
        logits=[[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        labels=["cat", "bird"],
        classes=["cat", "dog", "bird"],
        groups={"site": ["A", None]},
    )


@pytest.mark.parametrize(
    "given, words",
    [
        ({"classes": "abc"}, "2 distinct names, got 3"),
        ({"ids": ["a", "b"]}, "`ids` must have shape (1,)"),
        ({"groups": ["a"]}, "dict of columns by name, got list"),
    ],
)
def test_what_does_not_fit_is_refused(given, words):
    with pytest.raises(PredictionError) as e:
        Predictions(probs=[[0.5, 0.5]], **given)
    assert words in str(e.value)


def test_without_labels_nothing_is_right_or_wrong():
    with pytest.raises(NotFittedError, match="no `labels`"):
        _ = Predictions(probs=[[0.5, 0.5]]).right


def test_an_array_is_wanted_where_predictions_came(said):
    with pytest.raises(PredictionError, match="pass its `.probs`"):
        check_probs(said)


def test_the_matrix_is_shared_and_labels_are_copied(said):
    x = np.array([[0.2, 0.8], [0.6, 0.4]])
    y = np.array([0, 1])
    p = Predictions(probs=x, labels=y)
    assert np.shares_memory(p.probs, x) and not np.shares_memory(p.labels, y)


def test_rows_are_taken_by_slice_mask_and_index(said):
    chosen = slice(1), [0, 1, -1], np.array([True, False]), torch.tensor([1])
    assert [len(said[rows]) for rows in chosen] == [1, 3, 1, 1]
    assert (said[[-1]].decided == said[[1]].decided).all()


@pytest.mark.parametrize(
    "rows, words",
    [
        (0, "For one row pass [i]"),
        ([True], "a mask of shape (2,)"),
        ([0.5], "list of indices"),
        ([0, 7], "there are 2 rows, and row 7"),
        ([-3], "row -3"),
        ([], "at least one row"),
        (slice(0), "at least one row"),
    ],
)
def test_rows_that_are_not_there(said, rows, words):
    with pytest.raises(PredictionError) as e:
        said[rows]
    assert words in str(e.value)


def test_splits_that_cannot_be(said):
    with pytest.raises(PredictionError, match="one part empty"):
        said.split(0.01, seed=0)
    with pytest.raises(PredictionError) as e:
        said.split("a", seed=0)
    assert "`fraction` must be in (0, 1), got 'a'" in str(e.value)
    with pytest.raises(ConfigurationError) as e:
        said.split(0.5, seed=1.5)
    assert "`seed` must be a whole number, 0 or more, got 1.5" in str(e.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_file_loses_nothing(tmp_path, dtype):
    rng = np.random.default_rng(0)
    p = Predictions(
        logits=rng.normal(size=(7, 3)).astype(dtype),
        labels=rng.integers(0, 3, 7),
        ids=list("abcdefg"),
        texts=['é\n,"'] * 7,
        groups={"g": [None] + list("xyxyxy")},
    )
    p.save(tmp_path / "p.parquet")
    back = Predictions.load(tmp_path / "p.parquet")
    assert back.logits.dtype == dtype
    assert (back.logits == p.logits).all() and (back.labels == p.labels).all()
    assert list(back.ids) == list(p.ids) and list(back.texts) == list(p.texts)
    assert list(back.groups["g"]) == list(p.groups["g"]) and back.classes == p.classes


@pytest.fixture
def saved(tmp_path):
    rng = np.random.default_rng(0)
    probs = check_probs(rng.dirichlet(np.ones(5), 9).astype(np.float16))
    Predictions(probs=probs).save(tmp_path / "p.parquet")
    return tmp_path / "p.parquet", probs


def test_probabilities_come_back_bit_for_bit(saved):
    path, probs = saved
    assert Predictions.load(path).probs.tobytes() == probs.tobytes()


def test_what_is_no_file_of_ours(saved, tmp_path):
    with pytest.raises(IntegrityError, match="is a folder"):
        Predictions.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Predictions.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "note, words",
    [
        ("{", "broken JSON"),
        ("{}", "version None"),
        ("[]", "version []"),
        ('{"version": 99}', "version 99; this library reads version 1"),
        ('{"version": 1, "kind": "logits"}', "what its columns are"),
    ],
)
def test_a_note_that_is_not_ours(saved, tmp_path, note, words):
    table = pq.read_table(saved[0])
    odd = table.replace_schema_metadata({"fine_tune_llm": note})
    pq.write_table(odd, tmp_path / "odd.parquet")
    with pytest.raises(IntegrityError) as e:
        Predictions.load(tmp_path / "odd.parquet")
    assert words in str(e.value)


@pytest.mark.parametrize("word", [b"salt", b"group:site"])
def test_texts_and_names_that_are_no_utf8_are_refused(tmp_path, word):
    file = tmp_path / "said.parquet"
    given = {"texts": ["salt the water"], "groups": {"site": ["A"]}}
    Predictions(probs=[[0.5, 0.5]], **given).save(file)
    file.write_bytes(file.read_bytes().replace(word, word[:-1] + b"\xff"))
    with pytest.raises(IntegrityError, match=r"not readable as Parquet.*(UTF|utf-8)"):
        Predictions.load(file)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[0.1, 0.2], [0.3]]),  # of several lengths
        pa.array([1.0, 2.0]),
        pa.array([{"list": [1.0]}] * 2),
        pa.array([["a"], ["b"]], type=pa.list_(pa.string(), 1)),
    ],
)
def test_scores_that_are_no_matrix_are_refused(said, tmp_path, column):
    said.save(tmp_path / "said.parquet")
    table = pq.read_table(tmp_path / "said.parquet")
    at = table.column_names.index("logits")
    pq.write_table(table.set_column(at, "logits", column), tmp_path / "said.parquet")
    with pytest.raises(IntegrityError, match="does not say what its columns are"):
        Predictions.load(tmp_path / "said.parquet")
