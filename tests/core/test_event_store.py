"The event store among processes: killed writers, followers, full disks, held files"

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote

import pytest

from fine_tune_llm.core.event_store import EventStore
from fine_tune_llm.core.events import DataSplit, Event, TrainingStepped

FTLLM = str(Path(sys.executable).parent / "ftllm")
ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import json, os, sys, time
from fine_tune_llm.core.events import Event
from fine_tune_llm.core.event_store import EventStore
path = sys.argv[1]
"""


def python(code, *args, before=(), **kw):
    "A Python process that runs `code`"
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.Popen(
        [*before, sys.executable, "-c", HEAD + code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        **kw,
    )


def numbers(path, what="user.*"):
    with EventStore(path, readonly=True) as s:
        return [e.data["i"] for e in s.query(what)]


@pytest.fixture
def line(next_line):
    "The next line a process prints, or its error when it has ended"

    def read(p):
        said = next_line(p)
        assert said, p.stderr.read()
        return said.strip()

    return read


WRITE = """
with EventStore(path, every=EVERY) as s:
    i = int(sys.argv[2])
    while True:
        for _ in range(20):
            s.append(Event('user.note', dict(i=i, filler='x' * 200)))
            i += 1
        if s.flush(): print(i, flush=True)
"""


@pytest.mark.parametrize("every", [None, 0.002])
def test_killed_writer_loses_nothing_committed(tmp_path, every, line):
    path = tmp_path / "events.db"
    start = 0
    chance = random.Random(20261123)
    for _ in range(6):
        p = python(WRITE.replace("EVERY", repr(every)), path, start)
        line(p)
        time.sleep(chance.uniform(0, 0.2))
        os.kill(p.pid, signal.SIGKILL)
        said = p.communicate()[0].split()
        got = numbers(path)
        assert got == [*range(len(got))]  # whole, in order, nothing twice
        assert len(got) >= (
            int(said[-1]) if said else start
        )  # everything that `flush` said was committed
        db = sqlite3.connect(path)
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        db.close()
        start = len(got)
    with EventStore(path) as s:
        s.append(Event("user.note", dict(i=start)))
    assert numbers(path)[-1] == start


FOLLOW = """
for e in EventStore(path, readonly=True).tail(1, 'user.*', follow=True):
    print(e.data['i'], flush=True)
"""
WRITE_THREE = """
s = EventStore(path)
for i in range(3):
    s.append(Event('user.note', dict(i=int(sys.argv[2]) + i)))
    s.append(Event('data.other'))
s.flush()
print('ok', flush=True)
time.sleep(60)
"""


def test_follower_sees_every_event_of_writers_that_come_and_die(tmp_path, line):
    path = tmp_path / "events.db"
    with EventStore(path) as s:
        s.append(Event("user.note", dict(i=-1)))
    f = python(
        FOLLOW,
        path,
    )
    assert line(f) == "-1"
    for first in (0, 3):
        w = python(
            WRITE_THREE,
            path,
            first,
        )
        assert line(w) == "ok"
        assert [line(f) for _ in range(3)] == [str(first + i) for i in range(3)]
        w.kill()
        w.communicate()
    f.kill()
    f.communicate()


def test_readers_see_whole_transactions_while_it_is_written(tmp_path):
    path = tmp_path / "events.db"
    EventStore(path).close()
    read = """
with EventStore(path, readonly=True) as s:
    n = -1
    while n < 4000:
        got = [e.data['i'] for e in s.query('user.*')]
        assert got == list(range(len(got))), got[-5:]
        assert len(got) >= n and len(got) % 20 == 0, got[-5:]
        n = len(got)
print('ok')
"""
    readers = [python(read, path) for _ in range(2)]
    with EventStore(path, every=None, batch=10_000) as s:
        for i in range(4000):
            s.append(Event("user.note", dict(i=i)))
            if i % 20 == 19:
                s.flush()
    for p in readers:
        assert p.communicate(timeout=120)[0].strip() == "ok"


def test_events_of_a_program_that_forgets_to_close(tmp_path):
    p = python(
        "s = EventStore(path, every=3600)\n"
        "for i in range(5): s.append(Event('user.note', dict(i=i)))",
        tmp_path / "events.db",
    )
    assert p.communicate(timeout=60)[1] == "" and numbers(tmp_path / "events.db") == [
        0,
        1,
        2,
        3,
        4,
    ]


FULL = """
s = EventStore(path, every=None, buffer=500)
i = 0
while not s.stats['trouble']:
    s.append(Event('user.note', dict(i=i, filler='x' * 500)))
    s.flush()
    i += 1
for i in range(i, i + 1000):
    s.append(Event('user.note', dict(i=i)))
    if i % 100 == 0: s.flush()
