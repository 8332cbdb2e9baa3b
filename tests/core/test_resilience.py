"Retries, breakers and counts: bad ends, properties, and many threads"

import asyncio
import functools
import itertools
import json
import math
import pickle
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager

from fastcore.test import expect_fail
from fastcore.test import test_eq as check_eq
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.error_counts import ErrorStats, is_failure
from fine_tune_llm.core.errors import (
    CircuitOpenError,
    ConfigurationError,
    DataValidationError,
    OperationTimeoutError,
)
from fine_tune_llm.core.logs import capture_logs
from fine_tune_llm.core.resilience import (
    CircuitBreaker,
    _finished,
    _is_async,
    _matcher,
    _qualified_name,
    full_jitter,
    retry,
)


async def fetch():
    return 1


class Caller:
    async def __call__(self):
        return 1


class FakeClock:
    "Seconds, as a number that `sleep` moves on"

    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)


def risky():
    return [][1]


@settings(derandomize=True, deadline=None, database=None, max_examples=100)
@given(st.lists(st.floats(0, 30), max_size=30), st.sampled_from([1.0, 7.0, 60.0]))
def window_is_kept(gaps, window):
    clock = FakeClock()
    stats = ErrorStats(window=window, clock=clock)
    times = []
    for g in gaps:
        clock.now += g
        times.append(clock.now)
        stats.record(OSError(), place="x")
    recent = stats.snapshot()["recent"]
    age = [clock.now - t for t in times]
    assert (
        sum(a < window * 59 / 60 - 1e-6 for a in age)
        <= recent
        <= sum(a < window + 1e-6 for a in age)
    )


class Highest:
    def uniform(self, low, high):
        return high


def flaky(*errors, then="page"):
    "A function that raises these errors, one a call, and then answers"
    left = list(errors)

    def fetch(url="http://hub"):
        if left:
            raise left.pop(0)
        return f"{then} of {url}"

    return fetch


def patience_of(clock):
    "Settings of a retry that waits by `clock`, always as long as it may"
    return {
        "clock": clock,
        "sleep": clock.sleep,
        "rng": Highest(),
        "stats": ErrorStats(),
        "place": "hub",
    }


def quietly(fn):
    with capture_logs():
        try:
            return fn()
        except Exception as e:
            return e


@retry
def plain(fn, self=1):
    "Doc"
    return fn, self


def run(coroutine):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def aflaky(*errors):
    fetch = flaky(*errors)

    async def afetch(url="http://hub"):
        await asyncio.sleep(0)
        return fetch(url)

    return afetch


@retry
async def aplain(fn, self=1):
    return fn, self


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(
    st.integers(1, 8),
    st.floats(0, 3),
    st.floats(0, 10),
    st.floats(0, 20),
    st.lists(st.floats(0, 5), min_size=8, max_size=8),
    st.integers(0, 2**32),
    st.booleans(),
)
def limits_are_kept(attempts, base, cap, deadline, takes, seed, is_async):
    clock, starts = FakeClock(), []

    def call():
        starts.append(clock.now)
        clock.now += takes[len(starts) - 1]
        raise ConnectionError

    async def acall():
        call()

    f = retry(
        acall if is_async else call,
        attempts=attempts,
        base=base,
        cap=cap,
        deadline=deadline,
        clock=clock,
        sleep=clock.sleep,
        rng=random.Random(seed),
        stats=ErrorStats(),
        place="x",
    )
    e = quietly(lambda: asyncio.run(f()) if is_async else f())
    assert (
        len(starts) <= attempts
        and len(clock.slept) == len(starts) - 1
        and all(t <= deadline + 1e-9 for t in starts)
    )
    assert sum(clock.slept) <= deadline + 1e-9 and all(
        0 <= s <= min(cap, base * 2**k) for k, s in enumerate(clock.slept)
    )
    assert type(e) is (
        ConnectionError if len(starts) == attempts else OperationTimeoutError
    )


def call(b, *errors):
    with capture_logs():
        try:
            return b(flaky(*errors, then="answer"))()
        except Exception as e:
            return type(e).__name__


def breaker(**kw):
    clock = FakeClock()
    return CircuitBreaker(
        "hub",
        **(
            dict(
                window=4,
                min_calls=2,
                rate=0.5,
                cool_down=10.0,
                clock=clock,
                stats=ErrorStats(),
            )
            | kw
        ),
    ), clock


def no_judge(e):
    raise ZeroDivisionError


