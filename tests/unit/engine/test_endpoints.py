from __future__ import annotations

import pytest
from engine_parts import OTHER_ADDRESS, OTHER_PATH, PEER_ADDRESS, PEER_KEY, Driver, at

from wh.config.model import Endpoint, Network, Peer, PeerKind
from wh.engine.commands import ResolveName
from wh.engine.endpoints import ADDRESSES_MAX, AT_ONCE, ONE_MORE_S, FileEndpoints
from wh.engine.events import NameResolved
from wh.wire.address import pack

NUMERIC_KEY = bytes(31) + b"\x03"
NETWORK = Network(
    peers=(
        Peer(PeerKind.BOOT, PEER_KEY, endpoint=Endpoint("boot.example")),
        Peer(PeerKind.BOOT, NUMERIC_KEY, endpoint=Endpoint("203.0.113.3")),
    )
)


class Resolver(Driver):
    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.endpoints = FileEndpoints(self.engine, self._changed)
        self.endpoints.set_network(NETWORK, at(0))
        self.take(0)

    def _changed(self, now: object) -> None:
        self.changes += 1

    def asked_at(self) -> list[float]:
        return [seconds for seconds, command in self.log if isinstance(command, ResolveName)]


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


def test_numeric_endpoints_are_there_at_once_and_names_after_an_answer(resolver: Resolver) -> None:
    assert resolver.endpoints.addresses_of(NUMERIC_KEY) == (OTHER_ADDRESS,)
    assert resolver.endpoints.addresses_of(PEER_KEY) == ()
    assert [command for _, command in resolver.log] == [ResolveName("boot.example", 62096)]
    resolver.endpoints.resolved(NameResolved("boot.example", 62096, (PEER_ADDRESS,)), at(0.1))
    assert resolver.endpoints.addresses_of(PEER_KEY) == (PEER_ADDRESS,)
    assert resolver.changes == 1
    assert resolver.engine.addressing.is_configured(PEER_ADDRESS)


def test_a_name_that_fails_is_asked_again_ever_more_rarely(resolver: Resolver) -> None:
    resolver.run_to(300)
    gaps = [
        later - earlier for earlier, later in zip(resolver.asked_at(), resolver.asked_at()[1:], strict=False)
    ]
    assert gaps[0] < 1.2
    assert all(later > earlier for earlier, later in zip(gaps[:6], gaps[1:6], strict=False))
    assert max(gaps) <= 66


def test_a_name_that_fails_later_keeps_its_addresses(resolver: Resolver) -> None:
    resolver.endpoints.resolved(NameResolved("boot.example", 62096, (PEER_ADDRESS,)), at(0.1))
    resolver.endpoints.resolved(NameResolved("boot.example", 62096, ()), at(300))
    assert resolver.endpoints.addresses_of(PEER_KEY) == (PEER_ADDRESS,)
    assert resolver.changes == 1


def test_answers_that_nobody_asked_for_and_endless_ones_are_cut(resolver: Resolver) -> None:
    resolver.endpoints.resolved(NameResolved("else.example", 1, (PEER_ADDRESS,)), at(0.1))
    assert resolver.changes == 0
    many = tuple(pack("198.51.100.2", port) for port in range(1, 100))
    resolver.endpoints.resolved(NameResolved("boot.example", 62096, many), at(0.1))
    assert len(resolver.endpoints.addresses_of(PEER_KEY)) == ADDRESSES_MAX


def test_a_reload_forgets_endpoints_that_are_gone(resolver: Resolver) -> None:
    resolver.endpoints.set_network(Network(), at(1))
    assert resolver.endpoints.addresses_of(NUMERIC_KEY) == ()
    assert not resolver.engine.addressing.is_configured(OTHER_PATH.remote)
    resolver.log.clear()
    resolver.run_to(500)
    assert resolver.asked_at() == []


def test_a_change_of_links_is_an_occasion_to_ask_at_once(resolver: Resolver) -> None:
    """The network came after the first questions; the next one by the clock was 19 s away."""
    resolver.run_to(10)
    resolver.log.clear()
    resolver.endpoints.links_changed(at(10))
    resolver.take(10)
    resolver.run_to(14)
    asked = resolver.asked_at()
    assert asked[0] == 10
    assert asked[1] < 11.2, "and soon again: resolvers come after addresses"


def test_a_name_that_is_known_is_asked_again_too(resolver: Resolver) -> None:
    resolver.endpoints.resolved(NameResolved("boot.example", 62096, (PEER_ADDRESS,)), at(0.1))
    resolver.log.clear()
    resolver.endpoints.links_changed(at(10))
    resolver.endpoints.unanswered(PEER_KEY, at(10))
    resolver.endpoints.unanswered(NUMERIC_KEY, at(10))
    resolver.endpoints.unanswered(bytes(32), at(10))
    resolver.take(10)
    assert resolver.asked_at() == [10, 10]


def test_a_host_on_which_something_always_changes_asks_no_more_than_every_few_seconds(
    resolver: Resolver,
) -> None:
    resolver.endpoints.resolved(NameResolved("boot.example", 62096, (PEER_ADDRESS,)), at(0.1))
    resolver.log.clear()
    for tenth in range(1000):
        resolver.endpoints.links_changed(at(tenth / 10))
        resolver.endpoints.unanswered(PEER_KEY, at(tenth / 10))
    resolver.take(100)
    assert len(resolver.asked_at()) <= AT_ONCE + 100 / ONE_MORE_S


def test_the_last_of_many_changes_is_looked_at_when_the_limit_allows():
    """The names of a network that a host has just entered are known after its last change only."""
    resolver = Resolver()
    resolver.endpoints.resolved(NameResolved("boot.example", 62096, (pack("203.0.113.9", 62096),)), at(0))
    for tenth in range(2 * AT_ONCE):
        resolver.endpoints.links_changed(at(tenth / 10))
    resolver.take(1)
    asked = len(resolver.asked_at())
    for seconds in (1 + ONE_MORE_S, 60):
        resolver.run_to(seconds)
        resolver.take(seconds)
        assert len(resolver.asked_at()) == asked + 1
