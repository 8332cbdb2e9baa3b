"""Labels by name, one rule wherever classes have names; missing groups are no word

A text is a name. A number is an index, unless a class is named by a whole number: then
it is a name, and 1 is the class 1 and never the second one.
"""

import numpy as np
import pandas as pd
import pytest

from fine_tune_llm.core import PredictionError
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.stats import (
    MISSING,
    CostMatrix,
    GroupCounts,
    SelectiveClassifier,
    Target,
    certificate_curve,
    group_codes,
    group_names,
    realised_cost,
)
from fine_tune_llm.stats.arrays import check_labels
from fine_tune_llm.stats.group_metrics import measures_of

NAMED_BY_NUMBERS = [[1, 2, 3], ["1", "2", "3"], (1.0, 2.0, 3.0), ["1", "2", "other"]]
ONES = [[1, 1], [1.0, 1.0], np.array([1, 1], np.int8), ["1", "1"], [1, "1.0"]]
ONES += [pd.Series([1, 1], dtype="Int64"), pd.Categorical(["1", "1"])]


@pytest.mark.parametrize("classes", NAMED_BY_NUMBERS, ids=str)
@pytest.mark.parametrize("labels", ONES, ids=str)
def test_numbers_are_names_where_a_class_is_named_by_a_number(classes, labels):
    assert check_labels(labels, 2, 3, classes=classes).tolist() == [0, 0]


def test_an_index_that_is_no_name_is_refused():
    with pytest.raises(PredictionError, match="row 1 is '0', which is none of the 3"):
        check_labels([1, 0], 2, 3, classes=[1, 2, 3])
    with pytest.raises(PredictionError, match="subtract 1"):
        check_labels([1, 2, 3], 3, 3)
    with pytest.raises(PredictionError, match="row 1 has no value"):
        check_labels(["a", None], 2, 2, classes=["a", "b"])


@pytest.mark.parametrize(
    ("labels", "classes", "wanted"),
    [
        ([1, 0], ["no", "yes"], [1, 0]),  # words: numbers are indices
        ([True, False], ["no", "yes"], [1, 0]),
        ([True, False], [True, False], [0, 1]),  # named by truth values
        ([2, 0], [0, 1, 2], [2, 0]),  # both readings agree
        (["01", "1"], ["1", "01"], [1, 0]),  # a text is its own name
        (["Cafe\u0301"], ["Caf\u00e9", "bar"], [0]),
    ],
)
def test_the_other_cases(labels, classes, wanted):
    n, K = len(labels), len(classes)
    assert check_labels(labels, n, K, classes=classes).tolist() == wanted


def _rows(n=400):
    rng = np.random.default_rng(0)
    index = rng.integers(3, size=n)
    probs = np.full((n, 3), 0.01)
    wrong = rng.random(n) < 0.02
    probs[np.arange(n), np.where(wrong, (index + 1) % 3, index)] = 0.98
    return probs, index


def test_predictions_keep_classes_that_are_named_by_numbers(tmp_path):
    probs, index = _rows(40)
    said = Predictions(probs=probs, labels=index + 1, classes=[1, 2, 3])
    assert said.labels.tolist() == index.tolist()
    assert said.label_names.tolist() == [str(k + 1) for k in index]
    for again in (said[5:], said[::-1], said.split(0.5, seed=0)[0]):
        assert (again.label_names.astype(int) - 1 == again.labels).all()
    said.save(tmp_path / "p.parquet")
    assert Predictions.load(tmp_path / "p.parquet").labels.tolist() == index.tolist()


def test_every_door_with_classes_reads_numbers_as_names():
    probs, index = _rows()
    named, classes = index + 1, [1, 2, 3]
    costs = CostMatrix.from_harms(classes, miss={1: 5.0}, abstain_cost=0.5)
    paid = realised_cost([2, -1, None], [1, 1, 2], costs)
    assert paid.tolist() == [5.0, 0.5, 0.5]
    groups = {"g": np.arange(len(index)) % 2}
    best = probs.argmax(1)
    by_name = GroupCounts.from_arrays(
        named, best + 1, groups=groups, classes=classes
    ).to_dict()
    by_index = GroupCounts.from_arrays(index, best, groups=groups).to_dict()
    assert by_name["columns"] == by_index["columns"]
    target = Target("of class 1", 0.3, classes=[1])
    fitted = SelectiveClassifier(0.1, classes=classes, targets=target)
    fitted.fit(probs, named, pilot=(probs, named))
    same = SelectiveClassifier(0.1, targets=Target("of class 1", 0.3, classes=[0]))
    assert fitted.threshold_ == same.fit(probs, index, pilot=(probs, index)).threshold_
    assert fitted.certificates_[1].n == (index == 0).sum()
    assert certificate_curve(fitted, probs, named).chosen >= 0
    with pytest.raises(PredictionError, match="none of the 3 classes"):
        fitted.fit(probs, index)
    counts = GroupCounts.from_arrays(named, best + 1, groups=groups, classes=classes)
    assert measures_of(counts, positive=1).positive == "1"


MISSING_FORMS = [None, float("nan"), pd.NA, pd.NaT]


@pytest.mark.parametrize("nothing", MISSING_FORMS, ids=repr)
def test_a_group_called_missing_is_not_the_rows_without_one(nothing):
    values = np.array(["missing", nothing, "(missing)", '"(missing)"'], dtype=object)
    names, codes = group_codes(values, 4)
    assert names[-1] is MISSING and codes.tolist() == [2, 3, 1, 0]
    assert names == ('""(missing)""', '"(missing)"', "missing", "(missing)")
    again, codes_again = group_codes(group_names(values, 4), 4)
    assert (codes == codes_again)[[0, 1]].all() and again[-1] is MISSING


def test_a_missing_value_that_numpy_made_a_word_is_missing():
    lost = np.array(["a", np.nan, "b"])
    assert group_names(lost, 3).tolist() == ["a", MISSING, "b"]
    word = np.array(["a", "nan", "b"])  # here it is a word: nothing made it of a number
    assert group_names(word, 3).tolist() == ["a", "nan", "b"]
    said = Predictions(probs=np.full((3, 2), 0.5), groups={"g": lost}, ids=lost)
    assert said.groups["g"].tolist() == said.ids.tolist() == ["a", None, "b"]


def test_missing_rows_are_counted_apart_from_a_group_of_that_name():
    counts = GroupCounts.from_arrays(
        [0, 1, 1], [0, 1, 0], groups={"g": ["missing", None, "a"]}
    )
    assert counts.missing_rows == {"g": 1}
    assert GroupCounts.from_dict(counts.to_dict()).missing_rows == {"g": 1}
