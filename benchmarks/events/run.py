"What events cost, beside plain SQLite and JSON lines in the same run; see README.md beside this file"

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
STEP = (
    0.385  # seconds of a MiniLM step on two quiet cores; the goal is stated against it
)
RARE = 997  # one event in so many is of the rare type


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
    "Seconds per step in the publishing thread, and CPU seconds per step of all threads, of `per_step` events through a bus into a store"
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
            time.sleep(
                pause
            )  # the step itself: the background thread commits meanwhile
        store.flush()
        cpu = time.process_time() - cpu
        assert (
            store.stats["committed"] == len(counted) == steps * per_step
            and not store.stats["dropped"]
        )
    return took, cpu / steps


def appending(folder, n):
    "Events per second until the last one is committed (or in the file), each way of keeping them"
    events = [make(i) for i in range(n)]
    out = {}

    def rate(name, work):
        t = time.perf_counter()
        work()
        out[name] = round(n / (time.perf_counter() - t))

    def store(every, make_too=False):
        with EventStore(folder / f"a{every}{make_too}.db", every=every) as s:
            for i in range(n):
                s.append(make(i) if make_too else events[i])
            assert s.flush() and s.stats["committed"] == n and not s.stats["dropped"]

    def plain(batch, index):
        db = sqlite3.connect(folder / f"p{batch}{index}.db", isolation_level=None)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=normal")
        db.execute(
            "create table events (id integer primary key, time real, type text, data text, run text, step integer)"
        )
        if index:
            db.execute("create index k on events (run, type)")
            db.execute("create index t on events (time)")
        for a in range(0, n, batch):
            db.execute("begin")
            db.executemany(
                "insert into events (time, type, data, run, step) values (?,?,?,?,?)",
                [
                    (e.time, e.type, json.dumps(e.data), e.run, e.step)
                    for e in events[a : a + batch]
                ],
            )
            db.execute("commit")
        db.close()

    def lines():
        with open(folder / "e.jsonl", "w") as f:
            for e in events:
                f.write(json.dumps(e.to_dict()) + "\n")

    def logged():
        log = logging.getLogger("bench")
        log.propagate = False
        log.setLevel(20)
        h = logging.FileHandler(folder / "l.jsonl")
        log.addHandler(h)
        for e in events:
            log.info(json.dumps(e.to_dict()))
        h.close()

    rate("store, background commits", lambda: store(0.05))
    rate("store, explicit batches of 1000", lambda: store(None))
    rate("store, events made in the loop, too", lambda: store(0.05, True))
    rate("sqlite3 executemany by 1000, same indexes", lambda: plain(1000, True))
    rate("sqlite3 executemany by 1000, no index", lambda: plain(1000, False))
    rate("JSON lines, buffered", lines)
    rate("logging.FileHandler, JSON lines", logged)
    small = min(n, 2000)
    events, n = events[:small], small
    rate("sqlite3, one commit per event", lambda: plain(1, True))
    return out


