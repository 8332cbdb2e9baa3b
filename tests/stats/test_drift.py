"Drift monitors at their doors, fed late, on real outputs, and cut at every place"

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import (
    CertificateError,
    ConfigurationError,
    NotFittedError,
    PredictionError,
    SchemaError,
)
from fine_tune_llm.stats.adaptive import (
    ACI,
    ConformalPID,
    DtACI,
    RollingRiskControl,
    rolling_mean,
)
from fine_tune_llm.stats.late_labels import LateLabels
from fine_tune_llm.stats.martingales import COMPOSITE, ConformalMartingale, evidence
from fine_tune_llm.stats.monitors import MONITORS, restore
from fine_tune_llm.stats.plots import plot_wealth
from fine_tune_llm.stats.risk_monitor import RiskMonitor
from fine_tune_llm.stats.score_bag import ScoreBag, growing_p_values
from fine_tune_llm.stats.shift import (
    LabelFreeTrigger,
    WeightedConformal,
    effective_rows,
    two_sample_p_value,
    weighted_quantile,
)
from fine_tune_llm.stats.streams import Monitor

UNIT = st.floats(0, 1)


def through(m):
    return restore(json.loads(json.dumps(m.to_dict(), allow_nan=False)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(UNIT, min_size=1, max_size=200),
    st.sampled_from([0.001, 0.01, 0.1, 0.5]),
    st.integers(0, 20),
)
def test_aci_with_late_feedback(p, gamma, lag):
    a, missed, said = ACI(0.1, gamma), [], 0
    for t, v in enumerate(p):
        missed.append(a.alpha_ >= 1 or (a.alpha_ > 0 and v <= a.alpha_))
        if t >= lag:
            a.update(missed[t - lag])
            said += 1
    if said:
        assert abs(np.mean(missed[:said]) - 0.1) <= a.bound(said, lag) + 1e-9


GAMMAS = st.sampled_from([0.001, 0.01, 0.1, 0.5])
LONG = st.lists(UNIT, min_size=3, max_size=300)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LONG, GAMMAS, st.sampled_from([0.01, 0.1, 0.5]), UNIT)
def test_aci_keeps_its_bound_against_an_adversary(p, gamma, alpha, start):
    a = ACI(alpha, gamma, start=start)
    assert abs(a.replay(p).mean() - alpha) <= a.bound(len(p)) + 1e-9
    assert -gamma - 1e-9 <= a.alpha_ <= 1 + gamma + 1e-9


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LONG, GAMMAS, UNIT)
def test_rolling_risk_keeps_its_bound(losses, gamma, start):
    "At `high` there is no loss, at `low` the full one, in between whatever comes"
    knob = RollingRiskControl(0.2, gamma, start=start)
    for x in losses:
        knob.update(0.0 if knob.theta_ >= 1 else 1.0 if knob.theta_ <= 0 else x)
    assert abs(knob.total_ / len(losses) - 0.2) <= knob.bound(len(losses)) + 1e-9


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LONG, GAMMAS, UNIT)
def test_pid_keeps_its_bounds(scores, eta, start):
    n = len(scores)
    plain = ConformalPID(0.1, eta, start=start).replay(scores)
    assert abs(plain.mean() - 0.1) <= (1 + eta) / (eta * n) + 1e-9
    netted = ConformalPID(0.1, eta, start=start, integrate=1.0).replay(scores)
    reach = np.pi / 2 * (n + 1) / np.log(n + 1)
    assert abs(netted.mean() - 0.1) <= (reach + 1) / n + 1e-9


