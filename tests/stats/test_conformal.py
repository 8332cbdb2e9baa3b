"""Prediction sets under whatever arrays there are

Properties that hold for every input, not for the inputs one thought of.
"""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from sklearn.base import clone

from fine_tune_llm.core.errors import (
    ConfigurationError,
    NotFittedError,
    PredictionError,
    SchemaError,
)
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.stats import kernels, scorer
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.stats.conditional_coverage import coverage_report
from fine_tune_llm.stats.conformal import ConformalClassifier
from fine_tune_llm.stats.estimator import pack
from fine_tune_llm.stats.quantiles import (
    conformal_rank,
    coverage,
    coverage_band,
    covered,
    rows_needed,
    set_size,
)
from fine_tune_llm.stats.score_tuning import tune_score
from fine_tune_llm.stats.scorer import Scorer
from fine_tune_llm.stats.scores import row_uniforms
from fine_tune_llm.stats.sets import PredictionSets, as_sets
from fine_tune_llm.testing import synthetic_problem

# Levels of a half and more are asked here on purpose; test_exact_alpha has the warning
pytestmark = pytest.mark.filterwarnings("ignore:alpha=")

NAMES = "lac", "aps", "raps", "saps", "margin", "topk", "entropy-adaptive"
few = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def tables(draw, classes=st.integers(2, 70), rows=st.integers(1, 60)):
    "Probabilities (ties, zeros, ones, subnormal, equal rows; two dtypes) and labels"
    n, K, seed = draw(rows), draw(classes), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    w = (
        rng.choice([0, 0, 1, 1, 2, 3, 1e-3, 1e-30, 1e-42], (n, K))
        if draw(st.booleans())
        else rng.exponential(size=(n, K)) ** draw(st.sampled_from([0.1, 1, 8]))
    )
    w[w.sum(1) == 0, 0] = 1
    p = w / w.sum(1, keepdims=True)
    if draw(st.booleans()):
        p[0] = np.eye(K)[rng.integers(K)]
    if draw(st.booleans()):
        p[n // 2 :] = p[0]
    return p.astype(draw(st.sampled_from([np.float32, np.float64]))), rng.integers(
        0, K, n
    )


def classifier(name, alpha=0.25, **kw):
    return ConformalClassifier(name, alpha, seed=7, **kw)


def by_kernels(f):
    "What `f` returns when even the smallest arrays go through the kernels"
    keep = scorer._KERNELS_FROM
    scorer._KERNELS_FROM = 0
    try:
        return f()
    finally:
        scorer._KERNELS_FROM = keep


@few
@given(
    tables(),
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from([None, "class"]),
    st.sampled_from(["all", "marginal"]),
    st.sampled_from([0.05, 0.25, 0.6]),
)
def test_kernels_are_the_definition(table, name, randomize, condition, rare, alpha):
    p, y = table
    c = classifier(name, alpha, randomize=randomize, condition=condition, rare=rare)
    a = c.fit(p, y).to_dict(scores=True), c.predict(p)
    b = by_kernels(lambda: (c.fit(p, y).to_dict(scores=True), c.predict(p)))
    assert a[0] == b[0]
    np.testing.assert_array_equal(a[1], b[1])


@few
@given(tables(classes=st.integers(2, 12)), st.booleans())
def test_aps_is_what_the_paper_says(table, randomize):
    "In fractions: mass strictly above, ties by index, and 1-u of the label's own"
    from fractions import Fraction

    p, _ = table
    u = row_uniforms(p, seed=7) if randomize else np.zeros(len(p))
    got = Scorer("aps", seed=7, randomize=randomize).of_every_label(p, u)
    K = p.shape[1]
    for i in range(min(len(p), 5)):
        q = [Fraction(float(v)) for v in p[i]]
        for k in range(K):
            exact = (
                sum(
                    (q[j] for j in range(K) if q[j] > q[k] or (q[j] == q[k] and j < k)),
                    Fraction(0),
                )
                + (1 - Fraction(u[i])) * q[k]
            )
            assert abs(Fraction(got[i, k]) - exact) <= (K + 2) * Fraction(2) ** -52


@few
@given(tables(), st.sampled_from(NAMES), st.booleans(), st.floats(0.02, 0.9))
def test_a_threshold_meets_its_own_row(table, name, randomize, alpha):
    "k of the calibration rows are in their own sets: fit and predict round alike"
    p, y = table
    c = classifier(name, alpha, randomize=randomize)
    for fit, predict in (
        (c.fit, c.predict),
        (lambda *a: by_kernels(lambda: c.fit(*a)), c.predict),
        (c.fit, lambda q: by_kernels(lambda: c.predict(q))),
    ):
        fit(p, y)
        k = conformal_rank(len(y), alpha)
        hit = covered(predict(p), y).sum()
        assert hit == len(y) if k > len(y) else hit >= k


@few
@given(
    tables(),
    st.sampled_from(NAMES),
    st.sampled_from([None, "class", "group", "class+group"]),
    st.randoms(use_true_random=False),
)
def test_order_of_rows_is_nothing(table, name, condition, random):
    p, y = table
    o = np.array(random.sample(range(len(y)), len(y)))
    g = (
        np.array(["a", "b", "c"])[np.arange(len(y)) % 3]
        if "group" in (condition or "")
        else None
    )

    def of(values, rows):
        return None if values is None else values[rows]

    a = classifier(name, condition=condition).fit(p, y, groups=g)
    b = classifier(name, condition=condition).fit(p[o], y[o], groups=of(g, o))
    assert a.to_dict(scores=True) == b.to_dict(scores=True)
    np.testing.assert_array_equal(
        a.predict(p, groups=g)[o], b.predict(p[o], groups=of(g, o))
    )
    np.testing.assert_array_equal(
        a.predict(p[:1], groups=of(g, slice(1))), a.predict(p, groups=g)[:1]
    )


@few
@given(tables(), st.sampled_from(NAMES), st.randoms(use_true_random=False))
def test_order_of_classes_is_nothing(table, name, random):
    p, y = table
    K = p.shape[1]
    assume(all(len(set(r)) == K for r in p.tolist()))
    o = np.array(random.sample(range(K), K))
    new = np.argsort(o)
    a, b = classifier(name).fit(p, y), classifier(name).fit(p[:, o], new[y])
    assert a.threshold_ == b.threshold_
    np.testing.assert_array_equal(a.predict(p)[:, o], b.predict(p[:, o]))


@few
@given(
    tables(),
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from([None, "class", "cluster"]),
    st.sampled_from(["all", "marginal"]),
)
def test_sets_grow_with_the_coverage_asked_for(table, name, randomize, condition, rare):
    p, y = table
    c = classifier(
        name,
        [0.6, 0.4, 0.2, 0.05],
        randomize=randomize,
        condition=condition,
        rare=rare,
        **(dict(clusters=2, cluster_share=0.5) if condition == "cluster" else {}),
    ).fit(p, y)
    sets = [c.predict(p, alpha=a) for a in c.alphas_]
    for small, large in zip(sets, sets[1:]):
        assert not (small & ~large).any()
    pv = c.p_values(p)
    for a, s in zip(c.alphas_, sets):
        np.testing.assert_array_equal(pv > a, s)


@few
@given(
    tables(rows=st.integers(1, 200)),
    st.sampled_from([None, "class", "group", "class+group", "cluster"]),
    st.sampled_from(["all", "marginal"]),
    st.lists(
        st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8]),
        min_size=2,
        max_size=4,
        unique=True,
    ),
)
def test_several_alphas_are_several_fits(table, condition, rare, alphas):
    "Element by element; and more coverage never means a smaller threshold"
    p, y = table
    g = (
        np.array(["a", "b", "c"])[np.arange(len(y)) % 3]
        if "group" in (condition or "")
        else None
    )
    cluster = dict(clusters=2, cluster_share=0.5) if condition == "cluster" else {}

    def of(alpha):
        c = ConformalClassifier(
            "lac", alpha, seed=1, condition=condition, rare=rare, **cluster
        )
        return c.fit(p, y, groups=g)

    many = of(sorted(alphas))
    if condition == "cluster":
        assume(
            len({str(of(a).cells_.table) for a in alphas}) == 1
            and str(of(alphas[0]).cells_.table) == str(many.cells_.table)
        )  # clusters themselves depend on all alphas
    rows = many.cells_.promises()
    pv = many.p_values(p, groups=g)
    for i, a in enumerate(many.alphas_):
        one = of(a)
        np.testing.assert_array_equal(
            many.cells_.thresholds[i], one.cells_.thresholds[0]
        )
        np.testing.assert_array_equal(many.cells_.too_few[i], one.cells_.too_few[0])
        assert (many.cells_.marginal[i], many.cells_.pooled[i]) == (
            one.cells_.marginal[0],
            one.cells_.pooled[0],
        ) and [r for r in rows if r["alpha"] == a] == one.cells_.promises()
        sets = many.predict(p, groups=g, alpha=a)
        np.testing.assert_array_equal(sets, one.predict(p, groups=g))
        np.testing.assert_array_equal(sets, pv > a)
    for t in (many.cells_.thresholds, many.cells_.pooled, many.cells_.marginal):
        assert (t[1:] <= t[:-1]).all()
    if condition is None:
        assert not many.cells_.too_few.any()


