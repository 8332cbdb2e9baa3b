"Metadata of a run's data are valid by the judge of the format itself"

import json

import pytest

from fine_tune_llm.data import check_croissant
from fine_tune_llm.evaluation import croissant_of


def test_metadata_of_a_run_are_valid(toy_fit, tmp_path):
    pytest.importorskip("mlcroissant", reason="the extra croissant is not installed")
    run = toy_fit(tmp_path / "run", epochs=0, target_risk=0.2)
    found = {"code": "tiny_class", "severity": "high", "message": "Six rows of a class"}
    metadata = croissant_of(run, findings=[found])
    check_croissant(metadata)
    assert metadata["rai:dataLimitations"] == ["tiny_class: Six rows of a class"]
    assert json.dumps(metadata) == json.dumps(croissant_of(run, findings=[found]))
    named = {file["contentUrl"]: file["sha256"] for file in metadata["distribution"]}
    assert list(named)[0] == "predictions/train.parquet"
