"Every loss: value, gradient, sign, extremes, one class, one row, bf16, weights, order"

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import rankdata
from torch.nn import functional as F

from fine_tune_llm.core.errors import ConfigurationError, TrainingError
from fine_tune_llm.stats.calibration_error import ece
from fine_tune_llm.testing import synthetic_problem
from fine_tune_llm.training import make_loss
from fine_tune_llm.training.batch_losses import CRL, MDCA, ConformalSize, soft_quantile
from fine_tune_llm.training.losses import LOSSES
from fine_tune_llm.training.row_losses import gambler, payoff_from_costs

K = 4
COST = np.array([[0, 1, 2, 3], [1, 0, 5, 1], [2, 2, 0, 2], [9, 1, 1, 0.0]])
KNOWN = {"cost": COST, "payoff": 2.0}
OVER_ROWS = [
    "cross_entropy",
    "cross_entropy(label_smoothing=0.1)",
    "focal(gamma=2)",
    "focal(gamma=0.5)",
    "flsd53",
    "dual_focal(gamma=5)",
    "expected_cost",
    "gambler",
    "cross_entropy+margin_smoothing(alpha=1, margin=0.5)",
]
OF_A_BATCH = [
    "aurc",
    "cross_entropy+mdca",
    "cross_entropy+crl",
    "cross_entropy+conformal_size(weight=1)",
    "focal(gamma=2)+0.5*mdca+0.1*expected_cost+crl+gambler",
]
ALL = OVER_ROWS + OF_A_BATCH


def batch(loss, n=6, seed=0, scale=2.0, dtype=torch.float64):
    "Logits, labels, numbers of rows"
    rng = torch.Generator().manual_seed(seed)
    width = K + loss.extra_outputs
    logits = scale * torch.randn(n, width, generator=rng, dtype=torch.float64)
    labels = torch.randint(K, (n,), generator=rng)
    return logits.to(dtype), labels, torch.arange(n)


def ready(text, **settings):
    "A loss with a past: one epoch of six rows"
    loss = make_loss(text, known=KNOWN, **settings)
    loss.observe(*batch(loss, seed=1))
    loss.end_epoch()
    return loss


def test_all_are_tested():
    tested = " ".join(ALL)
    assert all(name in tested for name in LOSSES._own)


@pytest.mark.parametrize("text", ALL)
def test_the_gradient_is_that_of_finite_differences(text):
    loss = ready(text)
    logits, labels, rows = batch(loss)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, rows), logits)


@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_scores_have_a_value_and_a_gradient(text, dtype):
    loss = ready(text)
    extremes = [[1e4, -1e4, 0, 1e4], [-1e4, 1e4, 1e4, -1e4], [1e4, 0, 0, 0]] * 2
    for abstain in (-1e4, 0, 1e4):
        logits = torch.tensor(extremes, dtype=dtype)
        more = torch.full((6, loss.extra_outputs), abstain, dtype=dtype)
        logits = torch.cat([logits, more], 1).requires_grad_()
        for first in range(K):
            labels = (torch.arange(6) + first) % K
            value = loss(logits, labels, torch.arange(6))
            (gradient,) = torch.autograd.grad(value, logits)
            assert torch.isfinite(value) and torch.isfinite(gradient).all()
            assert value.dtype == torch.float32 and gradient.dtype == dtype


@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize("n", [1, 5])
def test_one_class_and_one_row(text, n):
    loss = ready(text)
    logits, labels, rows = batch(loss, n)
    value = loss(logits.requires_grad_(), torch.zeros_like(labels), rows)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value) and torch.isfinite(gradient).all() and value >= 0


@pytest.mark.parametrize("text", ALL)
def test_bf16_is_near_float64(text):
    loss = ready(text)
    logits, labels, rows = batch(loss, dtype=torch.bfloat16)
    exact = float(loss(logits.double(), labels, rows))
    assert float(loss(logits, labels, rows)) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("text", ALL)
def test_the_order_of_rows_does_not_matter(text):
    loss = ready(text)
    logits, labels, rows = batch(loss)
    logits[2] = logits[4]  # a tie
    shuffled = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    mixed = logits[shuffled], labels[shuffled], rows[shuffled]
    assert float(loss(*mixed)) == pytest.approx(
        float(loss(logits, labels, rows)), rel=1e-12
    )


