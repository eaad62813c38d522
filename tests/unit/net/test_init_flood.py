"""Members of a network whose addresses somebody forges, thousands of INITs a second, get their sessions.

Control channels on a virtual clock: a flood of forged INITs arrives at one, and others of the same /24 begin
sessions with it.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable
from itertools import count

import pytest

from wh.engine.commands import Reply, Send
from wh.engine.events import Event, Instant, MessageReceived, Path, SessionOpened
from wh.net.control import ControlChannel
from wh.wire.address import Address, pack
from wh.wire.messages import Ping, Pong
from whcore.datapath import ControlDatagram
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey

UNIX = 1_800_000_000.0
NAMESPACE = b"public"
SEED = 20180704
ONE_WAY_S = 0.02
RESENDS_S = (0.0, 0.25, 0.75, 1.75)  # docs/protocol.md section 7: then nothing answered
PAUSES_S = (1.0, 2.0, 5.0, 15.0)  # docs/protocol.md section 6: between rounds
MEMBERS = 15
VICTIM = pack("192.0.2.7", 62096)


class World:
    """A clock, and what happens when."""

    def __init__(self) -> None:
        self.now = Instant(1000.0, UNIX)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now.monotonic + delay_s, next(self._order), action))

    def run(self, seconds: float, done: Callable[[], bool]) -> None:
        end = self.now.monotonic + seconds
        while self._agenda and not done():
            at, _, action = heapq.heappop(self._agenda)
            if at > end:
                return
            self.now = Instant(at, UNIX + at)
            action()


class Side:
    """A control channel at an address; `hosts` says who is where."""

    def __init__(self, world: World, hosts: dict[Address, Side], address: Address) -> None:
        self.world, self.hosts, self.address = world, hosts, address
        self.secret = SecretKey.generate()
        self.opened_at: float | None = None
        hosts[address] = self
        self.channel = ControlChannel(
            ControlSessions(self.secret, NAMESPACE), self._transmit, lambda: Ping(0, 0, 0, bytes(8))
        )

    def _transmit(self, path: Path, datagram: bytes, ttl: int, source: bytes, whole: bool) -> bool:
        receiver = self.hosts.get(path.remote)
        if receiver is not None:
            self.world.after(ONE_WAY_S, lambda: receiver.receive(self.address, datagram))
        return True

    def receive(self, source: Address, datagram: bytes) -> None:
        for event in self.channel.receive(ControlDatagram(0, source, datagram), self.world.now):
            self.react(event)

    def react(self, event: Event) -> None:
        if isinstance(event, SessionOpened) and self.opened_at is None:
            self.opened_at = self.world.now.monotonic
        if isinstance(event, MessageReceived) and isinstance(event.message, Ping):
            pong = Pong(event.message.request_id, event.path.remote, 0, 0, 0, event.message.nonce)
            self.channel.reply(Reply(event.reply, pong), self.world.now)

    def begin(self, peer: bytes, rounds: int = 0) -> None:
        """PINGs as the engine sends them, until there is a session."""

        def ping() -> None:
            if self.opened_at is None:
                send = Send(peer, Path(0, VICTIM), Ping(1, 0, 0, bytes(8)))
                self.channel.send(send, self.world.now)

        for delay in RESENDS_S:
            self.world.after(delay, ping)
        if rounds < len(PAUSES_S):
            self.world.after(RESENDS_S[-1] + 1 + PAUSES_S[rounds], lambda: self._again(peer, rounds + 1))

    def _again(self, peer: bytes, rounds: int) -> None:
        if self.opened_at is None:
            self.begin(peer, rounds)


def forged(source: random.Random, victim: bytes, network: str) -> list[tuple[Address, bytes]]:
    """INITs that anybody can make, from addresses of one /24."""
    secrets = [SecretKey.generate() for _ in range(100)]
    inits = [
        ControlSessions(secret, NAMESPACE).initiate(victim, b"", pad_to=64, now_ns=0, wall_ns=int(UNIX * 1e9))
        for secret in secrets
    ]
    return [
        (pack(f"{network}.{source.randrange(1, 255)}", source.randrange(1, 65536)), init) for init in inits
    ]


@pytest.mark.parametrize("per_s", [20, 100, 195, 1000, 5000])
def test_a_flood_of_forged_inits_delays_the_sessions_of_its_network_by_a_round_trip(per_s: int) -> None:
    source = random.Random(SEED)
    world, hosts = World(), dict[Address, Side]()
    victim = Side(world, hosts, VICTIM)
    key = victim.secret.public_key
    flood = forged(source, key, "198.51.100")

    def send_forged() -> None:
        victim.receive(*source.choice(flood))
        world.after(1 / per_s, send_forged)

    send_forged()
    members = [Side(world, hosts, pack(f"198.51.100.{10 + i}", 62096)) for i in range(MEMBERS)]
    begun = {member: 2 + source.random() for member in members}  # once the network's share is used up
    for member, at in begun.items():
        world.after(at, lambda member=member: member.begin(key))
    world.run(30, lambda: all(member.opened_at is not None for member in members))

    took = sorted((member.opened_at or 1e9) - 1000 - at for member, at in begun.items())
    print(f"{per_s}/s: median {statistics.median(took):.3f} s, longest {took[-1]:.3f} s")
    assert statistics.median(took) < 0.3
    assert took[-1] < 1.0


def test_nothing_that_a_forger_is_answered_with_is_longer_than_what_it_sent() -> None:
    world, hosts = World(), dict[Address, Side]()
    victim = Side(world, hosts, VICTIM)
    answers: list[bytes] = []
    victim._transmit = lambda path, datagram, *_: not answers.append(datagram)  # type: ignore
    victim.channel._transmit = victim._transmit
    flood = forged(random.Random(SEED), victim.secret.public_key, "198.51.100")
    sent = 0
    for _ in range(20):
        for address, init in flood:
            victim.receive(address, init)
            sent += len(init)
    assert answers
    assert max(map(len, answers)) <= min(len(init) for _, init in flood)
    assert sum(map(len, answers)) < sent / 2


def test_a_neighbour_that_proves_itself_keeps_nobody_out() -> None:
    """One address of the network asks with cookies, as often as it can."""
    world, hosts = World(), dict[Address, Side]()
    victim = Side(world, hosts, VICTIM)
    key = victim.secret.public_key
    greedy = Side(world, hosts, pack("198.51.100.5", 62096))

    def ask() -> None:
        greedy.channel.reset(key)
        greedy.channel.send(Send(key, Path(0, VICTIM), Ping(1, 0, 0, bytes(8))), world.now)
        world.after(0.01, ask)

    ask()
    members = [Side(world, hosts, pack(f"198.51.100.{i}", 62096)) for i in range(10, 20)]
    for member in members:
        world.after(3, lambda member=member: member.begin(key))
    world.run(20, lambda: all(member.opened_at is not None for member in members))
    assert max((member.opened_at or 1e9) - 1003 for member in members) < 0.3
