"Draws nbs/images/demo.png from the demo's run: python .ci/picture.py runs/demo"

import sys

import matplotlib.pyplot as plt
import numpy as np
from house import ROOT

import fine_tune_llm as ft
from fine_tune_llm.stats import (
    ece,
    plot_reliability,
    plot_risk_coverage,
    reliability,
    risk_coverage_curve,
    softmax,
)

BINS = 10
ORANGE = "#d55e00"  # Okabe and Ito


def draw_reliability(ax, probs: np.ndarray, labels: np.ndarray, when: str) -> None:
    "Confidence against accuracy, with the calibration error above"
    title = f"{when}: ECE {ece(probs, labels, BINS):.3f}"
    plot_reliability(reliability(probs, labels, BINS), ax=ax, title=title)


def draw_certified(ax, run: ft.Run) -> None:
    "Risk against share decided, with the promise and where its threshold stands"
    outcome, labels = run.outcome("test"), run.predictions("test").labels
    wrong = (outcome.probs.argmax(1) != labels)[outcome.kept]
    target = run.selective.target_risk
    plot_risk_coverage(risk_coverage_curve(outcome.probs, labels), ax=ax)
    ax.axhline(target, color="0.3", ls="--", lw=1)
    ax.text(0.02, target + 0.004, f"promised: at most {target:.0%}", size=8)
    ax.plot(outcome.kept.mean(), wrong.mean(), "o", color=ORANGE, ms=7, zorder=3)
    title = f"decides {outcome.kept.mean():.0%}; {wrong.sum()} of {len(wrong)} wrong"
    ax.set_title(title)


def main(path: str) -> None:
    run = ft.Run.load(path)
    test = run.predictions("test")
    _, axs = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
    draw_reliability(axs[0], softmax(test.logits), test.labels, "before")
    draw_reliability(axs[1], run.probs("test"), test.labels, "after calibration")
    axs[1].set_ylabel("")
    if run.selective is not None:
        draw_certified(axs[2], run)
    target = ROOT / "nbs" / "images" / "demo.png"
    target.parent.mkdir(exist_ok=True)
    plt.savefig(target, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1])
