"""Files that are nearly right: what tests and the fuzzing benchmark share

`mutations` makes them from a file that is right, `readers` names everything that reads
a file of a run, and `outcome` says how a reading ended. Right ends are success and an
error of ours; everything else is a fault.
"""

import json
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

TOKENS = (
    *(b"\0", b"\x1b[2J", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc2\x9b"),
    *(b"\r\n", b"\n", b"\t", b" ", b"---\n", b"...", b"%YAML 9.9\n", b"&a ", b"*a"),
    *(b"!!python/object:os.system ", b"<<: ", b"? ", b"- ", b": ", b"=", b"[[", b"]]"),
    *(b"{", b"}", b"[" * 200, b"]", b'"', b"'", b'"""', b"\\", b"\\ud800", b"\\u0000"),
    *(b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"9" * 400, b"0x" + b"f" * 5000),
    *(b"null", b"true", b"1_0", b"1:1:1", b"2001-01-01", b"~", b".nan", b".inf"),
    *("\u202e".encode(), "é".encode(), b"a" * 5000, b"a." * 50, b"#"),
)
VALUES = (
    *(None, True, False, 0, -1, 1, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan")),
    *(float("inf"), "", " ", "x", "NaN", "\ud800", "\0", "\x1b[2J", "../..", "/etc"),
    *([], [[]], {}, [None], {"": 0}, {"a": {"b": []}}, [0] * 100, "y" * 10_000),
)


def _slice(raw, rng, most=64):
    start = rng.randrange(len(raw) + 1)
    return start, min(len(raw), start + rng.randrange(1, most))


def _one_change(raw: bytes, rng: random.Random) -> bytes:
    "A bit, a byte, a slice or a token, somewhere"
    start, end = _slice(raw, rng)
    kind = rng.randrange(9)
    if kind == 0 and raw:
        at = rng.randrange(len(raw))
        return raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
    if kind == 1:
        return raw[:start] + rng.randbytes(rng.randrange(1, 16)) + raw[start:]
    if kind == 2:
        return raw[:start] + raw[end:]
    if kind == 3:
        return raw[:end] + raw[start:]
    if kind == 4:
        return raw[: rng.randrange(len(raw) + 1)]
    if kind == 5:
        lines = raw.splitlines(True)
        rng.shuffle(lines)
        return b"".join(lines)
    if kind == 6:
        other, stop = _slice(raw, rng)
        return raw[:start] + raw[other:stop] + raw[end:]
    token = rng.choice(TOKENS)
    return raw[:start] + token + raw[start if kind == 7 else end :]


def _places(value, here=()) -> Iterator[tuple]:
    "Every path into a value"
    yield here
    pairs = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        pairs = enumerate(value[:50])
    for key, inner in pairs:
        yield from _places(inner, (*here, key))


def _changed_value(value: Any, rng: random.Random) -> Any:
    "A value with another one somewhere in it, or without something, or with it twice"
    path = rng.choice([*_places(value)])
    if not path:
        return deepcopy(rng.choice(VALUES))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    kind = rng.randrange(4)
    if kind == 0:
        del holder[path[-1]]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice(["", "x", "type", str(path[-1]) + " "])] = holder.pop(
            path[-1]
        )
    elif kind == 1:
        holder.append(deepcopy(holder[path[-1]]))
    else:
        holder[path[-1]] = deepcopy(rng.choice(VALUES))
    return value


def mutations(raw: bytes, n: int, seed: int, *, is_json=False) -> Iterator[bytes]:
    "`n` files that are nearly `raw`, the same for the same seed"
    rng = random.Random(seed)
    for _ in range(n):
        made = raw
        if is_json and rng.random() < 0.6:
            value = json.loads(raw)
            for _ in range(rng.choice((1, 1, 2, 4))):
                value = _changed_value(value, rng)
            made = json.dumps(value, indent=1).encode()
        else:
            for _ in range(rng.choice((1, 1, 2, 3, 8))):
                made = _one_change(made, rng)
        yield made


class TooLong(BaseException):
    "A reading that takes longer than any file explains"


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    "A block that is ended when it takes longer; no clock is read otherwise"
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_):
        raise TooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(read: Callable[[], Any], seconds: int = 60) -> BaseException | None:
    "How a reading ended: `None` when well, else what it raised"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with at_most(seconds):
                read()
        except (Exception, SystemExit, TooLong) as e:
            return e
    return None


