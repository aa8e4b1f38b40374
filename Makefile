# Needs Python 3.11 or newer and make. Every target sets up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_CONSTRAINT = $(CURDIR)/constraints.txt

BARE := $(if $(wildcard .venv/test.stamp),.venv-bare,.venv)

.PHONY: demo dist bare pythons test unit loggers consumers attacks check docs clean

demo: .venv/demo.stamp  ## train, measure and look at a model on a synthetic crowd
	$(BIN)/regard demo

dist: .venv-build/stamp  ## the source archive and the wheel, checked as a registry would
	rm -rf dist
	.venv-build/bin/python -m build --outdir dist . > .venv-build/build.log || { tail .venv-build/build.log; exit 1; }
	.venv-build/bin/twine check --strict dist/*

bare: dist  ## the demo's short form where nothing but the wheel is installed
	test -x $(BARE)/bin/python || $(PYTHON) -m venv $(BARE)
	$(BARE)/bin/python -m pip uninstall --quiet --yes regard
	$(BARE)/bin/python -m pip install --quiet --progress-bar off dist/*.whl
	cd dist && ../$(BARE)/bin/python -c 'import regard, sys; assert regard.__file__.startswith(sys.prefix), regard.__file__'
	rm -rf runs/bare
	$(BARE)/bin/regard demo -o runs/bare --train-ids 16 --test-ids 8 --epochs 1 --quiet
	test -s runs/bare/report.html

pythons:  ## the same on every Python that is here, each in an environment of its own that is removed afterwards
	bash .ci/pythons

test: .venv/test.stamp  ## the whole suite, in a process per core
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

unit: .venv/test.stamp  ## the part that takes under a minute
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not browser"

loggers: .venv-loggers/stamp  ## train.loggers with the real libraries, in an environment on top of .venv
	REGARD_LOGGERS=1 .venv-loggers/bin/python -m pytest -q tests/loggers

CONSUMERS ?= boxmot ultralytics libreyolo deep-sort-realtime norfair reid
RUN ?= regard-s
SEEDS ?= 3
PEOPLE = $(BIN)/python -m regard data make --seed 7 --city 7 --cameras 3 --quiet

consumers: .venv/test.stamp  ## exports in the programs they are for, each in an environment of its own; RUN=... for your network
	bash benchmarks/consumers/environments .venv-consumers $(BIN)/python $(CONSUMERS)
	rm -rf runs/consumers/files
	test -d runs/consumers/crowd || $(PEOPLE) runs/consumers/crowd --test-only --test-ids 60
	test -d runs/consumers/tall || $(PEOPLE) runs/consumers/tall --test-only --test-ids 12 --height 512 --width 256
	for name in $(CONSUMERS); do \
	    .venv-consumers/$$name/bin/python benchmarks/consumers/check.py $$name --run $(RUN) --seeds $(SEEDS) || exit 1; done

attacks: .venv/test.stamp  ## the store of a gallery and its log: kill -9 anywhere, full disks, changed bits; about half an hour
	$(BIN)/python tests/gallery/attacks.py rounds 500
	$(BIN)/python tests/gallery/attacks.py points
	$(BIN)/python tests/gallery/attacks.py full
	$(BIN)/python tests/gallery/attacks.py flips 5000
	$(BIN)/python tests/gallery/attacks_log.py rounds 500
	$(BIN)/python tests/gallery/attacks_log.py points
	$(BIN)/python tests/gallery/attacks_log.py full

check: .venv/test.stamp  ## lint, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/python -m pytest -q tests/test_architecture.py

docs: .venv/test.stamp  ## the documents as a site, in runs/site; a broken link or an unknown name fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

%/demo.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "regard needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --progress-bar off --editable .
	touch $@

.venv-build/stamp:
	$(PYTHON) -m venv .venv-build
	.venv-build/bin/python -m pip install --quiet --progress-bar off build hatchling twine
	touch $@

.venv/test.stamp: .venv/demo.stamp
	$(BIN)/python -m pip install --quiet --progress-bar off --editable ".[test]"
	touch $@

.venv-loggers/stamp: .venv/test.stamp
	$(BIN)/python -m venv .venv-loggers
	above=$$(.venv-loggers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	    $(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	    > $$above/regard.pth
	env -u PIP_CONSTRAINT .venv-loggers/bin/python -m pip install --quiet --progress-bar off wandb==0.31.0 mlflow-skinny==3.17.2
	touch $@

clean:
	rm -rf .venv .venv-bare .venv-build .venv-consumers .venv-loggers dist runs
