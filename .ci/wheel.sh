#!/usr/bin/env bash
# Builds the wheel and installs it, with its declared dependencies and nothing else, into an environment of its own.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python -m build --wheel --outdir "$tmp" . >"$tmp/log" 2>&1 || { tail -n 30 "$tmp/log"; exit 1; }
python -m venv "$tmp/env"
"$tmp/env/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt "torch==2.13.0" "$tmp"/*.whl
cd "$tmp"
"$tmp/env/bin/python" - <<'PY'
import importlib, pkgutil, fine_tune_llm
names = [m.name for m in pkgutil.iter_modules(fine_tune_llm.__path__) if not m.name.startswith('_')]
for n in names: importlib.import_module(f'fine_tune_llm.{n}')
from fine_tune_llm.data.samples import sample
from fine_tune_llm.data.loading import load
assert len(load(sample('triage'))) >= 1200
print(f"{len(names)} modules import, {len(load(sample('triage')))} sample rows, from {fine_tune_llm.__path__[0].split('/lib/')[-1]}")
PY
"$tmp/env/bin/ftllm" --version
