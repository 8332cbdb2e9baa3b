"Tuning and label checks: which rows are looked at, what is found, what a kill leaves"

import csv
import json
import sqlite3

import numpy as np
import pytest
import yaml

from fine_tune_llm.cli.program import main
from fine_tune_llm.config.files import load_config
from fine_tune_llm.config.layers import make_config
from fine_tune_llm.config.schema import Config
from fine_tune_llm.core.errors import ConfigurationError, TrainingError
from fine_tune_llm.data.ledger import Ledger
from fine_tune_llm.models.text_model import TextModel
from fine_tune_llm.run import tuning as module
from fine_tune_llm.run.journey import fit
from fine_tune_llm.run.tuning import learning_rows, suspicious_labels, tune_data
from fine_tune_llm.testing import tiny_folder, toy_rows
from fine_tune_llm.training import tuning as study_module
from fine_tune_llm.training.tuning import check_space

SHARES = {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2}
CONFIG = {
    "training": {"epochs": 1, "precision": "fp32", "dropout": 0.0},
    "lora": {"r": 2},
    "model": {"device": "cpu", "max_length": 32},
    "data": SHARES,
}
SPACE = {"training.learning_rate": (1e-4, 0.1, "log"), "lora.r": [2, 4]}


@pytest.fixture
def go(tiny, tmp_path):
    def tuned(n_trials=2, out="study", **more):
        return tune_data(
            toy_rows(120),
            out=tmp_path / out,
            space=more.pop("space", SPACE),
            n_trials=n_trials,
            seed=3,
            model=str(tiny / "bert"),
            config=CONFIG,
            **more,
        )

    return tuned


def test_only_two_roles_are_taken_and_their_texts_read(go, monkeypatch, tiny):
    ledgers, read = [], set()
    real_take, real_prepare = Ledger.take, TextModel.prepare

    def take(self, role, purpose):
        ledgers.append(self)
        return real_take(self, role, purpose)

    def prepare(self, texts, *args):
        read.update(texts)
        return real_prepare(self, texts, *args)

    monkeypatch.setattr(Ledger, "take", take)
    monkeypatch.setattr(TextModel, "prepare", prepare)
    real_lengths = module.text_lengths

    def lengths(name, texts, **more):
        read.update(texts)
        return real_lengths(name, texts, **more)

    monkeypatch.setattr(module, "text_lengths", lengths)
    go()
    uses = {use for ledger in ledgers for use in ledger.uses}
    assert uses == {("train", "fit"), ("validation", "choose")}
    (ledger,) = {id(one): one for one in ledgers}.values()
    texts = [row["text"] for row in toy_rows(120)]
    allowed = {texts[i] for r in ("train", "validation") for i in ledger.roles[r]}
    hidden = {texts[i] for r in ("calibration", "test") for i in ledger.roles[r]}
    assert read == allowed and hidden and not read & hidden


def test_the_roles_are_those_of_the_fit(go, tiny, tmp_path):
    rows = learning_rows(
        toy_rows(120),
        module.fit_settings(CONFIG, None, {"seed": 3, "model": str(tiny / "bert")}),
    )
    found = go()
    run = fit(
        toy_rows(120),
        out=tmp_path / "run",
        seed=3,
        model=str(tiny / "bert"),
        config=CONFIG | {"risk": {"target_risk": 0.4}} | _nested(found.best),
        progress=False,
    )
    record = json.loads((run.path / "data.json").read_text())
    hashes = rows.ledger.to_dict()["roles"]
    assert record["ledger"]["roles"] == hashes
    assert run.config.lora.r == found.best["lora.r"]


def _nested(best):
    rate, r = best["training.learning_rate"], best["lora.r"]
    training = CONFIG["training"] | {"learning_rate": rate}
    return {"training": training, "lora": {"r": r}}


class Cut(BaseException):
    pass


def comparable(found):
    return [(t.number, t.settings, t.state, t.value, t.epochs) for t in found.trials]


