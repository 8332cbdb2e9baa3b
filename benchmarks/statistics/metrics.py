"Metrics beside netcal, torchmetrics, relplot and MAPIE: the same arrays in one run, in turns. `--quick` is smaller, to see that it runs"
import json
import math
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from common import arguments, bandwidth, peak, peak_mb, race, save
from fine_tune_llm.kernels import compile_times
from fine_tune_llm.metrics import (METRICS, StreamingCalibration, accuracy, ace, aurc, auroc, brier, classwise_ece, conf_right, confidence_auroc, ece, interval, ks_test, kuiper_test, mce, murphy, nll,
                                   smooth_ece, spiegelhalter_test)

warnings.simplefilter('ignore')   # peers' own; this is a script and no library


def rows(n, K, seed=0):
    "Over-confident probabilities, float32, and labels"
    rng = np.random.default_rng(seed); p = np.empty((n, K), np.float32); y = np.empty(n, np.int64)
    for a in range(0, n, 20_000):
        z = rng.normal(scale=2.5, size=(min(20_000, n-a), K)).astype(np.float32); q = np.exp(z-z.max(1, keepdims=True)); q /= q.sum(1, keepdims=True)
        y[a:a+len(z)] = np.minimum((q.cumsum(1) < rng.uniform(size=(len(z), 1))).sum(1), K-1); q **= 1.5; p[a:a+len(z)] = q/q.sum(1, keepdims=True)
    return p, y


def torchmetrics_ece(p, y, K, n_bins=15):
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error
    return float(multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(y), num_classes=K, n_bins=n_bins, validate_args=False))


def netcal_ece(p, y, n_bins=15):
    from netcal.metrics import ECE
    return float(ECE(n_bins).measure(p, y))


def contestants(p, y):
    return dict(ours=lambda: ece(p, y), netcal=lambda: netcal_ece(p, y), torchmetrics=lambda: torchmetrics_ece(p, y, p.shape[1]))


def speed(n, K):
    "ECE-15 of one matrix, and what reading it once costs"
    p,y = rows(n, K); t = race(contestants(p, y), 7); gbs = bandwidth(); roof = p.nbytes/gbs/1e9
    m = {k: v['median'] for k,v in t.items()}
    return dict(n=n, K=K, seconds=t, times_netcal=m['netcal']/m['ours'], times_torchmetrics=m['torchmetrics']/m['ours'], bandwidth_gb_s=gbs, roof_seconds=roof, share_of_roof=roof/m['ours'],
                values={k: f() for k,f in contestants(p, y).items()})


def other_metrics(n, K):
    "Seconds of the other metrics on the same matrix, and of intervals"
    p,y = rows(n, K)
    fs = {f.__name__: partial(f, p, y) for f in (accuracy, nll, brier, mce, classwise_ece, murphy, smooth_ece, aurc, confidence_auroc)}
    fs = {k: (f, 3) for k,f in fs.items()} | dict(ace=(partial(ace, p, y), 1), interval_ece=(partial(interval, 'ece', p, y, seed=0), 1), interval_auroc=(partial(interval, 'confidence_auroc', p, y, seed=0), 1))
    return dict(n=n, K=K, seconds={k: v['median'] for k,v in race(fs).items()})


def accuracy_at(sizes):
    "Relative error of the ECE against exact sums: confidences in (.5, 1), two classes, float32"
    out = []
    for n in sizes:
        rng = np.random.default_rng(1); c = rng.uniform(.5, 1, n).astype(np.float32); p = np.c_[c, 1-c]; y = (rng.uniform(size=n) < .8*c).astype(int) ^ 1
        c = conf_right(p, y)[0]; at = np.searchsorted(np.linspace(0, 1, 16)[1:-1], c); order = np.argsort(at, kind='stable'); cut = np.searchsorted(at[order], np.arange(16))
        d = (c-(y == 0))[order]; truth = math.fsum(abs(math.fsum(d[a:b])) for a,b in zip(cut, cut[1:]))/n; del d, order, at
        out.append(dict(n=n, truth=truth, ours=ece(p, y)/truth-1, torchmetrics=torchmetrics_ece(p, y, 2)/truth-1))
    return out


