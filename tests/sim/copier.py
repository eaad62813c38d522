"""Somebody on the way between two hosts who cannot stop their datagrams, but sends copies from an address of
its own that arrive first (RFC 9000 21.5)."""

from __future__ import annotations

from typing import Any

from simnat import Nat
from simnet import SimNetwork
from wh.wire.address import Address, pack

ADDRESS = "198.51.200.66"
FASTER = 0.3
"""Its way takes this share of the true one."""


class Copier:
    """one, other: IPs, 16 bytes each, between which it copies all in both directions. What comes back to its
    copies it passes on; spoofing: with the true source address, as a NAT before the victim would want it."""

    def __init__(self, network: SimNetwork, one: bytes, other: bytes, *, spoofing: bool = False) -> None:
        self._network = network
        self._ends = {one: other, other: one}
        self._spoofing = spoofing
        self._stands_for: dict[Address, Address] = {}  # the true source -> ours
        self.copied = 0
        self.passed_on = 0
        self._honest = network._later
        network._later = self._later  # type: ignore[method-assign]

    def stop(self) -> None:
        self._network._later = self._honest  # type: ignore[method-assign]

    @property
    def ip(self) -> bytes:
        return pack(ADDRESS, 1)[:16]

    def is_ours(self, address: Address) -> bool:
        return address[:16] == self.ip

    def _later(
        self, latency_s: float, source: Address, target: Address, datagram: Any, realm: Nat | None
    ) -> None:
        if self._ends.get(source[:16]) == target[:16]:
            self.copied += 1
            self._send(self._ours_for(source), target, datagram)
        self._honest(latency_s, source, target, datagram, realm)

    def _ours_for(self, source: Address) -> Address:
        ours = self._stands_for.get(source)
        if ours is None:
            ours = self._stands_for[source] = pack(ADDRESS, 20_000 + len(self._stands_for))
            self._network.attach(ours, lambda sender, datagram: self._returned(source, sender, datagram))
        return ours

    def _returned(self, source: Address, sender: Address, datagram: Any) -> None:
        """sender answers to our copy of what source sent."""
        self.passed_on += 1
        self._send(sender if self._spoofing else self._ours_for(sender), source, datagram)

    def _send(self, source: Address, target: Address, datagram: Any) -> None:
        delay_s = FASTER * self._network.latency_s
        self._network.call_later(delay_s, lambda: self._network._deliver(source, target, datagram, None))
