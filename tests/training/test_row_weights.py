"Weights of rows and votes: what a row counts is what it would count if it stood there"

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fine_tune_llm.config.schema import LoraSection, LossConfig, TrainingConfig
from fine_tune_llm.core.errors import ConfigurationError, DataValidationError
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.schema import Schema
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.testing import tiny_folder, toy_rows
from fine_tune_llm.training import make_loss, train
from fine_tune_llm.training.losses import LOSSES, balanced_weights, check_weighted
from fine_tune_llm.training.starting_point import _minimise, _Regression
from fine_tune_llm.training.steps import OptimiserStep, share_of

K = 4
COST = np.array([[0, 1, 2, 3], [1, 0, 5, 1], [2, 2, 0, 2], [9, 1, 1, 0.0]])
KNOWN = {"cost": COST, "payoff": 2.0}
WEIGHED = [
    "cross_entropy",
    "cross_entropy(label_smoothing=0.1)",
    "focal(gamma=2)",
    "flsd53",
    "dual_focal(gamma=5)",
    "expected_cost",
    "gambler",
    "cross_entropy+margin_smoothing(alpha=1, margin=0.5)+0.5*focal",
]
CLASS_WEIGHTS = [None, [0.5, 2.0, 1.0, 0.1]]


def made(text, class_weights=None):
    given = {} if class_weights is None else {"class_weights": class_weights}
    return make_loss(text, known=KNOWN, **given)


def batch(loss, n=12, seed=0):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, K + loss.extra_outputs, generator=rng, dtype=torch.float64)
    labels = torch.randint(K, (n,), generator=rng)
    return (2 * logits).requires_grad_(), labels


def value_and_gradient(loss, logits, labels, weights=None):
    value = loss(logits, labels, weights=weights)
    (gradient,) = torch.autograd.grad(value, logits)
    return float(value.detach()), gradient


