"Rows of which nothing was predicted: sliced, saved, read back, refused"

import copy
import pickle

import numpy as np
import pytest

from fine_tune_llm.core.errors import IntegrityError, PredictionError
from fine_tune_llm.predictions import LabelledRows, Predictions

ALONE = {
    "labels": LabelledRows(classes=["a", "b"], labels=["a", "b", "b"]),
    "texts": LabelledRows(classes=["a", "b"], texts=["x", "y", "z"]),
    "ids": LabelledRows(classes=["a", "b"], ids=["x", "y", "z"]),
    "numbers": LabelledRows(classes=["1", "0"], labels=["0", "1", "1"]),
}


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("some", [slice(1, 3), [1, 2], np.array([False, True, True])])
def test_one_column_is_enough(tmp_path, name, some):
    rows = ALONE[name]
    rows.save(tmp_path / "rows.parquet")
    for whole in (
        rows,
        LabelledRows.load(tmp_path / "rows.parquet"),
        copy.deepcopy(rows),
    ):
        part = whole[some]
        assert (
            type(part) is LabelledRows
            and len(part) == 2
            and part.classes == rows.classes
        )
        for column in ("labels", "texts", "ids"):
            was, now = getattr(rows, column), getattr(part, column)
            assert (was is None) == (now is None)
            assert was is None or list(was[1:]) == list(now)
    assert len(pickle.loads(pickle.dumps(rows))) == 3


def test_rows_are_read_from_a_file_of_predictions(tmp_path):
    said = Predictions(probs=np.eye(2), labels=[1, 0], texts=["x", "y"])
    said.save(tmp_path / "said.parquet")
    rows = LabelledRows.load(tmp_path / "said.parquet")
    assert type(rows) is LabelledRows and rows.labels.tolist() == [1, 0]
    rows.save(tmp_path / "rows.parquet")
    with pytest.raises(IntegrityError, match="nothing was predicted"):
        Predictions.load(tmp_path / "rows.parquet")


@pytest.mark.parametrize(
    ("column", "value"),
    [("labels", 0), ("texts", "xyz"), ("texts", (c for c in "abc")), ("ids", [])],
)
def test_what_is_no_column_is_named(column, value):
    with pytest.raises(PredictionError, match=f"`{column}`"):
        LabelledRows(classes=["a", "b"], **{column: value})


def test_half_a_character_is_no_text(tmp_path):
    rows = LabelledRows(classes=["a", "b"], texts=["\ud800x"])
    with pytest.raises(PredictionError, match="Unicode"):
        rows.save(tmp_path / "rows.parquet")
    assert not list(tmp_path.iterdir())


def test_a_subclass_is_sliced_as_what_it_is_made_of():
    class Sure(Predictions):
        def __init__(self, logits):
            super().__init__(logits=logits)

    assert type(Sure(np.eye(2))[:1]) is Predictions
    with pytest.raises(AttributeError, match="cannot delete"):
        del Sure(np.eye(2)).texts


@pytest.mark.parametrize("label", [["x", "y"], [0, 7]])
def test_columns_of_a_file_that_do_not_fit_are_told_with_the_file(tmp_path, label):
    import pyarrow as pa
    import pyarrow.parquet as pq

    note = b'{"version": 1, "kind": "rows", "classes": ["a", "b"]}'
    table = pa.table({"text": ["p", "q"], "label": label})
    file = tmp_path / "rows.parquet"
    pq.write_table(table.replace_schema_metadata({"fine_tune_llm": note}), file)
    with pytest.raises(IntegrityError, match=r"rows.parquet.*do not fit"):
        LabelledRows.load(file)
