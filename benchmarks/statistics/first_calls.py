"""What the first calls of compiled loops cost

With nothing on disk, and in the next process, which reads what the first one left.

python benchmarks/statistics/first_calls.py
"""

import json
import os
import subprocess
import sys
import tempfile
import time

from common import arguments, save, seconds_of

WHAT = "seconds that the first call takes beyond the second"


def calls():
    "The functions that a process calls first"
    import numpy as np

    from fine_tune_llm.stats.bounds import upper_bound
    from fine_tune_llm.stats.calibration_error import ece
    from fine_tune_llm.stats.conformal import ConformalClassifier
    from fine_tune_llm.stats.martingales import ConformalMartingale
    from fine_tune_llm.stats.temperature import TemperatureScaling
    from fine_tune_llm.testing import synthetic_problem

    problem = synthetic_problem(11_000, 100, seed=0)
    logits, y = problem.logits.astype(np.float32), problem.labels
    probs = problem.true_probs.astype(np.float32)
    conf = probs.max(1)
    lac, aps = ConformalClassifier(), ConformalClassifier("aps", seed=0)
    return dict(
        ece=lambda: ece(probs, y),
        temperature=lambda: TemperatureScaling().fit(logits, y),
        lac=lambda: lac.fit(probs, y).predict(probs),
        aps=lambda: aps.fit(probs, y).predict(probs),
        betting=lambda: upper_bound((conf < 0.5) * 0.5, method="wsr", seed=0),
        martingale=lambda: ConformalMartingale(seed=0).update(1 - conf),
    )


def measure():
    "Print what the first calls of this process cost"
    from fine_tune_llm.stats.kernels import compile_times

    beyond = {}
    for name, function in calls().items():
        first, second = seconds_of(function), seconds_of(function)
        beyond[name] = round(max(0.0, first - second), 3)
    print(json.dumps(dict(first_call_seconds=beyond, kernels=compile_times())))


def process(cache):
    "The first calls of a process of its own, with its compiled loops in `cache`"
    start = time.perf_counter()
    run = subprocess.run(
        [sys.executable, __file__, "--memory", "first", "calls"],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(run.stdout.splitlines()[-1])
    kernels = found.pop("kernels").values()
    return dict(
        found,
        kernels_compiled=sum(cost["compiled"] for cost in kernels),
        kernels_from_disk=sum(cost["from_disk"] for cost in kernels),
        process_seconds=round(time.perf_counter() - start, 2),
    )


def main():
    if arguments().memory:  # the process that is measured
        measure()
        return
    with tempfile.TemporaryDirectory() as cache:
        nothing, then = process(cache), process(cache)
        save("first_calls", dict(what=WHAT, nothing_on_disk=nothing, next_process=then))


if __name__ == "__main__":
    main()