async def cancelled_probe():
    b, clock = breaker(min_calls=1)
    call(b, OSError())
    clock.now = 10.0
    task = asyncio.create_task(b(asyncio.Event().wait)())
    await asyncio.sleep(0)
    during = b.state
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return during, b.state, await b(aflaky())(), b.state


STEP = st.tuples(
    st.sampled_from(["begin", "ok", "fail", "stop", "wait", "good", "bad"]),
    st.integers(0, 5),
)


class Witness:
    "A breaker, and beside it what its window and its probes promise"

    def __init__(self, window, min_calls, rate):
        self.breaker, self.clock = breaker(
            window=window, min_calls=min_calls, rate=rate
        )
        self.window = window
        self.min_calls = min_calls
        self.rate = rate
        self.running = []  # (guard, epoch it began in, is it a probe?)
        self.failed = []  # of the calls that count now: did they fail?
        self.epoch = 0  # how often the circuit has changed

    @property
    def state(self):
        return self.breaker.state

    def begin(self):
        "Ask for a call; `False` when it is refused, as a closed circuit never does"
        was = self.state
        guard = self.breaker.guard()
        try:
            guard.__enter__()
        except CircuitOpenError:
            assert was != "closed"
            return False
        assert was != "half-open"
        self.epoch += was == "open"
        self.running.append((guard, self.epoch, was == "open"))
        return True

    def end(self, i, how):
        "End one of the running calls: `ok`, `fail` or `stop`"
        was = self.state
        guard, epoch, is_probe = self.running.pop(i % len(self.running))
        e = dict(ok=None, fail=OSError(), stop=KeyboardInterrupt())[how]
        guard.__exit__(type(e) if e else None, e, None)
        if is_probe:
            self.begin_epoch()
            assert self.state == ("closed" if how == "ok" else "open")
        elif epoch != self.epoch:
            assert self.state == was
        else:
            self.count(how)

    def count(self, how):
        "The end of a call of this epoch opens the circuit, or does not"
        if how != "stop":
            self.failed.append(how == "fail")
        last = self.failed[-self.window :]
        full = len(last) >= self.min_calls and sum(last) / len(last) >= self.rate
        assert self.state == ("open" if full else "closed")
        if full:
            self.begin_epoch()

    def begin_epoch(self):
        self.failed = []
        self.epoch += 1

    def step(self, what, i):
        if what == "wait":
            self.clock.now += 5 * i
            return
        if what in ("begin", "good", "bad"):
            if not self.begin():
                return
            i = -1  # a call that begins and ends in one step
        if what != "begin" and self.running:
            self.end(i, dict(good="ok", bad="fail").get(what, what))
        assert sum(p for *_, p in self.running) == (self.state == "half-open")


@settings(derandomize=True, deadline=None, database=None, max_examples=500)
@given(
    st.lists(STEP, max_size=60),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([0.2, 0.5, 0.75, 1.0]),
)
def circuit_keeps_its_word(steps, window, min_calls, rate):
    witness = Witness(window, min(min_calls, window), rate)
    for what, i in steps:
        witness.step(what, i)
    for guard, *_ in witness.running:
        guard.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    witness.clock.now += witness.breaker.cool_down
    probing = witness.state == "open"
    with witness.breaker.guard():
        pass
    assert witness.state == "closed" or not probing


@contextmanager
def many_switches():
    "Threads give way to each other as often as they can"
    turns = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(turns)


def counted(work, n, lock):
    "`work` that counts in `n` how often it ran, and how many ran at once at most"

    def one(i):
        with lock:
            n["now"] += 1
            n["ran"] += 1
            n["peak"] = max(n["peak"], n["now"])
        try:
            time.sleep(0)
            work(i)
        finally:
            with lock:
                n["now"] -= 1

    return one


def crowd(b, work, n_threads=16, n_calls=150):
    "How often `work` ran, failed and was refused, and how many ran at once at most"
    lock, n, start = threading.Lock(), Counter(), threading.Barrier(n_threads)
    one = counted(work, n, lock)

    def thread(t):
        start.wait()
        for i in range(n_calls):
            try:
                b(one)(t * n_calls + i)
            except OSError:
                with lock:
                    n["failed"] += 1
            except CircuitOpenError:
                with lock:
                    n["refused"] += 1

    with many_switches(), ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(thread, range(n_threads)))
    return n


TICKS = itertools.count()


def ticking():
    time.sleep(0)  # lets others run in the middle of a step
    return next(TICKS)


def dead(i):
    raise OSError


