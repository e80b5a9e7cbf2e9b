# `make demo` and `make test` do all set-up themselves. See `make help`.
#
#   PYTHON=python3.13   the interpreter of a new environment (3.11, 3.12 or 3.13)
#   VENV=.venv          where the environment is; it is made when it is missing
#   UV=                 an empty value makes pip do the work where uv is on the PATH
#   ARGS=...            more arguments for pytest or the benchmarks

VENV ?= .venv
UV ?= $(shell command -v uv 2>/dev/null)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
# The first interpreter that runs and has a version that geofuse supports.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo "$$python"; break; }; done)
BIN := $(VENV)/bin
# A benchmark is a module that can be run; `benchmarks/speed/starfm.py` is speed.starfm.
BENCHMARKS ?= $(shell grep -ls '^if __name__ == "__main__"' benchmarks/*.py \
	benchmarks/*/*.py | sed 's,^benchmarks/,,; s,\.py$$,,; s,/,.,g')

ifneq ($(UV),)
INSTALL = "$(UV)" pip install --quiet --python "$(BIN)/python"
else
INSTALL = "$(BIN)/python" -m pip install -qq --disable-pip-version-check
endif

.DELETE_ON_ERROR:
.PHONY: help demo test lint format types contracts notebooks benchmark audit \
	constraints setup clean

help:
	@echo 'make demo        set up, then fuse a simulated scene with each method into demo/'
	@echo 'make test        set up, then run the tests'
	@echo 'make lint        ruff: rules and format        (make format mends them)'
	@echo 'make types       mypy'
	@echo 'make contracts   import-linter: who may import whom'
	@echo 'make notebooks   execute the notebooks         (ARGS=--overwrite keeps the outputs)'
	@echo 'make benchmark   all benchmarks, quick form    (BENCHMARKS="memory tile_law" for some)'
	@echo 'make audit       known security holes in the pinned dependencies (needs network)'
	@echo 'make constraints pin the newest dependencies in constraints.txt (needs uv)'
	@echo 'make setup       the development environment only, in $(VENV)'
	@echo 'make clean       remove the environment and the caches'

demo: $(VENV)/.core
	"$(BIN)/geofuse" demo --out demo $(ARGS)

test: $(VENV)/.dev
	"$(BIN)/python" -m pytest $(ARGS)

lint: $(VENV)/.dev
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

format: $(VENV)/.dev
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

types: $(VENV)/.dev
	"$(BIN)/mypy"

contracts: $(VENV)/.dev
	"$(BIN)/lint-imports"

notebooks: $(VENV)/.dev
	"$(BIN)/python" -m pytest --nbmake --nbmake-timeout=600 $(ARGS) notebooks

benchmark: $(VENV)/.dev
	@set -e; for name in $(BENCHMARKS); do echo "== benchmarks.$$name"; \
	"$(BIN)/python" -m "benchmarks.$$name" --quick $(ARGS); done

audit: $(VENV)/.dev
	"$(BIN)/pip-audit" --skip-editable

constraints:
	@test -n "$(UV)" || { echo 'make constraints needs uv on the PATH' >&2; exit 1; }
	"$(UV)" pip compile --universal -p 3.11 --extra all --no-header --no-annotate \
		--no-emit-index-url --upgrade --quiet -o constraints.txt pyproject.toml

setup: $(VENV)/.dev

# The stamps .core and .dev say what was installed: a second call has nothing to do.
$(VENV)/.core: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	@echo 'Installing geofuse in $(VENV): once, about a minute and a half ...'
	@$(INSTALL) -c constraints.txt -e .
	@touch "$@"

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/pyvenv.cfg
	@echo 'Installing geofuse[dev] in $(VENV): once, about a minute and a half ...'
	@$(INSTALL) -c constraints.txt -e '.[dev]'
	@touch "$(VENV)/.core" "$@"

$(VENV)/pyvenv.cfg:
ifneq ($(UV),)
	@"$(UV)" venv --quiet --allow-existing --python "$(or $(PYTHON),>=3.11,<3.14)" "$(VENV)"
else
	@"$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null || { echo 'geofuse needs Python 3.11, 3.12' \
	'or 3.13, found "$(PYTHON)": install one, or give its path with PYTHON=...' >&2; exit 1; }
	@"$(PYTHON)" -m venv "$(VENV)" || { echo 'No environment could be made with' \
	'$(PYTHON). On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
endif

clean:
	@if test -f "$(VENV)/pyvenv.cfg"; then rm -rf "$(VENV)"; fi
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
