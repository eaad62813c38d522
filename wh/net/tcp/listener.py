"""Where nodes whose UDP is blocked come in: TCP sockets, and limits on who may take how much of them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from wh.engine.crowds import Crowd
from wh.engine.limits import RateLimit
from wh.errors import SystemSetupError
from wh.net.opening import closed_on_error, one_a_family, refused_port
from wh.net.tcp.link import TcpLink
from wh.wire.address import Address, pack, prefix

LINKS_MAX = 256
"""Links with a control session, of strangers; and as many of members."""

LINKS_PER_NETWORK_MAX = 16
UNPROVED_MAX = 64
"""Links without a control session, those in their handshake among them."""

ACCEPT_BURST = 8
ACCEPT_INTERVAL_S = 0.5
"""New connections of one network; of a /16 (IPv6: /32) 4 times that, of all together 64 times: a TLS
handshake costs 300 us."""

WIDE_FACTOR = 4
TOTAL_FACTOR = 64
HANDSHAKE_TIMEOUT_S = 5.0
PROOF_TIMEOUT_S = 10.0
PROOF_TIMEOUT_BUSY_S = 3.0
"""From the accept until there is a control session; the latter where more than half of the places for that
are taken."""

IDLE_S = 120.0
ACCEPTS_PER_CALL = 16
BACKLOG = 64
EXHAUSTED_PAUSE_S = 1.0
"""After the process ran out of descriptors."""

MakeLink = Callable[[Address, Callable[[TcpLink], None]], TcpLink]
"""(where the client is, what to call at its end) -> a link that has not begun."""


class TcpListener:
    """Accepts, and hands every connection that is within the limits to a new link. Who has not proved itself
    takes no place from who has; among each of the two kinds the most crowded network loses
    (wh.engine.crowds), and members lose to nobody. close() ends only the listening and what is in its
    handshake; the links are their owner's."""

    def __init__(self, port: int, context: ssl.SSLContext, make_link: MakeLink) -> None:
        """Raises SystemSetupError."""
        self._context = context
        self._make_link = make_link
        self._addresses: dict[TcpLink, Address] = {}  # of all links
        self._unproved: Crowd[TcpLink] = Crowd()
        self._proved: Crowd[TcpLink] = Crowd()
        self._members: set[TcpLink] = set()
        self._handshakes: dict[TcpLink, asyncio.Task[None]] = {}
        self._accepting = _rate_limit(1)
        self._accepting_wide = _rate_limit(WIDE_FACTOR)
        self._accepting_all = _rate_limit(TOTAL_FACTOR)
        self._counts: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._sockets = _open_sockets(port)
        self._resuming: asyncio.TimerHandle | None = None
        self._watch()

    def counters(self) -> dict[str, int]:
        return {"tcp_clients": len(self._addresses), **self._counts}

    def proved(self, link: TcpLink, *, member: bool) -> None:
        """The peer has a control session over this link; said with each message, as it may be a member no
        more. Where there are too many, the one of the most crowded network that was silent longest goes."""
        if link not in self._addresses:
            return
        self._unproved.remove(link)
        if member and (link in self._members or len(self._members) < LINKS_MAX):
            self._proved.remove(link)
            self._members.add(link)
            return
        self._members.discard(link)
        if link in self._proved:
            return
        address = self._addresses[link]
        if len(self._proved) >= LINKS_MAX:
            rivals = self._proved.rivals(address) or [link]
            self._turn_out(min(rivals, key=lambda rival: rival.heard_at))
        if link in self._addresses:
            self._proved.add(link, address)

    def expire(self) -> None:
        """End links that are idle or that prove nothing. Call it every few seconds."""
        now = self._loop.time()
        busy = len(self._unproved) > UNPROVED_MAX // 2
        patience_s = min(PROOF_TIMEOUT_S, PROOF_TIMEOUT_BUSY_S) if busy else PROOF_TIMEOUT_S
        for link in list(self._addresses):
            if link in self._unproved and now - link.begun_at > patience_s:
                self._end(link, "tcp_unproved")
            elif now - link.heard_at > IDLE_S:
                self._end(link, "tcp_idle")

    def close(self) -> None:
        self._unwatch()
        if self._resuming is not None:
            self._resuming.cancel()
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()
        for task in self._handshakes.values():
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
        now = self._loop.time()
        limits = (
            (self._accepting, prefix(address, 24, 48)),
            (self._accepting_wide, prefix(address, 16, 32)),
            (self._accepting_all, None),
        )
        if not all(limit.allow(name, now) for limit, name in limits):
            return "tcp_refused_rate"
        return None if self._make_room(address) else "tcp_refused_full"

    def _make_room(self, address: Address) -> bool:
        """For a newcomer, which may prove nothing: only others that have not either go for it."""
        self.expire()
        of_network = sum(each.count(address, 1) for each in (self._unproved, self._proved))
        if of_network >= LINKS_PER_NETWORK_MAX:
            rivals = self._unproved.rivals(address, within=2)
        elif len(self._unproved) >= UNPROVED_MAX:
            rivals = self._unproved.rivals(address)
        else:
            return True
        if rivals:
            self._turn_out(rivals[0])
        return bool(rivals)

    def _begin(self, tcp: socket.socket, address: Address) -> None:
        link = self._make_link(address, self._forget)
        self._addresses[link] = address
        self._unproved.add(link, address)
        task = self._loop.create_task(self._shake_hands(tcp, link))
        self._handshakes[link] = task
        task.add_done_callback(lambda _: self._handshakes.pop(link, None))

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

    def _turn_out(self, link: TcpLink) -> None:
        self._end(link, "tcp_crowded_out")

    def _end(self, link: TcpLink, why: str) -> None:
        """One in its handshake has no transport yet: that ends with its task."""
        self._counts[why] += 1
        task = self._handshakes.get(link)
        if task is not None:
            task.cancel()
        link.abort()
        self._forget(link)

    def _forget(self, link: TcpLink) -> None:
        self._addresses.pop(link, None)
        self._unproved.remove(link)
        self._proved.remove(link)
        self._members.discard(link)


def _rate_limit(factor: int) -> RateLimit:
    return RateLimit(factor * ACCEPT_BURST, ACCEPT_INTERVAL_S / factor)


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