before = s.stats
ROOM
print(json.dumps([before, s.flush(), s.stats]))
s.close()
"""


def check_full(p, path):
    out, err = p.communicate(timeout=120)
    before, ok, after = json.loads(out)
    assert (
        before["waiting"] == 500
        and before["dropped"] >= 500
        and "cannot be written" in before["trouble"]
        and "Free some disk space" in before["trouble"]
    )
    assert ok and after["waiting"] == 0 and after["trouble"] is None
    assert (
        err.count("events are not written") == 1
        and err.count("events are written again") == 1
        and "Traceback" not in err
    )
    if path:
        check_rest(path, before)


def check_rest(path, before):
    got = numbers(path)
    hole = [i for i in range(len(got) - 1) if got[i + 1] != got[i] + 1]
    assert (
        len(hole) == 1
        and len(got) - hole[0] - 1 == 500
        and got[hole[0] + 1] - got[hole[0]] - 1 == before["dropped"]
    )
    with EventStore(path, readonly=True) as s:
        assert [e.data["count"] for e in s.query("system.events_dropped")] == [
            before["dropped"]
        ]


def test_file_size_limit(tmp_path):
    "The file may not grow beyond 200 kB, then it may"
    limit = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
"""
    p = python(
        limit
        + FULL.replace(
            "ROOM",
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,)*2)",
        ),
        tmp_path / "events.db",
    )
    check_full(p, tmp_path / "events.db")


