"""One trusted peer, with all around it under the test's control."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine_parts import (
    OTHER_PATH,
    PATH,
    PEER_ADDRESS,
    PEER_KEY,
    Driver,
    at,
    received,
)

from wh.engine.commands import Command, Send, SetDataPaths
from wh.engine.events import Instant, Key, Path
from wh.paths.trusted import TrustedPeer
from wh.wire.candidates import Candidate
from wh.wire.messages import Challenge, ChallengeWant, Message, Ping, Pong, Probe, ProbeAck, Response
from wh.wire.records import Record, Relay


class FakeSearch:
    def __init__(self, found: Callable[[Record, Instant], None], done: Callable[[Instant], None]) -> None:
        self.found, self.done = found, done
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeRelays:
    """What was asked of it, in order."""

    def __init__(self) -> None:
        self.opened: list[tuple[Relay, ...]] = []
        self.closed: list[Path] = []
        self.checked: list[Key] = []
        self.in_use = False

    def open(self, peer: Key, relays: Sequence[Relay], now: Instant) -> None:
        self.opened.append(tuple(relays))

    def close(self, path: Path, now: Instant) -> None:
        self.closed.append(path)

    def wanted(self, peer: Key, yes: bool, now: Instant) -> None:
        self.in_use = yes

    def check(self, relay: Key, now: Instant) -> None:
        self.checked.append(relay)


class FakePuncher:
    def __init__(self) -> None:
        self.begun: list[Path] = []

    def begin(self, peer: Key, channel: Path, now: Instant) -> None:
        self.begun.append(channel)

    def cancel(self, peer: Key) -> None:
        """An attempt that does not run is cancelled too."""

    def why_not(self, peer: Key) -> str:
        return "both NATs choose ports at random"


class Scene(Driver):
    """One trusted peer, with a finder and a reachability under the test's control."""

    def __init__(self) -> None:
        super().__init__()
        self.proved = False
        self.searches: list[tuple[float, FakeSearch]] = []
        self.relays = FakeRelays()
        self.puncher = FakePuncher()
        self.peer = TrustedPeer(PEER_KEY, self.engine, self.requests, self, self, self.relays, self.puncher)
        self.now = 0.0

    def find_record(
        self,
        key: Key,
        now: Instant,
        *,
        have_sequence: int,
        found: Callable[[Record, Instant], None],
        done: Callable[[Instant], None],
    ) -> FakeSearch:
        assert key == PEER_KEY
        search = FakeSearch(found, done)
        self.searches.append((round(now.monotonic - at(0).monotonic, 3), search))
        return search

    def do(self, action: Callable[[Instant], None]) -> list[Command]:
        action(at(self.now))
        return self.take(self.now)

    def wait(self, seconds: float) -> list[Command]:
        self.now += seconds
        return self.run_to(self.now)

    def hear(self, message: Message, path: Path = PATH) -> list[Command]:
        """As Node does with a message in a session."""
        known = self.engine.peers.obtain(PEER_KEY)
        known.session, known.heard_at, known.unanswered = True, at(self.now).monotonic, 0
        event = received(message, path)

        def handle(now: Instant) -> None:
            if not self.requests.take_answer(event, now):
                self.peer.heard(event, now)

        return self.do(handle)

    def publish(self, *addresses: bytes, sequence: int = 1) -> list[Command]:
        record = Record(PEER_KEY, sequence, 0, candidates=tuple(map(Candidate, addresses)))
        search = self.searches[-1][1]
        commands = self.do(lambda now: search.found(record, now))
        self.do(search.done)
        return commands

    def connect(self) -> list[Command]:
        """Up to a direct path on PATH."""
        self.do(self.peer.start)
        (ping,) = sends(self.publish(PEER_ADDRESS))
        (probe,) = sends(self.hear(pong_to(ping)))
        return self.hear(acknowledge(probe))


def sends(commands: list[Command]) -> list[Send]:
    """Without the PROBEs that measure a path's MTU."""
    return [command for command in commands if isinstance(command, Send) and not is_mtu_probe(command)]


def is_mtu_probe(command: Command) -> bool:
    return isinstance(command, Send) and isinstance(command.message, Probe) and command.pad_to > 0


def told(commands: list[Command]) -> list[tuple[Path, ...]]:
    """The paths that the data plane was told to use, each time."""
    return [tuple(r.path for r in each.routes) for each in commands if isinstance(each, SetDataPaths)]


def pong_to(send: Send) -> Pong:
    assert isinstance(send.message, Ping)
    return Pong(send.message.request_id, PEER_ADDRESS, 0, 0, 0)


def acknowledge(send: Send) -> ProbeAck:
    assert isinstance(send.message, Probe)
    return ProbeAck(send.message.request_id, send.message.attempt, send.message.number)


def respond(send: Send) -> Response:
    assert isinstance(send.message, Challenge)
    return Response(send.message.request_id, send.message.nonce)


PATIENCE_S = 0.16


def challenged(commands: list[Command]) -> tuple[Send, Send]:
    """Where the peer was, and where its packets come from now."""
    old, new = sends(commands)
    assert isinstance(old.message, Challenge)
    assert isinstance(new.message, Challenge)
    assert (old.path, new.path) == (PATH, OTHER_PATH)
    assert (old.message.want, new.message.want) == (ChallengeWant.DATA, ChallengeWant.ANY)
    return old, new