def sometimes(i):
    if i % 3:
        raise OSError


def test_what_is_a_failure():
    check_eq(
        [is_failure(e) for e in (OSError(), TimeoutError(), ConfigurationError("no"))],
        [True] * 3,
    )
    check_eq(
        [
            is_failure(e)
            for e in (
                KeyboardInterrupt(),
                SystemExit(),
                GeneratorExit(),
                asyncio.CancelledError(),
                CancelledError(),
            )
        ],
        [False] * 5,
    )


def test_which_failures_matter():
    busy = _matcher(lambda e: getattr(e, "status", 0) >= 500)
    e = OSError()
    e.status = 503
    check_eq(
        [
            busy(e),
            busy(OSError()),
            _matcher((OSError, KeyError))(KeyError()),
            _matcher(BaseException)(KeyboardInterrupt()),
        ],
        [True, False, True, False],
    )
    for wrong in (503, "OSError", (OSError, 503), int, [OSError]):
        with expect_fail(ConfigurationError, contains="`on` must be an exception type"):
            _matcher(wrong)


def test_plain_functions_and_async_ones():
    check_eq(
        [_is_async(f) for f in (fetch, functools.partial(fetch), Caller(), len)],
        [True, True, True, False],
    )
    check_eq(
        [_qualified_name(f) for f in (json.dumps, functools.partial(json.dumps, 1))],
        ["json.dumps"] * 2,
    )
    with expect_fail(ConfigurationError, contains="is a generator"):
        _is_async(lambda: (yield))
    with expect_fail(ConfigurationError, contains="nothing was protected"):
        _finished(fetch(), fetch)


def test_counts_by_hand():
    clock = FakeClock()
    stats = ErrorStats(window=60.0, clock=clock)
    for _ in range(2):
        stats.record(ConnectionError("lost"), place="hub")
    clock.now = 50.0
    stats.record(DataValidationError("row 7 is empty"), place="reader")
    clock.now = 59.0
    early = stats.snapshot()
    clock.now = 60.0
    late = stats.snapshot()
    check_eq(
        [(s["total"], s["recent"], s["per_minute"]) for s in (early, late)],
        [(3, 3, 3.0), (3, 1, 1.0)],
    )
    check_eq(
        late["errors"],
        [
            dict(
                code="ConnectionError",
                place="hub",
                total=2,
                recent=0,
                per_minute=0.0,
                last_seen=0.0,
            ),
            dict(
                code="data.validation",
                place="reader",
                total=1,
                recent=1,
                per_minute=1.0,
                last_seen=50.0,
            ),
        ],
    )
    check_eq(late, json.loads(json.dumps(late, allow_nan=False)))
    check_eq(ErrorStats(clock=clock).snapshot()["last_seen"], None)


def test_one_error_is_counted_once():
    stats = ErrorStats(window=60.0, limit=2, clock=FakeClock())
    try:
        risky()
    except IndexError as e:
        error = e
    check_eq(
        [
            stats.record(error),
            stats.record(error, place="further up"),
            stats.record(asyncio.CancelledError()),
            stats.record(KeyboardInterrupt()),
        ],
        [True, False, False, False],
    )
    check_eq(list(stats.snapshot()["by_place"]), [f"{__name__}.risky"])
    pickle.loads(pickle.dumps(error))
    for i in range(50):
        stats.record(OSError(), place=f"url {i}")
    check_eq(
        [(r["place"], r["total"]) for r in stats.snapshot()["errors"]],
        [(f"{__name__}.risky", 1), ("url 0", 1), ("other", 49)],
    )
    with expect_fail(ConfigurationError, contains="`window` must be in (0, 1e+09]"):
        ErrorStats(window=0)


def test_the_window_is_kept():
    window_is_kept()


def test_full_jitter_stays_below_its_ceilings():
    print(
        ceilings := [full_jitter(k, base=0.5, cap=8.0, rng=Highest()) for k in range(7)]
    )
    check_eq(ceilings, [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0])
    draws = [full_jitter(2, rng=random.Random(i)) for i in range(2000)]
    assert (
        abs(sum(draws) / 2000 - 1.0) < 4 * 2 / (12 * 2000) ** 0.5
    )  # 4 sigma of the mean of 2000 draws from [0, 2]
    check_eq(
        [0 <= full_jitter(k, rng=random.Random(k)) <= 8 for k in (0, 1023, 10**6)],
        [True] * 3,
    )


