# Two promises on a machine with Python 3.11, pip and make:  make demo  and  make test.
PYTHON ?= python3
BIN := .venv/bin
# torch's CPU build first, so that nothing pulls gigabytes of CUDA packages; TORCH="torch" takes the registry's default.
TORCH ?= torch==2.13.0

.PHONY: env env-test demo test test-all check format docs clean

env: .venv/.installed
env-test: .venv/.installed-test

.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "selftaught needs Python 3.11 or newer; say: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.installed-test: .venv/.installed pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

demo: env
	$(BIN)/selftaught demo

check: env-test
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest

test-all: check
	$(BIN)/python -m pytest -m ""

format: env-test
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

docs: env-test
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
