"Rows that come in clusters or have weights: what is promised holds, rows alone fail"

import numpy as np
import pytest

from fine_tune_llm.core.errors import (
    CertificateError,
    ConfigurationError,
    PredictionError,
)
from fine_tune_llm.stats import SelectiveClassifier
from fine_tune_llm.stats.selective_classifier import certificate_curve

GRID = [0.8, 0.5]


def people(rng, n, rows=8, risk=0.1, alike=0.9):
    "Texts of n people, each mostly right or mostly wrong: (conf, wrong, who)"
    bad = rng.random(n) < risk
    share = np.where(bad, risk + alike * (1 - risk), risk * (1 - alike))
    who = np.repeat(np.arange(n), rows)
    wrong = rng.random(n * rows) < share[who]
    return np.full(n * rows, 0.8), wrong, who


def probs_of(conf, wrong):
    return np.column_stack([conf, 1 - conf]), wrong.astype(int)


def passes(draw, number, **how):
    "Is an error rate certified that is just below the true one?"
    rng = np.random.default_rng([5, number])
    conf, wrong, who = draw(rng)
    given = {"cluster": who} if how.pop("by_cluster") else {}
    try:
        SelectiveClassifier(0.0995, 0.1, grid=GRID, **how).fit(
            *probs_of(conf, wrong), **given
        )
    except CertificateError:
        return False
    return True


@pytest.mark.parametrize("how", [{"method": "hb"}, {"method": "wsr", "seed": 1}])
def test_certificates_by_cluster_fail_no_oftener_than_delta(how):
    "True error rate 10%, target 9.95%: every certificate is false. 200 draws each"

    def draw(rng):
        return people(rng, 60)

    by_rows = np.mean([passes(draw, s, by_cluster=False) for s in range(200)])
    by_cluster = np.mean([passes(draw, s, by_cluster=True, **how) for s in range(200)])
    assert by_rows > 0.2  # the exact test of rows believes 480 of them
    assert by_cluster <= 0.1 + 3 * (0.1 * 0.9 / 200) ** 0.5


def test_a_cluster_of_one_row_each_is_the_bound_of_rows():
    rng = np.random.default_rng(0)
    conf, wrong = np.full(400, 0.8), rng.random(400) < 0.02
    by_rows = SelectiveClassifier(method="hb", grid=GRID).fit(*probs_of(conf, wrong))
    alone = SelectiveClassifier(method="hb", grid=GRID).fit(
        *probs_of(conf, wrong), cluster=np.arange(400)
    )
    assert alone.certificate_.risk_bound == pytest.approx(
        by_rows.certificate_.risk_bound
    )
    assert (by_rows.certificate_.unit, alone.certificate_.unit) == ("row", "cluster")
    assert alone.certificate_.n_units == 400


def test_a_certificate_by_cluster_says_so_and_survives_a_file():
    conf, wrong, who = people(np.random.default_rng(2), 200, risk=0.01)
    probs, labels = probs_of(conf, wrong)
    fitted = SelectiveClassifier(0.1, seed=0, grid=GRID).fit(probs, labels, cluster=who)
    assert "a cluster drawn at random" in fitted.certificate_.promise
    assert "1600 calibration rows of 200 clusters" in str(fitted.certificate_)
    again = SelectiveClassifier.from_dict(fitted.to_dict())
    assert again.certificate_ == fitted.certificate_
    curve = certificate_curve(fitted, probs, labels, cluster=who)
    assert curve.bound[curve.chosen] == pytest.approx(fitted.certificate_.risk_bound)
    with pytest.raises(ConfigurationError, match="is about a cluster"):
        certificate_curve(fitted, probs, labels)
    names = np.array([f"p{k}" for k in who], dtype=object)
    named = SelectiveClassifier(0.1, seed=0, grid=GRID).fit(
        probs, labels, cluster=names
    )
    assert named.threshold_ == fitted.threshold_


def test_refusals_by_cluster_speak_of_clusters():
    conf, wrong, who = people(np.random.default_rng(3), 30, risk=0.001)
    with pytest.raises(CertificateError, match="About [0-9]+ calibration clusters"):
        SelectiveClassifier(0.05, grid=GRID, seed=0).fit(
            *probs_of(conf, wrong), cluster=who
        )


def test_certificates_by_weight_hold_in_the_population():
    "Bad rows are 4 times as common there as here: the error rate is 12.6%, not 3.5%"
    grid, target = [0.5], 0.125

    def draw(seed):
        rng = np.random.default_rng([6, seed])
        is_rare = rng.random(600) < 0.05
        wrong = rng.random(600) < np.where(is_rare, 0.6, 0.005)
        return np.full(600, 0.8), wrong, np.where(is_rare, 4.0, 1.0)

    rare, common = 0.05 * 4, 0.95
    risk = (rare * 0.6 + common * 0.005) / (rare + common)
    target = risk - 1e-4
    false = [0, 0]
    for seed in range(200):
        conf, wrong, weights = draw(seed)
        for i, given in enumerate([{}, {"weights": weights, "max_weight": 4}]):
            try:
                SelectiveClassifier(target, 0.1, grid=grid, method="hb").fit(
                    *probs_of(conf, wrong), **given
                )
                false[i] += 1
            except CertificateError:
                pass
    assert false[0] / 200 > 0.5
    assert false[1] / 200 <= 0.1 + 3 * (0.1 * 0.9 / 200) ** 0.5


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"weights": [1, 1, 1]}, ConfigurationError, "at least the largest weight, 1"),
        ({"weights": [1, 2, 1], "max_weight": 1}, ConfigurationError, "weight, 2, got"),
        ({"weights": [1, -1, 1], "max_weight": 1}, PredictionError, "at least 0"),
        ({"max_weight": 1}, ConfigurationError, "given without `weights`"),
        ({"cluster": [1, 1]}, PredictionError, "`cluster`"),
        ({"cluster": [1, None, 1]}, PredictionError, "missing for 1 rows, first row 1"),
    ],
)
def test_wrong_units_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        SelectiveClassifier().fit([[0.9, 0.1]] * 3, [0, 0, 1], **given)


def test_the_exact_test_is_for_independent_rows():
    with pytest.raises(ConfigurationError, match="the exact test counts rows"):
        SelectiveClassifier(method="exact").fit(
            [[0.9, 0.1]] * 3, [0, 0, 1], cluster=[1, 1, 2]
        )
