"""A network namespace of our own, made without privilege and without a trace on the host (docs/design.md 4).

A helper process makes it (wh.net.private.namespace_helper) and passes out what is made inside: a TUN,
sockets. A socket keeps the namespace it was made in, so this process uses both: UDP sockets of the host, and
TCP over the tunnel. Everything disappears with this process, also where it is killed: the helper ends with
its socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from pathlib import Path
from typing import Self

from wh.errors import Code, SystemSetupError
from wh.net.links.namespaces import Links
from wh.net.links.netlink import PrivateLinks
from wh.net.links.netlink_socket import NetlinkSocket
from wh.net.links.tun import check_interface_name, open_tun
from wh.net.private import namespace_helper
from wh.net.private.namespace_helper import ANSWER, REQUEST, WANT_SOCKET, WANT_TUN
from wh.net.private.packet_interface import open_packet_interface
from wh.system.python import python_file, spawn

READY_TIMEOUT_S = 10.0
_NO_TUN = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENODEV, errno.ENXIO})
_LOOPBACK_MTU = 65536
_ROOT_WITHOUT_SETFCAP = (
    "root needs CAP_SETFCAP for it, any other user nothing; in a container: --user 1000, or --cap-add SETFCAP"
)


class PrivateNamespace:
    """start() returns at once; what comes after waits for the helper. close() is idempotent. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = False
        self._netlink: NetlinkSocket | None = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._helper = ours
        try:
            self._pid = _spawn(theirs.fileno())
        except OSError as error:
            ours.close()
            raise SystemSetupError(f"cannot start a helper process: {error.strerror}") from error
        finally:
            theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the helper: /proc/PID/ns has the namespaces."""
        return self._pid

    def close(self) -> None:
        if self._helper.fileno() < 0:
            return
        if self._netlink is not None:
            self._netlink.close()
        self._helper.close()
        with contextlib.suppress(ChildProcessError):  # it ended long ago, and was taken for an orphan
            os.waitpid(self._pid, 0)

    # What a node needs of it (wh.net.links.namespaces).

    def open_tun(self, name: str) -> list[int]:
        """A TUN; or, where this user may open none, one end of a veth pair, as a packet socket."""
        check_interface_name(name)
        try:
            return open_tun(name, open_device=self._open_tun_device)
        except SystemSetupError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _NO_TUN:
                raise
        return [open_packet_interface(self.netlink, self.socket, name)]

    def open_links(self, name: str) -> Links:
        """The links of the namespace; local_addresses() are the host's all the same, where our UDP sockets
        are."""
        return PrivateLinks(self.netlink, name)

    def read_mtu(self, name: str, tun_fd: int) -> int:
        """From outside: this process may not go in."""
        try:
            link = self.netlink.link(name)
        except SystemSetupError as error:
            raise OSError(str(error)) from error
        if link is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return link.mtu

    # For everybody who talks through the tunnel.

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket inside the namespace. Raises OSError."""
        return socket.socket(fileno=self._ask(WANT_SOCKET, int(family), int(kind), protocol))

    @property
    def netlink(self) -> NetlinkSocket:
        """Configures the namespace. Loopback is up."""
        if self._netlink is None:
            inside = self.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._netlink = NetlinkSocket(inside)
            loopback = self._netlink.link("lo")
            if loopback is not None:
                self._netlink.set_link(loopback.ifindex, up=True, mtu=_LOOPBACK_MTU)
        return self._netlink

    def _open_tun_device(self) -> int:
        return self._ask(WANT_TUN)

    def _ask(self, *request: int) -> int:
        """A descriptor that the helper made. Raises OSError, SystemSetupError where there is no namespace."""
        with self._lock:
            self._wait_until_ready()
            self._helper.send(REQUEST.pack(*request, *[0] * (4 - len(request))))
            answer, fds, _, _ = socket.recv_fds(self._helper, ANSWER.size, 1)
        if len(answer) < ANSWER.size:
            raise OSError(errno.ECONNRESET, "the namespace's helper process has ended")
        number, _ = ANSWER.unpack(answer)
        if number:
            raise OSError(number, os.strerror(number))
        os.set_inheritable(fds[0], False)
        return fds[0]

    def wait_until_ready(self) -> None:
        """Raises SystemSetupError where this system lets us make no namespace."""
        with self._lock:
            self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        self._helper.settimeout(READY_TIMEOUT_S)
        try:
            answer = self._helper.recv(ANSWER.size)
        except TimeoutError:
            answer = b""
        self._helper.settimeout(None)
        if len(answer) < ANSWER.size:
            raise SystemSetupError("the helper process that makes a network namespace ended or is stuck")
        number, step = ANSWER.unpack(answer)
        if number:
            raise _explain(number, step.rstrip(b"\0").decode())
        self._ready = True


def _spawn(fd: int) -> int:
    """The helper's process id."""
    return spawn(python_file(namespace_helper.__file__), {0: fd}, {})


def _explain(number: int, step: str) -> SystemSetupError:
    return SystemSetupError(
        f"this system does not let us make a network namespace ({step}: {os.strerror(number)})",
        code=Code.NO_NAMESPACE,
        hint=_ROOT_WITHOUT_SETFCAP if step == "uid_map" and os.geteuid() == 0 else _what_to_allow(),
    )


def _what_to_allow() -> str:
    """What forbids it, as far as can be seen from inside."""
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor restricts user namespaces: run as root, give the program a profile with `userns,`, or "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "run as root, or sysctl -w kernel.unprivileged_userns_clone=1"
    for kind in ("user", "net"):
        if _sysctl(f"user/max_{kind}_namespaces") == "0":
            return f"sysctl -w user.max_{kind}_namespaces=10000"
    return (
        "run as root; in a container allow unshare(2): podman or docker run with --security-opt "
        "seccomp=unconfined, or --cap-add SYS_ADMIN"
    )


def _sysctl(name: str) -> str:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return ""
