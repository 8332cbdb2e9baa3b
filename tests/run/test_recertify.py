"Another promise for a finished run: what it costs, what it is worth, what it refuses"

import json
import shutil
import threading

import numpy as np
import pytest

from fine_tune_llm.core.errors import (
    CertificateError,
    ConfigurationError,
    DataValidationError,
    IntegrityError,
    LeakageError,
    RunError,
)
from fine_tune_llm.evaluation import audit
from fine_tune_llm.run.directory import Run
from fine_tune_llm.run.recertify import FAMILY
from fine_tune_llm.stats.selective_classifier import SelectiveClassifier
from fine_tune_llm.testing import synthetic_problem, toy_rows

ROWS = toy_rows(512)


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recertify")
    return toy_fit(folder / "run", ROWS[:400], epochs=4, target_risk=0.3)


def test_another_target_from_stored_predictions(run):
    before = (run.path / "certificate.json").read_bytes()
    made = run.certify(target_risk=0.2, alpha=0.2)
    assert made.path.parent == run.path / "certificates"
    assert made.config.risk.target_risk == 0.2 and made.conformal.alphas_ == (0.2,)
    assert made.certificate["basis"]["how"] == "after"
    assert "chosen after the calibration rows" in made._repr_markdown_()
    codes = [found.code for found in audit(made).findings]
    assert "promise_chosen_after_looking" in codes
    assert (run.path / "certificate.json").read_bytes() == before
    assert run.certify(target_risk=0.2, alpha=0.2).certificate == made.certificate
    assert Run.load(run.path).certificate == run.certificate
    text = "she said rake the leaves off the lawn"
    assert made.decide(text)[0].certificate == made.certificate["id"]


def test_the_same_as_a_fit_for_that_target(run, toy_fit, tmp_path):
    fitted = toy_fit(tmp_path / "again", ROWS[:400], epochs=4, target_risk=0.2)
    made = run.certify(target_risk=0.2)
    assert made.certificate["promises"] == fitted.certificate["promises"]


def test_a_family_shares_delta(run):
    made = run.certify(target_risk=0.2, family=True)
    assert made.config.risk.delta == pytest.approx(0.1 / len(FAMILY))
    codes = [found.code for found in audit(made).findings]
    assert "promise_chosen_after_looking" not in codes
    with pytest.raises(ConfigurationError, match="none of the family"):
        run.certify(target_risk=0.123, family=True)


def test_fresh_rows_make_a_promise_exact(run):
    made = run.certify(target_risk=0.2, calibration=ROWS[400:])
    assert made.certificate["basis"]["how"] == "fresh"
    assert len(made.predictions("calibration")) == 112
    assert len(run.predictions("calibration")) == len(
        Run.load(run.path).predictions("calibration")
    )
    hashes = made.data["ledger"]["roles"]["calibration"]
    others = {h for role in run.data["ledger"]["roles"].values() for h in role}
    assert not others & set(hashes)


def test_rows_that_were_seen_are_refused(run):
    with pytest.raises(LeakageError, match="texts that are in the"):
        run.certify(target_risk=0.2, calibration=ROWS[:300])
    with pytest.raises(DataValidationError, match="row 112 has the label .attic."):
        rows = [*ROWS[400:], {"text": "dust", "label": "attic"}]
        run.certify(target_risk=0.2, calibration=rows)
    with pytest.raises(ConfigurationError, match="got training.epochs"):
        run.certify(config={"training.epochs": 5})
    assert not [p for p in (run.path / "certificates").iterdir() if ".tmp" in p.name]


def test_tampering_with_the_new_certificate_is_found(run):
    made = run.certify(target_risk=0.25)
    file = made.path / "certificate.json"
    certificate = json.loads(file.read_text())
    certificate["basis"] = {"how": "before", "from": None, "asked": {}}
    file.unlink()
    file.write_text(json.dumps(certificate))
    with pytest.raises(CertificateError, match="void"):
        Run.load(made.path)


def test_what_looks_like_a_row_was_seen(run):
    disguised = [row | {"text": row["text"].replace("a", "\u0430")} for row in ROWS[:9]]
    with pytest.raises(LeakageError, match="texts that are in the"):
        run.certify(target_risk=0.2, calibration=[*ROWS[400:], *disguised])


