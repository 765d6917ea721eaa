.PHONY: check test test-slow lint fix docs
PYTHON ?= python

check: lint test

lint:
	ruff check .
	ruff format --check .
	lint-imports

test:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 -m "not slow"

test-slow:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest

fix:
	ruff check --fix .
	ruff format .

docs:
	PYTHONPATH=. $(PYTHON) tests/docs/techniques_page.py
