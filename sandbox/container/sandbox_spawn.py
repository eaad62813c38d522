#!/usr/bin/env -S /usr/bin/python3 -IS
"""`wh-sandbox-spawn N`: N peers of one network in this container, each with a network namespace of its own.

peer1 has the interface peer1, the address 10.84.0.2 and so on: `wh run peer1 -- ping peer2`. They need no
privilege but to make namespaces, and speak over the container's loopback. Called again with more, it adds the
new ones; `wh-sandbox-spawn 0` ends all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

DIRECTORY = Path(os.environ.get("WH_SANDBOX") or f"/tmp/wirehub-sandbox-{os.getuid()}")
CONFIG = DIRECTORY / "config"
SUBNET = "10.84.0.0/24"
FIRST_PORT = 41000
PEERS_MAX = 200


def main(words: list[str]) -> int:
    if len(words) != 1 or not words[0].isascii() or not words[0].isdecimal() or int(words[0]) > PEERS_MAX:
        print(f"usage: wh-sandbox-spawn N; N from 0 to {PEERS_MAX}", file=sys.stderr)
        return 2
    count = int(words[0])
    DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    if DIRECTORY.stat().st_uid != os.getuid():
        print(f"wh-sandbox-spawn: {DIRECTORY} belongs to another user", file=sys.stderr)
        return 1
    running = set(peers_running())
    if count == 0:
        return worst(run(["wh", "down", name]) for name in sorted(running))
    make_files(max(count, *(number_of(name) for name in running), 0))
    return worst(
        [reload(running), *(start(name) for name in map(name_of, range(1, count + 1)) if name not in running)]
    )


def name_of(number: int) -> str:
    return f"peer{number}"


def number_of(name: str) -> int:
    return int(name.removeprefix("peer"))


def peers_running() -> list[str]:
    """Interfaces that have a daemon, of ours."""
    listed = subprocess.run(["wh", "show", "interfaces"], capture_output=True, text=True, check=False)
    names = (line.strip() for line in listed.stdout.splitlines())
    return [name for name in names if name.startswith("peer") and name[4:].isdecimal()]


def make_files(count: int) -> None:
    """A key for each, and one network file for all: who is on its trust lines is a member."""
    lines = [f"name sandbox\nsubnet {SUBNET}\n"]
    for number in range(1, count + 1):
        endpoint = f"127.0.0.1:{FIRST_PORT + number}"
        lines.append(
            f"trust {name_of(number)} {public_key(DIRECTORY / f'{name_of(number)}.sk')} {endpoint}\n"
        )
    fresh = CONFIG.with_suffix(".new")
    fresh.write_text("".join(lines))
    fresh.replace(CONFIG)


def public_key(file: Path) -> str:
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        subprocess.run(["wh", "genkey"], stdout=descriptor, check=True)
        os.close(descriptor)
    with file.open("rb") as key:
        return subprocess.run(
            ["wh", "pubkey"], stdin=key, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()


def reload(running: set[str]) -> int:
    return worst(run(["wh", "reload", name], quiet=True) for name in sorted(running))


def start(name: str) -> int:
    key = str(DIRECTORY / f"{name}.sk")
    return run(
        ["wh", "up", str(CONFIG), "private-key", key, "interface", name, "isolated", "no-port-mapping"]
    )


def run(command: list[str], *, quiet: bool = False) -> int:
    return subprocess.run(command, stdout=subprocess.DEVNULL if quiet else None, check=False).returncode


def worst(codes: Iterable[int]) -> int:
    """Of exit codes; each command is run."""
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
