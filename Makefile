# Everything goes into .venv, made with the system's own Python. As root on a Debian system the packages that are
# missing are installed first; elsewhere their names are printed.

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin

# What Python brings along is pinned, each file by its hash, and built with what is pinned (requirements/lock).
INSTALL := $(BIN)/pip install --quiet --no-build-isolation
INSTALL_LOCKED := $(INSTALL) --require-hashes --requirement

BUILD_PACKAGES := build-essential pkg-config libsodium-dev python3-dev python3-venv
ifeq ($(shell uname -m),x86_64)
BUILD_PACKAGES += libipsec-mb-dev # faster than libsodium, which encrypts where this is not
endif
RUN_PACKAGES := iproute2 iputils-ping nftables procps
TEST_PACKAGES := binutils netbase wireguard-tools wireguard-go iperf3 ncat ethtool miniupnpd-nftables miniupnpc natpmpc strace tmux
CONTAINER_PACKAGES := podman podman-compose buildah runc netavark aardvark-dns iptables debootstrap

BENCH_PATH := sandbox:tests/bench

SOURCES := setup.py pyproject.toml MANIFEST.in README.md LICENSE \
	$(shell find whcore wh tools -name '*.py' -o -name '*.py[xi]' -o -name '*.pxd' -o -name '*.h' -o -name py.typed)

.PHONY: build help sandbox run-sandbox demo test test-full test-containers test-distributions sim soak asan lint \
	lock bench bench-control bench-data bench-nat bench-faults bench-znc bench-junk profile-data clean

build: $(VENV)/installed ## everything into .venv (the default)

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-17s%s\n", $$1, $$2 }'

$(VENV)/packages: Makefile sandbox/system_packages
	sandbox/system_packages $(BUILD_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES)
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/requirements: $(VENV)/packages requirements/build.txt requirements/run.txt requirements/test.txt
	$(INSTALL_LOCKED) requirements/build.txt
	$(INSTALL_LOCKED) requirements/run.txt --requirement requirements/test.txt
	touch $@

$(VENV)/installed: $(VENV)/requirements $(SOURCES)
	rm -rf build/lib*/wh build/lib*/whtools # or files that are gone would be installed again
	$(INSTALL) --no-deps .
	touch $@

$(VENV)/%-installed: $(VENV)/installed requirements/%.txt
	$(INSTALL_LOCKED) requirements/$*.txt
	touch $@

# Pins anew what pyproject.toml asks for; LOCK=--upgrade takes the newest releases.
lock: ## the requirements pinned anew
	requirements/lock $(LOCK)

# Images of this tree, wirehub/wh and wirehub/sandbox, with podman or docker. BASE=IMAGE: a Debian to build on;
# where none can be pulled, root makes one of packages once, kept in ~/.cache/wirehub.
sandbox: $(VENV)/container-packages ## images to run in containers: wirehub/wh, wirehub/sandbox
	sandbox/container/build

run-sandbox: sandbox ## a shell in the second one
	sandbox/container/engine run --rm --interactive --tty --cap-add NET_ADMIN --device /dev/net/tun wirehub/sandbox

test-containers: build sandbox ## the images in real containers (root)
	$(PYTEST) tests/containers

$(VENV)/container-packages: Makefile sandbox/system_packages
	docker info >/dev/null 2>&1 || sandbox/system_packages $(CONTAINER_PACKAGES)
	mkdir -p $(VENV) && touch $@

demo: build ## the tutorial, in network namespaces (root)
	$(BIN)/python sandbox/demo.py

# Three files at a time: tests of real daemons mostly wait. A file's tests stay together, in their order.
PYTEST := $(BIN)/pytest --numprocesses 3 --dist loadfile

# Quick enough for every change; 12 minutes on 2 cores at most.
test: build ## what every change runs; root runs the labs too
	$(PYTEST) -m 'not slow'

test-full: build ## the slow tests as well
	$(PYTEST)

# DISTRIBUTIONS="trixie arm64" for some. The last commit is tested; docs/platforms.md has what came of it.
test-distributions: ## make test in Debians of today, each in a root of its own; an hour and a half (root)
	$(PYTHON) tests/distributions/distributions.py $(DISTRIBUTIONS)

# SIM="storm --servers 10000" for one of them; docs/dht.md has what they measured.
sim: build ## the DHT's scenarios in virtual time, one after the other
	if test -n "$(SIM)"; then $(BIN)/python -m tests.sim $(SIM); else $(BIN)/pytest -q tests/sim/test_scenarios.py tests/sim/test_dht.py; fi

