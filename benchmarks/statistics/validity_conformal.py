"""Are the promises of prediction sets kept?

Coverage over 1,000 resplits of real outputs and 1,000 fresh problems of known truth,
for every score and condition, with both treatments of cells with too few rows; and the
same sets as torchcp and MAPIE, label for label.

FTLLM_DATA=... python benchmarks/statistics/validity_conformal.py [--quick]
"""

import functools
import os
import warnings
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import ROOT, arguments, import_torchcp, save
from conformal import mapie_fitted

from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.conformal import ConformalClassifier
from fine_tune_llm.stats.conformal_cells import cells_of, has_groups
from fine_tune_llm.stats.quantiles import conformal_rank, coverage, covered, set_size
from fine_tune_llm.stats.scores import row_uniforms
from fine_tune_llm.testing import synthetic_problem

SCORES = "lac", "aps", "raps", "saps", "margin", "topk", "entropy-adaptive"
RANDOM = "aps", "raps", "saps", "topk"
CONDITIONS = None, "class", "group", "class+group", "cluster"


@dataclass(frozen=True)
class Job:
    "One study: where its rows come from, and what is asked of them"

    source: str  # "synthetic" or "cifar10_vgg"
    n: int  # Rows to calibrate on, and as many to test on
    score: str
    randomize: bool
    condition: str | None
    rare: str
    times: int


@functools.cache
def real():
    folder = Path(os.environ.get("FTLLM_DATA", ROOT.parent / "shared" / "data"))
    found = np.load(folder / "cifar10_vgg" / "cifar10_test_probs.npz")
    return found["probs"], found["labels"]


def draw(source, i, n):
    "Calibration and test rows number `i`, with groups that differ in difficulty"
    if source == "synthetic":
        problem = synthetic_problem(2 * n, 6, temperature=2.0, seed=i)
        probs, labels = softmax(problem.logits), problem.labels
    else:
        probs, labels = real()
        order = np.random.default_rng(i).permutation(len(labels))[: 2 * n]
        probs, labels = probs[order], labels[order]
    groups = np.where(probs[:, 0] > probs[:, 1], "a", "b")
    halves = slice(n), slice(n, None)
    return [(probs[rows], labels[rows], groups[rows]) for rows in halves]


def excess_by_cell(cells, hit, groups, labels):
    "Cell -> coverage less what it must be on average, where it is promised"
    group = np.zeros(len(labels), np.int64)
    if has_groups(cells.condition):
        group = np.array([cells.groups.index(name) for name in groups])
    cell = np.broadcast_to(cells_of(cells.table, group, labels), hit.shape)
    excess = {}
    for k in np.unique(cell).tolist():
        if k >= 0 and not cells.too_few[0, k]:
            n = int(cells.n_rows[k])
            want = conformal_rank(n, 0.1) / (n + 1)
            excess[k] = float(hit[cell == k].mean()) - want
    return excess


def one(job, i):
    "(coverage, labels in a set, excess by cell) of one split"
    (probs, labels, groups), (new, truth, new_groups) = draw(job.source, i, job.n)
    grouped = has_groups(job.condition)
    clusters = dict(clusters=2, cluster_share=0.4) if job.condition == "cluster" else {}
    classifier = ConformalClassifier(
        job.score,
        0.1,
        seed=i,
        randomize=job.randomize,
        condition=job.condition,
        rare=job.rare,
        **clusters,
    ).fit(probs, labels, groups=groups if grouped else None)
    sets = classifier.predict(new, groups=new_groups if grouped else None)
    hit = covered(sets, truth)
    excess = excess_by_cell(classifier.cells_, hit, new_groups, truth)
    return float(hit.mean()), set_size(sets), excess


def in_errors(values):
    "Mean in units of its standard error"
    return float(np.mean(values) / max(np.std(values) / len(values) ** 0.5, 1e-12))


def study(job):
    "Mean coverage against what it must be: over all rows, and in each cell"
    runs = [one(job, i) for i in range(job.times)]
    coverages = np.array([found for found, _, _ in runs])
    by_cell = defaultdict(list)
    for _, _, excess in runs:
        for cell, value in excess.items():
            by_cell[cell].append(value)
    z_cells = []
    if job.condition != "cluster":  # clusters are other cells in every run
        z_cells = [in_errors(v) for v in by_cell.values() if len(v) > 30]
    z_pooled = in_errors([np.mean(list(by.values())) for _, _, by in runs if by])
    return dict(
        data=job.source,
        n_cal=job.n,
        score=job.score,
        randomize=job.randomize,
        condition=job.condition,
        rare=job.rare,
        coverage=float(coverages.mean()),
        se=float(coverages.std() / job.times**0.5),
        labels=float(np.mean([size for _, size, _ in runs])),
        z_pooled=z_pooled,
        z_lowest_cell=min([z_pooled, *z_cells]),
        z_highest_cell=max([z_pooled, *z_cells]),
        cells=len(z_cells),
    )


