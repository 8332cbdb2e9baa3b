"Texts as they come: in order, a piece at a time, with the row in every complaint"

import json
from itertools import count, islice

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fine_tune_llm.core.errors import (
    ConfigurationError,
    DataValidationError,
    PredictionError,
)
from fine_tune_llm.core.event_bus import EventBus
from fine_tune_llm.testing import toy_rows

TEXTS = [row["text"] for row in toy_rows(40)]


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("stream") / "run")


@pytest.mark.parametrize("at_once", [1, 7, 40, 256])
def test_a_stream_decides_what_a_list_does(run, at_once):
    texts = [*TEXTS[:5], "", None, *TEXTS[5:]]
    listed = run.decide(texts, rationale=False)
    streamed = list(run.stream(iter(texts), at_once=at_once))
    for one, other in zip(listed, streamed, strict=True):
        near = pytest.approx(one.confidence, abs=1e-6)
        assert (other.id, other.decision, other.error) == (
            one.id,
            one.decision,
            one.error,
        )
        assert other.confidence == near if one.confidence else not other.confidence


def test_texts_without_end_are_read_a_piece_at_a_time(run):
    taken = []

    def endless():
        for row in count():
            taken.append(row)
            yield TEXTS[row % len(TEXTS)]

    stream = run.stream(endless(), at_once=8)
    assert taken == []
    assert [one.id for one in islice(stream, 9)] == [str(row) for row in range(9)]
    assert len(taken) == 16


def test_ids_and_events_go_with_their_texts(run):
    bus, heard = EventBus(), []
    bus.subscribe("inference.*", heard.append)
    names = (f"mail-{i}" for i in count())
    said = list(run.stream(iter(TEXTS[:20]), ids=names, at_once=6, bus=bus))
    assert [one.id for one in said] == [f"mail-{i}" for i in range(20)]
    assert [event.data["input_id"] for event in heard] == [one.id for one in said]


def test_what_came_before_a_break_is_decided(run):
    def breaks():
        yield from TEXTS[:5]
        raise KeyError("mine")

    for texts, trouble in (
        (breaks(), KeyError),
        ([*TEXTS[:5], 7], DataValidationError),
    ):
        stream = run.stream(texts, at_once=3)
        assert [next(stream).id for _ in range(5)] == list("01234")
        with pytest.raises(trouble):
            next(stream)


def test_a_complaint_names_the_row_of_the_stream(run):
    with pytest.raises(DataValidationError, match="row 10 is no text: 7"):
        list(run.stream([*TEXTS[:10], 7], at_once=4))
    with pytest.raises(DataValidationError, match="`ids` ended before row 6 of"):
        list(run.stream(TEXTS, ids=iter("abcdef"), at_once=4))
    doubled = ["a", "b", "c", "d", "e", "f", "e", "h"]
    with pytest.raises(DataValidationError, match=r"'e' \(rows 4, 6\)"):
        list(run.stream(TEXTS[:8], ids=doubled, at_once=4))


@pytest.mark.parametrize(
    "given, why",
    [
        ({"ids": "abcde"}, "`ids` must be values one after another, got 'abcde'"),
        ({"ids": 5}, "`ids` must be values"),
        ({"ids": list("abcdef")}, "`ids` has 6 values for 5 texts"),
        ({"groups": ["a"] * 5}, "`groups` must be columns by name"),
        ({"groups": {"team": None}}, "groups\\['team'\\]` must be values"),
        ({"groups": {"team": "north"}}, "groups\\['team'\\]` must be values"),
        ({"groups": {"team": ["x"]}}, "groups\\['team'\\]` has 1 values for 5 texts"),
    ],
)
def test_ids_and_groups_are_checked_at_once(run, given, why):
    with pytest.raises(DataValidationError, match=why):
        run.stream(TEXTS[:5], **given)


def test_columns_of_any_library(run):
    said = run.decide(TEXTS[:5], rationale=False)
    ids, groups = list("vwxyz"), pd.DataFrame({"ids": list("abcde")})
    for texts in (
        pd.Series(TEXTS[:5]),
        pa.chunked_array([TEXTS[:5]]),
        tuple(TEXTS[:5]),
    ):
        found = list(run.stream(texts, ids=ids, groups=groups))
        assert [one.id for one in found] == ids
        assert [one.decision for one in found] == [one.decision for one in said]


def test_a_certificate_by_group(toy_fit, tmp_path, tiny):
    rows = [json.loads(x) for x in (tiny / "rows.jsonl").read_text().splitlines()]
    rows = [row | {"team": "ab"[i % 2]} for i, row in enumerate(rows)]
    data = {"train": 0.4, "validation": 0.1, "calibration": 0.3, "test": 0.2}
    config = {"data": data | {"group": ["team"]}, "risk": {"group": "team"}}
    config["risk"] |= {"target_risk": 0.4}
    by_team = toy_fit(tmp_path / "run", rows, config=config, epochs=4)
    assert set(by_team.threshold) == {"a", "b"}
    teams = ["a", "b"] * 10
    listed = by_team.decide(TEXTS[:20], groups={"team": teams}, rationale=False)
    stream = by_team.stream(iter(TEXTS[:20]), groups={"team": iter(teams)}, at_once=7)
    assert [one.decision for one in stream] == [one.decision for one in listed]
    with pytest.raises(PredictionError, match="by group `team`"):
        list(by_team.stream(TEXTS[:3]))


def test_an_unknown_rationale_is_refused_before_a_text_is_read(run):
    with pytest.raises(ConfigurationError, match="rationale"):
        run.stream(iter(TEXTS), rationale="nonsense")
    assert next(run.stream(TEXTS[:1], rationale=None)).rationale is None


@pytest.mark.parametrize(
    "texts",
    [
        "one text",
        b"bytes",
        {"text": "a"},
        {"a"},
        7,
        None,
        pd.DataFrame({"text": TEXTS}),
        pa.table({"text": TEXTS}),
        np.array("a"),
        np.array([["a"]]),
    ],
)
def test_what_does_not_come_one_after_another_is_refused_at_once(run, texts):
    with pytest.raises(DataValidationError, match="must be one text or a list"):
        run.stream(texts)


@pytest.mark.parametrize("at_once", [0, -1, 1.5, "8", 10**9])
def test_a_piece_has_a_size(run, at_once):
    with pytest.raises(ConfigurationError, match="at_once"):
        run.stream(TEXTS, at_once=at_once)
