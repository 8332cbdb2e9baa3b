"Data drawn from the number that is also the seed here: chance must not know the data"

from pathlib import Path

import numpy as np
import pytest

import fine_tune_llm
from fine_tune_llm.stats import (
    ConformalMartingale,
    LateLabels,
    growing_p_values,
    upper_bound,
)
from fine_tune_llm.stats.randomness import keyed_generator
from fine_tune_llm.stats.streams import seeded_uniforms

DRAWS = {
    "uniform": lambda rng: rng.random(300),
    "truths": lambda rng: (rng.random(300) < 0.3) * 1.0,
    "sizes": lambda rng: rng.integers(0, 5, 300) * 1.0,
}


@pytest.mark.parametrize("draw", DRAWS)
def test_a_martingale_keeps_its_level(draw):
    rang = [
        bool(
            ConformalMartingale(seed=seed).update(
                DRAWS[draw](np.random.default_rng(seed))
            )
        )
        for seed in range(300)
    ]
    assert np.mean(rang) <= 0.05 + 4 * (0.05 * 0.95 / 300) ** 0.5


@pytest.mark.parametrize("draw", DRAWS)
def test_smoothed_p_values_are_uniform(draw):
    means = [
        growing_p_values(DRAWS[draw](np.random.default_rng(seed)), seed=seed).mean()
        for seed in range(100)
    ]
    assert abs(np.mean(means) - 0.5) < 4 * (1 / 12 / 300 / 100) ** 0.5


def test_rows_are_audited_whatever_they_hold():
    "The share of errors among the audited is that among all"
    gaps = []
    for seed in range(200):
        wrong = np.random.default_rng(seed).random(200) < 0.3
        audited = LateLabels(0.3, seed=seed).issue(range(200), np.c_[wrong, wrong])
        gaps.append(wrong[audited].mean() - wrong[~audited].mean())
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / 200**0.5


def test_bounds_read_rows_in_an_order_of_their_own():
    missed = []
    for seed in range(300):
        losses = (np.random.default_rng(seed).random(100) < 0.1) * 0.7
        missed.append(upper_bound(losses, 0.1, "wsr", seed=seed) < 0.07)
    assert np.mean(missed) <= 0.1 + 4 * (0.1 * 0.9 / 300) ** 0.5


def test_each_purpose_has_numbers_of_its_own():
    by_purpose = {name: keyed_generator(7, name).random(50) for name in ("a", "b")}
    plain = np.random.default_rng(7).random(50)
    for numbers in (*by_purpose.values(), seeded_uniforms(7, 0, 50)):
        assert not set(numbers) & set(plain)
    assert not set(by_purpose["a"]) & set(by_purpose["b"])


def test_no_seed_is_used_as_it_comes():
    "Numbers of `default_rng(seed)` may be those that the data was made of"
    package = Path(fine_tune_llm.__file__).parent
    files = [package / "predictions.py", *sorted((package / "stats").glob("*.py"))]
    plain = [
        f"{file.name}: {line.strip()}"
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if "default_rng(" in line and not line.lstrip().startswith(('"', "#"))
    ]
    assert not plain
