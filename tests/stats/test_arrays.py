"The doors: everything that is an array is taken, everything else is refused by row"

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from fine_tune_llm.core.errors import PredictionError
from fine_tune_llm.stats.arrays import (
    _as_integers,
    _scan_rows,
    as_float_array,
    check_labels,
    check_probs,
    group_codes,
    group_names,
    softmax,
    top_of_rows,
)
from fine_tune_llm.stats.kernels import readable

MATRIX = np.arange(6.0).reshape(3, 2)
COLUMN = pa.FixedSizeListArray.from_arrays(pa.array(MATRIX.reshape(-1)), 2)


@pytest.mark.parametrize(
    "column",
    [
        COLUMN,
        pa.chunked_array([COLUMN]),
        pa.FixedShapeTensorArray.from_numpy_ndarray(MATRIX),
    ],
    ids=["column", "chunked", "tensors"],
)
def test_arrow_columns_of_vectors_are_not_copied(column):
    base = COLUMN.flatten().to_numpy()
    shared = as_float_array(column, "x")[0]
    assert np.shares_memory(shared, base) or np.shares_memory(shared, MATRIX)


def test_arrow_slices_and_tables():
    np.testing.assert_array_equal(as_float_array(COLUMN[1:], "x")[0], MATRIX[1:])
    table = pa.table(dict(a=MATRIX[:, 0], b=MATRIX[:, 1]))
    np.testing.assert_array_equal(as_float_array(table, "x")[0], MATRIX)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(MATRIX.tolist()),
        pa.chunked_array([pa.array(MATRIX.tolist())]),
        pd.Series(list(MATRIX)),
        MATRIX.astype(np.longdouble),
    ],
    ids=["lists", "chunked lists", "series", "long double"],
)
def test_other_holders_become_float64(column):
    array, _ = as_float_array(column, "x")
    np.testing.assert_array_equal(array, MATRIX)
    assert array.dtype == np.float64


@pytest.mark.parametrize(
    "column",
    [[[1, 2], [3]], pa.array([[1.0, 2.0], [3.0]]), pd.Series([[1, 2], None])],
    ids=["list", "arrow", "series"],
)
def test_ragged_rows_are_refused(column):
    with pytest.raises(PredictionError, match="rows differ in length"):
        as_float_array(column, "x")


def test_what_is_no_number_is_refused():
    with pytest.raises(PredictionError, match="no number"):
        as_float_array(np.array([["a", None]], dtype=object), "x")


@pytest.mark.parametrize(
    "probs, words",
    [
        ([[0.2, 0.8], [0.2, 0.7]], "first row 1 sums to 0.9"),
        ([[0.5, 0.5], [2.1, -1.0]], r"Are these logits\?"),
        ([[np.nan, 0.5]], "first row 0"),
        ([0.2, 0.3, 0.5], r"got \(3,\)"),
    ],
)
def test_what_is_no_distribution_is_refused(probs, words):
    with pytest.raises(PredictionError, match=words):
        check_probs(probs)


def test_half_precision_is_renormalised():
    logits = torch.randn(50, 1000, generator=torch.Generator().manual_seed(0)) * 3
    for dtype in (torch.bfloat16, torch.float16):
        probs = torch.softmax(logits, 1).to(dtype)
        assert np.abs(probs.double().sum(1).numpy() - 1).max() > 1e-5
        total = check_probs(probs).sum(1, dtype=np.float64)
        assert np.abs(total - 1).max() < 1e-5
    with pytest.raises(PredictionError, match="sum to 1"):
        check_probs(torch.softmax(logits, 1).bfloat16().float())


