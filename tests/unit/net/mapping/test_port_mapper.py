"""The mapper against gateways on loopback addresses of their own, each with the protocols' real ports."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from itertools import repeat

import pytest
from fake_gateway import EXTERNAL, LOOPBACK, natpmp, pcp, run, serving, silent
from fake_igd import LocalWorkers, fake_igd

from wh.engine.events import PortMapping
from wh.errors import SystemSetupError
from wh.nat import port_mapping
from wh.nat.port_mapping import Protocol
from wh.net.links.rtnetlink import Gateway
from wh.net.mapping import igd, ssdp
from wh.net.mapping.client import GIVE_UP_AFTER_S, PORT
from wh.net.mapping.pcp import PcpClient
from wh.net.mapping.port_mapper import CLOSE_S, Gateways, PortMapper
from wh.wire.address import pack

SEED = bytes(16)
MAPPING = PortMapping("udp", 4000, pack(EXTERNAL, 14000))
PATIENCE_S = 10.0


def own_address() -> str:
    """For a gateway that no other test, nor another run of this one, meets."""
    number = os.getpid() * 7 + random.SystemRandom().randrange(1 << 20)
    return str(ipaddress.IPv4Address("127.64.0.0") + number % (1 << 21))


class Mapper:
    """A mapper with what it told."""

    def __init__(self, *addresses: str, ports: Iterable[tuple[str, int]] = (("udp", 4000),)) -> None:
        """addresses: of the gateways that the host has, one after the other; the last one for good."""
        self.told: list[tuple[PortMapping, ...]] = []
        self._happened = asyncio.Event()
        self._gateways = list(addresses)
        self.mapper = PortMapper(
            self._find, self._on_change, ports, seed=SEED, rng=random.Random(1), workers=LocalWorkers()
        )

    def _find(self) -> Gateways:
        if not self._gateways:
            return {}
        address = self._gateways.pop(0) if len(self._gateways) > 1 else self._gateways[0]
        return {4: Gateway(ipaddress.IPv4Address(address), LOOPBACK, 1)}

    def _on_change(self, mappings: tuple[PortMapping, ...]) -> None:
        self.told.append(mappings)
        self._happened.set()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._happened.clear()
                with suppress(TimeoutError):  # the report changes without a word
                    await asyncio.wait_for(self._happened.wait(), 0.02)

    async def __aenter__(self) -> Mapper:
        self.mapper.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.mapper.close()


async def closing_time(mapper: Mapper) -> float:
    started = time.monotonic()
    await mapper.mapper.close()
    return time.monotonic() - started


def lifetimes(requests: Iterable[bytes]) -> list[int]:
    """Of PCP's MAP requests."""
    return [int.from_bytes(each[4:8], "big") for each in requests if each[1] == 1]


def test_a_mapping_is_told_and_given_back_at_the_end() -> None:
    address = own_address()

    async def scenario() -> None:
        async with serving(pcp(), address, PORT) as gateway, Mapper(address) as it:
            await it.wait_for(lambda: it.told == [(MAPPING,)])
            report = it.mapper.report()
            assert [(held.protocol, held.external) for held in report.held] == [
                (Protocol.PCP, MAPPING.external)
            ]
            assert await closing_time(it) < CLOSE_S
            assert lifetimes(gateway.requests) == [7200, 0]

    run(scenario())


def test_a_gateway_with_nat_pmp_only_is_mapped_within_a_moment() -> None:
    address = own_address()

    async def scenario() -> None:
        started = time.monotonic()
        async with serving(natpmp(), address, PORT), Mapper(address) as it:
            await it.wait_for(lambda: it.told == [(MAPPING,)])
            assert time.monotonic() - started < GIVE_UP_AFTER_S
            assert not it.mapper.report().outcomes[Protocol.PCP, 4].found

    run(scenario())


def test_without_a_gateway_nothing_is_asked_and_the_end_is_at_once() -> None:
    async def scenario() -> None:
        async with Mapper() as it:
            await asyncio.sleep(0)
            assert not it.mapper.report().searching
            assert await closing_time(it) < CLOSE_S / 2
        assert it.told == []

    run(scenario())


def test_a_silent_gateway_holds_up_nobody() -> None:
    address = own_address()

    async def scenario() -> None:
        async with serving(silent, address, PORT), Mapper(address) as it:
            await it.wait_for(lambda: it.mapper.report().searching)
            assert await closing_time(it) < CLOSE_S
        assert it.told == []

    run(scenario())


def test_a_gateway_that_falls_silent_cannot_hold_up_the_end() -> None:
    address = own_address()

    async def scenario() -> None:
        async with serving(pcp(), address, PORT) as gateway, Mapper(address) as it:
            await it.wait_for(lambda: bool(it.told))
            gateway.react = silent
            assert await closing_time(it) < CLOSE_S + 1

    run(scenario())


