"The whole journey through `main`, in this process, on a tiny random model"

import json
import os
import shutil
from pathlib import Path

import pytest

from fine_tune_llm import __version__
from fine_tune_llm.cli.decide import reading_options
from fine_tune_llm.cli.event_summary import events_summary, summary_table
from fine_tune_llm.cli.program import main
from fine_tune_llm.config.files import load_config
from fine_tune_llm.config.manager import ConfigManager
from fine_tune_llm.config.schema import config_schema
from fine_tune_llm.core.errors import CertificateError, DataValidationError
from fine_tune_llm.core.events import ErrorRaised, Event, TrainingStepped

MORE = (
    "training: {learning_rate: 0.003, precision: fp32}\n"
    "data: {train: 0.4, validation: 0.1, calibration: 0.3, test: 0.2}\n"
)
NEW = 'id,text\nq1,"she said rake the leaves"\nq2,"bake, then salt the bread"\n'


@pytest.fixture
def ftllm(capsys):
    "Runs `main` with some words; its exit code, what it printed, what it complained of"

    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as e:
            main(list(map(str, words)))
        said = capsys.readouterr()
        return e.value.code or 0, said.out, said.err

    return run


@pytest.fixture(scope="module")
def fitted(tiny, tmp_path_factory):
    "A folder with a run `r`, and the exit code of its fit"
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "more.yaml").write_text(MORE)
    (folder / "new.csv").write_text(NEW)
    home = os.getcwd()
    os.chdir(folder)
    fit = ["fit", tiny / "rows.jsonl", "--model", tiny / "bert", "--out", "r"]
    try:
        with pytest.raises(SystemExit) as e:
            main([*map(str, fit), "--config", "more.yaml", "--epochs", "1"])
    finally:
        os.chdir(home)
    return folder, e.value.code or 0


@pytest.fixture
def run(fitted, tmp_path, monkeypatch):
    "A copy of the fitted folder to work in, and the exit code of its fit"
    folder, code = fitted
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return code


