"Runs over seeds and folds: intervals that hold, rows that flip, and what is refused"

import numpy as np
import pytest
from scipy import stats

from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.evaluation import aggregate, over_runs, seeds_of
from fine_tune_llm.predictions import Outcome, Predictions
from fine_tune_llm.stats import accuracy, softmax
from fine_tune_llm.stats import ece as ece_of


def runs(n_runs=3, n=300, noise=0.5, seed=0):
    "What several runs say of the same rows"
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    base = rng.normal(size=(n, 3)) + 2 * np.eye(3)[labels]
    return [
        Predictions(
            probs=softmax(base + noise * rng.normal(size=base.shape)),
            labels=labels,
            ids=[f"r{i}" for i in range(n)],
        )
        for _ in range(n_runs)
    ]


def test_metrics_are_those_of_stats_one_run_at_a_time():
    said = runs()
    found = aggregate(said, seed=0)
    for name, metric in (("accuracy", accuracy), ("ece", ece_of)):
        values = [metric(one.probs, one.labels) for one in said]
        assert found.metrics[name]["values"] == pytest.approx(values)
        assert found.metrics[name]["mean"] == pytest.approx(np.mean(values))
        assert found.metrics[name]["sd"] == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("n_runs", [2, 3, 5, 20])
def test_the_interval_of_the_mean_holds_for_few_runs(n_runs):
    "Normal numbers, 2,000 times: covered in 95%, within 4 sigma; sd_high in 95%, too"
    rng = np.random.default_rng(n_runs)
    found = [over_runs(rng.normal(0.8, 0.02, n_runs)) for _ in range(2000)]
    covered = np.mean([one["low"] <= 0.8 <= one["high"] for one in found])
    above = np.mean([one["sd_high"] >= 0.02 for one in found])
    slack = 4 * (0.95 * 0.05 / 2000) ** 0.5
    assert abs(covered - 0.95) < slack and abs(above - 0.95) < slack


def test_the_interval_is_that_of_scipy():
    values = [0.81, 0.84, 0.79, 0.83]
    found = over_runs(values, level=0.9)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (found["low"], found["high"]) == pytest.approx((wanted.low, wanted.high))


def test_rows_that_flip_are_counted_row_by_row():
    said = runs(4, n=200, noise=1.0)
    decided = np.array([one.decided for one in said])
    labels = said[0].labels
    found = aggregate(said, seed=0).flips
    flips = [len({*column}) > 1 for column in decided.T]
    apart = [
        np.mean([column[i] != column[j] for i in range(4) for j in range(i)])
        for column in decided.T
    ]
    right = [(column == label).sum() for column, label in zip(decided.T, labels)]
    assert found["k"] == sum(flips)
    assert found["pairwise"]["value"] == pytest.approx(np.mean(apart))
    assert found["always_right"]["k"] == sum(k == 4 for k in right)
    assert found["sometimes_right"]["k"] == sum(0 < k < 4 for k in right)
    assert found["never_right"]["k"] == sum(k == 0 for k in right)


def test_the_interval_of_pairwise_disagreement_holds():
    "Three runs that flip with a known chance: betting bounds hold in >= 95% of 200"
    rng = np.random.default_rng(0)
    n, chance, n_missed = 150, 0.1, 0
    for _ in range(200):
        decided = (rng.random((3, n)) < chance).astype(int)
        said = [
            Predictions(probs=np.eye(2)[row] * 0.8 + 0.1, labels=decided[0])
            for row in decided
        ]
        found = aggregate(said, seed=0).flips["pairwise"]
        n_missed += not found["low"] <= 2 * chance * (1 - chance) <= found["high"]
    assert n_missed <= 200 * 0.05


def test_rows_are_matched_by_id():
    first, second = runs(2)
    mixed = second[np.random.default_rng(0).permutation(len(second))]
    pair = aggregate([first, second], seed=0), aggregate([first, mixed], seed=0)
    assert pair[0].flips == pair[1].flips