@pytest.mark.parametrize("text", ALL)
def test_a_call_changes_nothing_that_is_remembered(text):
    loss = ready(text)
    rows = batch(loss)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    first = loss(*rows)
    after = loss.state_dict()
    assert before.keys() == after.keys() and float(loss(*rows)) == float(first)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("text", ALL)
def test_what_is_remembered_can_be_carried_over(text):
    loss, other = ready(text), make_loss(text, known=KNOWN)
    loss.observe(*batch(loss, seed=2))
    other.load_state_dict({k: v.clone() for k, v in loss.state_dict().items()})
    for one in (loss, other):
        one.observe(*batch(loss, seed=5))
        one.end_epoch()
    assert float(loss(*batch(loss))) == float(other(*batch(loss)))


WEIGHTS = [0.5, 2.0, 1.0, 0.0]


@pytest.mark.parametrize("text", OVER_ROWS)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_split_batch_adds_up(text, weights):
    "Micro-batches of unequal size, of unequal weight and without any weight"
    given = {} if weights is None else {"class_weights": weights}
    loss = make_loss(text, known=KNOWN, **given)
    assert loss.is_mean_over_rows
    logits, labels, _ = batch(loss, 30)
    labels[:4] = 3  # a part that counts nothing under the weights
    parts = [slice(0, 4), slice(4, 5), slice(5, 16), slice(16, 30)]
    sums = [loss(logits[p], labels[p]) * loss.normaliser(labels[p]) for p in parts]
    norms = [loss.normaliser(labels[p]) for p in parts]
    whole = float(loss(logits, labels))
    assert float(sum(sums) / sum(norms)) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("text", OF_A_BATCH)
def test_losses_of_a_batch_say_so(text):
    assert not make_loss(text, known=KNOWN).is_mean_over_rows


