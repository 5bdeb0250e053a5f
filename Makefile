# All targets need Python 3.11 or newer and make, nothing else: the first one used sets up .venv (a few minutes, once).
#   PYTHON=python3.12    the interpreter to build .venv with (default: the first of python3, python3.13 … that is new enough)
#   PIP_ARGS=...         extra arguments for installing torch. On Linux, PyPI's torch brings CUDA; for the small CPU build:
#                        make test PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3,11))' 2>/dev/null && echo $$p && break; done)
PIP_ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
ARGS ?=
# Tests run two at a time; those that measure would suffer from more
PARALLEL ?= -n 2 --dist worksteal
BENCHMARKS = $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))

export PATH := $(CURDIR)/$(BIN):$(PATH)
export HF_HUB_OFFLINE = 1
export ORT_DISABLE_TELEMETRY = 1
export TOKENIZERS_PARALLELISM = false
export PIP_NO_INPUT = 1

.PHONY: help demo test test-slow bench docs readme outputs clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 18

demo: .venv/.made ## the quickstart, in a real kernel: train, export, prove; what it made is in demo/
	@$(BIN)/python tests/demo.py $(ARGS)

test: .venv/.made ## notebooks, documentation, packaging and the user's view; ARGS="-k docs" picks some
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-slow: .venv/.made ## the same, and everything marked slow
	@$(BIN)/python -m pytest --flags slow $(PARALLEL) $(ARGS)

bench: .venv/.made ## measure speed: benchmarks/*.py
	@$(if $(BENCHMARKS),,echo "no benchmarks/*.py here")
	@set -e; for f in $(BENCHMARKS); do echo "== $$f"; $(BIN)/python $$f $(ARGS); done

docs: .venv/.made readme ## the documentation site, into _docs/ (by Quarto where installed)
	@if command -v quarto >/dev/null; then $(BIN)/nbdev_docs; else $(BIN)/python tests/site_builder.py _docs; fi

readme: .venv/.made ## README.md from nbs/index.ipynb
	@$(BIN)/python tests/make_readme.py

outputs: .venv/.made ## run all notebooks, or ARGS="nbs/tutorials/quickstart.ipynb", and keep what they display
	@$(BIN)/python tests/save_outputs.py $(ARGS)
	@$(BIN)/python tests/make_readme.py

clean: ## remove what the other targets made, except .venv
	rm -rf demo _docs _proc build dist .pytest_cache nbs/nbdev.yml nbs/sidebar.yml
	find slm_magic nbs tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and alone, so that PIP_ARGS can point at another index for just this one package
.venv/.made: settings.ini setup.py pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || { echo "Making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "Installing torch" && $(PIP) install --no-deps -c constraints.txt $(PIP_ARGS) torch
	@echo "Installing slm_magic and its tools (a few minutes)" && $(PIP) install -c constraints.txt -e ".[dev,metrics,tensorboard]"
	@touch $@
