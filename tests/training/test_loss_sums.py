"Sums of losses as text: what is read, what is refused and where, what is handed on"

import random

import pytest
import torch

from fine_tune_llm.config.layers import cli_layer
from fine_tune_llm.config.resolve import resolve_config
from fine_tune_llm.core.errors import ConfigurationError, FineTuneLLMError
from fine_tune_llm.core.events import TrainingEvaluated
from fine_tune_llm.testing import toy_rows
from fine_tune_llm.training.losses import LOSSES, make_loss, read_losses, try_loss

LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
LABELS = torch.tensor([0, 2])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("focal", [("focal", {}, 1)]),
        (" focal ( ) ", [("focal", {}, 1)]),
        ("focal(gamma=2)", [("focal", {"gamma": 2}, 1)]),
        ("2 * focal( gamma = 1e-1 )", [("focal", {"gamma": 0.1}, 2)]),
        ("focal(gamma=-1.)", [("focal", {"gamma": -1.0}, 1)]),
        ("a(b=true,c=None,d=word)", [("a", {"b": True, "c": None, "d": "word"}, 1)]),
        (".5*a-b+3e0*c.d", [("a-b", {}, 0.5), ("c.d", {}, 3)]),
        ("a\n+ b", [("a", {}, 1), ("b", {}, 1)]),
    ],
)
def test_what_is_read(text, expected):
    found = [(term.name, term.settings, term.weight) for term in read_losses(text)]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("focal(2)", "a setting such as gamma=2 was expected at character 7"),
        ("focal(gamma 2)", "`=` was expected at character 13, where '2' stands"),
        ("focal(gamma=)", "a number or a word was expected at character 13"),
        ("focal(gamma=2", "`,` or `)` was expected at character 14, where the end"),
        ("focal(gamma=2,gamma=3)", "`gamma` is set twice"),
        ("focal gamma", "`+` was expected at character 7, where 'gamma' stands"),
        ("focal+", "the name of a loss was expected at character 7, where the end"),
        ("focal - mdca", "`+` was expected at character 7, where '-' stands"),
        ("-1*focal", "a weight above 0 was expected at character 1"),
        ("0*focal", "a weight above 0 was expected at character 1"),
        ("1e999*focal", "a weight above 0 was expected at character 1"),
        ("2 focal", "`*` was expected at character 3, where 'focal' stands"),
        ("focal*2", "`+` was expected at character 6, where '*' stands"),
        ("focal; import os", "a name or a number was expected at character 6"),
        ("__import__('os')", "a name or a number was expected at character 12"),
        ("", "a text of 1 to 2000 characters, got 0 characters"),
        ("a+" * 1500, "a text of 1 to 2000 characters, got 3000 characters"),
        (None, "a text of 1 to 2000 characters, got None"),
        (" ", "the name of a loss was expected at character 2, where the end"),
        ("focall", "Did you mean 'focal'"),
        ("focal + focall", "at character 9 of 'focal + focall'. Did you mean 'focal'"),
        ("focal(gama=2)", "Did you mean 'gamma'"),
        ("focal(logits=2)", "loss 'focal'"),
        ("mdca+crl", "only a term to add"),
    ],
)
def test_what_is_refused_and_where(text, said):
    with pytest.raises(ConfigurationError) as e:
        make_loss(text)
    assert said in str(e.value).replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("focal(gamma=-1)", "`gamma` must be at least 0 and finite, got -1"),
        ("focal(gamma=two)", "`gamma` must be at least 0 and finite, got 'two'"),
        ("cross_entropy(label_smoothing=1)", "`label_smoothing` must be in [0, 1)"),
        ("dual_focal(gamma=nan)", "`gamma` must be at least 0"),
        ("cross_entropy+mdca(beta=0)", "`beta` must be positive and finite, got 0"),
        ("cross_entropy+mdca(momentum=1)", "`momentum` must be in [0, 1), got 1"),
        ("cross_entropy+crl(weight=-1)", "`weight` must be positive and finite"),
        ("cross_entropy+margin_smoothing(margin=-1)", "`margin` must be at least 0"),
        ("cross_entropy+conformal_size(alpha=5)", "`alpha` must be in (0, 1), got 5"),
        ("cross_entropy+conformal_size(bank=1.5)", "`bank` must be a whole number"),
        ("gambler", "needs a `payoff` in (1, 3]"),
        ("gambler(payoff=1)", "`payoff` must be in (1, 3], got 1"),
        ("gambler(payoff=4)", "`payoff` must be in (1, 3], got 4"),
        ("expected_cost", "must be a matrix of 3 x 3, got none"),
    ],
)
def test_values_out_of_range_show_when_a_loss_is_tried(text, said):
    with pytest.raises(ConfigurationError) as e:
        try_loss(make_loss(text), 3)
    assert said in str(e.value)


def test_garbage_is_refused_in_words():
    "150 random texts: ours or an error of ours, quickly"
    rng = random.Random(0)
    pieces = ["focal", "mdca", "(", ")", "=", "+", "*", ",", "gamma", "2", "-", ".5"]
    pieces += [" ", "\t", "é", "\x00", "'", "__class__", "1e9", "[", "cross_entropy"]
    n_read = 0
    for _ in range(150):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 9)))
        try:
            make_loss(text)
            n_read += 1
        except FineTuneLLMError:
            pass
    assert n_read > 0


