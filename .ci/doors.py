"""Writes what follows from the front doors: a stub (`__init__.pyi`) beside each, so
that type checkers and editors see the lazy names, and the table of rooms on each
wing's page. `--check` writes nothing and fails where something is out of date.
"""

import ast
import json
import sys
from pathlib import Path

from house import PACKAGE, ROOT, Notebook, doors, notebooks, wings, words

TABLE = "## Rooms\n"


def modules_named(door: Path) -> list[str]:
    "The modules that a door shows whole (`submodules=` of its last statement)"
    if door.parent == PACKAGE:
        return wings()
    tree = ast.parse(door.read_text(encoding="utf-8"))
    given = (k for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords)
    lists = [ast.literal_eval(k.value) for k in given if k.arg == "submodules"]
    return lists[0] if lists else []


def stub(door: Path) -> str:
    "The door's names as plain imports"
    by_module = words(door)
    submodules = modules_named(door)
    public = sorted({w for found in by_module.values() for w in found} | {*submodules})
    lines = [f'"Written by .ci/doors.py from {door.name}."', ""]
    lines += [f"from . import {name} as {name}" for name in submodules]
    for module, found in by_module.items():
        lines += [f"from .{module} import {w} as {w}" for w in found]
    lines += ["", "__all__ = ["]
    lines += [f'    "{name}",' for name in public]
    return "\n".join([*lines, "]", ""])


def rooms(door: Notebook, books: list[Notebook]) -> str:
    "The wing's modules and what each promises, as a table"
    mine = [b for b in books if b.path.parent == door.path.parent and b != door]
    rows = [
        f"| [{b.module.split('.')[-1]}]({b.path.name}) | {b.promise} |" for b in mine
    ]
    return "\n".join([TABLE, "| room | what it is for |", "|---|---|", *rows])


def with_table(door: Notebook, books: list[Notebook]) -> str:
    "The text of the door's notebook, with the table as it should be"
    nb = json.loads(door.path.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown" and cell["source"][:1] == [TABLE]:
            cell["source"] = rooms(door, books).splitlines(keepends=True)
    return json.dumps(nb, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def wanted() -> dict[Path, str]:
    "Every file that this script writes, and its text"
    books = [b for b in notebooks() if b.module]
    files = {d.with_suffix(".pyi"): stub(d) for d in doors()}
    at_wings = [b for b in books if b.is_door and b.module != "__init__"]
    return files | {d.path: with_table(d, books) for d in at_wings}


def main(check: bool) -> None:
    stale = [
        path
        for path, text in wanted().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if not check:
        for path in stale:
            path.write_text(wanted()[path], encoding="utf-8")
    elif stale:
        names = ", ".join(str(p.relative_to(ROOT)) for p in stale)
        sys.exit(f"out of date: {names}; run: python .ci/doors.py")


if __name__ == "__main__":
    main("--check" in sys.argv)
