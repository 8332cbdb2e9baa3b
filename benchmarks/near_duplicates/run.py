"""Near-duplicates of BANKING77: how many are found, and what it takes, beside others"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH

from fine_tune_llm.data import near_duplicates
from fine_tune_llm.data.near_duplicates import near_pairs

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import about  # noqa: E402

DATA = Path(os.environ.get("FTLLM_DATA", HERE.parents[2] / "shared/data"))
THRESHOLDS = (0.9, 0.8, 0.7)
TIMES = 3


def questions():
    lines = (DATA / "banking77" / "train.jsonl").read_text("utf-8").splitlines()
    folded = near_duplicates._folded  # what near_pairs compares
    return sorted({folded(json.loads(line)["text"]) for line in lines})


def all_pairs(texts, threshold):
    "All pairs compared, by one product of sparse matrices"
    table, _ = near_duplicates._table(texts)
    sizes = np.diff(table.indptr)
    found = set()
    for start in range(0, len(texts), 500):
        both = (table[start : start + 500] @ table.T).tocoo()
        i, j = both.row + start, both.col
        near = both.data / (sizes[i] + sizes[j] - both.data) >= threshold
        near &= i < j
        found |= set(zip(i[near].tolist(), j[near].tolist(), strict=True))
    return found


def datasketch(texts, threshold):
    "The library's loop: insert every text, ask for every text; not verified"
    shingles = [{text[i : i + 3].encode() for i in range(len(text))} for text in texts]
    lsh = MinHashLSH(threshold=threshold, num_perm=128)
    hashes = MinHash.bulk(shingles, num_perm=128, seed=1)
    for row, one in enumerate(hashes):
        lsh.insert(row, one)
    asked = ((row, other) for row, one in enumerate(hashes) for other in lsh.query(one))
    return {(i, j) for i, j in asked if i < j}


def ours(texts, threshold):
    return set(map(tuple, near_pairs(texts, threshold).tolist()))


def measured(way, texts, threshold):
    seconds = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        found = way(texts, threshold)
        seconds.append(time.perf_counter() - begun)
    return found, round(float(np.median(seconds)), 3)


def main():
    texts = questions()
    near_pairs(texts[:10])  # the table of punctuation is made once
    rows = []
    for threshold in THRESHOLDS:
        truth, needed = measured(all_pairs, texts, threshold)
        row = {"threshold": threshold, "pairs": len(truth), "all_pairs_s": needed}
        for name, way in (("near_pairs", ours), ("datasketch", datasketch)):
            found, seconds = measured(way, texts, threshold)
            row[name] = {
                "found": len(found & truth),
                "false": len(found - truth),
                "seconds": seconds,
            }
        rows.append(row)
        print(row)
    said = {"texts": len(texts), "rows": rows, **about("numpy", "scipy", "datasketch")}
    path = HERE / "results" / "near_duplicates.json"
    path.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
