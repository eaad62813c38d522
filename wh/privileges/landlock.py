"""Landlock (linux/landlock.h, kernel documentation userspace-api/landlock): which files a process may still
open, whatever user it is.

For this thread and all that come of it; it cannot be taken back. Needs no_new_privs, or CAP_SYS_ADMIN.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from wh.privileges.kernel import syscall

# The same numbers on all machines (asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH, _NET_PORT = 1, 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_REG, _MAKE_SOCK = 1 << 8, 1 << 9
_ABI_1 = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_SINCE = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
"""ABI version -> what it added to what can be forbidden."""

_BIND_TCP, _CONNECT_TCP = 1, 2
_NETWORK_ABI = 4
_SCOPES = 1 | 2  # abstract Unix sockets, signals
_SCOPES_ABI = 6
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

READ = _READ_FILE | _READ_DIR
RUN = READ | _EXECUTE
CHANGE = READ | _WRITE_FILE | _TRUNCATE | _MAKE_REG | _MAKE_SOCK | _REMOVE_FILE
WRITE_DEVICE = _READ_FILE | _WRITE_FILE

_RULESET = struct.Struct("=QQQ")
_PATH_RULE = struct.Struct("=Qi")
_PORT_RULE = struct.Struct("=QQ")


class Rule(NamedTuple):
    """What may be done beneath place: a path, or a descriptor of one."""

    place: str | Path | int
    allowed: int


def abi() -> int:
    """The kernel's version of Landlock; 0 where it has none, or it is switched off."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(rules: Iterable[Rule], *, connect_to: Iterable[int] | None = None) -> str | None:
    """Leave this process the rules' files alone, no signal to and no abstract socket of another process, and,
    where connect_to is given, TCP connections to these ports alone: as much of it as the kernel can. Returns
    what is in force, as status shows it; None: no Landlock here. Raises OSError where a kernel that has
    Landlock refuses."""
    version = abi()
    if not version:
        return None
    handled = _ABI_1 | sum(right for since, right in _SINCE.items() if version >= since)
    network = _BIND_TCP | _CONNECT_TCP if connect_to is not None and version >= _NETWORK_ABI else 0
    scoped = _SCOPES if version >= _SCOPES_ABI else 0
    ruleset = syscall(_CREATE_RULESET, _RULESET.pack(handled, network, scoped), _size(version), 0)
    try:
        for rule in rules:
            _allow(ruleset, rule, handled)
        for port in connect_to or () if network else ():
            syscall(_ADD_RULE, ruleset, _NET_PORT, _PORT_RULE.pack(_CONNECT_TCP, port), 0)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return f"landlock {version}"


def _size(version: int) -> int:
    """Of struct landlock_ruleset_attr as that kernel knows it."""
    if version < _NETWORK_ABI:
        return 8
    return 16 if version < _SCOPES_ABI else 24


def _allow(ruleset: int, rule: Rule, handled: int) -> None:
    """A place that is not there needs no rule."""
    with contextlib.ExitStack() as undo:
        if isinstance(rule.place, int):
            place = rule.place
        else:
            try:
                place = os.open(rule.place, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                return
            undo.callback(os.close, place)
        allowed = rule.allowed & handled
        if not os.path.isdir(f"/proc/self/fd/{place}"):  # noqa: PTH112
            allowed &= _ON_FILES
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, _PATH_RULE.pack(allowed, place), 0)
