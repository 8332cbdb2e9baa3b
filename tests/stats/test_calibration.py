"Calibrators on real outputs, under other layouts and orders, saved, and misused"

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from fine_tune_llm.core.errors import (
    CalibrationError,
    ConfigurationError,
    NotFittedError,
    PredictionError,
)
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.binary_calibration import (
    WAYS,
    BetaCalibration,
    HistogramBinning,
    IsotonicCalibration,
    PlattScaling,
)
from fine_tune_llm.stats.calibration import (
    CALIBRATORS,
    _fold_of,
    calibrator_from_dict,
    select_calibrator,
)
from fine_tune_llm.stats.calibration_error import ece
from fine_tune_llm.stats.matrix_scaling import VectorScaling
from fine_tune_llm.stats.metrics import accuracy, nll
from fine_tune_llm.stats.temperature import TemperatureScaling, best_temperature
from fine_tune_llm.stats.venn_abers import VennAbers
from fine_tune_llm.testing import synthetic_problem

LINEAR = ("none", "temperature", "ensemble_temperature", "vector", "dirichlet")
MAPS = (PlattScaling, BetaCalibration, IsotonicCalibration, VennAbers)
EVERY = [CALIBRATORS.create(kind) for kind in LINEAR]
EVERY += [calibrator(by=way) for calibrator in MAPS for way in WAYS]
EVERY += [HistogramBinning(5, way) for way in WAYS]
every = pytest.mark.parametrize("calibrator", EVERY, ids=repr)


def saved(calibrator):
    "Through JSON and back"
    text = json.dumps(calibrator.to_dict(), allow_nan=False)
    return calibrator_from_dict(json.loads(text))


@pytest.fixture(scope="module")
def rows():
    problem = synthetic_problem(300, 4, temperature=2.0, seed=11)
    new = synthetic_problem(50, 4, temperature=2.0, seed=12).logits
    return problem.logits, problem.labels, new


@every
def test_order_does_not_matter(calibrator, rows):
    "Rows and classes in another order: the same calibrator, up to rounding"
    logits, labels, new = rows
    probs = calibrator.fit(logits, labels).predict_proba(new)
    order = np.random.default_rng(13).permutation(300)
    again = calibrator.fit(logits[order], labels[order]).predict_proba(new)
    np.testing.assert_allclose(again, probs, atol=2e-4)
    classes = np.array([2, 0, 3, 1])
    calibrator.fit(logits[:, classes], np.argsort(classes)[labels])
    again = calibrator.predict_proba(new[:, classes])
    np.testing.assert_allclose(again, probs[:, classes], atol=2e-4)


@every
def test_layout_does_not_matter(calibrator, rows):
    "The same numbers in other holders: the same bits; probabilities: up to rounding"
    logits, labels, new = rows
    probs = calibrator.fit(logits, labels).predict_proba(new)
    frozen = logits.copy()
    frozen.flags.writeable = False
    for same in (
        np.asfortranarray(logits),
        logits.astype(">f8"),
        np.repeat(logits, 2, axis=0)[::2],
        frozen,
        logits.tolist(),
    ):
        again = calibrator.fit(same, labels.tolist()).predict_proba(new)
        np.testing.assert_array_equal(again, probs)
    calibrator.fit(probs=softmax(logits), labels=labels)
    again = calibrator.predict_proba(probs=softmax(new))
    np.testing.assert_allclose(again, probs, atol=2e-4)


@every
@pytest.mark.parametrize(
    "dtype, tol", [("float32", 1e-3), ("float16", 0.06), ("bfloat16", 0.2)]
)
def test_torch_and_half_precision(calibrator, dtype, tol, rows):
    "A score on the other side of a step moves a whole step: so the median"
    torch = pytest.importorskip("torch")
    logits, labels, new = rows
    dtype = getattr(torch, dtype)
    coarse, other = torch.tensor(logits).to(dtype), torch.tensor(new).to(dtype)
    probs = calibrator.fit(coarse, torch.tensor(labels)).predict_proba(other)
    exact = calibrator.fit(logits, labels).predict_proba(new)
    assert probs.dtype == np.float64
    assert np.median(np.abs(probs - exact)) < tol


def hard_rows():
    "Usual, absent class, single, all right, all wrong, flat, under-confident"
    problem = synthetic_problem(300, 4, temperature=2.0, seed=11)
    logits, labels = problem.logits, problem.labels
    return [
        (logits, labels),
        (logits[labels > 1], labels[labels > 1]),
        (logits[:1], labels[:1]),
        (logits, logits.argmax(1)),
        (logits, logits.argmin(1)),
        (logits * 0, labels),
        (logits / 8, labels),
    ]