@pytest.mark.parametrize("text", OVER_ROWS)
def test_a_class_of_weight_two_is_as_if_its_rows_stood_twice(text):
    weighted = make_loss(text, known=KNOWN, class_weights=[2.0, 1.0, 1.0, 1.0])
    logits, labels, _ = batch(weighted, 12)
    twice = torch.cat([torch.arange(12), torch.nonzero(labels == 0)[:, 0]])
    plain = make_loss(text, known=KNOWN)
    expected = float(plain(logits[twice], labels[twice]))
    assert float(weighted(logits, labels)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("smoothing", "weights"), [(0.0, None), (0.2, None), (0.0, [0.5, 2.0, 1.0, 0.25])]
)
def test_cross_entropy_is_that_of_torch(smoothing, weights):
    given = {} if weights is None else {"class_weights": weights}
    loss = make_loss(label_smoothing=smoothing, **given)
    logits, labels, _ = batch(loss, 20)
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, labels, weight, label_smoothing=smoothing)
    assert float(loss(logits, labels)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", ["focal", "dual_focal"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_gamma_zero_is_cross_entropy(name, weights):
    given = {} if weights is None else {"class_weights": weights}
    logits, labels, _ = batch(make_loss(), 20)
    focal = make_loss(f"{name}(gamma=0)", **given)(logits, labels)
    expected = make_loss(**given)(logits, labels)
    assert float(focal) == pytest.approx(float(expected), rel=1e-6)


def numbers(loss, n=12):
    "Logits, probabilities, labels and those of the true class, in numpy"
    logits, labels, _ = batch(loss, n)
    probs = np.exp(logits.numpy())
    probs /= probs.sum(1, keepdims=True)
    return logits, labels, probs, probs[np.arange(n), labels]


def test_values_of_the_focal_family_in_numpy():
    for gamma in (0.5, 1.0, 3.0):
        loss = make_loss(f"focal(gamma={gamma})")
        logits, labels, _, p = numbers(loss)
        expected = np.mean(-((1 - p) ** gamma) * np.log(p))
        assert float(loss(logits, labels)) == pytest.approx(expected)
    loss = make_loss("flsd53")
    logits, labels, probs, p = numbers(loss)
    assert (p < 0.2).any() and (p > 0.2).any()
    expected = np.mean(-((1 - p) ** np.where(p < 0.2, 5, 3)) * np.log(p))
    assert float(loss(logits, labels)) == pytest.approx(expected)
    below = np.where(probs < p[:, None], probs, 0).max(1)
    expected = np.mean(-((1 - p + below) ** 2) * np.log(p))
    assert float(make_loss("dual_focal(gamma=2)")(logits, labels)) == pytest.approx(
        expected
    )


def test_ranks_weigh_as_the_paper_says():
    "Weights -log(1 - rank/(n+1)), the surest first; by class where asked"
    loss = make_loss("aurc", class_weights=[1.0, 3.0, 1.0, 0.5])
    logits, labels, probs, p = numbers(loss)
    by_rank = -np.log(1 - rankdata(probs.max(1)) / 13)
    by_class = np.array([1.0, 3.0, 1.0, 0.5])[labels]
    expected = np.sum(by_class * by_rank * -np.log(p)) / by_class.sum()
    assert float(loss(logits, labels)) == pytest.approx(expected, rel=1e-6)


def test_expected_cost_is_the_sum_of_costs():
    loss = make_loss("expected_cost", known={"cost": COST})
    logits, labels, probs, _ = numbers(loss)
    expected = np.mean([COST[y] @ row for y, row in zip(labels, probs)])
    assert float(loss(logits, labels)) == pytest.approx(expected)


def test_mdca_is_the_papers_formula():
    loss = MDCA(beta=2.0)
    logits, labels, probs, _ = numbers(make_loss())
    shares = np.bincount(labels, minlength=K) / 12
    expected = 2 * np.abs(probs.mean(0) - shares).mean()
    assert float(loss(logits, labels)) == pytest.approx(expected)


def test_with_few_rows_mdca_averages_over_batches():
    "The mean over the past, and a gradient as large as without one"
    loss, plain = MDCA(momentum=0.9), MDCA(momentum=0.0)
    gaps = []
    for seed in range(200):
        logits, labels, _ = batch(make_loss(), 2, seed)
        gaps.append((logits.softmax(1) - F.one_hot(labels, K)).mean(0).numpy())
        value = loss(logits.requires_grad_(), labels)
        (gradient,) = torch.autograd.grad(value, logits)
        (one,) = torch.autograd.grad(plain(logits, labels), logits)
        assert gradient.abs().max() < 3 * one.abs().max() + 0.2
        faded = 0.9 ** np.arange(seed, -1, -1)
        expected = np.abs(np.average(gaps, axis=0, weights=faded)).mean()
        assert value.item() == pytest.approx(expected, rel=1e-5)
        loss.observe(logits, labels)
    assert expected < np.mean([np.abs(gap).mean() for gap in gaps])


def test_conformal_size_is_that_of_numpy():
    loss = ConformalSize(weight=1.0, alpha=0.2, temperature=0.05, decay=0.5, kappa=0.5)
    past = [batch(make_loss(), 4, seed) for seed in (7, 8)]
    for logits, labels, _ in past:
        loss.observe(logits, labels)
    logits, labels, probs, p = numbers(make_loss())
    old = [1 - x.softmax(1).gather(1, y[:, None])[:, 0].numpy() for x, y, _ in past]
    scores = np.concatenate([1 - p, *old])
    counts = np.repeat([1, 0.25, 0.5], [12, 4, 4])
    level = 0.8 * (1 + 1 / counts.sum())

    def missing(threshold):
        below = expit((threshold - scores) / 0.05)
        return np.average(below, weights=counts) - level

    threshold = brentq(missing, -2, 3)
    sizes = expit((threshold - (1 - probs)) / 0.05).sum(1)
    expected = np.maximum(0, sizes - 0.5).mean()
    assert float(loss(logits, labels)) == pytest.approx(expected, rel=1e-5)


def test_a_soft_quantile_has_its_gradient_and_nears_the_quantile():
    rng = np.random.default_rng(0)
    scores = torch.tensor(rng.random(31), requires_grad=True)
    weights = torch.tensor(rng.random(31) + 0.5)

    def of(x):
        return soft_quantile(x, 0.8, weights=weights, temperature=0.1)

    assert torch.autograd.gradcheck(of, scores, atol=1e-6)
    equal = torch.ones(31)
    hard = soft_quantile(scores, 25.5 / 31, weights=equal, temperature=1e-5)
    assert hard.item() == pytest.approx(
        scores.detach().sort().values[25].item(), abs=1e-3
    )


def test_crl_is_the_sum_over_pairs():
    loss = CRL(weight=2.0)
    for seed in range(3):
        logits, labels, rows = batch(make_loss(), 8, seed)
        seen = rows[: 8 if seed else 6]  # the last two rows miss the first epoch
        loss.observe(logits[seen], labels[seen], seen)
        loss.end_epoch()
    rights = np.zeros(8)
    for seed in range(3):
        logits, labels, rows = batch(make_loss(), 8, seed)
        right = (logits.argmax(1) == labels).numpy()
        rights += right * (1 if seed else np.arange(8) < 6)
    share = rights / np.repeat([3, 2], [6, 2])
    logits, labels, rows = batch(make_loss(), 8, 9)
    conf = logits.softmax(1).amax(1).numpy()
    values = [
        max(0, -np.sign(ahead) * (conf[i] - conf[j]) + abs(ahead))
        for i in range(8)
        for j in range(8)
        for ahead in [share[i] - share[j]]
        if i != j
    ]
    value = float(loss(logits, labels, rows))
    assert len(set(share)) > 1 and value == pytest.approx(2 * np.mean(values))


def test_crl_counts_an_epoch_when_it_is_over():
    loss = make_loss("cross_entropy+crl")
    logits, labels, rows = batch(loss)
    plain = float(make_loss()(logits, labels))
    loss.observe(logits, labels, rows)
    assert float(loss(logits, labels, rows)) == pytest.approx(plain)
    loss.end_epoch()
    assert float(loss(logits, labels, rows)) > plain
    unseen = float(loss(logits, labels, rows + 100))
    assert unseen == pytest.approx(plain)


def test_crl_wants_numbers_of_rows():
    loss = make_loss("cross_entropy+crl")
    logits, labels, rows = batch(loss)
    with pytest.raises(ConfigurationError, match="'crl' is called with the numbers"):
        loss(logits, labels)
    with pytest.raises(TrainingError, match="number the train rows from 0, got -1"):
        loss(logits, labels, rows - 1)


# What a loss does to scores that are trained on directly


def trained(text, logits, labels, steps=300, rate=0.5, **more):
    "Scores after steps against the gradient of a loss"
    loss = make_loss(text, known=KNOWN, **more)
    rows = torch.arange(len(labels))
    extra = torch.zeros(len(logits), loss.extra_outputs, dtype=logits.dtype)
    scores = torch.cat([logits, extra], 1).clone().requires_grad_()
    for _ in range(steps):
        loss.observe(scores, labels, rows)
        loss.end_epoch()
        (gradient,) = torch.autograd.grad(loss(scores, labels, rows), scores)
        with torch.no_grad():
            scores -= rate * len(labels) * gradient
    return scores.detach()


def sharpness(text, steps=3000, **more):
    "Probability a loss gives a class that is true in 3 of 4 alike rows"
    scale = torch.zeros(K, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 0, 1])
    loss = make_loss(text, known=KNOWN, **more)
    for _ in range(steps):
        logits = scale.expand(4, K)
        (gradient,) = torch.autograd.grad(loss(logits, labels), scale)
        with torch.no_grad():
            scale -= 0.5 * gradient
    return float(scale.softmax(0)[0])


