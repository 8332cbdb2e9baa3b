"""Nothing depends on the order of a set, which is that of the process's hash seed

A set may be asked, compared, counted and sorted. What walks through one otherwise is
found here, and named with a reason where it does no harm.
"""

import ast
from pathlib import Path

import fine_tune_llm

PACKAGE = Path(fine_tune_llm.__file__).parent
HARMLESS = {
    # sets of small whole numbers, whose order is that of the numbers
    ("stats/multiple_testing.py", "unfinished"),
    # names of folders for a dict that is compared by key
    ("run/stages.py", "{name.split('/')[0] for name in said}"),
}
WALKING = {"list", "tuple", "enumerate", "map", "zip", "next", "iter", "join", "extend"}


def _is_set(node, names):
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", "") in ("set", "frozenset")
    if isinstance(node, ast.BinOp):
        return _is_set(node.left, names) or _is_set(node.right, names)
    return False


def _walked(node):
    "What a piece of code walks through"
    if isinstance(node, ast.For):
        return [node.iter]
    if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.DictComp)):
        return [part.iter for part in node.generators]
    if isinstance(node, ast.Starred):
        return [node.value]
    if isinstance(node, ast.Call):
        word = getattr(node.func, "id", getattr(node.func, "attr", ""))
        return node.args if word in WALKING else []
    return []


def _sorted_ones(tree):
    "Generators and lists that are handed to something which does not ask for order"
    calm = {"sorted", "sum", "any", "all", "min", "max", "set", "frozenset", "len"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in calm:
            yield from map(id, node.args)


def test_no_set_is_walked_through():
    found = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calm = set(_sorted_ones(tree))
        names = {
            target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and _is_set(node.value, set())
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            for walked in _walked(node) if id(node) not in calm else ():
                if _is_set(walked, names):
                    place = file.relative_to(PACKAGE).as_posix()
                    found.add((place, ast.unparse(walked)))
    assert found <= HARMLESS, found - HARMLESS
