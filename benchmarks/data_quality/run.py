"""What checks of a data set take, and how many planted label errors they find"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues

from fine_tune_llm.data import CHECKS, Inspected, check_data, load

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import about  # noqa: E402

DATA = Path(os.environ.get("FTLLM_DATA", HERE.parents[2] / "shared/data"))
SHARES = (0.01, 0.02, 0.05)


def timed(data):
    "Check -> seconds of processor time, in one go"
    rows = Inspected(data, seed=0)
    seconds = {}
    for name in sorted(CHECKS):
        begun = time.process_time()
        list(CHECKS.get(name)(rows))
        seconds[name] = round(time.process_time() - begun, 3)
    return seconds


def planted(data, share):
    "Labels of a share of the rows changed at random: how many are found"
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(data), int(share * len(data)), replace=False)
    n_classes = len(data.classes)
    labels = data.labels.copy()
    shift = rng.integers(1, n_classes, len(wrong))
    labels[wrong] = (labels[wrong] + shift) % n_classes
    spoilt = replace(data, labels=labels)
    (found,) = check_data(spoilt, checks=["wrong_labels"], seed=0).findings
    ours, truth = set(found.rows), set(wrong.tolist())
    probs = Inspected(spoilt, seed=0).probs
    mask = find_label_issues(labels, probs, filter_by="confident_learning")
    theirs = set(np.flatnonzero(mask).tolist())
    return {
        "share": share,
        "planted": len(truth),
        "found": len(ours),
        "of_planted": len(ours & truth),
        "cleanlab_found": len(theirs),
        "cleanlab_of_planted": len(theirs & truth),
        "found_by_one_only": len(ours ^ theirs),
    }


def main():
    data = load(DATA / "banking77" / "train.jsonl")
    timed(data.take(np.arange(0, len(data), 10)))  # imports and tables are made once
    seconds = timed(data)
    said = {
        "rows": len(data),
        "classes": len(data.classes),
        "seconds": seconds,
        "seconds_in_all": round(sum(seconds.values()), 1),
        "label_errors": [planted(data, share) for share in SHARES],
        **about("numpy", "scikit-learn", "cleanlab"),
    }
    print(json.dumps(said, indent=1))
    path = HERE / "results" / "data_quality.json"
    path.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
