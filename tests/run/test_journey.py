"The journey on a tiny model: events, resuming, what voids a certificate, refusals"

import errno
import json
import shutil

import numpy as np
import pytest

import fine_tune_llm as ft
from fine_tune_llm.config.layers import make_config
from fine_tune_llm.config.machine import Machine
from fine_tune_llm.config.manager import ConfigManager
from fine_tune_llm.core.error_counts import error_stats
from fine_tune_llm.core.errors import (
    AdapterError,
    CertificateError,
    ConfigurationError,
    DataValidationError,
    ResourceError,
    RunError,
)
from fine_tune_llm.core.event_bus import EventBus
from fine_tune_llm.core.events import (
    DataSplit,
    ModelSaved,
    StageFinished,
    TrainingEvaluated,
)
from fine_tune_llm.core.files import full_disk_in_words, sha256_json
from fine_tune_llm.core.logs import capture_logs
from fine_tune_llm.data import loading
from fine_tune_llm.models.ensembles import load_trained
from fine_tune_llm.run import journey
from fine_tune_llm.run.certificate import derive_certificate
from fine_tune_llm.run.directory import Run
from fine_tune_llm.testing import toy_rows

ROWS = toy_rows(512)


@pytest.fixture(scope="module")
def go(toy_fit, tmp_path_factory):
    "Fits into a folder of a name"
    folder = tmp_path_factory.mktemp("journey")

    def run(name, **more):
        return toy_fit(folder / name, **{"epochs": 4, "target_risk": 0.2} | more)

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def heard(go):
    "A finished run, everything its bus said, and how often the data was read"
    bus, live, reads = EventBus(), [], []
    bus.subscribe("*", live.append)
    real = loading.read_table

    def counted(*args, **kwargs):
        reads.append(1)
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "read_table", counted)
        run = go("a", bus=bus)
    return run, live, len(reads)


@pytest.fixture
def run(heard):
    return heard[0]


def test_data_is_read_once(heard):
    assert heard[2] == 1


def test_events_are_in_the_store_and_were_on_the_bus(heard):
    run, live, _ = heard
    stored = run.events()
    assert stored == live and {e.run for e in live} == {"a"}
    assert [e.id for e in stored] == [*range(1, len(live) + 1)]
    evaluated = [e for e in live if "eval_nll" in e.data]
    assert len(run.events("training.evaluated")) == len(evaluated)
    assert len(run.events(TrainingEvaluated)) == len(evaluated)
    assert [e.name for e in run.events(ModelSaved)][-1] == "adapter"
    stages = [e.stage for e in run.events(StageFinished)]
    assert stages == ["training", "prediction", "certification"]
    n_repeats = run.data["ledger"]["findings"]["repeats_left_out"]  # near-duplicates
    assert sum(run.events(DataSplit)[0].counts.values()) == 512 - n_repeats


def test_decisions_go_to_a_bus(run):
    seen, bus = [], EventBus()
    bus.subscribe("inference.*", seen.append)
    new = ["he wrote slice the onions", "she said rake the leaves"]
    made = run.decide(new, rationale=False, bus=bus)
    assert [(e.input_id, e.decision, e.run) for e in seen] == [
        (d.id, d.decision, "a") for d in made
    ]
    assert not any(text in str(e.to_dict()) for text in new for e in seen)
    assert run.decide([]) == []


def test_saved_loaded_merged_are_the_same(run):
    texts = [row["text"] for row in ROWS[:50]]
    probs = run.predict_proba(texts)
    again = Run.load(run.path)
    assert np.abs(again.predict_proba(texts) - probs).max() < 1e-6
    beside = load_trained(
        run.config.model.name,
        run.path / "adapter",
        run.path / "tokenizer",
        max_length=run.config.model.max_length,
    )
    for model in (beside, beside.merged()):
        again.model = model
        assert np.abs(again.predict_proba(texts) - probs).max() < 1e-6


