"Searches against a plain filter, retention, strange files, and the doors"

import os
import sqlite3
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import numpy as np
import pytest

from fine_tune_llm.core import event_store
from fine_tune_llm.core.errors import ConfigurationError, IntegrityError
from fine_tune_llm.core.event_store import EventStore
from fine_tune_llm.core.events import Event

TYPES = ["training.stepped", "training.evaluated", "model.saved", "user.note"]
ASKED = ["*", "training.*", "model.saved", ["user.*", "model.*"], "data.*"]


def asks_for(what, name):
    patterns = [what] if isinstance(what, str) else what
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def test_any_search_agrees_with_a_plain_filter(tmp_path):
    rng = np.random.default_rng(0)
    with EventStore(tmp_path / "random.db", every=None) as store:
        for i in range(400):
            kind, run = TYPES[rng.integers(4)], "ab"[rng.integers(2)]
            store.append(Event(kind, {"i": i}, run=run, time=int(rng.integers(50))))
        everything = store.query()
        for _ in range(300):
            what = ASKED[rng.integers(5)]
            run = [None, "a", "c"][rng.integers(3)]
            since, until, limit = (
                None if rng.random() < 0.5 else int(rng.integers(k))
                for k in (50, 50, 20)
            )
            after = int(rng.integers(400)) * (rng.random() < 0.5)
            wanted = [
                event
                for event in everything
                if asks_for(what, event.type)
                and run in (None, event.run)
                and (since is None or event.time >= since)
                and (until is None or event.time < until)
                and event.id > after
            ]
            if limit is not None and limit < len(wanted):
                wanted = wanted[len(wanted) - limit :]
            got = store.query(
                what, run=run, since=since, until=until, after=after, limit=limit
            )
            assert got == wanted


def test_retention(tmp_path):
    with EventStore(tmp_path / "old.db", every=None) as store:
        for i in range(10):
            store.append(Event("user.note", {"i": i}, time=i))
        assert store.prune(max_age=5, now=9) == 4
        assert store.prune(max_events=2) == 4
        assert [event.id for event in store.query()] == [9, 10]
        found = store.prune(max_age=0, now=99), store.prune(max_events=1), store.prune()
        assert found == (1, 0, 0)
        store.append(Event("user.note"))
        assert [event.id for event in store.query()] == [10, 11]
    with EventStore(tmp_path / "old.db", keep_events=1) as store:
        assert [event.id for event in store.query()] == [11]


def test_retention_while_it_is_written(tmp_path):
    "Every 10,000 events"
    limits = {"every": None, "batch": 5000, "keep_events": 100}
    with EventStore(tmp_path / "kept.db", **limits) as store:
        for i in range(12_000):
            store.append(Event("user.note", {"i": i}))
        store.flush()
        assert len(store.query()) == 2100
        assert store.query(limit=1)[0].data["i"] == 11_999


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("create table events (a)", r"has other columns \(a\)"),
        ("pragma user_version=9", r"by a newer version .* \(schema 9, known is 2\)"),
    ],
)
def test_files_of_something_else(tmp_path, sql, words):
    db = sqlite3.connect(tmp_path / "other.db")
    db.execute(sql)
    db.commit()
    db.close()
    with pytest.raises(IntegrityError, match=words):
        EventStore(tmp_path / "other.db")


def test_files_that_are_none(tmp_path):
    text = "this is no database, only a text that is long enough to look like one"
    (tmp_path / "no.db").write_text(text)
    for name in ("no.db", "nowhere/events.db"):
        with pytest.raises(IntegrityError, match="cannot be opened"):
            EventStore(tmp_path / name)
    with pytest.raises(IntegrityError, match="it is not there"):
        EventStore(tmp_path / "missing.db", readonly=True)
    with pytest.raises(ConfigurationError, match="name of a file, got NoneType"):
        EventStore(None)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"buffer": 0}, "`buffer` must be a whole number"),
        ({"batch": "x"}, "`batch` must be a whole number"),
        ({"every": -1}, "`every` must be in"),
        ({"keep_age": -5}, "`keep_age` must be in"),
        ({"keep_events": 1.5}, "`keep_events` must be a whole number"),
    ],
)
def test_settings(tmp_path, setting, words):
    with pytest.raises(ConfigurationError, match=words):
        EventStore(tmp_path / "bad.db", **setting)


