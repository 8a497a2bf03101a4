# A newcomer needs only two commands: `make demo` and `make test`. Both set up .venv automatically.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint pytest test-all docs paper clean

# The demo needs only this; the tests add linters, the browser driver and the optional parts.
$(VENV)/ready-demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "signcl needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version); try: make PYTHON=python3.11" >&2; exit 2; }
	@echo "Setting up $(VENV): PyTorch and a few libraries. This takes a minute or two the first time; pip shows the progress:"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/ready: $(VENV)/ready-demo pyproject.toml constraints.txt
	@echo "Adding the libraries that the tests need to $(VENV):"
	$(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/ready-demo  ## train and compare two systems on a synthetic corpus; QUICK=1 takes under 3 minutes
	$(BIN)/signcl demo $(if $(QUICK),--quick)

test: lint pytest  ## linters, types and all tests; `make -j2 test` runs the linters beside the tests

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy signcl

pytest: $(VENV)/ready
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/ready  ## the suite with slow tests and optional packages; before a release, and every night on a hosted runner
	$(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev,four-bit]'
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --slow

$(VENV)/ready-docs: $(VENV)/ready
	$(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: $(VENV)/ready-docs  ## build the documentation site in build/docs; fails on broken links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open build/docs/index.html"

paper: $(VENV)/ready  ## make every table and figure that this machine can; takes hours on 2 cores, resumable
	$(BIN)/python -m paper

clean:
	rm -rf $(VENV) runs build