def is_right(error: BaseException | None, codes: tuple[int, ...] = (2, 3)) -> bool:
    "Success, or an error of ours that only shows, with an exit code as documented"
    from fine_tune_llm.cli.app import error_paragraph, exit_code
    from fine_tune_llm.core.errors import FineTuneLLMError

    if error is None:
        return True
    if not isinstance(error, FineTuneLLMError) or exit_code(error) not in codes:
        return False
    said = error_paragraph(error)
    return said.replace("\n", "").isprintable() and len(said) < 20_000


def _decide_nothing(run):
    from fine_tune_llm.run import Run

    Run.load(run).outcome("test")


def _read_events(run):
    from fine_tune_llm.cli.event_summary import events_summary, summary_table
    from fine_tune_llm.core.events import event_line
    from fine_tune_llm.run import read_events

    events = read_events(run)
    summary_table(events_summary(events))
    [event_line(event) for event in events]


def _read_adapter(run):
    from fine_tune_llm.config import load_config
    from fine_tune_llm.models.text_model import load_adapter

    name = load_config(run / "config.yaml").model.name
    load_adapter(name, run / "adapter", run / "tokenizer", local=True)


TOML = """\
seed = 3
training.epochs = 2  # passes
[model]
name = "minilm"
[data]
group = ["age", 'sex']
text = 'body'
[risk]
target_risk = 5e-2
cost = [[0.0, 1.0], [2.0, 0.0]]
target_cost = 0.1
"""
ROWS = [
    {"text": f"message {i} about {'tea' if i % 2 else 'rain'}", "label": "ab"[i % 2]}
    for i in range(30)
]
CSV = "text,label\n" + "".join(
    f'"message ""{row["text"]}"" é, and more",{row["label"]}\n' for row in ROWS
)
TABBED = [{"text": "text", "label": "label"}, *ROWS]
# read alone, beside the files of a run
ALONE = {
    "settings.toml": TOML.encode(),
    "settings.json": json.dumps({"seed": 3, "risk": {"delta": 0.2}}, indent=1).encode(),
    "rows.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "rows.csv": CSV.encode(),
    "rows.tsv": "".join(f"{row['text']}\t{row['label']}\n" for row in TABBED).encode(),
    "rows.json": json.dumps(ROWS).encode(),
}


def readers() -> dict[str, tuple[Callable[[Path], Any], bool, tuple[int, ...]]]:
    "File of a run -> (what reads it, is it JSON, exit codes of its errors)"
    from fine_tune_llm.config import History, load_config
    from fine_tune_llm.data import load
    from fine_tune_llm.predictions import Predictions

    alone = {}
    for name in ALONE:
        read = load_config if name.startswith("settings") else load
        alone[name] = (
            lambda run, name=name, read=read: read(run / name),
            name.endswith(".json"),
            (2,),
        )
    return {
        **alone,
        "config.yaml": (lambda run: load_config(run / "config.yaml"), False, (2,)),
        "certificate.json": (_decide_nothing, True, (2, 3)),
        "data.json": (_decide_nothing, True, (2, 3)),
        "history/0001.json": (
            lambda run: [version.config for version in History(run).versions()],
            True,
            (2,),
        ),
        "events.db": (_read_events, False, (2,)),
        "predictions/test.parquet": (
            lambda run: Predictions.load(run / "predictions" / "test.parquet"),
            False,
            (2,),
        ),
        "adapter/adapter_config.json": (_read_adapter, True, (2,)),
        "adapter/backend.json": (_read_adapter, True, (2,)),
        "adapter/adapter_model.safetensors": (_read_adapter, False, (2,)),
        "adapter/head.safetensors": (_read_adapter, False, (2,)),
        "tokenizer/tokenizer.json": (_read_adapter, True, (2,)),
        "tokenizer/tokenizer_config.json": (_read_adapter, True, (2,)),
    }
