"""Going into the namespace of a daemon whose interface is isolated (`wh up ... isolated`).

For a process with one thread, by a user who may: the one who started the daemon, or root. Only what the
process does from then on is inside; sockets that it made before stay outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from wh.errors import Code, SystemSetupError

# linux/sched.h, linux/mount.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
HOSTS = "/etc/hosts"


def enter(pid: int) -> None:
    """The network namespace of a process; its user namespace too, for who has no privilege outside of that.
    Raises SystemSetupError."""
    try:
        with contextlib.suppress(PermissionError):
            _join(pid, "net", _CLONE_NEWNET)
            return
        _join(pid, "user", _CLONE_NEWUSER)
        _join(pid, "net", _CLONE_NEWNET)
    except OSError as error:
        raise SystemSetupError(
            f"cannot go into the interface's namespace: {error.strerror}",
            code=Code.NOT_PERMITTED,
            hint="run as the user who started the daemon, or as root",
        ) from None


def _join(pid: int, kind: str, flag: int) -> None:
    """Raises OSError."""
    descriptor = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, flag):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def show_names(names: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Let this process, and what it starts, find (name, addresses) in its /etc/hosts. Call it after enter(),
    which gives the privilege. That a system does not let us is no error: addresses work without names."""
    lines = "".join(f"{address}\t{name}\n" for name, addresses in names for address in addresses)
    libc = ctypes.CDLL(None, use_errno=True)
    if not lines or libc.unshare(_CLONE_NEWNS):
        return
    with tempfile.NamedTemporaryFile("w", prefix="wirehub-hosts-", encoding="utf-8") as file:
        try:
            file.write(Path(HOSTS).read_text(encoding="utf-8", errors="replace").rstrip("\n") + "\n" + lines)
        except OSError:
            file.write(lines)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
        held = f"/proc/self/fd/{file.fileno()}"  # by its name somebody could have put another in its place
        libc.mount(held.encode(), HOSTS.encode(), None, ctypes.c_ulong(_MS_BIND), None)
