"What the scripts of this study share: contestants timed in turns, memory of a process of its own, results with their circumstances"

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
    "`--quick`: smaller, to see that it runs; `--memory CASE NAME`: one contestant alone, for its peak memory"
    a = argparse.ArgumentParser()
    a.add_argument("--quick", action="store_true")
    a.add_argument("--memory", nargs=2, metavar=("CASE", "NAME"))
    return a.parse_args()


def import_torchcp():
    "torchcp's classification part, without its graph part, which needs torch_geometric, and without torchsort, which one of its losses needs and which takes a compiler to install"
    if "torchcp" in sys.modules:
        return
    sys.modules.setdefault(
        "torchsort", types.SimpleNamespace(soft_rank=None, soft_sort=None)
    )
    bare = types.ModuleType("torchcp")
    bare.__path__ = importlib.util.find_spec("torchcp").submodule_search_locations
    sys.modules["torchcp"] = bare


def race(contestants, repeats=5, warm=1):
    "Seconds of functions called in turns: name -> dict(median, best, times). A value may be (function, repeats) for a slow one"
    runs = {
        k: v if isinstance(v, tuple) else (v, repeats) for k, v in contestants.items()
    }
    for f, _ in runs.values():
        for _ in range(warm):
            f()
    times = {k: [] for k in runs}
    for turn in range(max(r for _, r in runs.values())):
        for k, (f, r) in runs.items():
            if turn < r:
                start = time.perf_counter()
                f()
                times[k].append(time.perf_counter() - start)
    return {
        k: dict(
            median=statistics.median(t), best=min(t), times=[round(x, 6) for x in t]
        )
        for k, t in times.items()
    }


def peak_mb(script, case, name, quick=False):
    "Peak resident memory of one contestant in a process of its own, in MB; the script answers `--memory CASE NAME` by running it once and printing `peak()`"
    r = subprocess.run(
        [
            sys.executable,
            script,
            "--memory",
            case,
            name,
            *(["--quick"] if quick else []),
        ],
        capture_output=True,
        text=True,
    )
    return float(r.stdout.split()[-1]) if r.returncode == 0 else r.stderr[-300:]


def peak():
    "Peak resident memory of this process, in MB (`ru_maxrss` would begin at the parent's peak)"
    with open("/proc/self/status") as f:
        return (
            next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024
        )


def bandwidth():
    "GB/s that all threads together read from memory: the best of five sums over 400 MB of float32, for rooflines"
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

    best = race(dict(read=lambda: by_rows(lambda a, b: total(x, a, b), *x.shape)))[
        "read"
    ]["best"]
    return x.nbytes / best / 1e9


def circumstances():
    "Machine, versions, date and commit"
    from importlib.metadata import PackageNotFoundError, version

    def have(p):
        try:
            return version(p)
        except PackageNotFoundError:
            return None

    with open("/proc/cpuinfo") as f:
        cpu = next(
            (line.split(":")[1].strip() for line in f if line.startswith("model name")),
            platform.processor(),
        )
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return dict(
        machine=dict(
            cpu=cpu,
            cores=len(os.sched_getaffinity(0)),
            python=platform.python_version(),
        ),
        versions={p: v for p in PEERS if (v := have(p))},
        date=time.strftime("%Y-%m-%d"),
        commit=commit,
    )


def save(name, result):
    "Write `results/NAME.json` and show it; with `--quick` into the temporary folder, for such numbers say nothing"
    folder = (
        Path(tempfile.gettempdir()) / "statistics-quick"
        if "--quick" in sys.argv
        else HERE / "results"
    )
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**result, **circumstances()}, indent=1)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(f"written to {folder / f'{name}.json'}", file=sys.stderr)
