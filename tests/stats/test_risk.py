"Certificates: on real outputs, for every kind of array, and for whatever hypothesis thinks of"

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import CertificateError
from fine_tune_llm.stats import multiple_testing
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.bounds import Nested, p_value, risk_test
from fine_tune_llm.stats.certificates import SelectiveCertificate, Target
from fine_tune_llm.stats.costs import CostMatrix, bayes_decide, realised_cost
from fine_tune_llm.stats.learn_then_test import LearnThenTest
from fine_tune_llm.stats.multiple_testing import graphical, holm_rejects
from fine_tune_llm.stats.risk_control import ConformalRiskControl
from fine_tune_llm.stats.selective_classifier import (
    SelectiveClassifier,
    certificate_curve,
)
from fine_tune_llm.testing import synthetic_problem

quick = settings(max_examples=40, deadline=None, derandomize=True)
GRID = np.array(
    [0.5, 0.5, 0.4, 0.2, 0.2, 0.0]
)  # all at or below one less the targets used here: every walk begins at its first


def share(c):
    return 0.0 if c is None else c.selective_coverage


def fitted(p, y, *args, **how):
    try:
        return SelectiveClassifier(*args, **how).fit(p, y)
    except CertificateError:
        return None


rows = st.lists(
    st.tuples(
        st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]),
        st.floats(0, 1),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=50,
)


def arrays(rows):
    a, b, y = map(np.array, zip(*rows))
    return np.c_[a, (1 - a) * b, (1 - a) * (1 - b)], y


