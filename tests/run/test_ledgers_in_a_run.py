"The ways to deal, near-duplicates and a ledger of before, as settings of a fit"

import pytest

from fine_tune_llm.core.errors import (
    DataValidationError,
    IntegrityError,
    LeakageError,
)
from fine_tune_llm.data import ROLES, Ledger
from fine_tune_llm.evaluation.auditing import audit
from fine_tune_llm.evaluation.report import render_report
from fine_tune_llm.run.journey import fit_settings, shared_data
from fine_tune_llm.testing import toy_rows

DATA = {"train": 0.4, "validation": 0.1, "calibration": 0.3, "test": 0.2}


@pytest.fixture
def shared(tiny):
    "Rows and roles under some settings of section data, without training"

    def go(rows, test=None, **data):
        given = {"model": str(tiny / "bert"), "seed": 0}
        config = fit_settings({"data": DATA | data}, None, given)
        return shared_data(rows, test, config)

    return go


def roles_by_text(data, ledger):
    return {data.texts[row]: role for role in ROLES for row in ledger.roles[role]}


def test_settings_reach_the_deal(shared):
    rows = toy_rows(512)
    data, by_hash = shared(rows, split_by="hash")
    again, other = shared(rows[::-1], split_by="hash")
    assert roles_by_text(data, by_hash) == roles_by_text(again, other)
    _, plain = shared(rows)
    _, near = shared(rows, near_duplicates=0.7)
    _, none = shared(rows, near_duplicates=0)
    found = [one.findings["near_duplicate_texts"] for one in (none, plain, near)]
    assert found[0] == 0 < found[1] < found[2]
    rare = [*rows, *({"text": f"roof {i}", "label": "roof"} for i in range(9))]
    data, ledger = shared(rare, min_calibration=5)
    roof = data.labels == data.classes.index("roof")
    assert roof[ledger.roles["calibration"]].sum() == 5
    with pytest.raises(DataValidationError, match="one per role and 50 for calibr"):
        shared(rare, min_calibration=50)
    data, ledger = shared(rare, min_calibration=50, rare="merge:garden")
    assert data.classes == ("garden", "kitchen")


def test_by_time_and_by_column(shared):
    rows = [
        {**row, "when": f"2024-{1 + i // 50:02d}-11", "role": ROLES[i // 4 % 4]}
        for i, row in enumerate(toy_rows(400))
    ]
    data, ledger = shared(rows, split_by="time", time="when")
    newest = [data.times[ledger.roles[role]].max() for role in ROLES]
    assert newest == sorted(newest) and len(set(newest)) == 4
    data, ledger = shared(rows, split_by="column", split="role", near_duplicates=0)
    assert ledger.roles["test"].tolist() == [i for i in range(400) if i // 4 % 4 == 3]
    leaks = [*rows, {**rows[0], "role": "test"}]
    with pytest.raises(LeakageError, match="the same text stands in two roles once"):
        shared(leaks, split_by="column", split="role", near_duplicates=0)


def test_a_run_that_grows_from_another(toy_fit, shared, tmp_path):
    rows = toy_rows(512)
    first = toy_fit(tmp_path / "first", rows[:400])
    data, ledger = shared(rows[::-1], ledger=str(tmp_path / "first"))
    before = Ledger.load(tmp_path / "first").role_of_texts()
    after = ledger.role_of_texts()
    assert {text: after[text] for text in before} == before
    assert len(after) == len(set(ledger.hashes)) > len(before)
    ledger.save(tmp_path / "roles.json")
    config = {"data": DATA | {"ledger": str(tmp_path / "roles.json")}}
    second = toy_fit(tmp_path / "second", rows, config=config, start=first)
    assert second.data["ledger"]["roles"]["test"] == [
        h for h in second.data["ledger"]["roles"]["test"] if after[h] == "test"
    ]
    for missing in ("none", "first/adapter"):
        with pytest.raises(IntegrityError):
            shared(rows, ledger=str(tmp_path / missing))


def test_what_time_means_for_the_promise_is_told(toy_fit, tmp_path, capsys):
    rows = [
        {**row, "when": f"2024-01-{1 + i // 20:02d}"}
        for i, row in enumerate(toy_rows(512))
    ]
    test = [
        *rows[:40],
        {"text": "rake the lawn now", "label": "garden", "when": "2024-03-01"},
    ]
    data = DATA | {"split_by": "time", "time": "when"}
    run = toy_fit(tmp_path / "run", rows, test=test, config={"data": data})
    assert "not exchangeable" in run.data["ledger"]["caveat"]
    page = render_report(audit(run))
    assert "calibration and test rows are not exchangeable by design" in page
    assert "40 of 41 rows of the test file (98%) have a text of the data" in page
    assert run.data["ledger"]["split_by"] == "time"
    said = " ".join(capsys.readouterr().err.split())
    assert "calibration and test rows are not exchangeable by design" in said
    assert "40 of 41 rows of the test file (98%)" in said
