"The published form of audit.json: audits have it, and damage is found at its place"

import copy
import json

import pytest
from jsonschema import Draft202012Validator

from fine_tune_llm.core.errors import MissingDependencyError
from fine_tune_llm.evaluation import Audit, audit, audit_schema, check_evidence

from .made_evidence import full_evidence, open_evidence, predictions_evidence


def test_it_is_a_schema():
    Draft202012Validator.check_schema(audit_schema())


@pytest.mark.parametrize("made", [full_evidence, predictions_evidence, open_evidence])
def test_evidence_made_by_hand_has_its_form(made):
    evidence = made()
    for part in ("findings", "gates"):  # lists in any audit, if empty ones
        evidence[part] = evidence[part] if isinstance(evidence[part], list) else []
    assert check_evidence(evidence) == []


DAMAGE = {
    ("version",): (1, "version"),
    ("identity",): ("x", "identity"),
    ("identity", "kind"): ("tarot", "identity.kind"),
    ("identity", "date"): ("29 November", "identity.date"),
    ("performance",): (0.0, "performance"),
    ("performance", "accuracy"): (0.9, "performance.accuracy"),
    ("performance", "accuracy", "value"): ("0.9", "performance.accuracy"),
    ("performance", "accuracy", "level"): (95, "performance.accuracy.level"),
    ("performance", "confusion"): ([[1.5]], "performance.confusion.0.0"),
    ("coverage",): ({"evaluated": False}, "coverage"),
    ("findings", 0, "severity"): ("terrible", "findings.0.severity"),
    ("findings", 0, "code"): ("Not Stable!", "findings.0.code"),
    ("findings", 0, "message"): ("", "findings.0.message"),
    ("gates", 0, "status"): ("perhaps", "gates.0.status"),
    ("gates", 0, "bound"): (None, "gates.0.bound"),
    ("risk", "workload", "abstained", "n"): (-1, "risk.workload.abstained.n"),
}


@pytest.mark.parametrize("place", DAMAGE, ids=lambda place: ".".join(map(str, place)))
def test_damage_is_found_at_its_place(place):
    evidence = copy.deepcopy(full_evidence())
    part = evidence
    for key in place[:-1]:
        part = part[key]
    part[place[-1]], wanted = DAMAGE[place]
    problems = check_evidence(evidence)
    assert problems and any(one.startswith(wanted) for one in problems), problems


def test_a_part_that_is_missing_is_named():
    evidence = full_evidence()
    del evidence["fairness"]
    assert check_evidence(evidence) == ["audit.json: 'fairness' is a required property"]


def test_without_the_package_the_command_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jsonschema", None)
    with pytest.raises(
        MissingDependencyError, match=r"pip install 'fine_tune_llm\[sch"
    ):
        check_evidence(full_evidence())


def test_real_audits_have_its_form(toy_fit, tmp_path):
    run = toy_fit(tmp_path / "run", seed=0)
    for found in (audit(run), audit(run.predictions("test"), gates=["accuracy >= 0"])):
        assert check_evidence(found) == []
        assert check_evidence(json.loads(found.to_json())) == []
    assert isinstance(found, Audit)
