# Two commands: `make demo` runs the main job, `make test` runs every check. Both set up what they
# need first: a virtual environment with pinned versions, and Debian packages where root may.

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin

# The real PowerShell engine, where one lies beside the project, comes before any other.
ifneq ($(wildcard ../shared/pwsh/pwsh),)
export PATH := $(abspath ../shared/pwsh):$(PATH)
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(abspath requirements-dev.txt)

.PHONY: demo test lint bench fuzz clean

demo: $(VENV)/installed
	@sh fixtures/install-debian-packages.sh demo
	@$(BIN)/python -m fixtures.demo $(if $(PACKAGE),--package "$(PACKAGE)")

test: $(VENV)/installed-dev
	@sh fixtures/install-debian-packages.sh demo test
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/installed-dev
	@sh fixtures/install-debian-packages.sh demo test
	@$(BIN)/python -m benchmarks.run $(ARGS)

fuzz: $(VENV)/installed-dev
	@sh fixtures/install-debian-packages.sh demo test
	@$(BIN)/python -m tests.fuzz.harness $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: install python3 (Debian 12, Ubuntu 24.04) or python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
		sh fixtures/install-debian-packages.sh "venv:$(notdir $(PYTHON))" && $(PYTHON) -m venv $(VENV); }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml requirements-dev.txt
	@$(BIN)/pip install -qq --editable .
	@$(BIN)/python -m compileall -q imagetool
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@sh fixtures/install-debian-packages.sh build
	@$(BIN)/pip install -qq --requirement requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
