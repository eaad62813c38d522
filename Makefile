# Everything goes into .venv, made with the system's own Python. As root on a Debian system the packages that are
# missing are installed first; elsewhere their names are printed.

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin

BUILD_PACKAGES := build-essential pkg-config libsodium-dev python3-dev python3-venv
RUN_PACKAGES := iproute2 iputils-ping nftables procps
TEST_PACKAGES := wireguard-tools wireguard-go iperf3 ncat

SOURCES := setup.py pyproject.toml MANIFEST.in README.md LICENSE \
	$(shell find whcore wh tools -name '*.py' -o -name '*.py[xi]' -o -name '*.pxd' -o -name '*.h' -o -name py.typed)

.PHONY: build demo test test-full soak lint bench bench-control clean

build: $(VENV)/installed

$(VENV)/packages: Makefile sandbox/system_packages
	sandbox/system_packages $(BUILD_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES)
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: $(VENV)/packages $(SOURCES)
	rm -rf build/lib*/wh build/lib*/whtools # or files that are gone would be installed again
	$(BIN)/pip install --quiet '.[test]'
	touch $@

$(VENV)/lint-installed: $(VENV)/installed
	$(BIN)/pip install --quiet '.[lint]'
	touch $@

demo: build
	$(BIN)/python sandbox/demo.py

# Quick enough for every change; 12 minutes on 2 cores at most.
test: build
	$(BIN)/pytest -m 'not slow'

test-full: build
	$(BIN)/pytest

soak: build
	$(BIN)/pytest -m slow

lint: $(VENV)/lint-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict -p wh -p whtools
	MYPYPATH=sandbox:tests/bench:tests/fuzz $(BIN)/mypy --strict sandbox tests/bench tests/fuzz
	$(BIN)/python -I -m mypy.stubtest --ignore-disjoint-bases --ignore-unused-allowlist \
		--allowlist tests/stubtest-allowlist $(subst /,.,$(basename $(wildcard whcore/*.pyi)))
	$(BIN)/lint-imports
	! grep -nE '^[[:space:]]*(from|c?import) +wh\b' whcore/*.py whcore/*.p[yx][xd] # the core knows no policy

bench: bench-control

bench-control: build
	PYTHONPATH=sandbox $(BIN)/python tests/bench/bench_control.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f whcore/*.c whcore/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
