"""Fails on public signatures that do not say what goes in and what comes out.

For every public function and every public method of a public class: each parameter and
the return carry an annotation, at most three parameters are positional, and no bare
`**kwargs` hides what may be given. Classes that implement another library's interface
(`FOREIGN`) keep its parameters, and say their types.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from house import PACKAGE, ROOT

SPECIAL = {"__init__", "__call__", "__getitem__", "__len__", "__iter__", "__contains__"}
POSITIONAL = 3
FOREIGN = {"Trainer", "ResumableTrainer", "TrainerCallback", "CallbackHandler"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_public(name: str) -> bool:
    return not name.startswith("_") or name in SPECIAL


@dataclass(frozen=True)
class Signature:
    "A public function or method"

    name: str
    function: Function
    owner: ast.ClassDef | None = None

    @property
    def has_self(self) -> bool:
        decorators = [ast.unparse(d) for d in self.function.decorator_list]
        return self.owner is not None and "staticmethod" not in decorators

    @property
    def is_ours(self) -> bool:
        "Is its shape ours to choose? Not in another library's interface, nor a command"
        bases = self.owner.bases if self.owner else []
        names = {ast.unparse(b).split(".")[-1] for b in bases}
        decorators = [ast.unparse(d) for d in self.function.decorator_list]
        return not names & FOREIGN and not any(".command(" in d for d in decorators)


def public_signatures(tree: ast.Module) -> Iterator[Signature]:
    for node in tree.body:
        if isinstance(node, Function) and is_public(node.name):
            yield Signature(node.name, node)
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            for item in node.body:
                if isinstance(item, Function) and is_public(item.name):
                    yield Signature(f"{node.name}.{item.name}", item, node)


def with_defaults(given: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    "Each parameter with its default"
    positional = [*given.posonlyargs, *given.args]
    late = positional[len(positional) - len(given.defaults) :]
    yield from zip(late, given.defaults)
    yield from zip(given.kwonlyargs, given.kw_defaults)


def says_none(default: ast.expr | None) -> bool:
    return isinstance(default, ast.Constant) and default.value is None


def may_be_none(annotation: ast.expr) -> bool:
    text = ast.unparse(annotation)
    return any(word in text for word in ("None", "Any", "Optional", "object"))


def complaints(signature: Signature) -> Iterator[str]:
    "What is wrong with one signature"
    function, given = signature.function, signature.function.args
    positional = [*given.posonlyargs, *given.args][int(signature.has_self) :]
    starred = [a for a in (given.vararg, given.kwarg) if a]
    for arg in [*positional, *given.kwonlyargs, *starred]:
        if arg.annotation is None:
            yield f"`{arg.arg}` has no annotation"
    for arg, default in with_defaults(given):
        if says_none(default) and arg.annotation and not may_be_none(arg.annotation):
            yield f"`{arg.arg}` is None by default, and its annotation has no None"
    if function.returns is None and function.name != "__init__":
        yield "the return has no annotation"
    if len(positional) > POSITIONAL and signature.is_ours:
        names = ", ".join(a.arg for a in positional)
        yield f"{len(positional)} positional ({names}): put a `*` after three"
    if given.kwarg and given.kwarg.arg == "kwargs" and signature.is_ours:
        yield "bare `**kwargs`"


def check(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = path.relative_to(ROOT)
    return [
        f"{where}: {signature.name}: {complaint}"
        for signature in public_signatures(tree)
        for complaint in complaints(signature)
    ]


def main() -> None:
    files = (p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "_modidx.py")
    found = [complaint for path in files for complaint in check(path)]
    print(*found, sep="\n")
    if found:
        sys.exit(f"{len(found)} complaints about public signatures")


if __name__ == "__main__":
    main()
