"""Hole punching, as far as it can be said without a network: who does what, when PROBEs go out, and where to
(docs/protocol.md section 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import NamedTuple, TypeVar

from wh.engine.randomness import Randomness
from wh.wire.address import Address, is_private, is_v4, port_of, prefix
from wh.wire.candidates import Candidate, CandidateFlag, Mapping, NatProfile

OPENER_TTL = 5
"""Past our own NATs, which it opens, and with luck not as far as the peer's: one that takes it for its own
mail would not let us in by the same pair of addresses any more."""


class Round(NamedTuple):
    """opener_ttl: hop limit of the first shot. head_start_s: by how much one side begins before the other,
    where relays and clocks leave it late. by_offerer: that side. lasts_s: shots that would come later are
    not made; what is answered later still counts."""

    opener_ttl: int
    head_start_s: float
    by_offerer: bool
    lasts_s: float


ROUNDS = (
    Round(OPENER_TTL, 0.0, True, 0.4),
    Round(2, 0.025, False, 1.0),  # dies behind our own router, for whose NAT is near the peer's
    Round(3, 0.025, True, 3.5),  # behind two
)
"""What spoils a mapping for the first round spoils it for good, and so fresh sockets come soon."""

SHOTS_AT_S = (0.0, 0.03, 0.08, 0.18, 0.38, 0.78, 1.58, 3.0)
"""Into the round. All but the first have the system's hop limit."""

SINGLE_ROUND_S = 3.5
"""Where there is only one."""

PROBES_PER_IP_MAX = 24
PROBES_PER_NETWORK_MAX = 48
"""Unvalidated, an attempt: three rounds of one candidate; of two of them in one /24, or /48."""

VOUCHED_PROBES_MAX = 1024
"""At all IPs together where the relays see the peer, an attempt."""

PREDICTED_STEPS = 32

PORTS = range(1024, 65536)
SEARCH_PROBES = 1024
SEARCH_INTERVAL_S = 0.02


class Wave(NamedTuple):
    """Sockets that the side with the random mapping opens. renew: those of earlier waves close."""

    at_s: float
    sockets: int
    ttl: int
    renew: bool = False


WAVES = (
    Wave(0.0, 64, 2),
    Wave(1.0, 64, 3),
    Wave(2.0, 64, OPENER_TTL),
    Wave(2.0, 64, 2),
    *(Wave(SEARCH_PROBES * SEARCH_INTERVAL_S + after_s, 256, 0, renew=True) for after_s in (0.2, 1.2, 2.2)),
)
"""The first four wait for a PROBE of the peer to hit one of their ports. Each hop limit suits some depth
of our own NATs; what reaches the peer's after all may take a port there, and once the search meets such a
one, the NAT maps all that follows elsewhere. The others come when the peer's NAT is open to all ports
that it probed, and may have one of those. The former together, and each of the latter, have
birthday_chance(256, 1024), which a pool of addresses divides."""

SEARCH_S = 24.0


class Tactic(Enum):
    """What one side does."""

    ROUNDS = auto()  # both sides know the ports, or can predict them
    OPEN_SOCKETS = auto()  # our ports are random: have many
    SEARCH_PORTS = auto()  # the peer's are: try many
    LOCAL_ONLY = auto()  # no port can be known; LAN and IPv6 remain


def tactic_for(own: int, peer: int) -> Tactic:
    """own, peer: Mappings; values that nobody knows yet count as endpoint-independent."""
    if own == Mapping.RANDOM:
        hopeless = peer in (Mapping.RANDOM, Mapping.SEQUENTIAL)
        return Tactic.LOCAL_ONLY if hopeless else Tactic.OPEN_SOCKETS
    if peer == Mapping.RANDOM:
        return Tactic.LOCAL_ONLY if own == Mapping.SEQUENTIAL else Tactic.SEARCH_PORTS
    return Tactic.ROUNDS


def predicted(announced: Address, step: int) -> list[Address]:
    """The next ports of a sequential mapping after the announced one, in the order in which it takes them."""
    first = port_of(announced) - PORTS.start
    ports = (PORTS.start + (first + step * count) % len(PORTS) for count in range(1, PREDICTED_STEPS + 1))
    return [announced[:16] + port.to_bytes(2, "big") for port in ports]


def aims(
    candidates: Sequence[Candidate], theirs: NatProfile, tactic: Tactic
) -> tuple[list[Address], list[Address]]:
    """Predicted addresses, and all others, near ones first: they answer first. Where ports are predicted, the
    announced one belongs to a server, and is none of them."""
    announced = [each.address for each in candidates]
    guesses: list[Address] = []
    if theirs.mapping == Mapping.SEQUENTIAL and tactic is Tactic.ROUNDS:
        seen = [each.address for each in candidates if each.flags & CandidateFlag.REFLEXIVE]
        base = next((address for address in seen if is_v4(address)), None)
        if base is not None:
            guesses = predicted(base, max(1, theirs.step))
            announced.remove(base)
    announced.sort(key=is_private, reverse=True)
    return guesses, announced


def search_addresses(ips: Sequence[bytes], rng: Randomness) -> list[Address]:
    """Distinct random ports, on each IP in turn."""
    return [
        ips[number % len(ips)] + port.to_bytes(2, "big")
        for number, port in enumerate(rng.sample(PORTS, SEARCH_PROBES))
    ]


def birthday_chance(sockets: int, probes: int, ports: int = len(PORTS)) -> float:
    """That one of so many distinct probed ports is one of so many mapped ones."""
    missed = 1.0
    for number in range(probes):
        missed *= 1 - sockets / (ports - number)
    return 1 - missed


class ProbeBudget:
    """What one attempt may send to where nothing was answered. vouched: IPs that relays see the peer at; all
    others only the peer names, and they may be a victim's."""

    def __init__(self, vouched: frozenset[bytes]) -> None:
        self.vouched = vouched
        self._of_ip: Counter[bytes] = Counter()
        self._of_network: Counter[bytes] = Counter()
        self._many = 0

    def take(self, address: Address) -> bool:
        """All private ones that a peer offers may be in one network, and a NAT's pool is what relays see."""
        ip, network = address[:16], prefix(address, 24, 48)
        exempt = is_private(address) or ip in self.vouched
        if (self._of_network[network] >= PROBES_PER_NETWORK_MAX and not exempt) or self._of_ip[
            ip
        ] >= PROBES_PER_IP_MAX:
            return False
        self._of_ip[ip] += 1
        self._of_network[network] += 1
        return True

    def take_of_many(self, ip: bytes) -> bool:
        """For guessed ports, and for guesses of ours at the peer's."""
        if ip not in self.vouched or self._many >= VOUCHED_PROBES_MAX:
            return False
        self._many += 1
        return True


Target = TypeVar("Target")


def in_turn(shot: int, targets: Iterable[tuple[bytes, Target]]) -> Iterator[Target]:
    """Of the (IP, target) pairs those that a shot goes to: all in the first one, then one of each IP, so that
    an IP with several of them does not get more than its share."""
    by_ip: dict[bytes, list[Target]] = {}
    for ip, target in targets:
        by_ip.setdefault(ip, []).append(target)
    for alike in by_ip.values():
        if shot == 0:
            yield from alike
        else:
            yield alike[(shot - 1) % len(alike)]
