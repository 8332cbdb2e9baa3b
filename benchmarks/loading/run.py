"""A file that is larger than memory, read by `load` and by `datasets`

See README.md beside this file.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
from machine import about  # noqa: E402

PACKAGES = ("pyarrow", "datasets", "numpy")
WORDS = (
    "card payment transfer refund account balance pending declined top up exchange "
    "rate fee statement cash machine verify identity app phone passcode limit "
    "delivery country abroad charge twice missing salary direct debit größer "
)
SEED = 20261129
BLOCK = 5_000  # rows that are drawn; each block has its own numbers


def write_rows(path, n_bytes):
    "JSON lines of some 30 to 90 words, seven classes, an id; about so many bytes"
    rng = random.Random(SEED)
    words = WORDS.split()
    texts = [" ".join(rng.choices(words, k=rng.randint(30, 90))) for _ in range(BLOCK)]
    number = 0
    with open(path, "w", encoding="utf-8") as file:
        while file.tell() < n_bytes:
            rows = []
            for text in texts:
                row = {
                    "id": f"m{number}",
                    "text": f"{text} {number}",
                    "label": f"class {number % 7}",
                    "channel": "mail",
                }
                rows.append(json.dumps(row, ensure_ascii=False))
                number += 1
            file.write("\n".join(rows) + "\n")
    return number


def read_by_us(path, folder):
    from fine_tune_llm.data import load

    begun = time.perf_counter()
    data = load(path)
    return data.texts, len(data), time.perf_counter() - begun


def read_by_us_whole(path, folder):
    from fine_tune_llm.data import Limits, load

    begun = time.perf_counter()
    limits = Limits(in_memory=2**40, max_whole_bytes=2**40, max_whole_rows=10**9)
    data = load(path, limits=limits)
    return data.texts, len(data), time.perf_counter() - begun


def read_by_datasets(path, folder):
    import datasets

    datasets.disable_progress_bars()
    begun = time.perf_counter()
    how = {"split": "train", "cache_dir": str(folder / "cache")}
    data = datasets.load_dataset("json", data_files=str(path), **how)
    return data, len(data), time.perf_counter() - begun


READERS = {
    "load": read_by_us,
    "load_in_memory": read_by_us_whole,
    "datasets": read_by_datasets,
}


def peak():
    "Largest memory of this process so far, MiB"
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def read_in_this_process(name, path, folder):
    "Figures of one reader, as JSON on standard output"
    at_start = peak()
    rows, n_rows, seconds = READERS[name](path, folder)
    cpu = time.process_time()  # of all threads, imports included
    after_load = peak()
    begun = time.perf_counter()
    if name == "datasets":
        n_chars = sum(sum(map(len, part["text"])) for part in rows.iter(10_000))
    else:
        n_chars = sum(map(len, rows))
    figures = {
        "rows": n_rows,
        "characters": n_chars,
        "load_s": round(seconds, 2),
        "cpu_s": round(cpu, 2),
        "rows_per_s": round(n_rows / seconds),
        "mb_per_s": round(path.stat().st_size / seconds / 1e6, 1),
        "all_texts_s": round(time.perf_counter() - begun, 2),
        "start_mib": at_start,
        "peak_load_mib": after_load,
        "peak_mib": peak(),
    }
    print(json.dumps(figures))


def figures_of(name, path, folder):
    "One reader in a process of its own"
    code = [sys.executable, __file__, "--read", name, "--file", str(path)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder)}
    env["PYTHONPATH"] = os.pathsep.join(
        [str(HERE.parent.parent), env.get("PYTHONPATH", "")]
    )
    done = subprocess.run(code, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def measured(asked):
    "All readers in turn, on one file"
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        path = Path(folder) / "rows.jsonl"
        n_rows = write_rows(path, asked.gb * 1e9)
        found = {name: [] for name in asked.readers}
        for _ in range(asked.rounds):
            for name in asked.readers:
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    link = Path(own) / "rows.jsonl"
                    os.link(path, link)
                    found[name].append(figures_of(name, link, Path(own)))
        size = path.stat().st_size
    seen = {(f["rows"], f["characters"]) for rows in found.values() for f in rows}
    assert len(seen) == 1 and seen.pop()[0] == n_rows
    return {
        "about": about(*PACKAGES),
        "seed": SEED,
        "bytes": size,
        "rows": n_rows,
        "readers": found,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=2.0, help="size, 1e9 bytes")
    parser.add_argument("--rounds", type=int, default=2, help="times each one reads")
    parser.add_argument("--readers", nargs="+", default=["load", "datasets"])
    parser.add_argument("--folder", type=Path, help="where the file is made")
    parser.add_argument("--read", help="one reader in this process")
    parser.add_argument("--file", type=Path)
    asked = parser.parse_args()
    if asked.read:
        read_in_this_process(asked.read, asked.file, asked.file.parent)
        return
    out = HERE / "results" / f"jsonl_{asked.gb:g}_gb.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(measured(asked), indent=1) + "\n")


if __name__ == "__main__":
    main()