@few
@given(tables(rows=st.integers(1, 8)), st.sampled_from(NAMES))
def test_too_few_rows_take_every_label(table, name):
    p, y = table
    c = classifier(name, 0.1).fit(p, y)
    assert (
        c.predict(p).all() and c.rows_missing_ == 9 - len(y) and c.threshold_ == np.inf
    )


@few
@given(tables(), st.sampled_from(NAMES), st.booleans())
def test_sparse_sets_are_the_matrix(table, name, kernel):
    p, y = table
    c = classifier(name).fit(p, y)
    run = by_kernels if kernel else lambda f: f()
    b, s = run(lambda: (c.predict(p), c.predict(p, sparse=True)))
    assert (
        isinstance(s, PredictionSets)
        and s.indices.dtype == np.int32
        and len(s) == len(p)
    )
    np.testing.assert_array_equal(s.to_bool(), b)
    np.testing.assert_array_equal(s.sizes, b.sum(1))
    np.testing.assert_array_equal(s.contains(y), covered(b, y))
    np.testing.assert_array_equal(as_sets(b).indices, s.indices)
    assert [r.tolist() for r in s] == [np.flatnonzero(r).tolist() for r in b] and (
        coverage(s, y),
        set_size(s),
    ) == (coverage(b, y), set_size(b))


