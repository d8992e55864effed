# make run [DATA=PATH]   start the desk, do its main job, stay up       make test   every test
# make lint              ruff and mypy                                  make bench  benchmarks
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)

.PHONY: help run test lint format bench bench-check bench-peers doctor install install-dev lock clean browser decoder

help:
	@sed -n 's/^# //p' $(MAKEFILE_LIST) | head -2
	if [ -x $(BIN)/options-agent ]; then $(BIN)/options-agent --help; fi

run: install
	@exec $(BIN)/options-agent run $(if $(DATA),--data "$(DATA)") $(ARGS)

doctor: install
	@$(BIN)/options-agent doctor

test: install-dev browser decoder
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: install-dev
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install-dev
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file"; done
	echo "== benchmarks/track.py"; $(BIN)/python benchmarks/track.py --record

# Fails where this tree is slower than a former version by more than noise: make bench-check [REF=v0.3]
bench-check: install-dev
	@$(BIN)/python benchmarks/track.py $(if $(REF),--against "$(REF)")

# Other libraries to measure against, in an environment of their own: benchmarks/peers/README.md. Some need Python 3.12 or 3.13.
PEERS_PYTHON ?= $(shell for p in python3.13 python3.12 python3 "$$HOME"/.pyenv/versions/3.13*/bin/python "$$HOME"/.pyenv/versions/3.12*/bin/python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo "$$p"; break; }; done)

bench-peers:
	@if [ -z "$(PEERS_PYTHON)" ]; then echo "the peers need Python 3.12 or 3.13 and none was found; name one with PEERS_PYTHON=..."; exit 1; fi
	"$(PEERS_PYTHON)" -m venv --clear benchmarks/peers/.venv
	benchmarks/peers/.venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r benchmarks/peers/requirements.txt

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# The installer itself is pinned by hash; it then installs the lock, wheels only.
$(VENV)/.uv: requirements-installer.lock
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11, 3.12 or 3.13 is needed and none was found; name one with PYTHON=..."; exit 1; fi
	echo "making $(VENV) with $$($(PYTHON) --version)"
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null  # made by uv: no pip in it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-installer.lock
	touch $@

$(VENV)/.installed: $(VENV)/.uv requirements.lock pyproject.toml
	@if [ -e $(VENV)/.installed-dev ] && [ $(VENV)/.installed-dev -nt requirements.lock ] && [ $(VENV)/.installed-dev -nt pyproject.toml ]; then touch $@; exit 0; fi
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python scripts/link_project.py
	touch $@

$(VENV)/.installed-dev: $(VENV)/.uv requirements-dev.lock pyproject.toml
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --only-binary :all: -r requirements-dev.lock
	$(BIN)/python scripts/link_project.py
	touch $@

# A browser for the tests that look at pages: installed where apt may, else those tests skip and say so.
browser:
	@if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium) >/dev/null 2>&1 \
				|| echo "chromium could not be installed: tests that need a browser are skipped"; \
		else echo "no chromium here: tests that need a browser are skipped"; fi; fi

# torch's CPU build, for training the small decoder: installed where this machine's index has it, else those tests skip and say so.
decoder: $(VENV)/.decoder

$(VENV)/.decoder: $(VENV)/.uv requirements-decoder.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-decoder.lock 2>/dev/null \
		|| echo "torch's CPU build could not be installed (docs/model-server.md): no decoder is trained here, and tests that do so are skipped; rm $@ to try again"
	touch $@

lock: $(VENV)/.uv
	@for extra in "" "--extra dev"; do \
		out=requirements$${extra:+-dev}.lock; \
		$(BIN)/uv pip compile pyproject.toml $$extra --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			--only-binary :all: --quiet --output-file $$out; done
	echo torch | $(BIN)/uv pip compile - -c requirements.lock --python-version 3.11 --python-platform x86_64-manylinux_2_28 --torch-backend cpu \
		--generate-hashes --no-header --no-annotate --only-binary :all: --quiet --output-file requirements-decoder.lock

clean:
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
