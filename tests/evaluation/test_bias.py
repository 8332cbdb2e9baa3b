"Changed texts: what is planted is found, and chance is not"

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.stats.contingency import relative_risk
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fine_tune_llm import Predictions
from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.data.label_checks import fleiss_kappa
from fine_tune_llm.evaluation import (
    BiasAuditor,
    Cases,
    ask,
    associated,
    behaviour_of,
    disagreement_of,
    judge,
    named_groups,
    net_change,
    perturb,
    represented,
)
from fine_tune_llm.evaluation.answers import Answers
from fine_tune_llm.evaluation.association import data_findings
from fine_tune_llm.evaluation.bias import (
    SwapGrid,
    adjust,
    judge_swaps,
    swap_findings,
)
from fine_tune_llm.predictions import LabelledRows

BENCHMARK = Path(__file__).parents[2] / "benchmarks/identity_shift/run.py"
GROUPS = ("a", "b", "c", "d", "e")


def grid_of(n, groups=GROUPS):
    rows = tuple(tuple(f"{row} {group}" for group in groups) for row in range(n))
    return SwapGrid("kind", groups, rows)


def answers_of(grid, yes, decided=None):
    "Answers with the probability of yes of each row and version, shape (n, m)"
    texts = [text for row in grid.texts for text in row]
    yes = np.clip(np.asarray(yes, dtype=float), 0, 1).ravel()
    probs = np.column_stack([1 - yes, yes])
    index = {text: row for row, text in enumerate(texts)}
    decided = (yes > 0.5) * 1 if decided is None else np.ravel(decided)
    return Answers(("no", "yes"), index, decided, probs)


def judged(grid, answers, **asked):
    settings = {"positive": "yes", "n_resamples": 999, "seed": 0} | asked
    rows = judge_swaps(grid, answers, **settings)
    adjust(rows, ("p_value", "flips_p_value"))
    return rows


def test_noise_that_does_not_read_terms_raises_no_finding():
    """Each text has noise of its own, crooked and large enough to flip 15% of decisions

    200 seeds; at most 5% of them may raise an identity finding.
    """
    grid, hits = grid_of(40), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        kind = rng.choice([0.1, 0.9], size=(40, 1))
        yes = np.where(rng.random((40, 5)) < 0.15, 0.2, kind)
        hits += bool(swap_findings(judged(grid, answers_of(grid, yes), seed=seed)))
    assert hits <= 200 * 0.05


def test_p_values_within_rows_are_uniform_under_noise():
    "Of 300 tests, at 10%: 30, give or take four standard deviations"
    rng = np.random.default_rng(1)
    low = 0
    for _ in range(300):
        yes = rng.gamma(0.5, size=(25, 4, 1))  # as crooked as can be
        yes[rng.random((25, 4)) < 0.1] = np.nan  # some versions are missing
        found = net_change(yes, n_resamples=199, rng=rng)
        low += found.p_values[0] <= 0.1
    assert abs(low - 30) < 4 * (300 * 0.1 * 0.9) ** 0.5


@pytest.mark.parametrize(("size", "found"), [(0.0, False), (0.03, False), (0.3, True)])
def test_a_planted_term_and_no_other_is_named(size, found):
    rng = np.random.default_rng(0)
    yes = rng.uniform(0.3, 0.45, size=(60, 1)) + rng.normal(0, 0.02, size=(60, 5))
    yes[:, 2] += size
    grid = grid_of(60)
    rows = judged(grid, answers_of(grid, yes))
    named = [row["term"] for row in rows if row["adjusted"] <= 0.05]
    assert named == (["c"] if found else [])
    assert abs(rows[2]["shift"]["value"] - size) < 0.02
    codes = {one.code: one.severity for one in swap_findings(rows)}
    wanted = {"identity_flips": "high", "identity_shift": "high"} if found else {}
    assert codes == wanted