@few
@given(tables(), st.sampled_from(NAMES))
def test_saved_and_loaded(table, name):
    p, y = table
    c = classifier(name, [0.3, 0.02], condition="class").fit(p, y)
    d = json.loads(json.dumps(c.to_dict(scores=True), allow_nan=False))
    again = ConformalClassifier.from_dict(d)
    assert again.to_dict(scores=True) == d
    np.testing.assert_array_equal(again.predict(p), c.predict(p))
    np.testing.assert_array_equal(again.p_values(p), c.p_values(p))


@pytest.mark.parametrize("name", NAMES)
def test_whatever_holds_the_numbers(name):
    import pandas as pd
    import pyarrow as pa
    import torch

    s = synthetic_problem(80, 5, seed=1)
    p, y = softmax(s.logits), s.labels
    c = classifier(name).fit(p, y)
    want = c.predict(p)
    frozen = p.copy()
    frozen.flags.writeable = False
    wide = np.zeros((80, 10))
    wide[:, ::2] = p
    kinds = dict(
        frozen=frozen,
        strided=wide[:, ::2],
        fortran=np.asfortranarray(p),
        big=p.astype(">f8"),
        list=p.tolist(),
        torch=torch.from_numpy(p),
        pandas=pd.DataFrame(p),
        arrow=pa.table({str(k): p[:, k] for k in range(5)}).to_pandas(),
    )
    for kind, q in kinds.items():
        for run in (lambda f: f(), by_kernels):
            d = run(lambda q=q: classifier(name).fit(q, y))
            assert d.threshold_ == c.threshold_, kind
            np.testing.assert_array_equal(
                run(lambda d=d, q=q: d.predict(q)), want, err_msg=kind
            )
    single = p.astype(np.float32)
    for q in (
        single,
        single.astype(">f4"),
        torch.from_numpy(single),
        single.astype(np.float64),
    ):
        np.testing.assert_array_equal(c.predict(q), c.predict(single))
    for q in (p.astype(np.float16), torch.from_numpy(single).bfloat16()):
        assert c.predict(q).shape == want.shape and classifier(name).fit(
            q, y
        ).threshold_ == pytest.approx(c.threshold_, rel=0.1, abs=0.02)


@pytest.mark.parametrize("name", ["lac", "aps", "saps"])
def test_blocks_and_threads_are_nothing(name, monkeypatch):
    s = synthetic_problem(3000, 400, seed=2)
    p, y = softmax(s.logits).astype(np.float32), s.labels
    assert p.size >= scorer._KERNELS_FROM
    c = classifier(name).fit(p, y)
    want = c.to_dict(), c.predict(p), c.predict(p, sparse=True)
    for block, threads in ((1 << 12, "2"), (1 << 22, "1")):
        monkeypatch.setattr(kernels, "_BLOCK", block)
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        d = classifier(name).fit(p, y)
        assert d.to_dict() == want[0]
        np.testing.assert_array_equal(d.predict(p), want[1])
        np.testing.assert_array_equal(
            d.predict(p, sparse=True).indices, want[2].indices
        )


def test_probabilities_are_no_sets():
    s = synthetic_problem(50, 4, seed=0)
    p, y = softmax(s.logits), s.labels
    for f in (
        lambda v: coverage(v, y),
        lambda v: covered(v, y),
        set_size,
        as_sets,
        lambda v: coverage_report(v, y, alpha=0.1),
    ):
        for wrong in (
            p,
            np.full(p.shape, np.nan),
            p.tolist(),
            np.ones(50),
            np.ones((50, 4)) * 2,
        ):
            with pytest.raises(PredictionError, match="`sets` must"):
                f(wrong)
        assert (
            str(f((p > 0.2).astype(float)))
            == str(f(p > 0.2))
            == str(f((p > 0.2).tolist()))
        )


