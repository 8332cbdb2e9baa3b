"One writer of a folder, whatever becomes of its lock file; nothing of others goes"

import contextlib
import os
import shutil
import subprocess
import sys

import pytest

from fine_tune_llm.core import locks
from fine_tune_llm.core.errors import RunError
from fine_tune_llm.core.files import atomic_dirs, atomic_write, write_json
from fine_tune_llm.core.locks import remove_work, single_writer, work_folder

OTHER = """
from fine_tune_llm.core.errors import RunError
from fine_tune_llm.core.locks import single_writer
try:
    with single_writer({folder!r}):
        print("in")
except RunError as e:
    print("out", "another process" in str(e))
"""


def another_process(folder):
    "What a second writer is told"
    said = subprocess.run(
        [sys.executable, "-c", OTHER.format(folder=str(folder))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return said.stdout.strip()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture(params=["folders lock", "only files lock"])
def system(request, monkeypatch):
    "With and without a lock on the folder itself"
    if request.param == "only files lock":
        monkeypatch.setattr(locks, "_lock_folder", lambda folder: None)
    return request.param


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
def test_a_removed_lock_file_lets_nobody_in(folder):
    with single_writer(folder):
        (folder / ".lock").unlink()
        assert another_process(folder) == "out True"
        write_json(folder / "a.json", 1)
    assert another_process(folder) == "in"


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
def test_without_a_lock_nothing_is_committed(folder, monkeypatch):
    "Where no folder can be locked, whoever lost the lock file writes nothing more"
    monkeypatch.setattr(locks, "_lock_folder", lambda folder: None)
    with single_writer(folder):
        write_json(folder / "a.json", 1)
        (folder / ".lock").unlink()
        with single_writer(folder):  # now possible, as for another process
            write_json(folder / "a.json", 2)
        (folder / ".lock").unlink()
    assert (folder / "a.json").read_text() == "2\n"
    with single_writer(folder):
        gone = pytest.raises(RunError, match="removed or replaced")
        with gone, atomic_write(folder / "a.json") as temporary:
            temporary.write_text("torn")
            (folder / ".lock").unlink()
    assert (folder / "a.json").read_text() == "2\n"


@pytest.mark.skipif(os.name == "nt", reason="an open folder cannot be moved there")
def test_a_folder_that_is_replaced(folder, system):
    with single_writer(folder):
        write_json(folder / "a.json", 1)
        folder.rename(folder.with_name("moved"))
        folder.mkdir()
        with pytest.raises(RunError, match="removed or replaced"):
            write_json(folder / "a.json", 2)
        gone = pytest.raises(RunError, match="removed or replaced")
        with gone, atomic_dirs(folder / "d"):
            pass
    assert os.listdir(folder) == []
    assert (folder.with_name("moved") / "a.json").read_text() == "1\n"


def test_threads_and_links_are_other_writers(folder, system):
    folder.with_name("link").symlink_to("run")
    refused = pytest.raises(RunError, match="another process")
    with single_writer(folder), refused, single_writer(folder.with_name("link")):
        pass


def test_what_cannot_be_locked(folder):
    (folder / ".lock").mkdir()
    with pytest.raises(RunError, match="cannot be locked"), single_writer(folder):
        pass


def test_only_what_is_marked_is_cleared(folder):
    "A killed writer's temporaries go; everything else of the tree stays"
    mine = [".work.tmp-1", ".a.json.tmp-00000000", "b.tmp-1", "d/.c.tmp-11111111"]
    (folder / "d").mkdir()
    for name in mine:
        (folder / name).write_text("mine")
    (work_folder(folder) / "tmp").mkdir()
    (folder / ".work" / "tmp" / "a.json.tmp-12345678").write_text("torn")
    (folder / ".work" / "checkpoint").write_text("kept for a resume")
    with single_writer(folder):
        assert not (folder / ".work" / "tmp").exists()
        assert (folder / ".work" / "checkpoint").exists()
    remove_work(folder)
    assert not (folder / ".work").exists()
    assert all((folder / name).read_text() == "mine" for name in mine)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_work_of_somebody_else(folder, kind):
    work, elsewhere = folder / ".work", folder.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("mine")
    if kind == "folder":
        shutil.copytree(elsewhere, work)
    elif kind == "file":
        work.write_text("mine")
    else:
        work.symlink_to(elsewhere)
    refused = pytest.raises(RunError, match="not made by this library")
    with single_writer(folder), refused:
        write_json(folder / "a.json", 1)
    remove_work(folder)
    kept = work if kind == "file" else work / "thesis.txt"
    assert kept.read_text() == "mine"


def test_a_removal_that_is_cut_off_can_go_on(folder, monkeypatch):
    "The mark goes last: at every step the rest is known as ours"
    for n_steps in range(5):
        for name in ("a", "b"):
            (work_folder(folder) / name).write_text("x")
        left = [n_steps]

        def unlink(self, real=type(folder).unlink, left=left, **kwargs):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(self, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(type(folder), "unlink", unlink)
            with contextlib.suppress(KeyboardInterrupt):
                remove_work(folder)
        remove_work(folder)
        assert not (folder / ".work").exists()
