#!/usr/bin/env -S /usr/bin/python3 -IS
"""`wh-sandbox-test`: each peer that wh-sandbox-spawn started pings each other one by name, by IPv4 and IPv6.

Prints a line a peer and exits with 0 where all answered, 1 where one did not, 3 where no peers run.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

PATIENCE_S = 10
AT_ONCE = 8
FAMILIES = ("-4", "-6")


def main() -> int:
    listed = subprocess.run(["wh", "show", "interfaces"], capture_output=True, text=True, check=False)
    peers = [name for name in listed.stdout.split() if name.startswith("peer") and name[4:].isdecimal()]
    peers.sort(key=lambda name: int(name[4:]))
    if len(peers) < 2:
        print(
            "wh-sandbox-test: fewer than two peers run; start some with: wh-sandbox-spawn 3", file=sys.stderr
        )
        return 3
    with ThreadPoolExecutor(AT_ONCE) as workers:
        trials = [(a, b, family) for a, b, family in product(peers, peers, FAMILIES) if a != b]
        troubles = dict(zip(trials, workers.map(lambda trial: ping(*trial), trials), strict=True))
    for peer in peers:
        lost = [(b, family) for (a, b, family), trouble in troubles.items() if a == peer and trouble]
        print(f"{peer}: {f'lost {lost}' if lost else f'reaches all {len(peers) - 1} others, IPv4 and IPv6'}")
    failed = {trial: trouble for trial, trouble in troubles.items() if trouble}
    for (a, b, family), trouble in failed.items():
        print(f"{a} to {b} {family}: {trouble}", file=sys.stderr)
    print(f"{len(trials) - len(failed)} of {len(trials)} pings answered")
    return 1 if failed else 0


def ping(a: str, b: str, family: str) -> str:
    """What went wrong; empty where it was answered."""
    command = ["wh", "run", a, "--", "ping", family, "-n", "-c", "1", "-w", str(PATIENCE_S), b]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return (
        ""
        if answer.returncode == 0
        else (answer.stderr or answer.stdout).strip() or f"exit code {answer.returncode}"
    )


if __name__ == "__main__":
    sys.exit(main())
