"Calibrators on real model outputs, under other layouts and orders, and where a saved one is not what it says"

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from fine_tune_llm.core.errors import CalibrationError, ConfigurationError
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.binary_calibration import (
    WAYS,
    BetaCalibration,
    HistogramBinning,
    IsotonicCalibration,
    PlattScaling,
    _with_confidence,
)
from fine_tune_llm.stats.calibration import calibrator_from_dict, select_calibrator
from fine_tune_llm.stats.calibration_error import ece
from fine_tune_llm.stats.calibrators import CALIBRATORS
from fine_tune_llm.stats.matrix_scaling import VectorScaling
from fine_tune_llm.stats.metrics import accuracy, nll
from fine_tune_llm.stats.temperature import _moments, _moments_small, best_temperature
from fine_tune_llm.stats.venn_abers import VennAbers, _venn
from fine_tune_llm.testing import synthetic_problem

EVERY = [
    CALIBRATORS.create(k)
    for k in ("none", "temperature", "ensemble_temperature", "vector", "dirichlet")
]
EVERY += [
    c(by=w)
    for c in (PlattScaling, BetaCalibration, IsotonicCalibration, VennAbers)
    for w in WAYS
] + [HistogramBinning(5, w) for w in WAYS]


@pytest.fixture(scope="module")
def rows():
    s = synthetic_problem(300, 4, temperature=2.0, seed=11)
    return s.logits, s.labels, synthetic_problem(50, 4, temperature=2.0, seed=12).logits


@pytest.mark.parametrize("c", EVERY, ids=repr)
def test_order_does_not_matter(c, rows):
    "Rows and classes in another order: the same calibrator, up to rounding"
    z, y, new = rows
    p = c.fit(z, y).predict_proba(new)
    perm, cls = np.random.default_rng(13).permutation(300), np.array([2, 0, 3, 1])
    np.testing.assert_allclose(c.fit(z[perm], y[perm]).predict_proba(new), p, atol=2e-4)
    np.testing.assert_allclose(
        c.fit(z[:, cls], np.argsort(cls)[y]).predict_proba(new[:, cls]),
        p[:, cls],
        atol=2e-4,
    )


@pytest.mark.parametrize("c", EVERY, ids=repr)
def test_layout_does_not_matter(c, rows):
    "The same numbers as Fortran order, foreign byte order, read-only, lists: the same bits. Probabilities by name: the same up to rounding"
    z, y, new = rows
    p = c.fit(z, y).predict_proba(new)
    frozen = z.copy()
    frozen.flags.writeable = False
    for x in (
        np.asfortranarray(z),
        z.astype(">f8"),
        np.repeat(z, 2, axis=0)[::2],
        frozen,
        z.tolist(),
    ):
        np.testing.assert_array_equal(c.fit(x, y.tolist()).predict_proba(new), p)
    np.testing.assert_allclose(
        c.fit(probs=softmax(z), labels=y).predict_proba(probs=softmax(new)),
        p,
        atol=2e-4,
    )


@pytest.mark.parametrize("c", EVERY, ids=repr)
def test_torch_and_half_precision(c, rows):
    torch = pytest.importorskip("torch")
    z, y, new = rows
    for dtype, tol in (
        (torch.float32, 1e-3),
        (torch.float16, 0.06),
        (torch.bfloat16, 0.2),
    ):  # a score on the other side of a step moves a whole step: so the median
        x, other = torch.tensor(z).to(dtype), torch.tensor(new).to(dtype)
        p = c.fit(x, torch.tensor(y)).predict_proba(other)
        assert (
            p.dtype == np.float64
            and np.median(np.abs(p - c.fit(z, y).predict_proba(new))) < tol
        )


