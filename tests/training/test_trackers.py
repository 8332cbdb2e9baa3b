"What a `Trainer` tells others, ours tells, too: trackers, and the hub"

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
from transformers import TrainerCallback
from transformers.integrations import integration_utils

SCRIPT = Path(__file__).with_name("trained_alone.py")
spec = importlib.util.spec_from_file_location("trained_alone", SCRIPT)
trained_alone = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trained_alone)


def test_a_tracker_hears_calibration_and_the_true_loss(tmp_path, monkeypatch):
    lines = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **extra):
            lines.append(dict(logs))

    monkeypatch.setitem(
        integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Tracker
    )
    settings, loss, more = trained_alone.CASES["weighted"]
    settings = settings | {"report_to": ["tensorboard"]}
    trainer, notes = trained_alone.trainer_of(tmp_path, settings, loss(), more)
    trainer.train()
    losses = [line["loss"] for line in lines if "loss" in line]
    per_epoch = [sum(notes.losses[i : i + 6]) / 6 for i in (0, 6)]
    assert [round(x, 6) for x in losses] == [round(x, 6) for x in per_epoch]
    assert sum("eval_nll_calibrated" in line for line in lines) == 2


def test_the_hub_is_sent_what_a_checkpoint_holds(tmp_path, monkeypatch):
    sent = []

    def upload(self, *, folder_path, **asked):
        names = {p.name for p in Path(folder_path).rglob("*") if p.is_file()}
        sent.append((asked["repo_id"], names))
        return SimpleNamespace(is_done=lambda: True, done=lambda: True)

    def create(self, repo_id, **asked):
        return SimpleNamespace(repo_id=repo_id)

    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create)
    settings, loss, more = trained_alone.CASES["plain"]
    hub = {"push_to_hub": True, "hub_model_id": "me/triage", "hub_token": "hf_none"}
    trainer, _ = trained_alone.trainer_of(tmp_path, settings | hub, loss(), more)
    trainer.train()
    trainer.push_to_hub()
    repository, names = sent[-1]
    assert repository == "me/triage"
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names), names
    assert any(name.endswith(".safetensors") for name in names), names