def test_full_disk(tmp_path):
    "A file system of 1 MB of its own that fills up, then has room"
    disk = tmp_path / "disk"
    disk.mkdir()
    enter = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=1m tmpfs {disk} && exec "$@"',
        "sh",
    ]
    if (
        not shutil.which("unshare")
        or subprocess.run([*enter, "true"], capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    fill = "open(os.path.dirname(path)+'/filler', 'wb').write(b'x'*600_000)\n"
    check = "s.close(); import shutil; shutil.copy(path, sys.argv[2])"
    p = python(
        fill
        + FULL.replace("ROOM", "os.remove(os.path.dirname(path)+'/filler')")
        + check,
        disk / "events.db",
        tmp_path / "copy.db",
        before=enter,
    )
    check_full(p, tmp_path / "copy.db")


HOLD = """
import sqlite3
db = sqlite3.connect(path, isolation_level=None)
db.execute('begin exclusive')
print('held', flush=True)
input()
"""


def test_file_held_by_another_process(tmp_path, line):
    path = tmp_path / "events.db"
    with EventStore(path, every=None) as s:
        s.append(Event("user.note", dict(i=0)))
        s.flush()
        s._db.execute("pragma busy_timeout=50")
        p = python(
            HOLD,
            path,
            stdin=subprocess.PIPE,
        )
        assert line(p) == "held"
        s.append(Event("user.note", dict(i=1)))
        assert (
            not s.flush() and "locked" in s.stats["trouble"] and s.stats["waiting"] == 1
        )
        p.communicate("\n", timeout=60)
        assert s.flush() and numbers(path) == [0, 1] and s.stats["dropped"] == 0


OTHER = """
# everything that is imported late is imported now: another user may not reach it
with EventStore(sys.argv[2]) as s:
    s.append(Event('user.note'))
    s.query()
folder = os.path.dirname(path)
try:
    EventStore(folder + '/no/such.db')
except OSError:
    pass
try:
    if os.getuid() == 0: os.setuid(65534)
    os.stat(path)
except PermissionError as e:
    print('unreachable', e)
    sys.exit()
with EventStore(path, readonly=True) as s:
    print([e.data['i'] for e in s.query()], sorted(os.listdir(folder)))
try:
    EventStore(path)
except Exception as e:
    print(type(e).__name__)
"""


def test_folder_that_may_only_be_read(tmp_path):
    "As another user, a run in a folder that user may not write"
    d = tmp_path / "run"
    d.mkdir()
    above = {
        up: up.stat().st_mode
        for up in (tmp_path, tmp_path.parent, tmp_path.parent.parent)
    }
    with EventStore(d / "events.db") as s:
        s.append(Event("user.note", dict(i=7)))
    d.chmod(0o555)
    (d / "events.db").chmod(0o444)
    try:
        if os.getuid() == 0:
            for up, mode in above.items():
                up.chmod(mode | 0o055)
        out, err = python(OTHER, d / "events.db", tmp_path / "first.db").communicate(
            timeout=60
        )
    finally:
        for up, mode in above.items():
            if os.getuid() == 0:
                up.chmod(mode)
        d.chmod(0o755)
    if out.startswith("unreachable"):
        pytest.skip(f"another user cannot reach the temporary folder: {out.strip()}")
    assert out.splitlines() == ["[7] ['events.db']", "IntegrityError"], err


def test_forked_child_leaves_the_file_to_its_parent(tmp_path):
    code = """
s = EventStore(path, every=None)
s.append(Event('user.note', dict(i=0)))
if os.fork() == 0:
    s.append(Event('user.note', dict(i=99)))
    assert not s.flush()
    sys.exit()  # leaves through atexit, too
os.wait()
s.append(Event('user.note', dict(i=1)))
s.close()
"""
    assert python(code, tmp_path / "events.db").communicate(timeout=60)[
        1
    ] == "" and numbers(tmp_path / "events.db") == [0, 1]


# ---- the command


@pytest.fixture
def run_dir(tmp_path):
    d = tmp_path / "r"
    d.mkdir()
    (d / "config.yaml").write_text("seed: 0\n")
    with EventStore(d / "events.db") as s:
        s.append(DataSplit(counts=dict(train=3), time=0))
        for i in range(30):
            s.append(
                TrainingStepped(step=i, epoch=i / 10, loss=1 / (i + 1), time=60 + i)
            )
    return d


def test_command(ftllm, run_dir, tmp_path):
    r = ftllm("events", "r", "-n", 2, cwd=tmp_path)
    assert r.returncode == 0 and r.stdout.splitlines() == [
        "1970-01-01 00:01:28Z  training.stepped      step 28  epoch=2.8 loss=0.03448",
        "1970-01-01 00:01:29Z  training.stepped      step 29  epoch=2.9 loss=0.03333",
    ]
    r = ftllm("events", "r", "--type", "data", "--json", cwd=tmp_path)
    (e,) = map(json.loads, r.stdout.splitlines())
    assert (e["type"], e["data"], e["id"]) == (
        "data.split",
        dict(counts=dict(train=3)),
        1,
    )
    assert (
        len(
            ftllm(
                "events", "r", "--since", "1970-01-01 00:01:20", cwd=tmp_path
            ).stdout.splitlines()
        )
        == 10
    )
    said = ftllm(
        "events",
        "r",
        "--summary",
        "--window",
        "1m",
        "--value",
        "loss",
        "--json",
        cwd=tmp_path,
    )
    s = json.loads(said.stdout)
    assert (
        [(w["start"], w["by"], w["count"], w["max"]) for w in s["windows"]]
        == [(0, "data.split", 1, None), (60, "training.stepped", 30, 1)]
        and s["failures"] == []
        and said.stderr == ""
    )
    assert "0 failures" in ftllm("events", "r", "--summary", cwd=tmp_path).stdout
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nowhere"):
        r = ftllm("events", folder, cwd=tmp_path)
        assert (
            r.returncode == 2
            and "is not a run directory" in r.stderr
            and r.stdout == ""
        )
    assert sorted(p.name for p in run_dir.iterdir()) == [
        "config.yaml",
        "events.db",
    ]  # reading leaves nothing behind


def follow(*words):
    "As a terminal starts it: it may be interrupted, even if Ctrl-C is ignored here"
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "ftllm"), "events", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_follow_and_interrupt(run_dir, line):
    p = follow(run_dir, "-f", "-n", 1, "--type", "training.*")
    assert "step 29" in line(p)
    with EventStore(run_dir / "events.db") as s:
        s.append(Event("data.other"))
        s.append(TrainingStepped(step=30))
    assert "step 30" in line(p)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=30)
    assert (p.returncode, out, err) == (0, "", "")


def test_follow_waits_for_a_run_that_has_just_begun(run_dir, line):
    (run_dir / "events.db").unlink()
    p = follow(run_dir, "--follow")
    time.sleep(1.0)
    with EventStore(run_dir / "events.db") as s:
        s.append(Event("user.note", dict(mood="good")))
    assert "mood=good" in line(p)
    p.send_signal(signal.SIGINT)
    assert p.wait(30) == 0


def test_reader_that_leaves_early(run_dir):
    "`ftllm events | head -1` ends without a traceback"
    r = subprocess.run(
        f"{quote(FTLLM)} events {quote(str(run_dir))} -n 0 --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert len(r.stdout.splitlines()) == 1 and "Traceback" not in r.stderr


def test_a_frozen_file_gets_nothing_beside_it(tmp_path):
    "What SQLite puts beside a file of mode 0444 would be of that mode, and stay"
    file = tmp_path / "events.db"
    with EventStore(file) as s:
        s.append(Event("user.note", dict(i=7)))
    file.chmod(0o444)
    with EventStore(file, readonly=True) as s:
        assert [event.data["i"] for event in s.query()] == [7]
        assert os.listdir(tmp_path) == ["events.db"]
