"""Checks the processed notebooks (`_proc`) for what needs no quarto.

Dead links and anchors, links to ourselves that are absolute, links inside signatures,
pictures without a description, public names without an entry, anchors that are there
twice, headings with nothing under them, and the settings that the pages rely on.
"""

import json
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from house import ROOT, Cell, Notebook
from pages import automatic_anchor, entries, settings, sources

PROC = ROOT / "_proc"
LEAST_ALT = 20  # characters that describe a picture
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)[^)]*\)")
HEADING = re.compile(r"^(#{1,6})\s*(.*?)\s*(?:\{#([^}\s]+)[^}]*\})?\s*$")
SPAN = re.compile(r"\]\{#([^}\s]+)[^}]*\}")


def prose(text: str) -> list[str]:
    "The lines outside of code fences and comments"
    without = re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.M | re.S)
    without = re.sub(r"<!--.*?-->", "", without, flags=re.S)
    return without.splitlines()


@dataclass(frozen=True)
class Page:
    "One page of the site"

    path: Path

    @cached_property
    def cells(self) -> list[Cell]:
        if self.path.suffix == ".ipynb":
            return Notebook(self.path).cells
        return [Cell("markdown", self.path.read_text(encoding="utf-8"))]

    @cached_property
    def texts(self) -> list[str]:
        return [c.source for c in self.cells if c.kind == "markdown"]

    @cached_property
    def lines(self) -> list[str]:
        return [line for text in self.texts for line in prose(text)]

    @property
    def url(self) -> str:
        name = self.path.with_suffix(".html").name
        if self.path.suffix == ".ipynb":
            name = Notebook(self.path).page
        return (self.path.parent.relative_to(PROC) / name).as_posix()

    @cached_property
    def anchors(self) -> list[str]:
        found = []
        for line in self.lines:
            if heading := HEADING.match(line):
                found.append(heading[3] or automatic_anchor(heading[2]))
            found += SPAN.findall(line if not heading else "")
        return found


def pages() -> dict[str, Page]:
    kinds = (".ipynb", ".qmd", ".md")
    found = [Page(p) for p in sorted(PROC.rglob("*")) if p.suffix in kinds]
    return {p.url: p for p in found if "_docs" not in p.path.parts}


def bad_links(page: Page, site: dict[str, Page]) -> Iterator[str]:
    home = f"{settings()['doc_host']}{settings()['doc_baseurl']}"
    for picture, text, target in LINK.findall("\n".join(page.lines)):
        if picture and len(text) < LEAST_ALT:
            yield f"picture {target} has no description"
        if target.startswith(home):
            yield f"absolute link to ourselves: {target}"
        if picture or re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        url = posixpath.normpath(posixpath.join(posixpath.dirname(page.url), file))
        other = site.get(url) if file else page
        is_file = (PROC / url).is_file() and not anchor
        if other is None and not is_file:
            yield f"dead link: {target}"
        elif anchor and anchor not in other.anchors:
            yield f"dead anchor: {target}"


def bad_signatures(page: Page) -> Iterator[str]:
    for text in page.texts:
        for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
            if re.search(r"\]\(\S*\.html|NoneType", block):
                yield f"markdown or NoneType in the signature {block.split()[0]}"


def marks_of_cells(page: Page) -> Iterator[str]:
    "What `nbdev_export` writes above a cell says nothing about a parameter"
    for line in page.lines:
        if re.search(r"\|\s*%%", line):
            yield f"the mark of a cell in a table: {line}"


def shows_picture(cell: Cell) -> bool:
    kinds = {k for o in cell.outputs for k in o.get("data", {})}
    return any(k.startswith("image/") for k in kinds)


def bad_pictures(page: Page) -> Iterator[str]:
    for cell in page.cells:
        alt = [d for d in cell.directives if d.startswith("fig-alt:")]
        if shows_picture(cell) and (not alt or len(alt[0]) < LEAST_ALT):
            first = next(x for x in cell.source.splitlines() if not x.startswith("#|"))
            yield f'no `#| fig-alt: "..."` on the picture of: {first}'


def bad_headings(page: Page) -> Iterator[str]:
    "A heading must have something under it before the next of its level"
    blocks = []
    for cell in page.cells:
        lines = prose(cell.source) if cell.kind == "markdown" else [cell.source]
        blocks += [(cell.kind, line) for line in lines if line.strip()]
    levels = [
        len(m[1]) if kind == "markdown" and (m := HEADING.match(line)) else 0
        for kind, line in blocks
    ]
    for (_, line), level, after in zip(blocks, levels, [*levels[1:], 1]):
        if level and 0 < after <= level:
            yield f"empty heading: {line}"
    for anchor, times in Counter(page.anchors).items():
        if times > 1:
            yield f"anchor #{anchor} is there {times} times"


def missing_entries(page: Page) -> Iterator[str]:
    for module, source in sources().items():
        if source.page == page.url:
            wanted = [a for e in entries(module).values() for a in e.anchors]
            yield from (f"no entry: {a}" for a in wanted if a not in page.anchors)


CHECKS = [
    bad_signatures,
    marks_of_cells,
    bad_pictures,
    bad_headings,
    missing_entries,
]


def not_in_sidebar(config: dict) -> Iterator[str]:
    text = json.dumps(config["website"]["sidebar"])
    named = set(re.findall(r'"href": "([^"]+)"', text))
    for pattern in re.findall(r'"contents": "([^"]+)"', text):
        named |= {p.relative_to(PROC).as_posix() for p in PROC.glob(pattern)}
    every = {p.path.relative_to(PROC).as_posix() for p in pages().values()}
    yield from (f"_quarto.yml: the sidebar lacks {p}" for p in sorted(every - named))


def bad_settings() -> Iterator[str]:
    config = yaml.safe_load((PROC / "_quarto.yml").read_text(encoding="utf-8"))
    if not config["format"]["html"].get("keep-md"):
        yield "_quarto.yml: format.html needs `keep-md: true`"
    yield from not_in_sidebar(config)
    text = json.dumps(config)
    for path in re.findall(r'"([\w/-]+\.(?:ipynb|qmd|svg|css|txt))"', text):
        if not (PROC / path).exists():
            yield f"_quarto.yml: {path} does not exist"
    for pattern in re.findall(r'"([\w/-]*\*[\w.*]*)"', text):
        if not list(PROC.glob(pattern)):
            yield f"_quarto.yml: nothing matches {pattern}"


def main() -> None:
    site = pages()
    found = [f"{p.url}: {c}" for p in site.values() for c in bad_links(p, site)]
    found += [f"{p.url}: {c}" for p in site.values() for f in CHECKS for c in f(p)]
    found += bad_settings()
    print(*found, sep="\n")
    if found:
        sys.exit(f"{len(found)} complaints about {len(site)} pages")


if __name__ == "__main__":
    main()
