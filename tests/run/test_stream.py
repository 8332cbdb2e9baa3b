"Texts as they come: in order, a piece at a time, with the row in every complaint"

from itertools import count, islice

import pytest

from fine_tune_llm.core.errors import ConfigurationError, DataValidationError
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


def test_a_complaint_names_the_row_of_the_stream(run):
    stream = run.stream([*TEXTS[:10], 7], at_once=4)
    assert len(list(islice(stream, 8))) == 8
    with pytest.raises(DataValidationError, match="row 10 is no text: 7"):
        next(stream)
    with pytest.raises(DataValidationError, match="`ids` ended before row 6 of"):
        list(run.stream(TEXTS, ids="abcdef", at_once=4))
    doubled = ["a", "b", "c", "d", "e", "f", "e", "h"]
    with pytest.raises(DataValidationError, match=r"'e' \(rows 4, 6\)"):
        list(run.stream(TEXTS[:8], ids=doubled, at_once=4))


@pytest.mark.parametrize("texts", ["one text", b"bytes", {"text": "a"}, {"a"}, 7, None])
def test_what_does_not_come_one_after_another_is_refused_at_once(run, texts):
    with pytest.raises(DataValidationError, match="one after another"):
        run.stream(texts)


@pytest.mark.parametrize("at_once", [0, -1, 1.5, "8", 10**9])
def test_a_piece_has_a_size(run, at_once):
    with pytest.raises(ConfigurationError, match="at_once"):
        run.stream(TEXTS, at_once=at_once)