def test_the_kernel_says_what_numpy_says():
    probs = np.random.default_rng(0).dirichlet(np.full(7, 0.3), 500).round(2)
    probs[:, 0] += 1 - probs.sum(1)
    probs = np.abs(probs) / np.abs(probs).sum(1, keepdims=True)
    probs[:3] = np.eye(7)[:3]
    probs[3] = [-0.0, 0.5, 0.5, 0, 0, -0.0, 0]
    for dtype in (np.float64, np.float32):
        rows, conf, best = readable(probs, dtype), np.empty(500), np.empty(500, int)
        assert _scan_rows(rows, *_as_integers(rows), 1e-5, conf, best, 0, 500) == 0
        np.testing.assert_array_equal(conf, rows.max(1))
        np.testing.assert_array_equal(best, rows.argmax(1))


def test_the_kernel_finds_the_one_bad_row_of_many():
    big = np.full((3000, 400), 1 / 400)
    np.testing.assert_array_equal(top_of_rows(big)[2], np.zeros(3000))
    faults = {
        -0.5: "must lie in",
        np.nan: "must be finite",
        0.5: "must sum to 1",
    }
    for bad, words in faults.items():
        wrong = big.copy()
        wrong[1234, 7] = bad
        with pytest.raises(PredictionError, match="row 1234"):
            check_probs(wrong)
        with pytest.raises(PredictionError, match=words):
            check_probs(wrong)


@pytest.mark.parametrize(
    "labels, classes, words",
    [
        ([0, np.nan], None, "row 1 is nan"),
        (["c", "a"], ["a", "b"], "row 0 is 'c'"),
        (np.array(["c", "a"], dtype=object), None, "row 0 is 'c'"),
        (pd.array([1, pd.NA], dtype="Int64"), None, "row 1 is"),
        ([[0], [1, 2]], None, "rows of different lengths"),
    ],
)
def test_labels_that_are_none_are_refused(labels, classes, words):
    with pytest.raises(PredictionError, match=words):
        check_labels(labels, 2, 2, classes=classes)


def test_labels_from_an_arrow_dictionary():
    labels = pa.array(["a", "b"]).dictionary_encode()
    assert check_labels(labels, 2, 2, classes=["a", "b"]).tolist() == [0, 1]


def test_softmax_of_a_single_row_is_refused():
    words = r"`logits` must have shape \(n, K\), got \(2,\)"
    with pytest.raises(PredictionError, match=words):
        softmax([1.0, 2.0])


@pytest.mark.parametrize(
    "column",
    [
        [1, 1, None],
        ["1", "1", None],
        [1.0, 1.0, np.nan],
        np.array([1, 1, np.nan]),
        pd.array([1, 1, pd.NA], dtype="Int64"),
        pa.array([1, 1, None]),
        pd.Series(["1", 1, pd.NA]),
        np.ma.array([1, 1, 7], mask=[0, 0, 1]),
    ],
    ids=lambda column: type(column).__name__,
)
def test_a_group_has_one_name_whatever_it_came_in(column):
    assert group_names(column, 3).tolist() == ["1", "1", "(missing)"]


@pytest.mark.parametrize(
    "column, names",
    [
        ([], []),
        (
            [True, 0.5, "a", np.float32(0.1), b"x", 2**70],
            ["True", "0.5", "a", "0.1", "x", str(2**70)],
        ),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), ["2020-01-01", "(missing)"]),
        (torch.tensor([3, 4]), ["3", "4"]),
        (pa.array(["a", None]).dictionary_encode(), ["a", "(missing)"]),
        (pd.Categorical(["a", None]), ["a", "(missing)"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_groups_are_named_as_they_print(column, names):
    assert group_names(column, len(names)).tolist() == names


def test_no_rows_have_no_groups():
    assert group_codes([], 0)[0] == ()


@pytest.mark.parametrize("wrong", ["ab", [["a"], ["b"]], ["a"], 5])
def test_groups_of_another_shape_are_refused(wrong):
    with pytest.raises(PredictionError, match=r"`site` must have shape \(2,\)"):
        group_names(wrong, 2, argument="site")


def test_groups_are_one_value_a_row():
    with pytest.raises(PredictionError, match="one value for each row"):
        group_names([["a"], ["b", "c"]], 2)