def test_a_hub_that_fails_twice():
    clock, stats = FakeClock(), ErrorStats()
    patience = dict(
        clock=clock, sleep=clock.sleep, rng=Highest(), stats=stats, place="hub"
    )
    with capture_logs() as lines:
        page = retry(
            flaky(ConnectionError("refused"), TimeoutError("slow")), **patience
        )("http://a")
    for line in lines:
        assert line["component"] == "resilience"
    check_eq(
        (page, clock.slept, stats.snapshot()["by_place"]["hub"]["total"]),
        ("page of http://a", [0.5, 1.0], 2),
    )
    check_eq(
        [
            (line["event"], line["attempt"], line["wait"], line["error"])
            for line in lines
        ],
        [
            ("retry", 1, 0.5, "ConnectionError: refused"),
            ("retry", 2, 1.0, "TimeoutError: slow"),
        ],
    )


def test_the_bad_ends():
    patience = patience_of(FakeClock())
    e = quietly(
        retry(flaky(ConnectionError("first"), ValueError("bad url")), **patience)
    )
    check_eq((str(e), len(e.__notes__)), ("bad url", 1))
    assert "ConnectionError: first; ValueError: bad url" in e.__notes__[0]
    e = quietly(
        retry(
            flaky(*[ConnectionError(f"no {i}") for i in range(9)]),
            attempts=3,
            **patience,
        )
    )
    check_eq(
        (str(e), e.__notes__[0].split(": ", 1)[1]),
        ("no 2", "ConnectionError: no 0; ConnectionError: no 1; ConnectionError: no 2"),
    )
    refused = CircuitOpenError("open")
    check_eq(quietly(retry(flaky(refused), on=Exception, **patience)), refused)


def test_no_deadline():
    assert retry(lambda: 1, deadline=math.inf)() == 1


def test_the_deadline():
    clock = FakeClock()
    patience = patience_of(clock)
    e = quietly(
        retry(
            flaky(*[ConnectionError(f"no {i}") for i in range(9)]),
            attempts=9,
            deadline=4.0,
            **patience,
        )
    )
    check_eq(
        (type(e), str(e.__cause__), clock.slept, len(e.context["attempts"])),
        (OperationTimeoutError, "no 3", [0.5, 1.0, 2.0], 4),
    )
    print(e)


def test_as_a_decorator():
    patience = patience_of(FakeClock())

    class Client:
        tries = 0

        @retry(attempts=2, **patience)
        def get(self):
            self.tries += 1
            if self.tries < 2:
                raise ConnectionError
            return self.tries

    check_eq(
        (plain(fn=2, self=3), plain.__name__, plain.__doc__), ((2, 3), "plain", "Doc")
    )
    with capture_logs():
        check_eq(Client().get(), 2)
    with expect_fail(
        ConfigurationError,
        contains="`attempts` must be a whole number, 1 or more, got 0",
    ):
        retry(attempts=0)
    with expect_fail(ConfigurationError, contains="`deadline` must be at least 0, got"):
        retry(deadline=float("nan"))
    with expect_fail(ConfigurationError, contains="`cap` must be in [0, 86400]"):
        retry(cap=float("inf"))


def test_async_functions():
    clock = FakeClock()
    patience = patience_of(clock)

    async def nap(seconds):
        clock.sleep(seconds)

    check_eq(run(aplain(fn=2, self=3)), (2, 3))
    with capture_logs():
        check_eq(
            run(retry(aflaky(ConnectionError()), **patience)("http://b")),
            "page of http://b",
        )
        check_eq(
            run(retry(aflaky(ConnectionError()), **(patience | dict(sleep=nap)))()),
            "page of http://hub",
        )
    check_eq(clock.slept, [0.5, 0.5])
    with expect_fail(ConfigurationError, contains="nothing was protected"):
        retry(lambda: fetch())()


def test_stopped_is_stopped():
    stats = ErrorStats()
    calls = []

    def stopped(e, waiting):
        def call():
            calls.append(1)
            raise OSError if waiting or len(calls) == 1 else e

        def sleep(seconds):
            if waiting:
                raise e

        return retry(call, on=BaseException, sleep=sleep, stats=stats)

    for kind in (KeyboardInterrupt, asyncio.CancelledError, CancelledError, SystemExit):
        for waiting in (False, True):
            calls.clear()
            e = kind()
            with capture_logs(), expect_fail(kind):
                stopped(e, waiting)()
            check_eq(
                (len(calls), getattr(e, "__notes__", [])), (1 if waiting else 2, [])
            )
    check_eq(list(stats.snapshot()["by_code"]), ["OSError"])


