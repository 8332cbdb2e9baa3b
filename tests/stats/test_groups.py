"Tables of counts by group: distinct rows, what cannot be counted, groups and crossings"

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import PredictionError, SchemaError
from fine_tune_llm.stats.fairness import group_report
from fine_tune_llm.stats.groups import GroupCounts, distinct_rows

LABELS = np.array([1, 1, 1, 0, 0, 1, 1, 0, 0, 0])
DECIDED = np.array([1, 1, 0, 1, 0, 1, -1, 0, 0, -1])
GROUP = ["a"] * 5 + ["b"] * 5


@pytest.mark.parametrize("sizes", [(3, 5), (3, 10**6), (3, 2**62)])
def test_distinct_rows_are_those_of_numpy(sizes):
    "By marking keys, by sorting keys, and by sorting rows"
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 3, 200), rng.integers(0, 5, 200)]
    rows, index = distinct_rows(columns, sizes)
    expected = np.unique(np.stack(columns, 1), axis=0)
    assert np.stack(rows, 1).tolist() == expected.tolist()
    for column, row in zip(columns, rows):
        assert (column == row[index]).all()


def test_a_table_comes_back_from_json():
    hand = GroupCounts.from_arrays(LABELS, DECIDED, groups={"g": GROUP})
    assert (hand.n, len(hand)) == (10, 8)
    again = GroupCounts.from_dict(json.loads(json.dumps(hand.to_dict())))
    assert again.to_dict() == hand.to_dict()
    assert "8 distinct outcomes; 2 classes; groups g (2)" in repr(hand)
    with pytest.raises(SchemaError, match="this is no table of counts"):
        GroupCounts.from_dict({})


WRONG = [
    (dict(groups={"g": list("abc")}), r"`groups\['g'\]` must have shape \(10,\)"),
    (dict(decided=None), "`decided` or `probs` is needed"),
    (dict(groups={}), "`groups` is empty"),
    (dict(groups=GROUP), r"Pass groups=\{'name': values\}"),
    (dict(groups=np.array(GROUP)), r"Pass groups=\{'name': values\}"),
    (dict(classes=["x", "x"]), "at least two distinct names"),
    (dict(sets=(LABELS * np.nan, LABELS + 1)), "covered of row 0 is nan"),
    (
        dict(sets=(np.ones(10, bool), LABELS * 0)),
        "`sets` row 0 has 0 labels, which cannot be",
    ),
    (dict(groups={"all rows": GROUP}), "names other than 'all rows'"),
    (dict(labels=[]), "`labels` is empty"),
    (dict(sets=np.ones((9, 2), bool)), r"`sets` must have shape \(10, 2\)"),
    (dict(sets=np.ones((10, 2))), "`sets` must hold True and False"),
    (dict(probs=np.full((10, 3), 1 / 3), classes="xy"), r"must have shape \(10, 2\)"),
]


@pytest.mark.parametrize("changed, words", WRONG)
def test_what_cannot_be_counted_is_named(changed, words):
    given = {"labels": LABELS, "decided": DECIDED, "groups": {"g": GROUP}, **changed}
    labels, decided = given.pop("labels"), given.pop("decided")
    with pytest.raises(PredictionError, match=words):
        GroupCounts.from_arrays(labels, decided, **given)


def test_a_decision_beyond_the_classes_is_named():
    with pytest.raises(PredictionError) as error:
        groups = {"g": ["a", "b"]}
        GroupCounts.from_arrays([0, 1], [5, 0], groups=groups, classes=["n", "y"])
    assert "`decided` must lie in [-1, 2), row 0 is 5" in str(error.value)


def test_a_notebook_shows_the_first_entries():
    "At most ten of them, and bars in names do not break the table"
    group = [f"{i}|" for i in range(12)]
    counts = GroupCounts.from_arrays([0, 1] * 6, [0, 1] * 6, groups={"g": group})
    shown = counts._repr_markdown_()
    assert "0\\|" in shown and shown.endswith("... and 2 more")
    assert len(shown.splitlines()) == 2 + 2 + 10 + 2


def test_too_many_groups_are_not_compared():
    groups = {"g": ["a", "b"] * 150, "id": np.arange(300)}
    counts = GroupCounts.from_arrays([0, 1] * 150, [0, 1] * 150, groups=groups)
    report = group_report(counts, seed=0, n_resamples=99)
    assert report.not_evaluated["id"] == "300 groups; at most 200 are compared"
