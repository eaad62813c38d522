"""What public nodes say of themselves, where the file says less."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from engine_parts import OTHER_ADDRESS, PEER_ADDRESS, PEER_KEY, Driver, at

from wh.config.model import Endpoint, Network, Peer, PeerKind
from wh.dht.kademlia import Kademlia
from wh.dht.lookups.searches import Searches
from wh.dht.publishing.public_addresses import FIRST_S, REFRESH_S, RETRY_S, PublicAddresses
from wh.dht.records.clocks import Clocks
from wh.engine.commands import RememberAddresses
from wh.engine.endpoints import FileEndpoints
from wh.engine.events import AddressesRemembered, Instant, Key
from wh.wire.address import Address, pack
from wh.wire.candidates import Candidate
from wh.wire.records import Record

BOOT = bytes(31) + b"\x05"
BOOT_V4, BOOT_V6 = pack("203.0.113.5", 62096), pack("2a02::5", 62096)
NETWORK = Network(
    peers=(Peer(PeerKind.BOOT, BOOT, endpoint=Endpoint("203.0.113.5")), Peer(PeerKind.TRUST, PEER_KEY))
)


class World(Driver):
    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[tuple[float, Key]] = []
        self.found: Callable[[Record, Instant], None] | None = None
        self.endpoints = FileEndpoints(self.engine, lambda now: None)
        self.kademlia = SimpleNamespace(joined=True, clocks=Clocks())
        self.addresses = PublicAddresses(
            self.engine, cast(Kademlia, self.kademlia), cast(Searches, self), self.endpoints
        )

    def find_record(self, key: Key, now: Instant, *, found: Any, **_: object) -> None:
        self.looked_up.append((now.monotonic - at(0).monotonic, key))
        self.found = found

    def load(self) -> None:
        self.endpoints.set_network(NETWORK, at(0))
        self.addresses.set_network(NETWORK)

    def hear(self, *addresses: Address, key: Key = BOOT) -> list[object]:
        assert self.found is not None
        self.found(Record(key, 1, 0, candidates=tuple(map(Candidate, addresses))), at(3))
        return [command for command in self.take(3) if isinstance(command, RememberAddresses)]


@pytest.fixture
def world() -> World:
    world = World()
    world.load()
    world.addresses.joined(at(0))
    world.run_to(1.5 * FIRST_S)
    return world


def test_the_other_family_is_learnt_and_remembered(world: World) -> None:
    assert [key for _, key in world.looked_up] == [BOOT]
    assert world.hear(BOOT_V4, BOOT_V6) == [RememberAddresses(((BOOT, (BOOT_V4, BOOT_V6)),))]
    assert world.endpoints.addresses_of(BOOT) == (BOOT_V4, BOOT_V6)
    assert world.hear(BOOT_V4, BOOT_V6) == [], "no news"


def test_the_file_counts_more_and_others_do_not_speak_for_a_node(world: World) -> None:
    world.hear(pack("198.51.100.99", 1), BOOT_V6, pack("2a02::6", 1))
    assert world.endpoints.addresses_of(BOOT) == (BOOT_V4, BOOT_V6)
    assert world.hear(PEER_ADDRESS, OTHER_ADDRESS, key=PEER_KEY) == []
    assert world.endpoints.addresses_of(PEER_KEY) == ()


def test_addresses_that_nobody_may_name_are_left_out(world: World) -> None:
    assert world.hear(pack("127.0.0.1", 1), pack("2001:20::7", 1), pack("fe80::1", 1)) == []
    assert world.endpoints.addresses_of(BOOT) == (BOOT_V4,)


def test_what_an_earlier_run_knew_is_known_at_once() -> None:
    world = World()
    world.addresses.remembered(AddressesRemembered(((BOOT, (BOOT_V6,)), (PEER_KEY, (PEER_ADDRESS,)))))
    world.load()
    assert world.endpoints.addresses_of(BOOT) == (BOOT_V4, BOOT_V6)
    assert world.endpoints.addresses_of(PEER_KEY) == (), "which the file does not call public"


def test_it_is_asked_for_until_it_is_known_and_then_seldom(world: World) -> None:
    world.run_to(10 * RETRY_S)
    asked = len(world.looked_up)
    assert 5 <= asked <= 15
    world.hear(BOOT_V4, BOOT_V6)
    world.run_to(10 * RETRY_S + REFRESH_S)
    assert len(world.looked_up) - asked <= 3


def test_nobody_is_asked_while_no_server_answers(world: World) -> None:
    world.kademlia.joined = False
    asked = len(world.looked_up)
    world.run_to(100)
    assert len(world.looked_up) == asked
