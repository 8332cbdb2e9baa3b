"Order among threads, handlers that publish, lifetimes"

import gc
import threading

import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.core.event_bus import EventBus
from fine_tune_llm.core.events import Event


def publish_notes(bus, thread):
    "200 notes, numbered, in the name of a thread; even and odd threads share a run"
    for i in range(200):
        note = Event("user.note", {"thread": thread, "i": i}, run=f"r{thread % 2}")
        bus.publish(note)


def test_order_with_threads_and_with_handlers_that_publish():
    """Four threads publish into two runs; every tenth event is answered by another

    Each thread's events arrive in its order, and two handlers agree on a whole run.
    """
    bus, first, second = EventBus(), [], []

    def answer(event):
        first.append((event.run, event.data["thread"], event.data["i"]))
        if event.data["i"] % 10 == 9 and event.data["thread"] >= 0:
            reply = {"thread": -1, "i": event.data["i"]}
            bus.publish(Event("user.answer", reply, run=event.run))

    def listen(event):
        second.append((event.run, event.data["thread"], event.data["i"]))

    bus.subscribe("user.*", answer)
    bus.subscribe("user.*", listen)
    threads = [threading.Thread(target=publish_notes, args=(bus, t)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bus.flush()
    assert len(first) == 4 * 220
    for run in ("r0", "r1"):
        assert [x for x in first if x[0] == run] == [x for x in second if x[0] == run]
    for thread in range(4):
        assert [i for _, t, i in first if t == thread] == [*range(200)]


class Panel:
    def __init__(self):
        self.n = 0

    def count(self, event):
        self.n += 1


def test_lifetimes():
    bus, panel = EventBus(), Panel()
    bus.subscribe("*", panel.count)
    bus.subscribe("*", lambda event: None)
    del panel
    gc.collect()
    bus.publish(Event("user.note"))
    assert len(bus.subscriptions) == 1
    kept = bus.subscribe("*", Panel().count, weak=False)
    gc.collect()
    bus.publish(Event("user.note"))
    assert kept.handled == 1
    bus.close()
    assert bus.subscriptions == ()


def test_doors():
    bus = EventBus()
    with pytest.raises(ConfigurationError, match="must be an event class or a pattern"):
        bus.subscribe(dict, print)
    with pytest.raises(ConfigurationError, match="must be an Event, got 'user.note'"):
        bus.publish("user.note")
    with pytest.raises(ConfigurationError, match="`handler` must be callable"):
        bus.subscribe("*", 5)

    async def later(event):
        pass

    with pytest.raises(ConfigurationError, match="must be a plain function"):
        bus.subscribe("*", later)
