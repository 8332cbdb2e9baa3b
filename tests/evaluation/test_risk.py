"The risk of decisions: costs by hand, certificates, residual risk without false alarms"

import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from fine_tune_llm import Predictions, audit
from fine_tune_llm.core.errors import ConfigurationError, PredictionError
from fine_tune_llm.data.findings import Finding
from fine_tune_llm.evaluation import (
    RiskAssessment,
    cost_report,
    critical_report,
    subject_of,
)
from fine_tune_llm.evaluation.risk import (
    certificates_of,
    certified_risk,
    residual_risk,
    review_workload,
)
from fine_tune_llm.predictions import Outcome
from fine_tune_llm.stats import CostMatrix

CLASSES = ("calm", "urgent")
COST = CostMatrix(
    CLASSES, [[0, 1], [10, 0]], abstain_cost=[1, 2], critical=[("urgent", "calm")]
)
# true, decided, rows
TABLE = [(0, 0, 500), (0, 1, 60), (0, -1, 40), (1, 1, 350), (1, 0, 20), (1, -1, 30)]
LABELS = np.repeat([t for t, _, _ in TABLE], [n for *_, n in TABLE])
DECIDED = np.repeat([d for _, d, _ in TABLE], [n for *_, n in TABLE])


def said_of(labels=LABELS, decided=DECIDED, **more):
    "Predictions whose most probable class is what was decided"
    likeliest = np.where(decided < 0, labels, decided)
    probs = np.where(likeliest[:, None] == np.arange(2), 0.9, 0.1)
    return Predictions(probs=probs, labels=labels, classes=CLASSES, **more)


def subject_with(labels=LABELS, decided=DECIDED, cost=COST, **more):
    said = said_of(labels, decided, **more)
    return subject_of(said, cost=cost, decided=decided)


def test_costs_by_hand():
    report = cost_report(LABELS, DECIDED, COST, seed=0)
    # 60 at 1, 40 at 1, 20 at 10, 30 at 2
    assert report["expected"]["value"] == pytest.approx((60 + 40 + 200 + 60) / 1000)
    assert report["expected"]["over"] == "rows" and report["expected"]["n"] == 1000
    # the costliest 50 rows: 20 at 10 and 30 at 2
    assert report["cvar"]["value"] == pytest.approx((200 + 60) / 50)
    worst = report["worst_case"]
    assert (worst["value"], worst["high"], worst["share"]["k"]) == (10, 10, 20)
    critical = report["critical"]
    assert (critical["k"], critical["n"]) == (20, 930)
    assert critical["pairs"][0]["of_true"]["n"] == 400
    costs = {p["policy"]: p["cost"] for p in report["policies"]}
    assert costs["always abstain"] == pytest.approx((600 + 800) / 1000)
    assert costs["always the cheapest class"] == pytest.approx(0.6)  # urgent for all
    assert costs["always the commonest class"] == pytest.approx(4)  # calm for all
    gaps = [p["difference"] for p in report["policies"]]
    assert [g["value"] for g in gaps] == pytest.approx(
        [0.36 - 1.4, 0.36 - 0.6, 0.36 - 4]
    )
    assert all(g["low"] < g["value"] < g["high"] for g in gaps)


def test_abstentions_without_a_cost_are_left_out():
    cost = CostMatrix(CLASSES, COST.cost)
    report = cost_report(LABELS, DECIDED, cost, seed=0)
    assert report["expected"]["value"] == pytest.approx((60 + 200) / 930)
    assert report["expected"]["over"] == "decided rows"
    assert report["policies"][0]["difference"]["evaluated"] is False
    assert report["policies"][1]["cost"] == pytest.approx(560 / 930)
    nobody = cost_report(LABELS, np.full(1000, -1), cost, seed=0)
    assert nobody["expected"]["evaluated"] is False and nobody["policies"] == []
    assert critical_report(LABELS, DECIDED, cost)["evaluated"] is False


def test_names_will_do_as_well_as_indices():
    names = np.array([*CLASSES, None], dtype=object)
    by_names = cost_report(names[LABELS], names[DECIDED], COST, seed=0)
    assert by_names == cost_report(LABELS, DECIDED, COST, seed=0)


