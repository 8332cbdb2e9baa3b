"Kernels: kept on disk, and no worse where nothing can be kept"

import os
import subprocess
import sys

import pytest

from fine_tune_llm.stats import kernels
from fine_tune_llm.stats.kernels import by_rows

CALL = """
import sys
sys.path.insert(0, sys.argv[1])
import outer
value = outer.double(3.0)
cost = outer.compile_times()["double"]
print(value, cost["compiled"], cost["from_disk"])
"""
HEAD = "from fine_tune_llm.stats.kernels import *\n"


def called(folder, **env):
    "What a process of its own gets: the value, versions compiled, versions read"
    run = subprocess.run(
        [sys.executable, "-B", "-c", CALL, str(folder)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return tuple(map(float, run.stdout.split()))


def write_inner(folder, value):
    text = f"{HEAD}@kernel\ndef two(): return {value}\n"
    (folder / "inner.py").write_text(text)


def test_kept_on_disk_and_compiled_again_when_an_inner_kernel_changes(tmp_path):
    "The outer module is as it was when the inner one changes"
    write_inner(tmp_path, 2.0)
    outer = f"{HEAD}from inner import two\n@kernel\ndef double(x): return two()*x\n"
    (tmp_path / "outer.py").write_text(outer)
    keep = dict(NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert called(tmp_path, **keep) == (6.0, 1, 0)
    assert called(tmp_path, **keep) == (6.0, 0, 1)
    write_inner(tmp_path, 5.0)
    assert called(tmp_path, **keep) == (15.0, 1, 0)
    (tmp_path / "__pycache__").write_text("")
    never = str(tmp_path / "__pycache__" / "x")  # a file where folders would be
    nowhere = dict(HOME=never, XDG_CACHE_HOME=never, NUMBA_CACHE_DIR="")
    for _ in range(2):
        assert called(tmp_path, **nowhere) == (15.0, 1, 0)


def test_blocks_hold_about_a_million_numbers():
    quarter = kernels._BLOCK // 4
    blocks = [(0, 4), (4, 8), (8, 10)]
    assert by_rows(lambda start, stop: (start, stop), 10, quarter) == blocks
    assert by_rows(lambda start, stop: 1, 1, 10 * kernels._BLOCK) == [1]


def test_the_error_of_a_block_is_raised():
    def stumble(start, stop):
        if start == 4:
            raise ValueError(f"row {start}")

    with pytest.raises(ValueError, match="row 4"):
        by_rows(stumble, 10, kernels._BLOCK // 4)
