"""What the kernel says that a process may do (proc_pid_status(5)), read apart from the code under test."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
}
"""linux/capability.h"""


class Standing(NamedTuple):
    """Of a thread. uids, gids: real, effective, saved, of the file system. Capabilities: bit masks."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new_privs: bool
    seccomp: bool

    @property
    def any_capability(self) -> int:
        """The bounding set alone gives nothing."""
        return self.inheritable | self.permitted | self.effective | self.ambient


def mask(*names: str) -> int:
    return sum(1 << CAPABILITIES[name] for name in names)


def read_standing(thread: str | int) -> Standing:
    """thread: PID, or PID/task/TID. Raises OSError."""
    lines = Path(f"/proc/{thread}/status").read_text().splitlines()
    words = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    sets = (int(words[f"Cap{name}"][0], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
    numbers = (tuple(map(int, words[name])) for name in ("Uid", "Gid", "Groups"))
    return Standing(*numbers, *sets, words["NoNewPrivs"] == ["1"], words["Seccomp"] != ["0"])


def standings(pid: int) -> list[Standing]:
    """Of all threads that live long enough to be looked at."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found.append(read_standing(f"{pid}/task/{task.name}"))
    return found
