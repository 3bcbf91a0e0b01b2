# The one door to every command here; CI uses the same ones. `make` lists them.
#
# ARGS goes to the command:            make test ARGS='-k drift -x'
# MINUTES is for the long runs:        make soak MINUTES=60
# SEED, for what is random:            make chaos SEED=1f2e3d
# PYTHON names .venv's interpreter:    make setup PYTHON=python3.12

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types floors fast-test image-test host-test bench bench-peers chaos faults soak fuzz pictures format lock clean clean-lab root
plotting := .cache/bench
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Each user's caches lie apart: what `sudo make test` leaves behind must not stop the tree's owner.
caches := .cache/$(shell id -un)
export HYPOTHESIS_STORAGE_DIRECTORY := $(caches)/hypothesis
export MYPY_CACHE_DIR := $(caches)/mypy
export PYTEST_ADDOPTS := -o cache_dir=$(caches)/pytest $(PYTEST_ADDOPTS)
export RUFF_CACHE_DIR := $(caches)/ruff

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup:  ## install what is missing: Debian packages, .venv with the locked dependencies, portwatch; quick if nothing is
	@.ci/setup

demo: root setup  ## hypervisors on this machine: ports come, talk, move and go
	python -m tests.demo $(ARGS)

test: root setup  ## every test, real hypervisors included
	pytest $(ARGS)

check: lint types floors fast-test  ## what a commit must pass: style, types, floors, and the fast tests

lint: setup  ## style: ruff's rules and ruff's format
	ruff check && ruff format --check

types: setup  ## mypy, strict
	mypy

floors: setup  ## who may import whom
	lint-imports --no-logo --no-cache

fast-test: setup  ## the tests that need no partner and no root, the model test cut short; `make test` runs them all
	MODEL_STORIES=40 pytest tests/core -m 'not thorough' $(ARGS)

image-test: root setup  ## build the image without a container engine, and run it beside a hypervisor: minutes
	.ci/image $(ARGS)

host-test: root setup  ## type README's "On a real host" on fresh machines that run systemd: minutes
	.ci/host $(ARGS)

bench: root setup $(if $(filter --write --redraw,$(ARGS)),$(plotting)/installed)  ## the numbers of docs/performance.md, measured here
	PYTHONPATH=$(plotting) python -m tests.bench $(ARGS)

bench-peers: root setup $(if $(filter --write --redraw,$(ARGS)),$(plotting)/installed)  ## the same on Debian's OVN, which it installs, and here, in turns
	.ci/setup peers
	PYTHONPATH=$(plotting) python -m tests.bench peers $(ARGS)

$(plotting)/installed: requirements/bench.txt | setup
	python -m pip install --quiet --require-hashes --target $(plotting) --upgrade -r $<
	touch $@

chaos: root setup  ## random faults under churn, by a seed that is printed: make chaos MINUTES=10 SEED=7
	python -m tests.faults.chaos --minutes $(or $(MINUTES),10) $(addprefix --seed ,$(SEED))

faults: root setup  ## docs/reliability.md: what restarts, kills and other faults cost, measured here
	python -m tests.faults $(ARGS)

soak: root setup  ## ports come and go for MINUTES: descriptors, threads, children and memory of the agents stay
	python -m tests.soak $(or $(MINUTES),60) $(SEED)

fuzz: setup  ## hostile input for MINUTES a target (bytes, bus, ovsdb): what `make fast-test` samples, by atheris
	python -m pip install --quiet --require-hashes --target .cache/fuzz/atheris --upgrade -r requirements/fuzz.txt
	for target in bytes bus ovsdb; do \
	    PYTHONPATH=.cache/fuzz/atheris python -m tests.fuzz $$target $(or $(MINUTES),10) .cache/fuzz || exit; done

pictures: root setup  ## docs/page: the page's pictures anew, of a real agent; on a calm machine
	python -m tests.pictures

format: setup  ## let ruff write the format, and what it can mend by itself
	ruff check --fix-only --quiet && ruff format

lock: setup  ## requirements/*.txt from pyproject.toml; ARGS=--upgrade for newer versions of everything
	.ci/lock $(ARGS)

clean-lab: root setup  ## remove what a killed lab left behind: namespaces, switches, brokers
	python -m tests.lab.sweep

clean:  ## remove everything that make made in this tree
	rm -rf .venv .cache .hypothesis build dist && find src tests -name __pycache__ -prune -exec rm -rf {} +

root:
	$(if $(filter 0,$(shell id -u)),,$(error the lab makes network namespaces and switches, which needs root; please: sudo make $(MAKECMDGOALS)))@:
