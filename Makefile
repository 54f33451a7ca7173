# Two commands for a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup demo test slow lint reference bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml deploy/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint deploy/constraints.txt --editable '.[test,hpc,browser]'
	touch $@

demo: setup
	$(BIN)/batchflow run jobs/quickstart.toml

test: setup
	$(BIN)/python -m pytest -m "not slow and not docs and not sources and not slurm and not browser and not deploy and not gpu"

slow: setup
	$(BIN)/python -m pytest -m "slow or sources"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit -q -c pyproject.toml -r batchflow

# The distance from the exact posterior after MINUTES of training: runs/reference/figures.json.
MINUTES ?= 8
reference: setup
	$(BIN)/python tests/benchmarks/bench_reference.py $(MINUTES)

# The training loop against its bare step; and, where they are installed, sbi and zuko beside batchflow.
bench: setup
	$(BIN)/python tests/benchmarks/bench_train_step.py
	$(BIN)/python tests/benchmarks/bench_peers.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
