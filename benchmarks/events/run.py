"""What events cost, beside plain SQLite and JSON lines in the same run

See README.md beside this file.
"""

import argparse
import json
import logging
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fine_tune_llm import __version__
from fine_tune_llm.core.event_bus import EventBus
from fine_tune_llm.core.event_store import EventStore
from fine_tune_llm.core.events import Event, TrainingStepped

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Seconds of a MiniLM step on two quiet cores; the goal is stated against it
STEP = 0.385
RARE = 997  # one event in so many is of the rare type
MESSAGE = (
    "I tried to pay with my new card this morning and it was declined, what is going on"
)


def machine():
    with open("/proc/cpuinfo") as f:
        cpu = next(
            (line.split(":")[1].strip() for line in f if line.startswith("model name")),
            platform.processor(),
        )
    return dict(
        cpu=cpu,
        cores=os.cpu_count(),
        load_1m=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
    )


def spread(x, unit=1.0, digits=3):
    x = sorted(x)
    return dict(
        median=round(statistics.median(x) * unit, digits),
        p99=round(x[min(len(x) - 1, int(0.99 * len(x)))] * unit, digits),
        max=round(x[-1] * unit, digits),
        n=len(x),
    )


def make(i):
    return (
        TrainingStepped(
            step=i,
            epoch=i / 1000,
            seconds=0.385,
            loss=1 / (i + 1),
            run="bench",
            time=1.8e9 + i,
        )
        if i % RARE
        else Event("data.rare", dict(i=i), run="bench", time=1.8e9 + i)
    )


def publishing(folder, steps, per_step, pause):
    """What `per_step` events cost, through a bus into a store

    Seconds of each step in the publishing thread; CPU seconds per step of all threads.
    """
    bus, counted = EventBus(), []
    with EventStore(folder / "publish.db") as store:
        bus.subscribe("*", store.append)
        bus.subscribe(TrainingStepped, lambda e: counted.append(e.step))
        took = []
        cpu = time.process_time()
        for i in range(steps):
            t = time.perf_counter()
            for _ in range(per_step):
                bus.publish(
                    TrainingStepped(
                        step=i,
                        epoch=i / steps,
                        seconds=0.385,
                        loss=1 / (i + 1),
                        metrics=dict(grad_norm=1.0, learning_rate=1e-3),
                    )
                )
            took.append(time.perf_counter() - t)
            # The step itself: the background thread commits meanwhile
            time.sleep(pause)
        store.flush()
        cpu = time.process_time() - cpu
        assert (
            store.stats["committed"] == len(counted) == steps * per_step
            and not store.stats["dropped"]
        )
    return took, cpu / steps


def into_store(path, n, event_of, *, every):
    "The library's store; `every` so many seconds it commits, `None` in batches"
    with EventStore(path, every=every) as store:
        for i in range(n):
            store.append(event_of(i))
        assert store.flush() and store.stats["committed"] == n
        assert not store.stats["dropped"]


TABLE = """
create table events (
    id integer primary key, time real, type text, data text, run text, step integer
)
"""


def into_sqlite(path, events, *, batch, index):
    "Plain `executemany`, one commit a batch"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=normal")
    db.execute(TABLE)
    if index:
        db.execute("create index k on events (run, type)")
        db.execute("create index t on events (time)")
    for start in range(0, len(events), batch):
        db.execute("begin")
        db.executemany(
            "insert into events (time, type, data, run, step) values (?,?,?,?,?)",
            [
                (e.time, e.type, json.dumps(e.data), e.run, e.step)
                for e in events[start : start + batch]
            ],
        )
        db.execute("commit")
    db.close()


def into_lines(path, events):
    "Buffered JSON lines"
    with open(path, "w") as f:
        for e in events:
            f.write(json.dumps(e.to_dict()) + "\n")


def into_log(path, events):
    "JSON lines by the standard library's logging"
    log = logging.getLogger("bench")
    log.propagate = False
    log.setLevel(logging.INFO)
    handler = logging.FileHandler(path)
    log.addHandler(handler)
    for e in events:
        log.info(json.dumps(e.to_dict()))
    log.removeHandler(handler)
    handler.close()


def rate(n, work, *args, **options):
    "Events per second when `work` takes `n` of them"
    begun = time.perf_counter()
    work(*args, **options)
    return round(n / (time.perf_counter() - begun))


