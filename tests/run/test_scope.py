"A run that rejects texts of no class: fitted, certified, opened, certified again"

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fine_tune_llm.core.errors import (
    CertificateError,
    ConfigurationError,
    FineTuneLLMError,
    LeakageError,
    PredictionError,
    RunError,
)
from fine_tune_llm.evaluation import audit
from fine_tune_llm.evaluation.scope import out_of_scope_of
from fine_tune_llm.run.directory import Run
from fine_tune_llm.run.export import export_run
from fine_tune_llm.run.journey import STAGES_OF_FIT

OTHER = [f"quarterly tax return number {i} for the harbour office" for i in range(12)]


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    out = tmp_path_factory.mktemp("scope") / "run"
    return toy_fit(out, config={"scope": {"score": "knn", "alpha": 0.1}})


def test_the_run_holds_what_the_score_needs(run):
    assert sorted(p.name for p in (run.path / "scope").iterdir()) == [
        "choice.json",
        "scope.safetensors",
    ]
    scope = run.certificate["scope"]
    assert scope["rule"]["score"] == "knn" and scope["refusal"] is None
    assert run.certificate["fingerprints"]["scope"]
    for role in ("validation", "calibration", "test"):
        assert set(run.predictions(role).scope) == {"knn"}
    with pytest.raises(ConfigurationError, match="of the train role"):
        run.predictions("train")


def test_decisions_are_certified_on_the_rows_below_the_threshold(run):
    rule = run.classifier.scope
    n = len(run.predictions("calibration"))
    assert rule.n == n and rule.n_rejected == n - rule.rank + 1
    (promise,) = run.certificate["promises"]["decisions"]
    assert promise["n"] == rule.rank - 1
    assert run._repr_markdown_().count("- Scope: ") == 3


def test_strange_texts_are_left_to_a_person_with_the_word_for_it(run):
    outcome = run.outcome("test")
    is_outside = outcome.strangeness >= run.classifier.scope.threshold
    assert (outcome.reasons[is_outside] == "out_of_scope").all()
    assert not outcome.kept[is_outside].any()
    texts = list(run.predictions("test").texts)
    again = [d.abstain_reason for d in run.decide(texts, rationale=False)]
    assert again == list(outcome.reasons)
    said = run.decide(OTHER, rationale=False)
    strange = [d for d in said if d.abstain_reason == "out_of_scope"]
    assert all("scope threshold" in d.abstain_note for d in strange)
    assert len(strange) >= 6


