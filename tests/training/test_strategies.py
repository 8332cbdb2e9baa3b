"Strategies: what each moves, what it leaves alone, and that a kill is no matter"

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from fine_tune_llm.config.layers import make_config
from fine_tune_llm.config.schema import LoraSection, TrainingConfig
from fine_tune_llm.core.errors import CheckpointError, ConfigurationError
from fine_tune_llm.core.events import TrainingEvaluated
from fine_tune_llm.models.text_model import load_model
from fine_tune_llm.testing import toy_rows
from fine_tune_llm.training import recipe as recipe_module
from fine_tune_llm.training import strategies as module
from fine_tune_llm.training import trainer as trainer_module
from fine_tune_llm.training.recipe import train
from fine_tune_llm.training.strategies import (
    STRATEGIES,
    Strategy,
    gather_state,
    restore_state,
)
from fine_tune_llm.training.watch import EvaluationWatch, calibration_metrics

ROWS = toy_rows(96)
TEXTS = [row["text"] for row in ROWS]
LABELS = [int(row["label"] == "kitchen") for row in ROWS]
PARTS = [(TEXTS[:64], LABELS[:64]), (TEXTS[64:], LABELS[64:])]


def config(*names, **more):
    usual = {"epochs": 3, "learning_rate": 1e-2, "dropout": 0.0, "precision": "fp32"}
    return TrainingConfig(**usual | more | {"strategies": names})


