"""The userspace WireGuards that a bench compares, and how each is called."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from figures import REPOSITORY

FETCHED = REPOSITORY / ".bench" / "wireguard-go"
"""Where fetch_wireguard_go puts the newest wireguard-go."""

ENVIRONMENT = {
    "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1",  # wireguard-go on a kernel that could do WireGuard
    "LOG_LEVEL": "error",
    "WG_LOG_LEVEL": "error",
}


class Role(Enum):
    """What a goal compares us with."""

    OURS = "ours"
    DEBIAN = "debian"
    NEWEST = "newest"
    NAMED = "named"


@dataclass(frozen=True)
class Implementation:
    """A program that serves an interface when called as `program -f INTERFACE`, and is configured by `wg`."""

    label: str
    program: Path
    role: Role

    def argv(self, interface: str) -> list[str | Path]:
        return [self.program, "-f", interface]


def ours() -> Implementation:
    return Implementation("wh-wireguard", Path(sys.executable).parent / "wh-wireguard", Role.OURS)


def debian() -> Implementation | None:
    """The wireguard-go that is installed as a Debian package."""
    program = shutil.which("wireguard-go")
    if program is None:
        return None
    query = ["dpkg-query", "-W", "-f", "${source:Upstream-Version}", "wireguard-go"]
    answer = subprocess.run(query, capture_output=True, text=True)
    version = answer.stdout if answer.returncode == 0 else _reported_version(Path(program))
    return Implementation(f"wireguard-go {version}", Path(program), Role.DEBIAN)


def newest() -> Implementation | None:
    """What fetch_wireguard_go fetched."""
    program = FETCHED / "usr" / "bin" / "wireguard-go"
    if not program.exists():
        return None
    version = (FETCHED / "version").read_text().split("-")[0].strip()
    return Implementation(f"wireguard-go {version}", program, Role.NEWEST)


def named(path: Path) -> Implementation:
    """A program given on the command line. Raises ValueError where it cannot be run."""
    if shutil.which(path) is None:
        raise ValueError(f"{path} is not a program")
    return Implementation(f"{path.name} {_reported_version(path)}", path.absolute(), Role.NAMED)


def all_implementations(peers: Sequence[Path]) -> list[Implementation]:
    """Ours first. Labels are unique: of two alike, the later one is not taken."""
    found = [ours(), debian(), newest(), *map(named, peers)]
    return list({each.label: each for each in reversed(found) if each is not None}.values())[::-1]


def _reported_version(program: Path) -> str:
    """The second word that --version prints."""
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    words = answer.stdout.split()
    return words[1] if len(words) > 1 else "?"
