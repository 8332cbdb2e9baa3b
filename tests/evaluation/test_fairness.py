"""What is flagged, and how often nothing is flagged that is not there

Planted gaps are found, permuted groups are not accused, and values are those of
fairlearn where both define them.
"""

import json

import numpy as np
import pytest

from fine_tune_llm import Predictions
from fine_tune_llm.evaluation import (
    FairnessAnalyzer,
    Promise,
    abstention_gap,
    subject_of,
)
from fine_tune_llm.stats import GroupCounts

FLAGS = {
    "group_gap",
    "more_group_gaps",
    "group_undercovered",
    "group_breaks_certificate",
    "abstention_widens_gap",
    "group_miscalibrated",
    "subgroup_auc_low",
}


def flags(analysis):
    return {one.code for one in analysis.findings} & FLAGS


def world(n, seed, *, gap=0.0, base=0.15):
    "A subject with two attributes, sets and abstentions; B is missed `gap` more often"
    rng = np.random.default_rng(seed)
    site, age = rng.choice(["A", "B"], n), rng.choice(["young", "mid", "old"], n)
    labels = rng.integers(0, 2, n)
    wrong = rng.random(n) < base + gap * ((site == "B") & (labels == 1))
    conf = rng.uniform(0.6, 1.0, n)
    likeliest = np.where(wrong, 1 - labels, labels)
    probs = np.where(
        likeliest[:, None] == np.arange(2), conf[:, None], 1 - conf[:, None]
    )
    sets = np.zeros((n, 2), bool)
    sets[np.arange(n), labels] = rng.random(n) < 0.9
    said = Predictions(probs=probs, labels=labels, groups={"site": site, "age": age})
    decided = np.where(conf < 0.7, -1, likeliest)
    return subject_of(said, decided=decided, sets=sets)


def test_unbiased_data_are_flagged_in_at_most_a_twentieth_of_audits():
    "200 seeds of 600 rows whose groups say nothing; 4 sigma above .05"
    n_seeds, flagged = 200, 0
    for seed in range(n_seeds):
        analyzer = FairnessAnalyzer(seed=seed, n_resamples=99)
        found = analyzer.analyze(world(600, seed), alpha=0.1, target_risk=0.2)
        flagged += bool(flags(found))
    assert flagged / n_seeds <= 0.05 + 4 * (0.05 * 0.95 / n_seeds) ** 0.5


def test_a_larger_gap_is_found_more_often():
    "30 seeds of 1,000 rows for each gap; that of .3 is nearly always found"
    found = []
    for gap in (0.0, 0.15, 0.3):
        seen = 0
        for seed in range(30):
            analyzer = FairnessAnalyzer(seed=0, n_resamples=99, metrics=["tpr", "fpr"])
            analysis = analyzer.analyze(world(1000, 1000 + seed, gap=gap))
            gaps = [one for one in analysis.findings if one.code == "group_gap"]
            seen += any(one.details["metric"] == "tpr" for one in gaps)
        found.append(seen)
    assert found == sorted(found), found
    assert found[0] <= 4 and found[-1] >= 27, found


@pytest.mark.parametrize("errors", [(0.1, 0.1, 0.1), (0.1, 0.15, 0.3)])
def test_what_abstaining_does_to_a_gap_is_covered(errors):
    """300 data sets of 1,500 rows in three groups, with ties and without

    A row is abstained on with a probability that depends on its being wrong and on its
    group, so the true rates among the decided are known.
    """
    rng = np.random.default_rng(0)
    errors = np.array(errors)
    if_wrong, if_right = np.array([0.6, 0.4, 0.2]), np.array([0.1, 0.1, 0.2])
    wrong_kept = errors * (1 - if_wrong)
    selective = wrong_kept / (wrong_kept + (1 - errors) * (1 - if_right))
    truth = np.ptp(selective) - np.ptp(errors)
    n, n_sets, held = 1500, 300, 0
    for _ in range(n_sets):
        group = rng.integers(0, 3, n)
        wrong = rng.random(n) < errors[group]
        gone = rng.random(n) < np.where(wrong, if_wrong[group], if_right[group])
        likeliest = wrong * 1
        counts = GroupCounts.from_arrays(
            np.zeros(n, int),
            np.where(gone, -1, likeliest),
            groups={"g": group},
            probs=np.where(likeliest[:, None] == np.arange(2), 0.8, 0.2),
        )
        (found,) = abstention_gap(counts, level=0.9)
        held += truth in found.difference
    assert held / n_sets >= 0.9 - 4 * (0.9 * 0.1 / n_sets) ** 0.5


