"`fit` clears what a run has made, and nothing else"

import os
from functools import partial

import pytest
import yaml

from fine_tune_llm.config.files import save_config
from fine_tune_llm.core.errors import ConfigurationError, RunError
from fine_tune_llm.evaluation import audit
from fine_tune_llm.run.journey import fit_settings
from fine_tune_llm.testing import toy_rows

ROWS = toy_rows(150)
MINE = {".work/thesis.txt", ".env", ".data.tmp-1/rows.csv", ".notes.tmp-00000000"}


@pytest.fixture(scope="module")
def go(toy_fit):
    return partial(toy_fit, rows=ROWS, target_risk=0.2)


@pytest.fixture(scope="module")
def finished(go, tmp_path_factory):
    return go(tmp_path_factory.mktemp("finished") / "run")


def put(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def check(folder, names):
    assert {n for n in names if (folder / n).read_text() == "mine"} == set(names)


def test_dotfiles_of_the_user_stay(go, tmp_path):
    put(tmp_path, MINE - {".work/thesis.txt"})
    go(tmp_path)
    go(tmp_path)  # opened again
    check(tmp_path, MINE - {".work/thesis.txt"})


def test_a_work_folder_of_the_user_is_refused(go, tmp_path):
    put(tmp_path, MINE)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(RunError, match="was not made by a run"):
        go(tmp_path)
    check(tmp_path, MINE)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("more", [(), ("data.json",)])
def test_a_project_with_a_config_of_its_own(go, tiny, tmp_path, more):
    "Settings that are the run's own make no run of a folder"
    used = yaml.safe_load((tiny / "more.yaml").read_text())
    given = {"model": str(tiny / "bert"), "seed": 0, "epochs": 1, "target_risk": 0.2}
    save_config(fit_settings(used, None, given), tmp_path / "config.yaml")
    names = {".work/thesis.txt", "src/.main.tmp-1", "report.html", *more}
    put(tmp_path, names)
    with pytest.raises(RunError):
        go(tmp_path)
    check(tmp_path, names)
    (tmp_path / ".work" / "thesis.txt").unlink()
    with pytest.raises((RunError, OSError)) as caught:
        go(tmp_path)
    assert caught.type.__module__.startswith("fine_tune_llm")
    check(tmp_path, names - {".work/thesis.txt"})
    assert not (tmp_path / "events.db").exists()


def test_what_out_cannot_be(go, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for out, words in {
        "file": "it is a file",
        "file/run": "not a directory",
        "nowhere": "a link to nothing",
        "loop": ".",
        "a\0b": ".",
    }.items():
        with pytest.raises(ConfigurationError, match=words) as caught:
            go(f"{tmp_path}/{out}")
        assert "`out`=" in str(caught.value) and "cannot be written" in str(
            caught.value
        )
    assert sorted(os.listdir(tmp_path)) == ["file", "loop", "nowhere"]


def test_data_json_that_is_no_file(go, tmp_path):
    "A folder or a loop of links in its place is no run"
    run = go(tmp_path / "run")
    for make in (lambda p: p.mkdir(), lambda p: p.symlink_to(p)):
        path = run.path / "data.json"
        path.rename(tmp_path / "data.json")
        make(path)
        with pytest.raises(RunError, match="holds no run"):
            go(run.path)
        path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "data.json").rename(path)
    go(run.path)


@pytest.mark.parametrize(
    "name", ["audit.json", "report.html", "model_card.md", "croissant.json"]
)
def test_a_report_that_cannot_be_written(finished, name):
    (finished.path / name).mkdir()
    with pytest.raises(RunError, match=f"{name}` cannot be read or written: is a dir"):
        audit(finished).save(finished.path)
    (finished.path / name).rmdir()


def test_a_stage_that_cannot_be_written(go, finished):
    (finished.path / "certificate.json").rename(finished.path.parent / "kept")
    (finished.path / "predictions").rename(finished.path.parent / "predictions")
    (finished.path / "predictions").write_text("mine")
    with pytest.raises(RunError, match="predictions.* cannot be read or written"):
        go(finished.path)
    assert (finished.path / "predictions").read_text() == "mine"
