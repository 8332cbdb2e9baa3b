#!/usr/bin/env bash
# Everything that must hold before a commit lands; called by `make test`, pytest last.
set -euo pipefail
state() { find nbs fine_tune_llm -type f \( -name '*.py' -o -name '*.ipynb' \) -not -path '*/_proc/*' -print0 | sort -z | xargs -0 sha256sum; }
ours=(nbs tests benchmarks .ci setup.py)
types=fail

echo "== notebooks are clean and exported"
before=$(state)
nbdev_clean
nbdev_export
[ "$before" = "$(state)" ] || { diff <(echo "$before") <(state) | cut -c1-200; echo "run: make export, and commit"; exit 1; }
python .ci/readme.py --check
python .ci/doors.py --check

echo "== format and lint"
ruff format --check "${ours[@]}"
ruff check "${ours[@]}"

echo "== types of what is public"
python .ci/signatures.py || [ "$types" = report ]
mypy || [ "$types" = report ]

echo "== notebooks run"
OMP_NUM_THREADS=1 nbdev_test --n_workers 2 --timing   # one thread each: two workers on two cores otherwise fight

echo "== docs are processed"
bash .ci/docs.sh

echo "== the wheel builds and imports in a clean environment"
bash .ci/wheel.sh

echo "== the oldest and the newest transformers"
bash .ci/versions.sh

echo "== tests"
OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
