# Two commands are all a newcomer needs: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test docs paper check clean

# What only the demo needs comes first; what tests need (linters, browser driver, optional parts) comes on top of it.
$(VENV)/ready-demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "signcl needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version); try: make PYTHON=python3.11" >&2; exit 2; }
	@echo "Setting up $(VENV): PyTorch and a few libraries, a minute or two the first time. pip says how far it is:"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/ready: $(VENV)/ready-demo pyproject.toml constraints.txt
	@echo "Adding to $(VENV) what the tests need:"
	$(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/ready-demo  ## the main job on a synthetic corpus; QUICK=1 for a pass of under 3 minutes
	$(BIN)/signcl demo $(if $(QUICK),--quick)

test: $(VENV)/ready  ## linters, types and the whole suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy signcl
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

docs: $(VENV)/ready  ## the documentation site, into build/docs; broken links fail
	@[ $(VENV)/docs -nt $(VENV)/ready ] || \
	  { $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]' && touch $(VENV)/docs; }
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open build/docs/index.html"

paper: $(VENV)/ready  ## every table and figure that this machine can make; hours on 2 cores, resumable
	$(BIN)/python -m paper

clean:
	rm -rf $(VENV) runs build