def test_doors(tmp_path):
    with EventStore(tmp_path / "door.db", every=None) as store:
        for i in range(3):
            store.append(Event("user.note", {"i": i}, time=100 * i, run=7))
        naive = datetime(2020, 1, 1)
        wrong = {"since": "2020-01-01", "until": naive, "limit": "x", "after": None}
        for name, value in wrong.items():
            with pytest.raises(ConfigurationError, match=f"`{name}` must be"):
                store.query(**{name: value})
        for name, value in {"max_age": -1, "max_events": 0, "now": "now"}.items():
            with pytest.raises(ConfigurationError, match=f"`{name}` must be"):
                store.prune(**{name: value})
        with pytest.raises(ConfigurationError, match="`n` must be"):
            store.tail(-1)
        since = datetime.fromtimestamp(100, UTC)
        found = store.query(since=since, until=150, run=7)
        assert [event.data["i"] for event in found] == [1]
    with pytest.raises(IntegrityError, match="cannot be pruned"):
        store.prune(max_age=1)


DAY = 86_400.0


@pytest.fixture
def clock(monkeypatch):
    "A clock that is set"
    now = [1.8e9]
    monkeypatch.setattr(event_store.time, "time", lambda: now[0])
    return now


def keep_for_days(path, days, *times):
    "Open with retention, append an event at each time, and count what is left"
    with EventStore(path, every=None, keep_age=days * DAY) as store:
        for moment in times:
            store.append(Event("user.note", time=moment))
        store.flush()
        return len(store.query())


def test_one_reading_of_the_clock_deletes_nothing(tmp_path, clock):
    "Ten events; the clock jumps ten years and comes back: all of them are there"
    path, today = tmp_path / "e.db", clock[0]
    times = [today - 60 + i for i in range(10)]
    assert keep_for_days(path, 30, *times) == 10
    for jump in (3650 * DAY, 3650 * DAY + 3600, 0, 7200, 3650 * DAY, 7300 * DAY - DAY):
        clock[0] = today + jump
        if jump < 4000 * DAY:
            assert keep_for_days(path, 30) == 10
    clock[0] = today + 2 * DAY
    assert keep_for_days(path, 30, clock[0]) == 11


def test_two_readings_a_day_apart_delete(tmp_path, clock):
    path, today = tmp_path / "e.db", clock[0]
    assert keep_for_days(path, 30, today - 40 * DAY, today - 20 * DAY, today) == 3
    clock[0] += 0.9 * DAY
    assert keep_for_days(path, 30) == 3
    clock[0] += 0.2 * DAY
    assert keep_for_days(path, 30) == 2
    clock[0] += 10 * DAY  # the reading before says nothing yet about the next one
    assert keep_for_days(path, 30) == 2
    clock[0] += DAY
    assert keep_for_days(path, 30) == 1  # the newest stays, whatever its age
    clock[0] += 99 * DAY
    assert (keep_for_days(path, 30), keep_for_days(path, 30)) == (1, 1)


def test_a_short_age_waits_that_long(tmp_path, clock):
    path = tmp_path / "e.db"
    times = [clock[0] - 10, clock[0] - 1, clock[0]]
    assert keep_for_days(path, 5 / DAY, *times) == 3
    clock[0] += 5
    assert keep_for_days(path, 5 / DAY) == 2


def test_prune_asks_when_the_clock_is_far_ahead(tmp_path, clock):
    path, today = tmp_path / "e.db", clock[0]
    with EventStore(path, every=None) as store:
        store.append(Event("user.note", time=today - 40))
        store.append(Event("user.note", time=today - 2))
        assert store.prune(max_age=30) == 1
        clock[0] += 3650 * DAY
        store.append(Event("user.note", time=clock[0]))
        with pytest.raises(ConfigurationError, match="ahead of the newest event"):
            store.prune(max_age=30)
        assert len(store.query()) == 2
    with EventStore(path, every=None) as store:
        assert store.prune(max_age=30, now=clock[0]) == 1


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_file_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with EventStore(tmp_path / "e.db") as store:
            store.append(Event("user.note"))
            store.flush()
            modes = {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o666 & ~umask}
