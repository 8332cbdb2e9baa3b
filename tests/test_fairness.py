"Group metrics on real decisions: a random forest on UCI Adult whose published score runs against its label"
import csv

import numpy as np
import pytest

from fine_tune_llm.fairness import GroupCounts, group_report


@pytest.fixture(scope='module')
def adult(real_data):
    path = real_data/'adult_rf'/'adult_rf_binary.csv'
    if not path.is_file(): pytest.skip(f"adult_rf is not here: {path}")
    with open(path, encoding='utf-8', newline='') as f: rows = list(csv.DictReader(f))
    y,d = np.array([int(r['label_value']) for r in rows]), np.array([int(float(r['score'])) for r in rows])
    return y, d, {k: np.array([r[k] for r in rows], object) for k in ('gender', 'race', 'education')}


def test_the_score_runs_against_the_label(adult):
    "SOURCE.md: TPR 0.32-0.41, FPR 0.87-0.97 by gender; a sign turned round anywhere would give the mirror image"
    y,d,g = adult; r = group_report(GroupCounts.from_arrays(y, d, groups=dict(gender=g['gender'])), seed=0)
    for metric,ends in (('tpr', (.32, .41)), ('fpr', (.87, .97))):
        v = sorted(x.value for x in r.by_group(metric)); assert v == pytest.approx(ends, abs=.005), metric
    assert r.gap('tpr').low > 0 and r.gap('equalised_odds').p_value < .01


def test_every_cell_is_what_a_loop_counts(adult):
    "By attribute and by crossings of two; cells with fewer than 30 rows in the denominator have no number"
    y,d,g = adult; r = group_report(GroupCounts.from_arrays(y, d, groups=g), seed=0, n_boot=99); few = 0
    rules = dict(selection_rate=(y == y, d == 1), tpr=(y == 1, d == 1), fpr=(y == 0, d == 1), fnr=(y == 1, d == 0), ppv=(d == 1, y == 1), accuracy=(y == y, y == d))
    for x in r.rates:
        of,hit = rules[x.metric]; rows = np.ones(len(y), bool)
        if x.view != 'all rows':
            for k,v in zip(x.view.split(' x '), x.cell): rows &= g[k] == v
        n = (rows & of).sum(); assert x.n == n
        if n < 30: few += 1; assert x.value is None and f"{n} " in x.reason and '30 are needed' in x.reason
        else: assert x.value == pytest.approx((rows & of & hit).sum()/n, abs=1e-12) and x.low <= x.value <= x.high
    assert few > 50 and {x.view for x in r.rates} == {'all rows', 'gender', 'race', 'education', 'gender x race', 'gender x education', 'race x education'}


def test_gaps_are_differences_of_the_extreme_groups(adult):
    y,d,g = adult; r = group_report(GroupCounts.from_arrays(y, d, groups=g), seed=0, n_boot=199)
    for gap in (x for x in r.gaps if x.difference is not None and x.metric != 'equalised_odds'):
        v = [x.value for x in r.by_group(gap.metric, gap.view) if x.value is not None]
        assert gap.difference == pytest.approx(max(v)-min(v), abs=1e-12) and gap.low <= gap.difference <= gap.high and gap.n_groups == len(v)
        if max(v) > 0: assert gap.ratio == pytest.approx(min(v)/max(v), abs=1e-12)


def test_a_half_of_the_rows_is_compatible_with_all(adult):
    "Intervals from half of the rows hold the gap that all rows have: 40 halves, 95%, four standard errors"
    y,d,g = adult; groups = dict(gender=g['gender']); whole = group_report(GroupCounts.from_arrays(y, d, groups=groups), seed=0, n_boot=99).gap('tpr').difference; rng,held = np.random.default_rng(0),0
    for i in range(40):
        o = rng.permutation(len(y))[:len(y)//2]
        half = group_report(GroupCounts.from_arrays(y[o], d[o], groups=dict(gender=g['gender'][o])), seed=i, n_boot=199, metrics=['tpr'], family='metric').gap('tpr'); held += half.low <= whole <= half.high
    assert held/40 >= .95-4*(.95*.05/40)**.5
