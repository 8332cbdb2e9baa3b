"Metrics on real model outputs: intervals hold, streams over processes are exact"
from concurrent.futures import ProcessPoolExecutor
from functools import reduce

import numpy as np
import pytest

from fine_tune_llm.metrics import METRICS, StreamingCalibration, interval, ks_test, kuiper_test, murphy, spiegelhalter_test, summary


@pytest.fixture(scope='module')
def vgg(real_data):
    f = np.load(real_data/'cifar10_vgg'/'cifar10_test_probs.npz')
    return f['probs'], f['labels']


def test_intervals_hold_the_value_of_all_rows(vgg):
    "100 samples of 500 of the 10,000 rows: each 90% interval holds the number of all rows as often as it says, less 4 sigma"
    p,y = vgg; rng = np.random.default_rng(0); picks = [rng.integers(len(y), size=500) for _ in range(100)]
    for name in ('accuracy', 'nll', 'ece', 'aurc', 'confidence_auroc', 'selective_risk_at'):
        truth = METRICS.get(name)(p, y)
        held = np.mean([truth in interval(name, p[i], y[i], .9, seed=j, draws=100) for j,i in enumerate(picks)])
        assert held >= .9-4*(.09/100)**.5, (name, held)


def test_over_confidence_is_found(vgg):
    "These outputs are known to be over-confident (ECE .04 at 10,000 rows); the Brier score's parts add up"
    assert all(t(*vgg).p_value < 1e-6 for t in (ks_test, kuiper_test, spiegelhalter_test))
    s = summary(*vgg, names=('brier', 'overconfidence', 'underconfidence', 'ece'))
    assert s['overconfidence'] > 10*s['underconfidence'] and s['overconfidence']+s['underconfidence'] == pytest.approx(s['ece'], abs=1e-12)
    assert murphy(*vgg).brier == pytest.approx(s['brier'], abs=1e-12)


def _part(rows): return StreamingCalibration().update(*rows)


def test_processes_give_the_same_bits(vgg):
    "Eight uneven shuffled parts, each summed in another process, merged in the order they come"
    p,y = vgg; rng = np.random.default_rng(1); parts = np.split(rng.permutation(len(y)), np.sort(rng.integers(1, len(y), 7)))
    with ProcessPoolExecutor(2) as pool: whole = reduce(lambda a, b: a.merge(b), pool.map(_part, [(p[i], y[i]) for i in parts if len(i)]))
    assert whole.summary() == summary(p, y)
