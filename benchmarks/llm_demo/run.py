"The demo with a language model as a process of its own: time, memory, results"

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
from machine import about  # noqa: E402


def run_demo(folder, seed):
    "Wall seconds, and the most memory that the process held, in GiB"
    words = ["demo", "--model", "smollm2", "--out", str(folder), "--seed", str(seed)]
    code = f"from fine_tune_llm.cli import main; main({words!r})"
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {"seconds": round(seconds, 1), "peak_gib": round(peak, 2)}


def results_of(folder):
    "What the audit of a run says"
    found = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    bag = found["performance"]["baselines"]["tfidf"]["difference"]
    return {
        "stages": stage_seconds(folder),
        "accuracy": found["performance"]["accuracy"],
        "gain": found["training"]["gain"]["said"],
        "less_tfidf": bag,
        "calibration": found["calibration"],
        "selective": found["selective"],
    }


def stage_seconds(folder):
    "Seconds of each stage of the fit"
    from fine_tune_llm.core.event_store import EventStore

    with EventStore(folder / "events.db") as store:
        done = store.query("system.stage_finished", limit=100)
    return {event.data["stage"]: event.data["seconds"] for event in done}


def largest_differences(folder, n_texts=48):
    "Probabilities of test texts in fp32: loaded, merged, and merged, saved and loaded"
    import numpy as np

    from fine_tune_llm.models.ensembles import load_trained
    from fine_tune_llm.models.text_model import load_merged
    from fine_tune_llm.run.directory import Run
    from fine_tune_llm.stats.arrays import softmax

    run = Run.load(folder, device="cpu")
    texts = [str(text) for text in run.predictions("test").texts[:n_texts]]
    places = folder / "adapter", folder / "tokenizer"
    length = run.config.model.max_length
    model = load_trained(run.config.model.name, *places, max_length=length)
    said = {"loaded": softmax(model.logits(texts))}
    model = model.merged()
    said["merged"] = softmax(model.logits(texts))
    with tempfile.TemporaryDirectory() as there:
        new = Path(there) / "model", Path(there) / "tokenizer"
        model.save(*new)
        again = load_merged(*new, max_length=length)
        said["merged, saved and loaded"] = softmax(again.logits(texts))
    first = said.pop("loaded")
    return {name: float(np.abs(probs - first).max()) for name, probs in said.items()}


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--keep", type=Path, default=None, help="folder for the run")
    asked = ask.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp()) / "demo"
    result = {"about": about("torch", "transformers", "peft"), "seed": asked.seed}
    result |= run_demo(folder, asked.seed)
    result |= results_of(folder)
    result["largest_difference_of_probabilities"] = largest_differences(folder)
    text = json.dumps(result, indent=1) + "\n"
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"seed_{asked.seed}.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