@every
def test_hard_rows_have_finite_answers_and_are_saved_bit_for_bit(calibrator, rows):
    new = rows[2]
    for logits, labels in hard_rows():
        probs = calibrator.fit(logits, labels).predict_proba(new)
        assert probs.shape == new.shape and (probs >= 0).all()
        assert np.abs(probs.sum(1) - 1).max() < 1e-9
        again = saved(calibrator)
        assert (again.predict_proba(new) == probs).all()
        assert again.to_dict() == calibrator.to_dict()


def test_which_may_change_decisions(rows):
    logits, labels, _ = rows
    tilted = logits + np.array([3.0, 0, 0, 0])
    changed = set()
    for calibrator in EVERY:
        if not calibrator.keeps_decision:
            probs = calibrator.fit(tilted, labels).predict_proba(tilted)
            if (probs.argmax(1) != tilted.argmax(1)).any():
                changed.add(calibrator.kind)
    maps = {"platt", "beta", "isotonic", "histogram", "venn_abers"}
    assert changed == {"vector", "dirichlet"} | maps


extreme = st.one_of(
    st.floats(-40, 40, width=32), st.sampled_from([0.0, 1e-300, -1e4, 5e3, 1.0])
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(extreme, min_size=4, max_size=4), min_size=1, max_size=3))
def test_the_top_stays(some):
    problem = synthetic_problem(300, 4, temperature=2.0, seed=11)
    tilted = problem.logits + np.array([3.0, 0, 0, 0])
    logits = np.array(some)
    at_top = np.arange(len(logits)), softmax(logits).argmax(1)
    for calibrator in EVERY:
        if calibrator.keeps_decision:
            probs = calibrator.fit(tilted, problem.labels).predict_proba(logits)
            assert (probs[at_top] == probs.max(1)).all(), calibrator


def test_what_is_no_calibrator(rows):
    logits, labels, _ = rows
    empty = dict(params={}, state={})
    with pytest.raises(CalibrationError, match="temperature_, .* missing"):
        calibrator_from_dict(dict(kind="temperature", **empty))
    with pytest.raises(CalibrationError, match="a dict with its kind"):
        calibrator_from_dict([1])
    with pytest.raises(CalibrationError, match="kind is 'beta'"):
        VennAbers.from_dict(dict(kind="beta", **empty))
    with pytest.raises(ConfigurationError, match="Did you mean 'temperature'"):
        calibrator_from_dict(dict(kind="temperatur"))
    with pytest.raises(ConfigurationError, match="`by` must be one of one-vs-rest"):
        BetaCalibration("label").fit(logits, labels)
    with pytest.raises(ConfigurationError, match="`mu` must be 0 or more"):
        VectorScaling(mu=-1).fit(logits, labels)
    for n_bins in (0, True, 2.5, "3"):
        with pytest.raises(ConfigurationError, match="`n_bins` must be"):
            HistogramBinning(n_bins).fit(logits, labels)


def test_numbers_of_numpy_are_parameters():
    assert HistogramBinning(np.int64(3)).n_bins == 3
    vector = VectorScaling(mu=np.float32(1)).fit([[1.0, 0], [0, 1]], [0, 1])
    assert json.dumps(vector.to_dict())


def cut(value):
    "Less of what was learned"
    if isinstance(value, dict):
        return {**value, "array": value["array"][:-1]}
    return value[:-1] if isinstance(value, list) else -value


@every
def test_saved_ones_that_were_cut_or_changed(calibrator, rows):
    "Lists shorter than what was learned, or with nan: refused when read"
    state = calibrator.fit(*rows[:2]).to_dict()
    refused = f"no saved {calibrator.kind} calibrator"
    for name in calibrator.learns:
        kept = state["state"][name]
        for bad in ("x", None, [], [float("nan")], [[[1.0]]], cut(kept)):
            changed = {**state, "state": {**state["state"], name: bad}}
            with pytest.raises(CalibrationError, match=refused):
                calibrator_from_dict(json.loads(json.dumps(changed)))
    one_class = {**state, "state": {**state["state"], "n_classes_": 1}}
    with pytest.raises((CalibrationError, ConfigurationError)):
        calibrator_from_dict(one_class)


@pytest.mark.parametrize("temperature", [-1, 0, float("nan"), "a", None, [1.0]])
def test_temperatures_that_are_none(temperature):
    state = TemperatureScaling().fit([[1.0, 0], [0, 1]], [0, 0]).to_dict()
    state["state"]["temperature_"] = temperature
    with pytest.raises(CalibrationError, match="no saved temperature calibrator"):
        calibrator_from_dict(state)


