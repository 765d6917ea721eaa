.PHONY: check test test-slow lint fix docs site faults fuzz bench
PYTHON ?= python
COUNT ?= 200
SEED ?= 1
POINTS ?= 50
INPUTS ?= 100000
JOBS ?= 1

check: lint test

lint:
	ruff check .
	ruff format --check .
	lint-imports

test:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 -m "not slow"

test-slow:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest

# COUNT scenarios in which something fails, drawn from SEED; ONLY="17 23" replays some. Then POINTS kills of a build of cpt, sft and rl.
faults:
	OMP_NUM_THREADS=1 $(PYTHON) tests/faults/inject.py --count $(COUNT) --seed $(SEED) --jobs $(JOBS) $(if $(ONLY),--only $(ONLY),--kill-points $(POINTS))

# INPUTS changed inputs for every reader of foreign files, JOBS readers at a time; what is found is kept in tests/fuzz/found.
fuzz:
	PYTHONPATH=. OMP_NUM_THREADS=1 $(PYTHON) tests/fuzz/fuzz.py --inputs $(INPUTS) --seed $(SEED) --jobs $(JOBS)

# Every measurement against its peer, into benchmarks/RESULTS.md; ONLY="sft growth" runs some. Alone on the machine, or CPU seconds mislead too.
bench:
	OMP_NUM_THREADS=1 $(PYTHON) benchmarks/run.py $(if $(ONLY),--only $(ONLY))

fix:
	ruff check --fix .
	ruff format .

docs:
	PYTHONPATH=. $(PYTHON) tests/docs/techniques_page.py
	PYTHONPATH=. $(PYTHON) tests/docs/reference_pages.py

# The documentation as a folder of pages (pip install -e ".[docs]"); no network is used.
site:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
