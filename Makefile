# make run    set up, train LeNet-5 on handwritten digits, evaluate it
# make test   set up, then lint, types and tests
# make docs   set up, then build the site of the documentation into build/docs
# make test-slow   the tests that `make test` leaves out: networks that take minutes to compile
# All need Python 3.11 or newer; PYTHON=... and VENV=... choose another interpreter or folder.

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
RUN_DIR ?= runs/digits_lenet
# Pip compiles to bytecode, which Python itself may have been told not to write.
PIP = --quiet --constraint constraints.txt

SPHINX = --quiet --fail-on-warning --keep-going --builder html

.PHONY: docs run test test-slow lint format clean
.DELETE_ON_ERROR:

run: $(VENV)/installed
	$(VENV)/bin/python launch.py train --config=digits_lenet --workdir=$(RUN_DIR)
	$(VENV)/bin/python launch.py evaluate --workdir=$(RUN_DIR)
	@echo "page       $(VENV)/bin/python launch.py page --workdir=$(RUN_DIR) --output=page.html"

test: lint
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n 2 -m slow

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

docs: $(VENV)/installed-docs
	$(VENV)/bin/python -m sphinx $(SPHINX) docs build/docs
	@echo "open build/docs/index.html"

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/python -m pip install $(PIP) --editable '.[onednn,plots]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/python -m pip install $(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/python -m pip install $(PIP) --editable '.[docs,onednn,plots]'
	@touch $@