def appending(folder, n):
    """Events per second, each way of keeping them

    Until the last one is committed, or in the file.
    """
    events = [make(i) for i in range(n)]
    few = events[:2000]
    ready = events.__getitem__

    def store(name, event_of, every):
        return rate(n, into_store, folder / name, n, event_of, every=every)

    def sqlite(name, some, batch, index):
        path = folder / name
        return rate(len(some), into_sqlite, path, some, batch=batch, index=index)

    return {
        "store, background commits": store("s.db", ready, 0.05),
        "store, explicit batches of 1000": store("b.db", ready, None),
        "store, events made in the loop, too": store("m.db", make, 0.05),
        "sqlite3 executemany by 1000, same indexes": sqlite("i.db", events, 1000, True),
        "sqlite3 executemany by 1000, no index": sqlite("n.db", events, 1000, False),
        "JSON lines, buffered": rate(n, into_lines, folder / "e.jsonl", events),
        "logging.FileHandler, JSON lines": rate(
            n, into_log, folder / "l.jsonl", events
        ),
        "sqlite3, one commit per event": sqlite("one.db", few, 1, True),
    }


def build(path, n):
    "Write a long store; its size and how long it took"
    begun = time.perf_counter()
    with EventStore(path, every=None, batch=10_000) as store:
        for i in range(n):
            store.append(make(i))
    return dict(
        events=n,
        build_seconds=round(time.perf_counter() - begun, 1),
        megabytes=round(path.stat().st_size / 1e6, 1),
    )


def opened(path, ask):
    "Milliseconds to open a store and get an answer, and how many events that has"

    def once():
        begun = time.perf_counter()
        with EventStore(path, readonly=True) as store:
            answer = ask(store)
        return time.perf_counter() - begun, len(answer)

    runs = [once() for _ in range(15)]
    return dict(spread([took for took, _ in runs], 1000, 2), events=runs[0][1])


def questions(n):
    "What is asked of a store of `n` events"
    end = 1.8e9 + n
    return {
        "open + last 20": lambda s: list(s.tail(20)),
        "open + last 20 of a rare type": lambda s: list(s.tail(20, "data.rare")),
        "open + last 20 of a pattern": lambda s: list(s.tail(20, "training.*")),
        "open + last 20 of a type that is not there": lambda s: list(
            s.tail(20, "audit.*")
        ),
        "open + the last 100 s": lambda s: s.query(since=end - 100),
        "open + the last 100 s of a pattern": lambda s: s.query(
            "data.*", since=end - 100
        ),
    }


OPEN_AND_TAIL = """
import sys, time
begun = time.perf_counter()
from fine_tune_llm.core.event_store import EventStore
imported = time.perf_counter()
with EventStore(sys.argv[1], readonly=True) as store:
    n = len(list(store.tail(20, 'training.*')))
print(time.perf_counter() - imported, imported - begun)
"""