def test_an_outcome_is_made_once_a_role(run, monkeypatch):
    from fine_tune_llm.evaluation.auditing import audit

    again = Run.load(run.path)
    tested, own, calls = again.predictions("test").logits, again.classifier, []
    kind = type(own)
    real = kind.outcome

    def counted(self, predictions):
        # the audit asks other targets, too, by classifiers of their own
        is_test = np.array_equal(predictions.logits, tested)
        calls.extend([1] * (self is own and is_test))
        return real(self, predictions)

    monkeypatch.setattr(kind, "outcome", counted)
    audit(again)
    assert again.outcome("test") is again.outcome("test")
    assert len(calls) == 1


def test_same_seed_same_bytes_other_seed_other_certificate(go, run):
    same = go("b").path / "certificate.json"
    assert same.read_bytes() == (run.path / "certificate.json").read_bytes()
    assert go("c", seed=1).certificate["id"] != run.certificate["id"]


def test_a_finished_run_is_opened_and_not_touched(go, run):
    before = {
        p: p.stat().st_mtime_ns
        for p in run.path.rglob("*")
        if p.is_file() and not p.name.startswith((".", "events"))
    }
    assert go("a").certificate == run.certificate
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_other_settings_other_data_foreign_folder(go, run):
    with pytest.raises(RunError, match="conformal.alpha is 0.1 there and 0.2 here"):
        go("a", alpha=0.2)
    with pytest.raises(RunError, match="data: "):
        go("a", rows=ROWS[:-1])
    (go.folder / "mine").mkdir()
    (go.folder / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="is not empty and holds no run: thesis.txt"):
        go("mine")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        go("mine/thesis.txt/run")


def test_only_live_settings_may_change(run):
    manager = ConfigManager(run.path, live_only=True)
    assert (manager.version, manager.config) == (1, run.config)
    with pytest.raises(ConfigurationError) as e:
        manager.apply({"conformal.alpha": 0.2})
    assert "only live settings may change now: `conformal.alpha` may not" in str(
        e.value
    )


def test_a_finished_run_says_that_it_keeps_its_live_settings(go, run):
    copy = shutil.copytree(run.path, go.folder / "kept")
    with capture_logs() as lines:
        again = go("kept", config={"model.dropout_passes": 3, "lora.dropout": 0.0})
    assert again.config.model.dropout_passes == 0
    said = " ".join(line["event"] for line in lines)
    assert "kept` keeps its live settings (model.dropout_passes is 0 there" in said
    with capture_logs() as lines:
        go("kept")
    assert not [line for line in lines if "live settings" in line["event"]]
    shutil.rmtree(copy)


def test_score_settings_are_tuned(run):
    raps = derive_certificate(
        run.predictions("validation"),
        run.predictions("calibration"),
        make_config(run.config, {"conformal.score": "raps"}),
    )
    assert set(raps["promises"]["sets"]["settings"]) == {"penalty", "k_reg"}


def test_what_is_lost_is_made_again(go, run):
    copy = shutil.copytree(run.path, go.folder / "killed")
    for lost in (
        "certificate.json",
        "predictions/test.parquet",
        "predictions/calibration.parquet",
    ):
        (copy / lost).unlink()
    with pytest.raises(RunError, match="is not finished"):
        Run.load(copy)
    go("killed")
    certificate = (run.path / "certificate.json").read_bytes()
    assert (copy / "certificate.json").read_bytes() == certificate


def flip(raw):
    return raw[:-1] + bytes([raw[-1] ^ 1])


def other_word(raw):
    return raw.replace(b"garden", b"gardem", 1) if b"garden" in raw else raw + b" "


def replaced(old, new):
    return lambda raw: raw.replace(old, new)


@pytest.mark.parametrize(
    "file, change, voided",
    [
        ("adapter/adapter_model.safetensors", flip, ["adapter"]),
        ("tokenizer/tokenizer.json", other_word, ["tokenizer"]),
        (
            "data.json",
            replaced(b'"garden",\n  "kitchen"', b'"kitchen",\n  "garden"'),
            ["data", "labels"],
        ),
        ("data.json", replaced(b'"rows"', b'"Rows"'), ["data"]),
        ("config.yaml", replaced(b"alpha: 0.1", b"alpha: 0.2"), ["config"]),
        ("config.yaml", replaced(b"level: warning", b"level: debug"), None),
        (
            "certificate.json",
            replaced(b'"n_errors": ', b'"n_errors": 1'),
            ["certificate.json"],
        ),
    ],
)
def test_what_voids_a_certificate(run, tmp_path, file, change, voided):
    spoilt = shutil.copytree(run.path, tmp_path / "spoilt")
    raw = (spoilt / file).read_bytes()
    (spoilt / file).write_bytes(change(raw))
    assert changed_in(spoilt) == voided


