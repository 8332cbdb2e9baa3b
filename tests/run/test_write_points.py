"""A run killed at any of its write points resumes to the same certificate

The folder is copied before every rename, sync, removal and new folder of one small run:
each copy is what a kill at that instant leaves behind.
"""

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from functools import partial

import pytest

from fine_tune_llm.evaluation import audit
from fine_tune_llm.run.directory import Run
from fine_tune_llm.testing import toy_rows

ROWS = toy_rows(150)
WATCHED = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir")


class Recorder:
    "Copies a folder before every call that changes what is on disk"

    def __init__(self, folder, copies):
        self.folder, self.copies = folder, copies
        self.states, self.points, self.busy = {}, 0, False

    @contextmanager
    def watching(self):
        with pytest.MonkeyPatch.context() as patch:
            for name in WATCHED:
                patch.setattr(os, name, self.before(getattr(os, name)))
            yield self

    def before(self, call):
        def watched(*args, **kwargs):
            if not self.busy and self.folder.exists():
                self.busy = True
                self.record()
                self.busy = False
            return call(*args, **kwargs)

        return watched

    def record(self):
        self.points += 1
        key = state_of(self.folder)
        if key not in self.states:
            self.states[key] = self.copies / f"{self.points:04}"
            copy_run(self.folder, self.states[key])

    def chosen(self):
        "Every state of the run itself, and every sixth of what only `.work` tells"
        all_of_them = os.environ.get("FTLLM_ALL_WRITE_POINTS")
        seen, within = set(), 0
        for copy in self.states.values():
            key = state_of(copy, skip=".work")
            within = within + 1 if key in seen else 0
            seen.add(key)
            if all_of_them or within % 6 == 0:
                yield copy


def state_of(folder, skip=None):
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] == skip or name.name.startswith("events.db"):
            continue
        state.update(str(name).encode())
        if path.is_file():
            state.update(path.read_bytes())
    return state.hexdigest()


def copy_run(source, target):
    "All of a folder, its events as one transaction leaves them"
    leave = shutil.ignore_patterns("events.db*")
    shutil.copytree(source, target, symlinks=True, ignore=leave)
    if (source / "events.db").exists():
        with (
            closing(sqlite3.connect(source / "events.db")) as old,
            closing(sqlite3.connect(target / "events.db")) as new,
        ):
            old.backup(new)


@pytest.fixture(scope="module")
def go(toy_fit):
    return partial(toy_fit, rows=ROWS, epochs=2, target_risk=0.2)


@pytest.fixture(scope="module")
def recorded(go, tmp_path_factory):
    folder = tmp_path_factory.mktemp("points")
    recorder = Recorder(folder / "run", folder / "copies")
    with recorder.watching():
        run = go(folder / "run")
        audit(run).save(run.path)
    return recorder, (folder / "run" / "certificate.json").read_bytes()


def left_over(out):
    return [p for p in out.rglob("*") if ".tmp-" in p.name or p.name == ".work"]


def test_every_write_point_resumes(go, recorded):
    recorder, certificate = recorded
    assert recorder.points > 90
    assert not left_over(recorder.folder)
    done = recorder.folder.rename(recorder.folder.with_name("done"))
    out = recorder.folder
    for copy in recorder.chosen():
        shutil.move(copy, out)
        go(out)
        assert (out / "certificate.json").read_bytes() == certificate, copy
        assert not left_over(out), copy
        Run.load(out)
        shutil.rmtree(out)
    done.rename(out)


def test_new_files_follow_the_umask(recorded):
    recorder, _ = recorded
    umask = os.umask(0)
    os.umask(umask)
    modes = {
        path.relative_to(recorder.folder).as_posix(): path.stat().st_mode & 0o777
        for path in recorder.folder.rglob("*")
        if path.is_file()
    }
    assert "adapter/adapter_model.safetensors" in modes
    assert {name: oct(m) for name, m in modes.items() if m != 0o666 & ~umask} == {}
