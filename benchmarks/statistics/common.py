"""What the scripts of this study share

Contestants timed in turns, memory of a process of its own, results with their
circumstances.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import types
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = (
    "mapie",
    "torchcp",
    "fairlearn",
    "netcal",
    "probmetrics",
    "torchmetrics",
    "crepes",
    "venn-abers",
    "scikit-learn",
    "torch",
    "numpy",
    "numba",
    "scipy",
)


def arguments():
    "`--quick`: smaller, to see that it runs; `--memory CASE NAME`: one peak alone"
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--memory", nargs=2, metavar=("CASE", "NAME"))
    parser.add_argument(
        "--promises", action="store_true", help="only what is not timed, into the rest"
    )
    return parser.parse_args()


def import_torchcp():
    """torchcp's classification part alone

    Without its graph part, which needs torch_geometric, and without torchsort, which
    one of its losses needs and which takes a compiler to install.
    """
    if "torchcp" in sys.modules:
        return
    no_sort = types.SimpleNamespace(soft_rank=None, soft_sort=None)
    sys.modules.setdefault("torchsort", no_sort)
    bare = types.ModuleType("torchcp")
    bare.__path__ = importlib.util.find_spec("torchcp").submodule_search_locations
    sys.modules["torchcp"] = bare


def seconds_of(function):
    "Wall time of one call"
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def race(contestants, repeats=5, warm=1):
    """Seconds of functions called in turns: name -> dict(median, best, times)

    A value may be (function, repeats) for a slow one.
    """
    runs = {
        name: run if isinstance(run, tuple) else (run, repeats)
        for name, run in contestants.items()
    }
    for function, _ in runs.values():
        for _ in range(warm):
            function()
    times = {name: [] for name in runs}
    for turn in range(max(turns for _, turns in runs.values())):
        for name, (function, turns) in runs.items():
            if turn < turns:
                times[name].append(seconds_of(function))
    return {name: _summary(taken) for name, taken in times.items()}


def _summary(taken):
    return dict(
        median=statistics.median(taken),
        best=min(taken),
        times=[round(seconds, 6) for seconds in taken],
    )


def peak_mb(script, case, name, quick=False):
    """Peak resident memory of one contestant in a process of its own, in MB

    The script answers `--memory CASE NAME` by running it once and printing `peak()`.
    """
    words = [sys.executable, script, "--memory", case, name]
    if quick:
        words.append("--quick")
    run = subprocess.run(words, capture_output=True, text=True)
    return float(run.stdout.split()[-1]) if run.returncode == 0 else run.stderr[-300:]


def peak():
    "Peak resident memory of this process, in MB (`ru_maxrss` begins at the parent's)"
    with open("/proc/self/status") as file:
        lines = [line for line in file if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024


def bandwidth():
    """GB/s that all threads together read from memory, for rooflines

    The best of five sums over 400 MB of float32.
    """
    import numpy as np

    from fine_tune_llm.stats.kernels import by_rows, kernel

    x = np.ones((100_000, 1000), np.float32)

    @kernel(reassociate=True)
    def total(x, start, stop):
        s = 0.0
        for i in range(start, stop):
            for j in range(x.shape[1]):
                s += x[i, j]
        return s

    def read():
        return by_rows(lambda start, stop: total(x, start, stop), *x.shape)

    return x.nbytes / race(dict(read=read))["read"]["best"] / 1e9


def _versions():
    "Installed peers and their versions"
    found = {}
    for package in PEERS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu():
    "The processor's name"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor()


def circumstances():
    "Machine, versions, date and commit"
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    machine = dict(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
    )
    return dict(
        machine=machine,
        versions=_versions(),
        date=time.strftime("%Y-%m-%d"),
        commit=head.stdout.strip(),
    )


def save(name, result):
    """Write `results/NAME.json` and show it

    With `--quick` into the temporary folder, for such numbers say nothing.
    """
    folder = HERE / "results"
    if "--quick" in sys.argv:
        folder = Path(tempfile.gettempdir()) / "statistics-quick"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**result, **circumstances()}, indent=1)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(f"written to {folder / f'{name}.json'}", file=sys.stderr)