def test_thresholds_that_do_not_fit_never_reach_a_kernel():
    p = np.full((300, 4000), 1 / 4000, np.float32)
    sc = Scorer("aps", seed=0)
    for T, rows in (
        ([[0.5]], np.full(300, 7)),
        ([[0.5]], np.full(300, -(10**9))),
        ([[0.5]], np.zeros(5, np.int64)),
        ([[0.5, 0.4, 0.3]], None),
        ([[np.nan]], None),
        ([[0.5]], np.zeros(300)),
        ([0.5], None),
    ):
        with pytest.raises(
            PredictionError, match="`rows` must hold|`thresholds` must have"
        ):
            sc.below(p, T, rows=rows)
    assert sc.below(p, [[0.5]], rows=np.zeros(300, np.uint8)).shape == (300, 4000)


def test_a_bad_row_is_named_by_the_kernels_too():
    p = np.full((600, 2000), 1 / 2000, np.float32)
    y = np.zeros(600, int)
    c = classifier("aps").fit(p, y)
    for bad, words in (
        (np.nan, "must be finite"),
        (-0.5, r"must lie in \[0, 1\]"),
        (0.5, "must sum to 1"),
    ):
        q = p.copy()
        q[321, 9] = bad
        for call in (
            c.predict,
            lambda q: c.predict(q, sparse=True),
            lambda q: classifier("lac").fit(q, y),
            lambda q: classifier("raps").fit(q, y),
        ):
            with pytest.raises(PredictionError, match=f"{words}.*first row 321"):
                call(q)


def test_nobody_of_a_group():
    "A class and a group never seen by fit; a test set without one of the groups"
    s = synthetic_problem(300, 4, seed=3)
    p, y = softmax(s.logits), np.minimum(s.labels, 2)
    g = np.array([None, "x", "y"], dtype=object)[np.arange(300) % 3]
    c = ConformalClassifier(condition="class+group").fit(p, y, groups=g)
    assert (
        c.cells_.groups == ("x", "y", "(missing)")
        and not c.cells_.promises()[3]["promised"]
        and c.cells_.promises()[3]["n"] == 0
    )
    assert (
        c.cells_.promises()[3]["threshold"] == c.cells_.pooled[0] >= c.threshold_
        and c.predict(p[:6], groups=["x"] * 6).shape == (6, 4)
        and c.cells_.promises()[-1]["cell"] == "all rows"
        and not c.cells_.promises()[-1]["promised"]
    )
    new = ["x"] + ["z"] * 299
    np.testing.assert_array_equal(
        c.predict(p, groups=new)[1:], ((1 - p) <= c.cells_.pooled[0])[1:]
    )
    assert (
        ConformalClassifier(condition="class+group", rare="all")
        .fit(p, y, groups=g)
        .predict(p, groups=new)[1:]
        .all()
    )
    with pytest.raises(PredictionError, match="none of the `groups` was seen by fit"):
        c.predict(p, groups=["z"] * 300)


def test_groups_are_names():
    "Groups from any column give the same sets; what is missing is one cell"
    import pandas as pd
    import pyarrow as pa

    s = synthetic_problem(300, 4, seed=3)
    p, y = softmax(s.logits), s.labels
    g = np.arange(300) % 3
    holed = np.where(g == 2, np.nan, g)
    want = (
        ConformalClassifier(condition="group").fit(p, y, groups=g).predict(p, groups=g)
    )
    for a in (
        g,
        g.astype(str),
        g.astype(float),
        g.tolist(),
        pd.array(g, dtype="Int64"),
        pa.array(g),
        pd.Categorical(g),
    ):
        for b in (g, g.astype(str), g.astype(object)):
            np.testing.assert_array_equal(
                ConformalClassifier(condition="group")
                .fit(p, y, groups=a)
                .predict(p, groups=b),
                want,
            )
    for a in (
        holed,
        holed.tolist(),
        pd.array(np.where(g == 2, None, g), dtype="Int64"),
        [None if v == 2 else str(v) for v in g],
        pa.array([None if v == 2 else v for v in g]),
        pd.array([pd.NA if v == 2 else str(v) for v in g], dtype="string"),
    ):
        c = ConformalClassifier(condition="group").fit(p, y, groups=a)
        assert c.cells_.groups == ("0", "1", "(missing)")
        json.dumps(c.to_dict(), allow_nan=False)
        np.testing.assert_array_equal(c.predict(p, groups=holed), want)
        assert Predictions(probs=p, groups=dict(site=a)).groups["site"][
            :3
        ].tolist() == ["0", "1", None]
    days = np.array(["2020-01-01", "2021-01-01", "NaT"], "M8[D]")[g]
    c = ConformalClassifier(condition="group").fit(p, y, groups=days)
    assert ConformalClassifier.from_dict(
        json.loads(json.dumps(c.to_dict()))
    ).cells_.groups == (
        "2020-01-01",
        "2021-01-01",
        "(missing)",
    )


