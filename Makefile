# make demo   a county on this machine        make test   everything that is tested
# make check  what a change must pass         make bench, make bench-check   measured numbers
# make chaos  every fault at once, and a count of every value (ARGS="--seconds 600 --seed N")
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test check bench bench-check chaos web lock clean

demo: $(VENV)/.installed web
	$(BIN)/agrigate demo $(ARGS)

test: $(VENV)/.installed web
	deploy/install-test-parts.sh
	$(BIN)/python dashboards/web/build_hook.py --test
	$(BIN)/pytest -q -rs -n 2 --dist loadfile $(ARGS)

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

bench: $(VENV)/.installed web
	$(BIN)/python -m bench $(ARGS)

bench-check: $(VENV)/.installed web
	$(BIN)/python -m bench --check $(ARGS)

chaos: $(VENV)/.installed web
	$(BIN)/python -m demo.chaos $(ARGS)

# The pages, built by npm from a Python package: no system Node is needed.
web: $(VENV)/.installed
	$(BIN)/python dashboards/web/build_hook.py

# Everything is installed from constraints.txt: exact versions, checked by hash.
$(VENV)/.installed: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python lacks venv: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Take newer versions: needs uv.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-header --no-annotate -o constraints.txt

clean:
	rm -rf $(VENV) .demo .chaos dashboards/static dashboards/web/node_modules
