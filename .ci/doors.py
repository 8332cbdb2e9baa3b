"""Writes what follows from the front doors: a stub (`__init__.pyi`) beside each, so
that type checkers and editors see the lazy names, the table of rooms on each wing's
page, the page of all words, and llms.txt. `--check` writes nothing and fails where
something is out of date.
"""

import ast
import json
import sys
from pathlib import Path

from house import PACKAGE, ROOT, Notebook, doors, notebooks, wings, words
from pages import entries, settings, sources

ROOMS = "## Rooms\n"
WINGS = "## Wings\n"
OVERVIEW = """---
title: All words
description: Everything that the doors name, by wing
---

`import fine_tune_llm as ft` gives the words of the first table; each wing's door, such
as `from fine_tune_llm.stats import ece`, gives its own. A module is loaded when a word
of it is first touched. What is not named here is private."""


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


def house_order(book: Notebook) -> tuple[int, str]:
    "Wings in their order, then what stands outside"
    order = wings()
    place = order.index(book.wing) if book.wing in order else len(order)
    return place, book.path.name


def rooms(door: Notebook, books: list[Notebook]) -> str:
    "What is behind the door, and what each promises, as a table"
    if door.module == "__init__":
        title, head = WINGS, "wing"
        mine = [b for b in books if b.is_door or "." not in b.module]
        mine = sorted((b for b in mine if b != door), key=house_order)
    else:
        title, head = ROOMS, "room"
        mine = [b for b in books if b.path.parent == door.path.parent and b != door]
    lines = [title, f"| {head} | what it is for |", f"|{'-' * 20}|{'-' * 80}|"]
    for book in mine:
        name = book.module.removesuffix(".__init__").split(".")[-1]
        target = book.path.relative_to(door.path.parent).as_posix()
        lines.append(f"| [{name}]({target}) | {book.promise} |")
    return "\n".join(lines)


def with_table(door: Notebook, books: list[Notebook]) -> str:
    "The text of the door's notebook, with the table as it should be"
    nb = json.loads(door.path.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        is_table = cell["source"][:1] in ([ROOMS], [WINGS])
        if cell["cell_type"] == "markdown" and is_table:
            cell["source"] = rooms(door, books).splitlines(keepends=True)
    return json.dumps(nb, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def summary(module: str, word: str) -> str:
    "The first line of a word's docstring, with what a table cannot hold escaped"
    entry = entries(module).get(word)
    lines = entry.docstring.splitlines() if entry else []
    return lines[0].replace("|", r"\|") if lines else ""


def words_table(folder: str, by_module: dict[str, list[str]]) -> str:
    "The words of a door, each with its first line"
    rows = ["| word | what it is | page |", f"|{'-' * 26}|{'-' * 60}|{'-' * 18}|"]
    for name, found in by_module.items():
        module = f"{folder}.{name}" if folder else name
        if module not in sources():
            continue
        page = sources()[module].page
        for word in found:
            anchor = f"#{word}" if word in entries(module) else ""
            rows.append(
                f"| [`{word}`]({page}{anchor}) | {summary(module, word)} "
                f"| [{name.split('.')[-1]}]({page}) |"
            )
    return "\n".join(rows)


def overview(books: list[Notebook]) -> str:
    "The page of all words, by wing"
    parts = [OVERVIEW]
    for door in doors():
        folder = "" if door.parent == PACKAGE else door.parent.name
        book = next(b for b in books if b.is_door and b.wing == (folder or "__init__"))
        title = f"`{'.'.join(door.parent.relative_to(ROOT).parts)}`"
        parts += [f"## {title}", f"{book.promise}.", words_table(folder, words(door))]
    return "\n\n".join(parts) + "\n"


def llms(books: list[Notebook]) -> str:
    "What a language model should read first: the pages as markdown, each with its line"
    cfg = settings()
    home = f"{cfg['doc_host']}{cfg['doc_baseurl']}"
    lines = [f"# {cfg['title']}", "", f"> {cfg['description']}", ""]
    groups = {"Pages to read": [], "Modules": []}
    for book in books:
        folder = book.path.parent.relative_to(ROOT / "nbs")
        url = f"{home}/{(folder / book.page).as_posix()}.md"
        name = book.module.removesuffix(".__init__") if book.module else book.path.stem
        group = groups["Modules" if book.module else "Pages to read"]
        group.append(f"- [{name}]({url}): {book.promise}")
    for title, found in groups.items():
        lines += [f"## {title}", "", *found, ""]
    return "\n".join(lines)


def wanted() -> dict[Path, str]:
    "Every file that this script writes, and its text"
    pages = notebooks()
    books = [b for b in pages if b.module]
    files = {d.with_suffix(".pyi"): stub(d) for d in doors()}
    files[ROOT / "nbs" / "overview.qmd"] = overview(books)
    files[ROOT / "nbs" / "llms.txt"] = llms(pages)
    return files | {b.path: with_table(b, books) for b in books if b.is_door}


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