def in_fresh_process(path):
    "Milliseconds to open and to read the tail, and to import, in five new processes"

    def once():
        words = [sys.executable, "-c", OPEN_AND_TAIL, str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return [float(word) for word in done.stdout.split()]

    runs = [once() for _ in range(5)]
    return dict(
        open_and_tail=spread([took for took, _ in runs], 1000, 2),
        imports=spread([imports for _, imports in runs], 1000, 1),
    )


def copy_without_indexes(path, naive):
    "The events of a store, in a plain table"
    db = sqlite3.connect(naive)
    db.execute(
        "create table events (id integer primary key, time real, type text, data text)"
    )
    db.execute(f"attach '{path}' as l")
    db.execute("insert into events select id, time, type, data from l.events")
    db.commit()
    db.close()


def from_table(naive, what):
    "Milliseconds to open a plain table and read the last 20 events of a type"

    def once():
        begun = time.perf_counter()
        db = sqlite3.connect(naive)
        rows = db.execute(
            "select * from events where type like ? order by id desc limit 20",
            (what,),
        ).fetchall()
        [json.loads(row[3]) for row in rows]
        db.close()
        return time.perf_counter() - begun

    return spread([once() for _ in range(5)], 1000, 2)


def from_lines(path, n):
    "Milliseconds to find the last 20 events of the rare type in JSON lines"
    begun = time.perf_counter()
    with open(path) as f:
        found = [e for e in map(json.loads, f) if e["type"] == "data.rare"][-20:]
    took = time.perf_counter() - begun
    assert len(found) == min(20, (n - 1) // RARE + 1)
    return spread([took], 1000, 0)


def million(folder, n):
    """Milliseconds to open a long store and answer

    Beside it the same table without indexes, and JSON lines.
    """
    path, naive, lines = folder / "long.db", folder / "naive.db", folder / "long.jsonl"
    out = build(path, n)
    for question, ask in questions(n).items():
        out[question] = opened(path, ask)
    out["in a fresh process"] = in_fresh_process(path)
    copy_without_indexes(path, naive)
    rare, absent = from_table(naive, "data.rare"), from_table(naive, "audit.%")
    out["peer: table without indexes, last 20 of a rare type"] = rare
    out["peer: table without indexes, a type that is not there"] = absent
    into_lines(lines, (make(i) for i in range(n)))
    out["peer: JSON lines, last 20 of a rare type"] = from_lines(lines, n)
    return out


FOLLOW = """
import sys, time
from fine_tune_llm.core.event_store import EventStore
left = int(sys.argv[2])
store = EventStore(sys.argv[1], readonly=True)
print('ready', flush=True)
for event in store.tail(0, follow=True):
    print(time.time() - event.data['sent'], flush=True)
    left -= 1
    if left == 0:
        break
"""


def latency(folder, n):
    "Milliseconds from `append` in one process to the event in another"
    path = folder / "tail.db"
    EventStore(path).close()
    words = [sys.executable, "-c", FOLLOW, str(path), str(n)]
    p = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    p.stdout.readline()
    with EventStore(path) as s:
        for _ in range(n):
            s.append(Event("user.note", dict(sent=time.time())))
            time.sleep(0.037)
    return spread([float(x) for x in p.communicate()[0].split()], 1000, 1)


def real_step(n=10):
    """Seconds of a MiniLM training step, here and now

    LoRA, batch of 32, texts as long as BANKING77's; `None` when the model is not here.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import torch

        from fine_tune_llm.config.schema import LoraSection
        from fine_tune_llm.models.text_model import collate, load_model, tokenize

        model = load_model("minilm", 77, seed=0, lora=LoraSection(), max_length=128)
    except (ImportError, OSError) as e:
        print(f"no real step: {e}")
        return None
    ids = tokenize(model.tokenizer, [MESSAGE] * 32, 128)
    batch = collate(ids, model.tokenizer.pad_token_id)
    y = torch.arange(32) % 77
    opt = torch.optim.AdamW(
        [p for p in model.net.parameters() if p.requires_grad], lr=1e-4
    )
    took = []
    for _ in range(n + 2):
        t = time.perf_counter()
        model.net(**batch, labels=y)["loss"].backward()
        opt.step()
        opt.zero_grad()
        took.append(time.perf_counter() - t)
    return spread(took[2:], 1000, 1)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--events", type=int, default=1_000_000)
    a.add_argument("--steps", type=int, default=60)
    a.add_argument("--real-step", action="store_true")
    a = a.parse_args()
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        took, cpu = publishing(d, a.steps, 100, 0.2)
        step = real_step() if a.real_step else None
        result = dict(
            publish_100_events=dict(
                thread_ms=spread(took, 1000),
                cpu_ms_all_threads=round(cpu * 1000, 3),
                reference_step_ms=STEP * 1000,
                share_of_reference_step=round(statistics.median(took) / STEP, 5),
                cpu_share_of_reference_step=round(cpu / STEP, 5),
                real_step_ms=step,
                share_of_real_step=round(
                    statistics.median(took) * 1000 / step["median"], 5
                )
                if step
                else None,
                cpu_share_of_real_step=round(cpu * 1000 / step["median"], 5)
                if step
                else None,
            ),
            append_per_second=appending(d, min(a.events, 200_000)),
            long_store_ms=million(d, a.events),
            follow_latency_ms=latency(d, 200),
            goals=dict(
                share_of_step="< 0.01",
                append_per_second=">= 50000",
                long_store_ms="< 100",
                follow_latency_ms="< 200",
            ),
            seed=None,
            versions=dict(
                fine_tune_llm=__version__,
                sqlite=sqlite3.sqlite_version,
                python=platform.python_version(),
            ),
            machine=machine(),
            date=time.strftime("%Y-%m-%d"),
            commit=subprocess.run(
                ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
            ).stdout.strip(),
        )
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "events.json").write_text(
        json.dumps(result, indent=1) + "\n", encoding="utf-8"
    )
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
