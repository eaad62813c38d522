"""`make test-distributions`: this commit built, tested and shown in Debians of today, each in its own root.

What is not committed is not tested. Bases and packages are kept below ~/.cache/wirehub (XDG_CACHE_HOME),
roots are removed. All output goes to bench-results/distributions-NAME.log, a row for each to
docs/platforms.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, TextIO

from emulated_root import Arm64Root
from platforms_docs import Row, write_docs
from root import REPOSITORY, Root, StepFailed, end_on_signals

RESULTS = REPOSITORY / "bench-results"
INSTALL = "apt-get update -qq && apt-get upgrade -qq -y && apt-get install -qq -y --no-install-recommends"
BARE_NEEDS = "git make ca-certificates"
"""As README.md says."""

EMULATED_NEEDS = "make pkg-config libsodium-dev python3-dev python3-venv libc6-dev iproute2 netbase"
CROSS_COMPILER = "gcc-14-aarch64-linux-gnu:amd64 binutils-aarch64-linux-gnu:amd64 libc6-dev"
"""Of this machine's architecture: an emulated one takes an hour."""

_COUNTS = re.compile(r"\d+ passed[^=]*(?= in [\d.]+s)")


def native(root: Root, row: Row) -> None:
    """As README.md and CONTRIBUTING.md say; tests and tutorial have no network but their own."""
    root.run(f"{INSTALL} {BARE_NEEDS}", network=True)
    row.build_s, _ = root.run("make build", network=True)
    note_versions(root, row)
    row.test_s, lines = root.run("ip link set lo up; make test")
    row.tests = counts(lines)
    row.demo_s, _ = root.run("ip link set lo up; make demo")


def emulated(root: Root, row: Row) -> None:
    """The core's tests by qemu-user. How long they take says nothing."""
    root.run(f"dpkg --add-architecture amd64; {INSTALL} {EMULATED_NEEDS} {CROSS_COMPILER}", network=True)
    root.run("ln -s aarch64-linux-gnu-gcc-14 /usr/bin/aarch64-linux-gnu-gcc")
    root.run("python3 -m venv .venv; touch .venv/packages; make build", network=True)
    note_versions(root, row)
    _, lines = root.run("ip link set lo up; .venv/bin/pytest -q -p no:cacheprovider tests/unit/whcore")
    row.tests = counts(lines)


class Distribution(NamedTuple):
    suite: str
    root: type[Root] = Root
    steps: Callable[[Root, Row], None] = native


DISTRIBUTIONS = {
    "bookworm": Distribution("bookworm"),
    "trixie": Distribution("trixie"),
    "sid": Distribution("sid"),
    "arm64": Distribution("trixie", Arm64Root, emulated),
}


def note_versions(root: Root, row: Row) -> None:
    _, (release,) = root.run("cat /etc/debian_version")
    _, lines = root.run(".venv/bin/wh version verbose json")
    found = json.loads("\n".join(lines))
    row.debian = f"Debian {release}"
    row.machine, row.python = found["machine"], found["python"]
    row.libraries = ", ".join(dict.fromkeys((found["engine"], found["libsodium"])))


def counts(lines: list[str]) -> str:
    """Of pytest's last line."""
    found = [match.group() for line in lines if (match := _COUNTS.search(line))]
    return found[-1].strip() if found else ""


def run(name: str, log: TextIO) -> Row:
    def tell(line: str) -> None:
        print(f"{name}: {line}", flush=True)
        print(line, file=log, flush=True)

    distribution, row = DISTRIBUTIONS[name], Row(name)
    began = time.monotonic()
    try:
        with distribution.root(distribution.suite, tell=tell) as root:
            distribution.steps(root, row)
    except StepFailed as failed:
        row.failed = str(failed)
        tell(row.failed)
    tell(f"{'failed' if row.failed else 'passed'} after {time.monotonic() - began:.0f} s")
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DISTRIBUTIONS))
    names = parser.parse_args().names or list(DISTRIBUTIONS)
    if unknown := set(names) - set(DISTRIBUTIONS):
        parser.error(f"no distribution {', '.join(sorted(unknown))}; there are {', '.join(DISTRIBUTIONS)}")
    if os.geteuid() != 0:
        parser.error("making roots needs root")
    end_on_signals()
    RESULTS.mkdir(exist_ok=True)
    rows = []
    for name in names:
        with (RESULTS / f"distributions-{name}.log").open("w") as log:
            rows.append(run(name, log))
        write_docs(rows[-1])
    return any(row.failed for row in rows)


if __name__ == "__main__":
    sys.exit(main())
