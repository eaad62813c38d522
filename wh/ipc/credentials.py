"""Who is calling, and what that caller may do."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from typing import NamedTuple

from wh.ipc.schema import Access

GROUP = "wirehub"
_STARTED_BY = os.geteuid()
"""Whose daemon it is, read before it becomes another user: that user's other programs are not the daemon's
master."""

_UCRED = struct.Struct("3i")
"""pid, uid, gid: struct ucred (unix(7), SO_PEERCRED)."""


class Caller(NamedTuple):
    """A process as it was when it connected."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, sock: socket.socket) -> Caller:
        return cls(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))

    @property
    def is_privileged(self) -> bool:
        """Root, or who started the daemon."""
        return self.uid in (0, _STARTED_BY)

    @property
    def is_known(self) -> bool:
        """Whether the system has a name for the user."""
        try:
            pwd.getpwuid(self.uid)
        except KeyError:
            return False
        return True


def wirehub_gid() -> int | None:
    """The group whose members may use the network, None where the system has none."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def groups_of(uid: int, gid: int) -> frozenset[int]:
    """gid, and the groups that the system's database gives the user."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return frozenset((gid,))
    return frozenset((gid, *os.getgrouplist(user.pw_name, user.pw_gid)))


def may_call(caller: Caller, access: Access) -> bool:
    if caller.is_privileged:
        return True
    if access is not Access.USE:
        return False
    group = wirehub_gid()
    return group is not None and group in groups_of(caller.uid, caller.gid)