def test_the_guarantee_takes_a_chance(rows):
    histogram = HistogramBinning(5).fit(*rows[:2])
    assert 0 < histogram.guarantee() < 1
    for delta in (0, 1, ".1", 10, True):
        with pytest.raises(ConfigurationError, match="`delta` must be"):
            histogram.guarantee(delta)


@every
def test_what_was_fitted_on_probabilities_asks_for_them(calibrator, rows):
    "Probabilities by position are refused, by name they are taken; logits still are"
    logits, labels, new = rows
    calibrator = saved(calibrator.fit(probs=softmax(logits), labels=labels))
    probs = softmax(new)
    for n in (1, 3, 50):
        with pytest.raises(CalibrationError, match="by name"):
            calibrator.predict_proba(probs[:n])
        assert calibrator.predict_proba(probs=probs[:n]).shape == (n, 4)
        assert calibrator.predict_proba(new[:n]).shape == (n, 4)
    calibrator.fit(logits, labels)
    assert calibrator.predict_proba(probs[:1]).shape == (1, 4)
    assert calibrator.to_dict()["state"]["of_"] == "logits"


def test_one_row_of_a_service(rows):
    logits, labels, _ = rows
    on_probs = saved(TemperatureScaling().fit(probs=softmax(logits), labels=labels))
    one = softmax(logits[:1])
    with pytest.raises(CalibrationError, match="and this row is one too"):
        on_probs.predict_proba(one)
    by_name = on_probs.predict_proba(probs=one)
    np.testing.assert_allclose(by_name, on_probs.predict_proba(logits[:1]), atol=1e-12)


number = st.one_of(
    st.floats(-30, 30, width=32),
    st.sampled_from([0.0, 5e-324, 1e-310, -1e-310, 1e-45, 700.0]),
)
labelled = st.tuples(st.lists(number, min_size=3, max_size=3), st.integers(0, 2))


@pytest.mark.filterwarnings("ignore:the temperature ran")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(labelled, min_size=2, max_size=8), st.integers(2, 5))
def test_duplicates_and_subnormals(some, times):
    "Of duplicated rows and prior the same temperature; all answers distributions"
    logits = np.array([row for row, _ in some])
    labels = np.array([label for _, label in some])
    many = np.repeat(logits, times, 0)
    many_labels = np.repeat(labels, times)
    once = np.log(best_temperature(logits, labels))
    again = best_temperature(many, many_labels, prior_rows=4 * times)
    assert np.isclose(np.log(again), once, atol=1e-6)
    for kind in CALIBRATORS:
        calibrator = CALIBRATORS.create(kind)
        for x in (dict(logits=many), dict(probs=softmax(many))):
            probs = calibrator.fit(**x, labels=many_labels).predict_proba(**x)
            assert (probs >= 0).all() and np.abs(probs.sum(1) - 1).max() < 1e-9
            assert (probs[::times] == probs[1::times]).all(), calibrator


@every
def test_a_clone_has_learned_nothing(calibrator, rows):
    again = clone(calibrator.fit(*rows[:2]))
    assert again.get_params() == calibrator.get_params() and not again.learned


def test_a_grid_search_chooses_parameters(rows):
    logits, labels, _ = rows

    def minus_nll(calibrator, logits, labels):
        return -nll(calibrator.predict_proba(logits), labels)

    grid = dict(n_bins=[1, 5])
    histogram = HistogramBinning(by="one-vs-rest")
    search = GridSearchCV(histogram, grid, scoring=minus_nll, cv=3)
    search.fit(logits, labels)
    assert search.best_params_ == dict(n_bins=5)
    assert search.best_estimator_.n_bins == 5


@every
def test_each_shows_what_it_learned(calibrator, rows):
    assert "not fitted" in clone(calibrator)._repr_markdown_()
    table = calibrator.fit(*rows[:2])._repr_markdown_()
    assert "| classes | 4 |" in table and repr(clone(calibrator)) in table


def test_a_candidate_that_fails_is_not_evaluated(rows):
    "A plugin's calibrator may refuse: its row says why, and the others are compared"

    class Refuses(VectorScaling):
        def _learn(self, rows, y):
            raise CalibrationError("too few rows for me")

    logits, labels, _ = rows
    candidates = ("none", "temperature", Refuses())
    choice = select_calibrator(logits, labels, seed=0, candidates=candidates)
    assert choice.rows[2]["reason"] == "too few rows for me"
    assert choice.name == "temperature"
    assert "not evaluated: too few" in choice._repr_markdown_()
    with pytest.raises(CalibrationError, match="no candidate could be fitted"):
        select_calibrator(logits, labels, seed=0, candidates=(Refuses(),))