def streams(batches, size, K):
    "Batches into an ECE: time, size of the state, and whether the order of batches changes the number"
    import torch
    from torchmetrics.classification import MulticlassCalibrationError
    data = [rows(size, K, seed) for seed in range(batches)]; tensors = [(torch.from_numpy(p), torch.from_numpy(y)) for p,y in data]
    def ours(data=data):
        s = StreamingCalibration()
        for p,y in data: s.update(p, y)
        s.summary(); return s
    def theirs(data=tensors):
        m = MulticlassCalibrationError(K, n_bins=15, validate_args=False)
        for p,y in data: m.update(p, y)
        m.compute(); return m
    t = race(dict(ours=ours, torchmetrics=theirs), 5); m = theirs(); state = sum(x.numel()*x.element_size() for v in (m.confidences, m.accuracies) for x in v)
    back,turned = ours(data[::-1]), theirs(tensors[::-1])
    return dict(batches=batches, rows_per_batch=size, K=K, seconds=t, what="ours: accuracy, NLL, Brier, ECE and MCE; torchmetrics: ECE", state_bytes=dict(ours=len(pickle.dumps(ours())), torchmetrics=state),
                json_bytes=len(json.dumps(back.to_dict())), reversed_is_equal=dict(ours=back.summary() == ours().summary(), torchmetrics=float(turned.compute()) == float(m.compute())))


def agreement(n):
    "The same numbers as peers where both exist"
    from mapie.metrics import calibration as mc
    from netcal.metrics import MCE
    from relplot import smECE
    p,y = rows(n, 5); p = p.astype(np.float64); p /= p.sum(1, keepdims=True); c,r = conf_right(p, y); r1 = r.astype(int)
    pairs = dict(ece_netcal=(ece(p, y), netcal_ece(p, y)), mce_netcal=(mce(p, y), float(MCE(15).measure(p, y))), ece_torchmetrics=(ece(p, y), torchmetrics_ece(p, y, 5)), smooth_ece_relplot=(smooth_ece(p, y), float(smECE(c, r1))))
    few = slice(0, 400)
    for f,g in ((ks_test, mc.kolmogorov_smirnov_p_value), (kuiper_test, mc.kuiper_p_value), (spiegelhalter_test, mc.spiegelhalter_p_value)):
        pairs[f"{f.__name__}_p_mapie"] = f(p[few], y[few]).p_value, float(g(r1[few], c[few]))
    pairs['auroc_sklearn'] = auroc(c, r), float(__import__('sklearn.metrics').metrics.roc_auc_score(r, c))
    t = race(dict(ours=lambda: smooth_ece(p, y), relplot=lambda: smECE(c, r1)), 3)
    return dict(n=n, ours_and_peer=pairs, smooth_ece_seconds={k: v['median'] for k,v in t.items()})


def population(acc):
    rows = [(c, k, i >= a*1000) for c,a in zip((.55, .65, .75, .85, .95), acc) for k in (0, 1) for i in range(1000)]
    return np.array([[c, 1-c] if k == 0 else [1-c, c] for c,k,_ in rows]), np.array([k ^ wrong for _,k,wrong in rows]).astype(int)


POPULATIONS = dict(calibrated=(.55, .65, .75, .85, .95), over=(.55, .62, .7, .75, .8), mixed=(.65, .7, .75, .85, .9))


def held(job):
    "How often the 90% interval of a metric holds the population's value, over samples of 250 rows"
    name,kind,sets = job; pop = population(POPULATIONS[kind]); truth,rng = METRICS.create(name)(*pop), np.random.default_rng(10)
    hit = [truth in interval(name, pop[0][i], pop[1][i], .9, seed=j, draws=200) for j in range(sets) for i in [rng.integers(10_000, size=250)]]
    return name, kind, float(np.mean(hit))


def coverage(sets):
    names = [n for n in METRICS if n not in ('top_k_accuracy', 'e_aurc')]; jobs = [(n, k, sets) for n in names for k in POPULATIONS]
    with ProcessPoolExecutor(2) as pool: out = list(pool.map(held, jobs))
    return dict(level=.9, rows=250, sets=sets, tolerance_3_sigma=3*(.09/sets)**.5, held={n: {k: v for m,k,v in out if m == n} for n in names})


if __name__ == '__main__':
    a = arguments(); n,K = (20_000, 200) if a.quick else (100_000, 1000)
    if a.memory:
        p,y = rows(n, K); contestants(p, y)[a.memory[1]]() if a.memory[1] != 'input' else None; print(peak())
    else:
        memory = {k: peak_mb(__file__, 'ece', k, a.quick) for k in ('input', 'ours', 'netcal', 'torchmetrics')}
        result = dict(ece=speed(n, K), peak_mb=memory, accuracy=accuracy_at((100_000, 1_000_000) if a.quick else (1_000_000, 3_000_000, 10_000_000)), stream=streams(*((10, 1000, 20) if a.quick else (50, 20_000, 100))),
                      agreement=agreement(2000 if a.quick else 100_000), others=other_metrics(n, K), coverage=coverage(40 if a.quick else 200), first_calls=compile_times())
        save('metrics', result)
