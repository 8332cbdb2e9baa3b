"""What strangers pass: pandas, text arrays, functions, ragged lists, the wrong object

Errors name the argument; what is accepted survives `to_dict`, JSON and `from_dict`.
"""

import inspect
import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

import fine_tune_llm.stats as stats
from fine_tune_llm.core.errors import (
    ConfigurationError,
    FineTuneLLMError,
    NotFittedError,
    PredictionError,
    SchemaError,
)
from fine_tune_llm.stats.estimator import pack, unpack

RAGGED = [[0.5, 0.5], [1.0]]
NAMES = ["a", "b", "c"]


def _problem(n=120):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(3, 0.2), n)
    return probs, probs.argmax(1)


def _read_back(estimator):
    saved = json.dumps(estimator.to_dict(), allow_nan=False)
    again = type(estimator).from_dict(json.loads(saved))
    assert json.dumps(again.to_dict()) == saved
    return again


@pytest.mark.parametrize(
    "array",
    [
        np.array(["ab", "c"]),
        np.array([], dtype="U5"),
        np.array([None, "a", 3], object),
        np.zeros((0, 3)),
        np.zeros((2, 0, 3), np.float32),
        np.array([[True], [False]]),
        np.array([2**63], np.uint64),
    ],
)
def test_arrays_come_back_with_type_and_shape(array):
    again = unpack(json.loads(json.dumps(pack(array))))
    assert again.shape == array.shape
    assert again.dtype.kind == array.dtype.kind
    assert again.tolist() == array.tolist()


def test_what_converts_to_an_array_is_saved_as_one():
    np.testing.assert_array_equal(unpack(pack(pd.Series([1.5, 2.5]))), [1.5, 2.5])
    assert unpack(pack(range(3))) == [0, 1, 2]


@pytest.mark.parametrize(
    "value", [len, {1, 2}, b"ab", 1j, np.array(["2020-01-01"], "M8[D]"), object()]
)
def test_what_cannot_be_saved_is_named(value):
    with pytest.raises(ConfigurationError, match="`rate` cannot be saved"):
        pack([value], "rate")


@pytest.mark.parametrize(
    "classes", [NAMES, np.array(NAMES), pd.Index(NAMES), pd.Series(NAMES), range(3)]
)
def test_class_names_of_any_kind_are_saved(classes):
    fitted = stats.SelectiveClassifier(0.3, 0.2, classes=classes).fit(*_problem())
    again = _read_back(fitted)
    assert list(again.classes) == list(classes)
    assert again.certificate_ == fitted.certificate_


@pytest.mark.parametrize("classes", [np.int64(1), np.array([0, 1]), np.array(["b"])])
def test_classes_of_a_target_are_plain(classes):
    target = stats.Target("misses", 0.4, classes=classes)
    assert all(type(item) in (int, str) for item in target.classes)
    json.dumps(target.to_dict())


def test_costs_and_grids_as_data_frames_are_saved():
    cost = pd.DataFrame(1 - np.eye(3))
    grid = pd.Series(np.linspace(1, 0, 50))
    fitted = stats.SelectiveClassifier(0.3, 0.2, cost=cost, grid=grid)
    again = _read_back(fitted.fit(*_problem()))
    np.testing.assert_array_equal(again.cost, cost)
    np.testing.assert_array_equal(again.grid, grid)