def test_compiled_venn_abers():
    "The compiled walk over 5,000 places against isotonic regression fitted anew"
    n = np.full(5000, 3)
    h = np.random.default_rng(9).binomial(3, np.linspace(0.1, 0.9, 5000))
    p0, p1 = _venn(n, h)
    assert (np.diff(p0) >= 0).all() and (np.diff(p1) >= 0).all()
    for i in (0, 1234, 4999):
        one = np.zeros(5000)
        one[i] = 1
        assert p0[i + 1] == pytest.approx(
            isotonic_regression(h / (n + one), weights=n + one).x[i], abs=1e-12
        )
        assert p1[i] == pytest.approx(
            isotonic_regression((h + one) / (n + one), weights=n + one).x[i], abs=1e-12
        )


def test_subnormals_share_what_is_left():
    "The rest in proportion, where their sum has no finite reciprocal"
    np.testing.assert_allclose(
        _with_confidence(
            np.array([[1.0, 5e-324, 0.0], [1.0, 1e-310, 3e-310]]),
            np.array([0, 0]),
            np.array([0.6, 0.6]),
        ),
        [[0.6, 0.4, 0], [0.6, 0.1, 0.3]],
        rtol=1e-6,
    )


def test_what_is_no_calibrator():
    with pytest.raises(CalibrationError, match="temperature missing"):
        calibrator_from_dict(dict(kind="temperature"))
    with pytest.raises(CalibrationError, match="a dict with its kind"):
        calibrator_from_dict([1])
    with pytest.raises(CalibrationError, match="kind is 'beta'"):
        VennAbers.from_dict(dict(kind="beta", maps=[]))
    with pytest.raises(ConfigurationError, match="Did you mean 'temperature'"):
        calibrator_from_dict(dict(kind="temperatur"))
    with pytest.raises(ConfigurationError, match="`by` must be one of one-vs-rest"):
        BetaCalibration("label")
    with pytest.raises(ConfigurationError, match="`mu` must be 0 or more"):
        VectorScaling(mu=-1)
    for n in (0, True, 2.5, "3"):
        with pytest.raises(ConfigurationError, match="`n_bins` must be"):
            HistogramBinning(n)
    assert HistogramBinning(np.int64(3)).n_bins == 3 and json.dumps(
        VectorScaling(mu=np.float32(1)).fit([[1.0, 0], [0, 1]], [0, 1]).to_dict()
    )


@pytest.mark.parametrize("c", EVERY, ids=repr)
def test_saved_ones_that_were_cut_or_changed(c, rows):
    "Lists shorter than what was learned, or with nan: refused when read, and not at the first row"
    d = json.loads(json.dumps(c.fit(*rows[:2]).to_dict()))
    for k in c.state:
        for bad in (
            "x",
            None,
            [],
            [float("nan")],
            [[[1.0]]],
            d[k][:-1] if isinstance(d[k], list) else -d[k],
        ):
            with pytest.raises(CalibrationError, match=f"no saved {c.kind} calibrator"):
                calibrator_from_dict(d | {k: bad})
    with pytest.raises((CalibrationError, ConfigurationError)):
        calibrator_from_dict(d | dict(n_classes=1))


def test_a_histogram_saved_before_bins_were_counted(rows):
    c = HistogramBinning(5).fit(*rows[:2])
    d = c.to_dict()
    d.pop("inside")
    old = calibrator_from_dict(d)
    np.testing.assert_array_equal(old.predict_proba(rows[2]), c.predict_proba(rows[2]))
    assert 0 < c.guarantee() < 1 and "inside" not in old.to_dict()
    with pytest.raises(CalibrationError, match="Fit it again"):
        old.guarantee()
    for delta in (0, 1, ".1", 10, True):
        with pytest.raises(ConfigurationError, match="`delta` must be"):
            c.guarantee(delta)


@pytest.mark.parametrize("c", EVERY, ids=repr)
def test_what_was_fitted_on_probabilities_asks_for_them(c, rows):
    "One row of a service, as many rows, after a save: probabilities by position are refused, by name they are taken, and logits still are"
    z, y, new = rows
    c = calibrator_from_dict(
        json.loads(json.dumps(c.fit(probs=softmax(z), labels=y).to_dict()))
    )
    p = softmax(new)
    for n in (1, 3, 50):
        with pytest.raises(CalibrationError, match="by name"):
            c.predict_proba(p[:n])
        assert (
            c.predict_proba(probs=p[:n]).shape
            == c.predict_proba(new[:n]).shape
            == (n, 4)
        )
    assert c.fit(z, y).predict_proba(p[:1]).shape == (1, 4) and "of" not in c.to_dict()


