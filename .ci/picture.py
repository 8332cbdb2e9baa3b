"Draws nbs/images/demo.png from the demo's run: python .ci/picture.py runs/demo"

import sys

import matplotlib.pyplot as plt
import numpy as np
from house import ROOT

import fine_tune_llm as ft
from fine_tune_llm.stats import (
    plot_reliability,
    plot_risk_coverage,
    reliability,
    risk_coverage_curve,
)


def mark_certified(ax, probs: np.ndarray, labels: np.ndarray, threshold: float) -> None:
    "The share decided and the share of those wrong, at the certified threshold"
    decided = probs.max(1) >= threshold
    wrong = probs.argmax(1) != labels
    ax.plot(decided.mean(), wrong[decided].mean(), "o", color="C3", label="certified")
    ax.legend(frameon=False)


def main(path: str) -> None:
    run = ft.Run.load(path)
    probs, labels = run.probs("test"), run.predictions("test").labels
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    plot_reliability(reliability(probs, labels, 10), ax=left)
    plot_risk_coverage(risk_coverage_curve(probs, labels), ax=right)
    if run.threshold is not None:
        mark_certified(right, probs, labels, run.threshold)
    target = ROOT / "nbs" / "images" / "demo.png"
    target.parent.mkdir(exist_ok=True)
    plt.savefig(target, dpi=140, metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1])