class Diary(TrainerCallback):
    "Writes down the learning weights and the rate after every step"

    def __init__(self, model):
        self.learning = model.learning()
        self.weights, self.rates, self.epochs = [self.now()], [], []

    def now(self):
        return {name: p.detach().clone() for name, p in self.learning.items()}

    def on_step_begin(self, args, state, control, **extra):
        self.rates.append(extra["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args, state, control, **extra):
        self.weights.append(self.now())
        self.epochs.append(state.epoch)


@pytest.fixture
def go(tiny, tmp_path):
    "Trains with strategies; gives the model, the diary and the log"

    def trained(*names, folder="work", publish=None, callbacks=(), warm=False, **more):
        model = load_model(str(tiny / "bert"), 2, seed=0, lora=LoraSection(r=4))
        diary = Diary(model)
        log = train(
            model,
            *PARTS,
            config=config(*names, **more),
            folder=tmp_path / folder,
            seed=0,
            device="cpu",
            publish=publish,
            progress=False,
            warm=warm,
            callbacks=[diary, *callbacks],
        )
        return model, diary, log

    return trained


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_average_is_the_one_worked_by_hand(go, tmp_path):
    model, diary, _ = go("ema(decay=0.75)")
    _, plain, _ = go(folder="plain")
    assert equal(diary.weights[-1], plain.weights[-1])  # what is trained is the same
    averages = [diary.weights[0]]
    for weights in diary.weights[1:]:
        last = averages[-1]
        averages.append({n: 0.75 * last[n] + 0.25 * p for n, p in weights.items()})
    saved = sorted((tmp_path / "work").glob("checkpoint-*/learned.safetensors"))
    assert saved
    for file in saved:
        step = int(file.parent.name.split("-")[1])
        for name, tensor in load_file(file).items():
            torch.testing.assert_close(tensor, averages[step][name], atol=1e-6, rtol=0)
    steps = {int(file.parent.name.split("-")[1]) for file in saved}
    kept = model.learning()
    assert any(
        all(torch.allclose(kept[n], averages[s][n], atol=1e-6) for n in kept)
        for s in steps
    )


def test_what_is_evaluated_is_the_average(go):
    _, _, plain = go(folder="plain")
    model, _, log = go("swa(start=0.5)", best_by="nll_calibrated")
    found = [line["eval_nll"] for line in log if "eval_nll" in line]
    usual = [line["eval_nll"] for line in plain if "eval_nll" in line]
    assert found[:2] == usual[:2]  # until half of the steps they are the same
    assert found[-1] != usual[-1]
    best = min(
        (line for line in log if "eval_nll" in line),
        key=lambda line: line["eval_nll_calibrated"],
    )
    now = calibration_metrics(model.logits(PARTS[1][0]), PARTS[1][1])
    assert now["nll"] == pytest.approx(best["eval_nll"], abs=1e-6)


def test_a_tail_average_is_a_mean_and_its_rate_is_held(go, tmp_path):
    _, diary, _ = go("swa(start=0.5, hold=0.3)")
    n = len(diary.rates)
    np.testing.assert_allclose(diary.rates[n // 2 :], 0.3 * 1e-2)
    last = tmp_path / "work" / f"checkpoint-{n}" / "learned.safetensors"
    tail = diary.weights[n // 2 + 1 :]
    for name, tensor in load_file(last).items():
        mean = torch.stack([weights[name] for weights in tail]).mean(0)
        torch.testing.assert_close(tensor, mean, atol=1e-6, rtol=0)


@pytest.fixture
def says(monkeypatch):
    "Evaluations, the start's first, say these values, whatever the logits are"
    of_start, of_epoch = recipe_module.calibration_metrics, EvaluationWatch.metrics

    def script(values, name):
        said = iter(values)

        def start(*args):
            return of_start(*args) | {name: next(said)}

        def epoch(self):
            return of_epoch(self) | {name: next(said)}

        monkeypatch.setattr(recipe_module, "calibration_metrics", start)
        monkeypatch.setattr(EvaluationWatch, "metrics", epoch)

    return script


def test_the_rate_falls_at_the_next_step_and_stays_down(go, says):
    _, plain, _ = go(folder="plain", epochs=4)
    events = []
    says([0.3, 0.1, 0.2, 0.05, 0.04], "ece_calibrated")
    _, diary, _ = go("reduce_lr(factor=0.1)", epochs=4, publish=events.append)
    per_epoch = len(diary.rates) // 4
    before, after = 2 * per_epoch, slice(2 * per_epoch, None)
    np.testing.assert_array_equal(diary.rates[:before], plain.rates[:before])
    np.testing.assert_allclose(diary.rates[after], 0.1 * np.array(plain.rates[after]))
    (told,) = [e for e in events if e.type == "training.rate_reduced"]
    assert told.step == before and told.data["lowest"] == 0.1


def test_the_rate_stays_where_calibration_does_not_get_worse(go, says):
    _, plain, _ = go(folder="plain")
    says([0.3, 0.3, 0.2, 0.2], "ece_calibrated")
    _, diary, _ = go("reduce_lr(factor=0.1)")
    np.testing.assert_array_equal(diary.rates, plain.rates)


def test_the_adapter_does_not_move_while_the_head_learns(go):
    _, diary, _ = go("staged_unfreezing(head_epochs=2)", weight_decay=0.1, warmup=0.0)
    first = diary.weights[0]
    for epoch, weights in zip(diary.epochs, diary.weights[1:]):
        for name, p in weights.items():
            if name.startswith("head."):
                assert not torch.equal(p, first[name]), name
            elif epoch <= 2:
                assert torch.equal(p, first[name]), name
    moved = [n for n, p in diary.weights[-1].items() if not torch.equal(p, first[n])]
    assert set(moved) == set(first)


def test_everything_is_learning_between_steps(go):
    model, _, _ = go("staged_unfreezing(head_epochs=9)")
    assert all(p.requires_grad for p in model.learning().values())
    assert any(name.startswith("backbone.") for name in model.learning())


@pytest.fixture
def batches(monkeypatch):
    "Token ids of the rows that are trained on, as they come, without padding"
    seen = []
    real = trainer_module.CalibratedTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        if model.training:
            seen.extend([t for t in ids if t] for ids in inputs["input_ids"].tolist())
        return real(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer_module.CalibratedTrainer, "compute_loss", watched)
    return seen


@pytest.fixture
def curricula(monkeypatch):
    "Curricula that have begun"
    made = []
    real = module.Curriculum.begin

    def begin(self):
        real(self)
        made.append(self)

    monkeypatch.setattr(module.Curriculum, "begin", begin)
    return made


def test_easy_rows_come_first_and_then_as_usual(go, batches, curricula):
    model, _, _ = go("curriculum(buckets=4)", batch_size=16, warm=True)
    (curriculum,) = curricula
    names = model.prepare(PARTS[0][0])
    rows = [names.index(ids) for ids in batches]
    n = len(names)
    assert [sorted(rows[k * n : k * n + n]) for k in range(3)] == [[*range(n)]] * 3
    assert rows[:n] == curriculum.order(0).tolist()
    confidence = curriculum.confidence.numpy()
    quarters = [confidence[rows[k : k + 16]] for k in range(0, n, 16)]
    for easier, harder in zip(quarters, quarters[1:]):
        assert easier.min() >= harder.max()
    usual = [confidence[rows[k : k + 16]].mean() for k in range(n, 2 * n, 16)]
    assert usual != sorted(usual, reverse=True)


@pytest.mark.parametrize("by", ["nll_calibrated", "aurc", "ece_calibrated"])
def test_the_kept_epoch_is_the_best_by_what_was_asked(go, says, by):
    says([0.9, 0.5, 0.2, 0.4], by)
    model, diary, log = go(best_by=by)
    steps = [line["step"] for line in log if f"eval_{by}" in line]
    best = diary.weights[steps[2]]
    assert equal(model.learning(), best)


class Cut(BaseException):
    pass


ALL = "ema(decay=0.9)", "staged_unfreezing", "curriculum(epochs=2)", "reduce_lr"


@pytest.mark.parametrize("names", [ALL, ("swa(start=0.3)",)])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_cut_in_the_middle_is_no_matter(go, names, epoch):
    def cut(event):
        if isinstance(event, TrainingEvaluated) and event.epoch == epoch + 1:
            raise Cut

    whole, diary, _ = go(*names, folder="whole")
    with pytest.raises(Cut):
        go(*names, publish=cut)
    resumed, rest, _ = go(*names)
    assert equal(whole.learning(), resumed.learning())
    assert equal(diary.weights[-1], rest.weights[-1])
    assert diary.rates[-len(rest.rates) :] == rest.rates
    assert len(rest.rates) < len(diary.rates)


def test_a_state_that_is_not_there_is_a_checkpoint_error():
    one = STRATEGIES.create("ema")
    one.prepare(module.Outset({}, frozenset(), lambda: None, np.zeros(0), 0))
    with pytest.raises(CheckpointError, match="no state of ExponentialAverage"):
        restore_state([one], {})
    one.begin()
    restore_state([one], gather_state([one]))


@pytest.mark.parametrize(
    "said, words",
    [
        ("ema(decay=1.5)", "`decay` must be in"),
        ("swa(start=1.0)", "`start` must be in"),
        ("swa(hold=2)", "`hold` must be in"),
        ("reduce_lr(by='mce')", "`by`"),
        ("reduce_lr(patience=0)", "`patience`"),
        ("staged_unfreezing(head_epochs=0)", "`head_epochs`"),
        ("curriculum(buckets=1)", "`buckets`"),
        ("ema(__import__('os'))", "not a name with settings"),
        ("ema(decay=__import__('os'))", "not a name with settings"),
        ("ema(**{})", "not a name with settings"),
        ("elma", "Did you mean 'ema'"),
        ("((((", "not a name with settings"),
    ],
)
def test_a_wrong_strategy_is_refused_before_anything(go, tmp_path, said, words):
    with pytest.raises(ConfigurationError, match=None) as raised:
        go(said)
    assert words in str(raised.value)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    "written",
    [
        "ema(decay=0.9), swa(start=0.5, hold=0.1)",
        ["ema(decay=0.9)", "swa(start=0.5", "hold=0.1)"],
        ["ema(decay=0.9)", "swa(start=0.5, hold=0.1)"],
    ],
)
def test_a_strategy_is_one_word_whatever_its_commas(written):
    read = make_config({"training.strategies": written}).training.strategies
    assert [word.replace(" ", "") for word in read] == [
        "ema(decay=0.9)",
        "swa(start=0.5,hold=0.1)",
    ]


def test_a_strategy_of_ones_own(go, monkeypatch):
    class Counting(Strategy):
        "Counts steps"

        def __init__(self, start: int = 0):
            self.count = start

        def on_step_end(self, args, state, control, **extra):
            self.count += 1
            counts.append(self.count)

    counts = []
    monkeypatch.setattr(STRATEGIES, "_own", dict(STRATEGIES._own))
    STRATEGIES.register("counting", Counting)
    go("counting(start=10)")
    assert counts[:2] == [11, 12]
