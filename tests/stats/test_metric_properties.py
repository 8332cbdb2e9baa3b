"What may not matter to a metric, and what it is by its definition"

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.calibration_error import ace, classwise_ece, ece, smooth_ece
from fine_tune_llm.stats.calibration_tests import (
    ks_test,
    kuiper_test,
    spiegelhalter_test,
)
from fine_tune_llm.stats.metric_summary import METRICS, WATCHED, interval
from fine_tune_llm.stats.metrics import brier, nll
from fine_tune_llm.stats.streaming import StreamingCalibration
from fine_tune_llm.testing import synthetic_problem

EVERY = {name: METRICS.get(name) for name in METRICS}
MEANS = (
    "accuracy",
    "nll",
    "brier",
    "ece",
    "mce",
    "overconfidence",
    "classwise_ece",
    "balanced_accuracy",
    "macro_f1",
)


@st.composite
def some_rows(draw):
    "2 to 5 classes, 1 to 12 rows, with ties and probabilities of exactly 0 and 1"
    K, n = draw(st.integers(2, 5)), draw(st.integers(1, 12))
    row = st.lists(st.integers(0, 4), min_size=K, max_size=K).filter(any)
    weights = np.array(draw(st.lists(row, min_size=n, max_size=n)), float)
    labels = draw(st.lists(st.integers(0, K - 1), min_size=n, max_size=n))
    return (
        weights / weights.sum(1, keepdims=True),
        np.array(labels),
        draw(st.permutations(range(n))),
        draw(st.permutations(range(K))),
    )


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or abs(a - b) < 1e-9


@settings(max_examples=40, deadline=None, derandomize=True)
@given(some_rows())
def test_order_of_rows_and_classes_and_doubling(case):
    "Order never matters, nor that of classes where the maximum is single"
    p, y, rows, classes = case
    rows = list(rows)
    single = ((p == p.max(1, keepdims=True)).sum(1) == 1).all()
    turned, turned_labels = p[:, list(classes)], np.argsort(classes)[y]
    for name, metric in EVERY.items():
        value = metric(p, y)
        assert same(value, metric(p[rows], y[rows])), name
        if single and name != "top_k_accuracy":
            assert same(value, metric(turned, turned_labels)), name
        if name in MEANS:
            doubled = metric(np.r_[p, p], np.r_[y, y])
            if name in WATCHED:
                assert value == doubled, name
            else:
                assert value == pytest.approx(doubled, abs=1e-12), name
        assert math.isnan(value) or value >= 0


FIVE = synthetic_problem(3000, 5, temperature=2, seed=1)
ROWS = softmax(FIVE.logits)


def layouts():
    "The same numbers in other forms"
    torch = pytest.importorskip("torch")
    wide = np.zeros((len(ROWS), 10))
    wide[:, ::2] = ROWS
    locked = ROWS.copy()
    locked.flags.writeable = False
    big_endian = ROWS.astype(">f8")
    fortran = np.asfortranarray(ROWS)
    return (
        wide[:, ::2],
        locked,
        big_endian,
        fortran,
        torch.tensor(ROWS),
        ROWS.tolist(),
    )


def test_layout_does_not_matter():
    for form in layouts():
        for metric in EVERY.values():
            np.testing.assert_equal(
                metric(form, FIVE.labels), metric(ROWS, FIVE.labels)
            )