def common_and_rare(n, seed, K=160):
    "Ten common classes, weight .9 on the truth, and 150 rare ones with .3"
    rng = np.random.default_rng(seed)
    is_rare = rng.uniform(size=n) < 0.4
    labels = np.where(is_rare, rng.integers(10, K, n), rng.integers(0, 10, n))
    weight = np.where(labels < 10, 0.9, 0.3) + rng.normal(scale=0.08, size=n)
    weight = np.clip(weight, 0.01, 0.99)
    probs = rng.dirichlet(np.full(K, 0.5), n) * (1 - weight)[:, None]
    probs[np.arange(n), labels] += weight
    return probs, labels


def rare_classes(score, condition, rare, times, n=1000):
    "What is covered where most classes have too few rows, and nothing is promised"
    runs = []
    for i in range(times):
        new, truth = common_and_rare(n, 2 * i + 1)
        classifier = ConformalClassifier(
            score, 0.1, seed=i, condition=condition, rare=rare
        )
        sets = classifier.fit(*common_and_rare(n, 2 * i)).predict(new)
        hit, is_rare = covered(sets, truth), truth >= 10
        found = hit.mean(), hit[is_rare].mean(), hit[~is_rare].mean(), set_size(sets)
        runs.append(found)
    names = "all_rows", "rare_classes", "common_classes", "labels"
    errors = np.std(runs, 0) / times**0.5
    means = {
        name: dict(mean=float(mean), se=float(se))
        for name, mean, se in zip(names, np.mean(runs, 0), errors)
    }
    return dict(score=score, condition=condition, rare=rare, rows=n, **means)


def torchcp_scores():
    "name -> (torchcp's class, its settings, ours)"
    from torchcp.classification.score import APS, LAC, RAPS, TOPK

    return {
        "lac": (LAC, {}, None),
        "aps": (APS, {}, None),
        "raps": (RAPS, dict(penalty=0.05, kreg=2), dict(penalty=0.05, k_reg=2)),
        "topk": (TOPK, {}, None),
    }


def split_torchcp(score, uniforms, cal, labels, new):
    "(sets, threshold) of torchcp, which is given our uniform numbers"
    import torch
    from torchcp.classification.predictor import SplitPredictor

    predictor = SplitPredictor(score)
    predictor._device = torch.device("cpu")
    numbers, rand = iter(uniforms), torch.rand
    try:
        if uniforms:
            torch.rand = lambda *sizes, **more: torch.from_numpy(next(numbers))
        cal, new = (torch.from_numpy(rows.astype(np.float64)) for rows in (cal, new))
        predictor.calculate_threshold(cal, torch.from_numpy(labels), 0.1)
        sets = predictor.predict_with_logits(new).numpy().astype(bool)
    finally:
        torch.rand = rand
    return sets, float(predictor.q_hat)


def same_as_torchcp(probs, labels, new):
    "Labels on which our sets differ from torchcp's, given the same uniform numbers"
    import_torchcp()
    u_new = np.repeat(row_uniforms(new, seed=0)[:, None], new.shape[1], 1)
    uniforms = [row_uniforms(probs, seed=0), u_new]
    found = {}
    for name, (make, theirs, settings) in torchcp_scores().items():
        for randomize in (True,) if name == "lac" else (True, False):
            ours = ConformalClassifier(
                name, 0.1, seed=0, randomize=randomize, settings=settings
            ).fit(probs, labels)
            chance = {} if name == "lac" else dict(randomized=randomize)
            score = make(score_type="identity", **theirs, **chance)
            given = uniforms if randomize else []
            sets, threshold = split_torchcp(score, given, probs, labels, new)
            own = ours.predict(new)
            found[f"{name}{'' if randomize else ', not randomized'}"] = dict(
                labels=int(own.size),
                differ=int((own != sets).sum()),
                threshold_difference=abs(ours.threshold_ - threshold),
            )
    return found