def test_a_study_that_was_cut_ends_as_one_that_was_not(go, monkeypatch):
    whole = go(4, out="whole")
    real, calls = study_module.train, []

    def train(*args, **kwargs):
        calls.append(1)
        log = real(*args, **kwargs)
        if len(calls) == 2:
            raise Cut  # in trial 1, before it is written down
        return log

    monkeypatch.setattr(study_module, "train", train)
    with pytest.raises(Cut):
        go(4)
    resumed = go(4)
    assert comparable(resumed) == comparable(whole)
    assert resumed.best == whole.best
    assert len(calls) == 2 + 3


def test_a_trial_that_fails_is_written_down_and_skipped(go, monkeypatch, tmp_path):
    real, calls = study_module.train, []

    def train(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no luck")
        return real(*args, **kwargs)

    monkeypatch.setattr(study_module, "train", train)
    told = []
    found = go(2, publish=told.append)
    assert [t.state for t in found.trials] == ["failed", "complete"]
    assert "no luck" in found.trials[0].error and found.trials[0].value is None
    assert [e.data["state"] for e in told] == ["failed", "complete"]
    assert "failed" in found._repr_markdown_()
    assert json.loads(json.dumps(found.to_dict()))["trials"][0]["state"] == "failed"


def test_nothing_but_failures_is_an_error(go, monkeypatch):
    def train(*args, **kwargs):
        raise RuntimeError("no luck")

    monkeypatch.setattr(study_module, "train", train)
    with pytest.raises(TrainingError, match="all 2 trials failed.*no luck"):
        go(2)


def test_a_hopeless_trial_is_pruned(go, monkeypatch):
    real, stopped = study_module.train, []

    def train(model, *parts, callbacks, **kwargs):
        (pruning,) = callbacks
        monkeypatch.setattr(
            type(pruning.trial), "should_prune", lambda self: self.number == 1
        )
        log = real(model, *parts, callbacks=callbacks, **kwargs)
        stopped.append(max(line.get("epoch", 0) for line in log))
        return log

    monkeypatch.setattr(study_module, "train", train)
    longer = CONFIG["training"] | {"epochs": 3}
    monkeypatch.setitem(CONFIG, "training", longer)
    found = go(3)
    assert [t.state for t in found.trials] == ["complete", "pruned", "complete"]
    assert stopped == [3, 1, 3]
    assert found.value == min(t.value for t in found.trials if t.state == "complete")


def test_the_measure_is_that_of_the_validation_role(go):
    found = go(2, by="aurc")
    assert found.by == "aurc"
    assert found.value == min(t.value for t in found.trials)
    assert all(0 <= t.value <= 1 for t in found.trials)


@pytest.mark.parametrize(
    "space, words",
    [
        ({}, "must name one setting"),
        ({"data.train": (0.1, 0.9)}, "only settings of the model"),
        ({"seed": [1, 2]}, "only settings of the model"),
        ({"conformal.alpha": (0.1, 0.2)}, "only settings of the model"),
        ({"training.threads": [1, 2]}, "only settings of the model"),
        ({"lora.rr": [1, 2]}, "did you mean `lora.r`"),
        ({"lora.r": [8]}, "two or more different"),
        ({"lora.r": [8, 8]}, "two or more different"),
        ({"lora.r": (8, 4)}, "low < high"),
        ({"lora.r": (4, 8, "lin")}, '"log"'),
        ({"lora.r": (0, 8)}, "must be at least 1"),
        ({"lora.r": [8, "many"]}, "lora.r"),
        ({"model.pooling": (1, 2)}, "a list of values"),
    ],
)
def test_a_wrong_space_is_refused_before_anything(go, tmp_path, space, words):
    with pytest.raises(ConfigurationError) as raised:
        go(space=space)
    assert words in str(raised.value)
    assert not (tmp_path / "study" / "study.db").exists()


def test_another_study_is_not_gone_on_with(go):
    go(1)
    with pytest.raises(ConfigurationError, match="study of another space"):
        go(1, space={"lora.r": [2, 4]})


def test_a_folder_of_any_name_holds_a_study(go, tmp_path):
    go(1, out="a b#%41?x")
    with sqlite3.connect(tmp_path / "a b#%41?x" / "study.db") as db:
        assert db.execute("select count(*) from trials").fetchone() == (1,)


def test_importance_is_shared_out(go):
    found = go(6)
    assert set(found.importance) in (set(), set(SPACE))
    if found.importance:
        assert sum(found.importance.values()) == pytest.approx(1, abs=1e-4)


def test_wrong_labels_of_the_train_role_are_found(tiny, tmp_path):
    rows = toy_rows(200)
    config = CONFIG | {
        "training": {
            "epochs": 8,
            "batch_size": 8,
            "learning_rate": 0.01,
            "precision": "fp32",
            "dropout": 0.0,
            "patience": 8,
        },
        "data": {"train": 0.7, "validation": 0.1, "calibration": 0.1, "test": 0.1},
    }
    asked = {"n_folds": 2, "seed": 0, "model": str(tiny / "bert"), "config": config}
    settings = module.fit_settings(config, None, {"seed": 0, "model": asked["model"]})
    other = {"kitchen": "garden", "garden": "kitchen"}
    wrong = set(learning_rows(rows, settings).train[:4].tolist())
    mixed = [
        row | {"label": other[row["label"]]} if i in wrong else row
        for i, row in enumerate(rows)
    ]
    wrong &= set(learning_rows(mixed, settings).train.tolist())  # labels move rows
    suspects, share = suspicious_labels(mixed, out=tmp_path / "mixed", **asked)
    found = {int(one.id): one for one in suspects}
    hits = [found[i] for i in wrong if i in found]
    assert len(hits) > len(wrong) / 2 and 0 < share < 0.3
    for one in hits:
        assert one.label == mixed[int(one.id)]["label"]
        assert one.suggested == rows[int(one.id)]["label"]
    margins = [one.margin for one in suspects]
    assert margins == sorted(margins, reverse=True)


@pytest.fixture
def ftllm(capsys):
    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as e:
            main(list(map(str, words)))
        said = capsys.readouterr()
        return e.value.code or 0, said.out, said.err

    return run


def test_the_commands(tiny, tmp_path, monkeypatch, ftllm):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(CONFIG))
    lines = "".join(json.dumps(row) + "\n" for row in toy_rows(120))
    (tmp_path / "rows.jsonl").write_text(lines)
    asked = ["rows.jsonl", "--model", tiny / "bert", "--config", "more.yaml"]
    space = ["--try", "training.learning_rate=1e-4:0.1:log", "--try", "lora.r=2,4"]
    code, out, err = ftllm("tune", *asked, *space, "--trials", 2)
    assert code == 0, err
    assert "trial 0: " in err and "best nll_calibrated" in out
    best = tmp_path / "runs" / "rows-tuning" / "best.yaml"
    assert f"--config {best.relative_to(tmp_path)}" in out
    assert load_config(best).lora.r in (2, 4)
    assert json.loads(best.with_name("trials.json").read_text())["by"] in out
    code, out, err = ftllm("check-labels", *asked, "--folds", 2)
    assert code == 0, err
    with open("runs/rows-labels/labels.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert f"{len(found)} suspicious labels" in out and "fold 2 of 2" in err
    code, _, err = ftllm("tune", *asked, "--try", "lora.r")
    assert code == 2 and "--try` takes" in err
    assert np.isfinite(load_config(best).training.learning_rate)


def test_a_prompt_is_tuned_and_what_it_shows_is_not_judged(tmp_path):
    name = tiny_folder("llama", tmp_path / "llama", seed=0)
    config = make_config(
        Config(), {"model.name": name, "prompt.shots": 2, "model.device": "cpu"}
    )
    rows = learning_rows(toy_rows(120), config)
    other = make_config(rows.config, {"prompt.shots": 1, "prompt.instruction": "Say."})
    prompts = [rows.model(asked).net.prompt for asked in (rows.config, other)]
    assert [len(prompt.examples) for prompt in prompts] == [4, 2]
    assert prompts[1].instruction == "Say."
    with pytest.raises(ConfigurationError, match="with a head"):
        rows.model(make_config(other, {"model.backend": "head"}))
    shown = {example.text for example in rows.prompt.examples}
    left = {rows.dataset.texts[row] for row in rows.unshown()}
    assert shown and not shown & left
    assert len(left) == len({rows.dataset.texts[i] for i in rows.train} - shown)
    with pytest.raises(ConfigurationError, match="training.members"):
        check_space({"training.members": [1, 2]})
