#!/usr/bin/env bash
# Processes the notebooks for the site and checks what can be checked without quarto.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/.ci${PYTHONPATH:+:$PYTHONPATH}"   # the renderer is not part of the package
# Without quarto, nbdev would try to install it, and this project, before it begins; processing needs neither.
stub=$(mktemp -d); trap 'rm -rf "$stub"' EXIT
command -v quarto >/dev/null || { printf '#!/bin/sh\nexit 0\n' > "$stub/quarto"; chmod +x "$stub/quarto"; }
rm -rf _proc
PATH="$PATH:$stub" nbdev_proc_nbs
python .ci/site.py