def test_one_id_one_number():
    "Equal rows share their chance unless ids tell them apart; then ties break"
    p = np.repeat([[0.4, 0.35, 0.25]], 4000, 0)
    y = np.random.default_rng(0).choice(3, 4000, p=[0.4, 0.35, 0.25])
    a, b = slice(0, 2000), slice(2000, 4000)
    assert (
        len(set(row_uniforms(p, seed=0))) == 1
        and len(set(row_uniforms(p, seed=0, ids=np.arange(4000)))) == 4000
    )
    same = ConformalClassifier("aps", 0.3, seed=0).fit(p[a], y[a])
    assert coverage(same.predict(p[b]), y[b]) >= 0.7 - 4 * (0.21 / 2000) ** 0.5
    own = ConformalClassifier("aps", 0.3, seed=0).fit(p[a], y[a], ids=np.arange(2000))
    lo, hi = coverage_band(2000, 2000, 0.3, level=0.9999)
    assert (
        lo
        <= coverage(own.predict(p[b], ids=np.arange(2000, 4000)), y[b])
        <= hi
        < coverage(
            ConformalClassifier("aps", 0.3, randomize=False)
            .fit(p[a], y[a])
            .predict(p[b]),
            y[b],
        )
    )
    assert (
        row_uniforms(p[:2], seed=0, ids=[1, 2]).tolist()
        == row_uniforms(p[:2], seed=0, ids=["1", "2"]).tolist()
    )
    assert (
        row_uniforms(p[:2], seed=0, ids=["a", "b"])
        == row_uniforms(p[:2], seed=0, ids=["b", "a"])[::-1]
    ).all()


@pytest.mark.parametrize(
    "name,randomize,condition,rare",
    [
        (n, r, c, few)
        for n in NAMES
        for r in (True, False)
        if r or n in ("aps", "raps", "saps", "topk")
        for c in (None, "class", "group", "class+group", "cluster")
        if c != "cluster" or n in ("lac", "aps")
        for few in ("all", "marginal")
        if few == "all" or (c and n in ("lac", "aps"))
    ],
)
def test_the_promise_on_known_truth(name, randomize, condition, rare):
    "Mean coverage is at least 1 - alpha, and no more than the theorem allows"
    n, off, times = 300, [], 60 if condition != "cluster" else 15
    for i in range(times):
        s = synthetic_problem(2 * n, 4, temperature=2.0, seed=i)
        p = softmax(s.logits)
        g = np.where(p[:, 0] > p[:, 1], "a", "b")
        has_groups = "group" in (condition or "")
        c = ConformalClassifier(
            name,
            0.1,
            seed=i,
            randomize=randomize,
            condition=condition,
            rare=rare,
            **(dict(clusters=2, cluster_share=0.3) if condition == "cluster" else {}),
        ).fit(p[:n], s.labels[:n], groups=g[:n] if has_groups else None)
        off.append(
            coverage(
                c.predict(p[n:], groups=g[n:] if has_groups else None), s.labels[n:]
            )
            - 0.9
        )
    se = np.std(off) / times**0.5
    cells = 8 if condition == "class+group" else 4 if condition else 1
    assert np.mean(off) > -4 * se and (
        not randomize or np.mean(off) < 4 * se + cells / n
    )


@pytest.mark.parametrize(
    "name,kw",
    [
        ("lac", {}),
        ("aps", {}),
        ("saps", {}),
        ("lac", dict(K=60, share=0.2)),
        ("lac", dict(share=0.7)),
        ("lac", dict(n=300)),
        ("lac", dict(easy=0.3, hard=0.9)),
    ],
)
def test_rare_classes_by_default(name, kw):
    "Nothing is promised to rare classes, nor exactly to all; both come out as asked"

    def problem(seed, n=1000, K=160, share=0.4, easy=0.9, hard=0.3):
        rng = np.random.default_rng(seed)
        y = np.where(
            rng.uniform(size=n) < share, rng.integers(10, K, n), rng.integers(0, 10, n)
        )
        w = np.clip(
            np.where(y < 10, easy, hard) + rng.normal(scale=0.08, size=n), 0.01, 0.99
        )
        p = rng.dirichlet(np.full(K, 0.5), n) * (1 - w)[:, None]
        p[np.arange(n), y] += w
        return p, y

    off = []
    for i in range(30):
        (p, y), (q, t) = problem(i, **kw), problem(1000 + i, **kw)
        c = ConformalClassifier(name, 0.1, seed=0, condition="class").fit(p, y)
        hit = covered(c.predict(q), t)
        off.append([hit.mean() - 0.9, hit[c.cells_.too_few[0][t]].mean() - 0.9])
        assert (
            c.cells_.promises()[-1]
            == dict(
                cell="all rows", n=len(y), alpha=0.1, threshold=None, promised=False
            )
            and "not exactly" in c._repr_markdown_()
        )
    assert (np.mean(off, 0) > -4 * np.std(off, 0) / 30**0.5).all(), np.mean(off, 0)


