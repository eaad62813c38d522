"""The process inside a private network namespace: it makes the namespace, and then sockets in it on request.

Run by its path with `python -I -S`, on the standard library alone. Descriptor 0 is a SOCK_SEQPACKET socket to
whoever wants the namespace (wh.net.private.namespace, which has the messages). A process of its own,
because a process with threads cannot enter a user namespace; it holds no secret, and ends with the other
end of its socket, however that ends.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable

REQUEST = struct.Struct("=4i")  # what, then family, type and protocol of a socket
ANSWER = struct.Struct(
    "=i24s"
)  # errno, what was refused; a descriptor comes with errno 0 where one was asked for
WANT_SOCKET, WANT_TUN = 1, 2

_CLONE_NEWUSER = 0x10000000  # linux/sched.h
_CLONE_NEWNET = 0x40000000
_PR_SET_DUMPABLE = 4  # linux/prctl.h
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_KEPT = 1 << 12 | 1 << 13  # NET_ADMIN, NET_RAW
_TUN_DEVICE = "/dev/net/tun"
_PING_GROUPS = "/proc/sys/net/ipv4/ping_group_range"


def main() -> int:
    peer = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # a pipe that is held open here would never end for its reader
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) > 2 and int(name) != peer.fileno():
            _close(int(name))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    try:
        _make_namespace()
        _step("capabilities", _give_up)
    except _Refused as refused:
        peer.send(ANSWER.pack(refused.number, refused.step.encode()))
        return 1
    peer.send(ANSWER.pack(0, b""))
    while request := peer.recv(REQUEST.size):
        _serve(peer, *REQUEST.unpack(request))
    return 0


class _Refused(Exception):
    def __init__(self, step: str, number: int) -> None:
        self.step = step
        self.number = number


def _make_namespace() -> None:
    """Root needs no user namespace, unless it is root without CAP_SYS_ADMIN, as in a container."""
    if os.geteuid() == 0 and not _unshare(_CLONE_NEWNET):
        return
    uid, gid = os.geteuid(), os.getegid()
    if number := _unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        raise _Refused("namespaces", number)
    # The maps belong to root in a process that may not be dumped, which we may inherit.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    _step("setgroups", lambda: _write("/proc/self/setgroups", "deny"))
    _step("uid_map", lambda: _write("/proc/self/uid_map", f"{uid} {uid} 1"))
    _step("gid_map", lambda: _write("/proc/self/gid_map", f"{gid} {gid} 1"))
    try:
        _write(_PING_GROUPS, f"{gid} {gid}")  # `ping` without a privilege
    except OSError:
        return


def _give_up() -> None:
    """All but what sockets and TUNs inside take, for us and for any program. What cannot be taken from us in
    one way is taken in the other: raises OSError where a capability is left."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if not _KEPT >> number & 1:
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    sets = (ctypes.c_uint32 * 6)(_KEPT, _KEPT, 0, 0, 0, 0)  # effective, permitted, inheritable; twice 32 bits
    if libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), sets):
        raise OSError(ctypes.get_errno(), "capset")


def _unshare(flags: int) -> int:
    """0, or an errno. os.unshare() is newer than the oldest Python that we run on."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.unshare(flags) else 0


def _step(name: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        raise _Refused(name, error.errno or 0) from None


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _serve(peer: socket.socket, what: int, family: int, kind: int, protocol: int) -> None:
    try:
        if what == WANT_TUN:
            fd = os.open(_TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            fd = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol).detach()
    except OSError as error:
        peer.send(ANSWER.pack(error.errno or 0, b""))
        return
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
    peer.sendmsg([ANSWER.pack(0, b"")], [rights])
    _close(fd)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