@pytest.mark.parametrize("n", [300, 60_000])
def test_the_bound_holds_and_is_above_the_mean(n):
    rng, R, missed = np.random.default_rng(0), 100 if n < 1000 else 8, 0
    chances = np.array([[0.93, 0.05, 0.02], [0.05, 0.9, 0.05]])
    truth = (0.5 * 0.05 * 1 + 0.5 * 0.02 * 1) + 0.5 * (0.05 * 10 + 0.05 * 2)
    for _ in range(R):
        labels = rng.integers(2, size=n)
        u = rng.uniform(size=n)
        decided = (u[:, None] > chances[labels].cumsum(1)).sum(1)
        decided = np.where(decided == 2, -1, decided)
        expected = cost_report(labels, decided, COST, seed=0)["expected"]
        assert expected["value"] <= expected["bound"] < 3 * expected["value"]
        missed += truth > expected["bound"]
    assert missed / R <= 0.05 + 3 * (0.05 * 0.95 / R) ** 0.5  # 3 sigma


PROMISE = {"name": "error", "target_risk": 0.1, "delta": 0.1, "n": 300}


def test_certificates_are_measured_on_the_rows_they_speak_of():
    site = np.where(np.arange(1000) % 2, "A", "B")
    subject = subject_with(groups={"site": site})
    certificates = [
        PROMISE,
        PROMISE | {"name": "few", "target_risk": 0.02},
        PROMISE | {"group": "A", "group_column": "site"},
        PROMISE | {"classes": ["urgent"]},
        PROMISE | {"loss": COST.critical_loss.tolist(), "given": "all"},
        PROMISE | {"loss": COST.cost.tolist(), "mean_loss": 0.1, "target_risk": 2.0},
        PROMISE | {"group": "A", "group_column": "nobody"},
        PROMISE | {"mean_loss": 0.3},
    ]
    found = certified_risk(subject, certificates)
    seen = [one["measured"].get("value") for one in found]
    wrong = (DECIDED != LABELS)[(DECIDED >= 0) & (site == "A")].mean()
    assert seen == pytest.approx(
        [80 / 930, 80 / 930, wrong, 20 / 370, 20 / 1000, 260 / 930, None, None]
    )
    assert [one["agrees"] for one in found[:2]] == [True, False]
    assert [one["agrees"] for one in found[6:]] == [None, None]
    assert [one["is_critical"] for one in found[3:6]] == [False, True, False]


def test_critical_errors_are_high_unless_a_certificate_bounds_them():
    subject = subject_with()
    (finding,) = (
        f
        for f in RiskAssessment(seed=0).analyze(subject).findings
        if f.code == "critical_errors"
    )
    assert finding.severity == "high" and len(finding.rows) == 20
    assert set(LABELS[list(finding.rows)]) == {1}
    assert "2.2% [1.3%, 3.3%]" in finding.message and "n = 930" in finding.message
    bound = PROMISE | {"loss": COST.critical_loss.tolist(), "mean_loss": 0.01}
    for target, severity in ((0.05, "low"), (0.001, "high")):
        certificates = [bound | {"target_risk": target}]
        found = RiskAssessment(seed=0).analyze(subject, certificates=certificates)
        codes = {f.code: f.severity for f in found.findings}
        assert codes["critical_errors"] == severity


def test_no_finding_where_nothing_is_wrong():
    labels = np.repeat([0, 1], 300)
    found = RiskAssessment(seed=0).analyze(
        subject_with(labels, labels), target_risk=0.05
    )
    assert found.findings == () and found.verdict == "clear" and found.register == ()


def test_what_is_simpler_and_cheaper_is_said():
    labels = np.repeat([0, 1], [950, 50])
    decided = np.where(np.arange(1000) % 2, labels, 1 - labels)
    found = RiskAssessment(seed=0).analyze(subject_with(labels, decided))
    codes = [f.code for f in found.findings]
    assert "costlier_than_one_class" in codes
    cheap = CostMatrix(CLASSES, COST.cost, abstain_cost=0.01)
    again = RiskAssessment(seed=0).analyze(subject_with(labels, decided, cheap))
    assert "costlier_than_abstaining" in [f.code for f in again.findings]


