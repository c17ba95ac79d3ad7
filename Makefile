SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast lint docs

INSTALLED := .venv/.installed
# Without OpenMMLab; a full installation is one as well.
INSTALLED_FAST := .venv/.installed-fast
# One thread per core; idle ones sleep instead of spinning, which matters on small machines.
export OMP_WAIT_POLICY ?= PASSIVE

help:
	@echo "make demo     the demo: two models, each also fine-tuned on JPEGs; original, JPEG and dagn-xs at QF 10 to 90, into work_dirs/demo"
	@echo "make test     the test suite; installs Chromium where there is none, for the page of dagn-pre bench run"
	@echo "make test-fast  the part of it that takes neither OpenMMLab nor a browser"
	@echo "make lint     ruff, mypy, import-linter"
	@echo "make docs     the documentation as a site, into site/; its tools go into .venv-docs"
	@echo "make install  what the others need, into .venv (they call it themselves)"

$(INSTALLED): setup.py pyproject.toml constraints.txt tools/install.sh
	tools/install.sh
	@touch $@ $(INSTALLED_FAST)

$(INSTALLED_FAST): setup.py pyproject.toml constraints.txt tools/install.sh
	tools/install.sh $(if $(wildcard $(INSTALLED)),,--fast)
	@touch $@ $(wildcard $(INSTALLED))

install: $(INSTALLED)

demo: $(INSTALLED)
	.venv/bin/dagn-pre bench run demo --work-dir work_dirs/demo

# Some tests measure on real images, in the folder DAGN_PRE_DATA; where it is not set they are left out, by name.
# Trainings, which kill workers of their own, inference engines and clusters have a process each.
test: $(INSTALLED)
	tools/browser.sh
	.venv/bin/python -m pytest -m "not engines and not ray$(if $(DAGN_PRE_DATA),, and not data)" --ignore=tests/training
	.venv/bin/python -m pytest -m "not engines and not ray$(if $(DAGN_PRE_DATA),, and not data)" tests/training
	.venv/bin/python -m pytest -m engines
	.venv/bin/python -m pytest -m ray

test-fast: $(INSTALLED_FAST)
	.venv/bin/python -m pytest -m "not slow and not openmmlab and not data and not engines and not ray"
	.venv/bin/python -m pytest -m "engines and not slow and not openmmlab"
	.venv/bin/python -m pytest -m "ray and not slow and not openmmlab"

lint: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# Without OpenMMLab and torch: docstrings are read, not imported. Only setting .venv-docs up needs a network.
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.venv-docs/.installed: pyproject.toml constraints.txt
	$(or $(PYTHON),python3) -m venv --upgrade-deps .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group docs
	@touch $@