def test_a_threshold_that_came_out_low_accuses_no_group():
    "The law of coverage over the draw of 100 calibration rows; 2,000 draws, 4 sigma"
    from fine_tune_llm.stats.comparisons import GroupRate

    rng = np.random.default_rng(0)
    promise = Promise("group_undercovered", "coverage", 0.9, n_calibration=100)
    n_draws, n = 2000, 400
    coverage = rng.beta(91, 10, n_draws)
    hits = rng.binomial(n, coverage)
    p_values = np.array(
        [
            promise.p_value(GroupRate("g", ("a",), "coverage", k / n, 0, 1, n))
            for k in hits
        ]
    )
    for error in (0.05, 0.2):
        bound = error + 4 * (error * (1 - error) / n_draws) ** 0.5
        assert (p_values <= error).mean() <= bound
    plain = Promise("group_undercovered", "coverage", 0.9)
    alone = plain.p_value(GroupRate("g", ("a",), "coverage", 0.86, 0, 1, n))
    assert alone < 0.05  # without that law the same group would be accused


def test_a_group_that_sets_cover_too_rarely_is_named():
    n = 2000
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b"], [1600, 400])
    sets = np.zeros((n, 3), bool)
    labels = rng.integers(0, 3, n)
    sets[np.arange(n), labels] = rng.random(n) < np.where(group == "b", 0.75, 0.94)
    said = Predictions(probs=np.full((n, 3), 1 / 3), labels=labels, groups={"g": group})
    subject = subject_of(said, sets=sets)
    found = FairnessAnalyzer(seed=0).analyze(subject, alpha=0.1, n_calibration=1000)
    first = [one for one in found.findings if one.code == "group_undercovered"]
    assert [one.details["groups"][0]["group"] for one in first] == ["b"]
    assert first[0].severity == "high" and "conformal.group=g" in first[0].fix


def test_a_crossing_is_named_where_its_attributes_look_even():
    "Wrong where exactly one of two attributes is 1: each attribute alone is even"
    rng = np.random.default_rng(0)
    n = 6000
    first, second = rng.integers(0, 2, n), rng.integers(0, 2, n)
    labels = rng.integers(0, 2, n)
    wrong = rng.random(n) < np.where(first == second, 0.1, 0.4)
    decided = np.where(wrong, 1 - labels, labels)
    said = Predictions(
        probs=np.full((n, 2), 0.5), labels=labels, groups={"p": first, "q": second}
    )
    analyzer = FairnessAnalyzer(seed=0, metrics=["accuracy"])
    found = analyzer.analyze(subject_of(said, decided=decided))
    gaps = [one.details for one in found.findings if one.code == "group_gap"]
    assert [gap["view"] for gap in gaps] == ["p x q"]
    # a plain gap by one attribute is not repeated for the crossing
    wrong = rng.random(n) < np.where(first == 1, 0.1, 0.4)
    decided = np.where(wrong, 1 - labels, labels)
    found = analyzer.analyze(subject_of(said, decided=decided))
    gaps = [one.details for one in found.findings if one.code == "group_gap"]
    assert [gap["view"] for gap in gaps] == ["p"]


@pytest.mark.parametrize("K", [3, 11])
def test_of_few_classes_each_is_positive_in_turn(K):
    rng = np.random.default_rng(0)
    n = 800
    said = Predictions(
        probs=rng.dirichlet(np.ones(K), n),
        labels=rng.integers(0, K, n),
        groups={"g": rng.choice(["a", "b"], n)},
    )
    found = FairnessAnalyzer(seed=0, n_resamples=99).analyze(said)
    metrics = {rate.metric for rate in found.report.rates}
    if K == 3:
        assert {"tpr[0]", "tpr[2]", "npv[1]"} <= metrics
        assert {one["class"] for one in found.subgroup_auc} == {"0", "1", "2"}
    else:
        assert "tpr" in found.not_evaluated and "subgroup_auc" in found.not_evaluated
        assert found.subgroup_auc == () and "tpr[0]" not in metrics
    assert {one["class"] for one in found.class_calibration} == {*map(str, range(K))}


def test_a_row_counts_in_every_group_it_belongs_to():
    rng = np.random.default_rng(0)
    n = 900
    who = rng.choice(["women", "Muslim", "women|Muslim", ""], n)
    labels = rng.integers(0, 2, n)
    about_women = np.char.find(who, "women") >= 0
    wrong = rng.random(n) < np.where(about_women, 0.4, 0.1)
    score = np.where(wrong, 1 - labels, labels) * 0.8 + 0.1
    said = Predictions(
        probs=np.c_[1 - score, score], labels=labels, groups={"who": who}
    )
    found = FairnessAnalyzer(seed=0).analyze(subject_of(said, memberships=("who",)))
    sizes = {rate.label: rate.n for rate in found.report.by_group("accuracy", "who")}
    assert sizes["women"] == about_women.sum()
    assert sizes["Muslim"] == (np.char.find(who, "Muslim") >= 0).sum()
    assert {one["group"] for one in found.subgroup_auc} == {"women", "Muslim"}
    assert "group_gap" in flags(found)


def test_a_reference_and_a_control_are_passed_on():
    subject = world(1500, 0, gap=0.3)
    analyzer = FairnessAnalyzer(
        seed=0, reference={"age": "old"}, control=["site"], metrics=["accuracy"]
    )
    found = analyzer.analyze(subject).to_dict()
    assert (found["reference"], found["control"]) == ({"age": "old"}, ["site"])
    views = {gap["view"] for gap in found["gaps"]}
    assert views == {"age within site=A", "age within site=B"}
    for gap in found["gaps"]:
        assert ["old"] in (gap["highest"], gap["lowest"])


