"""What our NAT does, folded from what servers see of us (RFC 4787; docs/protocol.md section 6)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from wh.wire.address import Address, is_v4, port_of, prefix, to_text
from wh.wire.candidates import Filtering, Mapping, NatProfile

WITNESSES_MAX = 4
ANSWERS_WANTED = 3
"""Three of four equal answers make an endpoint-independent mapping."""

STEP_MAX = 16
SPREAD_MAX = 100
"""A mapping is sequential up to these (docs/protocol.md section 6)."""

ENDPOINT_DEPENDENT = frozenset({Mapping.SEQUENTIAL, Mapping.RANDOM})

OBSERVATION_LIFETIME_S = 900.0
"""Three rounds of asking."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One server's word: where our packets seem to come from. at: monotonic seconds."""

    observed: Address
    at: float


def network_of(address: Address) -> bytes:
    """Witnesses in one /16 (IPv6: /32) count once: one operator could own them all."""
    return prefix(address, 16, 32)


class Observations:
    """What the last few witnesses saw of one socket, at most WITNESSES_MAX, one a network."""

    def __init__(self) -> None:
        self._by_network: OrderedDict[bytes, Observation] = OrderedDict()  # the oldest first

    def add(self, witness: Address, observed: Address, now: float) -> bool:
        """Whether that witness sees us elsewhere than before: the mapping moved, other words are old."""
        network = network_of(witness)
        former = self._by_network.pop(network, None)
        moved = former is not None and former.observed != observed
        if moved:
            self._by_network.clear()
        self._by_network[network] = Observation(observed, now)
        if len(self._by_network) > WITNESSES_MAX:
            self._by_network.popitem(last=False)
        return moved

    def clear(self) -> None:
        self._by_network.clear()

    def expire(self, now: float) -> None:
        """Drop what is older than OBSERVATION_LIFETIME_S."""
        for network, word in list(self._by_network.items()):
            if now - word.at >= OBSERVATION_LIFETIME_S:
                del self._by_network[network]

    def addresses(self) -> list[Address]:
        """Where we were seen, most often seen first."""
        return [address for address, _ in self._votes().most_common()]

    def __len__(self) -> int:
        return len(self._by_network)

    def mapping(self, local: Collection[Address]) -> Mapping:
        """local: our interfaces' addresses with our port. One socket cannot tell sequential from RANDOM. Two
        witnesses that differ are enough to see that the endpoint matters, two that agree prove nothing."""
        votes = self._votes()
        if any(address in local for address in votes):
            return Mapping.NONE
        if max(votes.values(), default=0) >= ANSWERS_WANTED:
            return Mapping.ENDPOINT_INDEPENDENT
        return Mapping.RANDOM if len(votes) > 1 else Mapping.UNKNOWN

    def _votes(self) -> Counter[Address]:
        return Counter(word.observed for word in self._by_network.values())


class PortUse(NamedTuple):
    """step: between the ports of a SEQUENTIAL mapping; else 0."""

    mapping: Mapping
    step: int = 0


def judge_fresh_socket(observed: Sequence[Address]) -> PortUse:
    """What several witnesses saw of one new socket within a moment, where those of the first did not agree.

    Fewer than two answers leave the worst case. With several public addresses there is no port to predict.
    Where answers got lost a step may be several, so two answers show none. Two that agree come from no such
    NAT, whatever a third witness says."""
    agreeing = max(Counter(observed).values(), default=0)
    if agreeing > 1:
        enough = agreeing >= ANSWERS_WANTED
        return PortUse(Mapping.ENDPOINT_INDEPENDENT if enough else Mapping.UNKNOWN)
    if len(observed) < 2 or len({address[:16] for address in observed}) > 1:
        return PortUse(Mapping.RANDOM)
    ports = sorted(port_of(address) for address in observed)
    steps = [after - before for before, after in pairwise(ports)]
    if max(steps) <= STEP_MAX and ports[-1] - ports[0] <= SPREAD_MAX:
        return PortUse(Mapping.SEQUENTIAL, min(steps) if len(steps) > 1 else 1)
    return PortUse(Mapping.RANDOM)


@dataclass(frozen=True, slots=True)
class NatBehaviour:
    """Mapping and filtering of one address family; observed: best known first. step: as in PortUse."""

    mapping: Mapping
    filtering: Filtering
    observed: tuple[Address, ...]
    step: int = 0

    @property
    def pool(self) -> bool:
        """Whether the NAT has several public addresses and gives us now this, now that one."""
        return self.mapping in ENDPOINT_DEPENDENT and len({address[:16] for address in self.observed}) > 1

    @property
    def profile(self) -> NatProfile:
        return NatProfile(self.mapping, self.filtering, self.step)

    def __str__(self) -> str:
        if not self.observed:
            return "unknown"
        family = "IPv4" if is_v4(self.observed[0]) else "IPv6"
        seen = ", ".join(map(to_text, self.observed))
        if self.mapping is Mapping.NONE:
            return f"{family}: no translation, seen as {seen}, {_FILTERING_TEXT[self.filtering]}"
        mapping = _MAPPING_TEXT[self.mapping] + (" in a pool of addresses" if self.pool else "")
        return f"{family}: {mapping}, seen as {seen}, {_FILTERING_TEXT[self.filtering]}"


_MAPPING_TEXT = {
    Mapping.UNKNOWN: "mapping unknown",
    Mapping.ENDPOINT_INDEPENDENT: "endpoint-independent mapping",
    Mapping.SEQUENTIAL: "endpoint-dependent mapping, sequential",
    Mapping.RANDOM: "endpoint-dependent mapping, random",
}
_FILTERING_TEXT = {
    Filtering.UNKNOWN: "filtering unknown",
    Filtering.ENDPOINT_INDEPENDENT: "reachable by anybody",
    Filtering.ADDRESS_DEPENDENT: "address-dependent filtering or stricter",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "address- and port-dependent filtering",
}
