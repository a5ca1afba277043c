# Two commands do everything: `make demo` and `make test`. Both are safe to run again.
# `make test-slow` runs the tests that take over ten seconds each: whole runs, kills, the docs' commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint types install clean

demo: $(INSTALLED)
	$(BIN)/pivottrace demo

# Two processes of one thread each: two that each take both cores wait for one another.
test: lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 -m 'not slow'

test-slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

install: $(INSTALLED)

# torch goes first, so that what depends on it does not pull in another build.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PivotTrace needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) runs build dist
