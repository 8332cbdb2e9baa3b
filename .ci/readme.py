"README.md from nbs/index.ipynb, without quarto; `--check` compares"

import re
import sys

from house import ROOT, Cell, Notebook
from pages import settings

SAID = ("text/markdown", "text/plain")


def said(output: dict) -> str:
    "What an output shows, as text"
    data = output.get("data", {})
    found = output.get("text") or next((data[k] for k in SAID if k in data), "")
    return "".join(found).rstrip()


def markdown(cell: Cell) -> str:
    "A cell as it stands in the README"
    if cell.kind == "markdown":
        return cell.source
    if cell.kind != "code" or "hide" in cell.directives:
        return ""
    lines = [x for x in cell.source.splitlines() if not x.startswith("#|")]
    blocks = ["```python", *lines, "```"]
    for text in filter(None, map(said, cell.outputs)):
        blocks += ["", "```text", text, "```"]
    return "\n".join(blocks)


def outward(text: str) -> str:
    "Links to notebooks lead to the site, pictures to their place in the repository"
    home = f"{settings()['doc_host']}{settings()['doc_baseurl']}"

    def to_site(match):
        path = ROOT / "nbs" / match[1]
        folder = path.parent.relative_to(ROOT / "nbs").as_posix()
        page = Notebook(path).page
        return f"]({home}/{page if folder == '.' else f'{folder}/{page}'})"

    text = re.sub(r"\]\(([^):]+\.ipynb)\)", to_site, text)
    return text.replace("](images/", "](nbs/images/")


def main(check: bool) -> None:
    cells = Notebook(ROOT / "nbs" / "index.ipynb").cells
    text = outward("\n\n".join(map(markdown, cells)))
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    readme = ROOT / "README.md"
    if not check:
        readme.write_text(text, encoding="utf-8")
    elif readme.read_text(encoding="utf-8") != text:
        sys.exit("README.md is not what nbs/index.ipynb says; run: make export")


if __name__ == "__main__":
    main("--check" in sys.argv)
