"Labels, groups, ids and clusters have one name in every file"

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fine_tune_llm.core import DataValidationError
from fine_tune_llm.data import load

CASES = Path(__file__).parent.parent / "cases"
SAME = [1, 1.0, "1", "1.0", " 1", np.int64(1), np.float32(1)]


def test_groups_of_two_files_are_the_same_ones():
    "The train file was written by pandas, which made the branch a float"
    train, test = (
        load(CASES / f"groups_{part}.csv", group=["region", "branch"])
        for part in ("train", "test")
    )
    assert set(test.groups["branch"]) <= set(train.groups["branch"])
    known = set(train.groups["branch"]) - {None}
    assert known == {name for name in known if name.isdigit()}


@pytest.mark.parametrize("column", ["label", "g", "id", "c"])
def test_a_value_has_one_name_in_every_column(column):
    rows = [
        {"text": "a", "label": "x", "g": "x", "c": "x", "id": k, column: value}
        for k, value in enumerate([*SAME, "01"])
    ]
    data = load(rows, group="g", cluster="c")
    names = {
        "label": [data.classes[k] for k in data.labels],
        "g": list(data.groups["g"]),
        "id": list(data.ids),
        "c": list(data.clusters),
    }[column]
    assert names == ["1"] * len(SAME) + ["01"]
    if column == "id":
        assert data.repeated_ids() == {"1": list(range(len(SAME)))}


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT, " ", "\u200b"])
def test_what_is_missing_is_missing_in_every_column(nothing):
    rows = [{"text": "a", "label": "x", "g": nothing, "c": nothing, "id": nothing}]
    data = load(rows, group="g", cluster="c")
    assert data.groups["g"].tolist() == data.clusters.tolist() == [None]
    assert data.ids == ("0",)
    with pytest.raises(DataValidationError, match="row 0 has no label"):
        load([{"text": "a", "label": nothing}])


def test_doubled_ids_are_known_by_their_rows():
    data = load(CASES / "duplicate_ids.jsonl", label=None)
    assert data.ids == ("7", "7", "row 2", "row 3")
    assert data.repeated_ids() == {"7": [0, 1]}


@pytest.mark.parametrize("label", [0.5, [1], {"a": 1}], ids=str)
def test_what_is_no_name_is_no_label(label):
    with pytest.raises(DataValidationError, match="row 0 label must be a name or"):
        load([{"text": "a", "label": label}])


CLASSES = """
import sys
from fine_tune_llm.data import load
rows = [{"text": "a", "label": name} for name in ("2", "02", "-0", "0", "1", "01")]
print(load(rows).classes, load(rows[::-1]).classes, load(sys.argv[1]).classes)
"""


def test_classes_are_in_one_order_under_every_hash_seed():
    said = set()
    for seed in "012":
        ran = subprocess.run(
            [sys.executable, "-c", CLASSES, CASES / "label_codes.csv"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(ran.stdout)
    order = "('-0', '0', '01', '1', '02', '2')"
    assert said == {f"{order} {order} ('01', '1', '02', '2')\n"}
