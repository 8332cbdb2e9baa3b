"From `ftllm fit --set` to the certificate, the audit, the report and the model card"

import json

import pytest

from fine_tune_llm.cli.program import main
from fine_tune_llm.core.errors import PredictionError
from fine_tune_llm.core.events import DecisionMade
from fine_tune_llm.data import loading
from fine_tune_llm.evaluation.baseline import baselines
from fine_tune_llm.predictions import LabelledRows
from fine_tune_llm.run.certificate import classifier_of, derive_certificate
from fine_tune_llm.run.directory import Run

WORDS = [
    "risk.group=site",
    "risk.miss=kitchen:3",
    "risk.target_cost=1.5",
    "risk.abstain_cost=0.2",
    "risk.critical=kitchen",
    "risk.targets=critical:0.6",
    "risk.confidence=expected_cost",
    "conformal.condition=class+group",
    "conformal.more_alphas=0.3",
    "conformal.score=raps",
    "conformal.settings=penalty:0.05,k_reg:1",
    "calibration.method=auto",
    "calibration.candidates=none,temperature",
]


@pytest.fixture(scope="module")
def wired(tiny, tmp_path_factory):
    "A run made by the command with everything set, and how often the data was opened"
    folder = tmp_path_factory.mktemp("wired")
    data = folder / "rows.jsonl"
    lines = (tiny / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows = [row | {"site": "NS"[i // 3 % 2]} for i, row in enumerate(rows)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["fit", data, "--model", tiny / "bert", "--out", folder / "r"]
    words += ["--config", tiny / "more.yaml", "--epochs", "4", "--group", "site"]
    for word in WORDS:
        words += ["--set", word]
    reads = []
    real = loading.read_table

    def counted(source, *args, **kwargs):
        reads.append(source)
        return real(source, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "read_table", counted)
        with pytest.raises(SystemExit) as e:
            main(list(map(str, words)))
    assert e.value.code in (0, None)
    return Run.load(folder / "r"), reads


def test_the_train_role_says_what_is_rare(wired):
    run, _ = wired
    roles = [run.predictions(role) for role in ("validation", "calibration")]
    config, train = run.config, run.rows("train")
    keep = classifier_of(run.certificate)
    again = derive_certificate(*roles, config, train=train, keep=keep)
    assert again["promises"]["sets"] == run.certificate["promises"]["sets"]
    assert run.certificate["promises"]["sets"]["rare_told_by"] == "train"


@pytest.mark.parametrize("change", [{"labels": None}, {"classes": ("x", "y")}])
def test_rows_that_cannot_say_what_is_rare_are_refused(wired, change):
    run, _ = wired
    roles = [run.predictions(role) for role in ("validation", "calibration")]
    train = run.rows("train")
    known = {"texts": train.texts, "labels": train.labels, "classes": train.classes}
    with pytest.raises(PredictionError, match="what is rare"):
        derive_certificate(*roles, run.config, train=LabelledRows(**known | change))
    with pytest.raises(PredictionError, match="texts and labels"):
        baselines(LabelledRows(**known | {"labels": None}), roles[0])


def test_the_data_is_read_once(wired):
    assert len(wired[1]) == 1


def test_certificate(wired):
    promised = wired[0].certificate["promises"]
    found = {(one["group"], one["name"]) for one in promised["decisions"]}
    assert found == {(g, n) for g in "NS" for n in ("cost", "critical")}
    assert all(one["score"] == "expected_cost" for one in promised["decisions"])
    sets = promised["sets"]
    assert sets["alphas"] == [0.1, 0.3] and sets["condition"] == "class+group"
    assert len(sets["cells"]) >= 8
    assert sets["settings"] == {"penalty": 0.05, "k_reg": 1}
    rows = wired[0].certificate["choice"]["rows"]
    assert [row["name"] for row in rows] == ["none", "temperature"]


def test_audit_and_report(wired):
    run, _ = wired
    evidence = json.loads((run.path / "audit.json").read_text())
    selective = evidence["selective"]
    assert {t["name"] for t in selective["targets"]} == {"cost", "critical"}
    assert selective["costs"]["matrix"]["critical"] == [["kitchen", "garden"]]
    assert selective["costs"]["all"] is not None
    assert [m["alpha"] for m in evidence["coverage"]["more"]] == [0.3]
    conditional = evidence["coverage"]["conditional"]
    assert list(conditional["by_group"]) == ["site"]
    metrics = {rate["metric"] for rate in evidence["fairness"]["rates"]}
    assert "expected_cost" in metrics
    page = (run.path / "report.html").read_text()
    for words in (
        "the mean loss (cost)",
        "the mean loss (critical)",
        "within every class and group",
        "Who is covered",
        "worst slab",
        "critical errors in red",
        "mean cost",
        "penalty 0.05",
    ):
        assert words in page, words


def test_model_card(wired):
    card = (wired[0].path / "model_card.md").read_text()
    assert "| mean loss, cost, N (certified at most 1.5) |" in card


def test_decisions_by_group_are_recorded(wired, tmp_path, capsys):
    run, _ = wired
    file = tmp_path / "new.jsonl"
    new = [
        {"text": "rake the leaves off the lawn", "site": "N"},
        {"text": "slice the onions very thin", "site": "never seen"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in new))
    with pytest.raises(SystemExit) as e:
        main(["decide", str(run.path), str(file), "--no-rationale"])
    assert e.value.code in (0, None)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[1]["abstain_reason"] == "ambiguous"
    assert said[1]["abstain_note"] == "no certificate covers this text's site"
    events = run.events(DecisionMade)
    assert [event.input_id for event in events] == [one["id"] for one in said]