@pytest.mark.parametrize("text", WEIGHED)
@pytest.mark.parametrize("class_weights", CLASS_WEIGHTS)
def test_whole_weights_are_copies_and_none_is_absence(text, class_weights):
    loss = made(text, class_weights)
    logits, labels = batch(loss)
    copies = torch.tensor([0, 1, 2, 3] * 3)
    value, gradient = value_and_gradient(loss, logits, labels, copies.float())
    at = torch.arange(len(labels)).repeat_interleave(copies)
    copied = loss(logits[at], labels[at])
    (expected,) = torch.autograd.grad(copied, logits)
    assert value == pytest.approx(float(copied.detach()), rel=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    assert not gradient[copies == 0].any()


@pytest.mark.parametrize("text", WEIGHED)
def test_the_loss_is_the_weighted_mean_of_rows_alone(text):
    "By hand: each row's own loss, and what it counts"
    loss = made(text)
    logits, labels = batch(loss)
    weights = torch.rand(12, generator=torch.Generator().manual_seed(1))
    alone = [float(loss(logits[i : i + 1], labels[i : i + 1])) for i in range(12)]
    expected = np.average(alone, weights=weights.numpy())
    assert float(loss(logits, labels, weights=weights)) == pytest.approx(expected, 1e-6)


@pytest.mark.parametrize("text", WEIGHED)
def test_a_row_with_votes_is_the_mean_of_its_losses(text):
    "Two votes for b and one for d, in a class each, against the losses of both"
    rows = [{"text": "x", "votes": {"b": 2, "d": 1}}]
    rows += [{"text": t, "votes": [t]} for t in "abcd"]
    data = load(rows, schema=Schema(votes="votes"))
    texts, labels, weights = data.training_rows(np.array([0]))
    assert texts == ("x", "x") and labels.tolist() == [1, 3]
    loss = made(text)
    logits = batch(loss, 1)[0].expand(2, -1)
    found = loss(logits, torch.tensor(labels), weights=torch.tensor(weights))
    alone = [float(loss(logits[:1], torch.tensor([k]))) for k in (1, 3)]
    assert float(found) == pytest.approx((2 * alone[0] + alone[1]) / 3, rel=1e-6)


@pytest.mark.parametrize("n_parts", [1, 3, 5])
@pytest.mark.parametrize("class_weights", CLASS_WEIGHTS)
def test_parts_of_a_step_add_up(n_parts, class_weights):
    "Micro-batches of which one counts nothing; and a term beside, by the same shares"
    loss = made("focal", class_weights)
    logits, labels = batch(loss)
    weights = torch.tensor([0.0, 0, 0, 0.5, 2, 1, 1, 3, 0.1, 1, 1, 1])
    batches = [
        {"labels": labels[part], "weights": weights[part], "at": torch.arange(12)[part]}
        for part in (slice(0, 3), slice(3, 4), slice(4, 12))
    ]
    step = OptimiserStep(batches, loss=loss)
    total = beside = 0.0
    for micro in range(3):
        for part in step.parts(micro, n_parts):
            own = torch.tensor(1.0)
            beside = beside + share_of(step, logits[part["at"]], part, added=own)
            total = total + step.values[-1]
    (gradient,) = torch.autograd.grad(beside, logits)
    value, expected = value_and_gradient(loss, logits, labels, weights)
    assert float(total) == pytest.approx(value + 1, rel=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", [*LOSSES])
def test_every_loss_weighs_rows_or_says_that_it_does_not(name):
    is_added = (
        LOSSES.get(name).traits.is_added
        if hasattr(LOSSES.get(name), "traits")
        else False
    )
    loss = made(f"cross_entropy+{name}" if is_added else name)
    if not loss.unweighted:
        logits, labels = batch(loss)
        one, two = (
            loss(logits, labels, weights=torch.arange(12.0) + i) for i in (0, 9)
        )
        assert one != two
    else:
        with pytest.raises(ConfigurationError, match="counts all rows the same"):
            check_weighted(loss)


def test_balanced_classes_count_the_same_by_weight():
    labels, weights = np.array([0, 0, 1, 2]), np.array([1.0, 3.0, 2.0, 0.5])
    of_class = np.array(balanced_weights(labels, 3, weights))
    np.testing.assert_allclose(
        np.bincount(labels, weights * of_class[labels]), 6.5 / 3 * np.ones(3)
    )


def test_the_start_is_that_of_a_peer():
    "scikit-learn's logistic regression with the same weights"
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    rows = (rng.normal(size=(300, 8)) + np.eye(3, 8)[labels]).astype(np.float32)
    weights = rng.exponential(size=300)
    regression = _Regression(rows, labels, 3, None, weights)
    x, gradient = _minimise(regression, regression.start(), 10.0, tol=1e-6)
    head, _ = regression.head(x)
    scale = np.linalg.norm(rows, axis=1).mean()
    peer = LogisticRegression(C=10.0, tol=1e-8, max_iter=5000)
    peer.fit(rows / scale, labels, sample_weight=weights)
    np.testing.assert_allclose(
        scale * head - (scale * head).mean(0),
        peer.coef_ - peer.coef_.mean(0),
        atol=5e-3,
    )


ROWS = toy_rows(24)
TEXTS = [row["text"] for row in ROWS]
LABELS = [int(row["label"] == "kitchen") for row in ROWS]


def trained(
    folder, tmp_path, rows, *, backend="head", epochs=1, loss=None, batch=64, warm=True
):
    architecture = {"head": "bert", "label_tokens": "llama"}[backend]
    base = tmp_path / architecture
    if not base.exists():
        tiny_folder(architecture, base, seed=0)
    labels, lora = ("bathroom", "kitchen"), LoraSection(r=4, dropout=0.0)
    model = load_model(str(base), labels, seed=0, backend=backend, lora=lora)
    config = TrainingConfig(
        epochs=epochs,
        batch_size=batch,
        learning_rate=5e-3,
        dropout=0.0,
        precision="fp32",
    )
    for module in model.net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    part = TEXTS, LABELS
    given = {} if loss is None else {"loss": loss}
    given |= {"config": config, "folder": tmp_path / folder, "warm": warm}
    log = train(model, rows, part, seed=0, progress=False, **given)
    return {n: p.detach().clone() for n, p in model.net.named_parameters()}, log


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("backend", ["head", "label_tokens"])
def test_equal_weights_change_no_bit_and_rows_of_none_are_absent(tmp_path, backend):
    asked = {"backend": backend, "batch": 8}
    plain, _ = trained("plain", tmp_path, (TEXTS, LABELS), **asked)
    equal, _ = trained("equal", tmp_path, (TEXTS, LABELS, np.full(24, 0.3)), **asked)
    assert same(plain, equal)
    weights = np.r_[np.zeros(4), np.ones(20)]
    without, _ = trained("without", tmp_path, (TEXTS[4:], LABELS[4:]), **asked)
    none, _ = trained("none", tmp_path, (TEXTS, LABELS, weights), **asked)
    assert same(without, none) and not same(plain, none)


@pytest.mark.parametrize("backend", ["head", "label_tokens"])
def test_a_row_of_weight_two_is_learned_as_two_rows(tmp_path, backend):
    "Losses of steps on all rows, the response loss of a language model included"
    twice = [*range(24), *range(0, 24, 3)]
    copied = [TEXTS[i] for i in twice], [LABELS[i] for i in twice]
    weighted = TEXTS, LABELS, np.where(np.arange(24) % 3, 1.0, 2.0)
    asked = {"backend": backend, "loss": LossConfig(response_weight=2.0)}
    asked |= {"warm": False, "epochs": 2}
    rows = {"copied": copied, "weighted": weighted, "plain": (TEXTS, LABELS)}
    losses = {}
    for name, these in rows.items():
        log = trained(name, tmp_path, these, **asked)[1]
        losses[name] = np.array([line["loss"] for line in log if "loss" in line])
    np.testing.assert_allclose(losses["weighted"], losses["copied"], rtol=0, atol=2e-5)
    assert abs(losses["plain"] - losses["copied"]).max() > 1e-3


def test_weights_that_are_none_are_refused(tmp_path):
    for weights in ([1.0] * 23, [-1.0] * 24, [np.nan] * 24, [0.0] * 24):
        with pytest.raises(DataValidationError, match="needs a weight for each"):
            trained("x", tmp_path, (TEXTS, LABELS, weights))
    uneven, loss = np.arange(24.0), LossConfig(name="cross_entropy+mdca")
    with pytest.raises(ConfigurationError, match="'mdca' counts all rows the same"):
        trained("x", tmp_path, (TEXTS, LABELS, uneven), loss=loss)
