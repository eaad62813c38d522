"""What our NAT does, folded from what servers see of us (RFC 4787; docs/protocol.md section 6)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
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

AGREEMENT = 2
"""Networks whose word outweighs that of any one."""

ENDPOINT_DEPENDENT = frozenset({Mapping.SEQUENTIAL, Mapping.RANDOM})

OBSERVATION_LIFETIME_S = 900.0
"""Three rounds of asking."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One server's word: where our packets seem to come from. at: when it was said last; since: when first;
    changed_at: when the same network last said something else. All in monotonic seconds."""

    observed: Address
    at: float
    since: float
    changed_at: float = float("-inf")

    @property
    def wavers(self) -> bool:
        return self.at - self.changed_at < OBSERVATION_LIFETIME_S


class Heard(Enum):
    """What a word of a witness means."""

    NOTHING_NEW = auto()
    DOUBT = auto()  # it says something else than before: so far nobody else does
    MOVED = auto()  # and so do others: what was said before is void


def network_of(address: Address) -> bytes:
    """Witnesses in one /16 (IPv6: /32) count once: one operator could own them all."""
    return prefix(address, 16, 32)


class Observations:
    """What the last few witnesses saw of one socket, at most WITNESSES_MAX, one a network.

    One of them may lie, and may change its word as often as it likes: that moves nothing."""

    def __init__(self) -> None:
        self._by_network: OrderedDict[bytes, Observation] = OrderedDict()  # the oldest first

    def add(self, witness: Address, observed: Address, now: float, *, alone: bool = False) -> Heard:
        """alone: there is no other network to ask."""
        network = network_of(witness)
        former = self._by_network.pop(network, None)
        changed = former is not None and former.observed != observed
        if former is None or changed:
            word = Observation(observed, now, now, now if changed else float("-inf"))
        else:
            word = replace(former, at=now)
        self._by_network[network] = word
        if len(self._by_network) > WITNESSES_MAX:
            self._by_network.popitem(last=False)
        if not changed:
            return Heard.NOTHING_NEW
        agreeing = [each for each in self._by_network.values() if each.observed == observed]
        enough = 1 if alone else AGREEMENT
        if len(agreeing) > enough:
            return Heard.NOTHING_NEW  # back to what others have said all the time
        if len(agreeing) < enough:
            return Heard.DOUBT
        self._moved(observed, min(each.since for each in agreeing))
        return Heard.MOVED

    def _moved(self, observed: Address, since: float) -> None:
        """Who was right does not waver, and what was said before then says nothing."""
        for network, word in list(self._by_network.items()):
            if word.observed == observed:
                self._by_network[network] = replace(word, changed_at=float("-inf"))
            elif word.at < since:
                del self._by_network[network]

    def clear(self) -> None:
        self._by_network.clear()

    def expire(self, now: float) -> None:
        """Drop what is older than OBSERVATION_LIFETIME_S."""
        for network, word in list(self._by_network.items()):
            if now - word.at >= OBSERVATION_LIFETIME_S:
                del self._by_network[network]

    def addresses(self) -> list[Address]:
        """Where we were seen, most often seen first; those that only one network names only where no two
        agree: they may be somebody else's."""
        votes = self._votes().most_common()
        agreed = [address for address, count in votes if count >= AGREEMENT]
        return agreed or [address for address, _ in votes]

    def count(self, is_there: Callable[[Address], bool]) -> tuple[int, int]:
        """How many networks see us where is_there() says, and how many elsewhere."""
        words = [is_there(word.observed) for word in self._by_network.values()]
        return sum(words), len(words) - sum(words)

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
        """Who contradicts himself is heard only where no two others agree."""
        steady = Counter(word.observed for word in self._by_network.values() if not word.wavers)
        if max(steady.values(), default=0) >= AGREEMENT:
            return steady
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
