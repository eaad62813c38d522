"""The capabilities of this process (capabilities(7)), and what /proc says of its standing.

All of them are a thread's: whoever gives some up does so before it has a second thread.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Iterable
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from wh.privileges.kernel import prctl


class Capability(IntEnum):
    """Those that we have a use for (linux/capability.h)."""

    CHOWN = 0
    DAC_OVERRIDE = 1
    FOWNER = 3
    KILL = 5
    SETGID = 6
    SETUID = 7
    SETPCAP = 8
    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13


NONE: frozenset[Capability] = frozenset()
_BITS = 64
_VERSION_3 = 0x20080522  # linux/capability.h

# linux/prctl.h
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Set(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


class Standing(NamedTuple):
    """What the kernel says of a thread (proc_pid_status(5)). Sets of capabilities are bit masks. uids, gids:
    real, effective, saved, of the file system."""

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
        """Of what it has or can take; the bounding set alone gives nothing."""
        return self.inheritable | self.permitted | self.effective | self.ambient


def read_standing(thread: str | int = "thread-self") -> Standing:
    """thread: PID, or PID/task/TID. Raises OSError."""
    lines = Path(f"/proc/{thread}/status").read_text().splitlines()
    words = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}

    def mask(name: str) -> int:
        return int(words[name][0], 16)

    return Standing(
        uids=tuple(map(int, words["Uid"])),
        gids=tuple(map(int, words["Gid"])),
        groups=tuple(map(int, words["Groups"])),
        inheritable=mask("CapInh"),
        permitted=mask("CapPrm"),
        effective=mask("CapEff"),
        bounding=mask("CapBnd"),
        ambient=mask("CapAmb"),
        no_new_privs=words["NoNewPrivs"] == ["1"],
        seccomp=words.get("Seccomp", ["0"]) != ["0"],
    )


def mask_of(capabilities: Iterable[Capability]) -> int:
    return sum(1 << each for each in set(capabilities))


def names_of(mask: int) -> list[str]:
    """As in capabilities(7); those that we have no use for by number."""
    known = {int(each): f"CAP_{each.name}" for each in Capability}
    return [known.get(bit, f"CAP_{bit}") for bit in range(_BITS) if mask >> bit & 1]


def held(wanted: Iterable[Capability]) -> frozenset[Capability]:
    """Those of them that are effective now."""
    effective = read_standing().effective
    return frozenset(each for each in wanted if effective >> each & 1)


def set_capabilities(kept: Collection[Capability]) -> None:
    """Effective and permitted; inheritable and ambient become empty. Raises OSError: EPERM for what was not
    permitted before."""
    mask = mask_of(kept)
    sets = (_Set * 2)(*(_Set(word, word, 0) for word in (mask & 0xFFFFFFFF, mask >> 32)))
    if _libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), sets):
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    try:
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError:
        return  # a kernel without an ambient set, or one that refuses: read_standing() tells


def limit_bounding_set(kept: Collection[Capability]) -> None:
    """What no program that this process becomes or starts can ever have. Needs SETPCAP; without it the set
    stays."""
    if not held((Capability.SETPCAP,)):
        return
    for number in range(_BITS):
        if number not in kept and _in_bounding_set(number):
            prctl(_PR_CAPBSET_DROP, number)


def _in_bounding_set(number: int) -> bool:
    try:
        return prctl(_PR_CAPBSET_READ, number) == 1
    except OSError:
        return False  # EINVAL: the kernel has not so many
