"""After a refusal "about N rows would do": how often do N fresh rows pass?

Worlds are drawn, not chosen: how sure a model is and how far it is from calibrated are
random. In each a fit on n rows is made; where it is refused and says a number, fits on
that many fresh rows of the same world are drawn, and the share that passes stands
beside the chance that was said. The standard error is over worlds.
"""

import math
import sys
from dataclasses import dataclass

import common
import numpy as np
from scipy.special import expit, logit

from fine_tune_llm.core.errors import CertificateError
from fine_tune_llm.stats import SelectiveClassifier
from fine_tune_llm.stats.bounds import Nested, binomial_p_value
from fine_tune_llm.stats.selection import (
    first_threshold,
    pilot_start,
    start_indices,
    threshold_grid,
)

WORLDS = 60 if "--quick" in sys.argv else 240
FRESH = 200  # fits of N rows in each world
DELTA = 0.1


@dataclass(frozen=True)
class World:
    "A model of two classes: how sure it is, and how often it is right"

    a: float  # Of the beta law of confidence on [1/2, 1]
    b: float
    slope: float  # Of the log-odds of being right, by the log-odds of the confidence
    shift: float

    @classmethod
    def drawn(cls, rng):
        a, b = np.exp(rng.uniform(np.log([0.7, 0.15]), np.log([8.0, 1.5])))
        return cls(a, b, math.exp(rng.normal(0, 0.25)), rng.normal(0, 0.5))

    def rows(self, n, rng):
        "Confidences and whether each decision is right"
        half = rng.beta(self.a, self.b, n)
        conf = np.clip(0.5 + half / 2, 0.5, 1 - 1e-7)
        chance = expit(self.slope * logit(conf) + self.shift)
        return conf, rng.random(n) < chance


def as_rows(conf, right):
    "Probabilities and labels of two classes"
    return np.c_[conf, 1 - conf], (~right).astype(int)


def nested(conf, right, grid):
    return Nested((~right).astype(float), first_threshold(conf, grid), len(grid))


def share_of_passes(world, starts, grid, target, n, rng):
    "Of fits on n rows: some first test passes at its share of delta"
    conf, right = world.rows(50_000, rng)
    enter = np.searchsorted(grid[starts] * -1, -conf)
    kinds = np.bincount(2 * enter + right, minlength=2 * (len(starts) + 1))
    drawn = rng.multinomial(n, kinds / kinds.sum(), size=FRESH)
    wrong = drawn[:, :-2:2].cumsum(1)
    kept = wrong + drawn[:, 1:-2:2].cumsum(1)
    p_values = binomial_p_value(wrong, np.maximum(kept, 1), target)
    passes = (np.where(kept > 0, p_values, 1) <= DELTA / len(starts)).any(1)
    risk = kinds[:-2:2].cumsum() / np.maximum(
        1, kinds[:-2].reshape(-1, 2).sum(1).cumsum()
    )
    return float(passes.mean()), float(risk.min() / target)


def one_world(seed, how, n, target):
    "(passed, said, lowest risk over the target), `None` where nothing was refused"
    rng = np.random.default_rng([9, seed])
    world = World.drawn(rng)
    grid = np.array([1 - target / 2]) if how == "1 start" else threshold_grid()
    pilot = world.rows(100, rng) if how == "pilot" else None
    fit = SelectiveClassifier(target, DELTA, grid=grid)
    try:
        fit.fit(
            *as_rows(*world.rows(n, rng)),
            pilot=None if pilot is None else as_rows(*pilot),
        )
    except CertificateError as e:
        wanted = e.context["rows_that_would_do"]
        if wanted is None:
            return "no number"
        said = e.context["chance"]
    else:
        return "passed"
    starts = start_indices(grid, [target])
    if pilot is not None:
        losses = [nested(*pilot, grid)]
        starts = pilot_start(losses, [target], n=wanted, n_pilot=100)
    passed, risk = share_of_passes(world, np.array(starts), grid, target, wanted, rng)
    return passed, said, risk


def summary(found):
    passed, said, _ = np.array(found).T
    return {
        "refused worlds": len(found),
        "said": round(float(said.mean()), 3),
        "passed": round(float(passed.mean()), 3),
        "se": round(float(passed.std() / math.sqrt(len(passed))), 3),
    }


def case(how, n, target, first=0):
    found = [one_world(first + seed, how, n, target) for seed in range(WORLDS)]
    numbers = [one for one in found if not isinstance(one, str)]
    below = [one for one in numbers if one[2] < 1]
    result = {
        "all worlds": summary(numbers),
        "worlds whose risk is below the target": summary(below),
        "no number": found.count("no number"),
    }
    print(how, n, target, result, flush=True)
    return {"how": how, "n": n, "target_risk": target, **result}


def main():
    cases = [
        case(how, n, 0.05)
        for how in ("1 start", "3 starts", "pilot")
        for n in (100, 200)
    ]
    common.save("validity_planning", {"worlds": WORLDS, "delta": DELTA, "cases": cases})


if __name__ == "__main__":
    main()
