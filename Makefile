# Two commands do all set-up on a fresh machine: `make train-day` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CONFIG ?= configs/embedded.toml
ARCHIVE ?= data/sample/world.jsonl.gz
ARGS   ?=

.PHONY: train-day replay test test-all test-pages test-postgres crash-test soak mutants lint bench \
	bench-day bench-scaling bench-device clean

# 12: the day is done, but degraded.
train-day: $(VENV)/.ready
	$(BIN)/varro train-day --config $(CONFIG) $(ARGS) || [ $$? -eq 12 ]

replay: $(VENV)/.ready
	$(BIN)/varro replay --config $(CONFIG) --archive $(ARCHIVE) $(ARGS)

# Two processes with one BLAS thread each: faster than one with two, and they do not spin at
# each other.
test: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser" $(ARGS)

test-all: test test-pages
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow --timeout=3600 $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/test_postgres.py -n 2 --dist loadfile
	$(BIN)/python scripts/mutants.py

# Every page in Chromium (VARRO_CHROMIUM, or on the path), with axe-core; screenshots in build/pages.
# What can not be had is told, and the tests that need it are skipped.
test-pages: $(VENV)/.ready-dev
	-@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[browser]"
	-@$(BIN)/python scripts/fetch_axe.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m browser tests/test_pages.py $(ARGS)

# What opens a ledger, on a Postgres server that is started for it; says so where there is none.
test-postgres: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python scripts/test_postgres.py -n 2 --dist loadfile $(ARGS)

# Two days killed at every commit, write, fsync and rename, and run again; 500 times twice
# (ARGS="--sample 12 --pairs 12").
crash-test: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python scripts/crash_test.py $(ARGS)

# 74 real days through `varro serve`, in quiet and in trouble (ARGS="--days 10", or --archive FILE).
soak: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python scripts/soak.py $(ARGS)

mutants: $(VENV)/.ready-dev
	$(BIN)/python scripts/mutants.py

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The peers' environments are made on the first run, under .bench.
bench: $(VENV)/.ready
	$(BIN)/python scripts/bench_peers.py $(ARGS)

bench-day: $(VENV)/.ready
	$(BIN)/python scripts/bench_day.py $(ARGS)

bench-scaling: $(VENV)/.ready
	$(BIN)/python scripts/bench_scaling.py $(ARGS)

# Qwen3-0.6B's shape on this machine's own device: Metal, CUDA or CPU.
bench-device: $(VENV)/.ready
	$(BIN)/python scripts/bench_device.py $(ARGS)

# torch first, at its pinned version: the embedder and the fast BLAS need no more than a CPU build.
$(VENV)/.ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) .bench build var .pytest_cache .mypy_cache .ruff_cache
