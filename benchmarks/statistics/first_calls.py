"""What the first calls of compiled loops cost: with nothing on disk, and in the next process, which reads what the first one left

python benchmarks/statistics/first_calls.py
"""

import json
import os
import subprocess
import sys
import tempfile
import time

from common import arguments, save

CALLS = """
import json, sys, time
import numpy as np
from fine_tune_llm.stats.bounds import upper_bound
from fine_tune_llm.stats.temperature import TemperatureScaling
from fine_tune_llm.stats.conformal import ConformalClassifier
from fine_tune_llm.stats.martingales import ConformalMartingale
from fine_tune_llm.stats.kernels import compile_times
from fine_tune_llm.stats.calibration_error import ece
from fine_tune_llm.testing import synthetic_problem
s = synthetic_problem(11_000, 100, seed=0); z = s.logits.astype(np.float32); p = s.true_probs.astype(np.float32); y = s.labels
calls = dict(ece=lambda: ece(p, y), temperature=lambda: TemperatureScaling().fit(z, y), lac=lambda: ConformalClassifier().fit(p, y).predict(p), aps=lambda: ConformalClassifier('aps', seed=0).fit(p, y).predict(p),
             betting=lambda: upper_bound((p.max(1) < .5)*.5, method='wsr', seed=0), martingale=lambda: ConformalMartingale(seed=0).update(1-p.max(1)))
out = {}
for name,f in calls.items(): start = time.perf_counter(); f(); first = time.perf_counter(); f(); out[name] = max(0., first-start-(time.perf_counter()-first))
print(json.dumps(dict(first_call_seconds={k: round(v, 3) for k,v in out.items()}, kernels=compile_times())))
"""


def process(cache):
    start = time.perf_counter()
    r = subprocess.run(
        [sys.executable, "-c", CALLS],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    d = json.loads(r.stdout.splitlines()[-1])
    k = d.pop("kernels").values()
    return dict(
        d,
        kernels_compiled=sum(x["compiled"] for x in k),
        kernels_from_disk=sum(x["from_disk"] for x in k),
        process_seconds=round(time.perf_counter() - start, 2),
    )


def main():
    arguments()
    with tempfile.TemporaryDirectory() as d:
        save(
            "first_calls",
            dict(
                what="seconds that the first call takes beyond the second",
                nothing_on_disk=process(d),
                next_process=process(d),
            ),
        )


if __name__ == "__main__":
    main()
