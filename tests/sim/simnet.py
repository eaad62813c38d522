"""A deterministic Internet: virtual time, latency, loss, hosts with addresses, NATs in front of them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from simnat import Nat
from wh.engine.events import Instant
from wh.wire.address import Address, pack

UNIX_START = 1_800_000_000.0
MONOTONIC_START = 1000.0

Receiver = Callable[[Address, Any], None]
"""(source, datagram)"""


CORE_HOPS = 6
"""Routers between any two networks, beside the NATs; SimNetwork.core_hops may be another number."""

LAN_LATENCY_S = 0.0005


class SimNetwork:
    """latency_s: one way, the mean; it varies by a fifth. loss: share of datagrams, 0 to 1."""

    def __init__(self, seed: int, *, latency_s: float = 0.03, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.latency_s = latency_s
        self.loss = loss
        self.time = 0.0
        self.sent = 0
        self.core_hops = CORE_HOPS
        self.channel_drops: Callable[[Any], bool] = lambda datagram: False
        self.dropped_if: Callable[[Address, Address], bool] = lambda source, target: False
        self.tcp_servers: dict[Address, Any] = {}  # IP address and TCP port -> whoever listens there
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._receivers: dict[tuple[int, Address], Receiver] = {}  # realm, address
        self._nat_of: dict[Address, Nat] = {}  # inside address -> its NAT
        self._nats: dict[tuple[int, bytes], Nat] = {}  # realm, public IP -> NAT
        self.channels: dict[tuple[Address, int], Callable[[Any], None]] = {}
        self.delivered = 0
        self.received_kept: int | None = None  # events that each node keeps; None: all
        self._log: Any = None

    def keep_log(self) -> None:
        """From now on each datagram that arrives goes into the digest."""
        self._log = blake2b(digest_size=16)

    @property
    def log_digest(self) -> str:
        """Equal for equal runs: when what arrived where."""
        return str(self._log.hexdigest())

    @property
    def now(self) -> Instant:
        return Instant(MONOTONIC_START + self.time, UNIX_START + self.time)

    def attach(self, address: Address, receive: Receiver, nat: Nat | None = None) -> None:
        self._receivers[_realm(nat), address] = receive
        if nat is not None:
            self._nat_of[address] = nat
            self._add_nat(nat)

    def detach(self, address: Address, nat: Nat | None = None) -> None:
        self._receivers.pop((_realm(nat), address), None)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.time + max(0.0, delay), self._order, callback))

    def send(
        self,
        source: Address,
        target: Address,
        datagram: Any,
        *,
        nat: Nat | None = None,
        ttl: int = 64,
    ) -> None:
        """nat: what the sender is behind; by default the last one that an address like `source` came with."""
        self.sent += 1
        nat = nat or self._nat_of.get(source)
        while nat is not None:
            if (_realm(nat), target) in self._receivers:
                self._later(LAN_LATENCY_S, source, target, datagram, nat)
                return
            ttl -= 1
            if ttl <= 0:
                return
            source = nat.outbound(source, target, self.time)
            if self._nats.get((_realm(nat.outer), target[:16])) is nat:
                if nat.hairpin:
                    self._later(2 * LAN_LATENCY_S, source, target, datagram, nat.outer)
                return
            nat = nat.outer
        if ttl > self.core_hops:
            self._later(self.latency_s, source, target, datagram, None)

    def send_through_channel(self, relay: Address, channel: int, datagram: Any) -> None:
        """To whoever is at the other end: two ways through the core, and no NAT matters."""
        deliver = self.channels.get((relay, channel))
        self.sent += 1
        lost = self.rng.random() < self.loss or self.channel_drops(datagram)
        if deliver is not None and not lost:
            delay = 2 * self.latency_s * self.rng.uniform(0.9, 1.1)
            self.call_later(delay, lambda: deliver(datagram))

    def _add_nat(self, nat: Nat) -> None:
        for public_ip in nat.public_ips:
            self._nats[_realm(nat.outer), pack(public_ip, 0)[:16]] = nat
        if nat.outer is not None:
            self._add_nat(nat.outer)

    def _later(
        self, latency_s: float, source: Address, target: Address, datagram: Any, realm: Nat | None
    ) -> None:
        if self.rng.random() < self.loss or self.dropped_if(source, target):
            return
        delay = latency_s * self.rng.uniform(0.8, 1.2)
        self.call_later(delay, lambda: self._deliver(source, target, datagram, realm))

    def _deliver(self, source: Address, target: Address, datagram: Any, realm: Nat | None) -> None:
        """In the network behind `realm`, or the public one, and through further NATs inwards."""
        while (nat := self._nats.get((_realm(realm), target[:16]))) is not None:
            inside = nat.inbound(target, source, self.time)
            if inside is None:
                return
            target, realm = inside, nat
        receive = self._receivers.get((_realm(realm), target))
        if receive is not None:
            self.delivered += 1
            if self._log is not None:
                self._log.update(b"%.9f" % self.time + source + target + datagram.payload)
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
            if (_realm(None), address) not in self._receivers:
                return address


def _realm(nat: Nat | None) -> int:
    """Names the network behind a NAT; 0: the public one. Private addresses may occur in many of them."""
    return id(nat) if nat is not None else 0
