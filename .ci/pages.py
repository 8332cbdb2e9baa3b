"""What the site says about a function or class, read from the source's text.

nbdev's own step executes the exported cells again, as `__main__`, which a registry
rightly refuses, and then links words inside signatures. This one reads the modules:
nothing is imported, a signature is shown as it was written, and every method, property
and field has an entry of its own. settings.ini names the two steps under `procs`.
"""

import ast
import io
import os
import re
import tokenize
from collections import Counter
from configparser import ConfigParser
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from house import PACKAGE, ROOT, Notebook, doors, notebooks, words

Function = ast.FunctionDef | ast.AsyncFunctionDef
SPECIAL = {"__call__", "__getitem__", "__len__", "__iter__", "__contains__"}


@cache
def settings() -> dict[str, str]:
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


# The source, as text


@dataclass(frozen=True)
class Source:
    "One exported module"

    book: Notebook

    @property
    def path(self) -> Path:
        return PACKAGE.joinpath(*self.book.module.split(".")).with_suffix(".py")

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def comments(self) -> dict[int, tuple[str, bool]]:
        "Line -> comment, and whether it has the line for itself; no marks of cells"
        found = {}
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT and not token.string.startswith("# %%"):
                alone = token.line.strip().startswith("#")
                found[token.start[0]] = token.string.lstrip("# ").strip(), alone
        return found

    def code(self, node: ast.AST | None) -> str:
        "An expression as it was written, on one line"
        if node is None:
            return ""
        return " ".join(ast.get_source_segment(self.text, node).split())

    def docment(self, first: int, last: int) -> str:
        "The comment at the end of these lines, or in the lines above them"
        for line in range(last, first - 1, -1):
            if line in self.comments and not self.comments[line][1]:
                return self.comments[line][0]
        above = []
        line = first - 1
        while line in self.comments and self.comments[line][1]:
            above.insert(0, self.comments[line][0])
            line -= 1
        return " ".join(above)

    @property
    def page(self) -> str:
        "The page of the site, relative to its root"
        folder = self.book.path.parent.relative_to(ROOT / "nbs")
        return (folder / self.book.page).as_posix()


def is_public(name: str) -> bool:
    return not name.startswith("_") or name in SPECIAL


def decorators(node: ast.AST) -> set[str]:
    return {ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list}


def is_property(node: ast.AST) -> bool:
    return isinstance(node, Function) and bool(
        decorators(node) & {"property", "cached_property"}
    )


