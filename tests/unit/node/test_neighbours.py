"""BEACONs: when we announce ourselves, what we make of others', and the datagrams themselves."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from wh.config.model import Network, Peer, PeerKind
from wh.engine.commands import Command, Send, SendBeacon
from wh.engine.events import BeaconHeard, Instant, Key, LocalAddresses, NetworkLoaded
from wh.net import beacons
from wh.net.beacons import BEACON_LEN, HEADER, Beacons
from wh.net.links.host import host_addresses
from wh.node.node import Node
from wh.wire.address import Address, pack
from whcore.keys import SecretKey, verify

OWN, PEER, STRANGER, ALIAS = (SecretKey.generate().public_key for _ in range(4))
LOCAL, NEAR = pack("192.168.1.2", 4000), pack("192.168.1.3", 5000)
PATIENCE_S = 10


class World:
    """An engine, and the time."""

    def __init__(
        self, *, enabled: bool = True, peers: tuple[Peer, ...] = (Peer(PeerKind.TRUST, PEER),)
    ) -> None:
        self.now = Instant(1000.0, 1_700_000_000.0)
        secret = SecretKey.generate()
        self.node = Node(
            secret.public_key,
            rng=random.Random(1),  # noqa: S311
            sign=secret.sign,
            verify=verify,
            mode="nat",
            beacons=enabled,
        )
        self.commands: list[Command] = []
        self.handle(LocalAddresses(((0, 4),), (LOCAL,)))
        self.handle(NetworkLoaded(Network(peers=(Peer(PeerKind.TRUST, secret.public_key), *peers))))

    def handle(self, event: object) -> None:
        self.commands += self.node.handle(event, self.now)  # type: ignore[arg-type]

    def pass_time(self, seconds: float) -> None:
        end = self.now.monotonic + seconds
        while (due := self.node.next_deadline()) is not None and due <= end:
            passed = max(due, self.now.monotonic) - self.now.monotonic
            self.now = replace_instant(self.now, passed)
            self.commands += self.node.tick(self.now)
        self.now = replace_instant(self.now, end - self.now.monotonic)

    def take(self) -> list[Command]:
        commands, self.commands = self.commands, []
        return commands

    def sent_to(self) -> set[Address]:
        return {command.path.remote for command in self.take() if isinstance(command, Send)}

    def beacons(self) -> int:
        return sum(isinstance(command, SendBeacon) for command in self.take())


def replace_instant(now: Instant, seconds: float) -> Instant:
    return Instant(now.monotonic + seconds, now.unix + seconds)


def test_a_peer_heard_nearby_is_tried_there():
    world = World()
    world.take()
    world.handle(BeaconHeard(PEER, NEAR))
    assert NEAR in world.sent_to()


@pytest.mark.parametrize("key", [STRANGER, OWN])
def test_others_are_not(key: Key):
    world = World()
    world.take()
    world.handle(BeaconHeard(key, NEAR))
    assert world.take() == []


def test_an_address_where_nothing_may_be_sent_is_not_tried():
    world = World()
    world.take()
    for address in (pack("224.0.0.1", 1), pack("127.0.0.1", 1), LOCAL, pack("2001:20::1", 1)):
        world.handle(BeaconHeard(PEER, address))
    assert world.sent_to() == set()


def test_only_the_latest_addresses_of_a_peer_are_kept():
    world = World()
    for last in range(100):
        world.handle(BeaconHeard(PEER, pack(f"192.168.1.{last + 5}", 5000)))
    (peer,) = world.node.snapshot().peers
    assert len(peer.candidates) <= 2


def test_we_announce_ourselves_at_start_and_while_a_peer_has_no_path():
    world = World()
    assert world.beacons() >= 1
    world.pass_time(60)
    assert 4 <= world.beacons() <= 8
    world.pass_time(600)
    assert 15 <= world.beacons() <= 25


def test_who_has_nobody_to_find_announces_itself_once():
    world = World(peers=())
    world.beacons()
    world.pass_time(600)
    assert world.beacons() == 0


def test_a_stranger_hears_of_us_where_an_alias_waits_for_one():
    world = World(peers=(Peer(PeerKind.ALIAS, ALIAS, "guest"),))
    world.beacons()
    for _ in range(20):
        world.handle(BeaconHeard(STRANGER, NEAR))
    assert world.beacons() == 1
    world.pass_time(1.5)
    world.handle(BeaconHeard(STRANGER, NEAR))
    assert world.beacons() == 1


def test_a_node_that_does_not_announce_itself_does_not_listen_either():
    world = World(enabled=False)
    world.handle(BeaconHeard(PEER, NEAR))
    world.pass_time(60)
    assert world.beacons() == 0
    assert NEAR not in world.sent_to()


# The datagrams.


def heard_by(key: Key, data: bytes, source: str) -> list[tuple[Key, Address]]:
    heard: list[tuple[Key, Address]] = []
    Beacons(key, 4000, lambda *what: heard.append(what))._take_untrusted(data, source)
    return heard


def test_a_beacon_is_key_and_port_from_the_address_it_came_from():
    data = HEADER + PEER + (5000).to_bytes(2, "big")
    assert len(data) == BEACON_LEN == 38
    assert heard_by(OWN, data, "192.168.1.3") == [(PEER, NEAR)]
    assert heard_by(OWN, data, "fd00::3") == [(PEER, pack("fd00::3", 5000))]


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (HEADER + PEER + b"\x13", "192.168.1.3"),
        (HEADER + PEER + b"\x13\x88\x00", "192.168.1.3"),
        (HEADER + PEER + b"\x00\x00", "192.168.1.3"),
        (b"\xff\x02\x06\x00" + PEER + b"\x13\x88", "192.168.1.3"),
        (HEADER + OWN + b"\x13\x88", "192.168.1.3"),
        (HEADER + PEER + b"\x13\x88", "fe80::3%eth0"),
        (b"", "192.168.1.3"),
    ],
)
def test_what_is_none_is_dropped(data: bytes, source: str):
    assert heard_by(OWN, data, source) == []


@pytest.mark.skipif(not host_addresses(), reason="this host has no address")
def test_beacons_of_one_host_are_heard_by_others_on_it_but_no_flood_is():
    async def exchange() -> list[tuple[Key, Address]]:
        heard: list[tuple[Key, Address]] = []
        come = asyncio.Event()

        def hear(key: Key, address: Address) -> None:
            heard.append((key, address))
            come.set()

        listener, sender = Beacons(OWN, 4000, hear), Beacons(PEER, 5000, lambda *_: None)
        listener.open()
        sender.open()
        try:
            sender.send()
            await asyncio.wait_for(come.wait(), PATIENCE_S)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
                for _ in range(2000):
                    flood.sendto(HEADER + STRANGER + b"\x13\x88", (beacons.GROUP_V4, beacons.PORT))
            await asyncio.sleep(0.2)
        finally:
            listener.close()
            sender.close()
        return heard

    heard = asyncio.run(exchange())
    assert heard[0][0] == PEER
    assert heard[0][1][16:] == (5000).to_bytes(2, "big")
    assert len(heard) < 2 * beacons.HEARD_BURST
