"""What a trusted peer can make a node send by hole punching, counted where it arrives."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from punch_host import RELAYS, Pair
from simnat import Dependence, Nat, Ports
from simnode import SOCKET, Datagram
from wh.config.model import Network
from wh.engine.commands import Send
from wh.engine.events import NetworkLoaded, Path
from wh.punch.punching import OFFERS_BURST, OFFERS_INTERVAL_S
from wh.punch.schedule import PROBES_PER_IP_MAX, VOUCHED_PROBES_MAX
from wh.wire.address import Address, pack
from wh.wire.candidates import Candidate, CandidateFlag, Mapping, NatProfile
from wh.wire.codec import encode
from wh.wire.messages import Answer, Go, Message, Offer, Ping, Probe

VICTIM_IP = "198.51.77.7"
PROBE_LEN = 64
EASY = NatProfile(Mapping.ENDPOINT_INDEPENDENT)


class HostilePeer:
    """b of the pair is trusted by a, has a channel and a session, and says what it likes."""

    def __init__(self, nat_a: Nat | None = None) -> None:
        self.pair = Pair(nat_a or Nat("203.1.113.9"), Nat("203.2.113.9", open_to_all=True))
        self.network, self.a, self.b = self.pair.network, self.pair.a, self.pair.b
        self.at_victim: Counter[Address] = Counter()
        self.sizes: set[int] = set()
        self.dropped = self.network.dropped_if
        self.network.dropped_if = self._count
        self.say(Ping(1, 0, 0, bytes(8)))
        self.network.run(1)

    def _count(self, source: Address, target: Address) -> bool:
        if target[:16] == pack(VICTIM_IP, 0)[:16]:
            self.at_victim[target] += 1
        return False

    def say(self, message: Message, path: Path | None = None) -> None:
        self.b._execute([Send(self.a.key, path or self.pair.channel_b, message)])

    def offer(self, *addresses: Address, nat: NatProfile = EASY, attempt: int = 7, number: int = 0) -> None:
        candidates = tuple(Candidate(address, CandidateFlag.REFLEXIVE) for address in addresses)
        self.say(Offer(99, attempt, number, nat, candidates))

    def attack(self, *addresses: Address, nat: NatProfile = EASY, attempt: int = 7) -> None:
        """All rounds, each with GO."""
        for number in range(3):
            self.offer(*addresses, nat=nat, attempt=attempt, number=number)
            self.network.run(0.5)
            self.say(Go(0, attempt, number, 0))
            self.network.run(4)
        self.network.run(30)

    def targets(self) -> set[Address]:
        return {send.path.remote for _, send in self.a.probes}


def victim(port: int) -> Address:
    return pack(VICTIM_IP, port)


def test_a_third_party_gets_at_most_24_probes_of_64_bytes() -> None:
    hostile = HostilePeer()
    hostile.attack(victim(53))
    assert 1 < hostile.at_victim.total() <= PROBES_PER_IP_MAX
    assert all(send.pad_to <= 32 and not send.message.padding for _, send in hostile.a.probes)  # type: ignore[union-attr]


def test_eight_ports_of_one_ip_share_its_24() -> None:
    hostile = HostilePeer()
    hostile.attack(*(victim(port) for port in range(1000, 1008)))
    assert 1 < hostile.at_victim.total() <= PROBES_PER_IP_MAX


@pytest.mark.parametrize("mapping", [Mapping.SEQUENTIAL, Mapping.RANDOM, 77])
def test_no_port_is_guessed_where_no_relay_sees_the_peer(mapping: int) -> None:
    hostile = HostilePeer()
    hostile.attack(victim(5000), nat=NatProfile(mapping, 0, 1))
    assert set(hostile.at_victim) <= {victim(5000)}
    assert hostile.at_victim.total() <= PROBES_PER_IP_MAX


def test_our_own_random_nat_does_not_make_us_open_sockets_for_a_third_party() -> None:
    random_ports = Nat("203.1.113.9", mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, ports=Ports.RANDOM)
    hostile = HostilePeer(random_ports)
    opened = hostile.a.opened
    hostile.attack(victim(5000))
    assert hostile.at_victim.total() <= PROBES_PER_IP_MAX
    assert hostile.a.opened - opened < 5


def test_where_relays_do_see_the_peer_the_guesses_are_bounded() -> None:
    hostile = HostilePeer()
    hostile.a.node.seen_at[hostile.b.key] = {victim(0)[:16]}  # as relays that lie would say
    for mapping in (Mapping.SEQUENTIAL, Mapping.RANDOM):
        hostile.at_victim.clear()
        hostile.attack(victim(5000), nat=NatProfile(mapping, 0, 1), attempt=int(mapping))
        assert 24 < hostile.at_victim.total() <= VOUCHED_PROBES_MAX + PROBES_PER_IP_MAX


def test_offers_without_end_get_attempts_at_a_low_rate() -> None:
    hostile = HostilePeer()
    minutes = 10
    for attempt in range(60 * minutes * 2):
        hostile.offer(victim(53), attempt=attempt)
        hostile.network.run(0.5)
        hostile.say(Go(0, attempt, 0, 0))
    attempts = OFFERS_BURST + 60 * minutes / OFFERS_INTERVAL_S + 1
    assert hostile.at_victim.total() <= attempts * PROBES_PER_IP_MAX


def test_addresses_that_mean_nothing_or_ourselves_are_not_probed() -> None:
    hostile = HostilePeer()
    assert hostile.a.nat is not None
    hostile.a.handle(NetworkLoaded(Network(namespace="sim", subnet=None)))
    own = hostile.a.nat.mappings[hostile.a.address]
    refused = (
        pack("127.0.0.1", 22),
        pack("::1", 22),
        pack("224.0.0.1", 5353),
        pack("255.255.255.255", 9),
        pack("0.0.0.1", 9),
        pack("2001:20::1", 9),
        hostile.a.address,
        own,
    )
    for number, address in enumerate(refused):
        hostile.offer(address, attempt=number)
        hostile.network.run(20)
        hostile.say(Go(0, number, 0, 0))
        hostile.network.run(5)
    assert hostile.targets() == set()


def test_only_trusted_peers_are_heard_and_only_out_of_channels() -> None:
    hostile = HostilePeer()
    assert hostile.a.nat is not None
    direct = Path(SOCKET, hostile.a.nat.mappings[hostile.a.address])
    hostile.a.nat.open_to_all = True
    hostile.a.nat.filtering = Dependence.ENDPOINT_INDEPENDENT
    hostile.say(Offer(1, 7, 0, EASY, (Candidate(victim(53)),)), direct)
    hostile.network.run(20)
    hostile.a.node.trusted.clear()
    hostile.attack(victim(53))
    assert hostile.a.probes == []
    assert not [each for each in hostile.b.received if isinstance(each.message, Answer)]


def test_addresses_that_probes_only_seem_to_come_from_share_the_limits() -> None:
    """The peer's own PROBEs, sent with the victim's address as their source."""
    hostile = HostilePeer(Nat("203.1.113.9", open_to_all=True))
    assert hostile.a.nat is not None
    hostile.offer(pack("203.2.113.9", 40_001))
    hostile.network.run(0.5)
    hostile.say(Go(0, 7, 0, 0))
    session = hostile.b.current[hostile.a.key]
    target = hostile.a.nat.mappings[hostile.a.address]
    spoofed: Any = 0
    for number in range(200):
        message = Probe(0, 7, number)
        datagram = Datagram("data", hostile.b.key, hostile.a.key, session, encode(message), PROBE_LEN)
        hostile.network.send(victim(1000 + number), target, datagram)
        hostile.network.run(0.01)
        spoofed += 1
    hostile.network.run(30)
    assert hostile.at_victim.total() <= spoofed + PROBES_PER_IP_MAX  # each is answered once


def test_many_attempts_at_once_are_refused() -> None:
    hostile = HostilePeer()
    punching = hostile.a.node.punching
    for number in range(40):
        punching.begin(bytes([number]) * 32, Path(SOCKET, RELAYS[0], 1000 + number), hostile.network.now)
    hostile.a._execute(hostile.a.node.engine.take_commands())
    hostile.offer(victim(53))
    hostile.network.run(1)
    answers = [each.message for each in hostile.b.received if isinstance(each.message, Answer)]
    assert [answer.candidates for answer in answers] == [()]
    hostile.network.run(10)
    assert len(hostile.a.node.ended) == 40