def test_the_same_seed_gives_the_same_bytes_and_all_of_it_is_json():
    subject = world(700, 0, gap=0.3)
    asked = {"alpha": 0.1, "target_risk": 0.05}
    first, second = (
        json.dumps(
            FairnessAnalyzer(seed=3, n_resamples=199)
            .analyze(subject, **asked)
            .to_dict(),
            allow_nan=False,
        )
        for _ in range(2)
    )
    assert first == second
    for part in ("rates", "gaps", "settings", "missing", "multicalibration", "power"):
        assert json.loads(first)[part], part
    for curve in json.loads(first)["thresholds"].values():
        assert 1 < len(curve) <= 50


def test_groups_of_few_rows_are_said_to_be_few():
    labels = np.tile([0, 1], 100)
    age = np.array(["old"] * 150 + ["young"] * 45 + ["baby"] * 5)
    said = Predictions(probs=np.full((200, 2), 0.5), labels=labels, groups={"age": age})
    found = FairnessAnalyzer(seed=0).analyze(said)
    by_code = {one.code: one for one in found.findings}
    assert set(by_code) == {"groups_too_small", "groups_not_evaluated"}
    lacking = by_code["groups_not_evaluated"].details["groups"]
    assert lacking == [{"group": "baby", "n": 5}]
    small = by_code["groups_too_small"].details
    assert small["smallest"] == 45 and small["detectable"] > 0.1
    assert found.verdict == "clear"


@pytest.mark.parametrize(
    "groups",
    [
        {"g": ["a"] * 60},
        {"g": [None] * 60},
        {
            "a x b": ["p", "p", "q", "q"] * 15,
            "a": ["x"] * 60,
            "b": ["y", "z", "z"] * 20,
        },
        {"g": [f"group {i}" for i in range(60)]},
    ],
    ids=["one group", "no value", "names like crossings", "a group a row"],
)
def test_odd_groups_are_analysed(groups):
    said = Predictions(
        probs=np.tile([[0.7, 0.3], [0.4, 0.6]], (30, 1)),
        labels=[0, 1] * 30,
        groups=groups,
    )
    found = FairnessAnalyzer(seed=0, n_resamples=99).analyze(said)
    json.dumps(found.to_dict(), allow_nan=False)
    assert not flags(found)


@pytest.fixture(scope="module")
def adult(real_data):
    pd = pytest.importorskip("pandas")
    path = real_data / "adult_rf" / "adult_rf_binary.csv"
    if not path.is_file():
        pytest.skip(f"adult_rf is not here: {path}")
    return pd.read_csv(path)


def test_real_decisions_have_the_rates_that_fairlearn_counts(adult):
    metrics = pytest.importorskip("fairlearn.metrics", reason="extra bench")
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, decided = adult.label_value.to_numpy(), adult.score.to_numpy().astype(int)
    said = Predictions(
        probs=np.c_[1 - decided, decided].astype(float),
        labels=labels,
        groups={"gender": adult.gender, "race": adult.race},
        classes=["no", "yes"],
    )
    found = FairnessAnalyzer(seed=0).analyze(said)
    theirs = {
        "selection_rate": metrics.selection_rate,
        "tpr": metrics.true_positive_rate,
        "fpr": metrics.false_positive_rate,
        "fnr": metrics.false_negative_rate,
        "accuracy": sklearn.accuracy_score,
        "ppv": sklearn.precision_score,
    }
    columns = ["gender", "race"]
    for view, by in (
        ("gender", "gender"),
        ("race", "race"),
        ("gender x race", columns),
    ):
        frame = metrics.MetricFrame(
            metrics=theirs, y_true=labels, y_pred=decided, sensitive_features=adult[by]
        ).by_group
        for name in theirs:
            rates = found.report.by_group(name, view)
            known = [rate for rate in rates if rate.value is not None]
            assert len(known) > 1
            for rate in known:
                key = rate.cell if len(rate.cell) > 1 else rate.cell[0]
                assert rate.value == pytest.approx(frame.loc[key, name], abs=1e-12)


def test_real_scores_that_run_against_their_label_are_called_out(adult):
    "The score of this random forest runs against its label, for women most"
    score = adult.score.to_numpy()
    said = Predictions(
        probs=np.c_[1 - score, score],
        labels=adult.label_value.to_numpy(),
        groups={"gender": adult.gender},
    )
    found = FairnessAnalyzer(seed=0).analyze(said)
    first = found.findings[0]
    assert (found.verdict, first.code) == ("fail", "group_miscalibrated")
    worst = first.details["groups"][0]
    assert worst["group"] == "Female" and abs(worst["excess"]["value"]) > 0.7
    assert all(one["auc"]["high"] < 0.5 for one in found.subgroup_auc)


def test_a_strict_level_draws_as_many_tables_as_it_needs():
    analyzer = FairnessAnalyzer(seed=0, level=0.995, n_resamples=50)
    assert analyzer.analyze(world(300, 0)).report.settings.n_resamples == 400
