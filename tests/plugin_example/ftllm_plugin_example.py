"""One loss and one non-conformity score for fine_tune_llm

Both are plain functions: what has no default is data, what stands behind the star is a
setting that users choose by keyword. The first line of a docstring is what a listing
shows.
"""

import numpy as np


def focal(
    logits,  # One row of K numbers per example, torch tensor (n, K)
    labels,  # The true classes, torch tensor of integers (n,)
    *,
    # How much less sure examples count, at least 0; 0 is cross-entropy
    gamma: float = 2.0,
):  # Mean over the examples, torch scalar that can be differentiated
    "Cross-entropy that looks away from what is already sure (Lin et al. 2017)"
    # No import of torch: the tensors bring their methods with them, and a listing of
    # losses stays quick.
    if not gamma >= 0:
        raise ValueError(f"`gamma` must be at least 0, got {gamma!r}")
    log_prob = logits.log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
    return ((-log_prob.expm1()) ** gamma * -log_prob).mean()


def margin(
    probs,  # Probabilities of K >= 2 classes, array (n, K)
    # For every class as if it were the true one: larger is stranger, in [-1, 1]
) -> np.ndarray:  # Shape (n, K)
    "Probability of the best other class, less that of the class itself"
    p = np.asarray(probs, dtype=np.float64)
    n, K = p.shape
    second, first = np.partition(p, K - 2, axis=1)[:, -2:].T
    other = np.repeat(first[:, None], K, axis=1)
    # For the best class the best other one is the second
    other[np.arange(n), p.argmax(1)] = second
    return other - p