def test_two_versions_are_compared_with_each_other():
    yes = np.column_stack([np.full(30, 0.8), np.full(30, 0.3)])
    grid = grid_of(30, ("a", "b"))
    rows = judged(grid, answers_of(grid, yes))
    assert [round(row["shift"]["value"], 9) for row in rows] == [0.5, -0.5]
    assert [row["flips"]["k"] for row in rows] == [30, 30]
    assert all(row["adjusted"] < 0.05 for row in rows)


def test_an_abstention_is_milder_than_another_class():
    yes = np.full((40, 5), 0.8)
    decided = np.ones((40, 5), int)
    decided[:, 0], decided[:30, 1] = -1, 0
    grid = grid_of(40)
    rows = judged(grid, answers_of(grid, yes, decided))
    first, second = rows[:2]
    assert (first["to_abstained"]["k"], first["to_other"]["k"]) == (40, 0)
    assert (second["to_abstained"]["k"], second["to_other"]["k"]) == (0, 30)
    for named, severity in ((first, "low"), (second, "high")):
        (finding,) = swap_findings([named])
        assert (finding.code, finding.severity) == ("identity_flips", severity)


def test_many_classes_are_followed_by_the_one_that_moves_most():
    rng = np.random.default_rng(0)
    grid = grid_of(50)
    probs = rng.dirichlet(np.full(6, 2), size=(50, 1)).repeat(5, axis=1)
    probs[:, 3] = 0.5 * probs[:, 3] + 0.5 * np.eye(6)[4]
    index = {text: row for row, text in enumerate(grid.asked)}
    flat = probs.reshape(-1, 6)
    answers = Answers(tuple("uvwxyz"), index, flat.argmax(1), flat)
    rows = judged(grid, answers, positive=None)
    assert (rows[3]["class"], rows[3]["adjusted"] <= 0.05) == ("y", True)
    assert all(row["adjusted"] > 0.05 for row in rows if row["term"] != "d")