def mapie_sets(score, probs, labels, new, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mapie_fitted(score, probs, labels)
        found = model.predict_set(new, conformity_score_params=settings or None)
    return found[1][:, :, 0]


def torchcp_saps(probs, labels, new):
    import_torchcp()
    import torch
    from torchcp.classification.predictor import SplitPredictor
    from torchcp.classification.score import SAPS

    score = SAPS(score_type="identity", weight=0.2, randomized=False)
    predictor = SplitPredictor(score)
    predictor._device = torch.device("cpu")
    rows = torch.from_numpy(probs), torch.from_numpy(labels)
    predictor.calculate_threshold(*rows, 0.1)
    return predictor.predict_with_logits(torch.from_numpy(new)).numpy() > 0


def peers_coverage(probs, labels, new, truth):
    "What MAPIE and torchcp cover with the same rows, beside ours"
    rows = probs, labels, new

    def ours(score, **more):
        return ConformalClassifier(score, 0.1, **more).fit(probs, labels).predict(new)

    differ = int((ours("lac") != mapie_sets("lac", *rows)).sum())
    found = {"lac: labels that differ from MAPIE": differ}
    for last in (False, True, "randomized"):
        sets = mapie_sets("aps", *rows, include_last_label=last)
        found[f"MAPIE aps, include_last_label={last}"] = coverage(sets, truth)
    for chance in (True, False):
        kind = "randomized" if chance else "not randomized"
        sets = ours("aps", seed=0, randomize=chance)
        found[f"our aps, {kind}"] = coverage(sets, truth)
    found["torchcp saps, not randomized"] = coverage(torchcp_saps(*rows), truth)
    found["our saps, not randomized"] = coverage(ours("saps", randomize=False), truth)
    return found


def jobs_of(source, n, times):
    "All scores, with and without chance, for all conditions"
    jobs = []
    for score in SCORES:
        both_ways = (True, False) if score in RANDOM else (True,)
        for randomize in both_ways:
            for condition in CONDITIONS:
                all_of_it = condition and score in ("lac", "aps")
                for rare in ("all", "marginal") if all_of_it else ("all",):
                    job = Job(source, n, score, randomize, condition, rare, times)
                    jobs.append(job)
    return jobs


def run_studies(jobs, times):
    "(studies, those of rare classes), one process for each core"
    asked = [(None, "marginal"), ("class", "marginal"), ("class", "all")]
    few = [(score, *more, times // 4) for score in ("lac", "aps") for more in asked]
    os.environ["OMP_NUM_THREADS"] = "1"  # one process for each core instead
    with ProcessPoolExecutor() as pool:
        return list(pool.map(study, jobs)), list(pool.map(rare_classes, *zip(*few)))


def verdict(studies):
    "The worst of all studies, and how many keep what they promise"
    chance = [s for s in studies if s["randomize"] and s["data"] == "synthetic"]
    kept = sum(s["z_lowest_cell"] > -4 for s in studies)
    exact = sum(s["z_highest_cell"] < 4 for s in chance)
    return {
        "lowest_z": min(s["z_lowest_cell"] for s in studies),
        "highest_z_where_scores_do_not_tie": max(s["z_highest_cell"] for s in chance),
        "promises_kept": f"{kept} of {len(studies)} within 4 sigma from below",
        "exact": f"{exact} of {len(chance)} randomized or continuous studies "
        "within 4 sigma from above",
    }


def main():
    times = 100 if arguments().quick else 1000
    jobs, missing = jobs_of("synthetic", 300, times), None
    try:
        probs, labels = real()
        jobs += jobs_of("cifar10_vgg", 1000, times)
    except OSError as e:
        missing = f"not evaluated: {e}"
    studies, rare = run_studies(jobs, times)
    problem = synthetic_problem(6000, 10, seed=0, spread=1.0)
    even, odd = np.arange(6000) < 3000, np.arange(6000) >= 3000
    cal = problem.true_probs[even], problem.labels[even]
    new = problem.true_probs[odd], problem.labels[odd]
    result = {
        "what": "coverage over resplits: z is (mean coverage - k/(n+1)) in standard "
        "errors, pooled over cells and in the worst cell; k/(n+1) >= 0.9 is what the "
        "theorem promises; where scores tie, coverage lies above",
        "resplits": times,
        "studies": studies,
        "rare_classes": rare,
        **verdict(studies),
        "cifar10_vgg": missing,
        "torchcp": {"synthetic": same_as_torchcp(*cal, new[0])},
        "calibrated_model": peers_coverage(*cal, *new),
    }
    if missing is None:
        cal, new = (probs[:5000], labels[:5000]), (probs[5000:], labels[5000:])
        result["torchcp"]["cifar10_vgg"] = same_as_torchcp(*cal, new[0])
        result["cifar10_peers"] = peers_coverage(*cal, *new)
    save("validity_conformal", result)


if __name__ == "__main__":
    main()