def test_several_at_once_make_one(run):
    made, trouble = [], []

    def certify():
        try:
            made.append(run.certify(target_risk=0.22).certificate["id"])
        except Exception as e:
            trouble.append(e)

    threads = [threading.Thread(target=certify) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble and len(made) == 4 and len(set(made)) == 1


def test_the_command(run, ftllm, tmp_path):
    said = ftllm("certify", run.path, "--target-risk", 0.2, cwd=tmp_path)
    assert said.stdout.startswith("WARNING: This promise was chosen after")
    family = ftllm("certify", run.path, "--target-risk", 0.2, "--family", cwd=tmp_path)
    assert "WARNING: This promise was chosen" not in family.stdout
    wrong = ftllm("certify", run.path, "--set", "training.epochs=9", cwd=tmp_path)
    assert wrong.returncode == 2 and "training.epochs" in wrong.stderr


def chosen_risk(problem, half, delta):
    "The smallest target that decides two in three, certified at delta; its true risk"
    probs = np.exp(problem.logits - problem.logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    for target in FAMILY:
        try:
            fitted = SelectiveClassifier(target, delta, seed=0).fit(
                probs[:half], problem.labels[:half]
            )
        except CertificateError:
            continue
        decided = fitted.decide(probs[half:])
        kept = decided >= 0
        if kept.mean() > 0.6:
            rows = np.flatnonzero(kept)
            right = problem.true_probs[half:][rows, decided[rows]]
            return target, 1 - right.mean()
    return None


def test_a_target_picked_from_the_family_keeps_its_word():
    fails = n = 0
    for seed in range(60):
        problem = synthetic_problem(6300, 3, seed=seed, spread=1.5)
        found = chosen_risk(problem, 300, 0.1 / len(FAMILY))
        if found:
            n += 1
            fails += found[1] > found[0]
    assert n > 30 and fails / n <= 0.1 + 4 * (0.1 * 0.9 / n) ** 0.5  # 4 sigma


def test_rows_are_fresh_only_once(run):
    rows = [dict(row, text=f"{row['text']} indeed") for row in ROWS[:80]]
    first = run.certify(target_risk=0.21, calibration=rows)
    again = run.certify(target_risk=0.21, calibration=rows)
    assert again.certificate == first.certificate  # the same promise, no other one
    with pytest.raises(LeakageError, match="fresh only once"):
        run.certify(target_risk=0.22, calibration=rows)
    old = run.predictions("calibration")
    looked_at = [
        {"text": text, "label": name} for text, name in zip(old.texts, old.label_names)
    ]
    with pytest.raises(LeakageError, match="fresh only once"):
        first.certify(target_risk=0.22, calibration=looked_at)


def test_a_moved_certificate_still_knows_what_was_looked_at(run, tmp_path):
    rows = [dict(row, text=f"{row['text']} truly") for row in ROWS[:80]]
    made = run.certify(target_risk=0.21, calibration=rows)
    moved = Run.load(shutil.copytree(made.path, tmp_path / "moved"))
    old = run.predictions("calibration")
    looked_at = [
        {"text": text, "label": name} for text, name in zip(old.texts, old.label_names)
    ]
    with pytest.raises(LeakageError, match="fresh only once"):
        moved.certify(target_risk=0.22, calibration=looked_at)


@pytest.mark.parametrize(
    "other",
    [
        {"risk.confidence": "margin"},
        {"conformal.score": "aps"},
        {"risk.delta": 0.4},
        {"conformal": {"more_alphas": [0.3]}},
    ],
)
def test_the_family_is_of_targets_alone(run, other):
    with pytest.raises(ConfigurationError, match="`family` is of targets alone"):
        run.certify(target_risk=0.3, family=True, config=other)


def test_named_arguments_win_over_settings(run):
    for config in (
        {"alpha": 0.3},
        {"conformal.alpha": 0.3},
        {"conformal": {"alpha": 0.3}},
    ):
        assert run.certify(alpha=0.23, config=config).config.conformal.alpha == 0.23
    with pytest.raises(ConfigurationError, match="`config` must be settings by name"):
        run.certify(alpha=0.2, config=5)


def test_events_that_are_lost_or_damaged(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("certificates"))
    opened = Run.load(folder)
    (folder / "events.db").unlink()
    made = opened.certify(target_risk=0.2)
    assert not (folder / "events.db").exists() and made.events() == []
    (folder / "events.db").write_bytes(b"garbage" * 100)
    with pytest.raises(IntegrityError, match="events.db"):
        opened.certify(target_risk=0.25)
    shutil.rmtree(folder / "certificates")
    (folder / "certificates").write_text("a file")
    with pytest.raises(RunError, match="certificates"):
        opened.certify(target_risk=0.2)


def test_a_certificate_that_was_deleted_is_made_again(run):
    made = run.certify(target_risk=0.24)
    (made.path / "certificate.json").unlink()
    assert run.certify(target_risk=0.24).certificate == made.certificate


def test_a_run_that_changed_since_it_was_opened_is_void(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("certificates"))
    opened = Run.load(folder)
    (folder / "adapter" / "more.json").write_text("{}")
    with pytest.raises(CertificateError, match="adapter/more.json"):
        opened.certify(target_risk=0.2)
