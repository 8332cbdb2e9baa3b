#!/usr/bin/env bash
# The floor of transformers and its newest release, each laid over .venv, run the tests of what reads, scores and trains a network.
set -euo pipefail
cd "$(dirname "$0")/.."
floor=(transformers==5.2.0 tokenizers==0.22.2 huggingface_hub==1.33.0)
newest=(transformers==5.24.0)
tests=(tests/models/test_families.py tests/models/test_causal_weights.py tests/models/test_weights.py tests/models/test_label_tokens.py tests/training/test_resumed.py)
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
for name in floor newest; do
  declare -n wanted=$name
  echo "== ${wanted[0]}"
  python -m pip install -q --disable-pip-version-check --no-deps --target "$tmp/$name" "${wanted[@]}"
  PYTHONPATH="$tmp/$name${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1 python -m pytest -q -n 2 -p no:warnings --dist loadfile "${tests[@]}"
done