def test_a_gateway_whose_epoch_went_back_maps_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_mapping, "CHECK_S", 0.05)
    address = own_address()
    epoch = [100_000]

    async def scenario() -> None:
        async with serving(pcp(epoch=lambda: epoch[0]), address, PORT) as gateway, Mapper(address) as it:
            await it.wait_for(lambda: bool(it.told))
            assert len(lifetimes(gateway.requests)) == 1
            epoch[0] = 3
            await it.wait_for(lambda: len(lifetimes(gateway.requests)) > 1)
            assert it.told == [(MAPPING,)]

    run(scenario())


def test_a_gateway_with_wild_epochs_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_mapping, "CHECK_S", 0.02)
    address = own_address()
    epochs = random.Random(1)

    async def scenario() -> None:
        wild = pcp(epoch=lambda: epochs.randrange(1 << 32))
        async with serving(wild, address, PORT) as gateway, Mapper(address) as it:
            await it.wait_for(lambda: len(gateway.requests) > 20)
            assert len(lifetimes(gateway.requests)) <= 1 + port_mapping.REMAPS_BURST

    run(scenario())


def test_another_gateway_means_another_mapping() -> None:
    first, second = own_address(), own_address()
    other = ipaddress.IPv4Address("203.0.113.77")

    async def scenario() -> None:
        async with (
            serving(pcp(), first, PORT),
            serving(pcp(external=other), second, PORT),
            Mapper(first, second) as it,
        ):
            await it.wait_for(lambda: it.told == [(MAPPING,)])
            it.mapper.network_changed()
            await it.wait_for(lambda: it.told[-1] == (PortMapping("udp", 4000, pack(other, 14000)),))
            count = len(it.told)
            it.mapper.network_changed()  # the same gateway: nothing happens
            it.mapper.restart()
            await it.wait_for(lambda: len(it.told) >= count + 2)
            assert it.told[count] == ()

    run(scenario())


@pytest.mark.parametrize("behaviour", ["hanging", "endless", "broken"])
def test_a_bad_upnp_gateway_does_not_disturb_pcp(behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(igd, "DEADLINE_S", 1.0)
    address = own_address()

    async def scenario() -> None:
        started = time.monotonic()
        async with serving(pcp(), address, PORT), Mapper(address) as it:
            await it.wait_for(lambda: it.told == [(MAPPING,)])
            assert time.monotonic() - started < GIVE_UP_AFTER_S
            await it.wait_for(lambda: not it.mapper.report().searching)
            assert it.told == [(MAPPING,)]

    with fake_igd(behaviour, address, ssdp.PORT):
        run(scenario())


@pytest.mark.parametrize("nothing_on_5351", [True, False])
def test_upnp_maps_where_nothing_else_does(nothing_on_5351: bool) -> None:
    address = own_address()

    async def scenario() -> None:
        port = nullcontext() if nothing_on_5351 else serving(silent, address, PORT)
        async with port, Mapper(address) as it:
            await it.wait_for(lambda: it.told == [(MAPPING,)])
            assert gateway.mappings[("UDP", 14000)][1] == 4000
            assert await closing_time(it) < CLOSE_S + 1
            assert gateway.mappings == {}

    with fake_igd("good", address, ssdp.PORT) as gateway:
        run(scenario())


def endless(request: bytes) -> Iterable[bytes]:
    yield from repeat(struct.pack(">BBHIHHI", 0, 129, 0, 1, 2, 3, 4), 2000)


def test_endless_replies_are_not_listened_to() -> None:
    address = own_address()

    async def scenario() -> None:
        async with serving(endless, address, PORT), Mapper(address) as it:
            await it.wait_for(lambda: (Protocol.NAT_PMP, 4) in it.mapper.report().outcomes)
            assert it.told == []
            assert not it.mapper.report().outcomes[Protocol.PCP, 4].found

    run(scenario())


def test_a_failure_of_ours_is_logged_and_the_next_way_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(PcpClient, "map", fail)
    address = own_address()

    async def scenario() -> None:
        async with serving(natpmp(), address, PORT), Mapper(address) as it:
            await it.wait_for(lambda: it.told == [(MAPPING,)])
        assert "ZeroDivisionError" in caplog.text

    run(scenario())


def test_every_port_that_is_wanted_is_mapped() -> None:
    address = own_address()

    async def scenario() -> None:
        async with serving(pcp(), address, PORT), Mapper(address, ports=[("udp", 4000), ("tcp", 443)]) as it:
            await it.wait_for(lambda: bool(it.told) and len(it.told[-1]) == 2)
            assert it.told[-1] == (MAPPING, PortMapping("tcp", 443, pack(EXTERNAL, 443)))

    run(scenario())


def test_a_host_that_cannot_tell_its_gateway_has_no_mappings() -> None:
    def fail() -> Gateways:
        raise SystemSetupError("no netlink")

    async def scenario() -> None:
        mapper = PortMapper(
            fail, lambda _: None, [("udp", 4000)], seed=SEED, rng=random.Random(1), workers=LocalWorkers()
        )
        mapper.start()
        await asyncio.sleep(0.01)
        assert mapper.report().gateways == {}
        await mapper.close()
        await mapper.close()

    run(scenario())
