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
# Where Debian has mkfs and the like, which an ordinary user's PATH lacks.
export PATH := $(PATH):/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(abspath requirements-dev.txt)

# Debian's Python has no ensurepip of its own; others have.
VENV_PACKAGE = $(shell $(PYTHON) -c 'import ensurepip' 2>/dev/null || echo venv:$(notdir $(PYTHON)))
DEBIAN = @sh fixtures/install-debian-packages.sh
MAKE_QUIETLY = @$(MAKE) --no-print-directory --silent
# No builder's environment may hide a fault: the tests see these variables alone.
NAMED := CI IMAGETOOL_LAB_ENGINE IMAGETOOL_REAL_PACKAGES IMAGETOOL_TESTDATA
ALONE = env -i PATH="$$PATH" HOME="$$HOME" $(foreach name,$(NAMED),$(if $($(name)),$(name)="$$$(name)"))
# Unoptimised, which takes a third of the time; so they stay out of pip's own cache.
COMPILE = CFLAGS="-O0 -g0" $(BIN)/pip wheel -qq --use-pep517 --no-deps --no-cache-dir \
	--find-links $(VENV)/wheels --wheel-dir $(VENV)/wheels

.PHONY: demo test lint docs bench windows fuzz clean

demo:
	$(DEBIAN) $(VENV_PACKAGE) demo
	$(MAKE_QUIETLY) $(VENV)/installed
	@$(BIN)/python -m fixtures.demo $(if $(PACKAGE),--package "$(PACKAGE)")

test:
	$(DEBIAN) $(VENV_PACKAGE) build demo test
	$(MAKE_QUIETLY) $(VENV)/installed-dev
	@$(ALONE) $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(VENV)/installed
	@$(BIN)/python docs/json_tables.py

bench:
	$(DEBIAN) $(VENV_PACKAGE) build demo test
	$(MAKE_QUIETLY) $(VENV)/installed-dev
	@$(BIN)/python -m compileall -q imagetool  # no figure may hold the compiling of what was changed
	@$(BIN)/python -m benchmarks.run $(ARGS)

# The script under a PowerShell for Windows, which runs under Wine; minutes, so not among the tests.
windows:
	$(DEBIAN) $(VENV_PACKAGE) build demo test
	$(MAKE_QUIETLY) $(VENV)/installed-dev
	@IMAGETOOL_WINDOWS_ENGINE="$${IMAGETOOL_WINDOWS_ENGINE:-$(abspath ../shared/pwsh-windows/pwsh)}" \
		$(BIN)/python -m pytest tests/windows -rs $(ARGS)

fuzz:
	$(DEBIAN) $(VENV_PACKAGE) build demo test
	$(MAKE_QUIETLY) $(VENV)/installed-dev
	@$(BIN)/python -m tests.fuzz.harness $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: install python3 (Debian 12, Ubuntu 24.04) or python3.11" >&2; exit 1; }
	$(DEBIAN) $(VENV_PACKAGE)
	@echo "creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml requirements-dev.txt
	@echo "installing imagetool and what it uses"
	@$(BIN)/pip install -qq --editable .
	@$(BIN)/python -m compileall -q imagetool
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(DEBIAN) build
	@mkdir -p $(VENV)/wheels
	@echo "compiling the Kerberos bindings that the tests use, about half a minute"
	@$(COMPILE) krb5 & krb5=$$!; $(COMPILE) gssapi pykerberos; others=$$?; wait $$krb5 && exit $$others
	@echo "installing what the tests and checks use"
	@$(BIN)/pip install -qq --find-links $(VENV)/wheels --requirement requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
