"""Questions to a default gateway on UDP port 5351, which PCP and NAT-PMP share (RFC 6887 section 19)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

from wh.net.rtnetlink import Gateway

PORT = 5351
SENDS_AT = (0.0, 0.25, 0.75)
GIVE_UP_AFTER_S = 1.75
"""The schedule of RFC 6886 3.1, cut short: a gateway is one hop away, and silence is the usual answer."""
DATAGRAMS_MAX = 32
"""Datagrams that answer nothing, after which a gateway is taken for one that does not answer."""

Reply = TypeVar("Reply")
Parse = Callable[[bytes], Reply | None]
"""None, or BadReply, for a datagram that is not the answer."""


class GatewayError(Exception):
    """A gateway did not do what was asked of it."""


class GatewaySilent(GatewayError):
    """No answer, or none that can be one."""


class Refused(GatewayError):
    """The gateway said no. retry_after_s: 0: it did not say when to ask again."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class VersionRefused(Refused):
    """It speaks another version of the protocol, or only the older one."""


class BadReply(Exception):
    """Bytes from a gateway that are no reply; the only thing that decoding them raises."""


async def exchange(gateway: Gateway, request: bytes, parse: Parse[Reply], *, port: int = PORT) -> Reply:
    """Send a request until the gateway answers it. Raises GatewaySilent.

    The socket lives as long as the question: what comes later, or without end, is the kernel's to drop."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Reply] = loop.create_future()
    waiting = _Waiting(answer, parse)
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: waiting, sock=_connect(gateway, port))
    except OSError as error:
        raise GatewaySilent(f"cannot be asked: {error.strerror}") from None
    timers = [loop.call_later(after, transport.sendto, request) for after in SENDS_AT]
    try:
        async with asyncio.timeout(GIVE_UP_AFTER_S):
            return await answer
    except TimeoutError:
        raise GatewaySilent("does not answer") from None
    finally:
        for timer in timers:
            timer.cancel()
        transport.close()


def _connect(gateway: Gateway, port: int) -> socket.socket:
    """From the address that the mapping is for; only the gateway's datagrams come in."""
    v6 = gateway.address.version == 6
    connected = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        connected.setblocking(False)
        if v6:
            connected.bind((str(gateway.source), 0))
            connected.connect((str(gateway.address), port, 0, gateway.ifindex))
        else:
            connected.bind((str(gateway.source), 0))
            connected.connect((str(gateway.address), port))
    except BaseException:
        connected.close()
        raise
    return connected


class _Waiting(asyncio.DatagramProtocol, Generic[Reply]):
    def __init__(self, answer: asyncio.Future[Reply], parse: Parse[Reply]) -> None:
        self.answer = answer
        self._parse = parse
        self._left = DATAGRAMS_MAX

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.answer.done():
            return
        try:
            reply = self._parse(data)
        except BadReply:
            reply = None
        except GatewayError as refusal:
            self.answer.set_exception(refusal)
            return
        self._left -= 1
        if reply is not None:
            self.answer.set_result(reply)
        elif self._left == 0:
            self.answer.set_exception(GatewaySilent("sends what is no answer"))

    def error_received(self, exc: Exception) -> None:
        """Nothing listens there (ICMP port unreachable)."""
        if not self.answer.done():
            self.answer.set_exception(GatewaySilent("has nothing on that port"))
