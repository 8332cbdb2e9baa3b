"Files that call themselves events.db: an error of ours, and soon"

import json
import sqlite3

import pytest

from fine_tune_llm.cli.event_summary import events_summary, summary_table
from fine_tune_llm.core.errors import IntegrityError
from fine_tune_llm.core.event_store import EventStore
from fine_tune_llm.core.events import Event

COLUMNS = "id, time, type, data, run, step, version"
ENDLESS = (
    f"create view events ({COLUMNS}) as with recursive n(i) as (select 1 union all "
    "select i + 1 from n) select i, 0.0, 'user.note', '{}', '', null, 1 from n"
)
HOSTILE = {
    "a view": [ENDLESS],
    "a view under the table": [
        f"create table t ({COLUMNS})",
        f"create view events as select {COLUMNS} from t",
    ],
    "a trigger": [
        f"create table events ({COLUMNS})",
        "create trigger x after insert on events begin insert into events "
        "(time) values (0); end",
    ],
    "a virtual table": ["create virtual table events using fts5(id, time, type)"],
    "another table": ["create table events (a)"],
}


def made(path, statements):
    db = sqlite3.connect(path)
    for sql in statements:
        db.execute(sql)
    db.commit()
    db.close()
    return path


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("readonly", [True, False])
def test_only_tables(tmp_path, kind, readonly):
    path = made(tmp_path / "events.db", HOSTILE[kind])
    with pytest.raises(IntegrityError, match="cannot be opened as an event store"):
        EventStore(path, readonly=readonly)


ROWS = (
    ("soon", "user.note", "{}", "", None, 1),
    (0.0, b"x", "{}", "", None, 1),
    (0.0, "user.note", "{", "", None, 1),
    (0.0, "user.note", "[" * 100_000, "", None, 1),
    (0.0, "user.note", "[]", "", None, 1),
    (0.0, "user.note", b"\xff", "", None, 1),
    (0.0, "user.note", "{}", b"x", None, 1),
    (0.0, "user.note", "{}", "", "x", 1),
    (0.0, "user.note", "{}", "", None, "x"),
    (float("inf"), "user.note", "{}", "", None, 1),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: ascii(row)[:40])
def test_damaged_rows(tmp_path, row):
    path = tmp_path / "events.db"
    with EventStore(path) as store:
        store.append(Event("user.note", {"n": 1}, time=1))
    db = sqlite3.connect(path)
    sql = "insert into events (time, type, data, run, step, version) values"
    db.execute(f"{sql} (?, ?, ?, ?, ?, ?)", row)
    db.commit()
    db.close()
    words = "cannot be read: event 2 is damaged"
    with (
        EventStore(path, readonly=True) as s,
        pytest.raises(IntegrityError, match=words),
    ):
        s.query()


def test_a_search_is_bounded(tmp_path, monkeypatch):
    "What takes more steps than the size of the file explains is ended"
    from fine_tune_llm.core import event_file

    path = tmp_path / "events.db"
    with EventStore(path) as store:
        for i in range(5000):
            store.append(Event("user.note", {"n": i}, time=i))
    with EventStore(path, readonly=True) as store:
        assert len(store.query()) == 5000
        monkeypatch.setattr(event_file, "_MOST_STEPS", 0)
        monkeypatch.setattr(event_file, "_STEPS_OF_BYTE", 0)
        with pytest.raises(IntegrityError, match="interrupted"):
            store.query()


def test_odd_numbers_are_summed_up():
    data = [
        dict(seconds=float("nan")),
        dict(seconds=10**400),
        dict(errors=5, since=[1]),
        dict(errors=[{}, 3, dict(code="a", place="b", total=0)]),
    ]
    events = [
        Event("system.error_stats", time=1 + i).__class__.from_dict(
            dict(type="system.error_stats", data=one, time=float(i), run="")
        )
        for i, one in enumerate(data)
    ]
    assert "4 events" in summary_table(events_summary(events, window=10))
    assert json.dumps(events_summary([]))
