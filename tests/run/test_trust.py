"What a certificate is against: every key, every file, every moment it could change"

import json
import pickle
import shutil
from functools import partial

import numpy as np
import pytest

import fine_tune_llm as ft
from fine_tune_llm.core.errors import (
    CertificateError,
    ConfigurationError,
    FineTuneLLMError,
    IntegrityError,
    RunError,
)
from fine_tune_llm.core.files import sha256_json
from fine_tune_llm.run import directory, journey
from fine_tune_llm.run.directory import Run
from fine_tune_llm.testing import toy_rows

ROWS = toy_rows(256)
TEXTS = [row["text"] for row in ROWS[:4]]


@pytest.fixture(scope="module")
def go(toy_fit):
    return partial(toy_fit, rows=ROWS)


@pytest.fixture(scope="module")
def finished(go, tmp_path_factory):
    return go(tmp_path_factory.mktemp("trust") / "run").path


@pytest.fixture(scope="module")
def other(go, tmp_path_factory):
    return go(tmp_path_factory.mktemp("trust") / "other", seed=1).path


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def voided(folder):
    "The error of opening a run; `None` when it opens"
    try:
        Run.load(folder)
    except CertificateError as e:
        assert str(folder) in str(e)
        return e
    return None


# Every key


def places(value, path=()):
    "Every key and every leaf of a nested JSON value"
    if path:
        yield path
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list):
        for i in range(len(value)):
            yield from places(value[i], (*path, i))


def parent_of(value, path):
    for name in path[:-1]:
        value = value[name]
    return value


def otherwise(value):
    "Another value of about the same kind"
    if isinstance(value, bool) or value is None:
        return 1 if value is None else not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return "0" * 64 if len(value) == 64 else value + "x"
    return []


def deleted(certificate, path):
    del parent_of(certificate, path)[path[-1]]


def changed(certificate, path):
    parent = parent_of(certificate, path)
    parent[path[-1]] = otherwise(parent[path[-1]])


def added(certificate, path):
    place = parent_of(certificate, path)[path[-1]]
    if isinstance(place, dict):
        place["added"] = 1


# What is told to a reader and decides nothing: only the id protects it
TOLD = ("library", "choice")


@pytest.mark.parametrize("change", [deleted, changed, added])
def test_every_key_with_the_id_made_anew(copy, change):
    file = copy / "certificate.json"
    whole = json.loads(file.read_text())
    tried, accepted = 0, []
    for path in places(whole):
        spoilt = json.loads(file.read_text()) if tried == 0 else pickled(whole)
        change(spoilt, path)
        if spoilt == whole or path[0] in (*TOLD, "id"):
            continue
        spoilt["id"] = sha256_json({k: v for k, v in spoilt.items() if k != "id"})[:16]
        file.write_text(json.dumps(spoilt))
        tried += 1
        if voided(copy) is None:
            accepted.append(path)
    assert not accepted
    assert tried > 30


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def test_every_top_key_must_be_there(copy):
    file = copy / "certificate.json"
    whole = json.loads(file.read_text())
    for name in whole:
        file.write_text(json.dumps({k: v for k, v in whole.items() if k != name}))
        assert voided(copy), name


# Every file


def flip(at):
    def change(raw):
        place = int(at * (len(raw) - 1))
        return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]

    return change


