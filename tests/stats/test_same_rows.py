"""Pandas columns in different orders are refused at every door that matches rows

The doors are found by their arguments, so that a new one is asked as well.
"""

import inspect

import numpy as np
import pandas as pd
import pytest

import fine_tune_llm.stats as stats
from fine_tune_llm.core import PredictionError
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.stats.arrays import check_same_rows

N, K = 60, 3
RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.ones(K), N)
LABELS = RNG.integers(K, size=N)
NAMES = [f"row {i}" for i in range(N)]
HERE = pd.Index(NAMES)
THERE = HERE[::-1]
COLUMNS = {
    "probs": PROBS,
    "labels": LABELS,
    "sets": PROBS > 0.2,
    "decided": PROBS.argmax(1),
    "groups": np.array(list("ab") * (N // 2), dtype=object),
    "by": np.array(list("ab") * (N // 2), dtype=object),
    "conf": PROBS.max(1),
    "right": (PROBS.argmax(1) == LABELS).astype(int),
    "scores": PROBS.max(1),
    "positive": PROBS.argmax(1) == LABELS,
    "weights": np.ones(N),
}
OTHERS = {
    "seed": 0,
    "metric": "ece",
    "n_resamples": 99,
    "k": 1,
    "alpha": 0.2,
    "folds": np.arange(N) % 5,
    "x": PROBS,
    "selective_coverage": 0.5,
    "cost": 1 - np.eye(K),
    "score": "raps",
    "calibrator": stats.Uncalibrated(),
    "other": PROBS,
}
# asks a fitted classifier, whose `fit` and `group_losses` look at the rows
INNER = {"certificate_curve"}


def _pandas(values, index):
    make = pd.DataFrame if np.ndim(values) == 2 else pd.Series
    return make(values, index=index)


def _doors():
    for name in sorted(dir(stats)):
        word = getattr(stats, name)
        if inspect.isfunction(word) and not name.startswith("plot"):
            yield name, word
        elif inspect.isclass(word):
            for method in ("fit", "update", "from_arrays"):
                if hasattr(word, method):
                    yield f"{name}.{method}", getattr(word, method)


def _rows_of(door):
    return [name for name in inspect.signature(door).parameters if name in COLUMNS]


def _pair(door):
    rows = _rows_of(door)
    return ("probs", "labels") if {"probs", "labels"} <= set(rows) else rows[:2]


DOORS = {
    name: door
    for name, door in _doors()
    if len(_rows_of(door)) >= 2 and name not in INNER
}


def test_there_are_many_doors():
    assert {"ece", "accuracy", "coverage", "GroupCounts.from_arrays"} <= set(DOORS)
    assert len(DOORS) > 35


@pytest.mark.parametrize("name", DOORS)
def test_columns_in_different_orders_are_refused(name):
    door, given = DOORS[name], {}
    first, last = _pair(door)
    for argument, parameter in inspect.signature(door).parameters.items():
        is_needed = parameter.default is inspect.Parameter.empty
        if argument in (first, last) or (argument in COLUMNS and is_needed):
            index = THERE if argument == last else HERE
            given[argument] = _pandas(COLUMNS[argument], index)
        elif argument in OTHERS and is_needed:
            given[argument] = OTHERS[argument]
    args = []
    if "." in name and not inspect.ismethod(door):
        args = [_made(getattr(stats, name.partition(".")[0]))]
    with pytest.raises(PredictionError, match="different indexes: row 0"):
        door(*args, **given)


def _made(kind):
    wanted = inspect.signature(kind).parameters
    return kind(**{name: OTHERS[name] for name in ("seed",) if name in wanted})


def test_one_order_is_taken_and_so_is_one_column_beside_arrays():
    probs, labels = pd.DataFrame(PROBS, HERE), pd.Series(LABELS, HERE)
    want = stats.ece(PROBS, LABELS)
    assert stats.ece(probs, labels) == stats.ece(PROBS, labels) == want
    assert stats.ece(probs, LABELS.tolist()) == want
    other = pd.Series(LABELS[::-1], THERE)
    assert stats.ece(probs, other.loc[probs.index]) == want
    with pytest.raises(PredictionError, match="rows against"):
        check_same_rows({"probs": probs, "labels": labels[1:]})


def test_predictions_and_groups_are_asked_too():
    probs = pd.DataFrame(PROBS, HERE)
    columns = {
        "labels": pd.Series(LABELS, THERE),
        "ids": pd.Series(NAMES, THERE),
        "texts": pd.Series(NAMES, THERE),
        "clusters": pd.Series(NAMES, THERE),
        "groups": {"site": pd.Series(NAMES, THERE)},
    }
    for name, values in columns.items():
        with pytest.raises(PredictionError, match=f"`{name}.*different indexes"):
            Predictions(probs=probs, **{name: values})
    frame = pd.DataFrame({"site": COLUMNS["groups"]}, THERE)
    with pytest.raises(PredictionError, match="`groups` and `labels` have different"):
        stats.GroupCounts.from_arrays(
            pd.Series(LABELS, HERE), COLUMNS["decided"], groups=frame
        )
