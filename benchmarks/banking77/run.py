"BANKING77 through the whole journey; see README.md beside this file"

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent)]
from machine import about  # noqa: E402

DATA = Path(os.environ.get("FTLLM_DATA", ROOT.parent / "shared" / "data")) / "banking77"


def asked():
    "What is to be run"
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--epochs", type=int, default=3)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument(
        "--members", type=int, default=1, help="adapters that speak as one"
    )
    ask.add_argument("--all-rows", action="store_true", help="valid.jsonl, too")
    ask.add_argument("--out", default=None)
    return ask.parse_args()


def rows_to_fit(folder, *, every):
    "The train file, which here is parted from 1,000 of its rows, or all of it"
    parts = [DATA / "train.jsonl", DATA / "valid.jsonl"]
    if not every:
        return parts[0]
    whole = folder / "train.jsonl"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    return whole


def main():
    a = asked()
    if not DATA.is_dir():
        sys.exit(f"skipped: BANKING77 is not here ({DATA}); set FTLLM_DATA")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from fine_tune_llm.core.events import StageFinished
    from fine_tune_llm.evaluation.auditing import audit
    from fine_tune_llm.run.journey import fit

    settings = dict(
        alpha=0.05, target_risk=0.05, delta=0.1, epochs=a.epochs, seed=a.seed
    )
    work = Path(tempfile.mkdtemp())
    start = time.perf_counter()
    run = fit(
        rows_to_fit(work, every=a.all_rows),
        test=DATA / "test.jsonl",
        out=a.out or work / "banking77",
        progress=False,
        config={"training.members": a.members},
        **settings,
    )
    seconds = time.perf_counter() - start
    e = audit(run)
    s = e["selective"]
    stage = {x.stage: x.seconds for x in run.events(StageFinished)}
    result = dict(
        settings=settings | {"members": a.members},
        rows=e["data"]["roles"],
        accuracy=e["performance"]["accuracy"],
        tfidf=e["performance"]["baselines"]["tfidf"],
        ece=dict(
            before=e["calibration"]["before"]["ece"],
            after=e["calibration"]["after"]["ece"],
            temperature=e["calibration"]["temperature"],
        ),
        nll={when: e["calibration"][when]["nll"] for when in ("before", "after")},
        coverage={
            k: e["coverage"][k]
            for k in ("alpha", "coverage", "band", "inside", "mean_set_size")
        },
        selective=dict(certificate=s["certificate"], test=s["test"]),
        seconds=round(seconds, 1),
        stages=stage,
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        about=about("torch", "transformers", "peft", "scikit-learn", "numpy"),
    )
    store(result, a)


def store(result, asked):
    (HERE / "results").mkdir(exist_ok=True)
    name = "banking77"
    if (asked.members, asked.seed) != (1, 0):
        name += f"_{asked.members}_members_seed_{asked.seed}"
    if asked.all_rows:
        name += "_all_rows"
    said = json.dumps(result, indent=1)
    (HERE / "results" / f"{name}.json").write_text(said + "\n", encoding="utf-8")
    print(said)


if __name__ == "__main__":
    main()
