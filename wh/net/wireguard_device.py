"""A plain WireGuard interface in this process: TUN, UDP sockets, data plane, and the socket that `wg` talks to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import select
import socket
import struct
import threading
from pathlib import Path

from wh.errors import Code, SystemSetupError
from wh.net.sockets import open_udp_sockets
from whcore import uapi
from whcore.datapath import EVENT_TUN_GONE, Datapath

UAPI_DIRECTORY = Path("/var/run/wireguard")
MTU = 1420  # 1,500 less IPv6, UDP and WireGuard headers, as wg-quick assumes
MAX_CLIENTS = 8  # of the UAPI socket at once; `wg` uses one

# linux/sockios.h, linux/in.h, linux/in6.h
_SIOCSIFMTU = 0x8922
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_DONT = 0
_IFREQ_MTU = struct.Struct("16si20x")

log = logging.getLogger(__name__)


def open_uapi_socket(interface: str, directory: Path = UAPI_DIRECTORY) -> socket.socket:
    """The listening socket, mode 0600. A stale file is replaced only when nobody answers on it.

    Raises SystemSetupError where another device listens there or the directory cannot be written.
    """
    path = directory / f"{interface}.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_umask = os.umask(0o077)
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.exists() and _answers(path):
            raise SystemSetupError(
                f"another device already serves {path}",
                code=Code.INTERFACE_TAKEN,
                hint=f"end it first: ip link delete {interface}",
            )
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(MAX_CLIENTS)
    except OSError as error:
        listener.close()
        raise SystemSetupError(
            f"cannot listen on {path}: {error.strerror}", code=Code.NOT_PERMITTED, hint="run as root"
        ) from error
    except SystemSetupError:
        listener.close()
        raise
    finally:
        os.umask(old_umask)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno != errno.ECONNREFUSED
        return True


def set_mtu(interface: str, mtu: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFMTU, _IFREQ_MTU.pack(interface.encode(), mtu))


class WireguardDevice:
    """One interface, served until it is deleted or stop() is called.

    Owns the TUN fd and the UAPI listener. It is the `device` of whcore.uapi: bind, set_fwmark and socket_for are
    called from UAPI threads, one at a time.
    """

    def __init__(self, interface: str, tun_fd: int, listener: socket.socket) -> None:
        self.interface = interface
        self.listen_port = 0
        self.fwmark = 0
        self._listener = listener
        self._sockets: dict[int, tuple[int, int]] = {}  # AF_INET or AF_INET6 -> socket number, its fd
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._requests = threading.Lock()
        self._clients = threading.BoundedSemaphore(MAX_CLIENTS)
        self.datapath = Datapath(None, tun_fds=[tun_fd], mtu=MTU)
        try:
            self.bind(0)
            self.datapath.start()
        except BaseException:
            self.close()
            raise

    def bind(self, port: int) -> None:
        if port and port == self.listen_port:
            return
        opened = open_udp_sockets(port)
        for number, _ in self._sockets.values():
            self.datapath.remove_socket(number)
        self._sockets.clear()
        for udp in opened:
            self.listen_port = udp.getsockname()[1]
            _allow_fragments(udp)
            if self.fwmark:
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.fwmark)
            family, fd = udp.family, udp.detach()
            self._sockets[family] = (self.datapath.add_socket(fd), fd)

    def set_fwmark(self, mark: int) -> None:
        for family, (_, fd) in self._sockets.items():
            # A duplicate, so that the wrapper's close leaves the data plane's fd alone.
            with socket.socket(family, socket.SOCK_DGRAM, fileno=os.dup(fd)) as udp:
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        self.fwmark = mark

    def socket_for(self, v4: bool) -> int:
        found = self._sockets.get(socket.AF_INET if v4 else socket.AF_INET6)
        if found is None:
            raise OSError(errno.EAFNOSUPPORT, "no socket of that address family")
        return found[0]

    def serve(self) -> None:
        """Serve until the interface is deleted or stop() is called."""
        poller = select.poll()
        for fd in (self.datapath.event_fd, self._listener.fileno(), self._wake_read):
            poller.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wake_read in ready:
                return
            if self._listener.fileno() in ready:
                self._accept()
            if self.datapath.event_fd in ready:
                events = self.datapath.drain_events()
                self.datapath.drain_control()  # a plain device takes part in no control protocol
                if any(event[0] == EVENT_TUN_GONE for event in events):
                    log.info("%s was deleted", self.interface)
                    return

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if not self._clients.acquire(blocking=False):
            client.close()
            return
        threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        try:
            with client, self._requests:
                client.settimeout(None)
                uapi.serve(client.fileno(), self.datapath, self)
        except OSError as error:
            log.warning("UAPI: %s", error)
        finally:
            self._clients.release()

    def stop(self) -> None:
        """End serve(); may be called from a signal handler."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def close(self) -> None:
        """End the threads, close the sockets and the TUN (which deletes the interface), remove the UAPI socket."""
        self.datapath.close()
        path = self._listener.getsockname()
        self._listener.close()
        Path(path).unlink(missing_ok=True)
        os.close(self._wake_read)
        os.close(self._wake_write)


def _allow_fragments(udp: socket.socket) -> None:
    """Plain WireGuard peers expect datagrams over the path MTU to be fragmented, not refused."""
    if udp.family == socket.AF_INET:
        udp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
    else:
        udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
