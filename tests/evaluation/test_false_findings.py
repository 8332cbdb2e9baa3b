"A whole audit of what is calibrated and treats groups alike raises few findings"

import numpy as np
import pytest

import fine_tune_llm as ft
from fine_tune_llm.config.schema import AuditConfig

N_AUDITS = 20


def calibrated(n, K, seed):
    "Rows that are of each class with the probability they state, groups at random"
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(K), n)
    labels = (probs.cumsum(1) < rng.random(n)[:, None]).sum(1).clip(0, K - 1)
    groups = {"site": rng.choice(["A", "B"], n), "age": rng.choice(list("pqr"), n)}
    return ft.Predictions(probs=probs, labels=labels, groups=groups)


@pytest.mark.parametrize("n, K", [(1000, 2), (600, 4)])
def test_few_audits_of_a_faultless_classifier_find_a_fault(n, K):
    settings = AuditConfig(n_resamples=200)
    audits = [
        ft.audit(calibrated(n, K, seed), settings=settings, seed=seed)
        for seed in range(N_AUDITS)
    ]
    flagged = sum(audit.verdict != "clear" for audit in audits)
    # each analysis may err in 5% of audits; that all of them together do is the claim
    assert flagged <= N_AUDITS * 0.05 + 3 * (N_AUDITS * 0.05 * 0.95) ** 0.5  # 3 sigma
