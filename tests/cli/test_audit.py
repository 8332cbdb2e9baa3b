"`ftllm audit`: what it reads, what it writes, how it ends"

import importlib
import json

import numpy as np
import pytest
import yaml

from fine_tune_llm.cli.program import main
from fine_tune_llm.evaluation import check_gates, share
from fine_tune_llm.predictions import Predictions

TABLE = (
    "label,p,gender,said\n" + "yes,.9,F,yes\nno,.2,M,\nyes,.4,F,no\nno,.3,M,no\n" * 20
)


def call(capsys, *words):
    with pytest.raises(SystemExit) as e:
        main(list(map(str, words)))
    out = capsys.readouterr()
    return e.value.code, out.out, " ".join(out.err.split())


def evidence(right=60, n=80, codes=()):
    finding = {"part": "promises", "severity": "high", "message": "it is so"}
    finding |= {"fix": "do that", "count": 0, "rows": [], "details": {}}
    return {
        "version": 2,
        "identity": {"kind": "predictions", "name": "loans", "n": n},
        "performance": {"accuracy": share(right, n), "per_class": {}, "confusion": []},
        "findings": [{**finding, "code": code} for code in codes],
        "gates": [],
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loans.csv").write_text(TABLE)
    (tmp_path / "gates.yaml").write_text("- accuracy >= .7\n- rows >= 50\n")
    return tmp_path


@pytest.fixture
def audited(monkeypatch):
    "What `audit` was asked for; it measures what the test says"
    module = importlib.import_module("fine_tune_llm.evaluation.auditing")
    asked, found = {}, {"evidence": evidence()}

    def measured(said, **more):
        asked.update(said=said, **more)
        results = check_gates(found["evidence"], more["gates"])
        gates = [one.to_dict() for one in results]
        return module.Audit({**found["evidence"], "gates": gates})

    monkeypatch.setattr(module, "audit", measured)
    monkeypatch.setattr(module.Audit, "_pages", lambda self: {"report.html": "<p>"})
    return asked, found


LOANS = ("loans.csv", "--score", "p")


def test_predictions_are_read_as_asked(folder, audited, capsys):
    (folder / "cost.yaml").write_text("miss:\n  yes: 5\n")
    words = ("--groups", "gender", "--decided", "said", "--positive", "yes")
    code, out, err = call(capsys, "audit", *LOANS, *words, "--cost", "cost.yaml")
    asked, _ = audited
    assert code == 0, err
    assert asked["said"].classes == ("no", "yes") and len(asked["said"]) == 80
    assert list(asked["said"].groups) == ["gender"]
    assert asked["decided"].tolist()[:4] == ["yes", None, "no", "no"]
    assert asked["cost"].cost.tolist() == [[0, 1], [5, 0]]
    assert asked["name"] == "loans" and asked["positive"] == "yes"
    assert out.startswith("Audit of loans: clear") and "Written" not in out
    assert sorted(p.name for p in folder.iterdir()) == [
        *("cost.yaml", "gates.yaml", "loans.csv"),
    ]


def test_a_saved_file_and_columns_of_probabilities(folder, audited, capsys):
    said = Predictions(
        probs=np.full((6, 3), 1 / 3), labels=[0, 1, 2] * 2, classes=list("abc")
    )
    said.save(folder / "said.parquet")
    assert call(capsys, "audit", "said.parquet")[0] == 0
    assert audited[0]["said"].classes == ("a", "b", "c")
    rows = [f"{t},{', '.join(['.2', '.3', '.5'])}" for t in "abc"]
    (folder / "t.csv").write_text("\n".join(["label,p_a,p_b,p_c", *rows]))
    assert call(capsys, "audit", "t.csv", "--probs", "p_a,p_b,p_c")[0] == 0
    np.testing.assert_allclose(audited[0]["said"].probs[0], [0.2, 0.3, 0.5])


@pytest.mark.parametrize(
    "rules, codes, code",
    [
        ("- accuracy >= .7\n", (), 0),
        ("- accuracy >= .8\n", (), 4),
        ("- accuracy >= .7 at lower bound\n", (), 4),
        ("- ece <= .1\n", (), 4),
        ("- rule: ece <= .1\n  required: false\n", (), 0),
        ("- accuracy >= .7\n", ("decisions_contradicted",), 5),
        ("- accuracy >= .8\n", ("decisions_contradicted",), 4),
        (None, ("decisions_contradicted",), 5),
        (None, ("class_never_said",), 0),
    ],
)
def test_exit_codes(folder, audited, capsys, rules, codes, code):
    audited[1]["evidence"] = evidence(codes=codes)
    words = []
    if rules:
        (folder / "gates.yaml").write_text(rules)
        words = ["--gates", "gates.yaml"]
    found, out, err = call(capsys, "audit", *LOANS, *words)
    assert found == code, err
    assert ("contradict 1 of the promises" in err) == (code == 5)
    for one in codes:
        assert f"high: {one}" in out and "-> do that" in out
    if code == 4:
        assert "fail: " in out or "not evaluated: " in out


def test_json_and_folder(folder, audited, capsys):
    words = ("--gates", "gates.yaml", "--json", "--out", "june")
    code, out, _ = call(capsys, "audit", *LOANS, *words)
    printed = json.loads(out)
    assert code == 0 and [g["status"] for g in printed["gates"]] == ["pass", "pass"]
    assert json.loads((folder / "june" / "audit.json").read_text()) == printed
    again = call(capsys, "audit", *LOANS, "--out", "june")  # an audit made again
    assert again[0] == 0 and "Written: june/audit.json" in again[1]


WRONG = {
    "no file": (["nowhere.csv", "--score", "p"], "`nowhere.csv` does not exist"),
    "a folder": (["."], "is a folder, and not a run"),
    "no score": (
        ["loans.csv"],
        "`--score` or `--probs` must say which columns of loans",
    ),
    "both": ([*LOANS, "--probs", "p,p"], "`score` or `probs`"),
    "column": (["loans.csv", "--score", "q"], "`loans.csv` has no column `q`"),
    "group": ([*LOANS, "--groups", "gendr"], "Did you mean 'gender'"),
    "label": ([*LOANS, "--label", "lable"], "Did you mean 'label'"),
    "score of words": (
        ["loans.csv", "--score", "gender"],
        "row 1: `gender` must be a n",
    ),
    "positive": ([*LOANS, "--positive", "maybe"], "a score is for two classes"),
    "gates": ([*LOANS, "--gates", "nowhere.yaml"], "`nowhere.yaml` is missing"),
    "a rule": (
        [*LOANS, "--gates", "wrong.yaml"],
        "`wrong.yaml`, line 2: there is no nu",
    ),
    "encoding": ([*LOANS, "--encoding", "nope"], "`encoding` 'nope' is unknown"),
    "classes of a score": ([*LOANS, "--classes", "a,b"], "`classes` is for columns"),
    "cost": ([*LOANS, "--cost", "gates.yaml"], "gates.yaml"),
    "cost of others": ([*LOANS, "--cost", "costs.yaml"], "`--cost` costs.yaml: `miss`"),
    "no cost": ([*LOANS, "--cost", "empty.yaml"], "names no costs"),
    "new file": ([*LOANS, "loans.csv"], "is no run, and rows that came later"),
    "text": (
        [*LOANS, "--text", "body"],
        "`--text` is for a run, and `loans.csv` is not",
    ),
    "strangers": (
        [*LOANS, "--out-of-scope", "loans.csv"],
        "`--out-of-scope` is for a run, and `loans.csv` is not",
    ),
    "out": ([*LOANS, "--out", "full"], "`--out` full is not empty"),
    "out of others": ([*LOANS, "--out", "npm"], "no audit of this library wrote it"),
    "out of a run": ([*LOANS, "--out", "run"], "`--out` run is a run"),
    "out is a file": ([*LOANS, "--out", "loans.csv"], "`--out` loans.csv is no folder"),
    "out nowhere": ([*LOANS, "--out", "a/b/c"], "a/b is no directory"),
    "for predictions": (["run", "--groups", "x"], "`--groups` is for predictions, and"),
    "no run": (["run"], "is not finished"),
    "nothing": ([], "Missing argument 'WHAT'"),
    "diff": (["diff", "loans.csv", "loans.csv"], "is not readable as JSON"),
    "diff of nothing": (["diff", "x", "y"], "`x` is missing"),
    "diff of one": (["diff", "loans.csv"], "Missing argument 'B'"),
    "level": (["diff", "x", "y", "--level", "95"], "`level` must be in (0, 1)"),
    "no finding": (["register", "half"], "`findings` has no code"),
    "register": (["register", "nowhere"], "`nowhere` is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input(name, folder, audited, capsys):
    words, said = WRONG[name]
    for made in ("full", "run", "npm"):
        (folder / made).mkdir()
    (folder / "npm" / "audit.json").write_text('{"auditReportVersion": 2}')
    (folder / "costs.yaml").write_text("miss: {maybe: 5}\n")
    (folder / "full" / "notes.txt").write_text("mine")
    (folder / "run" / "config.yaml").write_text("seed: 0\n")
    (folder / "half").mkdir()
    half = json.dumps(evidence() | {"findings": [{"part": "data"}]})
    (folder / "half" / "audit.json").write_text(half)
    (folder / "wrong.yaml").write_text("- accuracy >= .7\n- acuracy >= .7\n")
    (folder / "empty.yaml").write_text("{}\n")
    before = sorted(folder.rglob("*"))
    code, out, err = call(capsys, "audit", *words)
    assert (code, out) == (2, "") and said in err and "Traceback" not in err
    assert sorted(folder.rglob("*")) == before and not audited[0]


def test_rules_are_read_before_anything_is_measured(folder, capsys):
    "A wrong rule costs no time: not even the table is read"
    (folder / "gates.yaml").write_text("- acuracy >= .9\n")
    (folder / "loans.csv").write_bytes(bytes(range(256)))
    code, _, err = call(capsys, "audit", *LOANS, "--gates", "gates.yaml")
    assert code == 2 and "acuracy" in err


def saved(folder, name, **more):
    (folder / name).mkdir()
    (folder / name / "audit.json").write_text(json.dumps(evidence(**more)))


def test_diff_of_two_audits(folder, capsys):
    saved(folder, "a", right=600, n=800)
    saved(folder, "b", right=700, n=800, codes=["class_never_said"])
    code, out, err = call(capsys, "audit", "diff", "a", "b/audit.json")
    assert code == 0, err
    assert "accuracy: 0.75 -> 0.875" in out and "beyond noise" in out
    assert "finding new: high, it is so" in " ".join(out.split())
    code, out, _ = call(capsys, "audit", "diff", "a", "b", "--json")
    numbers = {one["name"]: one for one in json.loads(out)["numbers"]}
    assert numbers["accuracy"]["verdict"] == "beyond noise"


def test_schema_and_the_list_of_numbers(capsys):
    code, out, _ = call(capsys, "audit", "schema")
    assert code == 0 and json.loads(out)["title"] == "audit.json, version 2"
    code, out, _ = call(capsys, "audit", "gates")
    assert code == 0 and "max_gap(METRIC" in out and "ece" in out


def test_a_register_keeps_what_people_wrote(folder, capsys):
    saved(folder, "a", codes=["decisions_contradicted"])
    assert call(capsys, "audit", "register", "a", "-o", "r.yaml")[0] == 0
    risks = yaml.safe_load((folder / "r.yaml").read_text())
    (name,) = risks["risks"]
    risks["risks"][name]["owner"] = "Ana"
    (folder / "r.yaml").write_text(yaml.safe_dump(risks))
    saved(folder, "b", codes=["class_never_said", "decisions_contradicted"])
    assert call(capsys, "audit", "register", "b", "-o", "r.yaml")[0] == 0
    again = yaml.safe_load((folder / "r.yaml").read_text())["risks"]
    assert again[name]["owner"] == "Ana" and len(again) == 2
    code, out, _ = call(capsys, "audit", "register", "a")
    assert code == 0 and list(yaml.safe_load(out)["risks"]) == [name]


def test_the_name_of_a_command_is_a_folder_after_all(folder, audited, capsys):
    (folder / "diff").write_text(TABLE)
    assert call(capsys, "audit", "./diff", "--score", "p")[0] == 0


# A run


@pytest.fixture(scope="module")
def run(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("runs") / "toy", seed=0)


def later(path, n=200, start=10_000):
    from fine_tune_llm.testing import toy_rows

    rows = [
        dict(row, text=f"{row['text']} later {start + i}")
        for i, row in enumerate(toy_rows(n))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_run_is_audited_into_itself(run, folder, capsys):
    before = {p.name for p in run.path.iterdir()}
    (folder / "gates.yaml").write_text("- accuracy >= 0\n- rows >= 10\n")
    code, out, err = call(capsys, "audit", run.path, "--gates", "gates.yaml")
    assert code in (0, 5), err
    made = {p.name for p in run.path.iterdir()} - before
    written = json.loads((run.path / "audit.json").read_text())
    assert "audit.json" in made | before and "report.html" in made | before
    assert [gate["status"] for gate in written["gates"]] == ["pass", "pass"]
    assert f"Audit of {run.path.name}" in out and "gates: 2 passed" in out
    code, _, err = call(capsys, "audit", "diff", run.path, run.path)
    assert code == 0, err


def test_a_run_on_rows_that_came_later(run, folder, capsys):
    file = later(folder / "june.jsonl")
    before = {p.name: p.stat().st_mtime_ns for p in run.path.iterdir()}
    code, out, err = call(capsys, "audit", run.path, file, "--out", "june")
    assert code in (0, 5), err
    written = json.loads((folder / "june" / "audit.json").read_text())
    assert written["performance"]["accuracy"]["n"] == 200
    after = {p.name: p.stat().st_mtime_ns for p in run.path.iterdir()}
    kept = {name: at for name, at in before.items() if not name.startswith("events")}
    assert kept.items() <= after.items()
    for words, said in [
        ([file, "--out", run.path], "is a run"),
        ([file, "--out", run.path / "predictions"], "is not empty"),
        ([file, "--out", run.path / "adapter" / "x"], "is a part of the run"),
        ([file, "--text", "body"], "no column `body`"),
        (["--encoding", "utf-8"], "`--encoding` is for predictions"),
    ]:
        code, _, err = call(capsys, "audit", run.path, *words)
        assert code == 2 and said in err


def test_texts_that_are_none_of_the_classes(run, folder, capsys):
    lines = [f"parking permit number {i}" for i in range(12)]
    for column in ("body", "text"):
        (folder / f"{column}.csv").write_text("\n".join([column, *lines]) + "\n")
    file = later(folder / "june.jsonl")
    for words in (
        ("--out-of-scope", "body.csv", "--text", "body", "--separator", ","),
        (file, "--out-of-scope", "text.csv", "--label", "label"),
    ):
        code, _, err = call(capsys, "audit", run.path, *words, "--out", "told")
        assert code in (0, 5), err
        written = json.loads((folder / "told" / "audit.json").read_text())
        assert written["out_of_scope"]["n"] == 12
    words = ("--out-of-scope", "text.csv", "--label", "label")
    code, _, err = call(capsys, "audit", run.path, *words)
    assert code == 2 and "`--label`" in err


def test_rows_that_a_run_has_learned_from_are_refused(run, folder, capsys):
    said = run.rows("train")
    rows = [
        {"text": text, "label": said.classes[k]}
        for text, k in zip(said.texts, said.labels)
    ]
    file = later(folder / "june.jsonl")
    file.write_text(file.read_text() + "".join(json.dumps(r) + "\n" for r in rows[:3]))
    code, _, err = call(capsys, "audit", run.path, file)
    assert code == 2 and "3 texts that are in the train role" in err


def test_the_installed_command(ftllm, tmp_path):
    "Through a real process, with its exit code"
    (tmp_path / "loans.csv").write_text(TABLE)
    (tmp_path / "gates.yaml").write_text("- rows >= 100\n")
    words = ("audit", *LOANS, "--gates", "gates.yaml")
    p = ftllm(*words, cwd=tmp_path)
    assert p.returncode == 4 and "fail: rows >= 100 (80)" in p.stdout, p.stderr
