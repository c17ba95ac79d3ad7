SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install demo test lint

INSTALLED := .venv/.installed
# One thread per core; idle ones sleep instead of spinning, which matters on small machines.
export OMP_WAIT_POLICY ?= PASSIVE

help:
	@echo "make demo     the demo: two models, each also fine-tuned on JPEGs; original, JPEG and dagn-s at QF 10 to 90, into work_dirs/demo"
	@echo "make test     the test suite; installs Chromium where there is none, for the page of dagn-pre bench run"
	@echo "make lint     ruff, and import-linter on the walls between rooms"
	@echo "make install  what the others need, into .venv (they call it themselves)"

$(INSTALLED): setup.py pyproject.toml constraints.txt tools/install.sh
	tools/install.sh
	@touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
	.venv/bin/dagn-pre bench run demo --work-dir work_dirs/demo

test: $(INSTALLED)
	tools/browser.sh
	.venv/bin/python -m pytest

lint: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/lint-imports