def test_aci_bound_is_nearly_reached():
    "Never a miss until the set is empty: within 6% of the bound"
    a = ACI(0.1, 0.05)
    assert not a.replay(np.ones(180)).any() and 0.94 * a.bound(180) < 0.1 <= a.bound(
        180
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-3, 3) | st.floats(-1e300, 1e300), min_size=1, max_size=300),
    st.integers(0, 300),
    st.integers(0, 2**32),
)
def test_ranks_are_exact(scores, cut, seed):
    "Against counting, for ties, huge numbers, any split into reference and stream"
    s = np.array(scores, dtype=np.float64)
    u = np.random.default_rng(seed).uniform(size=len(s))
    cut = min(cut, len(s))
    want = [
        ((s[:t] > s[t]).sum() + u[t] * (1 + (s[:t] == s[t]).sum())) / (t + 1)
        for t in range(cut, len(s))
    ]
    np.testing.assert_array_equal(ScoreBag(s[:cut]).p_values(s[cut:], u[cut:]), want)


@pytest.mark.parametrize("kind", ["free", "tied", "rising", "falling", "saw"])
def test_bag_of_many_blocks(kind):
    n = 60_000
    r = np.random.default_rng(0)
    t = np.arange(float(n))
    s = dict(
        free=r.normal(size=n),
        tied=r.integers(0, 3, n) * 1.0,
        rising=t,
        falling=-t,
        saw=t % 700,
    )[kind]
    u = r.uniform(size=n)
    p = ScoreBag().p_values(s, u)
    for i in r.integers(1, n, 300):
        assert p[i] == ((s[:i] > s[i]).sum() + u[i] * (1 + (s[:i] == s[i]).sum())) / (
            i + 1
        )
    bag = ScoreBag(s[: n // 2])
    np.testing.assert_array_equal(bag.p_values(s[n // 2 :], u[n // 2 :]), p[n // 2 :])
    np.testing.assert_array_equal(bag.values(), np.sort(s))


def test_p_values_are_uniform_and_independent():
    from scipy import stats

    r = np.random.default_rng(1)
    p = growing_p_values(
        r.integers(0, 5, 20_000), seed=2, reference=r.integers(0, 5, 100)
    )
    assert (
        stats.kstest(p, "uniform").pvalue > 1e-4
        and abs(np.corrcoef(p[1:], p[:-1])[0, 1]) < 4 / 20_000**0.5
    )


def test_the_mean_of_wealth_stays_one():
    "A martingale, checked by brute force on short streams of bounded wealth"
    r = np.random.default_rng(0)
    w = np.array(
        [np.exp(evidence(r.uniform(size=20), (0.1,)).wealth[-1]) for _ in range(4000)]
    )
    assert abs(w.mean() - 1) < 4 * w.std() / 4000**0.5


def test_shiryaev_roberts_runs_as_long_as_it_says():
    "The mean run to a false alarm is at least what was asked for, again and again"
    m = ConformalMartingale(rule="sr", seed=0, arl=200)
    n = 200_000
    m.update(np.random.default_rng(5).normal(size=n))
    gaps = n / m.n_alarms_
    assert 200 * (1 - 4 / m.n_alarms_**0.5) <= gaps < 600


CASES = dict(
    wealth=lambda: ConformalMartingale(COMPOSITE, seed=1).fit(np.arange(700) / 700),
    cusum=lambda: ConformalMartingale(rule="cusum", seed=1, arl=300),
    sr=lambda: ConformalMartingale(rule="sr", seed=1, arl=300),
    risk=lambda: RiskMonitor(0.02).fit(np.zeros(300)),
    costs=lambda: RiskMonitor(0.1, loss_max=2.0, source="hb").fit(np.full(300, 0.1)),
    aci=ACI,
    dtaci=DtACI,
    rolling=RollingRiskControl,
    pid=lambda: ConformalPID(start=0.4, integrate=0.5),
    pid_saturated=lambda: ConformalPID(start=0.4, integrate=0.5, saturation=0.01),
    trigger=lambda: LabelFreeTrigger(block=70).fit(np.arange(300) / 300),
)


@pytest.mark.parametrize("name", CASES)
def test_one_by_one_and_cut_at_every_place(name):
    "All at once, one by one through JSON, in pieces: the same alarms and state"
    r = np.random.default_rng(3)
    x = np.r_[r.beta(2, 8, 150), r.beta(5, 5, 150)]
    x = (r.uniform(size=300) < x) * 1.0 if name in ("risk", "aci") else x
    whole = CASES[name]()
    rung = whole.update(x)
    assert isinstance(whole, Monitor)
    one, said = CASES[name](), []
    for v in x:
        said += one.update(v)
        one = through(one)
    assert (
        said == rung and one.to_dict() == whole.to_dict() and one.alarm_ == whole.alarm_
    )
    for cut in range(0, 301, 23):
        m = CASES[name]()
        a = m.update(x[:cut])
        m = through(m)
        assert a + m.update(x[cut:]) == rung and m.to_dict() == whole.to_dict()
    assert whole._repr_markdown_().startswith("| | |")


def test_late_labels_survive_json_and_refuse_nonsense():
    q = LateLabels(0.5, seed=3)
    ids = [f"r{i}" for i in range(20)]
    chosen = q.issue(ids, np.random.default_rng(0).uniform(size=(20, 3)))
    p = through(q)
    assert (
        q.arrive(ids, [1] * 20).tolist() == p.arrive(ids, [1] * 20).tolist()
        and p.to_dict() == q.to_dict()
        and q.n_ignored_ == (~chosen).sum()
    )
    a, b = LateLabels(0.3, seed=9), LateLabels(0.3, seed=9)
    whole = a.issue(range(100), np.zeros((100, 2)))
    assert (
        np.concatenate(
            [b.issue(range(i, i + 7), np.zeros((7, 2))) for i in range(0, 98, 7)]
        ).tolist()
        == whole[:98].tolist()
    )
    with pytest.raises(PredictionError, match="must differ"):
        q.issue([1, 1], np.eye(2))
    with pytest.raises(PredictionError, match="differ in length: 1 and 2"):
        q.issue([1], np.eye(2))
    with pytest.raises(PredictionError, match="classes from 0 to 1, got 2"):
        r = LateLabels(seed=0)
        r.issue([1], [[0, 1]])
        r.arrive([1], [2])
    with pytest.raises(ConfigurationError, match="`share` must be in"):
        LateLabels(0, seed=0)


def test_doors():
    for bad, words in (
        (np.nan, "must be finite; 1 of 1"),
        (np.eye(2), r"shape \(n,\), got \(2, 2\)"),
        (["x"], "must hold numbers"),
        ([np.inf], "must be finite"),
    ):
        m = ConformalMartingale(seed=0)
        before = m.to_dict()
        with pytest.raises(PredictionError, match=words):
            m.update(bad)
        assert m.to_dict() == before
    for make, words in (
        (lambda: ConformalMartingale(seed=-1), "`seed` must be a whole number"),
        (lambda: ConformalMartingale(seed=0, rule="page"), "`rule` must be"),
        (
            lambda: ConformalMartingale(seed=0, level=5),
            r"`level` must be in \(0, 1\), got 5",
        ),
        (lambda: ConformalMartingale((0,), seed=0), r"rates in \(0, 1\]"),
        (lambda: RiskMonitor(2.0), r"`tolerance` must be in \[0, 1\)"),
        (lambda: RiskMonitor(0.1, source="x"), "unknown risk_test"),
        (lambda: ConformalPID(start=np.inf), "`start` must be finite"),
        (lambda: DtACI(gammas=()), "`gammas` must hold at least one"),
        (
            lambda: LabelFreeTrigger(block=1),
            "`block` must be a whole number, 10 or more",
        ),
        (lambda: WeightedConformal(seed=0, clip=1), "`clip` must be"),
        (
            lambda: WeightedConformal(seed=0, folds=2.7),
            "`folds` must be a whole number, 2 or more, got 2.7",
        ),
        (lambda: ACI().bound(0), "`n` must be a whole number, 1 or more"),
        (lambda: RollingRiskControl(low=-np.inf), "`low` must be finite"),
        (lambda: ConformalMartingale("a", seed=0), r"rates in"),
        (lambda: growing_p_values([1.0], seed="a"), "`seed` must be"),
        (lambda: ConformalPID(start="a"), "`start` must be finite"),
        (lambda: plot_wealth([0.0], threshold=0), "`threshold` must be positive"),
        (lambda: rolling_mean([1], 0), "`window` must be"),
        (lambda: ACI(start=2), "`start` must be in"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            make()
    for monitor in (RiskMonitor(), LabelFreeTrigger()):
        with pytest.raises(NotFittedError, match="is not fitted"):
            monitor.update(0)
    with pytest.raises(
        PredictionError, match=r"must lie in \[0, 1\]; 1 of 2 do not, first 1: 2.0"
    ):
        RiskMonitor(0.02).fit(np.zeros(100)).update([1, 2])
    with pytest.raises(PredictionError, match="`forecast` must be one number or 3"):
        ConformalPID(start=0).update([1, 2, 3], [1, 2])
    with pytest.raises(PredictionError, match="at least 10 reference rows, got 1"):
        LabelFreeTrigger().fit([1])


def test_any_array_will_do():
    import pandas as pd
    import pyarrow as pa
    import torch

    x = np.array([0.5, 0.25, 0.75, 0.25])
    frozen = x.copy()
    frozen.flags.writeable = False
    wide = np.zeros((4, 2))
    wide[:, 0] = x
    want = growing_p_values(x, seed=0)
    for other in (
        x.tolist(),
        x.astype(">f8"),
        x.astype(np.float16),
        torch.tensor(x),
        torch.tensor(x, dtype=torch.bfloat16),
        pd.Series(x),
        pa.array(x),
        wide[:, 0],
        frozen,
    ):
        np.testing.assert_array_equal(growing_p_values(other, seed=0), want)
    assert (
        growing_p_values([], seed=0).shape == (0,)
        and ConformalMartingale(seed=0).update(True) == []
        and ConformalMartingale(seed=0).update([]) == []
    )


def test_states_of_others_are_refused():
    with pytest.raises(SchemaError, match="state of a 'aci', not of a 'dtaci'"):
        DtACI.from_dict(ACI().to_dict())
    with pytest.raises(SchemaError, match="no monitor's state"):
        restore({})
    whole = DtACI().to_dict()
    for damage in (
        dict(params=dict(foo=1)),
        dict(params=[]),
        dict(state=dict(alpha="x", step_="x")),
        dict(state=dict(alphas_=dict(array="!!", dtype="<f8"))),
        dict(state=[1]),
        dict(state=dict(weights_=[0.5, 0.5])),
    ):
        with pytest.raises(SchemaError, match="no state of a 'dtaci'"):
            restore({**whole, **damage})
    assert set(MONITORS) == {
        "conformal_martingale",
        "risk_monitor",
        "aci",
        "dtaci",
        "rolling_risk",
        "conformal_pid",
        "label_free_trigger",
        "late_labels",
    }


def test_costs_and_refusals():
    costs = np.random.default_rng(1).choice([0.0, 1, 5], 800, p=[0.9, 0.08, 0.02])
    c = RiskMonitor(0.2, loss_max=5.0).fit(costs)
    assert costs.mean() < c.source_upper_ < c.level_ < 1 and c.update(costs) == []
    assert (
        c.update(np.full(50, 5.0))[0].step > 800
        and c.lower_ > c.level_
        and c.update(np.full(50, 5.0)) == []
    )
    with pytest.raises(CertificateError, match="no stream could exceed"):
        RiskMonitor(0.5).fit([0, 1])


def test_weights():
    r = np.random.default_rng(0)
    x, z = r.normal(size=(1000, 1)), r.normal(size=(1000, 1)) + 1
    s = r.normal(size=1000)
    w = WeightedConformal(seed=0).fit(s, x, z)
    np.testing.assert_allclose(
        np.log(w.weights(z)), np.clip(z[:, 0] - 0.5, -np.log(20), np.log(20)), atol=0.4
    )
    with pytest.raises(
        CertificateError, match="effective rows of 1000, fewer than 400"
    ) as e:
        WeightedConformal(seed=0, clip=1e4, floor=400).fit(s, x, z + 2)
    assert 0 < e.value.context["effective_rows"] < 400
    with pytest.raises(
        PredictionError, match=r"`target` must have shape \(n, 1\), got \(1000, 2\)"
    ):
        WeightedConformal(seed=0).fit(s, x, np.c_[z, z])
    with pytest.raises(NotFittedError, match="is not fitted"):
        WeightedConformal(seed=0).thresholds([[1.0]])
    with pytest.raises(CertificateError):
        w.fit(s, x, z + 9)
    with pytest.raises(NotFittedError):
        w.thresholds(z)  # what was learnt before the refusal is gone


@pytest.mark.parametrize("n", [1000, 10_000])
def test_disjoint_domains_are_refused(n):
    "Clipped weights look as good as equal ones: rows are counted before clipping"
    r = np.random.default_rng(0)
    x, s = r.normal(size=(n, 2)), np.abs(r.normal(size=n))
    with pytest.raises(CertificateError, match="hardly overlap") as e:
        WeightedConformal(0.1, seed=0).fit(s, x, r.normal(size=(n, 2)) + 6)
    assert (
        e.value.context["effective_rows"] < 0.02 * n + 100
        and e.value.context["auc"] > 0.99
    )
    with pytest.raises(
        CertificateError, match="of the target rows have weights above 20"
    ):
        WeightedConformal(0.1, seed=0, floor=1).fit(s, x, r.normal(size=(n, 2)) + 6)
    assert (
        WeightedConformal(0.1, seed=0).fit(s, x, r.normal(size=(n, 2)) + 0.5).clipped_
        < 0.1
    )


def test_ranks_need_as_many_numbers_as_scores():
    for u, words in (
        ([0.5], "`u` must be as many as `scores`, 6, got 1"),
        ([5.0] * 6, r"`u` must lie in \[0, 1\]"),
    ):
        with pytest.raises(PredictionError, match=words):
            ScoreBag(np.arange(5.0)).p_values(np.arange(6.0), u)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(0, 5),
    st.sampled_from([0.1, 0.25, 0.5]),
)
def test_weighted_quantile_counts_copies(rows, new, alpha):
    "Whole weights are copies of rows: the same as the definition, counted"
    s, w = np.array(rows).T
    got = weighted_quantile(s, w, [new], alpha=alpha)[0]
    total = w.sum() + new  # without any weight nothing is reached
    need = (1 - alpha) * total if total else np.inf
    want = next(
        (v for v in np.sort(np.unique(s)) if w[s <= v].sum() >= need - 1e-9), np.inf
    )
    assert got == want and 0 <= effective_rows(w) <= len(w) + 1e-9


def test_real_outputs(vgg):
    "Quiet on shuffled rows, loud when confident rows give way to doubtful ones"
    p, y = vgg
    s = 1 - p[np.arange(len(y)), y].astype(np.float64)
    rang = []
    for seed in range(40):
        o = np.random.default_rng(seed).permutation(len(s))
        rang.append(
            bool(
                ConformalMartingale(COMPOSITE, seed=seed)
                .fit(s[o[:1000]])
                .update(s[o[1000:]])
            )
        )
    assert np.mean(rang) <= 0.05 + 4 * (0.05 * 0.95 / 40) ** 0.5
    order = np.argsort(-p.max(1) + np.random.default_rng(0).normal(size=len(p)) * 0.1)
    m = ConformalMartingale(seed=0).fit(s[order[:1000]])
    assert m.update(s[order[1000:]])
    cal = np.sort(s[order[:1000]])
    pv = (1 + 1000 - np.searchsorted(cal, s[order[1000:]])) / 1001
    assert (pv <= 0.1).mean() > 0.15 and abs(
        ACI(0.1, 0.02).replay(pv).mean() - 0.1
    ) <= ACI(0.1, 0.02).bound(len(pv))


def test_set_sizes_that_tie_are_compared_by_the_ties_there_are():
    "As a permutation test of the same distance: the tables find .38 where it finds .7"

    def sizes(rng, n, shift):
        return 1 + rng.binomial(4, 0.12 + shift, n)

    found = {}
    for shift in (0.0, 0.04):
        p = []
        for seed in range(300):
            rng = np.random.default_rng([7, seed])
            p.append(two_sample_p_value(sizes(rng, 1000, 0), sizes(rng, 200, shift)))
        found[shift] = np.mean(np.array(p) <= 0.0304)
    assert found[0.0] <= 0.0304 + 4 * (0.0304 * 0.97 / 300) ** 0.5
    assert found[0.04] >= 0.6


@pytest.mark.parametrize("n, m", [(10, 10), (40, 13)])
def test_two_sample_p_values_by_counting_all_choices(n, m):
    rng = np.random.default_rng(3)
    pooled = rng.integers(0, 4, n + m)

    def distance(block):
        below = [np.mean(block <= v) for v in range(4)]
        rest = np.bincount(pooled, minlength=4) - np.bincount(block, minlength=4)
        return np.abs(below - rest.cumsum() / n).max()

    order = rng.permutation(n + m)
    block, reference = pooled[order[:m]], pooled[order[m:]]
    seen = distance(block)
    drawn = [rng.permutation(pooled)[:m] for _ in range(4000)]
    by_chance = np.mean([distance(other) >= seen - 1e-12 for other in drawn])
    p = two_sample_p_value(reference, block)
    assert abs(p - by_chance) <= 1e-9 + 4 * (p * (1 - p) / 4000) ** 0.5
    assert two_sample_p_value(block, reference) == pytest.approx(p)


def test_every_monitor_is_fed_and_survives_a_file():
    "What has no stream is no monitor; `LateLabels` is fed by `issue` and `arrive`"
    fed = {name for name in MONITORS if hasattr(MONITORS.get(name), "update")}
    assert fed == set(MONITORS) - {"late_labels"}
    r = np.random.default_rng(0)
    x, z = r.normal(size=(500, 1)), r.normal(size=(500, 1)) + 0.5
    fitted = WeightedConformal(seed=0).fit(np.abs(x[:, 0]), x, z)
    again = WeightedConformal.from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_array_equal(again.thresholds(z), fitted.thresholds(z))
    assert "balance" in fitted._repr_markdown_()


def moved_logits(rng, n, shift):
    "(features, logits, was the truth's score large?) where one feature makes it hard"
    x = rng.normal(size=(n, 4))
    x[:, 0] += shift
    logits = x[:, 1:] * 2
    hard = 1 / (1 + np.exp(-1.5 * x[:, :1]))
    return x, logits, np.abs(rng.normal(size=n)) * (0.2 + 2 * hard[:, 0])


def test_weights_from_logits_that_do_not_tell_are_refused_by_features():
    source, target = np.random.default_rng(1), np.random.default_rng(2)
    x, logits, scores = moved_logits(source, 3000, 0)
    z, new_logits, new_scores = moved_logits(target, 3000, 1.0)
    blind = WeightedConformal(seed=0).fit(scores, logits, new_logits)
    assert (new_scores <= blind.thresholds(new_logits)).mean() < 0.86
    with pytest.raises(CertificateError, match="do not make source like target"):
        WeightedConformal(seed=0).fit(scores, logits, new_logits, watched=(x, z))
    seeing = WeightedConformal(seed=0).fit(scores, x, z, watched=(x, z))
    assert abs((new_scores <= seeing.thresholds(z)).mean() - 0.9) < 0.03


def test_a_shift_that_is_no_straight_line_is_refused():
    "Farther out on both sides: a line weighs all rows alike, and coverage falls"
    r = np.random.default_rng(3)
    x, z = r.normal(size=(3000, 2)), r.normal(size=(3000, 2)) * 1.6
    scores = np.abs(x[:, 0])
    with pytest.raises(CertificateError, match="or its square, still differs") as e:
        WeightedConformal(seed=0).fit(scores, x, z)
    assert e.value.context["balance"] > 0.1
