"""Where nodes whose UDP is blocked come in: TCP sockets, and limits on who may take how much of them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from wh.errors import SystemSetupError
from wh.limits import RateLimit
from wh.net.opening import closed_on_error, one_a_family, refused_port
from wh.net.tcp_link import TcpLink
from wh.wire.address import Address, pack, prefix

LINKS_MAX = 256
LINKS_PER_NETWORK_MAX = 16
UNPROVED_MAX = 64
"""Links without a control session, those in their handshake among them."""

ACCEPT_BURST = 8
ACCEPT_INTERVAL_S = 0.5
"""New connections of one network, and of all together 16 times that: a TLS handshake costs 300 us."""

TOTAL_FACTOR = 16
HANDSHAKE_TIMEOUT_S = 5.0
PROOF_TIMEOUT_S = 10.0
"""From the first byte until there is a control session."""

IDLE_S = 120.0
ACCEPTS_PER_CALL = 16
BACKLOG = 64
EXHAUSTED_PAUSE_S = 1.0
"""After the process ran out of descriptors."""

MakeLink = Callable[[Address, Callable[[TcpLink], None]], TcpLink]
"""(where the client is, what to call at its end) -> a link that has not begun."""


class TcpListener:
    """Accepts, and hands every connection that is within the limits to a new link. close() ends only the
    listening and what is in its handshake; the links are their owner's."""

    def __init__(self, port: int, context: ssl.SSLContext, make_link: MakeLink) -> None:
        """Raises SystemSetupError."""
        self._context = context
        self._make_link = make_link
        self._links: dict[TcpLink, bytes] = {}  # with the network that each counts in
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting = RateLimit(ACCEPT_BURST, ACCEPT_INTERVAL_S)
        self._accepting_all = RateLimit(
            TOTAL_FACTOR * ACCEPT_BURST, ACCEPT_INTERVAL_S / TOTAL_FACTOR, entries_max=1
        )
        self._counts: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._sockets = _open_sockets(port)
        self._resuming: asyncio.TimerHandle | None = None
        self._watch()

    def counters(self) -> dict[str, int]:
        return {"tcp_clients": len(self._links), **self._counts}

    def expire(self) -> None:
        """End links that are idle or that prove nothing. Call it every few seconds."""
        now = self._loop.time()
        for link in list(self._links):
            silent = now - link.heard_at > IDLE_S
            if silent or (not link.authenticated and now - link.begun_at > PROOF_TIMEOUT_S):
                self._counts["tcp_idle" if link.authenticated else "tcp_unproved"] += 1
                link.abort()

    def close(self) -> None:
        self._unwatch()
        if self._resuming is not None:
            self._resuming.cancel()
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()
        for task in self._handshakes:
            task.cancel()

    def _watch(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _unwatch(self) -> None:
        for listening in self._sockets:
            self._loop.remove_reader(listening.fileno())

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_CALL):
            try:
                tcp, source = listening.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause()
                return
            address = pack(source[0].partition("%")[0], source[1])
            refusal = self._refusal(address)
            if refusal is not None:
                self._counts[refusal] += 1
                tcp.close()
                continue
            tcp.setblocking(False)
            self._begin(tcp, address)

    def _pause(self) -> None:
        """The listening sockets stay readable: looking at them again at once would be for ever."""
        self._unwatch()
        self._resuming = self._loop.call_later(EXHAUSTED_PAUSE_S, self._watch)

    def _refusal(self, address: Address) -> str | None:
        network = prefix(address, 24, 48)
        now = self._loop.time()
        if not self._accepting.allow(network, now) or not self._accepting_all.allow(None, now):
            return "tcp_refused_rate"
        same = sum(each == network for each in self._links.values())
        unproved = sum(not link.authenticated for link in self._links)
        if len(self._links) >= LINKS_MAX or same >= LINKS_PER_NETWORK_MAX or unproved >= UNPROVED_MAX:
            return "tcp_refused_full"
        return None

    def _begin(self, tcp: socket.socket, address: Address) -> None:
        link = self._make_link(address, self._forget)
        self._links[link] = prefix(address, 24, 48)
        task = self._loop.create_task(self._shake_hands(tcp, link))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, tcp: socket.socket, link: TcpLink) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: link, tcp, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S
            )
        except (OSError, EOFError):  # ssl.SSLError and timeouts among them
            self._counts["tcp_bad_handshake"] += 1
            tcp.close()
            link.abort()
        except asyncio.CancelledError:
            tcp.close()
            link.abort()
            raise

    def _forget(self, link: TcpLink) -> None:
        self._links.pop(link, None)


def _open_sockets(port: int) -> list[socket.socket]:
    """Non-blocking."""
    try:
        return one_a_family(lambda family: _listen(family, port))
    except OSError as error:
        raise refused_port(error, "TCP", port, "in the listen-tcp line") or SystemSetupError(
            f"cannot listen on TCP port {port}: {os.strerror(error.errno or 0)}"
        ) from error


def _listen(family: socket.AddressFamily, port: int) -> socket.socket:
    v6 = family == socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with closed_on_error(opened) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(("::" if v6 else "0.0.0.0", port))  # noqa: S104 - on every address
        listening.listen(BACKLOG)
    return listening
