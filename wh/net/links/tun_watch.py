"""The name and MTU of a TUN interface, wherever it was moved (Linux Documentation/networking/tuntap.rst)."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from wh.net.links.namespaces import Namespace
from whcore.datapath import Datapath

LOOK_S = 1.0
"""How often the MTU is looked at: nothing tells of an interface in another network namespace."""

# What a data plane can be told; beyond it an MTU only means more or less padding.
_MTU_MIN, _MTU_MAX = 576, 65456

# linux/if_tun.h, linux/sockios.h, linux/sched.h
_TUNGETIFF = 0x800454D2
_TUNGETDEVNETNS = 0x54E3
_SIOCGIFFLAGS = 0x8913
_SIOCGIFMTU = 0x8921
_SIOCSIFMTU = 0x8922
_CLONE_NEWNET = 0x40000000
_IFREQ = struct.Struct("16s24x")
_IFREQ_MTU = struct.Struct("16si20x")
_IFREQ_FLAGS = struct.Struct("16sH22x")
_IFF_UP = 0x1  # linux/if.h

_libc = ctypes.CDLL(None, use_errno=True)

log = logging.getLogger(__name__)


class MtuFollower:
    """Tells a data plane the MTU that its interface has."""

    def __init__(
        self, tun_fd: int, datapath: Datapath, mtu: int, *, read: Callable[[], int] | None = None
    ) -> None:
        """tun_fd: the data plane's, looked at only while that is open. mtu: what it was made with. read: how
        it is read where we may not go and look; raises OSError."""
        self._read = read or (lambda: tun_mtu(tun_fd))
        self._datapath = datapath
        self._mtu = mtu

    def look(self) -> None:
        try:
            mtu = max(_MTU_MIN, min(self._read(), _MTU_MAX))
        except OSError as error:  # it is being deleted: the data plane will say so
            log.debug("cannot read the MTU: %s", error)
            return
        if mtu != self._mtu:
            self._datapath.set_mtu(mtu)
            self._mtu = mtu


def is_up(name: str, namespace: Namespace) -> bool:
    """Whether the interface is there and administratively up. Thread-safe."""
    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(name.encode(), 0))
        except OSError:
            return False
    return bool(_IFREQ_FLAGS.unpack(answer)[1] & _IFF_UP)


def tun_name(tun_fd: int) -> str:
    """Its present name. Raises OSError: EBADFD where the interface was deleted, ENOTTY for what is no TUN."""
    (name,) = _IFREQ.unpack(fcntl.ioctl(tun_fd, _TUNGETIFF, bytes(_IFREQ.size)))
    return str(name.rstrip(b"\0").decode())


def set_mtu(interface: str, mtu: int) -> None:
    """Of an interface in this network namespace. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFMTU, _IFREQ_MTU.pack(interface.encode(), mtu))


def tun_mtu(tun_fd: int) -> int:
    """Its MTU, also where it was moved to another network namespace. Raises OSError.

    Nothing of that namespace is kept open: it has to end, and the interface with it, when its other users
    leave.
    """
    namespace = fcntl.ioctl(tun_fd, _TUNGETDEVNETNS)
    try:
        if os.fstat(namespace).st_ino == Path("/proc/thread-self/ns/net").stat().st_ino:
            return _mtu(tun_name(tun_fd))
        return _mtu_elsewhere(tun_name(tun_fd), namespace)
    finally:
        os.close(namespace)


def _mtu(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, _SIOCGIFMTU, _IFREQ_MTU.pack(name.encode(), 0))
    return int(_IFREQ_MTU.unpack(answer)[1])


def _mtu_elsewhere(name: str, namespace: int) -> int:
    """In a thread of its own, because the whole thread moves there."""
    found: list[int | OSError] = []

    def look() -> None:
        try:
            if _libc.setns(namespace, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot enter the interface's network namespace")
            found.append(_mtu(name))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look, name="wh-namespace")
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]
