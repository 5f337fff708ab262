# Two commands: `make demo` and `make test`. Each sets itself up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ONLY ?=

.PHONY: demo test lint tests bench browser clean help constraints

help:
	@echo "make demo    three members found a mesh, talk, and answer with a pooled model"
	@echo "make test    lint, types, import contracts and the tests"
	@echo "make bench   speed against one process, as ratios (ONLY=name for one of them)"
	@echo "make browser the browser that one of the tests drives (Linux with apt-get)"
	@echo "make clean   remove .venv and build/"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "permesh needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/permesh demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What is compiled is kept, whatever the environment says: half of collecting is compiling the tests,
# and each daemon and command that a test starts would compile permesh for itself.
tests: $(READY)
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest

test: lint tests

bench: $(READY)
	$(BIN)/python -m benchmarks $(ONLY)

browser:
	@.ci/browser

# After a dependency is changed in pyproject.toml: resolve it afresh and pin what was found.
constraints:
	rm -rf build/resolve && $(PYTHON) -m venv build/resolve
	build/resolve/bin/python -m pip install --quiet '.[dev]'
	build/resolve/bin/python -m pip freeze --all --exclude permesh --exclude setuptools --exclude wheel \
	  | grep -v '@' > constraints.txt

clean:
	rm -rf $(VENV) build
