"Certificates: on real outputs, for every array, and for whatever hypothesis thinks of"

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import CertificateError
from fine_tune_llm.stats import (
    ConformalRiskControl,
    CostMatrix,
    LearnThenTest,
    Nested,
    SelectiveCertificate,
    SelectiveClassifier,
    Target,
    bayes_decide,
    certificate_curve,
    graphical,
    holm_rejects,
    p_value,
    realised_cost,
    risk_test,
    softmax,
)
from fine_tune_llm.stats.multiple_testing import holm
from fine_tune_llm.testing import synthetic_problem

quick = settings(max_examples=40, deadline=None, derandomize=True)
# All at or below one less the targets used here: every walk begins at its first
GRID = np.array([0.5, 0.5, 0.4, 0.2, 0.2, 0.0])


def share(certificate):
    return 0.0 if certificate is None else certificate.selective_coverage


def fitted(probs, labels, *args, **how):
    "A fitted classifier, `None` where the certificate is refused"
    try:
        return SelectiveClassifier(*args, **how).fit(probs, labels)
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
risks = st.floats(0.02, 0.45)


def arrays(rows):
    "Probabilities of three classes, and labels"
    first, rest, labels = map(np.array, zip(*rows))
    probs = [first, (1 - first) * rest, (1 - first) * (1 - rest)]
    return np.column_stack(probs), labels


