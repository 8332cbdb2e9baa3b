"""50,000 files that are nearly right, each read: how did it end?

See README.md beside this file.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tests")]
from conftest import SETTINGS  # noqa: E402
from mutate import ALONE, is_right, mutations, outcome, readers  # noqa: E402

# Weighted by what a reading costs: a model is loaded for the files of an adapter
SHARES = {
    "settings.toml": 7000,
    "settings.json": 4500,
    "config.yaml": 6000,
    "history/0001.json": 9000,
    "predictions/test.parquet": 8000,
    "events.db": 6500,
    "rows.jsonl": 1750,
    "rows.csv": 1750,
    "rows.tsv": 1750,
    "rows.json": 1750,
    "certificate.json": 1000,
    "data.json": 600,
    "adapter/adapter_config.json": 80,
    "adapter/backend.json": 80,
    "adapter/adapter_model.safetensors": 80,
    "adapter/head.safetensors": 40,
    "tokenizer/tokenizer.json": 80,
    "tokenizer/tokenizer_config.json": 80,
}


def tiny_run(folder: Path) -> Path:
    "A finished run of a tiny random model"
    import fine_tune_llm as ft
    from fine_tune_llm.models.hub import quiet
    from fine_tune_llm.testing import tiny_model, toy_rows, toy_tokenizer

    rows = toy_rows(512)
    tokenizer = toy_tokenizer([row["text"] for row in rows])
    with quiet():
        bert = tiny_model("bert", seed=0, vocab_size=len(tokenizer))
        bert.save_pretrained(folder / "bert")
        tokenizer.save_pretrained(folder / "bert")
    given = dict(model=str(folder / "bert"), seed=0, epochs=1, target_risk=0.45)
    ft.fit(rows, out=folder / "run", config=SETTINGS, progress=False, **given)
    return folder / "run"


def fuzzed(run: Path, name: str, n: int, seed: int) -> dict:
    "How often each end came, the slowest reading, and what was wrong"
    read, is_json, codes = readers()[name]
    file = run / name
    if name in ALONE:
        file.write_bytes(ALONE[name])
    raw = file.read_bytes()
    ends, wrong, slowest = Counter(), [], 0.0
    for made in mutations(raw, n, seed, is_json=is_json):
        file.write_bytes(made)
        start = time.perf_counter()
        error = outcome(lambda: read(run))
        slowest = max(slowest, time.perf_counter() - start)
        ends[type(error).__name__ if error else "read"] += 1
        if not is_right(error, codes):
            wrong.append(repr(error)[:300])
    file.write_bytes(raw)
    said = dict(mutations=n, ends=dict(ends.most_common()), slowest_s=round(slowest, 2))
    return said | {"wrong": len(wrong), "examples": wrong[:5]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of 50,000")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = tiny_run(Path(folder))
        found = {}
        for name, share in SHARES.items():
            n = max(1, round(share * asked.scale))
            found[name] = fuzzed(run, name, n, asked.seed)
            print(name, found[name], flush=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.strip()
    result = dict(
        files=found,
        mutations=sum(one["mutations"] for one in found.values()),
        wrong=sum(one["wrong"] for one in found.values()),
        slowest_s=max(one["slowest_s"] for one in found.values()),
        seed=asked.seed,
        versions=dict(python=platform.python_version()),
        commit=commit,
    )
    text = json.dumps(result, indent=1) + "\n"
    (HERE / "results" / "fuzzing.json").write_text(text)
    print(f"{result['mutations']:,} mutations, {result['wrong']} wrong ends")


if __name__ == "__main__":
    main()
