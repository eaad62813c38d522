"""UPnP Internet gateways (IGD 1 and 2): found here, spoken to by wh.net.mapping.igd_worker.

Nothing that a gateway does can hold up the caller for longer than DEADLINE_S, or stays behind after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import socket
from collections.abc import Callable
from typing import Protocol

import msgspec

from wh.errors import SystemSetupError
from wh.nat.port_mapping import Granted
from wh.net.links.rtnetlink import Gateway
from wh.net.mapping import ssdp
from wh.net.mapping.gateway import GatewaySilent, Refused
from wh.net.mapping.igd_worker import Answer, Question
from wh.wire.address import Address, is_usable, pack, port_of

DEADLINE_S = 8.0
ANSWER_LEN_MAX = 4096
ANSWER_TEXT_MAX = 120


class Workers(Protocol):
    """Who starts wh.net.mapping.igd_worker, where this process is not the right one to: one at a time."""

    async def start_gateway_worker(self) -> socket.socket:
        """A stream to it, not blocking. Raises SystemSetupError."""

    async def end_gateway_worker(self) -> None: ...


class IgdClient:
    """on_state_lost is called, before check() returns, where the gateway has restarted. All raise
    GatewayError."""

    def __init__(
        self,
        gateway: Gateway,
        on_state_lost: Callable[[], None],
        workers: Workers,
        *,
        ssdp_port: int = ssdp.PORT,
    ) -> None:
        self._gateway = gateway
        self._workers = workers
        self._on_state_lost = on_state_lost
        self._ssdp_port = ssdp_port
        self._found: ssdp.Found | None = None
        self._one_at_a_time = asyncio.Lock()

    async def look(self) -> Address:
        """The gateway's external address, as it says, with port 0."""
        self._found = None
        answer = await self._ask("look")
        return _external(answer, 0)

    async def check(self) -> None:
        """See whether it is still the same: a gateway tells its starts apart by a number, and by where its
        description is."""
        before, self._found = self._found, await self._find()
        if before is not None and before != self._found:
            self._on_state_lost()

    async def map(self, transport: str, internal_port: int, suggested: Address, lifetime_s: int) -> Granted:
        """A renewal too, where it exists."""
        answer = await self._ask("map", transport, internal_port, port_of(suggested), lifetime_s)
        external = _external(answer, answer.external_port)
        if not is_usable(external):
            raise Refused("granted nothing that can be used")
        return Granted(external, answer.lease_s or math.inf)

    async def unmap(self, transport: str, internal_port: int, external: Address) -> None:
        await self._ask("unmap", transport, internal_port, port_of(external))

    async def _find(self) -> ssdp.Found:
        return await ssdp.find_gateway(self._gateway, port=self._ssdp_port)

    async def _ask(
        self,
        action: str,
        transport: str = "udp",
        internal_port: int = 0,
        external_port: int = 0,
        lease_s: int = 0,
    ) -> Answer:
        """After a failure the gateway is looked for again: its description may be somewhere else."""
        found, self._found = self._found or await self._find(), None
        question = msgspec.convert(
            {
                "action": action,
                "location": found.location,
                "gateway": str(self._gateway.address),
                "transport": transport,
                "internal_port": internal_port,
                "external_port": external_port,
                "lease_s": lease_s,
            },
            Question,
        )
        async with self._one_at_a_time:
            answer = _decode_untrusted(await _run_worker(self._workers, msgspec.json.encode(question)))
        if answer.trouble:
            raise Refused(_printable(answer.trouble))
        self._found = found
        return answer


async def _run_worker(workers: Workers, question: bytes) -> bytes:
    """What it printed, at most ANSWER_LEN_MAX and one more. Raises GatewaySilent at the deadline."""
    try:
        worker = await workers.start_gateway_worker()
    except SystemSetupError as error:
        raise GatewaySilent(f"cannot be asked: {error}") from None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DEADLINE_S):
            await loop.sock_sendall(worker, question)
            worker.shutdown(socket.SHUT_WR)
            printed = b""
            while chunk := await loop.sock_recv(worker, ANSWER_LEN_MAX + 1 - len(printed)):
                printed += chunk
            return printed
    except (TimeoutError, OSError):
        raise GatewaySilent("does not come to an end") from None
    finally:
        worker.close()
        with contextlib.suppress(SystemSetupError):
            await workers.end_gateway_worker()


def _decode_untrusted(printed: bytes) -> Answer:
    """The worker may have been taken over by what it read. Raises GatewaySilent."""
    try:
        return msgspec.json.decode(printed, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise GatewaySilent("answers what is not understood") from None


def _external(answer: Answer, port: int) -> Address:
    """Raises Refused."""
    try:
        return pack(ipaddress.IPv4Address(answer.external_address), port)
    except ValueError:
        raise Refused("does not know its external address") from None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:ANSWER_TEXT_MAX]