def test_a_choice_does_not_depend_on_the_others():
    problem = synthetic_problem(1000, 4, temperature=2.0, seed=14)
    choice = select_calibrator(problem.logits, problem.labels, seed=0)
    alone = select_calibrator(
        problem.logits, problem.labels, seed=0, candidates=("temperature",)
    )
    assert alone.rows[0]["nll"] == choice.rows[1]["nll"]


def test_a_candidate_that_fails_wildly_is_not_forgiven():
    """One wrong row

    Where it is left out, the temperature goes to its bound, and that row costs more
    than all others.
    """
    logits = synthetic_problem(1000, 4, temperature=2.0, seed=14).logits[:100]
    labels = logits.argmax(1)
    labels[7] = (labels[7] + 1) % 4
    wild = select_calibrator(logits, labels, seed=3)
    temperature = {row["name"]: row for row in wild.rows}["temperature"]
    assert wild.name != "temperature"
    assert wild.best_se < temperature["behind"] < temperature["behind_se"]


def test_labels_that_a_candidate_has_not_seen_do_not_help_it():
    problem = synthetic_problem(1000, 4, temperature=2.0, seed=14)
    coin = np.random.default_rng(15).integers(0, 4, 400)
    candidates = ("none", "isotonic")
    flat = select_calibrator(problem.logits[:400], coin, seed=0, candidates=candidates)
    assert flat.rows[1]["nll"] > math.log(4) - 0.02


def test_folds_spread_the_classes():
    labels = synthetic_problem(1000, 4, temperature=2.0, seed=14).labels
    fold = _fold_of(labels, 5, np.random.default_rng(0))
    counts = [np.bincount(labels[fold == i], minlength=4) for i in range(5)]
    assert np.ptp(counts, 0).max() <= 1


@pytest.mark.parametrize(
    "candidates",
    [
        "temperature",
        5,
        (),
        (TemperatureScaling,),
        (5,),
        ("none", "none"),
        (TemperatureScaling(), TemperatureScaling()),
    ],
)
def test_candidates_that_are_none(candidates, rows):
    with pytest.raises(ConfigurationError, match="`candidates`"):
        select_calibrator(*rows[:2], seed=0, candidates=candidates)


def test_wrong_calls(rows):
    logits, labels, _ = rows
    with pytest.raises(NotFittedError, match="Call fit"):
        TemperatureScaling().predict_proba([[1.0, 2.0]])
    with pytest.raises(NotFittedError, match="Call fit"):
        VennAbers().to_dict()
    with pytest.raises(PredictionError, match="must be finite; 1 of 1"):
        TemperatureScaling().fit([[np.inf, 0]], [0])
    with pytest.raises(PredictionError, match=r"shape \(2,\)"):
        TemperatureScaling().fit([[1.0, 0], [0, 1]], [0])
    with pytest.raises(CalibrationError, match="fitted on 4 classes, got rows of 3"):
        VectorScaling().fit(logits, labels).predict_proba([[1.0, 2, 3]])
    with pytest.raises(CalibrationError, match="no theorem covers"):
        HistogramBinning(by="one-vs-rest").fit(logits, labels).guarantee()
    for far in (1e308, -1e308):
        with pytest.raises(CalibrationError, match="within ±1e100"):
            TemperatureScaling().fit([[far, 0.0], [0, 1]], [0, 1])


def test_real_outputs(vgg):
    """VGG-16 on CIFAR-10 (Kumar et al. 2019)

    Every calibrator takes a third off the ECE or more and lowers the loss of rows it
    has not seen; what keeps decisions keeps them.
    """
    probs, labels = vgg
    held, held_labels = probs[5000:], labels[5000:]
    probs, labels = probs[:5000], labels[:5000]
    assert 1.5 < best_temperature(probs=probs, labels=labels) < 3
    # five bins by class cannot tell ten classes apart
    for calibrator in [*EVERY[1:-3], *EVERY[-2:]]:
        after = calibrator.fit(probs=probs, labels=labels).predict_proba(probs=held)
        assert ece(after, held_labels) < 0.67 * ece(held, held_labels), calibrator
        assert nll(after, held_labels) < nll(held, held_labels), calibrator
        gap = abs(accuracy(after, held_labels) - accuracy(held, held_labels))
        assert gap == 0 if calibrator.keeps_decision else gap < 0.01, calibrator


def test_real_choice(vgg):
    probs, labels = vgg
    choice = select_calibrator(probs=probs[:2000], labels=labels[:2000], seed=0)
    assert choice.name != "none"
    after = choice.calibrator.predict_proba(probs=probs[2000:])
    assert ece(after, labels[2000:]) < 0.02
