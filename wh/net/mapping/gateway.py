"""Questions to a default gateway, in datagrams that are sent again until it answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Reply = TypeVar("Reply")
Parse = Callable[[bytes, Any], Reply | None]
"""(datagram, its sender as the socket module has it) -> the answer; None, or BadReply, where it is none."""


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


async def ask(
    open_socket: Callable[[], socket.socket],
    send: Callable[[asyncio.DatagramTransport], None],
    parse: Parse[Reply],
    *,
    sends_at: Sequence[float],
    give_up_after_s: float,
    datagrams_max: int,
    errors_end_it: bool,
) -> Reply:
    """Send until an answer comes. Raises GatewaySilent, and the GatewayError that parse raises.

    sends_at: in seconds from now. datagrams_max: datagrams that answer nothing, after which no answer is
    waited for. errors_end_it: an ICMP error tells of the gateway, as it does on a connected socket. The
    socket lives as long as the question: what comes later, or without end, is the kernel's to drop."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Reply] = loop.create_future()
    waiting = _Waiting(answer, parse, datagrams_max, errors_end_it)
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: waiting, sock=open_socket())
    except OSError as error:
        raise GatewaySilent(f"cannot be asked: {error.strerror}") from None
    timers = [loop.call_later(after, send, transport) for after in sends_at]
    try:
        async with asyncio.timeout(give_up_after_s):
            return await answer
    except TimeoutError:
        raise GatewaySilent("does not answer") from None
    finally:
        for timer in timers:
            timer.cancel()
        transport.close()


class _Waiting(asyncio.DatagramProtocol, Generic[Reply]):
    def __init__(
        self, answer: asyncio.Future[Reply], parse: Parse[Reply], datagrams_max: int, errors_end_it: bool
    ) -> None:
        self.answer = answer
        self._parse = parse
        self._left = datagrams_max
        self._errors_end_it = errors_end_it

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.answer.done():
            return
        try:
            reply = self._parse(data, addr)
        except BadReply:
            reply = None
        except GatewayError as refusal:
            self.answer.set_exception(refusal)
            return
        self._left -= 1
        if reply is not None:
            self.answer.set_result(reply)
        elif self._left == 0:
            self.answer.set_exception(GatewaySilent("gives no answer among so many datagrams"))

    def error_received(self, exc: Exception) -> None:
        if self._errors_end_it and not self.answer.done():
            self.answer.set_exception(GatewaySilent("has nothing on that port"))
