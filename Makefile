# Two commands do everything: `make scenarios` judges the documented topologies, `make test` tests
# zdtest itself. Both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REPORTS ?= reports

.PHONY: help setup engine scenarios test bench clean

help:
	@echo "make scenarios   raise the documented topologies, deploy under load, judge, report"
	@echo "make test        zdtest's own tests, ruff and mypy, through tox"
	@echo "make bench       throughput and truth beside other load tools"
	@echo "make setup       .venv with zdtest in it"
	@echo "make clean       remove what the others made, reports included"

setup: $(VENV)/ready

# A fresh Debian or Ubuntu has python3 without venv: as root it is installed, otherwise named.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "zdtest needs Python 3.11 or later: set PYTHON=python3.11 or so" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv; } || \
	  { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# A Docker Engine, where none answers and none is installed, unless ZD_ENGINE=process. Where there
# can be none it says why, and the scenarios run what plain processes can.
engine: setup
	@[ "$(ZD_ENGINE)" = process ] || $(BIN)/zdtest engine install || true

scenarios: setup engine
	@$(BIN)/python -m pytest scenarios/ --zd-report-dir $(REPORTS) $(ARGS); status=$$?; \
	  echo "report: $(abspath $(REPORTS))/index.html"; exit $$status

test: setup
	$(BIN)/tox -q run $(ARGS)

bench: setup
	$(BIN)/tox -q run -e bench

clean:
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
	find $(REPORTS) -mindepth 1 ! -name .gitignore -delete
