#!/usr/bin/env bash
# Builds the wheel and installs it, with its declared dependencies and nothing else, into an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python -m build --wheel --outdir "$tmp" . >"$tmp/log" 2>&1 || { tail -n 30 "$tmp/log"; exit 1; }
python -m venv "$tmp/env"
"$tmp/env/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt "torch==2.13.0" "$tmp"/*.whl
cd "$tmp"
"$tmp/env/bin/python" - <<'PY'
import importlib
import pkgutil
from pathlib import Path

import fine_tune_llm as ft

names = [m.name for m in pkgutil.walk_packages(ft.__path__, "fine_tune_llm.")]
for name in names:
    importlib.import_module(name)
home = Path(ft.__path__[0])
for file in ("py.typed", "__init__.pyi", "stats/__init__.pyi", "data/bundled/triage.jsonl"):
    assert (home / file).exists(), f"the wheel lacks {file}"
rows = len(ft.load(ft.data.sample("triage")))
assert rows >= 1200
print(f"{len(names)} modules import, {rows} sample rows, from {str(home).split('/lib/')[-1]}")
PY
"$tmp/env/bin/ftllm" --version
"$tmp/env/bin/ftllm" fit --help >/dev/null
