# make run    set up, train LeNet-5 on handwritten digits, evaluate it
# make test   set up, then lint, types and tests
# make docs   set up, then build the site of the documentation into build/docs
# make test-slow   the tests that `make test` leaves out: networks that take minutes to compile
# make test-newest   a tenth of the tests on Python 3.13 with the newest versions; NEWEST=... names it
# make dist   wheel and sdist in dist/, checked, and some tests of the unpacked sdist
# All need Python 3.11 or newer; PYTHON=... and VENV=... choose another interpreter or folder.

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
RUN_DIR ?= runs/digits_lenet
NEWEST ?= $(shell for p in python3.13 $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.13.*/bin/python3.13; do \
	$$p -c '' 2>/dev/null && { echo $$p; break; }; done)
NEWEST_VENV ?= .venv-newest
# Of every library that the package stands on: JAX and its compiler, Flax, Optax, Orbax, NumPy, Pillow.
NEWEST_TESTS = tests/test_api.py tests/test_cpu.py tests/test_system.py tests/models/test_models_vgg.py \
	tests/training/test_training_steps.py tests/training/test_training_checkpoints.py \
	tests/describe tests/data/test_data_augmentation.py tests/reporting/test_reporting_figures.py
# These run in the unpacked sdist.
DIST_TESTS = tests/test_imports.py tests/test_flags.py tests/test_experiment.py tests/models/test_models_vgg.py
# Pip compiles to bytecode, which Python itself may have been told not to write.
PIP = --quiet --constraint constraints.txt

SPHINX = --quiet --fail-on-warning --keep-going --builder html

.PHONY: test-newest newest dist docs run test test-slow lint format clean
.DELETE_ON_ERROR:

run: $(VENV)/installed
	$(VENV)/bin/python launch.py train --config=digits_lenet --workdir=$(RUN_DIR)
	$(VENV)/bin/python launch.py evaluate --workdir=$(RUN_DIR)
	@echo "page       $(VENV)/bin/python launch.py page --workdir=$(RUN_DIR) --output=page.html"

test: lint
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed-dev $(VENV)/installed-docs
	$(VENV)/bin/python -m pytest -n 2 -m slow

test-newest: $(NEWEST_VENV)/installed-newest
	$(NEWEST_VENV)/bin/python -m pytest -n 2 --dist loadfile $(NEWEST_TESTS)

newest:
	@echo $(NEWEST)

dist: $(VENV)/installed-dev $(VENV)/installed-release
	rm -rf dist build/sdist && mkdir -p build/sdist
	$(VENV)/bin/python -m build --outdir dist .
	$(VENV)/bin/twine check --strict dist/*
	tar xzf dist/*.tar.gz -C build/sdist --strip-components 1
	cd build/sdist && $(abspath $(VENV))/bin/python -m pytest -n 2 --dist loadfile $(DIST_TESTS)

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

$(VENV)/installed-release: $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet 'build>=1.2' 'twine>=6'
	@touch $@

$(NEWEST_VENV)/installed-newest: pyproject.toml constraints-newest.txt
	@test -n "$(NEWEST)" || { echo "error: Python 3.13 is needed; name it: make test-newest NEWEST=/path/to/python3.13"; exit 1; }
	$(NEWEST) -m venv $(NEWEST_VENV)
	$(NEWEST_VENV)/bin/python -m pip install --quiet --constraint constraints-newest.txt --editable '.[onednn,plots,weights]' pytest pytest-xdist
	@touch $@