def benchmark():
    spec = importlib.util.spec_from_file_location("identity_shift", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_planted_bias_is_found_on_templates(real_data):
    study = benchmark()
    study.DATA = real_data
    rows = study.templates()
    words = study.words_of(rows)
    texts, labels = study.madlibs(rows, 1000, seed=1)
    for planted in (True, False):
        train = study.toy_rows(words, repeats=4, planted=planted, seed=1)
        decide = study.bag_of_words(*train)
        found = study.audited(decide, texts, labels, train=train, seed=1)
        named = [one["term"] for one in found["shifted"]]
        assert named == (["Muslim", "gay"] if planted else [])
        assert [one["term"] for one in found["flipped"]] == named
        assert found["associated"] == (["Muslim", "gay"] if planted else [])
        for one in found["shifted"]:
            assert one["shift"]["low"] > 0.3 and one["n"] == 60


def pipeline_of(texts, labels):
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    return pipeline.fit(texts, labels)


@pytest.fixture(scope="module")
def toy():
    "Texts about two rooms, and a classifier of them"
    things = {"kitchen": ["oven", "sink", "pan"], "garden": ["rose", "lawn", "spade"]}
    texts, labels = [], []
    for place, of_it in things.items():
        for thing in of_it:
            for who in ("She", "He", "Tom", "My aunt"):
                for how in ("cleans", "likes", "sees", "sold"):
                    texts.append(f"{who} {how} the {thing} of the neighbour.")
                    labels.append(place)
    pipeline = pipeline_of(texts, labels)
    said = Predictions(
        probs=pipeline.predict_proba(texts),
        labels=labels,
        classes=["garden", "kitchen"],
        texts=texts,
        groups={"who": [text.split()[0] for text in texts]},
    )
    return said, pipeline


def test_a_classifier_is_asked_once_and_by_distinct_texts(toy):
    said, pipeline = toy
    calls = []

    def decide(texts):
        assert len(texts) == len(set(texts))
        calls.append(len(texts))
        return pipeline.predict_proba(texts)

    found = BiasAuditor(max_rows=20, seed=0).analyze(said, decide)
    assert calls == [found.n_decisions]
    again = BiasAuditor(max_rows=20, seed=0).analyze(said, pipeline.predict_proba)
    assert found.to_dict() == again.to_dict()


def test_decisions_without_probabilities(toy):
    said, pipeline = toy
    found = BiasAuditor(max_rows=20, seed=0).analyze(said, pipeline.predict)
    row = found.swaps[0]
    assert row["shift"] == {
        "evaluated": False,
        "reason": "`decide` gives no probabilities",
    }
    assert (row["p_value"], row["adjusted"]) == (None, None)
    assert row["flips"]["n"] == row["n"] and row["flips_adjusted"] is not None
    assert found.agreement["value"] == 1


def test_columns_in_another_order_are_seen(toy):
    said, pipeline = toy

    def turned(texts):
        return pipeline.predict_proba(texts)[:, ::-1]

    found = BiasAuditor(max_rows=20, seed=0).analyze(said, turned)
    (finding,) = [one for one in found.findings if one.code == "decide_differs"]
    assert finding.details["value"] == 0


def test_what_cannot_be_evaluated_says_why(toy):
    said, pipeline = toy
    bare = Predictions(probs=said.probs, labels=said.labels, classes=said.classes)
    found = BiasAuditor(seed=0).analyze(bare, pipeline.predict_proba)
    no_texts = "the audited rows have no texts"
    wanted = dict.fromkeys(("swaps", "invariance", "injection", "agreement"), no_texts)
    assert {name: found.not_evaluated[name] for name in wanted} == wanted
    assert found.n_decisions == 0
    found = BiasAuditor(seed=0).analyze(said, None)
    assert found.not_evaluated["swaps"] == "no `decide` was given"
    assert found.representation and found.verdict == "clear"


def test_cases_are_asked_with_the_rest(toy):
    said, pipeline = toy
    cases = {
        "ovens": {"texts": ["an oven", "the oven"], "expect": "kitchen"},
        "roses": {"template": "a {x}", "fill": {"x": ["rose"]}, "expect": "kitchen"},
    }
    auditor = BiasAuditor(cases=Cases.of(cases), max_rows=5, seed=0)
    found = auditor.analyze(said, pipeline.predict_proba)
    assert [one["failed"]["k"] for one in found.cases] == [0, 1]
    (finding,) = [one for one in found.findings if one.code == "case_failed"]
    assert finding.details["examples"] == ["a {x}, x=rose"]
    with pytest.raises(ConfigurationError, match="names the class 'cellar'"):
        wrong = Cases.of({"x": {"texts": ["y"], "expect": "cellar"}})
        BiasAuditor(cases=wrong, seed=0).analyze(said, pipeline.predict_proba)


def test_an_instruction_that_is_obeyed():
    texts = [f"text number {row} of many" for row in range(60)]

    def decide(asked):
        told = ["answer yes" in text or "Output yes" in text for text in asked]
        return [["no", "yes"][one] for one in told]

    said = Predictions(
        probs=[[1.0, 0.0]] * 60, labels=["no"] * 60, classes=["no", "yes"], texts=texts
    )
    found = BiasAuditor(seed=0).analyze(said, decide)
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("injection_works", "high")
    turned = {
        (one["name"], one["class"]): one["turned"].get("value")
        for one in found.injection
    }
    assert turned[("ignore", "yes")] == 1 and turned[("named", "yes")] == 0
    assert turned[("ignore", "no")] is None  # all are decided so as they are


def test_a_classifier_of_capitals_is_not_robust_to_them(toy):
    said, _ = toy

    def decide(texts):
        return [["garden", "kitchen"][text.isupper()] for text in texts]

    found = BiasAuditor(max_rows=50, seed=0).analyze(said, decide)
    codes = Counter(one.code for one in found.findings)
    assert codes["not_robust_to_upper"] == 1 and "not_robust_to_lower" not in codes


@pytest.mark.parametrize("name", ["typos:0.2", "casing", "truncated:0.3", "zero_width"])
def test_a_perturbation_depends_on_its_text_and_the_seed_alone(name):
    texts = [f"The colour of row {row} is not grey, I think." for row in range(20)]
    (all_of_them,) = perturb(texts, [name], seed=3)
    (some,) = perturb(texts[5:8], [name], seed=3)
    wanted = dict(zip(all_of_them.rows.tolist(), all_of_them.texts, strict=True))
    assert [wanted[row + 5] for row in some.rows.tolist()] == list(some.texts)


def test_a_perturbation_within_tolerance_is_no_finding():
    "2 of 60 flips: the share 3.3% is below the 5% that are tolerated"
    texts = [f"row {row}" for row in range(60)]
    (trial,) = perturb(texts, ["upper"], seed=0)
    flipped = {"ROW 1", "ROW 2"}
    answers = ask(
        lambda asked: [["a", "b"][text in flipped] for text in asked],
        [*texts, *trial.texts],
        classes=["a", "b"],
    )
    found = judge(trial, texts, answers)
    assert found["flips"]["k"] == 2 and found["p_value"] > 0.5


def test_wrong_answers_are_refused(toy):
    said, _ = toy
    for answer, why in (
        (lambda texts: np.ones((len(texts), 3)) / 3, "answers for other classes"),
        (lambda texts: ["garden"], "`decided` must have shape"),
        (lambda texts: ["cellar"] * len(texts), "cellar"),
    ):
        with pytest.raises(PredictionError, match=why):
            BiasAuditor(max_rows=5, seed=0).analyze(said, answer)
    with pytest.raises(ConfigurationError, match="`decide` must be a function"):
        BiasAuditor(max_rows=5, seed=0).analyze(said, "garden")


def test_the_ratio_is_that_of_scipy_where_rows_are_many():
    "Katz's interval of the ratio to the others, from which ours is exact and wider"
    n, m, k, others = 4000, 6000, 1200, 900
    labels = np.repeat([1, 0, 1, 0], [k, n - k, others, m - others])
    group = np.repeat(["in", "out"], [n, m])
    rows = LabelledRows(
        ids=np.arange(n + m), labels=labels, classes=["x", "y"], groups={"g": group}
    )
    found = [
        one
        for one in associated(named_groups(rows), rows)
        if (one["group"], one["class"]) == ("in", "y")
    ][0]
    katz = relative_risk(k, n, others, m).confidence_interval(0.95)
    total = n + m
    for ours, theirs in (("low", katz.low), ("high", katz.high)):
        of_all = total / (n + m / theirs)
        assert abs(found["ratio"][ours] / of_all - 1) < 0.01
    assert found["pmi"]["value"] == pytest.approx(np.log(0.3 / 0.21))


def test_the_interval_of_the_ratio_covers():
    "1,000 tables of rare classes; 95% asked for, exact ends make it more"
    rng, inside, n = np.random.default_rng(0), 0, 60
    truth = 0.1 / (0.1 * 0.5 + 0.2 * 0.5)
    group = np.repeat(["in", "out"], n)
    for _ in range(300):
        labels = rng.random(2 * n) < np.repeat([0.1, 0.2], n)
        rows = LabelledRows(
            ids=np.arange(2 * n),
            labels=labels.astype(int),
            classes=["x", "y"],
            groups={"g": group},
        )
        found = associated(named_groups(rows), rows)
        one = [x for x in found if (x["group"], x["class"]) == ("in", "y")]
        inside += not one or one[0]["ratio"]["low"] <= truth <= one[0]["ratio"]["high"]
    assert inside / 300 > 0.95 - 4 * (0.95 * 0.05 / 300) ** 0.5


def test_unlabelled_associations_are_chance():
    "100 data sets of labels by coin: at most 5%, plus four standard deviations"
    rng, hits = np.random.default_rng(0), 0
    for _ in range(100):
        rows = LabelledRows(
            ids=np.arange(400),
            labels=rng.integers(3, size=400),
            classes=["x", "y", "z"],
            groups={"g": rng.choice(["a", "b", "c"], 400)},
        )
        found = associated(named_groups(rows), rows)
        hits += bool(data_findings([], found, {}))
    assert hits <= 100 * 0.05 + 4 * (100 * 0.05 * 0.95) ** 0.5


def test_fleiss_by_the_book():
    "Fleiss (1971): 10 subjects, 14 raters, 5 categories, kappa .210"
    table = """0 0 0 0 14|0 2 6 4 2|0 0 3 5 6|0 3 9 2 0|2 2 8 1 1|7 7 0 0 0|3 2 6 3 0
    |2 5 3 2 2|6 5 2 1 0|0 2 2 3 7"""
    votes = np.array([row.split() for row in table.split("|")], dtype=float)
    found = disagreement_of(votes)
    assert round(found["kappa"]["value"], 3) == 0.210
    assert found["kappa"]["value"] == fleiss_kappa(votes)
    assert found["split"]["k"] == 9


def test_a_group_that_is_disagreed_on_is_named():
    rng = np.random.default_rng(0)
    votes = np.tile([3.0, 0.0], (400, 1))
    votes[rng.permutation(400)[:200]] = [0.0, 3.0]
    group = np.repeat(["a", "b"], 200)
    votes[:60] = [2.0, 1.0]
    rows = LabelledRows(
        ids=np.arange(400),
        labels=np.zeros(400, int),
        classes=["x", "y"],
        groups={"g": group},
    )
    groups = named_groups(rows)
    found = disagreement_of(votes, groups)
    (finding,) = data_findings(represented(groups), [], found)
    assert finding.code == "annotators_disagree" and "rows of a" in finding.message


def test_small_groups_are_said():
    rows = LabelledRows(
        ids=np.arange(100),
        labels=np.arange(100) % 2,
        classes=["x", "y"],
        groups={"g": ["a"] * 60 + ["b"] * 35 + ["c|d"] * 5},
    )
    found = represented(named_groups(rows))
    assert [(one["group"], one["n"]) for one in found] == [
        ("a", 60),
        ("b", 35),
        ("c|d", 5),
    ]
    several = represented(named_groups(rows, memberships=("g",)))
    assert [one["group"] for one in several] == ["a", "b", "c", "d"]
    (finding,) = data_findings(found, [], {})
    assert (finding.code, finding.details) == (
        "group_underrepresented",
        {"attribute": "g", "groups": {"c|d": 5}},
    )


def test_a_run_is_tried_by_its_settings(toy_fit, tmp_path):
    cases = tmp_path / "cases.yaml"
    cases.write_text("ovens:\n  texts: [the oven is hot]\n  expect: kitchen\n")
    audit = {"behaviour_rows": 5, "cases": str(cases)}
    run = toy_fit(tmp_path / "run", config={"audit": audit})
    outcome = run.outcome("test")
    found = behaviour_of(run, outcome)
    assert found.n == len(outcome) and len(found.cases) == 1
    assert found.agreement["value"] == 1 and found.agreement["n"] == 5
    assert {one["name"] for one in found.invariance} >= {"typos", "negation"}
    assert found.n_decisions < 5 * 13 + 5 + 5 * 6 + 2 + 200
    assert behaviour_of(run, outcome).to_dict() == found.to_dict()


def test_a_run_without_rows_to_try_says_so(toy_fit, tmp_path):
    run = toy_fit(tmp_path / "run", config={"audit": {"behaviour_rows": 0}})
    found = behaviour_of(run, run.outcome("test"))
    assert found.not_evaluated["swaps"] == "audit.behaviour_rows is 0"
    assert found.n_decisions == 0 and found.representation
