"The promise of many settings, kept over draws; and what holds for every input"

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from fine_tune_llm.core.errors import CertificateError, ConfigurationError
from fine_tune_llm.stats.bounds import p_value
from fine_tune_llm.stats.learn_then_test import LearnThenTest
from fine_tune_llm.stats.multiple_testing import graphical

RISKS = np.r_[np.linspace(0.02, 0.045, 6), np.linspace(0.0501, 0.08, 6)]
RING = partial(graphical, weights=np.eye(12)[3], transitions=np.roll(np.eye(12), 1, 1))


def losses_of_30_settings():
    rng = np.random.default_rng(2)
    coins = rng.random((800, 1))
    costs = rng.choice([0.2, 1.0], (800, 1), p=[0.7, 0.3])
    return (coins < np.linspace(0.005, 0.15, 30)) * costs


def certifies_an_unsafe_one(draw, **how):
    rng = np.random.default_rng(draw)
    losses = (rng.random((400, 1)) < RISKS) * 1.0
    try:
        return LearnThenTest(0.05, 0.2, **how).fit(losses).certified_[6:].any()
    except CertificateError:
        return False


@pytest.mark.parametrize(
    "how",
    [
        dict(),
        dict(method="wsr", seed=0),
        dict(method="hb"),
        dict(correction="bonferroni"),
        dict(correction="holm"),
        dict(correction=RING),
    ],
    ids=["fixed", "wsr", "hb", "bonferroni", "holm", "ring"],
)
def test_the_promise_is_kept(how):
    "300 draws, three standard errors are allowed"
    broken = np.mean([certifies_an_unsafe_one(draw, **how) for draw in range(300)])
    assert broken <= 0.2 + 3 * (0.2 * 0.8 / 300) ** 0.5


def test_a_rule_must_say_yes_or_no_to_each_setting():
    learner = LearnThenTest(0.03, correction=lambda p, delta: [True])
    with pytest.raises(ConfigurationError, match="must return 30 truth values"):
        learner.fit(losses_of_30_settings())


def test_names_of_rules():
    signed = [
        LearnThenTest(0.03, 0.1, correction=rule).fit(losses_of_30_settings())
        for rule in ("bonferroni", partial(graphical, weights=np.eye(30)[0]))
    ]
    theorems = [learner.certificate_.theorem.split(" with")[0] for learner in signed]
    assert theorems == ["Bonferroni's correction", "graphical testing"]


def test_a_clone_has_learned_nothing():
    learner = LearnThenTest(0.03, seed=0).fit(losses_of_30_settings())
    again = clone(learner)
    assert again.get_params() == learner.get_params() and not again.learned


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from([0.0, 0.1, 0.5, 1.0]) | st.floats(0, 1), min_size=1, max_size=30
    ),
    st.floats(0.01, 0.9),
    st.randoms(use_true_random=False),
)
def test_what_holds_for_every_input(losses, risk, random):
    "A looser target never certifies less, and rows may come in any order but for `wsr`"
    shuffled = losses.copy()
    random.shuffle(shuffled)
    assert abs(p_value(losses, risk, "hb") - p_value(shuffled, risk, "hb")) <= 1e-9
    looser = min(0.99, risk + 0.05)
    for method in ("hb", "wsr"):
        strict = p_value(losses, risk, method, seed=0)
        loose = p_value(losses, looser, method, seed=0)
        assert 0 <= loose <= strict + 1e-12 <= 1 + 1e-12
    lower = np.maximum(np.array(losses) - 0.05, 0)
    assert p_value(lower, risk, "hb") <= p_value(losses, risk, "hb") + 1e-12


def test_the_layout_of_losses_is_nothing():
    foreign = np.asfortranarray(losses_of_30_settings().astype(">f4"))
    native = np.asarray(foreign, np.float64)
    np.testing.assert_allclose(
        p_value(foreign, 0.03), p_value(native, 0.03), rtol=1e-12
    )
