# kart: everything from a fresh clone. `make` lists the commands.
#
# Needs Python 3.10 or later, make and a package registry that pip can reach. Another Python:
# `make test PYTHON=python3.12 VENV=.venv-3.12`.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2

SHELL := /bin/bash
BIN := $(CURDIR)/$(VENV)/bin
PLUGINS := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard plugins/*/pyproject.toml)))))
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
# The suites of single plugins are test-kart_s3 and so on.
.PHONY: help demo test test-core test-parallel test-plugins $(PLUGINS:%=test-%) check format docs-examples bench bench-parallel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------------------------- set up

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "kart needs Python 3.10 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say which: make PYTHON=python3.12" >&2; exit 1; }
	@echo "== a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) cannot make virtual environments (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(PIP) install --quiet 'pip>=22.3'  # older ones cannot install a project in place
	@touch $@

$(VENV)/demo: $(VENV)/made pyproject.toml constraints.txt examples/requirements.txt
	@echo "== installing kart and what the demo needs"
	@$(INSTALL) --editable . --requirement examples/requirements.txt
	@touch $@

$(VENV)/dev: $(VENV)/made pyproject.toml constraints.txt examples/requirements.txt requirements-dev.txt
	@echo "== installing kart and what its tests need"
	@$(INSTALL) --editable . --requirement requirements-dev.txt
	@touch $@

# The core's tests say what happens without plugins, and each plugin must work alone: each has its own environment.
$(VENV)-%/dev: plugins/%/pyproject.toml pyproject.toml constraints.txt
	@echo "== a virtual environment in $(VENV)-$*"
	@$(PYTHON) -m venv $(VENV)-$*
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet 'pip>=22.3'
	@# torch first and alone: a resolver that goes back over its choices may take a build with gigabytes of CUDA
	@if grep -q '"torch>=' $<; then \
	  $(@D)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt torch; fi
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
	  --editable . --editable 'plugins/$*[test]'
	@touch $@

# ----------------------------------------------------------------------------------------- use it

demo: $(VENV)/demo ## the handwritten digits: run, run again, run with one parameter changed
	@cd examples && PATH="$(BIN):$$PATH" ./demo.sh

test: test-core test-plugins ## the whole suite

test-core: $(VENV)/dev ## the tests of the core, README and docs
	@PATH="$(BIN):$$PATH" $(BIN)/python -m pytest --numprocesses $(JOBS) $(TESTS)

test-parallel: $(VENV)/dev ## the tests of graphs, failure, reruns and seeding once more, with two worker processes
	@PATH="$(BIN):$$PATH" SLOW_TESTS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) \
	  tests/test_parallel_as_inline.py -k 'other_processes and 2-'

test-plugins: $(PLUGINS:%=$(VENV)-%/dev) ## the tests of each plugin, against the servers that they start themselves
	@$(MAKE) --no-print-directory --keep-going --jobs $(JOBS) $(IN_ORDER) $(PLUGINS:%=test-%)

# They wait for their servers more than they compute: as many run at once as there are jobs, each tells all at its end.
IN_ORDER = $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

$(PLUGINS:%=test-%): test-%: $(VENV)-%/dev
	@echo "== $*"
	@cd plugins/$* && PATH="$(CURDIR)/$(VENV)-$*/bin:$$PATH" $(CURDIR)/$(VENV)-$*/bin/python -m pytest tests

check: $(VENV)/dev $(PLUGINS:%=$(VENV)-%/dev) ## types, style, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	for plugin in $(PLUGINS); do $(BIN)/pyright --project plugins/$$plugin --pythonpath $(VENV)-$$plugin/bin/python || exit 1; done
	$(BIN)/mypy --strict examples
	$(BIN)/lint-imports

docs-examples: $(VENV)/dev ## the examples of README, docs and docstrings alone
	@PATH="$(BIN):$$PATH" $(BIN)/python -m pytest tests/test_docs.py

format: $(VENV)/dev ## rewrites the code in the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/made ## kart beside its peers; writes docs/benchmarks.md (ten minutes)
	@$(BIN)/python -m benchmarks

bench-parallel: $(VENV)/made ## kart on two worker processes; writes the figures of docs/parallel.md (twenty minutes)
	@$(BIN)/python -m benchmarks.parallel

clean: ## removes the virtual environment and everything that was made
	rm -rf $(VENV) $(PLUGINS:%=$(VENV)-%) benchmarks/.environments benchmarks/.work examples/resources .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