number = st.one_of(
    st.floats(-30, 30, width=32),
    st.sampled_from([0.0, 5e-324, 1e-310, -1e-310, 1e-45, 700.0]),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.lists(number, min_size=3, max_size=3), st.integers(0, 2)),
        min_size=2,
        max_size=8,
    ),
    st.integers(2, 5),
)
def test_duplicates_and_subnormals(rows, times):
    "Rows again and again, numbers below the smallest normal one: distributions, finite, and of duplicated rows the same temperature"
    z, y = np.array([r for r, _ in rows]), np.array([k for _, k in rows])
    many = np.repeat(z, times, 0), np.repeat(y, times)
    assert np.isclose(
        np.log(best_temperature(*many)), np.log(best_temperature(z, y)), atol=1e-6
    )
    for c in (CALIBRATORS.create(k) for k in CALIBRATORS):
        for x in (dict(logits=many[0]), dict(probs=softmax(many[0]))):
            p = c.fit(**x, labels=many[1]).predict_proba(**x)
            assert (
                (p >= 0).all()
                and np.abs(p.sum(1) - 1).max() < 1e-9
                and (p[::times] == p[1::times]).all()
            ), c


def test_a_candidate_that_fails_is_not_evaluated(rows):
    "A plugin's calibrator may refuse: its row says why, and the others are compared"

    class Refuses(VectorScaling):
        def _learn(self, r, y):
            raise CalibrationError("too few rows for me")

    z, y, _ = rows
    choice = select_calibrator(
        z, y, seed=0, candidates=("none", "temperature", Refuses())
    )
    assert (
        choice.rows[2]["reason"] == "too few rows for me"
        and choice.name == "temperature"
        and "not evaluated: too few" in choice._repr_markdown_()
    )
    with pytest.raises(CalibrationError, match="no candidate could be fitted"):
        select_calibrator(z, y, seed=0, candidates=(Refuses(),))


def test_real_outputs(vgg):
    "VGG-16 on CIFAR-10 (Kumar et al. 2019): every calibrator takes a third off the ECE or more and lowers the loss of rows it has not seen; what keeps decisions keeps them"
    p, y = vgg
    fit, held = slice(0, 5000), slice(5000, None)
    assert 1.5 < best_temperature(probs=p[fit], labels=y[fit]) < 3
    for c in [
        *EVERY[1:-3],
        *EVERY[-2:],
    ]:  # five bins by class cannot tell ten classes apart
        q = c.fit(probs=p[fit], labels=y[fit]).predict_proba(probs=p[held])
        assert ece(q, y[held]) < 0.67 * ece(p[held], y[held]) and nll(q, y[held]) < nll(
            p[held], y[held]
        ), repr(c)
        assert (
            (accuracy(q, y[held]) == accuracy(p[held], y[held]))
            if c.keeps_decision
            else (abs(accuracy(q, y[held]) - accuracy(p[held], y[held])) < 0.01)
        ), repr(c)


def test_real_choice(vgg):
    p, y = vgg
    choice = select_calibrator(probs=p[:2000], labels=y[:2000], seed=0)
    assert (
        choice.name != "none"
        and ece(choice.calibrator.predict_proba(probs=p[2000:]), y[2000:]) < 0.02
    )


def test_moments_of_both_kinds():
    "The compiled pass and numpy's agree in all three numbers, over all rows and over every third"
    z = np.random.default_rng(1).normal(scale=3, size=(600, 33)).astype(np.float32)
    y = np.arange(600) % 33
    top = z.max(1)
    for step in (1, 3):
        np.testing.assert_allclose(
            np.array(_moments(z, top, y, 1.3, step, 0, 600 // step)) / (600 // step),
            _moments_small(z[::step], top[::step], y[::step], 1.3),
            rtol=1e-12,
        )
