"""A plain WireGuard interface in this process: TUN, UDP sockets, data plane, configuration socket."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import time

from wh.net.device_sockets import DeviceSockets
from wh.net.links.link_monitor import open_change_socket
from wh.net.links.tun_watch import LOOK_S, MtuFollower
from wh.net.sockets import IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
from wh.net.wireguard.uapi_server import FullControl, UapiServer
from whcore.datapath import EVENT_TUN_GONE, Datapath

MTU = 1420  # 1,500 less IPv6, UDP and WireGuard headers, as wg-quick assumes

_PMTUDISC_DONT = 0  # linux/in.h, linux/in6.h
_CHANGES_LEN = 8192
_READS_AT_ONCE = 64

log = logging.getLogger(__name__)


class WireguardDevice:
    """One interface, served until it or its UAPI socket is deleted, or stop() is called.

    Its UDP sockets stay in the network namespace where this process was started, wherever the interface is
    moved.
    """

    def __init__(self, tun_fd: int, listener: socket.socket) -> None:
        """Takes ownership of both, also where it raises."""
        self._looked_at = 0.0
        with contextlib.ExitStack() as undo:
            self.datapath = Datapath(None, tun_fds=[tun_fd], mtu=MTU)
            undo.callback(self.datapath.close)
            self._mtu = MtuFollower(tun_fd, self.datapath, MTU)
            self.sockets = DeviceSockets(self.datapath, prepare=_allow_fragments)
            self._server = UapiServer(listener, self.datapath, self.sockets, FullControl())
            undo.callback(self._server.close)
            self._changes = undo.enter_context(open_change_socket())
            self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            undo.callback(os.close, self._wake_read)
            undo.callback(os.close, self._wake_write)
            self.sockets.open(0)
            self._look()
            self.datapath.start()
            self._server.start()
            self._undo = undo.pop_all()

    def serve(self) -> None:
        poller = select.poll()
        for fd in (self.datapath.event_fd, self._changes.fileno(), self._wake_read):
            poller.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll(LOOK_S * 1000)}
            if self._wake_read in ready:
                return
            if self.datapath.event_fd in ready and self._interface_is_gone():
                log.info("the interface was deleted")
                return
            if self._changes.fileno() in ready:
                self._network_changed()
            if time.monotonic() - self._looked_at >= LOOK_S:
                self._look()
                if self._server.is_removed():
                    log.info("the configuration socket was removed")
                    return

    def _interface_is_gone(self) -> bool:
        self.datapath.drain_control()  # a plain device takes part in no control protocol
        return any(event[0] == EVENT_TUN_GONE for event in self.datapath.drain_events())

    def _network_changed(self) -> None:
        """Addresses, routes or links: answers leave from where the kernel would send them now."""
        # ENOBUFS: some messages are lost, which is as good as having read them; EAGAIN: nothing is left
        with contextlib.suppress(OSError):
            for _ in range(_READS_AT_ONCE):
                self._changes.recv(_CHANGES_LEN)
        self.datapath.forget_sources()

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        self._mtu.look()

    def stop(self) -> None:
        """End serve(); may be called from a signal handler."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def close(self) -> None:
        """End the threads, close the sockets and the TUN (which deletes the interface), remove the UAPI
        socket. Idempotent."""
        self._undo.close()


def _allow_fragments(udp: socket.socket) -> None:
    """Plain WireGuard peers expect datagrams over the path MTU to be fragmented, not refused."""
    if udp.family == socket.AF_INET:
        udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, _PMTUDISC_DONT)
    else:
        udp.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
