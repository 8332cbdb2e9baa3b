"""Every file of a run, nearly right: success or an error of ours, and soon

`benchmarks/fuzzing` does the same with twenty times as many.
"""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from mutate import ALONE, is_right, mutations, outcome, readers  # noqa: E402

HOW_MANY = {
    "settings.toml": 300,
    "settings.json": 100,
    "rows.jsonl": 75,
    "rows.csv": 75,
    "rows.tsv": 75,
    "rows.json": 75,
    "config.yaml": 400,
    "certificate.json": 300,
    "data.json": 200,
    "history/0001.json": 300,
    "events.db": 400,
    "predictions/test.parquet": 400,
    "adapter/adapter_config.json": 60,
    "adapter/backend.json": 60,
    "adapter/adapter_model.safetensors": 60,
    "adapter/head.safetensors": 30,
    "tokenizer/tokenizer.json": 60,
    "tokenizer/tokenizer_config.json": 60,
}


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("mutated") / "run", target_risk=0.45).path


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.mark.parametrize("name", HOW_MANY)
def test_files_of_a_run(copy, name):
    read, is_json, codes = readers()[name]
    file = copy / name
    if name in ALONE:
        file.write_bytes(ALONE[name])
    raw = file.read_bytes()
    assert outcome(lambda: read(copy)) is None
    for i, made in enumerate(mutations(raw, HOW_MANY[name], 0, is_json=is_json)):
        file.write_bytes(made)
        error = outcome(lambda: read(copy))
        assert is_right(error, codes), f"mutation {i}: {error!r}"[:600]