def test_a_tail_as_costly_as_can_be_is_said():
    labels = np.repeat([0, 1], 500)
    decided = labels.copy()
    decided[500:600] = 0  # a tenth is missed at 10: the worst twentieth all are
    found = RiskAssessment(seed=0).analyze(subject_with(labels, decided))
    (tail,) = (f for f in found.findings if f.code == "tail_cost")
    assert tail.details["cvar"]["value"] == 10 and tail.details["harm"] == 1


def alike(n, rng, *, rate=0.1):
    "Rows of two classes and eight groups, which err alike"
    labels = rng.integers(2, size=n)
    wrong = rng.uniform(size=n) < rate
    groups = {
        "site": rng.choice(list("abcdefgh"), n),
        "age": rng.choice(list("xyz"), n),
    }
    return subject_with(
        labels, np.where(wrong, 1 - labels, labels), None, groups=groups
    )


@pytest.mark.parametrize("target", [None, 0.1])
def test_rows_that_err_alike_are_flagged_in_no_more_than_a_twentieth(target):
    R, flagged, missed = 200, 0, 0
    for seed in range(R):
        subject = alike(800, np.random.default_rng(seed))
        rows = residual_risk(subject, target_risk=target)
        flagged += any(row["is_above"] for row in rows)
        ends = [row["selective_risk"] for row in rows]
        missed += any(not end["low"] <= 0.1 <= end["high"] for end in ends)
    assert flagged / R <= 0.05 + 3 * (0.05 * 0.95 / R) ** 0.5  # 3 sigma
    assert missed / R <= 0.05 + 3 * (0.05 * 0.95 / R) ** 0.5  # they hold together


@pytest.mark.parametrize("target, severity", [(None, "low"), (0.1, "high")])
def test_a_group_that_errs_more_is_found(target, severity):
    rng = np.random.default_rng(0)
    subject = alike(4000, rng)
    site = subject.groups["site"]
    wrong = (site == "c") & (rng.uniform(size=4000) < 0.2)
    decided = np.where(wrong, 1 - subject.labels, subject.decided)
    other = subject_with(subject.labels, decided, None, groups=dict(subject.groups))
    found = RiskAssessment(seed=0).analyze(other, target_risk=target)
    (finding,) = (f for f in found.findings if f.code == "residual_risk_group")
    assert finding.message.startswith("site c: ") and finding.severity == severity
    entry = next(e for e in found.register if e.id == "unequal_errors")
    assert entry.likelihood == 5 and entry.severity is None


@pytest.mark.parametrize(
    "target, code", [(None, "group_gap"), (0.1, "group_breaks_certificate")]
)
def test_what_is_said_of_groups_already_is_not_said_again(target, code):
    rng = np.random.default_rng(0)
    subject = alike(4000, rng)
    wrong = (subject.groups["site"] == "c") & (rng.uniform(size=4000) < 0.2)
    decided = np.where(wrong, 1 - subject.labels, subject.decided)
    other = subject_with(subject.labels, decided, None, groups=dict(subject.groups))
    known = Finding(code, "high", "A gap of 20 points", "Add rows of the group")
    risk = RiskAssessment(seed=0)
    found = risk.analyze(other, target_risk=target, findings=[known])
    assert "residual_risk_group" not in {one.code for one in found.findings}
    assert next(row for row in found.by_group if row["group"] == "c")["is_above"]


def test_groups_of_few_rows_and_groups_that_overlap():
    names = np.where(np.arange(1000) % 3, "p|q", "p").astype(object)
    names[:10] = "rare"
    subject = subject_of(said_of(), memberships={"who": names.tolist()})
    rows = {row.get("group"): row for row in residual_risk(subject)}
    assert rows["p"]["n"] == 990 and rows["q"]["n"] == sum(names == "p|q")
    assert "10 decided rows" in rows["rare"]["selective_risk"]["reason"]
    work = review_workload(subject)
    assert "are needed" in work["by_group"][2]["abstained"]["reason"]


