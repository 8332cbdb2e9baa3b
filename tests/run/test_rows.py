"Rows on their way through the journey: names, persons, conflicts, names of files"

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fine_tune_llm.core.errors import DataValidationError, RunError, SchemaError
from fine_tune_llm.data.ledger import ROLES
from fine_tune_llm.run.directory import Run
from fine_tune_llm.testing import toy_rows

CASES = Path(__file__).parent.parent / "cases"
RISK = {"target_risk": 0.3, "miss": {"1": 2.0}, "target_cost": 0.6}
CODES = {"garden": "1", "kitchen": "01"}  # the second class of the name 1 is 01


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def rows():
    "Labels named by numbers, three rows a person, 40 texts under both labels"
    made = [
        {**row, "label": CODES[row["label"]], "who": i // 3, "id": i}
        for i, row in enumerate(toy_rows(480))
    ]
    other = {"1": "01", "01": "1"}
    again = [
        {**row, "label": other[row["label"]], "id": f"again {row['id']}"}
        for row in made[:40]
    ]
    return [*made, *again]


@pytest.fixture(scope="module")
def go(toy_fit, tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    (folder / "rows.jsonl").write_text(_lines(rows))

    def run(name, data=None, **more):
        more["config"] = {"risk": RISK} | more.get("config", {})
        return toy_fit(folder / name, data or folder / "rows.jsonl", **more)

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def run(go):
    return go("people", cluster="who")


def test_a_fit_needs_no_seed(run):
    assert run.config.seed == 0


def test_a_person_has_one_role_and_counts_once_outside_training(run):
    people = {role: run.rows(role).clusters for role in ROLES}
    seen = [set(names) for names in people.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 160
    for role in ROLES[1:]:
        assert len(set(people[role])) == len(people[role])
    assert len(people["train"]) > len(set(people["train"]))
    assert run.data["ledger"]["findings"]["texts_with_several_labels"] > 0


def test_classes_that_are_numbers_keep_their_rows(run, rows):
    "Predictions hold the label that each row has, by name"
    assert run.classes == ("01", "1")
    label_of = {str(row["id"]): row["label"] for row in rows}
    for role in ROLES:
        rows = run.rows(role)
        assert rows.label_names.tolist() == [label_of[name] for name in rows.ids]
    again = Run.load(run.path).outcome("test")
    assert set(again.decided_names) <= {"01", "1", None}


def test_the_promise_says_that_one_row_of_each_person_counts(run):
    assert "one row drawn of each `who`" in run._repr_markdown_()


def test_the_report_is_written_by_name(run):
    from fine_tune_llm.evaluation import audit

    page = audit(run).save(run.path)["report.html"].read_text(encoding="utf-8")
    assert "who" in page


def test_the_same_bytes_under_another_name_resume(go, run, rows):
    other = go.folder / "renamed.jsonl"
    other.write_text(_lines(rows))
    assert go("people", other, cluster="who").certificate == run.certificate
    other.write_text(_lines(rows[1:]))
    with pytest.raises(RunError, match="holds a run with other"):
        go("people", other, cluster="who")


def test_doubled_ids_are_refused_where_decisions_are_found_by_them(run, tmp_path):
    from fine_tune_llm.cli.program import main

    for ids in (["a", "b", "a"], [1, 2, 1.0], ["1", None, "1.0"]):
        with pytest.raises(DataValidationError, match="rows 0, 2"):
            run.decide(["boil it", "rake it", "salt it"], ids=ids)
    said = tmp_path / "said.jsonl"
    words = [run.path, CASES / "duplicate_ids.jsonl", "-o", said]
    with pytest.raises(SystemExit) as stopped:
        main(["decide", *map(str, words)])
    assert stopped.value.code == 2 and not said.exists()


@pytest.mark.parametrize("name", ["posts", "tags", "three"])
def test_conflicts_are_trained_or_refused_before_anything_is_written(go, name):
    "They died of a size mismatch after a directory was made"
    try:
        run = go(
            f"conflicts {name}", CASES / f"conflicts_{name}.jsonl", config={"risk": {}}
        )
    except DataValidationError as e:
        assert e.context["counts"] and not (go.folder / f"conflicts {name}").exists()
        return
    for role in ROLES:
        assert set(run.rows(role).labels) == set(range(len(run.classes)))


def test_a_column_that_only_one_file_has_is_found_before_training(go, rows):
    here = [{**row, "site": "a"} for row in rows]
    bare = go.folder / "bare.jsonl"
    bare.write_text(_lines(rows[400:]))
    full = go.folder / "full.jsonl"
    full.write_text(_lines(here[:400]))
    with pytest.raises(SchemaError, match="bare.jsonl` has no column `site`"):
        go("x", full, test=bare, group="site")
    with pytest.raises(SchemaError, match="bare.jsonl` has no column `site`"):
        go("x", bare, test=full, group="site")
    elsewhere = [{**row, "site": "b"} for row in rows[400:]]
    by_group = {"conformal": {"condition": "group"}}
    with pytest.raises(DataValidationError, match="no group of `site` is in both"):
        go("x", here[:400], test=elsewhere, group="site", config=by_group)
    assert not (go.folder / "x").exists()


def test_groups_are_the_same_in_both_files(go):
    run = go(
        "groups",
        CASES / "groups_train.csv",
        test=CASES / "groups_test.csv",
        group=["region", "branch"],
        config={"risk": {}},
    )
    names = [set(run.rows(role).groups["branch"]) for role in ROLES]
    assert set.union(*names) == {"1", "2", "3", None}


FIT = """
import sys
from fine_tune_llm.core.logs import configure_logging
from fine_tune_llm.run.journey import fit
configure_logging("error")
run = fit(sys.argv[1], out=sys.argv[2], model=sys.argv[3], epochs=1, progress=False)
print(run.classes, run.certificate["id"])
"""


def test_a_fit_is_resumed_under_another_hash_seed(tiny, tmp_path):
    "The order of the classes `1`, `01`, `2`, `02` was that of a set"
    said = set()
    for seed in "01":
        words = [CASES / "label_codes.csv", tmp_path / "run", tiny / "bert"]
        ran = subprocess.run(
            [sys.executable, "-c", FIT, *words],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        said.add(ran.stdout)
    assert len(said) == 1 and "('01', '1', '02', '2')" in said.pop()