SPOILT = {
    "lost": None,
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[: len(raw) // 2],
    "longer": lambda raw: raw + b"\0",
    "first": flip(0),
    "middle": flip(0.5),
    "last": flip(1),
}
NOT_CERTIFIED = ("events.db", "report.html", "audit.json", "model_card.md")


def test_every_file_that_counts(copy):
    files = [
        file
        for file in copy.rglob("*")
        if file.is_file()
        and not file.name.startswith(".")
        and file.parent.name != "history"
        and not file.name.startswith(NOT_CERTIFIED)
    ]
    assert len(files) == 15
    for file in files:
        whole = file.read_bytes()
        for how, change in SPOILT.items():
            if change is None:
                file.unlink()
            else:
                file.write_bytes(change(whole))
            missed = opens_unchanged(copy, file)
            assert not missed, (file, how)
            file.write_bytes(whole)
    assert voided(copy) is None


def opens_unchanged(copy, file):
    "Does it open although it says something else? Or is the file not named?"
    name = file.relative_to(copy).as_posix()
    try:
        run = Run.load(copy)
    except RunError:
        return name not in ("config.yaml", "certificate.json")
    except CertificateError as e:
        in_folder = "/" in name
        return in_folder and name not in str(e)
    # a byte of white space, or a live setting
    before = json.loads(json.dumps(run.certificate))
    return name not in ("config.yaml",) or run.certificate != before


@pytest.mark.parametrize(
    "junk",
    [
        ".DS_Store",
        "adapter/.DS_Store",
        "adapter/._backend.json",
        "tokenizer/Thumbs.db",
        "tokenizer/.ipynb_checkpoints/tokenizer-checkpoint.json",
        "tokenizer/desktop.ini",
        "predictions/.DS_Store",
        "predictions/notes.txt",
        "notes.txt",
    ],
)
def test_what_is_not_ours_and_cannot_matter(copy, junk):
    (copy / junk).parent.mkdir(exist_ok=True)
    (copy / junk).write_bytes(b"junk")
    run = Run.load(copy)
    assert len(run.decide(TEXTS, rationale=False)) == 4


@pytest.mark.parametrize(
    "extra",
    [
        "adapter/adapter_model.bin",
        "tokenizer/added_tokens.json",
        "tokenizer/chat_template.jinja",
        "tokenizer/code.py",
    ],
)
def test_what_a_loader_would_read_matters(copy, extra):
    (copy / extra).write_bytes(b"{}")
    error = voided(copy)
    assert f"{extra} was not written by this run" in str(error)


def test_converted_line_endings_are_named(copy):
    text_files = [f for f in copy.rglob("*") if f.suffix in (".json", ".yaml")]
    for file in text_files:
        raw = file.read_bytes().replace(b"\r\n", b"\n")
        file.write_bytes(raw.replace(b"\n", b"\r\n"))
    error = voided(copy)
    assert set(error.context["changed"]) <= {"adapter", "tokenizer"}
    assert "tokenizer/tokenizer.json has other line endings" in str(error)


# Garbage

GARBAGE = {
    "nan": b'{"version": 1, "classes": NaN}',
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "bytes": b"\xff\xfe\x00" * 50,
    "null": b"null",
    "list": b"[1, 2]",
    "text": b'"certificate"',
    "empty": b"",
    "huge number": b'{"version": 1e999}',
}


@pytest.mark.parametrize("how", GARBAGE)
@pytest.mark.parametrize("file", ["certificate.json", "data.json", "stages.json"])
def test_garbage_is_void_and_exit_code_3(copy, file, how):
    (copy / file).write_bytes(GARBAGE[how])
    assert voided(copy)


def test_garbage_in_the_terminal(copy, ftllm):
    (copy / "data.json").write_bytes(b"\xff")
    texts = copy / "texts.jsonl"
    texts.write_text('{"text": "rake the leaves"}\n')
    said = ftllm("decide", copy, texts, cwd=copy)
    assert said.returncode == 3 and "is void" in " ".join(said.stderr.split())


@pytest.mark.parametrize(
    "path, value",
    [
        (("promises", "sets", "n"), float("nan")),
        (("promises", "sets", "cells"), {}),
        (("fingerprints",), []),
        (("fingerprints", "adapter"), {"a": [1]}),
        (("classes",), None),
        (("conformal",), 3),
        (("calibrator", "kind"), "no such"),
        (("selective",), "x"),
        (("version",), 2),
        (("files",), [1]),
    ],
)
def test_wrong_kinds_inside_a_certificate(copy, path, value):
    file = copy / "certificate.json"
    certificate = json.loads(file.read_text())
    parent_of(certificate, path)[path[-1]] = value
    file.write_text(json.dumps(certificate))
    assert voided(copy)


# Later than it was verified

SWAPPED = [
    "adapter/adapter_model.safetensors",
    "adapter/backend.json",
    "tokenizer/tokenizer.json",
    "predictions/calibration.parquet",
]


@pytest.mark.parametrize("file", SWAPPED)
def test_load_swap_decide(copy, other, file):
    run = Run.load(copy)
    swap(copy, other, file)
    with pytest.raises(CertificateError, match="void") as e:
        run.decide(TEXTS, rationale=False)
    assert file in str(e.value)


def swap(copy, other, file):
    "The same file of another run, or other bytes where both are the same"
    mine, theirs = (copy / file).read_bytes(), (other / file).read_bytes()
    (copy / file).write_bytes(theirs if theirs != mine else mine + b" ")


def test_swapped_while_it_is_read(copy, other, monkeypatch):
    run = Run.load(copy)
    real = directory.load_trained

    def swapped(*args, **kwargs):
        swap(copy, other, "adapter/adapter_model.safetensors")
        return real(*args, **kwargs)

    monkeypatch.setattr(directory, "load_trained", swapped)
    with pytest.raises(CertificateError, match="adapter_model.safetensors was changed"):
        run.decide(TEXTS, rationale=False)


def test_load_swap_base_decide(go, tiny, tmp_path):
    base = shutil.copytree(tiny / "bert", tmp_path / "base")
    path = go(tmp_path / "run", model=str(base)).path
    run = Run.load(path)
    raw = bytearray((base / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (base / "model.safetensors").write_bytes(raw)
    with pytest.raises(CertificateError, match="made for another base model"):
        run.decide(TEXTS, rationale=False)
    error = voided(path)
    assert error.context["changed"] == ["base_model"]
    shutil.rmtree(base)
    assert "unknown model" in str(voided(path))


@pytest.mark.parametrize("role", ["train", "validation", "calibration", "test"])
def test_load_swap_predictions(copy, role):
    run = Run.load(copy)
    rows = copy / "predictions"
    shutil.copy(
        rows / ("test.parquet" if role != "test" else "train.parquet"),
        rows / f"{role}.parquet",
    )
    with pytest.raises(CertificateError, match=f"predictions/{role}.parquet"):
        run.rows(role)


def test_a_pickled_run_is_verified_where_it_is_opened(copy, other):
    run = Run.load(copy, device="cpu")
    assert len(run.decide(TEXTS, rationale=False)) == 4
    raw = pickle.dumps(run)
    assert len(raw) < 1000
    again = pickle.loads(raw)
    assert again.certificate == run.certificate and again.device == "cpu"
    swap(copy, other, "adapter/adapter_model.safetensors")
    with pytest.raises(CertificateError, match="adapter_model.safetensors"):
        pickle.loads(raw)


def test_a_model_that_speaks_otherwise_is_refused(copy, monkeypatch):
    "No file differs, but the network is not what it was"
    import torch

    real = directory.load_trained

    def shaken(*args, **kwargs):
        model = real(*args, **kwargs)
        with torch.no_grad():
            model.net.head.weight.neg_()
        return model

    monkeypatch.setattr(directory, "load_trained", shaken)
    with pytest.raises(CertificateError, match="does not say what it said"):
        Run.load(copy).decide(TEXTS, rationale=False)


def test_devices(copy):
    with pytest.raises(ConfigurationError, match="`device` must be"):
        Run.load(copy, device="gpu")
    decided = ft.decide(copy, TEXTS, device="cpu")
    assert len(decided) == 4
    with pytest.raises(FineTuneLLMError, match="cuda:99"):
        ft.decide(copy, TEXTS, device="cuda:99")


# Between the stages


@pytest.fixture(scope="module")
def halves(go, tmp_path_factory):
    "Runs that were killed before a stage"

    def killed(job):
        raise KeyboardInterrupt

    folder, made = tmp_path_factory.mktemp("halves"), {}
    for stage in ("prediction", "certification"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(journey.STAGES_OF_FIT, stage, killed)
            with pytest.raises(KeyboardInterrupt):
                go(folder / stage)
        made[stage] = folder / stage
    return made


@pytest.fixture
def stopped(halves, tmp_path):
    return lambda stage: shutil.copytree(halves[stage], tmp_path / "unfinished")


def test_stopped_and_resumed_is_the_same(stopped, go, finished):
    for stage in ("prediction", "certification"):
        folder = stopped(stage)
        certificate = go(folder).path / "certificate.json"
        assert certificate.read_bytes() == (finished / "certificate.json").read_bytes()
        shutil.rmtree(folder)


def refused(go, folder, name):
    with pytest.raises(IntegrityError) as e:
        go(folder)
    assert name in str(e.value)
    assert not (folder / "certificate.json").exists()


@pytest.mark.parametrize("stage", ["prediction", "certification"])
@pytest.mark.parametrize("file", SWAPPED[:3])
def test_a_foreign_adapter_between_stages(stopped, go, other, stage, file):
    folder = stopped(stage)
    swap(folder, other, file)
    refused(go, folder, file)


def test_foreign_predictions_between_stages(stopped, go, other):
    folder = stopped("certification")
    for role in ("train", "validation", "calibration", "test"):
        file = folder / "predictions" / f"{role}.parquet"
        whole = file.read_bytes()
        shutil.copy(other / "predictions" / f"{role}.parquet", file)
        refused(go, folder, f"predictions/{role}.parquet was changed")
        file.write_bytes(whole)


def test_inverted_labels_between_stages(stopped, go):
    from fine_tune_llm.predictions import Predictions

    folder = stopped("certification")
    file = folder / "predictions" / "calibration.parquet"
    said = Predictions.load(file)
    Predictions(
        logits=said.logits,
        labels=1 - said.labels,
        classes=said.classes,
        ids=said.ids,
        texts=said.texts,
    ).save(file)
    refused(go, folder, "predictions/calibration.parquet was changed")


def test_swapped_roles_between_stages(stopped, go):
    rows = stopped("certification") / "predictions"
    (rows / "test.parquet").rename(rows / "x")
    (rows / "calibration.parquet").rename(rows / "test.parquet")
    (rows / "x").rename(rows / "calibration.parquet")
    refused(go, rows.parent, "predictions/test.parquet was changed")


def test_what_is_lost_between_stages_is_made_again(stopped, go, finished):
    for lost in ("adapter", "tokenizer", "stages.json", "predictions"):
        folder = stopped("certification")
        file = folder / lost
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        certificate = go(folder).path / "certificate.json"
        assert certificate.read_bytes() == (finished / "certificate.json").read_bytes()
        shutil.rmtree(folder)


def test_another_base_between_stages(tiny, tmp_path, monkeypatch, go):
    base = shutil.copytree(tiny / "bert", tmp_path / "base")

    def again():
        go(tmp_path / "run", model=str(base))

    def killed(job):
        raise KeyboardInterrupt

    real = journey.predict_stage
    monkeypatch.setitem(journey.STAGES_OF_FIT, "prediction", killed)
    with pytest.raises(KeyboardInterrupt):
        again()
    monkeypatch.setitem(journey.STAGES_OF_FIT, "prediction", real)
    raw = bytearray((base / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (base / "model.safetensors").write_bytes(raw)
    with pytest.raises(IntegrityError, match="begun from another base_model"):
        again()


@pytest.mark.parametrize("how", ["nan", "deep", "list", "empty"])
def test_a_broken_record_of_stages(stopped, go, how):
    folder = stopped("certification")
    (folder / "stages.json").write_bytes(GARBAGE[how])
    refused(go, folder, "stages.json")


def test_decisions_of_a_run_that_is_as_it_was(copy):
    run = Run.load(copy)
    stored = run.predictions("calibration")
    texts = [str(text) for text in stored.texts]
    assert np.abs(run.model.logits(texts) - stored.logits).max() < 1e-5


def test_a_run_stays_where_it_was_when_the_process_moves(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(copy.parent)
    run = Run.load(copy.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.decide(TEXTS, rationale=False)
