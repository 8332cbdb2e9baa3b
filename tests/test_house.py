"The law of floors, read from the notebooks, and what importing costs"

import ast
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets"}


def code_cells(path):
    return [
        "".join(c["source"])
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "code"
    ]


def modules():
    "Module name -> (floor number, exported cells)"
    found = {}
    for p in sorted((ROOT / "nbs" / "api").glob("[0-9]*.ipynb")):
        cells = code_cells(p)
        name = next(
            m.group(1) for c in cells if (m := re.match(r"#\|\s*default_exp (\w+)", c))
        )
        found[name] = (
            int(p.name[:2]),
            [c for c in cells if re.match(r"#\|\s*export", c)],
        )
    return found


MODULES = modules()


def imported(cells):
    for node in (n for c in cells for n in ast.walk(ast.parse(c))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_every_module_has_a_notebook_and_the_other_way_round():
    files = {p.stem for p in (ROOT / "fine_tune_llm").glob("*.py")} - {
        "__init__",
        "_modidx",
    }
    assert files == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name):
    floor, cells = MODULES[name]
    ours = {m.split(".")[1] for m in imported(cells) if m.startswith("fine_tune_llm.")}
    assert not {m: MODULES[m][0] for m in ours if MODULES[m][0] >= floor}


@pytest.mark.parametrize("name", [n for n, (f, _) in MODULES.items() if 10 <= f < 20])
def test_floor_one_is_pure_arrays(name):
    assert not HEAVY & {m.split(".")[0] for m in imported(MODULES[name][1])}
    seen = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, fine_tune_llm.{name}; print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.split()
    assert not HEAVY & set(seen)


NOTEBOOKS = [
    p
    for p in sorted((ROOT / "nbs").rglob("*.ipynb"))
    if not {"_proc", ".ipynb_checkpoints"} & set(p.parts)
]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_imports_keep_to_cells_of_their_own(path):
    "nbdev executes each cell with an import when it makes the docs, without the cells before it: what else is in it would fail there"

    def is_mixed(cell):
        nodes = list(ast.walk(ast.parse(cell)))
        return any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes) and any(
            isinstance(n, (ast.Expr, ast.Assign)) for n in nodes
        )

    tests = [
        c
        for c in code_cells(path)
        if "nbdev_export()" not in c
        and not re.search(
            r"^(#\|\s*(export|exporti|exports|eval:\s*false)\b|[%!])", c, re.M
        )
    ]
    assert not [c for c in tests if is_mixed(c)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_notebook_shows_an_error(path):
    outputs = [
        o
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for o in c.get("outputs", [])
    ]
    assert not [o["ename"] for o in outputs if o["output_type"] == "error"]


def seconds(*words):
    "Median of five whole processes"

    def once():
        t = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
        return time.perf_counter() - t

    once()
    return sorted(once() for _ in range(5))[2]


def test_importing_costs_little_more_than_numpy():
    # On an idle two-core machine `import numpy` takes about 0.15 s; six times that is the house's one second.
    base = seconds(sys.executable, "-c", "import numpy")
    assert (
        seconds(sys.executable, "-c", "import fine_tune_llm.stats.metrics") < 6 * base
    )
    assert seconds(str(Path(sys.executable).parent / "ftllm"), "--help") < 6 * base