# 30 minutes at full speed; SOAK="--minutes 2" for less.
soak: build ## real daemons at full speed for 30 minutes (root)
	PYTHONPATH=$(BENCH_PATH) $(BIN)/python tests/soak/soak.py $(SOAK)

# The core with every access and operation checked. Leaks are not: the interpreter's own would hide them.
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SANITIZED := env PYTHONPATH=$(VENV)/asan:tests/unit PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	UBSAN_OPTIONS=print_stacktrace=1 \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)"
CORE_TESTS := tests/unit/whcore tests/unit/net/wireguard/test_uapi_server.py tests/unit/net/test_alias_proofs.py

asan: $(VENV)/asan/installed ## the core's tests under sanitizers
	$(SANITIZED) $(BIN)/pytest --capture=sys -p no:cacheprovider $(CORE_TESTS)
	$(SANITIZED) $(BIN)/python tests/fuzz/fuzz_offload.py

# Below .venv, since the tests insist on what is installed there.
$(VENV)/asan/installed: $(VENV)/installed
	rm -rf $(VENV)/asan
	CFLAGS="$(SANITIZERS)" $(INSTALL) --no-deps --target $(VENV)/asan \
		--config-settings="--global-option=build --build-base=build/asan" .
	touch $@

lint: $(VENV)/lint-installed ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict -p wh -p whtools
	MYPYPATH=sandbox:tests/bench:tests/containers:tests/distributions:tests/fuzz:tests/lab:tests/soak:tests/unit \
		$(BIN)/mypy --strict sandbox tests/bench tests/containers tests/distributions tests/fuzz tests/soak
	$(BIN)/python -I -m mypy.stubtest --ignore-disjoint-bases --ignore-unused-allowlist \
		--allowlist tests/stubtest-allowlist $(subst /,.,$(basename $(wildcard whcore/*.pyi)))
	$(BIN)/lint-imports
	! grep -nE '^[[:space:]]*(from|c?import) +wh\b' whcore/*.py whcore/*.p[yx][xd] # the core knows no policy

bench: bench-control bench-data bench-nat ## the next three

bench-control: build ## handshakes and control messages
	PYTHONPATH=sandbox $(BIN)/python tests/bench/bench_control.py

# The newest wireguard-go is fetched for comparison, never installed; without it the bench says so and goes on.
# BENCH="--quick" for a first look, BENCH="--peer PROGRAM" for one more userspace WireGuard.
bench-data: $(VENV)/bench-installed ## throughput, beside other implementations of WireGuard (root)
	tests/bench/fetch_wireguard_go >/dev/null || echo "bench-data: goes on without the newest wireguard-go" >&2
	PYTHONPATH=$(BENCH_PATH) $(BIN)/python tests/bench/bench_data.py $(BENCH)

# JUNK="KNOCK" for some kinds only.
bench-junk: build ## what 40,000 junk datagrams a second cost (root)
	PYTHONPATH=$(BENCH_PATH) $(BIN)/python tests/bench/bench_junk.py $(JUNK)

# All pairs of NAT kinds, relays killed, addresses changed: 20 rounds of each, about an hour. NAT="--quick" for less,
# NAT="--only punching" for a part, NAT="--write-docs" to put it into docs/nat.md.
bench-nat: $(VENV)/bench-installed ## all pairs of NAT kinds, faults and moves; an hour (root)
	PYTHONPATH=$(BENCH_PATH) $(BIN)/python tests/bench/bench_nat.py $(NAT)

# BENCH="--rounds 1 --gigabytes 0.5" for a first look. magic-wormhole is fetched into .bench for comparison.
# FAULTS="--times 1" for a first look, FAULTS="--only IPv6" for some, FAULTS="--write-docs" for docs/faults.md.
bench-faults: build ## gaps after changes of networks, clocks and links; 20 minutes (root)
	PYTHONPATH=$(BENCH_PATH) $(BIN)/python tests/bench/bench_faults.py $(FAULTS)

bench-znc: build ## 0nc beside magic-wormhole (root)
	PYTHONPATH=$(BENCH_PATH):tests/lab $(BIN)/python tests/bench/bench_znc.py $(BENCH)

# Where the time goes; PROFILE="--udp 1200" for other traffic. Needs perf (Debian: linux-perf).
profile-data: build ## where the time of the data plane goes (root, perf)
	PYTHONPATH=$(BENCH_PATH) $(BIN)/python tests/bench/profile_data.py $(PROFILE)

clean: ## remove all that was made
	rm -rf .bench $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f whcore/*.c whcore/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
