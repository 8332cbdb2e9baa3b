"The start of the head is the optimum that it says it is"

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import nn

from fine_tune_llm.config.schema import LoraSection
from fine_tune_llm.stats import best_temperature, nll
from fine_tune_llm.stats.arrays import softmax
from fine_tune_llm.testing import tiny_model, toy_rows, toy_tokenizer
from fine_tune_llm.training import warm_start


@dataclass
class Vectors:
    "A model whose pooled vectors are known: what a `TextModel` is to `warm_start`"

    rows: np.ndarray
    n_classes: int
    device = torch.device("cpu")
    precision = "fp32"

    def __post_init__(self):
        head = nn.Linear(self.rows.shape[1], self.n_classes)
        bare = nn.Identity()  # an encoder without an adapter
        self.net = SimpleNamespace(
            head=head, n_classes=self.n_classes, backbone=bare, backend="head"
        )

    def features_of(self, ids):
        return self.rows[[i for (i,) in ids]]

    def head(self):
        head = self.net.head
        return (tensor.detach().double().numpy() for tensor in (head.weight, head.bias))

    def logits(self, rows):
        weights, offsets = self.head()
        return self.rows[rows].astype(np.float64) @ weights.T + offsets


def problem(n=900, d=30, n_classes=6, seed=0, noise=1.5):
    "Clusters far from the origin, as the vectors of an encoder are"
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    centres = rng.normal(size=(n_classes, d))
    rows = 4 + centres[labels] + noise * rng.normal(size=(n, d))
    return rows.astype(np.float32), labels


def parts(labels, n_train):
    ids = [[i] for i in range(len(labels))]
    return (ids[:n_train], labels[:n_train]), (ids[n_train:], labels[n_train:])


def gradient(rows, labels, head, strength, counts):
    "Of the mean loss with (C n)^-1 |W|^2 / 2, by hand, in float64"
    weights, offsets = head
    errors = softmax(rows @ weights.T + offsets)
    errors[np.arange(len(labels)), labels] -= 1
    errors *= (counts / counts.sum())[:, None]
    by_weight = errors.T @ rows + weights / (strength * counts.sum())
    return max(abs(by_weight).max(), abs(errors.sum(0)).max())


def of_norm_1(rows, n_train, head):
    "Rows scaled to mean norm 1, as the objective has them, and the head for those"
    scale = np.linalg.norm(rows[:n_train], axis=1).mean()
    weights, offsets = head
    return rows[:n_train].astype(np.float64) / scale, (weights * scale, offsets)


@pytest.mark.parametrize("strength", [0.3, 30.0, 1000.0])
@pytest.mark.parametrize("class_weights", [None, [1, 2, 5, 0.3, 1, 1]])
def test_it_is_converged(strength, class_weights):
    rows, labels = problem()
    model = Vectors(rows, 6)
    found = warm_start(
        model, *parts(labels, 600), strengths=[strength], class_weights=class_weights
    )
    scaled, head = of_norm_1(rows, 600, model.head())
    counts = np.ones(600)
    if class_weights is not None:
        counts = np.array(class_weights, dtype=float)[labels[:600]]
    by_hand = gradient(scaled, labels[:600], head, strength, counts)
    assert by_hand <= 1.1e-5 and found.gradient <= 1e-5
    assert abs(by_hand - found.gradient) < 2e-6


def solved_by_scipy(rows, labels, n_classes, strength):
    "An independent solver, from another start, in float64"

    def loss(x):
        weights = x.reshape(n_classes, -1)
        probs = softmax(rows @ weights[:, :-1].T + weights[:, -1])
        value = -np.log(probs[np.arange(len(labels)), labels]).mean()
        value += (weights[:, :-1] ** 2).sum() / (2 * strength * len(labels))
        probs[np.arange(len(labels)), labels] -= 1
        slope = probs.T @ rows / len(labels) + weights[:, :-1] / strength / len(labels)
        return value, np.c_[slope, probs.mean(0)].ravel()

    start = np.random.default_rng(1).normal(size=n_classes * (rows.shape[1] + 1))
    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
    x = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    x = x.reshape(n_classes, -1)
    return x[:, :-1], x[:, -1]


