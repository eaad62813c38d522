"""Hole punching under any order of messages and events: nothing raises, nothing grows, every attempt ends."""

from __future__ import annotations

import random

import pytest

from punch_host import RELAYS, Pair
from simnat import Dependence, Nat, Ports
from simnode import SOCKET
from wh.engine.events import MessageReceived, Path, ReplyToken, SendFailed, SocketOpened
from wh.punch.punching import ATTEMPTS_MAX
from wh.wire.address import Address, pack
from wh.wire.candidates import MAX_CANDIDATES, Candidate, NatProfile
from wh.wire.messages import Answer, Go, Message, Offer, Probe, ProbeAck

NATS = (
    Nat("203.1.113.9"),
    Nat("203.1.113.9", mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT),
    Nat("203.1.113.9", mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, ports=Ports.RANDOM),
    None,
)


class Fuzzer:
    """Makes up what peers say, mostly about few attempts and addresses, so that parts fit together."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.rng = random.Random(seed)
        self.pair = pair
        self.peers = [pair.b.key, *(self.rng.randbytes(31) + b"\x01" for _ in range(30))]
        pair.a.node.trusted |= set(self.peers)

    def address(self) -> Address:
        if self.rng.random() < 0.1:
            return self.rng.randbytes(18)
        return pack(f"203.{self.rng.randrange(1, 4)}.113.9", self.rng.randrange(1, 0x10000))

    def profile(self) -> NatProfile:
        return NatProfile(self.rng.choice((0, 1, 2, 3, 4, 9)), self.rng.randrange(5), self.rng.randrange(256))

    def message(self) -> Message:
        attempt, number = self.rng.randrange(3), self.rng.randrange(5)
        count = self.rng.randrange(MAX_CANDIDATES + 1)
        candidates = tuple(Candidate(self.address(), self.rng.randrange(4)) for _ in range(count))
        request = self.rng.choice((0, 0, 1, self.rng.randrange(1 << 32)))
        return self.rng.choice(
            (
                Offer(request, attempt, number, self.profile(), candidates),
                Answer(request, attempt, number, self.profile(), candidates),
                Go(request, attempt, number, self.rng.choice((0, 20, 0xFFFF))),
                Probe(request, attempt, self.rng.randrange(50)),
                ProbeAck(request, attempt, self.rng.randrange(50)),
            )
        )

    def path(self) -> Path:
        if self.rng.random() < 0.5:
            return Path(SOCKET, RELAYS[0], self.rng.randrange(1, 5))
        return Path(self.rng.choice((SOCKET, 8, 65_540)), self.address())

    def step(self) -> None:
        host, peer = self.pair.a, self.rng.choice(self.peers)
        match self.rng.randrange(20):
            case 0:
                host.begin_with(peer, Path(SOCKET, RELAYS[0], 1))
            case 1:
                host.node.punching.cancel(peer)
            case 2:
                host.handle(SocketOpened(self.rng.randrange(400), self.rng.choice((None, 70_000)), 1))
            case 3:
                host.handle(SendFailed(peer, self.path(), self.message()))
            case 4:
                self.pair.network.run(self.rng.choice((0.01, 0.3, 2.0)))
            case _:
                path = self.path()
                token, first = ReplyToken(peer, path, None), self.rng.random() < 0.05
                capacity = self.rng.choice((30, 100, 1166))
                host.handle(MessageReceived(peer, path, self.message(), token, first, capacity))


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_events_leaves_nothing_behind(seed: int) -> None:
    pair = Pair(NATS[seed % len(NATS)], Nat("203.2.113.9"), seed=seed, settle_s=8.0)
    fuzzer, punching = Fuzzer(pair, seed), pair.a.node.punching
    for _ in range(400):
        fuzzer.step()
        assert len(punching._attempts) <= ATTEMPTS_MAX + 1
    pair.network.run(60)
    assert not any(punching.is_running(peer) for peer in fuzzer.peers)
    assert list(pair.a.sockets) == [SOCKET]
    assert not pair.a.node.engine.sockets._waiting
