"The laws of the house: wings, what importing costs, doors, words, dependencies"

import ast
import importlib
import inspect
import re
import subprocess
import sys
import time
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
house = importlib.import_module("house")

HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets"}
SYNONYMS = re.compile(r"\b(min_n|n_boot|maxprob)\b")  # min_rows, n_resamples, max_prob
NOTEBOOKS = house.notebooks()
MODULES = {b.module: b for b in NOTEBOOKS if b.module}
WINGS = house.wings()
LIGHT = WINGS[: WINGS.index("predictions") + 1]


def name_of(book):
    return str(book.path.relative_to(ROOT / "nbs"))


# Modules and wings


def test_every_module_has_a_notebook_and_the_other_way_round():
    files = {
        ".".join(p.relative_to(house.PACKAGE).with_suffix("").parts)
        for p in house.PACKAGE.rglob("*.py")
    }
    assert files - {"_modidx"} == set(MODULES)


def test_every_exported_notebook_stands_in_its_wing():
    strays = [
        name_of(b)
        for m, b in MODULES.items()
        if m not in house.ROOT_MODULES
        and (b.wing not in WINGS or b.path.parent.name != b.wing)
    ]
    assert not strays


def test_no_two_notebooks_of_a_wing_share_a_number():
    places = [(b.path.parent, b.number) for b in MODULES.values()]
    assert len(places) == len(set(places))


def our_imports(book):
    "What exported cells import of ours, as names of modules: `stats.metrics`, `core`"
    for node in (n for c in book.exported for n in ast.walk(c.tree)):
        if isinstance(node, ast.Import):
            full = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            deeper = [f"{node.module}.{a.name}" for a in node.names]
            full = [
                d if d.partition(".")[2] in MODULES else node.module for d in deeper
            ]
        else:
            continue
        yield from (f.partition(".")[2] for f in full if f.startswith("fine_tune_llm."))


def is_allowed(book, target):
    "May the notebook import the module?"
    wing = target.split(".")[0]
    if book.module == "testing" or book.module == "__init__":
        return wing != "testing"
    if wing == "testing":
        return False
    if wing == book.wing:
        return target in MODULES and MODULES[target].number < book.number
    return WINGS.index(wing) < WINGS.index(book.wing)


@pytest.mark.parametrize("book", MODULES.values(), ids=name_of)
def test_imports_go_to_earlier_wings_and_lower_numbers(book):
    assert not [t for t in our_imports(book) if not is_allowed(book, t)]


# What importing costs


@pytest.mark.parametrize(
    "book", [b for b in MODULES.values() if b.wing in LIGHT], ids=name_of
)
def test_up_to_the_waist_nothing_heavy_is_imported(book):
    assert not HEAVY & {m.split(".")[0] for m in house.imports(book.exported)}


def loaded_by(code):
    "The modules in a fresh process after `code`"
    code += "; import sys; print(*sys.modules)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


LIGHT_MODULES = [
    f"fine_tune_llm.{m.removesuffix('.__init__')}"
    for m, b in MODULES.items()
    if b.wing in LIGHT
]


@pytest.mark.parametrize(
    "code",
    ["import fine_tune_llm", f"import {', '.join(LIGHT_MODULES)}"],
    ids=["the house", "all modules up to the waist"],
)
def test_importing_loads_nothing_heavy(code):
    assert not HEAVY & loaded_by(code)


def test_help_names_every_command_and_loads_nothing_heavy():
    code = (
        "from typer.testing import CliRunner; from fine_tune_llm.cli.app import app; "
        "import fine_tune_llm.cli.program; "
        "print(CliRunner().invoke(app, ['--help']).output)"
    )
    printed = loaded_by(code)
    assert printed >= {"Usage:", "demo", "fit", "decide", "audit", "config", "events"}
    assert not HEAVY & printed


def seconds(*words):
    "Median of five whole processes"

    def once():
        t = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
        return time.perf_counter() - t

    once()
    return sorted(once() for _ in range(5))[2]


def test_importing_costs_little_more_than_numpy():
    # On an idle two-core machine `import numpy` takes about 0.15 s; six times that is
    # the house's one second.
    base = seconds(sys.executable, "-c", "import numpy")
    statistics = "import fine_tune_llm.stats.metrics"
    assert seconds(sys.executable, "-c", statistics) < 6 * base
    assert seconds(str(Path(sys.executable).parent / "ftllm"), "--help") < 6 * base


# Doors


def door_name(door):
    return ".".join(door.parent.relative_to(ROOT).parts)


DOORS = {door_name(d): house.words(d) for d in house.doors()}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_names_each_word_once_and_no_module(door):
    words = [w for found in DOORS[door].values() for w in found]
    folder = ROOT.joinpath(*door.split("."))
    modules = {p.stem for p in folder.glob("*.py")} | {
        p.name for p in folder.iterdir() if p.is_dir()
    }
    whole_modules = {"errors"} if door == "fine_tune_llm" else set()
    assert len(words) == len(set(words))
    assert not (set(words) - whole_modules) & modules


def has_own_docstring(thing):
    "Not the one that `dataclass` makes up"
    doc = inspect.getdoc(thing) or ""
    return bool(doc) and not doc.startswith(f"{getattr(thing, '__name__', '')}(")


@pytest.mark.parametrize("door", DOORS)
def test_every_word_at_a_door_exists_and_explains_itself(door):
    module = importlib.import_module(door)
    words = [w for found in DOORS[door].values() for w in found]
    things = {w: getattr(module, w) for w in words}
    documented = (type, type(test_importing_loads_nothing_heavy))
    assert not [
        w
        for w, thing in things.items()
        if isinstance(thing, documented) and not has_own_docstring(thing)
    ]


