"README.md from nbs/index.ipynb, without quarto; `--check` compares"

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cell(c):
    src = "".join(c["source"])
    if c["cell_type"] == "markdown":
        return src
    if c["cell_type"] != "code" or re.match(r"#\|\s*hide", src):
        return ""
    code = "\n".join(line for line in src.splitlines() if not line.startswith("#|"))
    out = [
        "".join(
            o.get(
                "text",
                o.get("data", {}).get(
                    "text/markdown", o.get("data", {}).get("text/plain", "")
                ),
            )
        )
        for o in c["outputs"]
    ]
    return f"```python\n{code}\n```" + "".join(
        f"\n\n```text\n{o.rstrip()}\n```" for o in out if o
    )


def main(check):
    cells = json.loads((ROOT / "nbs/index.ipynb").read_text(encoding="utf-8"))["cells"]
    text = re.sub(r"\n{3,}", "\n\n", "\n\n".join(map(cell, cells))).strip() + "\n"
    readme = ROOT / "README.md"
    if not check:
        readme.write_text(text, encoding="utf-8")
    elif readme.read_text(encoding="utf-8") != text:
        sys.exit(
            "README.md is not what nbs/index.ipynb says; run: python .ci/readme.py"
        )


if __name__ == "__main__":
    main("--check" in sys.argv)
