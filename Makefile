# Everything that is done with a checkout. A machine needs Python 3.11 or newer and make, nothing else.
#   make setup    .venv from the pinned, hashed lock        make run      the demo; Ctrl-C stops all of it
#   make test     every test but the long ones              make prove    the long ones: kills, soak, mutation
#   make lint     style, types, rules of the house          make bench    the figures, each against its bar
#   make peers    other people's stores, for the tests      make lock     make the locks anew
#   make threats  the attacks that must fail, and how many tests hold each
#   make format   put the code in shape                     make docs     docs/*.md from types and examples
#   make clean    remove what the others made
# More words for the test runner or the benchmarks: make test ARGS='tests/policy -q', make bench ARGS=throughput

PYTHON ?= python3
ARGS   ?=
BIN    := .venv/bin
READY  := .venv/.ready
PEERS  := .venv-peers/.ready
OIDC   := tests/peers/oidc

# Wheels alone, each with its hash: no code of a package runs, nor is any fetched unpinned, while setting up.
# A compiler is among them, of which only proxy/kernels makes use.
PIP     := -m pip --quiet --quiet --disable-pip-version-check --no-input
INSTALL := $(PIP) install --require-hashes --only-binary :all:

# Peers are looked for in PATH: a person's own first, then those of `make peers`; nginx lives in sbin.
export PATH := $(PATH):$(CURDIR)/.venv-peers/bin:/usr/sbin

# Where an environment says otherwise, each process would compile all of this anew, for half of the time that it
# takes to begin.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup run test threats prove bench lint format docs peers lock clean

help:
	@sed -n '2,9s/^# *//p' Makefile

setup: $(READY)

$(READY): locks/dev.txt pyproject.toml setup.py $(wildcard proxy/kernels/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
	  { echo "$(PYTHON) has no ensurepip; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv (once; a minute or two)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python $(INSTALL) -r locks/dev.txt
	@$(BIN)/python $(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY)
	@exec $(BIN)/counterfoil demo run $(ARGS)

# More processes than cores, since tests wait: each begins with its part and then takes from the others. One: ARGS=-n0.
WORKERS := --numprocesses 4 --dist worksteal
test: $(READY)
	$(BIN)/python -m pytest -m 'not prove' $(WORKERS) $(ARGS)

threats: $(READY)
	@$(BIN)/python -m tests.threats

prove: $(READY)
	$(BIN)/python -m pytest -m prove $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY)
	$(BIN)/python docs/generate.py

peers: $(PEERS) $(OIDC)/node_modules/.ready

$(PEERS): locks/peers.txt
	@$(PYTHON) -m venv --clear .venv-peers
	@.venv-peers/bin/python $(INSTALL) -r locks/peers.txt
	@touch $@

# By the hashes of its lock, and no code of a package runs while it is installed (.npmrc there).
$(OIDC)/node_modules/.ready: $(OIDC)/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix $(OIDC) --ignore-scripts --silent && touch $@; \
	else echo "without npm there is no identity provider for the tests; on Debian: apt-get install nodejs npm"; fi

# On Python 3.11, the oldest supported: what newer ones need is a part of what it needs.
COMPILE := CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
lock: $(READY)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "the locks are made with Python 3.11" >&2; exit 1; }
	$(COMPILE) --upgrade --only-build-deps --all-build-deps --output-file locks/build.txt pyproject.toml
	$(COMPILE) --upgrade --output-file locks/runtime.txt pyproject.toml
	$(COMPILE) --upgrade --extra dev --constraint locks/runtime.txt --constraint locks/build.txt --output-file locks/dev.txt pyproject.toml
	$(COMPILE) --upgrade --output-file locks/peers.txt locks/peers.in

clean:
	rm -rf .venv .venv-peers $(OIDC)/node_modules .demo certs/dev build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find proxy tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