def test_the_band_of_cells():
    "The 99% band of a conditional classifier holds 99% of the time"
    for condition, n, more in (
        ("class", 200, dict(rare="all")),
        ("group", 200, {}),
        ("class+group", 200, dict(rare="all")),
        ("cluster", 500, dict(clusters=2, cluster_share=0.4)),
    ):
        held = []
        for i in range(100):
            s = synthetic_problem(n + 1000, 8, seed=i)
            p, y = softmax(s.logits), s.labels
            g = np.where(p[:, 0] > p[:, 1], "a", "b")
            has_groups = "group" in condition
            a, b = slice(n), slice(n, None)
            c = ConformalClassifier(condition=condition, seed=i, **more).fit(
                p[a], y[a], groups=g[a] if has_groups else None
            )
            r = coverage_report(
                c.predict(p[b], groups=g[b] if has_groups else None),
                y[b],
                alpha=0.1,
                fitted=c,
                groups=g[b] if has_groups else None,
            )
            if r.band:
                held.append(r.band[0] <= r.coverage.value <= r.band[1])
        assert len(held) > 50 and np.mean(held) >= 0.95, (
            condition,
            len(held),
            np.mean(held),
        )  # 95 of 100 or fewer: chance below 1 in 1,000


def test_rows_needed_is_exact():
    from scipy.stats import beta

    def within(n, alpha, slack):
        k = conformal_rank(n, alpha)
        if k > n:
            return -1  # the threshold is infinite
        coverage = beta(k, n + 1 - k)
        return coverage.cdf(1 - alpha + slack) - coverage.cdf(1 - alpha - slack)

    for alpha, slack, delta in (
        (0.1, 0.02, 0.1),
        (0.05, 0.01, 0.05),
        (0.5, 0.1, 0.2),
        (0.1, 0.2, 0.01),
        (0.1, 0.003, 0.01),
        (0.37, 0.05, 0.3),
        (0.9, 0.01, 0.1),
    ):
        n = rows_needed(alpha, slack, delta)
        enough = [
            within(m, alpha, slack) >= 1 - delta for m in range(n, n + n // 4 + 50)
        ]
        assert all(enough)
        assert n == rows_needed(alpha) or within(n - 1, alpha, slack) < 1 - delta


def test_deterministic_aps_explodes_where_lac_does_not():
    "A sure model over many classes, by its own truth"
    s = synthetic_problem(6000, 200, seed=0, spread=6.0)
    p, y = s.true_probs, s.labels
    a, b = slice(0, 3000), slice(3000, 6000)
    size = {
        k: set_size(
            ConformalClassifier(n, 0.05, seed=0, randomize=r)
            .fit(p[a], y[a])
            .predict(p[b])
        )
        for k, n, r in (
            ("lac", "lac", True),
            ("aps", "aps", True),
            ("all of it", "aps", False),
        )
    }
    assert size["all of it"] > 2 * size["lac"] and size["aps"] < size["all of it"] / 1.5


def test_real_outputs(vgg):
    "CIFAR-10: every score covers; deterministic APS needs more labels than any other"
    p, y = vgg
    o = np.random.default_rng(0).permutation(len(y))
    a, b = o[:4000], o[4000:]
    size = {}
    lo, hi = coverage_band(4000, 6000, 0.05, level=0.9999)
    for name in NAMES:
        for r in (True, False):
            sets = (
                ConformalClassifier(name, 0.05, seed=0, randomize=r)
                .fit(p[a], y[a])
                .predict(p[b])
            )
            size[name, r] = set_size(sets)
            assert (
                lo
                <= coverage(sets, y[b])
                <= (hi if r or name in ("lac", "margin") else 1)
            ), name
    assert (
        size["aps", False] > 1.05 * size["lac", True]
        and size["aps", False] > size["aps", True]
    )
    for condition in ("class", "cluster"):
        c = ConformalClassifier(condition=condition, alpha=0.05, seed=0).fit(p[a], y[a])
        r = coverage_report(c.predict(p[b]), y[b], alpha=0.05, fitted=c)
        assert r.band[0] <= r.coverage.value <= r.band[1], (
            condition,
            r.band,
            r.coverage,
        )


def halves():
    "A model biased against classes 0 and 1, of which class 0 is rare"
    s = synthetic_problem(3000, 4, temperature=2.0, seed=1)
    p = softmax(s.logits + np.array([0, 0, 1.0, 3.0]))
    y = np.where((s.labels == 0) & (np.arange(3000) % 40 > 0), 1, s.labels)
    return (p[:1500], y[:1500]), (p[1500:], y[1500:])


@pytest.mark.parametrize(
    "params",
    [
        dict(),
        dict(condition="class"),
        dict(score="aps", seed=1),
        dict(score="topk", randomize=False),
        dict(condition="class", rare="all"),
    ],
)
def test_sets_are_the_labels_whose_p_value_exceeds_alpha(params):
    cal, (q, _) = halves()
    c = ConformalClassifier(**{"alpha": [0.1, 0.3], **params}).fit(*cal)
    for a in c.alphas_:
        np.testing.assert_array_equal(c.p_values(q) > a, c.predict(q, alpha=a))


def test_random_ties_are_uniform():
    "Ranks of four classes: all scores tie"
    cal, (q, t) = halves()
    c = ConformalClassifier("topk", randomize=False, seed=0).fit(*cal)
    at = np.arange(1500), t
    counted, smooth = c.p_values(q)[at], c.p_values(q, ties="random")[at]
    assert (counted <= 0.3).mean() < 0.3 + 4 * (0.21 / 1500) ** 0.5
    p_smooth, p_counted = (kstest(v, "uniform").pvalue for v in (smooth, counted))
    assert p_smooth > 1e-3 > p_counted


def test_classes_in_groups():
    (p, y), (q, _) = halves()
    g = np.where(np.arange(1500) % 3 == 0, "a", "b")
    each = ConformalClassifier(condition="class+group").fit(p, y, groups=g)
    own = (g == "b") & (y == 1)
    alone = ConformalClassifier().fit(p[own], y[own])
    assert each.cells_.thresholds[0, 5] == alone.threshold_
    every = ConformalClassifier(condition="group", rare="all").fit(p, y, groups=g)
    assert every.predict(q[:10], groups=["a"] + ["new"] * 9)[1:].all()


def easy_and_hard(n, seed):
    "25 classes: the truth gets weight .9 when even, .45 when odd; class 24 never comes"
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 24, n)
    p = rng.dirichlet(np.full(25, 0.5), n)
    w = np.where(y % 2, 0.45, 0.9) + rng.normal(scale=0.03, size=n)
    w = np.minimum(w, 0.99)
    p *= (1 - w)[:, None]
    p[np.arange(n), y] += w
    return p, y