def test_the_work_of_abstentions_and_its_reasons():
    subject = subject_with()
    work = review_workload(subject, minutes_per_review=3)
    assert work["abstained"]["k"] == 70 and work["per_1000"]["value"] == 70
    assert work["hours_per_1000"]["value"] == pytest.approx(3.5)
    assert work["by_reason"] == []
    assert review_workload(subject)["hours_per_1000"]["evaluated"] is False
    reasons = np.where(DECIDED < 0, "ambiguous", None)
    reasons[np.flatnonzero(DECIDED < 0)[:15]] = "out_of_scope"
    n = len(LABELS)
    outcome = Outcome(
        predictions=said_of(),
        probs=said_of().probs,
        sets=np.ones((n, 2), bool),
        decided=DECIDED,
        conf=np.full(n, 0.9),
        needed=np.full(n, 0.5),
        reasons=reasons,
    )
    found = review_workload(subject_of(outcome))["by_reason"]
    assert [(row["reason"], row["n"]) for row in found] == [
        ("ambiguous", 55),
        ("out_of_scope", 15),
    ]


def test_all_of_it_is_json_and_the_same_twice():
    site = np.where(np.arange(1000) % 2, "<b>A</b>", "B")
    subject = subject_with(groups={"site": site})
    first, second = (
        json.dumps(RiskAssessment(seed=3).analyze(subject).to_dict(), allow_nan=False)
        for _ in range(2)
    )
    assert first == second
    assert set(json.loads(first)) >= {
        *("cost", "certified", "by_class", "by_group", "workload", "stress"),
        *("register", "findings", "verdict", "not_evaluated", "n"),
    }


@pytest.mark.parametrize(
    "setting", [{"level": 0}, {"tail": 0}, {"min_rows": 0.5}, {"most_abstained": 2}]
)
def test_settings_out_of_range_are_named(setting):
    name = next(iter(setting))
    with pytest.raises(ConfigurationError, match=f"`{name}`"):
        RiskAssessment(seed=0, **setting).analyze(subject_with())
    with pytest.raises(ConfigurationError, match="`target_risk`"):
        RiskAssessment(seed=0).analyze(subject_with(), target_risk=5)
    with pytest.raises(PredictionError, match="no labels"):
        RiskAssessment(seed=0).analyze(Predictions(probs=[[0.5, 0.5]]))


def test_one_row_is_enough_to_ask():
    one = RiskAssessment(seed=0).analyze(subject_with(LABELS[:1], DECIDED[:1]))
    assert one.n == 1 and one.workload["abstained"]["n"] == 1
    assert one.stress[0]["error"]["evaluated"] is False


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    risk = {"target_cost": 0.6, "miss": {"*": 1.0}, "abstain_cost": {"*": 0.3}}
    risk |= {"targets": [{"kind": "error", "risk": 0.4}]}
    out = tmp_path_factory.mktemp("risk") / "run"
    return toy_fit(out, config={"risk": risk}, epochs=4)


def test_a_run_is_held_to_its_own_certificates_costs_and_register(run, tmp_path):
    outcome = run.outcome("test")
    found = SimpleNamespace(**audit(run)["risk"])
    names = [one["name"] for one in run.certificate["promises"]["decisions"]]
    assert [one["name"] for one in found.certified] == names
    for one in found.certified:
        assert one["measured"]["n"] == int(outcome.kept.sum())
    assert found.cost["expected"]["over"] == "rows"
    assert found.settings["target_risk"] == 0.4
    path = tmp_path / "register.yaml"
    path.write_text(yaml.safe_dump({"risks": {"ours": {"hazard": "The power fails"}}}))
    asked = run.config.audit.model_copy(update={"risk_register": str(path)})
    register = audit(run, settings=asked)["risk"]["register"]
    assert register[0]["hazard"] == "The power fails"


def test_the_losses_of_a_run_are_those_its_certificates_were_made_of(run):
    cost, error = certificates_of(run)
    outcome = run.outcome("calibration")
    subject = subject_of(outcome)
    seen = certified_risk(subject, [error, cost])
    assert seen[0]["measured"]["value"] == pytest.approx(
        error["n_errors"] / error["n_decided"]
    )
    assert seen[1]["measured"]["value"] == pytest.approx(cost["mean_loss"])
