"""Which mappings are asked for, by which protocol, and when again: the policy alone, under a fake clock."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.nat import port_mapping
from wh.nat.port_mapping import (
    CHECK_S,
    IGD_RENEW_S,
    RENEW_MIN_S,
    RETRY_S,
    Check,
    Command,
    Granted,
    Look,
    Map,
    PortMappings,
    Protocol,
    Unmap,
    Wanted,
    suggestion,
)
from wh.wire.address import Address, ip_of, pack, port_of

INTERNAL = pack("192.168.1.2", 4000)
WANTED = Wanted("udp", INTERNAL)
PINHOLE = Wanted("udp", pack("2001:db8::2", 4000))
EXTERNAL = pack("203.0.113.5", 14000)
PCP, NAT_PMP, IGD = Protocol


class World:
    """Runs a policy; the test answers what it asks."""

    def __init__(self, *wanted: Wanted) -> None:
        self.now = 0.0
        self.policy = PortMappings(random.Random(1), wanted or (WANTED,), self.now)
        self.asked: list[tuple[float, Command]] = []
        self.open: dict[Protocol, Look | Map] = {}
        self.take()

    def take(self) -> list[Command]:
        commands = self.policy.tick(self.now)
        for command in commands:
            self.asked.append((self.now, command))
            if isinstance(command, Look | Map):
                self.open[command.protocol] = command
        return commands

    def grant(self, protocol: Protocol, lifetime_s: float = 7200.0, external: Address = EXTERNAL) -> None:
        self.policy.granted(self.open.pop(protocol).ticket, Granted(external, lifetime_s), self.now)
        self.take()

    def fail(self, protocol: Protocol, trouble: str = "", retry_after_s: float = 0.0) -> None:
        ticket = self.open.pop(protocol).ticket
        self.policy.failed(ticket, trouble, self.now, retry_after_s=retry_after_s)
        self.take()

    def find(self) -> None:
        self.policy.found(self.open.pop(IGD).ticket, pack("203.0.113.5", 0), self.now)
        self.take()

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (when := self.policy.next_deadline()) <= end:
            self.now = max(self.now, when)
            self.take()
        self.now = end

    def all_fail(self) -> None:
        while self.open:
            self.fail(next(iter(self.open)))

    def held(self) -> list[tuple[Protocol, Address]]:
        return [(held.protocol, held.external) for held in self.policy.held()]

    def unmapped(self) -> list[Command]:
        return [command for _, command in self.asked if isinstance(command, Unmap)]


def test_pcp_is_asked_and_upnp_looked_for_at_once() -> None:
    world = World()
    assert [type(command) for _, command in world.asked] == [Map, Look]
    assert set(world.open) == {PCP, IGD}


def test_the_udp_port_that_is_asked_for_is_never_our_own() -> None:
    for port in (1, 80, 4000, 55_535, 55_536, 65_535):
        wanted = Wanted("udp", pack("192.168.1.2", port))
        suggested = suggestion(wanted)
        assert port_of(suggested) != port
        assert port_of(suggestion(wanted._replace(transport="tcp"))) == port
        assert 0 < port_of(suggested) <= 65_535
        assert ip_of(suggested).is_unspecified
    assert suggestion(PINHOLE) == PINHOLE.internal


def test_nat_pmp_comes_after_pcp_and_then_nothing_for_a_minute() -> None:
    world = World()
    world.fail(PCP)
    assert set(world.open) == {NAT_PMP, IGD}
    world.fail(NAT_PMP)
    world.fail(IGD)
    world.wait(0.8 * RETRY_S[0])
    assert not world.open
    world.wait(0.4 * RETRY_S[0])
    assert set(world.open) == {PCP, IGD}


def test_a_gateway_that_does_nothing_is_asked_ever_more_rarely() -> None:
    world = World()
    while world.now < 4000:
        world.all_fail()
        world.wait(1.0)
    asked = [when for when, each in world.asked if isinstance(each, Map) and each.protocol is PCP]
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    for gap, expected in zip(gaps, (*RETRY_S, RETRY_S[-1]), strict=False):
        assert gap == pytest.approx(expected, rel=0.11)
    assert len(gaps) >= 4


def test_a_refusal_is_told_and_its_pause_kept() -> None:
    world = World()
    world.fail(PCP, "no resources", 1800.0)
    world.fail(NAT_PMP, "not authorized", 1800.0)
    world.fail(IGD)
    assert world.policy.outcomes[PCP, 4].trouble == "no resources"
    assert not world.policy.outcomes[IGD, 4].found
    world.open.clear()
    world.wait(1700)
    assert PCP not in world.open


def test_a_lease_is_renewed_at_half_of_its_life_with_the_same_address() -> None:
    world = World()
    world.grant(PCP, 600.0)
    world.fail(IGD)
    world.wait(299)
    assert PCP not in world.open
    world.wait(80)
    renewal = world.open[PCP]
    assert isinstance(renewal, Map)
    assert renewal.suggested == EXTERNAL
    world.grant(PCP, 600.0)
    assert world.held() == [(PCP, EXTERNAL)]
    assert world.policy.held()[0].expires_at == world.now + 600


def test_a_renewal_without_answer_is_repeated_until_the_lease_ends() -> None:
    world = World()
    world.grant(PCP, 600.0)
    world.fail(IGD)
    renewals = 0
    while world.held():
        world.wait(1.0)
        if PCP in world.open and world.held():
            renewals += 1
            world.fail(PCP)
    assert 6 <= renewals <= 12
    assert world.now == pytest.approx(600, abs=2)
    assert PCP in world.open  # at once from the beginning


@pytest.mark.parametrize("lifetime", [0.001, 7.0, 8.0])
def test_an_absurdly_short_lease_is_not_renewed_without_pause(lifetime: float) -> None:
    world = World()
    world.fail(IGD)
    for _ in range(1000):
        for protocol in {PCP, NAT_PMP} & set(world.open):
            world.grant(protocol, lifetime)
        world.wait(0.5)
    asked = [when for when, command in world.asked if isinstance(command, Map) and command.protocol is PCP]
    assert len(asked) <= 500 / RENEW_MIN_S + 1


def test_an_absurdly_long_lease_is_renewed_within_a_day() -> None:
    world = World()
    world.grant(PCP, 4e9)
    world.fail(IGD)
    world.wait(86_400)
    assert PCP in world.open


def test_upnp_maps_where_the_others_do_not() -> None:
    world = World()
    world.find()
    assert IGD not in world.open  # the others are given a moment
    world.wait(0.6)
    assert isinstance(world.open[IGD], Map)
    world.grant(IGD, math.inf)
    world.all_fail()
    assert world.held() == [(IGD, EXTERNAL)]
    world.wait(IGD_RENEW_S)
    assert isinstance(world.open[IGD], Map)


def test_upnp_only_tells_what_it_is_where_pcp_maps() -> None:
    world = World()
    world.grant(PCP)
    world.find()
    world.wait(3000)
    assert IGD not in world.open
    assert world.policy.outcomes[IGD, 4].found
    assert world.held() == [(PCP, EXTERNAL)]


def test_upnp_gives_its_mapping_back_once_pcp_has_one() -> None:
    world = World()
    world.find()
    world.wait(1)
    other = pack("203.0.113.5", 15000)
    world.grant(IGD, 3600.0, other)
    world.grant(PCP)
    assert world.held() == [(PCP, EXTERNAL)]
    assert world.unmapped() == [Unmap(IGD, WANTED, other)]


def test_a_mapping_of_upnp_that_comes_too_late_is_given_back() -> None:
    world = World()
    world.find()
    world.wait(1)
    world.grant(PCP)
    world.grant(IGD, 3600.0)
    assert world.held() == [(PCP, EXTERNAL)]
    assert world.unmapped() == [Unmap(IGD, WANTED, EXTERNAL)]


def test_upnp_takes_over_when_pcp_has_lost_the_mapping() -> None:
    world = World()
    world.grant(PCP, 60.0)
    world.find()
    while world.held():
        world.wait(1.0)
        if PCP in world.open:
            world.fail(PCP, "not authorized")
    world.fail(NAT_PMP)
    world.wait(1.0)
    assert isinstance(world.open[IGD], Map)


def test_a_gateway_that_restarted_is_asked_again_at_once() -> None:
    world = World()
    world.grant(PCP)
    world.fail(IGD)
    world.wait(100)
    world.policy.state_lost(PCP, 4, world.now)
    world.take()
    assert PCP in world.open
    assert world.held() == [(PCP, EXTERNAL)]  # until the answer says otherwise
    world.grant(PCP, external=pack("203.0.113.5", 20000))
    assert world.held() == [(PCP, pack("203.0.113.5", 20000))]


def test_a_gateway_whose_epoch_is_always_wrong_is_not_asked_without_end() -> None:
    world = World()
    world.fail(IGD)
    for _ in range(10_000):
        if PCP in world.open:
            world.grant(PCP)
            world.policy.state_lost(PCP, 4, world.now)
        world.wait(0.1)
    asked = [when for when, command in world.asked if isinstance(command, Map)]
    assert len(asked) <= 2 * (world.now / port_mapping.REMAP_LATER_S) + 5


def test_a_held_mapping_is_checked_each_minute_and_nothing_else_is() -> None:
    world = World()
    world.all_fail()
    assert not [command for _, command in world.asked if isinstance(command, Check)]
    world = World()
    world.grant(PCP)
    world.fail(IGD)
    world.wait(10 * CHECK_S)
    assert 9 <= sum(command == Check(PCP, 4) for _, command in world.asked) <= 10
    world.policy.check_soon(4, world.now)
    assert Check(PCP, 4) in world.take()


def test_ipv6_asks_pcp_alone_for_our_own_address() -> None:
    world = World(PINHOLE)
    (command,) = world.open.values()
    assert isinstance(command, Map)
    assert (command.protocol, command.suggested) == (PCP, PINHOLE.internal)
    world.grant(PCP, 600.0, PINHOLE.internal)
    assert world.held() == [(PCP, PINHOLE.internal)]


def test_several_ports_are_mapped_apart() -> None:
    world = World(WANTED, Wanted("tcp", INTERNAL), PINHOLE)
    maps = [command.wanted for _, command in world.asked if isinstance(command, Map)]
    assert maps == [WANTED, Wanted("tcp", INTERNAL), PINHOLE]


def test_all_that_is_held_is_given_back_at_the_end_and_nothing_asked_any_more() -> None:
    world = World(WANTED, PINHOLE)
    world.policy.granted(1, Granted(EXTERNAL, 600.0), world.now)
    assert world.policy.withdraw() == [Unmap(PCP, WANTED, EXTERNAL)]
    assert world.policy.tick(1e6) == []
    assert world.policy.next_deadline() == math.inf


def test_an_answer_to_nothing_changes_nothing() -> None:
    world = World()
    world.policy.granted(99, Granted(EXTERNAL, 600.0), 0.0)
    world.policy.failed(99, "x", 0.0)
    world.policy.found(99, EXTERNAL, 0.0)
    assert world.held() == []
    assert world.policy.outcomes == {}


STEPS = st.lists(
    st.tuples(st.sampled_from(["grant", "fail", "find", "lost", "wait"]), st.floats(0.0, 10_000.0)),
    max_size=60,
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_gateways_do_at_most_one_mapping_is_held_and_something_is_always_next(
    steps: list[tuple[str, float]],
) -> None:
    world = World()
    for kind, value in steps:
        protocols = list(world.open)
        chosen = protocols[int(value) % len(protocols)] if protocols else None
        if kind == "grant" and chosen is not None and isinstance(world.open[chosen], Map):
            world.grant(chosen, value)
        elif kind == "find" and isinstance(world.open.get(IGD), Look):
            world.find()
        elif kind == "fail" and chosen is not None:
            world.fail(chosen, "trouble" if value > 5000 else "", value)
        elif kind == "lost":
            world.policy.state_lost(PCP, 4, world.now)
            world.take()
        else:
            world.wait(min(value, 500.0))
        assert len(world.held()) <= 1
        assert world.open or world.policy.next_deadline() < math.inf
        assert len(port_mapping.Protocol) >= len(world.policy.outcomes)
