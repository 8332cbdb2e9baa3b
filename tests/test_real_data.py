"Real files that break loaders, and real model outputs"

import numpy as np
import pytest

from fine_tune_llm.core.errors import CertificateError, SchemaError
from fine_tune_llm.data.loading import load
from fine_tune_llm.stats.calibration_error import ece
from fine_tune_llm.stats.conformal import ConformalClassifier
from fine_tune_llm.stats.metrics import accuracy, nll
from fine_tune_llm.stats.quantiles import coverage
from fine_tune_llm.stats.selective_classifier import SelectiveClassifier, selective_risk


def test_embedded_newlines(real_data):
    ds = load(
        real_data / "messy" / "davidson_embedded_newlines.csv",
        text="tweet",
        label="class",
    )
    assert (
        len(ds) == 24783
        and ds.classes == ("0", "1", "2")
        and any("\n" in t for t in ds.texts)
    )


def test_blank_groups_and_crlf(real_data):
    ds = load(
        real_data / "messy" / "hatecheck_blank_groups.csv",
        text="test_case",
        label="label_gold",
        group="target_ident",
    )
    assert (
        len(ds) == 3728
        and None in set(ds.groups["target_ident"])
        and len(ds.classes) == 2
    )


def test_empty_headers(real_data):
    ds = load(
        real_data / "messy" / "kaggle_spam_empty_headers.csv", text="v2", label="v1"
    )
    assert set(ds.classes) == {"ham", "spam"} and len(ds) == 5573


def test_repeated_header_is_refused_only_when_asked_for(real_data):
    path = real_data / "messy" / "convabuse_duplicate_headers.csv"
    with pytest.raises(SchemaError, match="appears more than once"):
        load(path, text="user", label="Annotator6_transphobic")
    assert len(load(path, text="user", label=None)) > 2000


def test_known_numbers(vgg):
    "RESEARCH: accuracy .9359, ECE .0398, NLL .257 (Kumar et al. 2019's VGG-16 outputs)"
    assert accuracy(*vgg) == pytest.approx(0.9359, abs=5e-5)
    assert ece(*vgg) == pytest.approx(0.0398, abs=5e-5)
    assert nll(*vgg) == pytest.approx(0.257, abs=5e-4)


def test_promises_on_resplits(vgg):
    """200 resplits of real outputs

    Mean coverage is 1 - alpha, and false certificates are rarer than delta.
    """
    p, y = vgg
    rng = np.random.default_rng(0)
    cov, bad, kept = [], 0, 0
    for _ in range(200):
        o = rng.permutation(len(y))
        a, b, c = o[:1000], o[1000:9500], o[9500:]
        cov.append(
            coverage(ConformalClassifier(alpha=0.1).fit(p[a], y[a]).predict(p[b]), y[b])
        )
        try:
            s = SelectiveClassifier(target_risk=0.03, delta=0.1).fit(
                p[a], y[a], pilot=(p[c], y[c])
            )
        except CertificateError:
            continue
        kept += 1
        bad += selective_risk(s.decide(p[b]), y[b])[0] > 0.03
    assert abs(np.mean(cov) - 0.9) < 4 * np.std(cov) / 200**0.5 + 1 / 1001
    assert kept > 150 and bad / 200 <= 0.1 + 3 * (0.1 * 0.9 / 200) ** 0.5
