# Two commands for a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup demo test slow fault lint reference bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml deploy/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint deploy/constraints.txt --editable '.[test,hpc,browser]'
	touch $@

demo: setup
	$(BIN)/batchflow run jobs/quickstart.toml

test: setup
	$(BIN)/python -m pytest -m "not slow and not docs and not sources and not slurm and not browser and not deploy and not gpu and not fault"

slow: setup
	$(BIN)/python -m pytest -m "slow or sources"

# What the run survives: kills, signals, hangs, full disks, broken files.
fault: setup
	$(BIN)/python -m pytest -m fault

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit -q -c pyproject.toml -r batchflow

# The distance from the exact posterior after MINUTES of training: runs/reference/figures.json.
MINUTES ?= 8
reference: setup
	$(BIN)/python tests/benchmarks/bench_reference.py $(MINUTES)

# Every benchmark, or those of ONLY=mocks,startup: runs/bench/table.md (tests/benchmarks/README.md).
ONLY ?=
PEERS ?= $(BIN)/python
FLAGS ?=
bench: setup
	$(BIN)/python tests/benchmarks/bench.py --only "$(ONLY)" --peers $(PEERS) $(FLAGS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
