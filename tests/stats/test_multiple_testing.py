"Rules of many tests: what they refuse, and how they stand to each other"

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.stats.multiple_testing import (
    CORRECTIONS,
    bonferroni,
    fixed_sequence,
    graphical,
    holm,
    holm_rejects,
)


@pytest.mark.parametrize(
    "wrong", [0.1, [0.1, np.nan], [1.7, 0.5], [[0.1, 0.2]], ["a"], [0.1, None]]
)
def test_what_are_no_p_values(wrong):
    with pytest.raises(ConfigurationError, match="`p_values` must"):
        holm(wrong)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=7), st.floats(0.01, 0.3))
def test_the_rules_are_graphs_and_grow_with_delta(p, delta):
    # off the levels: where a p-value equals one, the last bit of a share decides
    p = np.round(p, 6) * (1 - 1e-9)
    assert (graphical(p, delta) == holm_rejects(p, delta)).all()
    weights, chain = np.eye(len(p))[0], np.eye(len(p), k=1)
    in_order = graphical(p, delta, weights=weights, transitions=chain)
    assert (in_order == fixed_sequence(p, delta)).all()
    assert (bonferroni(p, delta) <= holm_rejects(p, delta)).all()
    for name in CORRECTIONS:
        rule = CORRECTIONS.get(name)
        assert (rule(p, delta) <= rule(p, min(0.99, 2 * delta))).all(), name
