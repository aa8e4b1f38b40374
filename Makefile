# Needs Python 3.11 or newer and make. Every target sets up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_CONSTRAINT = $(CURDIR)/constraints.txt

BARE := $(if $(wildcard .venv/test.stamp),.venv-bare,.venv)

.PHONY: demo bare test unit check clean

demo: .venv/demo.stamp  ## train, measure and look at a model on a synthetic crowd
	$(BIN)/regard demo

bare: $(BARE)/demo.stamp  ## the demo's short form where nothing but the bare package is installed
	rm -rf runs/bare
	$(BARE)/bin/regard demo -o runs/bare --train-ids 16 --test-ids 8 --epochs 1 --quiet
	test -s runs/bare/report.html

test: .venv/test.stamp  ## the whole suite, in a process per core
	$(BIN)/python -m pytest -n auto --dist loadfile

unit: .venv/test.stamp  ## the part that takes under a minute
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not browser"

check: .venv/test.stamp  ## lint, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/python -m pytest -q tests/test_architecture.py

%/demo.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "regard needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --progress-bar off --editable .
	touch $@

.venv/test.stamp: .venv/demo.stamp
	$(BIN)/python -m pip install --quiet --progress-bar off --editable ".[test]"
	touch $@

clean:
	rm -rf .venv .venv-bare runs
