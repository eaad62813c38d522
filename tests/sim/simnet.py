"""A deterministic Internet: virtual time, latency, loss, hosts with addresses, NATs in front of them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wh.events import Instant
from wh.wire.address import Address, pack

UNIX_START = 1_800_000_000.0
MONOTONIC_START = 1000.0

Receiver = Callable[[Address, Any], None]
"""(source, datagram)"""


FILTER_LIFETIME_S = 300.0


@dataclass
class Nat:
    """A translator with endpoint-independent mapping. open_to_all: also endpoint-independent filtering; else
    address- and port-dependent (RFC 4787 5), open for five minutes after the last packet out. Mappings
    stay."""

    public_ip: str
    open_to_all: bool = False
    mappings: dict[Address, Address] = field(default_factory=dict)  # inside -> outside
    contacted: dict[tuple[Address, Address], float] = field(default_factory=dict)  # outside, remote -> when
    next_port: int = 40_000

    def outbound(self, inside: Address, remote: Address, time: float) -> Address:
        if inside not in self.mappings:
            self.next_port += 1
            self.mappings[inside] = pack(self.public_ip, self.next_port)
        outside = self.mappings[inside]
        self.contacted[outside, remote] = time
        return outside

    def inbound(self, outside: Address, remote: Address, time: float) -> Address | None:
        contacted_at = self.contacted.get((outside, remote), float("-inf"))
        if not self.open_to_all and time - contacted_at > FILTER_LIFETIME_S:
            return None
        return next((inside for inside, mapped in self.mappings.items() if mapped == outside), None)

    def rebind(self) -> None:
        """Forget every mapping, as a router does that restarts."""
        self.mappings.clear()
        self.contacted.clear()


class SimNetwork:
    """latency_s: one way, the mean; it varies by a fifth. loss: share of datagrams, 0 to 1."""

    def __init__(self, seed: int, *, latency_s: float = 0.03, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.latency_s = latency_s
        self.loss = loss
        self.time = 0.0
        self.sent = 0
        self.dropped_if: Callable[[Address, Address], bool] = lambda source, target: False
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._receivers: dict[Address, Receiver] = {}
        self._nat_of: dict[Address, Nat] = {}  # inside address -> its NAT
        self._nats: dict[bytes, Nat] = {}  # public IP -> NAT

    @property
    def now(self) -> Instant:
        return Instant(MONOTONIC_START + self.time, UNIX_START + self.time)

    def attach(self, address: Address, receive: Receiver, nat: Nat | None = None) -> None:
        self._receivers[address] = receive
        if nat is not None:
            self._nat_of[address] = nat
            self._nats[pack(nat.public_ip, 0)[:16]] = nat

    def detach(self, address: Address) -> None:
        self._receivers.pop(address, None)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.time + max(0.0, delay), self._order, callback))

    def send(self, source: Address, target: Address, datagram: Any) -> None:
        self.sent += 1
        nat = self._nat_of.get(source)
        if nat is not None:
            source = nat.outbound(source, target, self.time)
        if self.rng.random() < self.loss or self.dropped_if(source, target):
            return
        delay = self.latency_s * self.rng.uniform(0.8, 1.2)
        self.call_later(delay, lambda: self._deliver(source, target, datagram))

    def _deliver(self, source: Address, target: Address, datagram: Any) -> None:
        nat = self._nats.get(target[:16])
        inside = nat.inbound(target, source, self.time) if nat is not None else target
        receive = self._receivers.get(inside) if inside is not None else None
        if receive is not None:
            receive(source, datagram)

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._heap and self._heap[0][0] <= end:
            self.time, _, callback = heapq.heappop(self._heap)
            callback()
        self.time = end

    def run_until(self, condition: Callable[[], bool], seconds: float, step: float = 0.01) -> float:
        """Run until condition holds; returns the seconds that took. Fails after `seconds`."""
        begun = self.time
        while not condition():
            assert self.time - begun < seconds, f"not within {seconds} simulated seconds"
            self.run(step)
        return self.time - begun

    def public_address(self, port: int = 62096) -> Address:
        """An unused address in a random network."""
        while True:
            octets = (self.rng.randrange(1, 200), *(self.rng.randrange(1, 255) for _ in range(3)))
            if octets[0] in (10, 100, 127, 169, 172, 192):
                continue
            address = pack(".".join(map(str, octets)), port)
            if address not in self._receivers:
                return address
