"The pictures of monitors hold the numbers of the monitors"

import matplotlib
import numpy as np
import pytest

from fine_tune_llm.stats.adaptive import ACI, rolling_mean
from fine_tune_llm.stats.conditional_coverage import size_stratified
from fine_tune_llm.stats.martingales import ConformalMartingale, evidence
from fine_tune_llm.stats.plots import plot_coverage, plot_rolling_coverage, plot_wealth
from fine_tune_llm.stats.score_bag import growing_p_values
from fine_tune_llm.stats.streams import Monitor

matplotlib.use("Agg")


def test_wealth_and_the_alarm_of_the_martingale():
    rng = np.random.default_rng(3)
    reference = rng.uniform(size=1000) < 0.07
    stream = rng.uniform(size=2000) < np.repeat([0.07, 0.3], [500, 1500])
    path = evidence(growing_p_values(stream, seed=3, reference=reference))
    ax = plot_wealth(path.wealth[:700], change=500, label="wealth")
    plot_wealth(path.cusum[:700], threshold=1e4, label="CUSUM", ax=ax)
    assert ax.get_xlabel() == "observation"
    assert ax.lines[1].get_ydata()[0] == pytest.approx(np.log10(20), abs=1e-5)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), path.wealth[:700] / np.log(10))
    monitor = ConformalMartingale((0.01,), seed=3).fit(reference)
    (alarm,) = monitor.update(stream)
    assert monitor.alarm_ is alarm
    assert alarm.step == (path.wealth >= np.log(20)).argmax() + 1
    assert monitor.update(stream[:5]) == []
    assert isinstance(monitor, Monitor) and alarm.proof


def test_rolling_coverage_of_frozen_and_adapted_sets():
    rng = np.random.default_rng(0)
    rate = np.repeat([0.07, 0.07, 0.3], [1000, 1000, 1500])
    wrong = rng.uniform(size=3500) < rate
    scores = np.where(wrong, rng.beta(6, 2, 3500), rng.beta(1, 8, 3500))
    calibration = np.sort(scores[:1000])
    p = (1 + 1000 - np.searchsorted(calibration, scores[1000:])) / 1001
    ax = plot_rolling_coverage(p <= 0.1, change=1000, label="frozen")
    plot_rolling_coverage(ACI(0.1, 0.02).replay(p), change=1000, label="ACI", ax=ax)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["frozen", "asked for", "change", "ACI"]
    assert len(ax.lines[0].get_ydata()) == 2301
    last = ax.lines[0].get_ydata()[-1]
    assert last == pytest.approx(1 - (p[-200:] <= 0.1).mean(), abs=1e-9)
    assert rolling_mean([1, 0, 1], 2).tolist() == [0.5, 0.5]


def test_two_tables_on_one_pair_of_axes_share_the_goal():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    sets = np.eye(3, dtype=bool)[labels] | (rng.uniform(size=(300, 3)) < 0.2)
    table = size_stratified(sets, labels)
    ax = plot_coverage(table, 0.1, label="first")
    plot_coverage(table, 0.1, label="second", shift=0.1, ax=ax)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(names) == ["asked for", "first", "second"]
