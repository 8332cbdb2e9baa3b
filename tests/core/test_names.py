"One name for a value, whatever it came in"

import datetime as dt
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from fine_tune_llm.core import DataValidationError, as_name


class Colour(Enum):
    RED = "red"
    ONE = 1


class Word(StrEnum):
    SPAM = "spam"


ALIKE = {
    "1": [1, 1.0, "1", "1.0", " 1 ", np.int64(1), np.uint8(1), np.float32(1), b"1"]
    + [Decimal("1.00"), Fraction(1), np.array(1), torch.tensor(1), torch.tensor(1.0)]
    + [pa.scalar(1), pa.scalar("1"), Colour.ONE, "\ufeff1", np.str_("1")],
    "0": [0, 0.0, -0.0, "0", "-0.0", "0.0", np.float64(-0.0), Decimal("-0")],
    "True": [True, np.True_, "True", torch.tensor(True), pa.scalar(True)],
    "spam": ["spam", " spam\t", "spam\u200b", Word.SPAM, b"spam", np.str_("spam")],
    "red": [Colour.RED, "red"],
    "0.5": [0.5, "0.5", np.float16(0.5), Decimal("0.50"), np.array(0.5)],
    "0.1": [0.1, np.float32(0.1), np.float16(0.1), Decimal("0.1"), "0.1"],
    "2024-01-31": [dt.date(2024, 1, 31), dt.datetime(2024, 1, 31), "2024-01-31"]
    + [pd.Timestamp("2024-01-31"), np.datetime64("2024-01-31")]
    + [np.datetime64("2024-01-31T00:00", "ns"), pa.scalar(dt.date(2024, 1, 31))],
    "2024-01-31 09:30:00": [dt.datetime(2024, 1, 31, 9, 30), "2024-01-31 09:30:00"]
    + [np.datetime64("2024-01-31T09:30"), pd.Timestamp("2024-01-31 09:30")],
    "Caf\u00e9": ["Cafe\u0301", "Caf\u00e9"],
    "9007199254740993": [2**53 + 1, str(2**53 + 1), Decimal(2**53 + 1)][:2],
}
MISSING = [None, float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, np.ma.masked]
MISSING += [
    np.datetime64("NaT"),
    np.timedelta64("NaT"),
    Decimal("nan"),
    pa.scalar(None),
]
MISSING += [
    "",
    "  ",
    "\u3164",
    "\ufe0f",
    "\x00",
    "\u200b\ufeff",
    b"",
    np.array(np.nan),
    torch.tensor(float("nan")),
]
APART = ["1", "01", "001", "-1", "1.5", "1.10", "1.00", "0", "-0", "1e0", "True"]
APART += ["true", "a", "A", "nan", "NaN", "NA", "null", "None", "\ud800", "\udc80", "?"]


@pytest.mark.parametrize("name", ALIKE)
def test_a_value_has_one_name_whatever_it_came_in(name):
    found = {repr(value): as_name(value) for value in ALIKE[name]}
    assert set(found.values()) == {name}, found


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_what_is_missing_has_no_name(value):
    assert as_name(value) is None


def test_what_differs_stays_apart():
    names = [as_name(value) for value in APART]
    assert len(set(names)) == len(APART)
    assert all(name == as_name(name) for name in names)  # a name names itself
    assert all(name.encode() for name in names)  # and a file can hold it


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, np.array([1, 2])], ids=repr)
def test_what_is_no_single_value_is_refused(value):
    with pytest.raises(DataValidationError, match="must be a single value"):
        as_name(value)


@pytest.mark.parametrize("value", [float("inf"), 1e300, Decimal("1e999999")], ids=str)
def test_large_numbers_are_named_as_they_are_printed(value):
    assert as_name(value) == as_name(as_name(value)) == str(value)