def test_clusters_of_classes():
    (p, y), (q, t) = easy_and_hard(4000, 0), easy_and_hard(8000, 1)
    c = ConformalClassifier(condition="cluster", seed=0, clusters=2).fit(p, y)
    of = c.cells_.table[0]
    assert len(set(of[0:24:2])) == len(set(of[1:24:2])) == 1
    assert of[0] != of[1] and of[24] == -1
    assert c.cells_.promises()[24] == dict(
        cell="class 24, no cluster",
        n=0,
        alpha=0.1,
        threshold=c.threshold_,
        promised=False,
    )
    for k in (0, 1):
        hit = covered(c.predict(q), t)[t % 2 == k]
        n_cal = c.cells_.n_rows[of[k]]
        lo, hi = coverage_band(n_cal, len(hit), 0.1, level=0.9999)
        assert lo <= hit.mean() <= hi


def test_no_cluster_is_one_threshold():
    (p, y), (q, _) = easy_and_hard(4000, 0), easy_and_hard(50, 1)
    none = ConformalClassifier(condition="cluster", seed=0).fit(p[:300], y[:300])
    one = ConformalClassifier().fit(p[:300], y[:300])
    assert (none.n_, none.threshold_) == (300, one.threshold_)
    assert none.cells_.promises()[-1] == dict(
        cell="all rows", n=300, alpha=0.1, threshold=one.threshold_, promised=True
    )
    np.testing.assert_array_equal(none.predict(q), one.predict(q))


@pytest.mark.parametrize(
    "params",
    [
        dict(),
        dict(score="raps", seed=5, settings=dict(penalty=0.1, k_reg=2)),
        dict(condition="class", alpha=[0.1, 0.003]),
        dict(condition="cluster", seed=1, clusters=2),
        dict(alpha=1e-4),
    ],
)
def test_json_and_back(params):
    (p, y), (q, _) = easy_and_hard(4000, 0), easy_and_hard(99, 1)
    c = ConformalClassifier(**params).fit(p, y)
    d = json.loads(json.dumps(c.to_dict(scores=True), allow_nan=False))
    again = ConformalClassifier.from_dict(d)
    assert again.to_dict(scores=True) == d
    assert again.get_params() == c.get_params()
    np.testing.assert_array_equal(again.p_values(q), c.p_values(q))
    for a in c.alphas_:
        np.testing.assert_array_equal(again.predict(q, alpha=a), c.predict(q, alpha=a))