@pytest.mark.parametrize(
    "rule, name",
    [
        (stats.holm_rejects, "holm"),
        (partial(stats.graphical, weights=np.eye(4)[0]), "user's rule"),
        (lambda p, delta: p <= delta / len(p), "user's rule"),
    ],
)
def test_a_rule_that_is_a_function_is_saved_by_name(rule, name):
    learner = stats.LearnThenTest(0.3, correction=rule)
    with pytest.raises(NotFittedError):
        learner.to_dict()
    again = _read_back(learner.fit(np.zeros((90, 4))))
    assert again.correction == name
    assert again.certificate_ == learner.certificate_
    assert learner.correction is rule
    if name not in stats.CORRECTIONS:  # and is not fitted anew with another rule
        with pytest.raises(ConfigurationError, match="unknown correction"):
            again.fit(np.zeros((90, 4)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.out_of_scope(RAGGED, RAGGED, seed=0),
        lambda: stats.row_uniforms(RAGGED, seed=0),
        lambda: stats.GroupCounts.from_arrays(
            [0, 1], probs=RAGGED, groups={"g": ["a", "b"]}
        ),
    ],
)
def test_ragged_probabilities_are_called_ragged(call):
    with pytest.raises(PredictionError, match="`probs` is ragged"):
        call()


@pytest.mark.parametrize("probs", [None, "probs", [0.5, 0.5], np.ones((1, 2, 2))])
def test_row_uniforms_wants_a_matrix(probs):
    with pytest.raises(PredictionError, match="`probs` must"):
        stats.row_uniforms(probs, seed=0)


def test_row_uniforms_of_no_rows_are_none():
    assert stats.row_uniforms(np.zeros((0, 3)), seed=0).shape == (0,)


@pytest.mark.parametrize("saved", [None, "x", 3, [], {}, {"kind": "aci"}])
@pytest.mark.parametrize(
    "cls",
    [
        stats.ACI,
        stats.ConformalMartingale,
        stats.ConformalClassifier,
        stats.CellThresholds,
        stats.Alarm,
        stats.Target,
        stats.SelectiveCertificate,
        stats.ScoreBag,
    ],
)
def test_what_is_no_saved_state_is_a_schema_error(cls, saved):
    with pytest.raises(SchemaError):
        cls.from_dict(saved)


def test_a_monitor_with_new_parameters_begins_anew():
    monitor = stats.ACI(0.1)
    monitor.update([True, False])
    assert monitor.set_params(alpha=0.3) is monitor
    assert (monitor.alpha_, monitor.step_) == (0.3, 0)
    monitor.update([True])
    for wrong in ({"alpha": 2}, {"beta": 1}):
        with pytest.raises(ConfigurationError):
            monitor.set_params(**wrong)
    assert (monitor.alpha, monitor.step_) == (0.3, 1)


def test_other_arguments_are_named():
    with pytest.raises(ConfigurationError, match="`targets` must hold `Target`s"):
        stats.SelectiveClassifier(0.3, targets=3).fit(*_problem())
    with pytest.raises(ConfigurationError, match="`risk` must be in"):
        stats.Target("misses", 2)
    with pytest.raises(ConfigurationError, match="`target_risk` must be in"):
        stats.SelectiveClassifier(2).fit(*_problem())
    with pytest.raises(PredictionError, match=r"shape \(n, K\).*got shape \(120,\)"):
        stats.ConformalRiskControl().fit(*reversed(_problem()))
    with pytest.raises(ConfigurationError, match="must come from coverage_by"):
        stats.plot_coverage(None, 0.1)
    with pytest.raises(ConfigurationError, match="must come from certificate_curve"):
        stats.plot_certificate(2)
    with pytest.raises(FineTuneLLMError):
        stats.certificate_curve(3, *_problem())


def test_reprs_hold_no_address():
    for value in (stats.ScoreBag([1, 2]), stats.Scorer("aps", seed=0)):
        assert type(value).__name__ in repr(value)
        assert " at 0x" not in repr(value)
    assert repr(stats.ScoreBag([1, 2])) == "ScoreBag(2 scores)"


def test_signatures_are_short_enough_to_read():
    for words in stats._WORDS.values():
        for word in words:
            found = getattr(stats, word)
            if inspect.isfunction(found):
                assert "numpy._typing" not in str(inspect.signature(found)), word
            for name in vars(found) if inspect.isclass(found) else ():
                method = inspect.getattr_static(found, name)
                if inspect.isfunction(method):
                    said = str(inspect.signature(method))
                    assert "numpy._typing" not in said, f"{word}.{name}"