def test_what_is_sure_in_the_end():
    "Cross-entropy says 3/4; the focal family and smoothing less, costs more"
    truth = 0.75
    assert sharpness("cross_entropy") == pytest.approx(truth, abs=0.01)
    smoothed = 0.9 * truth + 0.1 / K
    found = sharpness("cross_entropy(label_smoothing=0.1)")
    assert found == pytest.approx(smoothed, abs=0.01)
    focal = [sharpness(f"focal(gamma={g})") for g in (1, 3)]
    assert focal[1] < focal[0] < truth - 0.03
    assert sharpness("flsd53") < truth - 0.03
    assert sharpness("dual_focal") < truth - 0.03
    bounded = sharpness("cross_entropy+margin_smoothing(alpha=1, margin=1)")
    assert bounded < truth - 0.03
    known = {"cost": 1 - np.eye(K)}
    loss = make_loss("expected_cost", known=known)
    logits = torch.zeros(4, K, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 0, 1])
    (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
    assert gradient.sum(0)[0] < 0 < gradient.sum(0)[2]


def test_mdca_turns_down_a_model_that_is_too_sure():
    problem = synthetic_problem(400, K, temperature=0.3, seed=1)
    logits, labels = map(torch.from_numpy, (problem.logits, problem.labels))
    # a class that is said too often; one temperature and one offset by class
    factor = torch.ones(1, dtype=torch.float64, requires_grad=True)
    offset = torch.tensor([2.0, 0, 0, 0], dtype=torch.float64, requires_grad=True)
    loss = MDCA()
    start = float(loss(logits * factor + offset, labels))
    for _ in range(300):
        value = loss(logits * factor + offset, labels)
        for tensor, g in zip(
            (factor, offset), torch.autograd.grad(value, (factor, offset))
        ):
            with torch.no_grad():
                tensor -= 0.5 * g
    assert float(value) < 0.2 * start
    before = ece((logits + torch.tensor([2.0, 0, 0, 0])).softmax(1).numpy(), labels)
    after = ece((logits * factor + offset).detach().softmax(1).numpy(), labels)
    assert after < before


def test_ranks_lower_confidence_in_errors_most():
    "Of two equal errors beside a right row, the surer one is pulled harder"
    logits = torch.tensor([[2.0, 0, 0, 0], [4.0, 0, 0, 0], [3.0, 0, 0, 0]])
    labels = torch.tensor([1, 1, 0])
    leaf = logits.requires_grad_()
    (ours,) = torch.autograd.grad(make_loss("aurc")(leaf, labels), leaf)
    (plain,) = torch.autograd.grad(make_loss()(leaf, labels), leaf)
    pull = ours[:2, 0] / plain[:2, 0]
    assert pull[1] > pull[0] > 0


def test_crl_puts_rows_that_were_right_above():
    logits = torch.tensor([[0.5, 0, 0, 0], [1.5, 0, 0, 0]], dtype=torch.float64)
    labels = torch.tensor([0, 1])  # the second row is wrong and surer
    loss, scores = CRL(), logits.clone().requires_grad_()
    loss.observe(logits, labels, torch.arange(2))
    loss.end_epoch()
    for _ in range(100):
        (gradient,) = torch.autograd.grad(loss(scores, labels, torch.arange(2)), scores)
        with torch.no_grad():
            scores -= 0.2 * gradient
    right, wrong = scores.softmax(1).amax(1).tolist()
    assert right > logits.softmax(1).amax(1)[0] and wrong < right
    assert wrong < logits.softmax(1).amax(1)[1]


def test_conformal_size_makes_sets_smaller():
    problem = synthetic_problem(200, K, temperature=2.0, seed=2)
    logits, labels = map(torch.from_numpy, (problem.logits, problem.labels))
    sizes = []
    for text in ("cross_entropy", "cross_entropy+conformal_size(weight=2)"):
        scores = trained(text, logits, labels, steps=30, rate=0.2)
        sizes.append(float(ConformalSize(weight=1.0, kappa=0.0)(scores, labels)))
    start = float(ConformalSize(weight=1.0, kappa=0.0)(logits, labels))
    assert sizes[1] < sizes[0] < start


@pytest.mark.parametrize(("payoff", "keeps"), [(1.2, True), (1.6, False)])
def test_a_gambler_keeps_back_what_is_less_sure_than_one_over_payoff(payoff, keeps):
    "A class is true in 3 of 4 rows: 1/1.2 = .83 is more, 1/1.6 = .63 less"
    scores = torch.zeros(K + 1, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 0, 1])
    for _ in range(4000):
        value = gambler(scores.expand(4, K + 1), labels, payoff=payoff)
        (gradient,) = torch.autograd.grad(value, scores)
        with torch.no_grad():
            scores -= 2 * gradient
    kept = float(scores.softmax(0)[-1])
    assert kept > 0.97 if keeps else kept < 0.7


