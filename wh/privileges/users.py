"""The user that a daemon of root becomes, where there is one."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from wh.privileges.capabilities import Capability, held

DAEMON_USER = "wirehub"
_CHANGING = (Capability.SETUID, Capability.SETGID)


class User(NamedTuple):
    name: str
    uid: int
    gid: int


NOBODY = User("nobody", 65534, 65534)


def find_user(name: str = DAEMON_USER) -> User | None:
    """None: the system has no such user, or it is root by another name."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(name, entry.pw_uid, entry.pw_gid) if entry.pw_uid and entry.pw_gid else None


def why_not(user: User, needed: Iterable[tuple[str | Path, int]]) -> str | None:
    """Why this process, of root, cannot become the user; None: it can. needed: paths that it has to have
    access to then, and which (os.R_OK and the like). With one thread."""
    if len(held(_CHANGING)) < len(_CHANGING):
        return "CAP_SETUID and CAP_SETGID are missing"
    if not _is_mapped(user.uid, "uid_map") or not _is_mapped(user.gid, "gid_map"):
        return f"this container has no uid {user.uid}"
    with acting_as(user):
        closed = [path for path, mode in needed if not os.access(path, mode, effective_ids=True)]
    return f"{user.name} has no access to {closed[0]}" if closed else None


@contextlib.contextmanager
def acting_as(user: User | None) -> Iterator[None]:
    """Touch files as the user, for a moment; None: as who we are. By root, with one thread."""
    if user is None:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _is_mapped(number: int, table: str) -> bool:
    """Of this user namespace (user_namespaces(7)): first inside, first outside, length."""
    lines = (line.split() for line in Path(f"/proc/self/{table}").read_text().splitlines())
    return any(int(first) <= number < int(first) + int(length) for first, _, length in lines)