def million(folder, n):
    "Milliseconds to open a long store and answer; beside it the same table without indexes, and JSON lines"
    path = folder / "long.db"
    t = time.perf_counter()
    with EventStore(path, every=None, batch=10_000) as s:
        for i in range(n):
            s.append(make(i))
    out = dict(
        events=n,
        build_seconds=round(time.perf_counter() - t, 1),
        megabytes=round(path.stat().st_size / 1e6, 1),
    )

    def opened(f):
        def once():
            t = time.perf_counter()
            with EventStore(path, readonly=True) as s:
                x = f(s)
            return time.perf_counter() - t, len(x)

        runs = [once() for _ in range(15)]
        return dict(spread([a for a, _ in runs], 1000, 2), events=runs[0][1])

    end = 1.8e9 + n
    out["open + last 20"] = opened(lambda s: list(s.tail(20)))
    out["open + last 20 of a rare type"] = opened(
        lambda s: list(s.tail(20, "data.rare"))
    )
    out["open + last 20 of a pattern"] = opened(
        lambda s: list(s.tail(20, "training.*"))
    )
    out["open + last 20 of a type that is not there"] = opened(
        lambda s: list(s.tail(20, "audit.*"))
    )
    out["open + the last 100 s"] = opened(lambda s: s.query(since=end - 100))
    out["open + the last 100 s of a pattern"] = opened(
        lambda s: s.query("data.*", since=end - 100)
    )
    code = f"import time; t = time.perf_counter()\nfrom fine_tune_llm.core.event_store import EventStore\na = time.perf_counter()\nwith EventStore({str(path)!r}, readonly=True) as s: n = len(list(s.tail(20, 'training.*')))\nprint(time.perf_counter()-a, a-t)"
    fresh = [
        list(
            map(
                float,
                subprocess.run(
                    [sys.executable, "-c", code],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout.split(),
            )
        )
        for _ in range(5)
    ]
    out["in a fresh process"] = dict(
        open_and_tail=spread([a for a, _ in fresh], 1000, 2),
        imports=spread([b for _, b in fresh], 1000, 1),
    )
    naive = folder / "naive.db"
    db = sqlite3.connect(naive)
    db.execute(
        "create table events (id integer primary key, time real, type text, data text)"
    )
    db.execute(f"attach '{path}' as l")
    db.execute("insert into events select id, time, type, data from l.events")
    db.commit()
    db.close()

    def plain(what):
        def once():
            t = time.perf_counter()
            db = sqlite3.connect(naive)
            rows = db.execute(
                "select * from events where type like ? order by id desc limit 20",
                (what,),
            ).fetchall()
            [json.loads(r[3]) for r in rows]
            db.close()
            return time.perf_counter() - t

        return spread([once() for _ in range(5)], 1000, 2)

    out["peer: table without indexes, last 20 of a rare type"] = plain("data.rare")
    out["peer: table without indexes, a type that is not there"] = plain("audit.%")
    lines = folder / "long.jsonl"
    with open(lines, "w") as f:
        f.writelines(json.dumps(make(i).to_dict()) + "\n" for i in range(n))

    def scan():
        t = time.perf_counter()
        got = [e for e in map(json.loads, open(lines)) if e["type"] == "data.rare"][
            -20:
        ]
        assert len(got) == min(20, (n - 1) // RARE + 1)
        return time.perf_counter() - t

    out["peer: JSON lines, last 20 of a rare type"] = spread([scan()], 1000, 0)
    return out


def latency(folder, n):
    "Milliseconds from `append` in one process to the event in another"
    path = folder / "tail.db"
    EventStore(path).close()
    code = f"import time\nfrom fine_tune_llm.core.event_store import EventStore\ns = EventStore({str(path)!r}, readonly=True); k = 0\nprint('ready', flush=True)\nfor e in s.tail(0, follow=True):\n    print(time.time()-e.data['sent'], flush=True); k += 1\n    if k == {n}: break"
    p = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    p.stdout.readline()
    with EventStore(path) as s:
        for _ in range(n):
            s.append(Event("user.note", dict(sent=time.time())))
            time.sleep(0.037)
    return spread([float(x) for x in p.communicate()[0].split()], 1000, 1)


def real_step(n=10):
    "Seconds of a MiniLM training step (LoRA, batch of 32, BANKING77-like length), here and now; `None` when the model is not here"
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import torch

        from fine_tune_llm.config.schema import LoraSection
        from fine_tune_llm.models.text_model import collate, load_model, tokenize

        model = load_model("minilm", 77, seed=0, lora=LoraSection(), max_length=128)
    except (ImportError, OSError) as e:
        print(f"no real step: {e}")
        return None
    ids = tokenize(
        model.tokenizer,
        [
            "I tried to pay with my new card this morning and it was declined, what is going on"
        ]
        * 32,
        128,
    )
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