def is_dataclass(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and "dataclass" in decorators(node)


def public_members(cls: ast.ClassDef) -> list[Function]:
    "Methods and properties, one of each name"
    by_name = {
        n.name: n
        for n in cls.body
        if isinstance(n, Function)
        and is_public(n.name)
        and "setter" not in decorators(n)
    }
    return list(by_name.values())


def fields(cls: ast.ClassDef) -> list[ast.AnnAssign]:
    "The public fields of a dataclass, or of a class that only annotates them"
    return [
        n
        for n in cls.body
        if isinstance(n, ast.AnnAssign)
        and is_public(n.target.id)
        and "ClassVar" not in ast.unparse(n.annotation)
    ]


# What goes on the page


@dataclass(frozen=True)
class Parameter:
    "One line of a signature and of its table"

    name: str
    annotation: str = ""
    default: str = ""
    text: str = ""
    star: str = ""

    @property
    def code(self) -> str:
        typed = f"{self.star}{self.name}"
        if self.annotation:
            typed += f": {self.annotation}"
        if not self.default:
            return typed
        return (
            f"{typed} = {self.default}"
            if self.annotation
            else f"{typed}={self.default}"
        )


def parameters_of(function: Function, source: Source) -> list[Parameter]:
    "In order, with `*` where keywords begin; `self` is left out"
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + given.defaults
    found = [_parameter(a, d, source) for a, d in zip(positional, defaults)]
    found = [p for p in found if p.name not in ("self", "cls")]
    if given.vararg:
        found.append(_parameter(given.vararg, None, source, star="*"))
    elif given.kwonlyargs:
        found.append(Parameter("*"))
    pairs = zip(given.kwonlyargs, given.kw_defaults)
    found += [_parameter(a, d, source) for a, d in pairs]
    if given.kwarg:
        found.append(_parameter(given.kwarg, None, source, star="**"))
    return found


def _parameter(arg, default, source, star=""):
    last = default.end_lineno if default else arg.end_lineno
    return Parameter(
        arg.arg,
        source.code(arg.annotation),
        source.code(default),
        source.docment(arg.lineno, last),
        star,
    )


def parameters_of_fields(cls: ast.ClassDef, source: Source) -> list[Parameter]:
    return [
        Parameter(
            n.target.id,
            source.code(n.annotation),
            source.code(n.value),
            source.docment(n.lineno, n.end_lineno),
        )
        for n in fields(cls)
    ]


def signature(name: str, parameters: list[Parameter], returns: str) -> str:
    "As `ruff format` would lay it out, without `def`"
    codes = [p.code for p in parameters]
    tail = f" -> {returns}" if returns else ""
    line = f"{name}({', '.join(codes)}){tail}"
    if len(line) > 88:
        line = "\n".join([f"{name}(", *(f"    {c}," for c in codes), f"){tail}"])
    return f"```python\n{line}\n```"


def in_table(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def code(text: str) -> str:
    return f"`{in_table(text)}`" if text else ""


def table(kind: str, rows: list[list[str]]) -> str:
    "A pipe table whose empty columns are left out"
    heads = [kind, "type", "default", "what it is"]
    widths = [18, 24, 14, 60]  # pandoc shares out the page by the dashes
    kept = [i for i in range(4) if i == 0 or any(r[i] for r in rows)]
    lines = [[heads[i] for i in kept], ["-" * widths[i] for i in kept]]
    lines += [[r[i] for i in kept] for r in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def parameter_table(parameters, returns="", returns_text=""):
    rows = [
        [code(p.star + p.name), code(p.annotation), code(p.default), in_table(p.text)]
        for p in parameters
        if p.name != "*"
    ]
    if returns and returns != "None":
        rows.append(["*returns*", code(returns), "", in_table(returns_text)])
    said = any(r[3] for r in rows)
    return table("parameter", rows) if said else ""


@dataclass(frozen=True)
class Entry:
    "A function, class, method or property on the page of its module"

    source: Source
    node: Function | ast.ClassDef
    owner: ast.ClassDef | None = None
    level: int = 3

    @property
    def name(self) -> str:
        return f"{self.owner.name}.{self.node.name}" if self.owner else self.node.name

    @property
    def anchor(self) -> str:
        return self.name

    @property
    def heading(self) -> str:
        hashes = "#" * self.level
        shown = self.name.replace("__", r"\_\_")
        return f"{hashes} {shown} {{#{self.anchor}}}"

    @property
    def link(self) -> str:
        "To the lines in the repository"
        cfg = settings()
        file = self.source.path.relative_to(ROOT).as_posix()
        url = f"{cfg['git_url']}/blob/{cfg['branch']}/{file}#L{self.node.lineno}"
        return f"[source]({url}){{.source}}"

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def function_parts(self) -> list[str]:
        node = self.node
        returns = self.source.code(node.returns)
        if is_property(node):
            typed = f"{self.name}: {returns}" if returns else self.name
            return [f"```python\n{typed}\n```", self.docstring]
        parameters = parameters_of(node, self.source)
        text = ""
        if node.returns:
            text = self.source.docment(node.returns.lineno, node.returns.end_lineno)
        return [
            signature(self.name, parameters, returns),
            self.docstring,
            parameter_table(parameters, returns, text),
        ]

    @property
    def class_parts(self) -> list[str]:
        node, source = self.node, self.source
        init = next(
            (n for n in node.body if getattr(n, "name", "") == "__init__"), None
        )
        if init:
            parameters = parameters_of(init, source)
            return [
                signature(self.name, parameters, ""),
                self.docstring,
                parameter_table(parameters),
            ]
        parameters = parameters_of_fields(node, source)
        shown = parameters if is_dataclass(node) else []
        rows = [
            [
                f"[`{p.name}`]{{#{self.anchor}.{p.name}}}",
                code(p.annotation),
                code(p.default),
                in_table(p.text),
            ]
            for p in parameters
        ]
        return [
            signature(self.name, shown, ""),
            self.docstring,
            table("field", rows) if rows else "",
        ]

    @property
    def bases(self) -> str:
        found = [ast.unparse(b) for b in self.node.bases]
        return f"Builds on {', '.join(f'`{b}`' for b in found)}." if found else ""

    @property
    def members(self) -> list["Entry"]:
        found = public_members(self.node)
        found.sort(key=lambda n: not is_property(n))
        return [Entry(self.source, n, self.node, self.level + 1) for n in found]

    @cached_property
    def markdown(self) -> str:
        if isinstance(self.node, ast.ClassDef):
            parts = [*self.class_parts, self.bases, *(m.markdown for m in self.members)]
        else:
            parts = self.function_parts
        return "\n\n".join(p for p in [self.heading, self.link, *parts] if p)

    @property
    def anchors(self) -> list[str]:
        "Everything that this entry lets a link point to"
        if not isinstance(self.node, ast.ClassDef):
            return [self.anchor]
        own_fields = [] if has_init(self.node) else fields(self.node)
        within = [f"{self.anchor}.{f.target.id}" for f in own_fields]
        return [self.anchor, *within, *(m.anchor for m in self.members)]


def has_init(cls: ast.ClassDef) -> bool:
    return any(getattr(n, "name", "") == "__init__" for n in cls.body)


# All that there is


@cache
def sources() -> dict[str, Source]:
    return {b.module: Source(b) for b in notebooks() if b.module}


@cache
def entries(module: str) -> dict[str, Entry]:
    "The public functions and classes of a module, by name"
    source = sources()[module]
    return {
        n.name: Entry(source, n)
        for n in source.tree.body
        if isinstance(n, Function | ast.ClassDef)
        and is_public(n.name)
        and "patch" not in decorators(n)
    }


@dataclass
class Index:
    "Where a name in backticks leads to"

    targets: dict[str, str] = field(default_factory=dict)
    local: dict[str, dict[str, str]] = field(default_factory=dict)

    def find(self, word: str, module: str | None) -> str | None:
        "Page and anchor; a name of the own module comes first"
        own = self.local.get(module, {})
        return own.get(word) or self.targets.get(word)


@cache
def index() -> Index:
    found = Index()
    count = Counter(n for m in sources() for n in entries(m))
    at_doors = {
        w: f"{d.parent.name}.{m}".removeprefix("fine_tune_llm.")
        for d in doors()
        for m, ws in words(d).items()
        for w in ws
    }
    for module, source in sources().items():
        short = module.removesuffix(".__init__")
        found.targets[short] = found.targets[f"fine_tune_llm.{short}"] = source.page
        here = found.local[module] = {}
        for name, entry in entries(module).items():
            names = [name, *(m.name for m in members_of(entry))]
            here |= {n: f"{source.page}#{n}" for n in names}
            chosen = count[name] == 1 or at_doors.get(name) == module
            found.targets |= {
                prefix + n: f"{source.page}#{n}"
                for n in names
                for prefix in [f"{short}.", f"fine_tune_llm.{short}."] + [""] * chosen
            }
    return found


def members_of(entry: Entry) -> list[Entry]:
    return entry.members if isinstance(entry.node, ast.ClassDef) else []


@cache
def taken(module: str | None) -> set[str]:
    "Anchors that entries of the page need"
    if module not in sources():
        return set()
    return {a for e in entries(module).values() for a in e.anchors}


def automatic_anchor(heading: str) -> str:
    "What pandoc makes of a heading"
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    text = re.sub(r"[^\w\s.-]", "", text.lower())
    return re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", text.strip())) or "section"


def heading_apart(line: str, module: str | None) -> str:
    "A heading of prose that an entry has the anchor of gets another one"
    anchor = automatic_anchor(line.lstrip("#"))
    return f"{line} {{#about-{anchor}}}" if anchor in taken(module) else line


WORD = re.compile(r"(?<![\[`])`([A-Za-z_][\w.]*)(\(\))?`(?![\]`])")
FILE = re.compile(r"\]\(([^)#:\s]+\.ipynb)(#[^)\s]*)?\)")


def linked(text: str, page: Path, module: str | None) -> str:
    "Names in backticks become links, links to notebooks become links to pages"
    here = page.parent.relative_to(ROOT / "nbs").as_posix()
    me = (page.parent.relative_to(ROOT / "nbs") / Notebook(page).page).as_posix()

    def link(match):
        target = index().find(match[1], module)
        if target is None or target == me:
            return match[0]
        file, _, anchor = target.partition("#")
        url = "" if file == me else os.path.relpath(file, here)
        return f"[{match[0]}]({url}{'#' if anchor else ''}{anchor})"

    def to_page(match):
        path = Path(match[1])
        url = path.with_name(Notebook(path).page).as_posix()
        return f"]({url}{match[2] or ''})"

    lines, in_fence = [], False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        in_fence ^= fence
        if not (in_fence or fence or line.startswith(("#", "    "))):
            line = FILE.sub(to_page, WORD.sub(link, line))
        elif not in_fence and re.match(r"#+ ", line) and "{#" not in line:
            line = heading_apart(line, module)
        lines.append(line)
    return "\n".join(lines)


# nbdev's processors


class Entries:
    "Puts entries where nbdev asks for `show_doc`"

    def __init__(self, nb):
        self.module = Notebook(Path(nb.path_).resolve()).module

    def __call__(self, cell):
        found = re.search(r"^show_doc\(([\w.]+)", cell.source, re.M)
        if cell.cell_type != "code" or not found or not self.module:
            return
        entry = entries(self.module).get(found[1])
        if entry is None:
            del cell["source"]  # nbdev drops such a cell
            return
        cell.cell_type, cell.source = "markdown", entry.markdown
        for key in ("outputs", "execution_count"):
            cell.pop(key, None)


def heading_level(cell) -> int:
    "Of the heading that the cell begins with; 0 without one"
    found = re.match(r"(#+) ", cell.source) if cell.cell_type == "markdown" else None
    return len(found[1]) if found else 0


class Links:
    """Links names in prose and in entries, and drops a heading under which a page has
    nothing, because all that stood there is private"""

    def __init__(self, nb):
        self.nb = nb
        self.path = Path(nb.path_).resolve()
        self.module = Notebook(self.path).module

    def __call__(self, cell):
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, self.path, self.module)

    def end(self):
        cells = self.nb.cells
        for cell, after in zip(cells, [*cells[1:], None]):
            level = heading_level(cell)
            alone = level and "\n" not in cell.source.strip()
            if alone and (after is None or 0 < heading_level(after) <= level):
                del cell["source"]
