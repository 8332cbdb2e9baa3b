#!/usr/bin/env bash
# Everything that must hold before a commit lands; called by `make test`, pytest last.
set -euo pipefail
state() { find nbs fine_tune_llm -type f \( -name '*.py' -o -name '*.ipynb' \) -not -path '*/_proc/*' -print0 | sort -z | xargs -0 sha256sum; }

echo "== notebooks are clean and exported"
before=$(state)
nbdev_clean
nbdev_export
[ "$before" = "$(state)" ] || { diff <(echo "$before") <(state) | cut -c1-200; echo "run: nbdev_export && nbdev_clean, and commit"; exit 1; }
python .ci/readme.py --check

echo "== lint"
# B905: the zips here pair columns of one table; B008: the default is a frozen settings object
ruff check --select F,B --ignore B905,B008 fine_tune_llm tests benchmarks .ci

echo "== notebooks run"
OMP_NUM_THREADS=1 nbdev_test --n_workers 2 --timing   # one thread each: two workers on two cores otherwise fight

echo "== docs are processed"
# without quarto, nbdev would try to install it, and this project, before it begins; processing needs neither
stub=$(mktemp -d); trap 'rm -rf "$stub"' EXIT
command -v quarto >/dev/null || { printf '#!/bin/sh\nexit 0\n' > "$stub/quarto"; chmod +x "$stub/quarto"; }
PATH="$PATH:$stub" nbdev_proc_nbs

echo "== the wheel builds and imports in a clean environment"
bash .ci/wheel.sh

echo "== tests"
python -m pytest tests -q -p no:cacheprovider
