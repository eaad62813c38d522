"""Keeps the mappings of our ports at the default gateways: carries out what wh.nat.port_mapping wants.

Nothing waits for it, whatever the gateways do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

from wh.engine.events import PortMapping
from wh.engine.randomness import Randomness
from wh.errors import SystemSetupError
from wh.nat.port_mapping import (
    Check,
    Command,
    Granted,
    Held,
    Look,
    Map,
    Outcome,
    PortMappings,
    Protocol,
    Unmap,
    Wanted,
)
from wh.net.links.rtnetlink import Gateway
from wh.net.mapping.announcements import Announcements
from wh.net.mapping.gateway import GatewayError, GatewaySilent, Refused, VersionRefused
from wh.net.mapping.igd import IgdClient, Workers
from wh.net.mapping.natpmp import NatPmpClient
from wh.net.mapping.pcp import PcpClient
from wh.wire.address import Address, is_private, is_v4, pack, port_of, to_text

log = logging.getLogger(__name__)

CLOSE_S = 1.0
"""For giving mappings back; a gateway that is slower lets the leases end."""

Gateways = dict[int, Gateway]
"""By IP version."""


class Client(Interface):
    async def map(
        self, transport: str, internal_port: int, suggested: Address, lifetime_s: int
    ) -> Granted: ...

    async def unmap(self, transport: str, internal_port: int, external: Address) -> None: ...

    async def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class MapperReport:
    """gateways: by IP version. outcomes: by protocol and IP version; a protocol that was not asked has none.
    searching: something was asked and not answered yet, at the start or after a change."""

    gateways: Gateways
    outcomes: dict[tuple[Protocol, int], Outcome]
    held: tuple[Held, ...]
    searching: bool


class PortMapper:
    """start() needs a running loop, and returns at once. on_change is called with all mappings that there
    are, whenever they changed."""

    def __init__(
        self,
        find_gateways: Callable[[], Gateways],
        on_change: Callable[[tuple[PortMapping, ...]], None],
        ports: Iterable[tuple[str, int]],
        *,
        seed: bytes,
        rng: Randomness,
        workers: Workers,
    ) -> None:
        """find_gateways may raise SystemSetupError. ports: transport and number, ours, for which a mapping is
        wanted. seed: a secret that stays the same over restarts: PCP lets only who knows a mapping's nonce
        have it again."""
        self._find_gateways = find_gateways
        self._on_change = on_change
        self._ports = tuple(ports)
        self._seed = seed
        self._rng = rng
        self._workers = workers
        self._gateways: Gateways = {}
        self._clients: dict[tuple[Protocol, int], Client] = {}
        self._policy = PortMappings(rng, (), time.monotonic())
        self._told: tuple[PortMapping, ...] = ()
        self._look_around = True
        self._anew = False
        self._wake = asyncio.Event()
        self._main: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._announcements: Announcements | None = None

    def start(self) -> None:
        with contextlib.suppress(OSError):  # then a restart is noticed at the next check
            self._announcements = Announcements(self._on_announcement)
        self._main = asyncio.ensure_future(self._run())

    def network_changed(self) -> None:
        """See whether the gateways are still the same."""
        self._look_around = True
        self._wake.set()

    def restart(self) -> None:
        """Ask for everything anew: the machine slept, and may be anywhere."""
        self._anew = True
        self.network_changed()

    async def close(self) -> None:
        """Give the mappings back, within CLOSE_S. Idempotent."""
        if self._announcements is not None:
            self._announcements.close()
        if self._main is None:
            return
        for task in (self._main, *self._tasks):
            task.cancel()
        await asyncio.gather(self._main, *self._tasks, return_exceptions=True)
        self._main = None
        withdrawals = [asyncio.ensure_future(self._withdraw(each)) for each in self._policy.withdraw()]
        if withdrawals:
            _, late = await asyncio.wait(withdrawals, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def report(self) -> MapperReport:
        return MapperReport(
            self._gateways, dict(self._policy.outcomes), tuple(self._policy.held()), bool(self._tasks)
        )

    # What happens.

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._look_around:
                self._look_around = False
                self._follow_gateways()
            now = time.monotonic()
            for command in self._policy.tick(now):
                self._spawn(self._carry_out(command, self._policy))
            self._tell()
            await self._sleep_until(self._policy.next_deadline())

    async def _sleep_until(self, deadline: float) -> None:
        pause = None if math.isinf(deadline) else max(deadline - time.monotonic(), 0.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    def _follow_gateways(self) -> None:
        """Where a gateway changed, all that was mapped is mapped anew: what the old one holds, nobody can
        reach."""
        try:
            gateways = self._find_gateways()
        except SystemSetupError as error:
            log.warning("cannot find the gateways of this host: %s", error)
            return
        usable = {version: each for version, each in gateways.items() if _is_usable(each)}
        if usable == self._gateways and not self._anew:
            return
        self._anew = False
        self._gateways = usable
        for task in self._tasks:
            task.cancel()
        self._clients = {}
        self._policy = PortMappings(self._rng, self._wanted(), time.monotonic())

    def _wanted(self) -> list[Wanted]:
        return [
            Wanted(transport, pack(gateway.source, port))
            for gateway in self._gateways.values()
            for transport, port in self._ports
        ]

    def _on_announcement(self, sender: str) -> None:
        if 4 in self._gateways and sender == str(self._gateways[4].address):
            self._policy.check_soon(4, time.monotonic())
            self._wake.set()

    def _tell(self) -> None:
        mappings = tuple(
            PortMapping(held.wanted.transport, port_of(held.wanted.internal), held.external)
            for held in self._policy.held()
        )
        if mappings == self._told:
            return
        self._told = mappings
        for mapping in mappings:
            log.info("the gateway maps %s to %s port %d", to_text(mapping.external), *mapping[:2])
        self._on_change(mappings)

    # Commands, carried out.

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, command: Command, policy: PortMappings) -> None:
        """policy: whose command it is; by the time of the answer there may be another one."""
        match command:
            case Look() | Map():
                await self._ask(command, policy)
            case Unmap():
                await self._withdraw(command)
            case Check(protocol, family):
                with contextlib.suppress(GatewayError):
                    await self._client(protocol, family).check()
        self._wake.set()

    async def _ask(self, command: Look | Map, policy: PortMappings) -> None:
        wanted, protocol = command.wanted, command.protocol
        client = self._client(protocol, ip_version(wanted))
        try:
            if isinstance(command, Map):
                granted = await client.map(
                    wanted.transport, port_of(wanted.internal), command.suggested, command.lifetime_s
                )
                policy.granted(command.ticket, granted, time.monotonic())
            elif isinstance(client, IgdClient):
                policy.found(command.ticket, await client.look(), time.monotonic())
        except (GatewaySilent, VersionRefused) as error:
            log.debug("%s: the gateway %s", protocol, error)
            policy.failed(command.ticket, "", time.monotonic())
        except Refused as refusal:
            policy.failed(command.ticket, str(refusal), time.monotonic(), retry_after_s=refusal.retry_after_s)
        except Exception:  # ours: it must not keep this way from being tried again
            log.exception("asking a gateway by %s failed", protocol)
            policy.failed(command.ticket, "", time.monotonic())

    async def _withdraw(self, command: Command) -> None:
        assert isinstance(command, Unmap)
        client = self._client(command.protocol, ip_version(command.wanted))
        with contextlib.suppress(GatewayError):
            await client.unmap(command.wanted.transport, port_of(command.wanted.internal), command.external)

    def _client(self, protocol: Protocol, version: int) -> Client:
        """One a protocol and gateway: it knows the gateway's epoch, and what it told of itself."""
        found = self._clients.get((protocol, version))
        if found is None:
            found = self._clients[protocol, version] = self._make_client(protocol, version, self._policy)
        return found

    def _make_client(self, protocol: Protocol, version: int, policy: PortMappings) -> Client:
        gateway = self._gateways[version]

        def state_lost() -> None:
            log.info("the gateway %s has restarted: mapping again", gateway.address)
            policy.state_lost(protocol, version, time.monotonic())

        if protocol is Protocol.PCP:
            return PcpClient(gateway, state_lost, self._seed)
        if protocol is Protocol.NAT_PMP:
            return NatPmpClient(gateway, state_lost)
        return IgdClient(gateway, state_lost, self._workers)


def ip_version(wanted: Wanted) -> int:
    return 4 if is_v4(wanted.internal) else 6


def _is_usable(gateway: Gateway) -> bool:
    """Nobody outside can use an IPv6 address that is not of the Internet."""
    return gateway.source.version == 4 or not is_private(pack(gateway.source, 1))
