# `make demo` and `make test` set up all they need; Python >= 3.11, git and make are enough.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
INSTALLED := .venv/installed
# One thread per test process: figures repeat, and the workers do not fight for the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-quick bench bench-ui zoo real-bugs peers repair trial lab pages lint format types clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(INSTALLED)  ## create .venv and install flatline with all that its tests need

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("expected Python 3.11 or newer, found " + sys.version.split()[0] + "; name another one with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)  ## watch a training that kills its units; leaves demo.html and demo.json
	$(BIN)/flatline run --html demo.html --json demo.json examples/digits_mlp.py
	@test -s demo.html && test -s demo.json
	@echo "The report above is also in demo.html and demo.json."

test: $(INSTALLED)  ## run every test
	$(PYTEST)

test-quick: $(INSTALLED)  ## run all but the slow suites
	$(PYTEST) -m "not slow"

bench: $(INSTALLED)  ## measure what watching costs; writes benchmarks/results/
	$(BIN)/python benchmarks/overhead.py

bench-ui: $(INSTALLED)  ## measure the live page; writes benchmarks/results/
	$(BIN)/python -m benchmarks.ui

real-bugs: $(INSTALLED)  ## compare with other tools on real bugs; writes benchmarks/results/
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.real_bugs

zoo: $(INSTALLED)  ## score the diagnosis on labelled trainings; writes benchmarks/results/
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.zoo --jobs $(WORKERS)

peers: $(INSTALLED)  ## compare with the rules of other tools on the zoo; writes benchmarks/results/
	$(BIN)/python -m benchmarks.peers

repair: $(INSTALLED)  ## try the prescriptions on the sick trainings of the zoo; writes benchmarks/results/
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.repair --jobs $(WORKERS)

trial: $(INSTALLED)  ## measure what a trial costs and how often its null is called better; writes benchmarks/results/
	$(BIN)/python -m benchmarks.trial

lab: $(INSTALLED)  ## run the lab on 5 sets of seeds; writes benchmarks/results/, docs/lab/ and README.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.lab

pages: $(INSTALLED)  ## write measured figures into docs/benchmarks.md
	$(BIN)/python -m benchmarks.pages

lint: $(INSTALLED)  ## style, format and the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(INSTALLED)  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED)  ## mypy, strict
	$(BIN)/mypy

clean:  ## remove the environment and every generated file
	rm -rf .venv build dist src/*.egg-info demo.html demo.json .flatline
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
