"""A full disk, wherever it is met, is told in our words, and the fit goes on later

A limit on the size of files stands for the disk: it fails in the same calls of this
library, of torch, safetensors, pyarrow and SQLite.
"""

import sqlite3

import pytest

from fine_tune_llm.core.errors import ResourceError
from fine_tune_llm.core.files import full_disk_in_words, is_disk_full
from fine_tune_llm.testing import toy_rows

ROWS = toy_rows(150)
resource = pytest.importorskip("resource")


@pytest.fixture(scope="module")
def certificate(toy_fit, tmp_path_factory):
    run = toy_fit(tmp_path_factory.mktemp("whole") / "run", ROWS)
    return (run.path / "certificate.json").read_bytes()


@pytest.mark.parametrize("most", [1_000, 6_000, 9_000, 13_000, 17_000, 26_000])
def test_no_file_may_be_larger(toy_fit, certificate, tmp_path, most):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(ResourceError, match=r"(?s)too large|space|full|disk I/O"):
            toy_fit(tmp_path / "run", ROWS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    toy_fit(tmp_path / "run", ROWS)
    assert (tmp_path / "run" / "certificate.json").read_bytes() == certificate


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("[Errno 28] Error writing bytes to file. No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64"),
        RuntimeError("basic_ios::clear: iostream error"),
        RuntimeError("PytorchStreamWriter failed writing file data/0"),
        Exception("Error while serializing: I/O error: ... (os error 28)"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_what_libraries_say_of_a_full_disk(error, tmp_path):
    assert is_disk_full(error)
    told = pytest.raises(ResourceError, match="cannot be written")
    with told, full_disk_in_words(tmp_path):
        raise error


@pytest.mark.parametrize(
    "error", [OSError(13, "Permission denied"), RuntimeError("shape"), ValueError("x")]
)
def test_other_errors_stay(error, tmp_path):
    with pytest.raises(type(error)) as caught, full_disk_in_words(tmp_path):
        raise error
    assert caught.value is error