def test_help_and_errors(ftllm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = ftllm("fit", "--help")
    assert code == 0
    for option in (
        "--text",
        "--label",
        "--group",
        "--model",
        "--out",
        "--alpha",
        "--target-risk",
        "--delta",
        "--epochs",
        "--seed",
    ):
        assert option in out
    code, out, err = ftllm("fit", "nowhere.jsonl")
    assert (code, out) == (2, "")
    assert "does not exist" in err and "Traceback" not in err
    assert "Traceback" in ftllm("--debug", "fit", "nowhere.jsonl")[2]
    assert ftllm("--version") == (0, f"ftllm {__version__}\n", "")
    assert ftllm("decide", "nowhere", "x.jsonl")[0] == 2
    assert os.listdir(".") == []


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("fit",),
        ("decide",),
        ("audit",),
        ("audit", "diff"),
        ("audit", "register"),
        ("demo",),
        ("events",),
        ("config",),
        ("config", "show"),
        ("config", "explain"),
        ("config", "validate"),
        ("config", "diff"),
        ("config", "rollback"),
    ],
)
@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_terminal(ftllm, monkeypatch, words, columns):
    "Nothing wider than the terminal, nothing cut off, sentences that end"
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = ftllm(*words, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= columns
    assert "..." not in out.split("\n", 1)[1].replace("]...", "")
    summary = out.split("\n\n")[1].strip()
    assert summary.endswith(".")


def test_completion(ftllm, monkeypatch):
    monkeypatch.setenv("_FTLLM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "ftllm con")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert ftllm()[1].split() == ["config"]


def test_decide(ftllm, run):
    code, out, err = ftllm("decide", "r", "new.csv", "-o", "d.jsonl")
    assert code == run
    decisions = [json.loads(line) for line in Path("d.jsonl").read_text().splitlines()]
    assert [d["id"] for d in decisions] == ["q1", "q2"]
    assert set(decisions[0]) == {
        "id",
        "decision",
        "abstain",
        "abstain_reason",
        "abstain_note",
        "confidence",
        "prediction_set",
        "uncertainty",
        "cut",
        "error",
        "rationale",
        "certificate",
    }
    abstained = sum(d["abstain"] for d in decisions)
    said = f"2 texts: {2 - abstained} decided, {abstained} left to a person (d.jsonl)"
    assert out == "" and said in err
    assert ftllm("decide", "r", "new.csv", "--text", "txet")[0] == 2
    assert ftllm("decide", "r", "new.csv", "-o", "no/where.jsonl")[0] == 2
    wanted = dict(text="body", max_chars=100_000_000)  # refused by row
    assert reading_options(Path("r"), "body") == wanted
    shutil.copytree("r", "m")
    file = Path("m/config.yaml")
    file.write_text(file.read_text().replace("text: text", "text: msg"))
    assert reading_options(Path("m"), None)["text"] == "msg"


def test_a_void_certificate(ftllm, run):
    Path("r/tokenizer/extra.txt").write_text("x")
    code, out, err = ftllm("decide", "r", "new.csv")
    assert (code, out) == (3, "")
    assert "void" in err and "tokenizer" in err


def test_events(ftllm, run):
    code, out, err = ftllm("events", "r", "--type", "data", "--type", "system.run*")
    assert (code, err) == (0, "")
    kinds = [line.split()[2] for line in out.splitlines()]
    assert kinds == ["data.split", "system.run_finished"]
    lines = ftllm("events", "r", "--json", "--since", "1d")[1].splitlines()
    said = [json.loads(line) for line in lines]
    assert 508 <= sum(said[0]["data"]["counts"].values()) <= 512
    assert said[-1]["type"] == "audit.finished"
    assert len(ftllm("events", "r", "-n", 3)[1].splitlines()) == 3
    assert ftllm("events", "r", "--since", "2100-01-01")[1] == ""
    assert ftllm("events", "nowhere")[0] == 2
    assert ftllm("events", "r", "--since", "soon")[0] == 2
    assert ftllm("events", "r", "--type", "No!")[0] == 2


def test_summary_of_events(ftllm, run):
    words = ("--summary", "--window", "1d", "--type", "training")
    code, out, err = ftllm("events", "r", *words)
    assert (code, err) == (0, "")
    assert "training.stepped" in out and "data.split" not in out and "0 failures" in out
    summary = json.loads(ftllm("events", "r", "--summary", "--json")[1])
    counted = sum(window["count"] for window in summary["windows"])
    assert (summary["failures"], counted) == ([], summary["events"])
    for words in (("--summary", "--follow"), ("--summary", "--window", "long")):
        assert ftllm("events", "r", *words)[0] == 2


def test_windows_of_a_summary():
    steps = [
        TrainingStepped(step=i, seconds=(i + 1) / 1000, loss=1 / (i + 1), time=6 * i)
        for i in range(10)
    ]
    fails = [
        ErrorRaised(code="data.loading", place="fit", message="no file", time=60 * i)
        for i in range(2)
    ]
    summary = events_summary([*steps, *fails], window=30, value="loss")
    assert [
        (r["start"], r["by"], r["count"], r["p50"]) for r in summary["windows"]
    ] == [
        (0, "system.error", 1, None),
        (0, "training.stepped", 5, 1 / 3),
        (30, "training.stepped", 5, 1 / 8),
        (60, "system.error", 1, None),
    ]
    found = [(f["code"], f["count"], f["rate"]) for f in summary["failures"]]
    assert found == [("data.loading", 2, 120.0)]
    assert summary_table(events_summary([])) == "no events"
    for days in (0.001, 0.3, 4, 400):
        span = 86400 * days
        later = [Event("user.x", time=5.0), Event("user.x", time=5 + span)]
        assert len(events_summary(later)["windows"]) == 2
        from_zero = [Event("user.x", time=0), Event("user.x", time=span)]
        assert span / events_summary(from_zero)["window"] <= 11


def test_settings(ftllm, run):
    words = ("--preset", "minilm-cpu", "--set", "seed=3", "--origin")
    code, out, err = ftllm("config", "show", "more.yaml", *words)
    assert (code, err) == (0, "")
    assert "train: 0.4 # more.yaml, line 2" in " ".join(out.split())
    Path("shown.yaml").write_text(out)
    shown = load_config("shown.yaml")
    assert (shown.seed, shown.data.train) == (3, 0.4)
    said = ftllm("config", "explain", "training.precision", "more.yaml")[1]
    assert said == (
        "training.precision = 'fp32', set by more.yaml, line 1; "
        "it hides 'auto' (default)\n"
    )
    assert json.loads(ftllm("config", "schema")[1]) == config_schema()
    assert ftllm("config", "validate", "more.yaml")[:2] == (0, "valid\n")
    said = ftllm("config", "diff", "more.yaml", "shown.yaml")[1]
    assert said == "seed: 0 -> 3\nmodel.device: 'auto' -> 'cpu'\n"
    code, out, err = ftllm(
        "config", "validate", "--set", "training.epoch=1", "--set", "risk.delta=2"
    )
    assert (code, out) == (2, "")
    assert "did you mean `training.epochs`" in err
    assert "`risk.delta` must be below 1.0" in " ".join(err.split())
    said = ftllm("config", "explain", "training.epochs", "r")[1]
    wanted = "training.epochs = 1, set by command line; it hides 3 (default)\n"
    assert said == wanted


def test_history_of_settings(ftllm, run):
    now = "2026-01-02T03:04:05+00:00"
    manager = ConfigManager("r", live_only=True, author="ada@lab", now=lambda: now)
    manager.apply({"logging.level": "debug"}, note="what is it doing?")
    versions = ftllm("config", "diff", "r")[1].splitlines()
    change = "logging.level: 'warning' -> 'debug'"
    assert versions[1] == f"2  {now}  ada@lab  {change}  (what is it doing?)"
    out = ftllm("config", "rollback", "r", 1)[1]
    assert "'debug' -> 'warning'" in out
    assert ftllm("config", "diff", "r", 1, 3)[1] == "no difference\n"
    assert ftllm("config", "diff", "r", 1, 2)[1] == f"{change}\n"
    Path("empty").mkdir()
    for words, said in (
        (("rollback", "r", 9), "there is no version 9"),
        (("show", "empty"), "not a run directory"),
        (("show", "r", "more.yaml"), "stands alone"),
        (("diff", "r", "x", "y"), "takes a run"),
        (("show", "--preset", "llama"), "there is no preset"),
    ):
        code, _, err = ftllm("config", *words)
        assert code == 2
        assert said in " ".join(err.split()), err


def test_refusals_have_a_code_of_their_own(ftllm, monkeypatch):
    import fine_tune_llm.data.sources as sources

    for error, code in (
        (DataValidationError("x"), 2),
        (CertificateError("x"), 3),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError(), 1),
    ):

        def fail(*args, error=error, **kw):
            raise error

        monkeypatch.setattr(sources, "read_bytes", fail)
        assert ftllm("decide", "nowhere", "x.jsonl")[0] == code


def test_help_loads_no_torch(ftllm):
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from fine_tune_llm.cli.program import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    for words in (
        ["--help"],
        ["fit", "--help"],
        ["config", "explain", "seed"],
        ["config", "show", "--origin"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1] == "set()", (words, done.stderr)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "rows.jsonl"], "the run directory is whole"),
        (["decide", "nowhere", "x.jsonl"], "ftllm: interrupted\n"),
    ],
)
def test_an_interrupt_is_said(words, said, ftllm, tmp_path, monkeypatch):
    def press(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.setattr("fine_tune_llm.run.journey.fit", press)
    monkeypatch.setattr("fine_tune_llm.run.directory.Run.load", press)
    code, _, err = ftllm(*words)
    assert code == 130
    assert said in err


def test_an_interrupt_outside_of_a_command_is_said_alike(ftllm, monkeypatch):
    "While output is written, say: only what a fit leaves goes on"

    def press(**more):
        raise KeyboardInterrupt

    monkeypatch.setattr("fine_tune_llm.cli.program.app", press)
    assert ftllm("decide", "run", "x.jsonl") == (130, "", "ftllm: interrupted\n")
    assert "the run directory is whole" in ftllm("fit", "rows.jsonl")[2]