def test_a_cancelled_task_is_not_tried_again():
    calls = []

    async def cancelled():
        began = asyncio.Event()

        async def call():
            calls.append(1)
            began.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(retry(call, on=BaseException, stats=ErrorStats())())
        await began.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled(), len(calls)

    check_eq(run(cancelled()), (True, 1))


def test_limits_are_kept():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(limits_are_kept).result()


def test_a_life_of_a_breaker():
    b, clock = breaker()
    story = []

    def live(seconds, *errors):
        clock.now += seconds
        story.append((clock.now, call(b, *errors), b.state))

    for seconds, errors in [
        (0, ()),
        (0, (OSError(),)),
        (4, ()),
        (6, (OSError(),)),
        (9, ()),
        (1, ()),
        (0, (OSError(),)),
    ]:
        live(seconds, *errors)
    check_eq(
        story,
        [
            (0, "answer of http://hub", "closed"),
            (0, "OSError", "open"),
            (4, "CircuitOpenError", "open"),
            (10, "OSError", "open"),
            (19, "CircuitOpenError", "open"),
            (20, "answer of http://hub", "closed"),
            (20, "OSError", "closed"),
        ],
    )
    check_eq(
        {k: v["total"] for k, v in b.stats.snapshot()["by_code"].items()},
        {"OSError": 3, "service.circuit_open": 2},
    )


def test_the_refusal_says_when_to_come_back():
    b, clock = breaker(min_calls=1)
    call(b, OSError())
    clock.now = 4.0
    with expect_fail(
        CircuitOpenError,
        contains="calls to hub are refused after too many failures; "
        "the next is tried in 6.0 s",
    ):
        b(flaky())()
    e = quietly(b(flaky()))
    check_eq(e.context, dict(seconds=6.0, breaker="hub"))


def test_what_opens_is_the_rate_of_the_last_calls():
    b, _ = breaker(window=4, min_calls=4, rate=0.75)
    for fail in (1, 1, 0, 0, 1, 1):
        call(b, *[OSError()] * fail)
    check_eq(b.state, "closed")  # the last four: 0 0 1 1
    call(b, OSError())
    check_eq(b.state, "open")  # 0 1 1 1
    b, _ = breaker(window=5, min_calls=2, rate=0.75)
    for fail in (0, 0, 1, 1):
        call(b, *[OSError()] * fail)
    check_eq(b.state, "closed")  # two of four, though `min_calls` is two
    b, _ = breaker()
    call(b, OSError())
    check_eq((b.state, call(b), b.state), ("closed", "answer of http://hub", "open"))


def test_only_what_counts_as_a_failure_opens():
    b, clock = breaker(min_calls=1, on=lambda e: isinstance(e, OSError))
    check_eq((call(b, KeyError("no such model")), b.state), ("KeyError", "closed"))
    call(b, OSError())
    call(b, OSError())
    clock.now = 10.0
    check_eq((call(b, KeyError("no such model")), b.state), ("KeyError", "closed"))
    with expect_fail(StopIteration):
        b(lambda: next(iter([])))()


def test_a_probe_that_is_stopped_gives_its_place_back():
    for end, on in [
        (KeyboardInterrupt, Exception),
        (asyncio.CancelledError, Exception),
        (CancelledError, Exception),
        (GeneratorExit, Exception),
        (ValueError, no_judge),
    ]:
        b, clock = breaker(min_calls=1)
        call(b, OSError())
        clock.now = 12.0
        b._fails = _matcher(on)
        with capture_logs(), expect_fail((end, ZeroDivisionError)), b.guard():
            refused = quietly(b(flaky()))
            check_eq((b.state, refused.context["seconds"]), ("half-open", 0.0))
            raise end
        check_eq(
            (b.state, call(b), b.state), ("open", "answer of http://hub", "closed")
        )
    with capture_logs():
        check_eq(
            run(cancelled_probe()),
            ("half-open", "open", "page of http://hub", "closed"),
        )


def test_late_news_changes_nothing():
    for late in (None, OSError()):
        b, clock = breaker(min_calls=1)
        with capture_logs():
            slow = b.guard()
            slow.__enter__()
            call(b, OSError())
            clock.now = 10.0
            with b.guard():
                slow.__exit__(type(late) if late else None, late, None)
                check_eq(b.state, "half-open")
        check_eq(b.state, "closed")


