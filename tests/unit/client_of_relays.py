"""A client of relays, behind a NAT, and relays that answer at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine_parts import Driver, at, received

from wh.config.model import Network, Peer, PeerKind
from wh.dht.kademlia import Kademlia
from wh.engine.commands import Command, ResetSession, Send
from wh.engine.events import Instant, Key, Path
from wh.relay.choosing import Channel
from wh.relay.reserver import (
    RelayClient,
)
from wh.wire.address import Address, pack
from wh.wire.messages import (
    Close,
    Contact,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    RelayStatus,
    Reserve,
    Reserved,
)
from wh.wire.records import Relay

PEER, OTHER_PEER = bytes((0x11, 1)) + bytes(30), bytes((0x11, 2)) + bytes(30)
STRANGER = bytes((0x12,)) + bytes(31)
MEMBER_RELAY = bytes((0x11, 3)) + bytes(30)
NETWORK = Network(peers=tuple(Peer(PeerKind.TRUST, key) for key in (PEER, OTHER_PEER, MEMBER_RELAY)))
SEEN_AT = pack("203.0.113.9", 40001)


def relay_key(number: int) -> Key:
    return bytes((0x22, number)) + bytes(30)


def relay_address(number: int) -> Address:
    """Each in a /16 of its own."""
    return pack(f"20.{number + 1}.0.1", 62096)


@dataclass
class FakeServer:
    """A relay that answers at once."""

    address: Address
    observed: Address = SEEN_AT
    silent: bool = False
    capabilities: int = 3
    reserve: Callable[[int], Reserved] = lambda request: Reserved(request, RelayStatus.OK, 3600)
    open_status: int = RelayStatus.OK
    legs: dict[Key, int] = field(default_factory=dict)  # peer -> our leg
    next_leg: int = 100
    heard: list[Message] = field(default_factory=list)

    def answer(self, message: Message) -> Message | None:
        self.heard.append(message)
        match message:
            case _ if self.silent:
                return None
            case Ping(request_id=request, nonce=nonce):
                return Pong(request, self.observed, self.capabilities, 0, 0, nonce)
            case Reserve(request_id=request):
                return self.reserve(request)
            case Open(request_id=request, peer=peer) if self.open_status == RelayStatus.OK:
                return Opened(request, RelayStatus.OK, self.leg_to(peer), peer, SEEN_AT)
            case Open(request_id=request):
                return Opened(request, self.open_status)
        return None

    def leg_to(self, peer: Key) -> int:
        if peer not in self.legs:
            self.next_leg += 1
            self.legs[peer] = self.next_leg
        return self.legs[peer]

    def asked(self, kind: type[Message]) -> int:
        return sum(isinstance(message, kind) for message in self.heard)


class Scene(Driver):
    """A client behind a NAT, and relays in its routing table."""

    def __init__(self, relays: int = 5, network: Network = NETWORK) -> None:
        super().__init__()
        self.proved = False
        self.welcome = False
        self.translated: bool | None = True
        self.servers: dict[Key, FakeServer] = {}
        self.events: list[tuple[object, ...]] = []
        self.short_at: list[float] = []
        self.kademlia = Kademlia.of(self.engine, lambda message: bytes(64), lambda *arguments: True)
        self.client = RelayClient(
            self.engine,
            self.requests,
            self.kademlia,
            self,
            opened=lambda channel, now: self.events.append(("opened", channel)),
            closed=lambda peer, path, now: self.events.append(("closed", peer, path)),
            failed=lambda peer, now: self.events.append(("failed", peer)),
            changed=lambda now: self.events.append(("changed",)),
            short=lambda now: self.short_at.append(now.monotonic - at(0).monotonic),
            welcome=lambda now: self.welcome,
        )
        self.now = 0.0
        for number in range(relays):
            self.add_server(relay_key(number), relay_address(number), srtt=0.01 * (number + 1))
        self.do(lambda now: self.client.set_network(network, now))

    def add_server(self, key: Key, address: Address, srtt: float | None = None, flags: int = 3) -> FakeServer:
        self.servers[key] = FakeServer(address)
        self.kademlia.table.add(Contact(key, address, flags), at(self.now).monotonic)
        contact = self.kademlia.table.get(key)
        if contact is not None:
            contact.rtt = self.engine.peers.obtain(key).round_trip
            if srtt is not None:
                contact.rtt.add_sample(srtt)
        return self.servers[key]

    def server(self, number: int) -> FakeServer:
        return self.servers[relay_key(number)]

    def do(self, action: Callable[[Instant], None]) -> list[Command]:
        action(at(self.now))
        return self.settle(self.take(self.now))

    def settle(self, commands: list[Command]) -> list[Command]:
        """Let the servers answer what was sent, and what that leads to."""
        done: list[Command] = []
        while commands:
            done += commands
            for command in commands:
                self._carry_out(command)
            commands = self.take(self.now)
        return done

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, ResetSession):
            self.engine.peers.obtain(command.peer).session_lost()
        if not isinstance(command, Send):
            return
        server = self.servers[command.peer]
        answer = server.answer(command.message) if command.path.remote == server.address else None
        if answer is not None:
            self._session(command.peer)
            event = received(answer, command.path, peer=command.peer)
            self.requests.take_answer(event, at(self.now))

    def _session(self, key: Key) -> None:
        peer = self.engine.peers.obtain(key)
        peer.unanswered = 0
        if not peer.session:
            peer.session = True
            self.client.session_opened(key, at(self.now))

    def hear(self, key: Key, message: Message, path: Path | None = None) -> list[Command]:
        event = received(message, path or Path(0, self.servers[key].address), peer=key)
        if isinstance(message, Opened):
            return self.do(lambda now: self.client.offered(event, message, now))
        assert isinstance(message, Close)
        return self.do(lambda now: self.client.closed_by(event, message, now))

    def wait(self, seconds: float) -> None:
        """Timers run at their times, and servers answer."""
        end = self.now + seconds
        while (when := self.engine.timers.next_deadline()) is not None and when <= at(end).monotonic:
            self.now = max(self.now, when - at(0).monotonic + 1e-9)
            self.engine.timers.run_due(at(self.now))
            self.settle(self.take(self.now))
        self.now = end

    def held(self) -> list[Key]:
        return [relay.key for relay in self.client.relays]

    def opened(self) -> list[Channel]:
        return [event[1] for event in self.events if event[0] == "opened"]  # type: ignore[misc]

    def open(self, *numbers: int, peer: Key = PEER, rtt_ms: int = 10) -> None:
        relays = [Relay(relay_key(number), relay_address(number), rtt_ms) for number in numbers]
        self.do(lambda now: self.client.open(peer, relays, now))

    def offer(self, number: int, peer: Key = PEER, leg: int = 77) -> list[Command]:
        """As a relay does, which tells no address before both have asked."""
        self.server(number).legs[peer] = leg
        return self.hear(relay_key(number), Opened(0, RelayStatus.OK, leg, peer))
