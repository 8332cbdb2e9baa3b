"Anybody's predictions, from files of any kind"

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import (
    ConfigurationError,
    DataValidationError,
    FineTuneLLMError,
    IntegrityError,
    SchemaError,
)
from fine_tune_llm.evaluation import read_predictions
from fine_tune_llm.predictions import Predictions

ROWS = [
    {"label": "yes", "p": 0.9, "q": 0.1, "site": "A", "said": "yes"},
    {"label": "no", "p": 0.2, "q": 0.8, "site": "B", "said": None},
    {"label": "no", "p": 0.7, "q": 0.3, "site": None, "said": "no"},
]


def as_csv(path, rows):
    names = list(rows[0])
    lines = [",".join("" if r[n] is None else str(r[n]) for n in names) for r in rows]
    path.write_text("\n".join([",".join(names), *lines]))


def as_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_parquet(path, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS = {"t.csv": as_csv, "t.jsonl": as_jsonl, "t.parquet": as_parquet}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_rows_from_any_kind_of_file(name, tmp_path):
    WRITERS[name](tmp_path / name, ROWS)
    said, decided = read_predictions(
        tmp_path / name, score="p", decided="said", groups=["site"]
    )
    np.testing.assert_allclose(said.probs, [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert said.classes == ("no", "yes") and said.labels.tolist() == [1, 0, 0]
    assert decided.tolist() == ["yes", None, "no"]
    by_class, _ = read_predictions(
        tmp_path / name, probs=["q", "p"], classes=["no", "yes"]
    )
    np.testing.assert_allclose(by_class.probs, said.probs)
    turned, _ = read_predictions(tmp_path / name, score="q", positive="no")
    assert turned.classes == ("yes", "no")
    np.testing.assert_allclose(turned.probs, said.probs[:, ::-1])


def test_labels_that_are_numbers_are_names_in_order(tmp_path):
    rows = [{"label": k, "p": p} for k, p in ((1, 0.9), (0, 0.2), (1, 0.6))]
    for name, write in WRITERS.items():
        write(tmp_path / name, rows)
        said, _ = read_predictions(tmp_path / name, score="p")
        assert said.classes == ("0", "1") and said.labels.tolist() == [1, 0, 1]


def test_a_saved_file_comes_back_whole(tmp_path):
    rng = np.random.default_rng(0)
    said = Predictions(
        logits=rng.normal(size=(20, 3)),
        labels=rng.integers(0, 3, 20),
        classes=["a", "b", "c d"],
        groups={"site": ["A", "B"] * 10, "age": ["old"] * 20},
        ids=[f"r{i}" for i in range(20)],
    )
    said.save(tmp_path / "said.parquet")
    again, _ = read_predictions(tmp_path / "said.parquet", groups=["site"])
    np.testing.assert_array_equal(again.logits, said.logits)
    assert again.labels.tolist() == said.labels.tolist()
    assert list(again.groups) == ["site"] and again.ids.tolist() == said.ids.tolist()
    whole, _ = read_predictions(tmp_path / "said.parquet")
    assert list(whole.groups) == ["site", "age"]
    with pytest.raises(
        SchemaError, match="no group column `nowhere`. It has site, age"
    ):
        read_predictions(tmp_path / "said.parquet", groups=["nowhere"])
    Predictions(logits=said.logits).save(tmp_path / "no.parquet")
    with pytest.raises(IntegrityError, match="holds no labels"):
        read_predictions(tmp_path / "no.parquet")


def changed(**more):
    return [ROWS[0], ROWS[1] | more, ROWS[2]]


NAMED = {"probs": ["q", "p"], "classes": ["no", "yes"]}
WRONG = {
    "no score": (ROWS, {}, ConfigurationError, "an audit needs probabilities"),
    "two": (ROWS, {"score": "p"} | NAMED, ConfigurationError, "one of them"),
    "column": (ROWS, {"score": "x"}, SchemaError, "no column `x`. It has label, p, q"),
    "label": (ROWS, {"score": "p", "label": "x"}, SchemaError, "no column `x`"),
    "above one": (changed(p=1.2), {"score": "p"}, DataValidationError, "row 2: `p`"),
    "blank": (changed(p=None), {"score": "p"}, DataValidationError, "row 2: `p`"),
    "unlabelled": (changed(label=None), {"score": "p"}, DataValidationError, "row 2"),
    "three": (changed(label="x"), {"score": "p"}, DataValidationError, "there are 3"),
    "sums": (changed(q=0.5), NAMED, FineTuneLLMError, "t.jsonl"),
    "names": (ROWS, {"probs": ["q", "p"]}, DataValidationError, "do not name the c"),
    "few": (ROWS, NAMED | {"classes": ["no"]}, ConfigurationError, "2 classes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_says_where(name, tmp_path):
    rows, asked, kind, said = WRONG[name]
    as_jsonl(tmp_path / "t.jsonl", rows)
    with pytest.raises(kind) as e:
        read_predictions(tmp_path / "t.jsonl", **asked)
    assert said in str(e.value)


def test_a_row_that_cannot_be_read_stops_the_reading(tmp_path):
    (tmp_path / "t.csv").write_text("label,p\nyes,.9\nno\nno,.1\n")
    with pytest.raises(DataValidationError, match="line 3 has 1 cells"):
        read_predictions(tmp_path / "t.csv", score="p")
