"What is written over and what is not: files, links, devices, FIFOs, modes, full disks"

import errno
import os
import shutil
import stat
import threading

import numpy as np
import pytest

from fine_tune_llm.config.files import save_config
from fine_tune_llm.config.schema import Config
from fine_tune_llm.core import files
from fine_tune_llm.core.errors import ConfigurationError, ResourceError
from fine_tune_llm.core.files import (
    atomic_dir,
    atomic_write,
    output_stream,
    write_json,
)
from fine_tune_llm.predictions import Predictions


def by_atomic_write(path):
    with atomic_write(path) as temporary:
        temporary.write_text("new\n")


def by_output_stream(path):
    with output_stream(path) as file:
        file.write("new\n")


def by_bytes(path):
    with output_stream(path, binary=True) as file:
        file.write(b"new\n")


def by_parquet(path):
    Predictions(probs=np.eye(2), classes=("a", "b")).save(path)


WRITERS = {
    "atomic_write": by_atomic_write,
    "output_stream": by_output_stream,
    "bytes": by_bytes,
    "write_json": lambda path: write_json(path, ["new"]),
    "save_config": lambda path: save_config(Config(), path),
    "parquet": by_parquet,
}
posix = pytest.mark.skipif(os.name == "nt", reason="devices and modes of POSIX")


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


@posix
def test_a_fifo_stays_and_gets_everything(write, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    write(fifo)
    reader.join(30)
    assert stat.S_ISFIFO(fifo.stat().st_mode) and got[0]
    assert os.listdir(tmp_path) == ["fifo"]


def make_device(path, minor):
    "A device of our own: a fault found here must not cost the machine its own"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        with open(path, "wb"):
            return path
    except OSError:
        pytest.skip("no device can be made here")


@posix
def test_a_device_stays_a_device(write, tmp_path):
    device = make_device(tmp_path / "null", 3)
    write(device)
    assert stat.S_ISCHR(device.stat().st_mode)
    link = tmp_path / "link"
    link.symlink_to(device)
    write(link)
    assert link.is_symlink() and stat.S_ISCHR(device.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "null"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_the_mode_of_a_file_is_kept(write, tmp_path, mode):
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(mode)
    write(file)
    assert file.stat().st_mode & 0o777 == mode and file.read_bytes() != b"old"


@posix
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_new_file_follows_the_umask(write, tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


@posix
@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_its_target_is_written(write, tmp_path, is_there):
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "target"
    if is_there:
        target.write_text("old")
        target.chmod(0o600)
    (tmp_path / "near").symlink_to("far/target")
    (tmp_path / "link").symlink_to("near")
    write(tmp_path / "link")
    assert os.readlink(tmp_path / "link") == "near"
    assert os.readlink(tmp_path / "near") == "far/target"
    assert target.read_bytes() != b"old"
    assert not is_there or target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "far") == ["target"]


@posix
def test_open_files_are_named_by_number(tmp_path):
    "`/dev/fd/N` of a file that is appended to keeps what is in it"
    file = tmp_path / "log"
    file.write_text("old\n")
    for write in (by_atomic_write, by_output_stream, by_bytes):
        with open(file, "a") as out:
            write(f"/dev/fd/{out.fileno()}")
    assert file.read_text() == "old\nnew\nnew\nnew\n"


def test_what_no_file_can_be(write, tmp_path):
    with pytest.raises(IsADirectoryError):
        write(tmp_path)
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "no" / "file")
    with pytest.raises(ConfigurationError, match="NUL"):
        write(f"{tmp_path}/a\0b")
    assert os.listdir(tmp_path) == []


def test_a_name_of_255_bytes(write, tmp_path):
    write(tmp_path / ("a" * 255))
    write(tmp_path / ("\u00e9" * 127))
    assert len(os.listdir(tmp_path)) == 2


@posix
def test_a_loop_of_links(write, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as caught:
        write(tmp_path / "a")
    assert caught.value.errno == errno.ELOOP


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or not os.geteuid(), reason="as root")
def test_a_file_that_may_not_be_written_stays(write, tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o444)
    with pytest.raises(PermissionError):
        write(file)
    assert file.read_text() == "old"


@posix
def test_a_full_device_is_told(write, tmp_path):
    device = make_device(tmp_path / "full", 7)
    with pytest.raises(ResourceError, match="no space left"):
        write(device)
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_failed_rename_loses_nothing(monkeypatch, tmp_path):
    "The old file or folder is there again, whatever step failed"
    write_json(tmp_path / "f.json", 1)
    with atomic_dir(tmp_path / "d") as part:
        (part / "x").write_text("old")
    real, coming = os.replace, []

    def replace(a, b):
        if coming and coming.pop(0) == "fails":
            raise OSError(errno.EIO, "Input/output error")
        return real(a, b)

    monkeypatch.setattr(files.os, "replace", replace)
    for plan in (["fails"], ["works", "fails"]):
        coming[:] = plan
        with pytest.raises(OSError), atomic_dir(tmp_path / "d") as part:
            (part / "x").write_text("new")
        assert (tmp_path / "d" / "x").read_text() == "old"
    coming[:] = ["fails"]
    with pytest.raises(OSError):
        write_json(tmp_path / "f.json", 2)
    assert (tmp_path / "f.json").read_text() == "1\n"
    assert sorted(os.listdir(tmp_path)) == ["d", "f.json"]


@posix
def test_a_folder_keeps_link_and_mode(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with atomic_dir(tmp_path / "link") as part:
        (part / "x").write_text("new")
        (part / "x").chmod(0o600)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "link" / "x").stat().st_mode & 0o177 == 0o044
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError), atomic_dir(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def windows(monkeypatch):
    "No folder can be opened, and only a file opened for writing can be synced"
    real_open, real_sync, for_reading = os.open, os.fsync, set()

    def windows_open(path, flags, *more):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        descriptor = real_open(path, flags, *more)
        for_reading.discard(descriptor)
        if flags & (os.O_WRONLY | os.O_RDWR) == 0:
            for_reading.add(descriptor)
        return descriptor

    def windows_sync(descriptor):
        if descriptor in for_reading:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real_sync(descriptor)

    monkeypatch.setattr(files.os, "open", windows_open)
    monkeypatch.setattr(files.os, "fsync", windows_sync)
    monkeypatch.setattr(files, "_IS_WINDOWS", True)
    monkeypatch.setattr(shutil, "_use_fd_functions", False)


def test_writing_on_windows(windows, tmp_path):
    for name, write in WRITERS.items():
        write(tmp_path / name)
        write(tmp_path / name)
    for _ in range(2):
        with atomic_dir(tmp_path / "d") as part:
            (part / "in").mkdir()
            (part / "in" / "x").write_text("1")
    assert len(os.listdir(tmp_path)) == len(WRITERS) + 1


def test_a_file_system_that_syncs_no_folder(monkeypatch, tmp_path):
    real = os.fsync

    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", sync)
    write_json(tmp_path / "x.json", 1)
    assert (tmp_path / "x.json").read_text() == "1\n"