def test_changes_are_told_in_order():
    with expect_fail(
        ConfigurationError,
        contains="`min_calls` must be a whole number from 1 to 4, got 5",
    ):
        breaker(min_calls=5)
    with expect_fail(ConfigurationError, contains="`rate` must be in (0, 1], got 0"):
        breaker(rate=0)
    with expect_fail(ConfigurationError, contains="nothing was protected"):
        breaker()[0](lambda: fetch())()
    b, clock = breaker(min_calls=1)
    seen = []

    @b.on_change
    def broken(b, old, new):
        raise RuntimeError("full disk")

    @b.on_change
    def note(b, old, new):
        seen.append((b.name, old, new, b.state))

    call(b, OSError())
    clock.now = 10.0
    with capture_logs() as lines:
        b(flaky())()
    check_eq(
        seen,
        [
            ("hub", "closed", "open", "open"),
            ("hub", "open", "half-open", "half-open"),
            ("hub", "half-open", "closed", "closed"),
        ],
    )
    check_eq([line["event"] for line in lines], ["circuit", "listener_failed"] * 2)
    check_eq(b.stats.snapshot()["by_code"]["RuntimeError"]["total"], 3)


def test_ctrl_c_inside_a_listener_loses_no_probe():
    b, clock = breaker(min_calls=1)
    call(b, OSError())
    clock.now = 20.0

    @b.on_change
    def interrupted(b, old, new):
        if new == "half-open":
            b._listeners.clear()
            raise KeyboardInterrupt

    with capture_logs(), expect_fail(KeyboardInterrupt):
        b(flaky())()
    check_eq((b.state, call(b), b.state), ("open", "answer of http://hub", "closed"))
    with expect_fail(ConfigurationError, contains="must be a plain function"):
        b.on_change(fetch)


def test_a_listener_that_causes_the_next_change():
    b, clock = breaker(min_calls=1)
    seen = []

    @b.on_change
    def impatient(b, old, new):
        if new == "open":
            clock.now += 10.0
            b(flaky())()

    b.on_change(lambda b, *change: seen.append(change))
    call(b, OSError())
    check_eq(seen, [("closed", "open"), ("open", "half-open"), ("half-open", "closed")])


def test_the_circuit_keeps_its_word():
    with capture_logs():
        circuit_keeps_its_word()


def test_never_two_probes():
    with capture_logs():
        b = CircuitBreaker(
            "dead",
            window=1,
            min_calls=1,
            cool_down=0.0,
            clock=ticking,
            stats=ErrorStats(),
        )
        call(b, OSError())
        n = crowd(b, dead)
        total = {k: v["total"] for k, v in b.stats.snapshot()["by_code"].items()}
    check_eq(
        (n["peak"], n["ran"] + n["refused"], n["failed"], b.state),
        (1, 16 * 150, n["ran"], "open"),
    )
    check_eq(
        (total["OSError"], total.get("service.circuit_open", 0)),
        (n["failed"] + 1, n["refused"]),
    )


def test_a_mixed_load():
    with capture_logs():
        b = CircuitBreaker(
            "mixed",
            window=8,
            min_calls=4,
            cool_down=20.0,
            clock=ticking,
            stats=ErrorStats(),
        )
        changes = []
        b.on_change(lambda b, old, new: changes.append((old, new)))
        n = crowd(b, sometimes)
        total = {k: v["total"] for k, v in b.stats.snapshot()["by_code"].items()}
    check_eq(
        (n["ran"] + n["refused"], total["OSError"], total["service.circuit_open"]),
        (16 * 150, n["failed"], n["refused"]),
    )
    assert (
        {("closed", "open"), ("open", "half-open"), ("half-open", "open")}
        <= set(changes)
        and all(a[1] == z[0] for a, z in zip(changes, changes[1:]))
        and all(old != new for old, new in changes)
    )


def test_both_together():
    b, clock = breaker(min_calls=1)
    stats = b.stats
    guarded = b(
        retry(
            flaky(*[ConnectionError("refused") for _ in range(9)]),
            attempts=3,
            clock=clock,
            sleep=clock.sleep,
            stats=stats,
            place="hub",
        )
    )
    check_eq(
        [type(quietly(guarded)).__name__ for _ in range(3)],
        ["ConnectionError", "CircuitOpenError", "CircuitOpenError"],
    )
    check_eq(
        {k: v["total"] for k, v in stats.snapshot()["by_code"].items()},
        {"ConnectionError": 3, "service.circuit_open": 2},
    )
    check_eq(len(clock.slept), 2)
