"What the scripts of this folder and tests/test_house.py read: notebooks as text"

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fine_tune_llm"
ROOT_MODULES = {"__init__", "predictions", "testing"}
EXPORTS = {"export", "exports", "exporti"}
DIRECTIVE = re.compile(r"^#\|\s*(.+?)\s*$", re.M)


@dataclass(frozen=True)
class Cell:
    "One cell: what it says and what it showed"

    kind: str
    source: str
    outputs: tuple[dict, ...] = ()

    @cached_property
    def directives(self) -> list[str]:
        return DIRECTIVE.findall(self.source) if self.kind == "code" else []

    @property
    def is_exported(self) -> bool:
        return any(d.split()[0] in EXPORTS for d in self.directives)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)


@dataclass(frozen=True)
class Notebook:
    "A notebook and the module that it becomes"

    path: Path

    @cached_property
    def cells(self) -> list[Cell]:
        raw = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        return [
            Cell(c["cell_type"], "".join(c["source"]), tuple(c.get("outputs", ())))
            for c in raw
        ]

    @property
    def code(self) -> list[Cell]:
        return [c for c in self.cells if c.kind == "code"]

    @property
    def exported(self) -> list[Cell]:
        return [c for c in self.code if c.is_exported]

    @cached_property
    def module(self) -> str | None:
        "`stats.metrics`; None where nothing is exported"
        found = (
            d.split()[1]
            for c in self.code
            for d in c.directives
            if d.startswith("default_exp ")
        )
        return next(found, None)

    @property
    def number(self) -> int:
        return int(re.match(r"\d+", self.path.name).group())

    @property
    def wing(self) -> str:
        return self.module.split(".")[0]

    @property
    def is_door(self) -> bool:
        return self.module.endswith("__init__")

    @property
    def page(self) -> str:
        "The name of the rendered page, within its folder"
        stem = re.sub(r"^\d+[a-zA-Z0-9]*_", "", self.path.stem.lower())
        return f"{stem}.html"

    @cached_property
    def promise(self) -> str:
        "The `> ` line under the title"
        text = "\n".join(c.source for c in self.cells if c.kind == "markdown")
        found = re.search(r"^>\s+(\S.*?)\s*$", text, re.M)
        return found.group(1) if found else ""


def notebooks() -> list[Notebook]:
    "All notebooks, in the order of their paths"
    paths = sorted((ROOT / "nbs").rglob("*.ipynb"))
    skipped = {"_proc", ".ipynb_checkpoints"}
    return [Notebook(p) for p in paths if not skipped & set(p.parts)]


def constant(path: Path, name: str) -> object:
    "The value of a module-level constant, read without importing"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(f"{path} has no `{name}`")


def wings() -> list[str]:
    "The wings in order, as the house's front door has them"
    return constant(PACKAGE / "__init__.py", "_WINGS")


def words(door: Path) -> dict[str, list[str]]:
    "The public words of a door, by module"
    return constant(door, "_WORDS")


def doors() -> list[Path]:
    "The `__init__.py` of the house and of each wing"
    folders = [PACKAGE, *(PACKAGE / w for w in wings() if (PACKAGE / w).is_dir())]
    return [f / "__init__.py" for f in folders]


def imports(cells: list[Cell]) -> Iterator[str]:
    "The dotted names that code cells import"
    for node in (n for c in cells for n in ast.walk(c.tree)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def statements(function: ast.AST) -> int:
    "Statements of a function, nested ones included, itself not"
    return sum(isinstance(n, ast.stmt) for n in ast.walk(function)) - 1
