"Chains, shares of delta and what is promised in the end, by hand"

import numpy as np
import pytest

from fine_tune_llm.core.errors import CertificateError
from fine_tune_llm.stats import Nested, SelectiveCertificate, Target
from fine_tune_llm.stats.certificates import (
    Chain,
    GroupLosses,
    Walk,
    WalkPlan,
    common_threshold,
    make_chains,
    segment_shares,
    segment_transitions,
    settle,
    walk_chains,
)

GRID = np.array([0.9, 0.5, 0.0])
TARGETS = (Target("error", 0.1, weight=3), Target("other", 0.2))


def two_by_two():
    "Two targets in two groups; every chain has a segment, the first one has two"
    chains = []
    for group in ("a", "b"):
        for target in (0, 1):
            starts = (0, 1) if (group, target) == ("a", 0) else (0,)
            chains.append(Chain(group, (target,), starts, np.full((1, 3), 0.5)))
    return chains


def test_shares_follow_weights_and_are_split_among_segments():
    plan = WalkPlan(TARGETS, 0.1, GRID, together=False)
    shares = segment_shares(plan, two_by_two())
    np.testing.assert_allclose(shares, np.array([1.5, 1.5, 1, 3, 1]) / 8)


def test_without_transitions_a_chain_hands_on_to_all_others_alike():
    plan = WalkPlan(TARGETS, 0.1, GRID, together=False)
    arrows = segment_transitions(plan, two_by_two())
    np.testing.assert_allclose(arrows[0], [0, 1, 0, 0, 0])
    np.testing.assert_allclose(arrows[1], [0, 0, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(arrows[2], [1 / 6, 1 / 6, 0, 1 / 3, 1 / 3])
    assert (arrows.sum(1) <= 1 + 1e-12).all()


def test_transitions_stay_in_a_group_and_what_is_left_goes_to_the_same_target():
    transitions = np.array([[0, 0.25], [1, 0]])
    plan = WalkPlan(TARGETS, 0.1, GRID, together=False, transitions=transitions)
    arrows = segment_transitions(plan, two_by_two())
    np.testing.assert_allclose(arrows[1], [0, 0, 0.25, 0.75, 0])
    np.testing.assert_allclose(arrows[2], [0.5, 0.5, 0, 0, 0])
    np.testing.assert_allclose(arrows[3], [0.375, 0.375, 0, 0, 0.25])


def walk(*passed):
    chain = Chain(None, (0,), (0,), np.zeros((1, 3)))
    return Walk(chain, np.array(passed, bool), ((0, 0.1),))


@pytest.mark.parametrize(
    ("walks", "index", "holding"),
    [
        ([walk(1, 1, 0), walk(1, 0, 0)], 0, [0, 1]),  # where both hold
        ([walk(1, 1, 0), walk(0, 0, 0)], 1, [0]),  # the other holds nowhere
        ([walk(1, 0, 0), walk(0, 1, 1)], 0, [0]),  # nowhere both: the main target's
        ([walk(0, 0, 0), walk(1, 1, 1)], None, []),  # the main target is refused
    ],
)
def test_the_threshold_of_a_group(walks, index, holding):
    found, held = common_threshold(walks)
    assert found == index
    assert held == [walks[i] for i in holding]


def losses_of(*errors_at, n_each=60):
    "Sixty rows at each threshold, with so many errors"
    loss = [np.arange(n_each) < errors for errors in errors_at]
    enter = np.repeat(np.arange(len(errors_at)), n_each)
    nested = Nested(np.concatenate(loss).astype(float), enter, len(GRID))
    return GroupLosses(len(enter), (nested,))


def test_a_group_that_is_refused_does_not_stop_the_others():
    plan = WalkPlan((Target("error", 0.1),), 0.1, GRID)
    groups = {"good": losses_of(0, 0, 60), "bad": losses_of(60, 60, 60)}
    settled = settle(plan, groups, {})
    assert settled.thresholds == {"good": 0.5, "bad": None}
    assert [c.group for c in settled.certificates] == ["good"]
    assert [r.context["group"] for r in settled.refusals] == ["bad"]
    with pytest.raises(CertificateError, match="for group bad"):
        settle(plan, {"bad": groups["bad"]}, {})


def test_a_pilot_says_where_the_only_walk_begins():
    plan = WalkPlan((Target("error", 0.1),), 0.1, GRID)
    rows = {None: losses_of(6, 0, 60)}
    (chain,) = make_chains(plan, rows, {None: losses_of(3, 0, 30, n_each=30)})
    assert chain.starts == (1,)
    (walked,) = walk_chains(plan, [chain])
    assert walked.passed.tolist() == [False, True, False]


def test_a_certificate_shows_what_it_promises():
    certificate = SelectiveCertificate(
        target_risk=0.05,
        delta=0.1,
        threshold=0.9,
        n=100,
        n_decided=60,
        n_errors=1,
        p_value=0.01,
        risk_bound=0.04,
        n_tests=7,
        group="north",
    )
    shown = certificate._repr_markdown_()
    for words in ("at most 5.0%", "for group north", "60 (60.0%)", certificate.theorem):
        assert words in shown
    assert str(certificate).startswith("With probability at least 90%")