def test_weights_of_terms_multiply():
    parts = make_loss("focal(gamma=1)"), make_loss("cross_entropy")
    values = [float(part(LOGITS, LABELS)) for part in parts]
    both = make_loss("0.25*focal(gamma=1) + 3*cross_entropy")
    expected = 0.25 * values[0] + 3 * values[1]
    assert float(both(LOGITS, LABELS)) == pytest.approx(expected)


def test_settings_reach_the_terms_that_take_them():
    weights = [1.0, 2.0, 3.0]
    both = make_loss("focal+mdca", class_weights=weights)
    alone = make_loss("focal", class_weights=weights), make_loss("cross_entropy+mdca")
    mdca = float(alone[1](LOGITS, LABELS)) - float(make_loss()(LOGITS, LABELS))
    expected = float(alone[0](LOGITS, LABELS)) + mdca
    assert float(both(LOGITS, LABELS)) == pytest.approx(expected)
    assert float(both.normaliser(LABELS)) == 4
    assert float(make_loss("focal").normaliser(LABELS)) == 2


def test_what_the_text_sets_goes_first():
    loss = make_loss("gambler(payoff=2)", known={"payoff": 3.0, "cost": [[0]]})
    other = make_loss("gambler", known={"payoff": 2.0})
    assert float(loss(LOGITS, LABELS % 2)) == float(other(LOGITS, LABELS % 2))


def test_the_other_losses_of_a_gambler_see_the_classes_only():
    loss = make_loss("cross_entropy+0.5*gambler(payoff=2)+mdca")
    alone = make_loss("gambler(payoff=2)")
    assert loss.extra_outputs == alone.extra_outputs == 1
    labels = LABELS % 2
    expected = float(make_loss("cross_entropy+mdca")(LOGITS[:, :2], labels))
    expected += 0.5 * float(alone(LOGITS, labels))
    assert float(loss(LOGITS, labels)) == pytest.approx(expected)


def test_smoothing_of_a_loss_without_it_is_refused():
    with pytest.raises(ConfigurationError, match="'focal': .*'label_smoothing'"):
        make_loss("focal", label_smoothing=0.1)
    assert make_loss("cross_entropy+focal", label_smoothing=0.1)


def test_a_stranger_without_class_weights_is_refused_with_them(monkeypatch):
    monkeypatch.setattr(LOSSES, "_own", dict(LOSSES._own))

    def squared(logits, labels, *, power=2.0):
        return (1 - logits.softmax(1).gather(1, labels[:, None])).pow(power).mean()

    LOSSES.register("my squared error", squared)
    LOSSES.register("squared", squared)
    assert make_loss("my squared error")(LOGITS, LABELS) > 0
    both = make_loss("cross_entropy+2*squared(power=1)")
    assert not both.is_mean_over_rows and both(LOGITS, LABELS) > 0
    with pytest.raises(ConfigurationError, match="'squared': .*'class_weights'"):
        make_loss("cross_entropy+squared", class_weights=[1.0, 2.0, 3.0])


def test_whatever_a_stranger_raises_is_a_wrong_setting(monkeypatch):
    monkeypatch.setattr(LOSSES, "_own", dict(LOSSES._own))

    def picky(logits, labels, *, gamma=1.0):
        raise ValueError(f"gamma {gamma} is too much")

    LOSSES.register("picky", picky)
    with pytest.raises(ConfigurationError, match="ValueError: gamma 7 is too much"):
        try_loss(make_loss("picky(gamma=7)"), 2)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"name": "focal(gamma=-2)"}, "`gamma` must be at least 0"),
        ({"name": "focall"}, "unknown loss 'focall'"),
        ({"name": "mdca"}, "only a term to add"),
        ({"name": "gambler"}, "needs a `payoff`"),
        ({"name": "focal", "label_smoothing": 0.1}, "'label_smoothing'"),
    ],
)
def test_a_fit_refuses_before_it_writes(toy_fit, tmp_path, loss, said):
    with pytest.raises(ConfigurationError) as e:
        toy_fit(tmp_path / "run", config={"loss": loss})
    assert said in str(e.value) and not (tmp_path / "run").exists()


def test_a_fit_trains_on_a_sum(toy_fit, tmp_path):
    name = "focal(gamma=2) + 0.5*mdca + 0.1*expected_cost"
    risk = {"miss": {"*": 1.0}, "target_cost": 0.4}
    loss = {"name": name, "class_weights": "balanced"}
    rows = toy_rows(256)
    run = toy_fit(tmp_path / "sum", rows, config={"loss": loss, "risk": risk})
    plain = toy_fit(tmp_path / "plain", rows, config={"risk": risk})
    assert run.config.loss.name == name
    found = [
        one.events(TrainingEvaluated)[-1].metrics["eval_nll"] for one in (run, plain)
    ]
    assert abs(found[0] - found[1]) > 1e-5


def test_the_command_line_takes_a_sum(ftllm, tiny, tmp_path):
    "And its errors name the place"
    name = "focal(gamma=2)+mdca(beta=1)"
    config = resolve_config(cli=cli_layer([f"loss.name={name}"], {}))
    assert config.loss.name == name
    words = ["fit", tiny / "rows.jsonl", "--model", tiny / "bert", "--out", "a"]
    wrong = ftllm(*words, "--set", "loss.name=focal+mcda", cwd=tmp_path)
    assert wrong.returncode == 2 and "at character 7 of 'focal+mcda'" in wrong.stderr
    assert not (tmp_path / "a").exists()