def test_another_reference_voids_the_certificate(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    file = copy / "scope" / "choice.json"
    file.write_text(file.read_text().replace("named", "guessed"))
    with pytest.raises(CertificateError, match="scope") as e:
        Run.load(copy)
    assert "scope/choice.json was changed" in str(e.value)
    shutil.rmtree(copy / "scope")
    with pytest.raises(CertificateError, match="scope"):
        Run.load(copy)


def test_other_promises_about_scope_need_no_training(run):
    strict = run.certify(config={"scope.alpha": 0.2})
    assert strict.classifier.scope.alpha == 0.2
    assert strict.classifier.scope.n_rejected > run.classifier.scope.n_rejected
    by_energy = run.certify(config={"scope.score": "energy"})
    assert by_energy.classifier.scope.score == "energy"
    assert by_energy.certificate["scope"]["choice"] is None
    off = run.certify(config={"scope.score": "none"})
    assert off.classifier.scope is None and off.certificate["scope"] is None
    with pytest.raises(PredictionError, match="relative_mahalanobis"):
        run.certify(config={"scope.score": "relative_mahalanobis"})


def test_a_killed_prediction_stage_goes_on(run, toy_fit, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "certificate.json").unlink()
    (copy / "predictions" / "test.parquet").unlink()
    again = toy_fit(copy, config={"scope": {"score": "knn", "alpha": 0.1}})
    assert again.certificate["id"] == run.certificate["id"]


def test_auto_chooses_and_says_by_what(toy_fit, tmp_path):
    run = toy_fit(tmp_path / "auto", config={"scope": {"score": "auto"}})
    choice = run.certificate["scope"]["choice"]
    assert choice["score"] == run.classifier.scope.score
    assert json.dumps(choice) and choice["why"]
    assert np.isfinite(run.outcome("test").strangeness).all()


def test_the_report_bounds_what_is_let_through(run):
    page = run.path / "report.html"
    audit(run, out_of_scope=OTHER).save(run.path)
    said = page.read_text()
    assert "of texts like these it lets through at most" in said
    assert "How well a score tells them apart" in said
    found = json.loads((run.path / "audit.json").read_text())
    assert found["scope"]["rejected"]["n"] == len(run.predictions("test"))
    n = found["out_of_scope"]["n"] - found["out_of_scope"]["rejected"]["k"]
    assert found["out_of_scope"]["bound"]["value"] > n / len(OTHER)
    audit(run).save(run.path)
    assert "no out-of-scope texts were given" in page.read_text()


def test_a_setting_names_texts_of_no_class(run, tmp_path):
    file = tmp_path / "others.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in OTHER))
    named = run.config.audit.model_copy(update={"out_of_scope": str(file)})
    assert audit(run, settings=named)["out_of_scope"]["n"] == len(OTHER)


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    file = tmp_path_factory.mktemp("outside") / "others.jsonl"
    lines = [json.dumps({"text": text}) for text in OTHER]
    file.write_text("\n".join([*lines, json.dumps({"text": None})]))
    return file


def test_texts_of_no_class_choose_the_score_and_are_not_judged_by(
    toy_fit, tmp_path, outside
):
    given = {"score": "auto", "alpha": 0.1, "outside": str(outside)}
    run = toy_fit(tmp_path / "run", config={"scope": given})
    choice = run.certificate["scope"]["choice"]
    table = choice["table"]
    assert "given for it" in choice["why"] and len(table) == 5
    best = max(found["auroc"] for found in table.values())
    assert table[choice["score"]]["auroc"] == best
    assert run.classifier.scope.score == choice["score"]
    found = out_of_scope_of(run, OTHER)
    assert found["evaluated"] is False and "chose" in found["reason"]
    more = [*OTHER, "a cathedral organ", "the tide tables"]
    assert out_of_scope_of(run, more)["n"] == 2
    assert out_of_scope_of(run, [t.upper() for t in OTHER])["evaluated"] is False


def test_other_texts_than_a_run_was_begun_with_are_refused(
    toy_fit, tmp_path, monkeypatch
):
    file = tmp_path / "others.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in OTHER))
    given = {"scope": {"score": "auto", "outside": str(file)}}
    monkeypatch.setitem(STAGES_OF_FIT, "prediction", lambda job: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        toy_fit(tmp_path / "run", config=given)
    monkeypatch.undo()
    file.write_text(file.read_text() + '\n{"text": "one more"}')
    with pytest.raises(RunError, match="outside"):
        toy_fit(tmp_path / "run", config=given)


@pytest.mark.parametrize(
    "score, text, why",
    [
        ("knn", "a harbour", "`scope.score` is knn"),
        ("auto", "", "no row of .* has a text"),
        ("auto", "{row}", "stands in the data as"),
    ],
)
def test_texts_that_cannot_choose_are_refused_first(
    toy_fit, tiny, tmp_path, score, text, why
):
    row = json.loads((tiny / "rows.jsonl").read_text().splitlines()[3])["text"]
    file = tmp_path / "others.jsonl"
    file.write_text(json.dumps({"text": text.format(row=f" {row.upper()} ")}))
    config = {"scope": {"score": score, "outside": str(file)}}
    with pytest.raises(FineTuneLLMError, match=why):
        toy_fit(tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


def test_where_the_texts_lie_does_not_matter(toy_fit, tmp_path, outside, monkeypatch):
    monkeypatch.chdir(outside.parent)
    given = {"score": "auto", "outside": outside.name}
    run = toy_fit(tmp_path / "run", config={"scope": given})
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(outside.read_bytes())
    given = {"scope": given | {"outside": str(moved)}}
    again = toy_fit(tmp_path / "run", config=given)
    assert again.certificate["id"] == run.certificate["id"]
    assert Path(run.config.scope.outside) == outside


def test_the_file_may_be_written_in_another_way_than_the_data(toy_fit, tmp_path):
    file = tmp_path / "others.csv"
    file.write_text("text,why\n" + "".join(f"{text},none\n" for text in OTHER))
    config = {
        "scope": {"score": "auto", "outside": str(file)},
        "data": {"separator": "\t", "encoding": "latin-1"},
    }
    assert (
        "given for it"
        in toy_fit(tmp_path / "run", config=config).certificate["scope"]["choice"][
            "why"
        ]
    )


def test_nothing_is_chosen_anew_by_another_promise(toy_fit, tmp_path, outside):
    given = {"score": "auto", "alpha": 0.1, "outside": str(outside)}
    run = toy_fit(tmp_path / "run", config={"scope": given})
    with pytest.raises(ConfigurationError, match="nothing is chosen anew"):
        run.certify(config={"scope.outside": "nowhere.jsonl"})
    assert run.certify(config={"scope.score": "energy"}).config.scope.outside == ""
    rows = [{"text": text, "label": "garden"} for text in OTHER]
    with pytest.raises(LeakageError, match="12 texts that are none of the classes"):
        run.certify(alpha=0.2, calibration=rows)


@pytest.mark.parametrize("score", ["knn", "energy"])
def test_a_run_that_rejects_can_be_exported(toy_fit, tmp_path, score):
    run = toy_fit(tmp_path / "run", config={"scope": {"score": score, "alpha": 0.1}})
    graph = export_run(run, tmp_path / "graph")
    assert graph.certificate["basis"]["asked"]["equivalent"] == "yes"
    said = [one.abstain_reason for one in graph.decide(OTHER, rationale=False)]
    assert said == [one.abstain_reason for one in run.decide(OTHER, rationale=False)]
