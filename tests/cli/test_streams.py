"""Closed, full and broken standard streams of the command

Each is made by the shell: what the process finds when it starts.
"""

import io
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fine_tune_llm.cli.program import main
from fine_tune_llm.cli.streams import Output

fcntl = pytest.importorskip("fcntl")
FTLLM = str(Path(sys.executable).parent / "ftllm")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="redirections of a POSIX shell")


@pytest.fixture(scope="module")
def decided(tiny, tmp_path_factory):
    "A folder with a finished run and a file of texts; the exit code of `decide`"
    folder = tmp_path_factory.mktemp("streams")
    words = ["fit", tiny / "rows.jsonl", "--model", tiny / "bert", "--epochs", "1"]
    words += ["--config", tiny / "more.yaml", "--out", folder / "run"]
    with pytest.raises(SystemExit) as e:
        main([str(word) for word in words])
    assert e.value.code in (0, 3, 5)
    lines = (tiny / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "new.jsonl").write_text("".join(lines[:300]))
    return folder, 3 if e.value.code == 3 else 0


def shell(line, folder):
    "Run a line, with `ftllm` for the command; what it says on the other stream"
    return subprocess.run(
        ["bash", "-c", f'ftllm() {{ "{FTLLM}" "$@"; }}\n{line}'],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def full_device(folder):
    "A full device of our own; that of the machine where none can be made"
    path = folder / "full"
    if path.exists():
        return path
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        with open(path, "wb"):
            return path
    except OSError:
        if os.geteuid() and os.path.exists("/dev/full"):
            return "/dev/full"  # which nobody but root can replace
        pytest.skip("no full device here")


def here(*words):
    "The exit code of a command in this process"
    with pytest.raises(SystemExit) as e:
        main([str(word) for word in words])
    return e.value.code


def told(said):
    assert said.returncode == 2 and "Traceback" not in said.stderr
    return " ".join(said.stderr.split())


def test_output_that_is_lost_is_told(decided):
    folder, _ = decided
    full = full_device(folder)
    assert "is closed" in told(shell("ftllm --version >&-", folder))
    assert "no space left" in told(shell(f"ftllm --help > {full}", folder))
    assert "no space left" in told(
        shell(f"ftllm decide run new.jsonl > {full}", folder)
    )


def test_a_reader_that_stops(decided):
    "As any program of the system: quietly, with 128 + SIGPIPE"
    said = shell("ftllm decide run new.jsonl | true; echo ${PIPESTATUS[0]}", decided[0])
    assert (said.stdout, said.stderr) == ("141\n", "")


def test_streams_that_may_be_closed(decided):
    "Nobody needs the standard input of a file, or an error stream"
    folder, done = decided
    said = shell("ftllm decide run new.jsonl <&- 2>&-", folder)
    assert said.returncode == done and said.stdout.count("\n") == 300
    assert shell(f"ftllm fit x.csv 2> {full_device(folder)}", folder).returncode == 2


def test_closed_input_that_is_asked_for(decided):
    assert "standard input is closed" in told(
        shell("ftllm decide run - <&-", decided[0])
    )


def test_where_decisions_go(decided):
    "A FIFO, a link, a full device and a file of mode 0600 stay what they are"
    folder, done = decided
    decide = ("decide", folder / "run", folder / "new.jsonl", "-o")
    (folder / "secret").write_text("old")
    (folder / "secret").chmod(0o600)
    (folder / "link").symlink_to("secret")
    assert here(*decide, folder / "link") == done
    assert (folder / "link").is_symlink()
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    os.mkfifo(folder / "fifo")
    got = []
    reader = threading.Thread(
        target=lambda: got.append((folder / "fifo").read_text()), daemon=True
    )
    reader.start()
    assert here(*decide, folder / "fifo") == done
    reader.join(30)
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    assert got == [(folder / "secret").read_text()] and got[0].count("\n") == 300
    full = full_device(folder)
    assert here(*decide, full) == 2
    assert stat.S_ISCHR(os.stat(full).st_mode)


def test_an_open_file_is_gone_on_with(decided):
    folder, done = decided
    line = "echo first > log; ftllm decide run new.jsonl -o /dev/stdout >> log"
    assert shell(line, folder).returncode == done
    lines = (folder / "log").read_text().splitlines()
    assert lines[0] == "first" and len(lines) == 301


@pytest.mark.skipif(sys.platform != "linux", reason="a pipe that signals its reader")
def test_an_interrupt_prints_nothing_twice():
    "The signal comes with the write itself: between its end and what Python does next"
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(reader, fcntl.F_SETSIG, signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    out = io.TextIOWrapper(Output(writer))
    try:
        for i in range(5):
            with pytest.raises(KeyboardInterrupt):
                print(i, file=out, flush=True)
                time.sleep(1)
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)
        out.flush()
        assert os.read(reader, 100) == b"0\n1\n2\n3\n4\n"
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(reader)
        os.close(writer)