def test_half_precision():
    torch = pytest.importorskip("torch")
    for dtype, tolerance in ((torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        half = torch.tensor(ROWS).to(dtype)
        for name, metric in EVERY.items():
            if name not in ("mce", "nll"):
                expected = metric(ROWS, FIVE.labels)
                assert metric(half, FIVE.labels) == pytest.approx(
                    expected, abs=tolerance
                )


def test_one_floor_for_every_dtype():
    tiny = np.array([[1.0, 5e-324], [1.0, 0.0]])
    floor = -np.log(np.finfo(np.float32).tiny) / 2
    assert brier(tiny, [0, 0]) == pytest.approx(0, abs=1e-12)
    assert ece(tiny, [0, 0]) == pytest.approx(0, abs=1e-12)
    assert nll(tiny, [1, 0]) == pytest.approx(floor, abs=1e-12)


def test_every_interval_of_one_row():
    for name in METRICS:
        found = interval(name, [[0.7, 0.3]], [0], seed=0)
        assert found.low <= found.high or math.isnan(found.value)


def population(accuracies):
    "10,000 rows: five confidences, as often right as said"
    rows = [
        (conf, k, i >= accuracy * 1000)
        for conf, accuracy in zip((0.55, 0.65, 0.75, 0.85, 0.95), accuracies)
        for k in (0, 1)
        for i in range(1000)
    ]
    probs = [[conf, 1 - conf] if k == 0 else [1 - conf, conf] for conf, k, _ in rows]
    return np.array(probs), np.array([k ^ wrong for _, k, wrong in rows]).astype(int)


def share_held(name, rows, sets, n=250):
    "How often the 90% interval of a sample holds the number of the population"
    probs, labels = rows
    truth, rng = METRICS.create(name)(*rows), np.random.default_rng(10)
    picks = [rng.integers(10_000, size=n) for _ in range(sets)]
    held = [
        truth
        in interval(name, probs[pick], labels[pick], level=0.9, seed=j, n_resamples=100)
        for j, pick in enumerate(picks)
    ]
    return np.mean(held)


QUICK = ("accuracy", "brier", "aurc", "selective_risk_at", "confidence_auroc")
SLOW = ("nll", "ece", "ece_debiased", "mce", "overconfidence", "ks_error", "macro_f1")


@pytest.mark.parametrize("name", QUICK + SLOW)
def test_intervals_of_an_overconfident_population(name):
    "100 samples of 250 rows, 400 where they are quick, less 4 sigma"
    sets = 400 if name in QUICK else 100
    held = share_held(name, population((0.55, 0.62, 0.7, 0.75, 0.8)), sets)
    assert held >= 0.9 - 4 * (0.09 / sets) ** 0.5, held


@pytest.mark.parametrize("name", ("ece", "ece_debiased", "ks_error"))
def test_intervals_of_a_calibrated_population(name):
    "Its error is 0, where percentile intervals would hold it never"
    held = share_held(name, population((0.55, 0.65, 0.75, 0.85, 0.95)), 100)
    assert held >= 0.9 - 4 * (0.09 / 100) ** 0.5, held


def test_calibration_tests_keep_their_level():
    "1,000 calibrated sets of 400 rows are refused at 5% about as often as that"
    tests = (ks_test, kuiper_test, spiegelhalter_test)
    refused = []
    for conf in np.random.default_rng(8).uniform(0.5, 1, (1000, 400)):
        rng = np.random.default_rng(int(conf[0] * 1e9))
        rows = np.c_[conf, 1 - conf], (rng.uniform(size=400) > conf).astype(int)
        refused.append([test(*rows).p_value < 0.05 for test in tests])
    share = np.mean(refused, 0)
    # .01: the walk has 400 steps, not infinitely many
    assert (np.abs(share - 0.05) < 4 * (0.05 * 0.95 / 1000) ** 0.5 + 0.01).all(), share
    problem = synthetic_problem(20_000, 4, seed=0)
    for test in tests:
        calibrated = test(softmax(problem.logits), problem.labels).p_value
        sharpened = test(softmax(problem.logits * 2), problem.labels).p_value
        assert sharpened < 1e-6 < calibrated


def test_smooth_ece_by_its_definition():
    "The reflected kernel written out and integrated by brute force"
    conf = np.random.default_rng(6).uniform(0.5, 1, 300)
    right = np.random.default_rng(7).uniform(size=300) < 0.6
    grid = (np.arange(4000) + 0.5) / 4000

    def bell(distance, width):
        height = width * (2 * np.pi) ** 0.5
        return np.exp(-0.5 * (distance / width) ** 2) / height

    def by_brute_force(width):
        kernel = sum(
            bell(grid[:, None] - (sign * conf + 2 * k), width)
            for k in (-1, 0, 1)
            for sign in (1, -1)
        )
        return np.abs(kernel @ (right - conf)).mean() / 300

    value = smooth_ece(np.c_[conf, 1 - conf], np.where(right, 0, 1))
    assert by_brute_force(value) == pytest.approx(value, abs=1e-4)


def test_classwise_ece_by_columns():
    "30,000 rows go through the kernel; one column at a time by numpy"
    problem = synthetic_problem(30_000, 50, seed=5)
    probs = softmax(problem.logits)
    gaps = []
    for k in range(50):
        column = probs[:, k]
        at = np.searchsorted(np.linspace(0, 1, 16)[1:-1], column)
        excess = np.bincount(at, column - (problem.labels == k), 15)
        gaps.append(np.abs(excess).sum() / 30_000)
    found = classwise_ece(probs, problem.labels)
    assert found == pytest.approx(np.mean(gaps), abs=1e-12)
    assert ace(probs, problem.labels) < 0.003


def in_parts(rows, labels, n):
    "A stream of batches of 7"
    stream = StreamingCalibration()
    for i in range(0, n, 7):
        stream.update(rows[i : i + 7], labels[i : i + 7])
    return stream


def test_streams_of_many_classes_and_of_half_precision():
    torch = pytest.importorskip("torch")
    wide = softmax(np.random.default_rng(14).normal(size=(60, 9000)))
    labels = np.arange(60)
    whole = StreamingCalibration().update(wide, labels)
    assert whole.to_dict() == in_parts(wide, labels, 60).to_dict()
    assert whole.summary()["ece"] == ece(wide, labels)
    generator = torch.Generator().manual_seed(0)
    half = torch.softmax(torch.randn(500, 300, generator=generator) * 3, 1).half()
    labels = np.arange(500) % 300
    whole = StreamingCalibration().update(half, labels)
    parts = in_parts(half, labels, 500)
    assert whole.to_dict() == parts.to_dict()
    assert len(str(whole.to_dict())) < 2000
