"""Port mappings that gateways gave us, and which of our addresses to have a KNOCK sent to next."""

from __future__ import annotations

from collections.abc import Iterable

from wh.engine.events import PortMapping
from wh.wire.address import Address, is_v4, port_of

ATTEMPTS = 3
"""KNOCKs asked for at one address in quick succession; after that it gets its turn in the usual rounds."""

TARGETS_MAX = 32


class MappedPorts:
    """Of a gateway's word only the port is used: the address is the one that others see. So a gateway that
    names a wrong address, or one behind a further translation, does no harm, and may still be right."""

    def __init__(self) -> None:
        self._ports: dict[int, tuple[int, ...]] = {4: (), 6: ()}
        self._tcp: dict[tuple[int, int], int] = {}  # family and port of ours -> port outside
        self._asked: dict[Address, tuple[int, float]] = {}  # address -> how often a KNOCK was asked for, when

    def set(self, mappings: Iterable[PortMapping]) -> bool:
        """Whether the UDP ports are others than before."""
        mappings = tuple(mappings)
        self._tcp = {
            (4 if is_v4(each.external) else 6, each.internal_port): port_of(each.external)
            for each in mappings
            if each.transport == "tcp"
        }
        before = self._ports
        udp = [mapping.external for mapping in mappings if mapping.transport == "udp"]
        self._ports = {
            family: tuple(sorted({port_of(each) for each in udp if is_v4(each) == (family == 4)}))
            for family in (4, 6)
        }
        if before != self._ports:
            self._asked.clear()
        return before != self._ports

    def restart(self) -> None:
        self._asked.clear()

    def addresses(self, observed: Iterable[Address]) -> list[Address]:
        """Where the mappings should be reached, given how others see us."""
        found = {
            address[:16] + port.to_bytes(2, "big"): None
            for address in observed
            for port in self._ports[4 if is_v4(address) else 6]
        }
        return list(found)

    def has(self, address: Address) -> bool:
        return port_of(address) in self._ports[4 if is_v4(address) else 6]

    def outer_tcp_port(self, port: int, family: int) -> int:
        """Where others reach a TCP port of ours, as far as gateways map it; nobody can prove it."""
        return self._tcp.get((family, port), port)

    def next_target(self, targets: Iterable[Address], now: float) -> Address | None:
        """Of these the one that a KNOCK was asked for the fewest times, then the longest ago; counts as
        asked. now: monotonic seconds."""
        chosen = min(targets, key=lambda target: self._asked.get(target, (0, 0.0)), default=None)
        if chosen is not None:
            count, _ = self._asked.pop(chosen, (0, 0.0))
            self._asked[chosen] = count + 1, now
            while len(self._asked) > TARGETS_MAX:
                del self._asked[next(iter(self._asked))]
        return chosen

    def wants_more(self, unproved: Iterable[Address]) -> bool:
        """Whether one of these mapped addresses should not wait for the next round."""
        return any(self._asked.get(address, (0, 0.0))[0] < ATTEMPTS for address in unproved)