def registries():
    "Door and word of each registry that a door names"
    registry = importlib.import_module("fine_tune_llm.core.registry").Registry
    for door, by_module in DOORS.items():
        for word in (w for found in by_module.values() for w in found):
            if isinstance(getattr(importlib.import_module(door), word), registry):
                yield door, word


@pytest.mark.parametrize("door, word", list(registries()))
def test_a_registry_knows_its_names_in_a_fresh_process(door, word):
    "Names are registered at import: what no one imports would be missing"
    for module in MODULES:
        importlib.import_module(f"fine_tune_llm.{module}".removesuffix(".__init__"))
    registry = getattr(importlib.import_module(door), word)
    # what other tests of this process have registered is not ours
    known = {
        name
        for name in registry
        if getattr(registry.get(name), "__module__", "").startswith("fine_tune_llm.")
    }
    assert known and known <= loaded_by(f"from {door} import {word}; print(*{word})")


PAGES = [b for b in NOTEBOOKS if not b.module]


@pytest.mark.parametrize("book", PAGES, ids=name_of)
def test_tutorials_come_in_through_the_doors(book):
    text = "\n".join(c.source for c in book.cells)
    deep = re.findall(r"(?:from|import) fine_tune_llm\.(\w+\.[\w.]+)", text)
    assert not deep


# Words


TEXTS = [
    p
    for folder in ("nbs", "tests", "benchmarks", ".ci")
    for p in sorted((ROOT / folder).rglob("*.py"))
    if p != Path(__file__).resolve()
]


def test_one_word_for_one_thing():
    texts = {p: p.read_text(encoding="utf-8") for p in TEXTS}
    texts |= {b.path: "\n".join(c.source for c in b.cells) for b in NOTEBOOKS}
    found = {str(p): sorted(set(SYNONYMS.findall(t))) for p, t in texts.items()}
    for study in ("statistics/fairness.py", "group_audit/run.py"):
        found.pop(str(ROOT / "benchmarks" / study))  # fairlearn's keyword
    assert not {p: words for p, words in found.items() if words}


# Sizes


def functions_and_classes(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]


def is_too_long(node):
    if isinstance(node, ast.ClassDef):
        return node.end_lineno - node.lineno > 150
    return house.statements(node) > 25


SOURCES = [*TEXTS, *sorted(house.PACKAGE.rglob("*.py"))]


def test_functions_and_classes_are_short():
    long = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in SOURCES
        for node in functions_and_classes(path)
        if is_too_long(node)
    ]
    assert not long


# Dependencies

COMES_WITH = {
    "markupsafe": "jinja2",
    "pydantic-core": "pydantic",
    "tokenizers": "transformers",
    "tqdm": "transformers",
}
STANDS_BEHIND = {
    "accelerate": "transformers' Trainer",
    "bitsandbytes": "weights that transformers quantizes",
    "safetensors": "the one format that weights are written in",
    "jupyterlab": "the notebook itself",
    "ipywidgets": "progress bars in a notebook",
}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared():
    "Distributions that the package says it needs, extras included"
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    kept = [
        value
        for key, value in config["DEFAULT"].items()
        if key.endswith("requirements") and key.split("_")[0] not in ("dev", "bench")
    ]
    return {normal(re.match(r"[\w.-]+", word)[0]) for word in " ".join(kept).split()}


def imported_modules():
    "Top-level modules of others that the package imports"
    trees = (
        ast.parse(p.read_text(encoding="utf-8")) for p in house.PACKAGE.rglob("*.py")
    )
    found = set()
    for node in (n for t in trees for n in ast.walk(t)):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"fine_tune_llm"}


def test_what_is_declared_is_imported_and_the_other_way_round():
    known = packages_distributions()
    used = {normal(d) for m in imported_modules() for d in known.get(m, [m])}
    assert used - declared() - set(COMES_WITH) == set()
    assert declared() - used - set(STANDS_BEHIND) == set()


# Notebooks


@pytest.mark.parametrize("book", NOTEBOOKS, ids=name_of)
def test_imports_keep_to_cells_of_their_own(book):
    """nbdev executes each cell with an import when it makes the docs, without the cells
    before it: what else is in it would fail there."""

    def is_mixed(cell):
        nodes = list(ast.walk(cell.tree))
        return any(isinstance(n, ast.Import | ast.ImportFrom) for n in nodes) and any(
            isinstance(n, ast.Expr | ast.Assign) for n in nodes
        )

    skipped = re.compile(
        r"^(#\|\s*(export|exporti|exports|eval:\s*false)\b|[%!])", re.M
    )
    tests = [
        c
        for c in book.code
        if "nbdev_export()" not in c.source and not skipped.search(c.source)
    ]
    assert not [c.source for c in tests if is_mixed(c)]


@pytest.mark.parametrize("book", NOTEBOOKS, ids=name_of)
def test_no_notebook_shows_an_error(book):
    outputs = [o for c in book.cells for o in c.outputs]
    assert not [o["ename"] for o in outputs if o["output_type"] == "error"]


def test_nothing_is_cut_at_the_edge_of_a_page():
    "Long lines of code wrap, and so do the cells of tables"
    css = (ROOT / "nbs" / "styles.css").read_text()
    for selector in ("pre, pre code", "main table", "main table code"):
        rule = re.search(rf"(?m)^{re.escape(selector)}[^{{}}]*{{([^}}]*)}}", css)
        assert rule and "overflow-wrap" in rule[1], selector
    assert "white-space: pre-wrap" in css