def test_states_that_were_not_saved_whole():
    (p, y), (q, _) = easy_and_hard(400, 0), easy_and_hard(9, 1)
    d = ConformalClassifier().fit(p, y).to_dict()
    short = ConformalClassifier.from_dict(d)
    for use in (lambda: short.p_values(q), lambda: short.to_dict(scores=True)):
        with pytest.raises(NotFittedError, match="scores=True"):
            use()
    for wrong in ({}, "x", dict(d, kind="lac"), dict(d, state={})):
        with pytest.raises(SchemaError, match="this is no saved conformal"):
            ConformalClassifier.from_dict(wrong)
    cells = d["state"]["cells_"]["value"]
    two = pack(np.array([[0.1, 0.2]]))
    d["state"]["cells_"]["value"] = dict(cells, thresholds=two)
    with pytest.raises(SchemaError, match="do not fit together"):
        ConformalClassifier.from_dict(d)


@pytest.mark.parametrize(
    "params,words",
    [
        (dict(alpha=0), r"`alpha` must be in \(0, 1\), got 0"),
        (dict(alpha=".1"), "`alpha` must be"),
        (dict(alpha=[]), "`alpha` is empty"),
        (dict(alpha=[[0.1]]), "`alpha` must be"),
        (dict(score="apes"), "unknown score 'apes'; there are "),
        (dict(score="aps"), "`seed` is needed: score 'aps' is randomized"),
        (dict(seed="x"), "`seed` must be"),
        (dict(condition="race"), "`condition` must be one of"),
        (dict(condition="group"), "`groups` are needed"),
        (dict(clusters=3), "are for condition='cluster'"),
        (
            dict(condition="cluster", seed=0, clusters=2.5),
            "`clusters` must be a whole number",
        ),
        (
            dict(condition="cluster", seed=0, clusters="a"),
            "`clusters` must be a whole number",
        ),
    ],
)
def test_parameters_that_are_wrong(params, words):
    cal, _ = halves()
    with pytest.raises(ConfigurationError, match=words):
        ConformalClassifier(**params).fit(*cal)


def test_what_predict_refuses():
    cal, (q, _) = halves()
    c = ConformalClassifier(alpha=[0.2, 0.5]).fit(*cal)
    with pytest.raises(NotFittedError, match="Call fit"):
        ConformalClassifier().predict([[0.5, 0.5]])
    with pytest.raises(PredictionError, match="3 classes, fitted with 4"):
        c.predict([[0.2, 0.3, 0.5]])
    with pytest.raises(ConfigurationError, match="one of those fitted"):
        c.predict(q, alpha=0.3)
    with pytest.raises(PredictionError, match="pass its `.probs`"):
        ConformalClassifier().fit(Predictions(probs=cal[0], labels=cal[1]), cal[1])
    assert ConformalClassifier(alpha=np.array(0.1)).fit(*cal).alphas_ == (0.1,)


def test_as_scikit_learn_does():
    c = ConformalClassifier("raps", [0.1, 0.2], seed=3, settings=dict(penalty=0.1))
    again = clone(c)
    assert again.get_params() == c.get_params()
    assert repr(again) == (
        "ConformalClassifier(score='raps', alpha=[0.1, 0.2], seed=3, "
        "settings={'penalty': 0.1})"
    )
    cal, _ = halves()
    assert "not fitted" in c._repr_markdown_()
    assert "fitted on 1,500 rows of 4 classes" in c.fit(*cal)._repr_markdown_()


@pytest.mark.parametrize("grid", [{}, dict(penalty=[]), dict(penalty=0.1), [0.1]])
def test_grids_that_are_none(grid):
    cal, _ = halves()
    with pytest.raises(ConfigurationError, match="`grid` must be a dict of lists"):
        tune_score(*cal, score="raps", seed=0, grid=grid)


@pytest.mark.parametrize("score", NAMES)
def test_coverage_of_300_problems(score):
    "Mean coverage is k/(n+1), at least that where scores tie; the band holds its share"
    n, low, high = 200, *coverage_band(200, 200, 0.1)
    want = conformal_rank(n, 0.1) / (n + 1)

    def one(seed, **more):
        s = synthetic_problem(2 * n, 4, temperature=2.0, seed=seed)
        p = softmax(s.logits)
        c = ConformalClassifier(score, 0.1, seed=seed, **more).fit(p[:n], s.labels[:n])
        return coverage(c.predict(p[n:]), s.labels[n:])

    cov = np.array([one(i) for i in range(300)])
    assert abs(cov.mean() - want) < 4 * cov.std() / 300**0.5
    assert ((cov >= low) & (cov <= high)).mean() >= 0.97
    cov = np.array([one(i, randomize=False) for i in range(300)])
    assert cov.mean() > want - 4 * cov.std() / 300**0.5
