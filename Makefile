# Two commands do everything: `make demo` and `make test`. Both are safe to run again.
# `make test-slow` runs the tests that take over ten seconds each: whole runs, kills, the docs' commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow integration lint types install audit clean

demo: $(INSTALLED)
	$(BIN)/pivottrace demo

# Two processes of one thread each: two that each take both cores wait for one another.
test: lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 -m 'not slow'

test-slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal -m slow

# Real packages, each in an environment of its own under PIVOTTRACE_INTEGRATION, 6 GB in all. Not in CI.
integration: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/integration -rs --timeout 7200

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

install: $(INSTALLED)

# Licences of everything installed, and its known holes as far as their service answers. Not in CI.
AUDIT := $(VENV)/audit
audit: $(INSTALLED)
	test -x $(AUDIT)/bin/pip-licenses || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install --quiet pip-licenses pip-audit
	$(AUDIT)/bin/pip-licenses --python $(BIN)/python --order=license
	$(AUDIT)/bin/pip-audit --timeout 10 --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  || echo 'audit: holes were found above, or the service of known holes gave no answer'

# torch goes first, so that what depends on it does not pull in another build.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PivotTrace needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) runs build dist