def test_limits_of_the_payoff():
    "Nothing kept back is cross-entropy; everything costs log(payoff), at K a blind bet"
    logits, labels, _ = batch(make_loss(), 10)
    none = torch.cat([logits, torch.full((10, 1), -1e4, dtype=torch.float64)], 1)
    plain = float(make_loss()(logits, labels))
    for payoff in (1.01, 2.0, K):
        assert float(gambler(none, labels, payoff=payoff)) == pytest.approx(plain)
    everything = torch.cat([logits, torch.full((10, 1), 1e4).double()], 1)
    for payoff in (1.01, 2.0, K):
        value = float(gambler(everything, labels, payoff=payoff))
        assert value == pytest.approx(math.log(payoff))


def test_payoffs_point_the_right_way():
    "Dearer errors, more caution: a smaller payoff; never above K"
    unit = 1 - np.eye(K)
    payoffs = [payoff_from_costs(unit * e, np.full(K, 0.5)) for e in (1, 2, 10)]
    assert payoffs == pytest.approx([2, 4 / 3, 1 / 0.95])
    assert payoff_from_costs(unit, np.full(K, 0.9)) == K
    assert payoff_from_costs(unit, np.full(K, 2.0)) == K
    with pytest.raises(ConfigurationError, match="would never bet"):
        payoff_from_costs(unit, np.zeros(K))