def test_folds_have_no_flips():
    (one,) = runs(1)
    found = aggregate([one[:100], one[100:200], one[200:]], seed=0)
    assert found.n == 300 and found.n_runs == 3
    assert found.flips == {
        "evaluated": False,
        "reason": "the runs decided different rows",
    }
    assert "Bengio" in found.said and found.findings == ()


def test_abstentions_flip_too_and_sets_are_measured():
    said = runs(2, noise=0.0)
    outcomes = []
    for one, needed in zip(said, (0.0, 0.8)):
        decided = np.where(one.conf >= needed, one.decided, -1)
        outcomes.append(
            Outcome(
                predictions=one,
                probs=one.probs,
                sets=one.probs > 0.1,
                decided=decided,
                conf=one.conf,
                needed=np.full(len(one), needed),
            )
        )
    found = aggregate(outcomes, names=["all", "few"], seed=0)
    assert found.flips["k"] == (said[0].conf < 0.8).sum()
    assert found.metrics["coverage"]["sd"] == 0 and "set_size" in found.metrics
    assert "selective_risk" not in found.metrics  # one of them decides every row


def test_an_unstable_classifier_is_found_and_a_steady_one_is_not():
    unstable = aggregate(runs(3, n=400, noise=3.0), seed=0)
    (finding,) = unstable.findings
    assert finding.code == "unstable_over_seeds" and unstable.verdict == "concern"
    assert len(finding.rows) == unstable.flips["k"]
    assert aggregate(runs(3, n=400, noise=0.02), seed=0).findings == ()


def test_what_is_no_set_of_runs_is_refused():
    first, second = runs(2)
    overlapping = runs(1, seed=5)[0]
    for said, kind, words in [
        ([first], ConfigurationError, "two runs or more, got 1"),
        (first, ConfigurationError, "two runs or more"),
        ([first, first[:100]], PredictionError, "share 100 of 300 and 100"),
        ([first, overlapping], PredictionError, "other true labels"),
        ([first, "x"], PredictionError, "must be Predictions or an Outcome"),
        (
            [first, Predictions(probs=[[0.5, 0.5]], labels=[0])],
            PredictionError,
            "other classes",
        ),
    ]:
        with pytest.raises(kind, match=words):
            aggregate(said, seed=0)
    with pytest.raises(ConfigurationError, match="`names` must name 2 runs, got 1"):
        aggregate([first, second], names=["a"], seed=0)


def test_everything_is_json_and_seeds_of_the_order_do_not_matter_for_counts():
    import json

    found = [aggregate(runs(3), seed=seed).to_dict() for seed in (0, 1)]
    assert json.loads(json.dumps(found[0])) == found[0]
    assert {"n_runs", "metrics", "flips", "said", "names"} <= {*found[0]}
    assert found[0]["metrics"] == found[1]["metrics"]


@pytest.fixture(scope="module")
def fitted(toy_fit, tmp_path_factory):
    "A run, one with another seed on its roles, and what is not that"
    folder = tmp_path_factory.mktemp("seeds")
    first = toy_fit(folder / "first", seed=0)
    ledger = {"data": {"ledger": str(folder / "first")}}
    return {
        "first": first,
        "other": toy_fit(folder / "other", seed=1, config=ledger),
        "dealt": toy_fit(folder / "dealt", seed=2),
    }


def test_runs_with_other_seeds_are_opened(fitted):
    first, other = fitted["first"], fitted["other"]
    said = seeds_of(first, [str(other.path)])
    assert list(said) == ["first", "other"]
    found = aggregate(said, names=list(said), seed=0)
    assert found.n == len(first.outcome("test")) and "value" in found.flips


def test_runs_of_something_else_are_refused(fitted):
    first = fitted["first"]
    for path, words in [
        (first.path, "is the run itself"),
        (fitted["dealt"].path, "has other test rows"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            seeds_of(first, [path])