@quick
@given(
    rows,
    risks,
    risks,
    st.sampled_from(["max_prob", "margin", "entropy", "expected_cost"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_order_and_layout_do_not_matter(rows, risk, delta, score, costs, rnd):
    p, y = arrays(rows)
    cost = CostMatrix.from_harms("abc", miss=[1, 2, 5]) if costs else None
    how = dict(score=score, cost=cost, grid=GRID)
    order = list(range(len(y)))
    rnd.shuffle(order)
    one = fitted(p, y, risk, delta, **how)
    other = fitted(p[order], y[order], risk, delta, **how)
    assert (one is None) == (other is None)
    if one is None:
        return
    a, b = one.certificate_.to_dict(), other.certificate_.to_dict()
    for name in ("mean_loss", "p_value", "risk_bound"):
        assert a.pop(name) == pytest.approx(b.pop(name))
    assert a == b
    wide = np.zeros((len(y), 6))
    wide[:, ::2] = p
    for same in (np.asfortranarray(p), wide[:, ::2], p.astype(">f8"), p.tolist()):
        again = fitted(same, y, risk, delta, **how)
        assert again.certificate_ == one.certificate_
    assert (one.decide(p)[order] == one.decide(p[order])).all()


@quick
@given(
    rows,
    st.floats(0.02, 0.25),
    risks,
    st.sampled_from(["exact", "hb", "wsr"]),
    st.sampled_from(["fixed", "bonferroni", "holm"]),
)
def test_more_delta_or_a_looser_target_never_decides_less(
    rows, risk, delta, method, correction
):
    p, y = arrays(rows)
    how = dict(method=method, correction=correction, grid=GRID, seed=1)
    strict = fitted(p, y, risk, delta, **how)
    least = 0.0 if strict is None else share(strict.certificate_)
    looser = fitted(p, y, 2 * risk, delta, **how)
    more_delta = fitted(p, y, risk, min(0.99, 2 * delta), **how)
    for other in (looser, more_delta):
        assert share(other and other.certificate_) >= least
    if strict is not None:
        assert strict.certificate_.risk_bound <= risk + 1e-8
        assert strict.certificate_.p_value <= delta


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "float64"])
def test_dtypes(dtype):
    problem = synthetic_problem(800, 3, seed=0, spread=5.0)
    p = softmax(problem.logits).astype(dtype)
    p.flags.writeable = False
    as_double = p.astype(np.float64)
    as_double = as_double / as_double.sum(1, keepdims=True)
    given, double = (fitted(x, problem.labels, 0.1, 0.1) for x in (p, as_double))
    expected = pytest.approx(double.certificate_.selective_coverage, abs=0.02)
    assert given.certificate_.selective_coverage == expected


def test_torch_and_bfloat16():
    torch = pytest.importorskip("torch")
    problem = synthetic_problem(500, 3, seed=0, spread=5.0)
    p = torch.tensor(softmax(problem.logits))
    cost = CostMatrix.from_harms("abc", abstain_cost=0.2)
    assert (bayes_decide(p, cost) == bayes_decide(p.numpy(), cost)).all()
    labels = torch.tensor(problem.labels)
    assert fitted(p.to(torch.bfloat16), labels, 0.1, 0.1) is not None


def test_extremes():
    sure = np.eye(2)[np.zeros(300, int)]
    right = np.zeros(300, int)
    wrong = np.ones(300, int)
    assert fitted(sure, right, 0.05, 0.1).certificate_.n_decided == 300
    assert fitted(sure, wrong, 0.05, 0.1) is None
    assert fitted(sure[:1], right[:1], 0.95, 0.2).certificate_.n == 1
    assert fitted(sure[:1], right[:1], 0.05, 0.1) is None
    assert fitted(sure, wrong, 0.999999, 0.1) is None
    assert fitted(sure, right, 1e-9, 0.1) is None
    n_needed = int(np.ceil(np.log(0.1) / np.log1p(-1e-6)))
    with pytest.raises(CertificateError, match="About [0-9]+ calibration") as refused:
        SelectiveClassifier(1e-6, 0.1).fit(sure, right)
    assert refused.value.context["rows_that_would_do"] > n_needed
    flat = np.full((300, 2), 0.5)
    assert fitted(flat, right, 0.05, 0.1, score="margin") is None
    from_zero = fitted(flat, right, 0.05, 0.1, score="margin", grid=[0.0])
    assert from_zero.certificate_.n_decided == 300


def test_a_certificate_may_leave_out_what_has_a_default():
    short = dict(
        target_risk=0.05,
        delta=0.1,
        threshold=0.9,
        n=400,
        n_decided=300,
        n_errors=4,
        p_value=0.001,
        risk_bound=0.03,
        n_tests=20,
        theorem="fixed-sequence testing with exact binomial p-values "
        "(Bauer 1991; Angelopoulos et al. 2021)",
    )
    certificate = SelectiveCertificate.from_dict(json.loads(json.dumps(short)))
    assert certificate.to_dict().items() >= short.items()


def test_betting_bounds_hold_at_a_million_to_one():
    "Long runs neither overflow nor underflow"
    n = 200_000
    _, betting = risk_test("wsr", np.zeros(1), 0)

    def one_p_value(losses, risk):
        return betting(Nested(losses, np.zeros(n, np.int64), 1), risk)[0]

    assert 0 <= one_p_value(np.zeros(n), 0.5) < 1e-280
    assert one_p_value(np.ones(n), 0.5) == 1
    assert 0 <= one_p_value(np.zeros(n), 1e-7) <= 1


@quick
@given(
    st.lists(st.floats(0, 0.3), min_size=2, max_size=6),
    st.floats(0.02, 0.3),
    st.randoms(use_true_random=False),
)
def test_a_graph_does_not_depend_on_the_order_of_its_hypotheses(p, delta, rnd):
    # shares that were handed on sum to 1 up to rounding: at p = delta that decides
    assume(min(abs(value - delta) for value in p) > 1e-12)
    n_tests = len(p)
    rng = np.random.default_rng(rnd.randint(0, 999))
    weights = rng.dirichlet(np.ones(n_tests))
    arrows = rng.random((n_tests, n_tests))
    np.fill_diagonal(arrows, 0)
    arrows /= arrows.sum(1, keepdims=True)
    order = list(range(n_tests))
    rnd.shuffle(order)
    one = graphical(p, delta, weights=weights, transitions=arrows)
    other = graphical(
        np.array(p)[order],
        delta,
        weights=weights[order],
        transitions=arrows[np.ix_(order, order)],
    )
    assert (one[order] == other).all()
    assert (graphical(p, delta) == holm_rejects(p, delta)).all()
    assert (holm_rejects(p, delta) == (holm(p) <= delta)).all()


def test_real_costs_and_targets(vgg):
    """A living thing taken for a machine costs 5, any other error 1

    At most 8% of decided cats are wrong: promised on 4,000 rows, kept on 5,000 others.
    """
    p, y = vgg
    order = np.random.default_rng(0).permutation(len(y))
    pilot, a, b = np.split(order, [1000, 5000])
    machines = [0, 1, 8, 9]
    living = [k for k in range(10) if k not in machines]
    matrix = np.ones((10, 10)) - np.eye(10)
    matrix[np.ix_(living, machines)] = 5
    cost = CostMatrix([*"0123456789"], matrix)
    cats = Target("cats", 0.08, classes=["3"])
    how = dict(cost=cost, score="expected_cost", targets=[cats], seed=0)
    s = SelectiveClassifier(0.1, 0.1, **how)
    s.fit(p[a], y[a], pilot=(p[pilot], y[pilot]))
    d = s.decide(p[b])
    on = d >= 0
    assert on.mean() > 0.7
    paid = realised_cost(d[on], y[b][on], cost).mean()
    assert paid < 0.1 + 3 * 0.5 / on.sum() ** 0.5
    assert (d != 3)[on & (y[b] == 3)].mean() < 0.08 + 3 * (0.08 / 700) ** 0.5
    again = SelectiveClassifier.from_dict(json.loads(json.dumps(s.to_dict())))
    assert (again.decide(p[b]) == d).all() and again.certificates_ == s.certificates_
    curve = certificate_curve(s, p[a], y[a], target=1)
    bound = pytest.approx(s.certificates_[1].risk_bound, abs=1e-6)
    assert curve.bound[curve.chosen] == bound


def test_real_groups(vgg):
    "By true superclass: 300 resplits, all groups' certificates together"
    p, y = vgg
    g = np.where(np.isin(y, [0, 1, 8, 9]), "machine", "animal")
    rng = np.random.default_rng(0)
    conf = p.max(1)
    wrong = p.argmax(1) != y
    broken = kept = 0
    for _ in range(300):
        i = rng.integers(0, len(y), 1500)
        s = SelectiveClassifier(0.04, 0.1)
        s.fit(p[i], y[i], groups=g[i], pilot=(p[:500], y[:500]))
        broken += any(
            wrong[(conf >= c.threshold) & (g == c.group)].mean() > 0.04
            for c in s.certificates_
        )
        kept += len(s.certificates_) == 2
    assert broken / 300 <= 0.1 + 3 * (0.1 * 0.9 / 300) ** 0.5 and kept > 200


def test_real_risk_control(vgg):
    "Missing a cat costs 5: the mean cost missed is at most .1 over 300 draws"
    p, y = vgg
    weights = np.ones(10)
    weights[3] = 5
    own = p[np.arange(len(y)), y]
    rng = np.random.default_rng(1)
    lost = []
    for _ in range(300):
        i = rng.integers(0, len(y), 300)
        control = ConformalRiskControl(0.1, miss_cost=weights).fit(p[i], y[i])
        lost.append((weights[y] * ~(own >= control.threshold_)).mean())
    assert np.mean(lost) <= 0.1 + 4 * np.std(lost) / 300**0.5
    assert np.mean(lost) > 0.03


def test_learn_then_test_where_risk_is_not_monotone(vgg):
    """A wrong decision costs 1, an abstention .15

    The best is a threshold in between, and Holm finds it without an order.
    """
    p, y = vgg
    floors = np.linspace(0.2, 0.999999, 25)
    wrong = p.argmax(1) != y
    i = np.random.default_rng(2).integers(0, len(y), 3000)
    decided = p.max(1)[:, None] >= floors
    loss = np.where(decided, wrong[:, None] * 1.0, 0.15)
    found = LearnThenTest(0.055, 0.1, seed=0, correction="holm").fit(loss[i])
    true = loss.mean(0)
    assert (true[found.certified_] <= 0.055).all()
    assert 0 < found.certified_.sum() < 25
    assert true[[0, -1]].min() > 0.055
    assert p_value(loss[i], 0.055, "wsr", seed=0).shape == (25,)
    with pytest.raises(CertificateError, match="the first of the sequence"):
        LearnThenTest(0.055, 0.1, seed=0).fit(loss[i])


@quick
@given(rows, st.permutations(range(3)), st.booleans(), st.booleans())
def test_names_of_classes_do_not_matter(rows, order, costs, subnormal):
    """Columns, labels and costs permuted together

    The same rows are decided, under the same certificate; probabilities as small as
    floats can be change nothing.
    """
    p, y = arrays(rows)
    order = np.array(order)
    back = np.argsort(order)
    if subnormal:
        p = np.where(p < 1e-3, 5e-324, p)
        p = p / p.sum(1, keepdims=True)
    cost = np.array([[0, 1.0, 2], [4, 0, 5], [20, 20, 0]])
    permuted = cost[np.ix_(order, order)]
    how = dict(grid=GRID)
    if costs:
        how["score"] = "expected_cost"
    one = fitted(p, y, 0.3, 0.2, cost=cost if costs else None, **how)
    other = fitted(
        p[:, order], back[y], 0.3, 0.2, cost=permuted if costs else None, **how
    )
    assert (one is None) == (other is None)
    if one is not None:
        assert one.certificate_.n_decided == other.certificate_.n_decided
        abstained = other.decide(p[:, order]) < 0
        assert ((one.decide(p) < 0) == abstained).all()


def test_refusals_are_fewer_with_three_starts(vgg):
    """On over-confident outputs without a pilot, at n = 1,000

    A walk from 1 - r alone is refused more than half of the time, one from three starts
    hardly ever.
    """
    p, y = vgg
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        i = rng.integers(0, len(y), 1000)
        refused += fitted(p[i], y[i], 0.03, 0.1) is None
    assert refused <= 5


def test_rows_that_would_do_do():
    "Refused fits, fitted again on the number of rows they were told: as many pass"
    problem = synthetic_problem(4000, 4, seed=0, spread=4.0)
    p, labels = softmax(problem.logits), problem.labels
    pilot = p[:300], labels[:300]
    told = passed = 0
    said = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        i = rng.integers(0, 4000, 200)
        try:
            SelectiveClassifier(0.05, 0.1).fit(p[i], labels[i], pilot=pilot)
        except CertificateError as e:
            n = e.context["rows_that_would_do"]
            if n is None:
                continue
            j = rng.integers(0, 4000, n)
            told += 1
            said.append(e.context["chance"])
            try:
                SelectiveClassifier(0.05, 0.1).fit(p[j], labels[j], pilot=pilot)
                passed += 1
            except CertificateError:
                pass
    share = np.mean(said)
    assert told > 20
    assert passed / told > share - 4 * (share * (1 - share) / told) ** 0.5


@pytest.mark.parametrize("method", ["exact", "hb", "wsr"])
def test_no_number_is_said_only_where_the_rows_lost_too_much(method):
    "72 right of 72 are too few for 3%; 20 wrong of 72 are too many for any number"
    sure, right = np.tile([0.99, 0.01], (72, 1)), np.zeros(72, int)
    how = {"method": method, "seed": 0, "grid": [0.9]}
    with pytest.raises(CertificateError, match="About [0-9]+ calibration rows"):
        SelectiveClassifier(0.02, 0.1, **how).fit(sure, right)
    wrong = np.repeat([0, 1], [52, 20])
    with pytest.raises(CertificateError, match="No number of calibration rows"):
        SelectiveClassifier(0.02, 0.1, **how).fit(sure, wrong)


def test_a_main_target_that_is_refused_decides_nothing():
    problem = synthetic_problem(4000, 4, seed=0, spread=4.0)
    p = softmax(problem.logits)
    easy = Target("missed d", 0.3, classes=[3], given="all")
    classifier = SelectiveClassifier(0.001, 0.1, targets=[easy], together=False)
    with pytest.raises(CertificateError, match="an error of 0.1%"):
        classifier.fit(p[:2000], problem.labels[:2000])


# Thresholds twice, and one start for all targets
TWICE = np.array([0.5, 0.5, 0.3, 0.3, 0.1, 0.0])


def certificate_of(rows, risk, delta, dtype=np.float64, correction="fixed"):
    conf = np.array([row_conf for row_conf, _ in rows])
    p = np.column_stack([conf, 1 - conf]).astype(dtype)
    labels = [int(wrong) for _, wrong in rows]
    found = fitted(p, labels, risk, delta, grid=TWICE, correction=correction)
    return None if found is None else found.certificate_


@quick
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]),
            st.booleans(),
        ),
        min_size=1,
        max_size=40,
    ),
    risks,
    risks,
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
