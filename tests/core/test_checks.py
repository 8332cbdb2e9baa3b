"Everything that is no number, and every way to say which range was wanted"

import math

import pytest

from fine_tune_llm.core.checks import check_number, check_seed
from fine_tune_llm.core.errors import ConfigurationError


@pytest.mark.parametrize("value", ["3", None, True, math.nan, 0, 2.5, [3], math.inf])
def test_no_whole_number(value):
    with pytest.raises(
        ConfigurationError, match="`n` must be a whole number, 1 or more, got"
    ):
        check_number("n", value, 1, whole=True)


@pytest.mark.parametrize(
    "value", [".9", None, True, [0.9], 0, 1, -1, math.nan, math.inf]
)
def test_no_share(value):
    with pytest.raises(ConfigurationError, match=r"`level` must be in \(0, 1\), got"):
        check_number("level", value)


def says(call):
    with pytest.raises(ConfigurationError) as error:
        call()
    return str(error.value)


def test_the_message_names_the_range():
    assert says(lambda: check_number("level", 95)) == (
        "`level` must be in (0, 1), got 95; 95% is 0.95"
    )
    assert "`rate` must be in (0, 1], got 0" in says(
        lambda: check_number("rate", 0, closed="high")
    )
    assert "a whole number from 1 to 10, got 11" in says(
        lambda: check_number("k", 11, 1, high=10, whole=True)
    )
    assert "positive and finite, got nan" in says(
        lambda: check_number("cost", math.nan, high=math.inf)
    )
    assert "above 1 and finite" in says(
        lambda: check_number("clip", 1, 1, high=math.inf)
    )
    assert "`seed` must be a whole number, 0 or more, got -1" in says(
        lambda: check_seed(-1)
    )