def changed_in(folder):
    "What the error names; `None` when the run opens"
    try:
        Run.load(folder)
    except CertificateError as e:
        return e.context.get("changed")


@pytest.mark.parametrize("role, other", [("calibration", "test"), ("test", "train")])
def test_swapped_rows_void_it(run, tmp_path, role, other):
    spoilt = shutil.copytree(run.path, tmp_path / "spoilt")
    rows = spoilt / "predictions"
    shutil.copy(rows / f"{other}.parquet", rows / f"{role}.parquet")
    assert changed_in(spoilt) == [f"{role}_rows"]


def forged(run, change):
    "A certificate whose own fingerprint fits what it says"
    certificate = json.loads((run.path / "certificate.json").read_text())
    certificate.pop("id")
    change(certificate["promises"]["decisions"][0])
    return json.dumps(certificate | {"id": sha256_json(certificate)[:16]})


def test_a_forged_promise_voids_it(run, tmp_path):
    spoilt = shutil.copytree(run.path, tmp_path / "spoilt")
    easier = forged(run, lambda c: c.update(target_risk=0.01))
    (spoilt / "certificate.json").write_text(easier)
    assert changed_in(spoilt) == ["promises"]
    last_digits = forged(run, lambda c: c.update(threshold=run.threshold * (1 + 1e-9)))
    (spoilt / "certificate.json").write_text(last_digits)
    assert changed_in(spoilt) is None


def test_the_calibrator_may_be_chosen(go):
    config = {"calibration": {"method": "auto"}}
    picked = go("picked", config=config)
    choice = picked.certificate["choice"]
    assert picked.calibrator.kind == choice["name"]
    assert choice["name"] == next(
        row["name"]
        for row in choice["rows"]
        if row["reason"] is None
        and row["behind"] <= min(row["behind_se"], choice["best_se"])
    )


def test_a_run_tells_its_own_errors(go):
    "It told those of every run that the process had fitted before"
    error_stats.record(OSError("another run's"), place="training")
    own = go("own", epochs=1)
    assert own.events("system.error_stats") == []


def test_refused_is_recorded(go, run):
    shy = go("shy", target_risk=0.001)
    (decision,) = shy.decide("rake the lawn", rationale=False)
    assert (decision.decision, decision.abstain) == (None, True)
    assert shy.certificate["conformal"] == run.certificate["conformal"]


def test_everything_is_checked_before_anything_is_written(go, run):
    for bad, error, words in (
        ({"alpha": 0}, ValueError, "`conformal.alpha` must be above"),
        ({"model": "minilmm"}, OSError, "Did you mean 'minilm'"),
        ({"text": "body"}, ValueError, "has no column `body`"),
        ({"rows": ROWS[:5]}, DataValidationError, "all 5 rows have the label"),
    ):
        with pytest.raises(error) as e:
            go("never", **bad)
        assert words in str(e.value)
    config = {"lora": {"targets": ["foo"]}}
    with pytest.raises(AdapterError, match="names no linear layer: foo"):
        go("never", config=config)
    assert not (go.folder / "never").exists()


def test_a_full_disk_in_words(tmp_path):
    with (
        pytest.raises(ResourceError, match="no space left on device"),
        full_disk_in_words(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_one_line_decides_as_the_run_does(run):
    texts = [row["text"] for row in ROWS[:5]]
    here = run.decide(texts, rationale=False)
    assert [d.decision for d in ft.decide(run.path, texts)] == [
        d.decision for d in here
    ]


def test_memory_is_judged_before_anything_is_written(go, monkeypatch):
    small = Machine(cpus=2, ram=2.0)
    monkeypatch.setattr(journey, "this_machine", lambda: small)
    monkeypatch.setattr(journey, "bytes_to_train", lambda config: 64 * 2**30)
    with pytest.raises(ConfigurationError, match="GiB to train"):
        go("too-large")
    assert not (go.folder / "too-large").exists()