@pytest.mark.parametrize("n_classes", [2, 3, 9])
@pytest.mark.parametrize("strength", [1.0, 30.0, 300.0])
def test_the_loss_is_that_of_an_independent_solver(n_classes, strength):
    rows, labels = problem(n_classes=n_classes, seed=n_classes)
    model = Vectors(rows, n_classes)
    found = warm_start(model, *parts(labels, 600), strengths=[strength])
    scaled, _ = of_norm_1(rows, 600, model.head())
    weights, offsets = solved_by_scipy(scaled, labels[:600], n_classes, strength)
    scale = np.linalg.norm(rows[:600], axis=1).mean()
    other = rows[600:].astype(np.float64) / scale @ weights.T + offsets
    validation = labels[600:]
    assert abs(found.nll - nll(softmax(other), validation)) < 1e-3
    temperature = best_temperature(other, validation)
    expected = nll(softmax(other / temperature), validation)
    assert abs(found.nll_calibrated - expected) < 1e-3
    assert abs(found.temperature - temperature) < 0.01
    said = model.logits(np.arange(600, 900))
    assert abs(nll(softmax(said), validation) - found.nll) < 1e-5


def test_it_agrees_with_scikit_learn():
    rows, labels = problem(n_classes=4)
    model = Vectors(rows, 4)
    warm_start(model, *parts(labels, 600), strengths=[10.0], tol=1e-6)
    scaled, head = of_norm_1(rows, 600, model.head())
    theirs = LogisticRegression(C=10.0, tol=1e-8, max_iter=5000)
    theirs.fit(scaled, labels[:600])
    ours = softmax(scaled @ head[0].T + head[1])
    np.testing.assert_allclose(ours, theirs.predict_proba(scaled), atol=2e-3)


def test_the_strength_is_the_best_after_temperature():
    rows, labels = problem(noise=3.0)
    strengths = [0.1, 1.0, 10.0, 100.0, 1000.0]
    alone = {
        strength: warm_start(
            Vectors(rows, 6), *parts(labels, 600), strengths=[strength]
        )
        for strength in strengths
    }
    found = warm_start(Vectors(rows, 6), *parts(labels, 600), strengths=strengths)
    best = min(alone.values(), key=lambda start: start.nll_calibrated)
    assert found.strength == best.strength not in (0.1, 1000.0)
    assert abs(found.nll_calibrated - best.nll_calibrated) < 1e-4
    plain = min(alone.values(), key=lambda start: start.nll)
    assert plain.strength != best.strength  # before temperature it is another


def test_a_class_without_rows_is_never_the_answer():
    rows, labels = problem(n_classes=3)
    model = Vectors(rows, 4)
    found = warm_start(model, *parts(labels, 600))
    probs = softmax(model.logits(np.arange(900)))
    assert found.gradient <= 1e-5 and probs[:, 3].max() < 0.05


def test_heavier_classes_are_said_more_often():
    rows, labels = problem(noise=6.0, n_classes=2)
    said = []
    for weights in ([1, 1], [1, 5]):
        model = Vectors(rows, 2)
        warm_start(model, *parts(labels, 600), class_weights=weights)
        said.append(model.logits(np.arange(600, 900)).argmax(1).mean())
    assert said[1] > said[0] + 0.2


@pytest.mark.parametrize("moved", [False, True])
def test_an_adapter_that_has_learnt_counts(tmp_path, moved):
    "It is left out of the features only where it changes nothing"
    from fine_tune_llm.models import load_model

    toys = toy_rows(40)
    tokenizer = toy_tokenizer([row["text"] for row in toys])
    net = tiny_model("bert", seed=0, vocab_size=len(tokenizer))
    net.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load_model(str(tmp_path), 2, seed=0, lora=LoraSection(r=4))
    learning = set(model.learning())
    if moved:
        with torch.no_grad():
            for name, tensor in model.learning().items():
                if "lora_B" in name:
                    tensor.add_(0.5)
    labels = np.array([row["label"] == toys[0]["label"] for row in toys], dtype=int)
    ids = model.prepare([row["text"] for row in toys])
    found = warm_start(model, (ids, labels), (ids, labels))
    assert set(model.learning()) == learning
    said = softmax(model.logits_of(ids))
    assert abs(nll(said, labels) - found.nll) < 1e-5