@quick
@given(
    rows,
    st.floats(0.02, 0.45),
    st.floats(0.02, 0.45),
    st.sampled_from(["max_prob", "margin", "entropy", "expected_cost"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_order_and_layout_do_not_matter(rows, r, d, score, costs, rnd):
    p, y = arrays(rows)
    cost = CostMatrix.from_harms("abc", miss=[1, 2, 5]) if costs else None
    o = list(range(len(y)))
    rnd.shuffle(o)
    s, t = (
        fitted(p, y, r, d, score=score, cost=cost, grid=GRID),
        fitted(p[o], y[o], r, d, score=score, cost=cost, grid=GRID),
    )
    assert (s is None) == (t is None)
    if s is None:
        return
    a, b = s.certificate_.to_dict(), t.certificate_.to_dict()
    assert (
        a.pop("mean_loss", 0) == pytest.approx(b.pop("mean_loss", 0))
        and a.pop("p_value") == pytest.approx(b.pop("p_value"))
        and a.pop("risk_bound") == pytest.approx(b.pop("risk_bound"))
        and a == b
    )
    wide = np.zeros((len(y), 6))
    wide[:, ::2] = p
    for other in (np.asfortranarray(p), wide[:, ::2], p.astype(">f8"), p.tolist()):
        assert (
            fitted(other, y, r, d, score=score, cost=cost, grid=GRID).certificate_
            == s.certificate_
        )
    assert (s.decide(p)[o] == s.decide(p[o])).all()


@quick
@given(
    rows,
    st.floats(0.02, 0.25),
    st.floats(0.02, 0.45),
    st.sampled_from(["exact", "hb", "wsr"]),
    st.sampled_from(["fixed", "bonferroni", "holm"]),
)
def test_more_delta_or_a_looser_target_never_decides_less(
    rows, r, d, method, correction
):
    p, y = arrays(rows)
    how = dict(method=method, correction=correction, grid=GRID, seed=1)
    s = fitted(p, y, r, d, **how)
    least = 0.0 if s is None else share(s.certificate_)
    for other in (
        fitted(p, y, 2 * r, d, **how),
        fitted(p, y, r, min(0.99, 2 * d), **how),
    ):
        assert share(other and other.certificate_) >= least
    if s is not None:
        assert s.certificate_.risk_bound <= r + 1e-8 and s.certificate_.p_value <= d


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "float64"])
def test_dtypes(dtype):
    s = synthetic_problem(800, 3, seed=0, spread=5.0)
    p = softmax(s.logits)
    p = p.astype(dtype)
    p.flags.writeable = False
    assert fitted(
        p, s.labels, 0.1, 0.1
    ).certificate_.selective_coverage == pytest.approx(
        fitted(
            p.astype(np.float64) / p.astype(np.float64).sum(1, keepdims=True),
            s.labels,
            0.1,
            0.1,
        ).certificate_.selective_coverage,
        abs=0.02,
    )


def test_torch_and_bfloat16():
    torch = pytest.importorskip("torch")
    s = synthetic_problem(500, 3, seed=0, spread=5.0)
    p = torch.tensor(softmax(s.logits))
    assert (
        bayes_decide(p, CostMatrix.from_harms("abc", abstain_cost=0.2))
        == bayes_decide(p.numpy(), CostMatrix.from_harms("abc", abstain_cost=0.2))
    ).all()
    assert fitted(p.to(torch.bfloat16), torch.tensor(s.labels), 0.1, 0.1) is not None


def test_extremes():
    sure = np.eye(2)[np.zeros(300, int)]
    right, wrong = np.zeros(300, int), np.ones(300, int)
    assert (
        fitted(sure, right, 0.05, 0.1).certificate_.n_decided == 300
        and fitted(sure, wrong, 0.05, 0.1) is None
    )
    assert (
        fitted(sure[:1], right[:1], 0.95, 0.2).certificate_.n == 1
        and fitted(sure[:1], right[:1], 0.05, 0.1) is None
    )
    assert (
        fitted(sure, wrong, 0.999999, 0.1) is None
        and fitted(sure, right, 1e-9, 0.1) is None
    )
    with pytest.raises(
        CertificateError,
        match=f"About {int(np.ceil(np.log(0.1) / np.log1p(-1e-6)))} calibration rows",
    ):
        SelectiveClassifier(1e-6, 0.1).fit(sure, right)
    flat = np.full((300, 2), 0.5)
    assert (
        fitted(flat, right, 0.05, 0.1, score="margin") is None
        and fitted(
            flat, right, 0.05, 0.1, score="margin", grid=[0.0]
        ).certificate_.n_decided
        == 300
    )


def test_an_old_certificate_still_loads():
    old = dict(
        target_risk=0.05,
        delta=0.1,
        threshold=0.9,
        n=400,
        n_decided=300,
        n_errors=4,
        p_value=0.001,
        risk_bound=0.03,
        n_tests=20,
        theorem="fixed-sequence testing with exact binomial p-values (Bauer 1991; Angelopoulos et al. 2021)",
    )
    c = SelectiveCertificate.from_dict(json.loads(json.dumps(old)))
    assert c.to_dict().items() >= old.items()


def test_betting_bounds_hold_at_a_million_to_one():
    "Long runs neither overflow nor underflow"
    n = 200_000
    z = lambda x: Nested(x, np.zeros(len(x), np.int64), 1)
    wsr = risk_test("wsr", np.zeros(1), 0)[1]
    assert (
        0 <= wsr(z(np.zeros(n)), 0.5)[0] < 1e-280
        and wsr(z(np.ones(n)), 0.5)[0] == 1
        and 0 <= wsr(z(np.zeros(n)), 1e-7)[0] <= 1
    )


@quick
@given(
    st.lists(st.floats(0, 0.3), min_size=2, max_size=6),
    st.floats(0.02, 0.3),
    st.randoms(use_true_random=False),
)
def test_a_graph_does_not_depend_on_the_order_of_its_hypotheses(p, delta, rnd):
    q = len(p)
    g = np.random.default_rng(rnd.randint(0, 999))
    w = g.dirichlet(np.ones(q))
    t = g.random((q, q))
    np.fill_diagonal(t, 0)
    t /= t.sum(1, keepdims=True)
    o = list(range(q))
    rnd.shuffle(o)
    a = graphical(p, delta, weights=w, transitions=t)
    b = graphical(np.array(p)[o], delta, weights=w[o], transitions=t[np.ix_(o, o)])
    assert (a[o] == b).all()
    assert (graphical(p, delta) == holm_rejects(p, delta)).all() and (
        holm_rejects(p, delta) == (multiple_testing.holm(p) <= delta)
    ).all()


def test_real_costs_and_targets(vgg):
    "A living thing taken for a machine costs 5, any other error 1; at most 8% of the decided cats are wrong: promised on 4,000 rows, kept on the 5,000 others"
    p, y = vgg
    o = np.random.default_rng(0).permutation(len(y))
    pil, a, b = np.split(o, [1000, 5000])
    machines = [0, 1, 8, 9]
    m = np.ones((10, 10)) - np.eye(10)
    m[np.ix_([k for k in range(10) if k not in machines], machines)] = 5
    cost = CostMatrix([*"0123456789"], m)
    cats = Target("cats", 0.08, classes=["3"])
    s = SelectiveClassifier(
        0.1, 0.1, cost=cost, score="expected_cost", targets=[cats], seed=0
    ).fit(p[a], y[a], pilot=(p[pil], y[pil]))
    d = s.decide(p[b])
    on = d >= 0
    assert (
        on.mean() > 0.7
        and realised_cost(d[on], y[b][on], cost).mean()
        < 0.1 + 3 * 0.5 / on.sum() ** 0.5
        and (d != 3)[on & (y[b] == 3)].mean() < 0.08 + 3 * (0.08 / 700) ** 0.5
    )
    again = SelectiveClassifier.from_dict(json.loads(json.dumps(s.to_dict())))
    assert (again.decide(p[b]) == d).all() and again.certificates_ == s.certificates_
    c = certificate_curve(s, p[a], y[a], target=1)
    assert c.bound[c.chosen] == pytest.approx(s.certificates_[1].risk_bound, abs=1e-6)


def test_real_groups(vgg):
    "By true superclass: 300 resplits, all groups' certificates together"
    p, y = vgg
    g = np.where(np.isin(y, [0, 1, 8, 9]), "machine", "animal")
    rng = np.random.default_rng(0)
    bad = kept = 0
    conf, right = p.max(1), p.argmax(1) == y
    for _ in range(300):
        i = rng.integers(0, len(y), 1500)
        s = SelectiveClassifier(0.04, 0.1).fit(
            p[i], y[i], groups=g[i], pilot=(p[:500], y[:500])
        )
        bad += any(
            (~right[(conf >= c.threshold) & (g == c.group)]).mean() > 0.04
            for c in s.certificates_
        )
        kept += len(s.certificates_) == 2
    assert bad / 300 <= 0.1 + 3 * (0.1 * 0.9 / 300) ** 0.5 and kept > 200


def test_real_risk_control(vgg):
    "Missing a cat costs 5: the mean cost missed is at most .1 over 300 draws"
    p, y = vgg
    w = np.ones(10)
    w[3] = 5
    rng = np.random.default_rng(1)
    lost = []
    for _ in range(300):
        i = rng.integers(0, len(y), 300)
        c = ConformalRiskControl(0.1, miss_cost=w).fit(p[i], y[i])
        lost.append((w[y] * ~(p[np.arange(len(y)), y] >= c.threshold_)).mean())
    assert np.mean(lost) <= 0.1 + 4 * np.std(lost) / 300**0.5 and np.mean(lost) > 0.03


def test_learn_then_test_where_risk_is_not_monotone(vgg):
    "A wrong decision costs 1, an abstention .15: best is a threshold in between, and Holm finds it without an order"
    p, y = vgg
    floors = np.linspace(0.2, 0.999999, 25)
    right = p.argmax(1) == y
    i = np.random.default_rng(2).integers(0, len(y), 3000)
    loss = np.where(p.max(1)[:, None] >= floors, (~right)[:, None] * 1.0, 0.15)
    c = LearnThenTest(0.055, 0.1, seed=0, correction="holm").fit(loss[i])
    true = loss.mean(0)
    assert (
        (true[c.certified_] <= 0.055).all()
        and 0 < c.certified_.sum() < 25
        and true[[0, -1]].min() > 0.055
    )
    assert p_value(loss[i], 0.055, "wsr", seed=0).shape == (25,)
    with pytest.raises(CertificateError, match="the first of the sequence"):
        LearnThenTest(0.055, 0.1, seed=0).fit(loss[i])


@quick
@given(rows, st.permutations(range(3)), st.booleans(), st.booleans())
def test_names_of_classes_do_not_matter(rows, order, costs, subnormal):
    "Columns, labels and costs permuted together: the same rows are decided, and the same certificate; probabilities as small as floats can be change nothing"
    p, y = arrays(rows)
    o = np.array(order)
    back = np.argsort(o)
    if subnormal:
        p = np.where(p < 1e-3, 5e-324, p)
        p = p / p.sum(1, keepdims=True)
    m = np.array([[0, 1.0, 2], [4, 0, 5], [20, 20, 0]])
    how = dict(grid=GRID, **(dict(score="expected_cost") if costs else {}))
    s, t = (
        fitted(*x, 0.3, 0.2, cost=c if costs else None, **how)
        for x, c in (((p, y), m), ((p[:, o], back[y]), m[np.ix_(o, o)]))
    )
    assert (s is None) == (t is None)
    if s is not None:
        assert (
            s.certificate_.n_decided == t.certificate_.n_decided
            and ((s.decide(p) < 0) == (t.decide(p[:, o]) < 0)).all()
        )


def test_refusals_are_fewer_with_three_starts(vgg):
    "On over-confident outputs without a pilot: a walk from 1 - r alone is refused more than half of the time at n = 1,000, one from three starts hardly ever"
    p, y = vgg
    rng = np.random.default_rng(0)
    refused = sum(
        fitted(*(x[i] for x in (p, y)), 0.03, 0.1) is None
        for i in (rng.integers(0, len(y), 1000) for _ in range(100))
    )
    assert refused <= 5


def test_rows_that_would_do_do():
    "Refused fits, fitted again on the number of rows they were told: four of five pass"
    s = synthetic_problem(4000, 4, seed=0, spread=4.0)
    p = softmax(s.logits)
    told = passed = 0
    pilot = p[:300], s.labels[:300]
    for k in range(150):
        rng = np.random.default_rng(k)
        i = rng.integers(0, 4000, 200)
        try:
            SelectiveClassifier(0.05, 0.1).fit(p[i], s.labels[i], pilot=pilot)
        except CertificateError as e:
            n = e.context["rows_that_would_do"]
            if n is None:
                continue
            j = rng.integers(0, 4000, n)
            told += 1
            try:
                SelectiveClassifier(0.05, 0.1).fit(p[j], s.labels[j], pilot=pilot)
                passed += 1
            except CertificateError:
                pass
    assert told > 30 and passed / told > 0.6


def test_a_main_target_that_is_refused_decides_nothing():
    s = synthetic_problem(4000, 4, seed=0, spread=4.0)
    p = softmax(s.logits)
    easy = Target("missed d", 0.3, classes=[3], given="all")
    with pytest.raises(CertificateError, match="an error of 0.1%"):
        SelectiveClassifier(0.001, 0.1, targets=[easy], together=False).fit(
            p[:2000], s.labels[:2000]
        )


unit = st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])
TWICE = np.array([0.5, 0.5, 0.3, 0.3, 0.1, 0.0])  # thresholds twice, one start for all


def certificate_of(rows, risk, delta, dtype=np.float64, correction="fixed"):
    conf = np.array([row_conf for row_conf, _ in rows])
    p = np.c_[conf, 1 - conf].astype(dtype)
    labels = [int(wrong) for _, wrong in rows]
    how = dict(grid=TWICE, correction=correction)
    found = fitted(p, labels, risk, delta, **how)
    return None if found is None else found.certificate_


@quick
@given(
    st.lists(st.tuples(unit, st.booleans()), min_size=1, max_size=40),
    st.floats(0.02, 0.45),
    st.floats(0.02, 0.45),
    st.randoms(use_true_random=False),
)
def test_whatever_the_input(rows, risk, delta, rnd):
    "Order of rows, byte order, ties, certainties, looser targets, more delta, one row"
    certificate = certificate_of(rows, risk, delta)
    shuffled = list(rows)
    rnd.shuffle(shuffled)
    assert certificate_of(shuffled, risk, delta) == certificate
    assert share(certificate_of(rows, risk, delta, ">f8")) == share(certificate)
    for correction in ("fixed", "bonferroni", "holm"):
        how = dict(correction=correction)
        least = share(certificate_of(rows, risk, delta, **how))
        more_delta = certificate_of(rows, risk, min(0.99, 2 * delta), **how)
        looser = certificate_of(rows, min(0.99, 2 * risk), delta, **how)
        assert least <= min(share(more_delta), share(looser))
    if len(rows) > 1:  # risk and delta are below .5: one row proves nothing
        assert certificate_of(rows[:1], risk, min(delta, 0.5)) is None
    assert certificate_of([(1.0, False)] * 500, risk, delta).n_decided == 500
