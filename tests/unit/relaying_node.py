"""A relay in a client's and another client's view: what it answers, sends, and has the data plane do."""

from __future__ import annotations

from engine_parts import Driver, at, received

from wh.config.model import Network, Peer, PeerKind, RelayPolicy
from wh.engine.commands import (
    Command,
    OpenRelay,
    Reply,
    Send,
)
from wh.engine.events import Key, Path, RelayOpened
from wh.relay.service import RelayService
from wh.wire.address import pack
from wh.wire.messages import (
    Close,
    Message,
    Open,
    Opened,
    RelayStatus,
    Reserve,
    Reserved,
)

MEMBERS = [bytes((0x11, number)) + bytes(30) for number in range(2)]
POLICY = RelayPolicy(rate=1_000_000, total_rate=10_000_000, day_quota=10**11)
NETWORK = Network(peers=tuple(Peer(PeerKind.TRUST, key) for key in MEMBERS), relay=POLICY)
LEGS = iter(range(1, 10**6))
NOWHERE = bytes(18)


def stranger(number: int) -> Key:
    return bytes((0x22, number & 0xFF, number >> 8)) + bytes(29)


def network_path(number: int, port: int = 1000) -> Path:
    """Each number is a /16 of its own."""
    return Path(0, pack(f"{20 + number // 200}.{number % 200 + 1}.0.1", port))


class Relay(Driver):
    """The service with a forwarder that has room for everybody, and clients wherever they prove to be."""

    def __init__(self, network: Network = NETWORK) -> None:
        super().__init__()
        self.reachable = True
        self.room = True
        self.service = RelayService(self.engine, self.requests, lambda: self.reachable)
        self.now = 0.0
        self.service.set_network(network, at(0))
        self.setup = self.take(0)

    def load(self, network: Network) -> list[Command]:
        self.service.set_network(network, at(self.now))
        return self.settle()

    def be(self, client: Key, path: Path) -> None:
        self.requests.validated(self.engine.peers.obtain(client), path, at(self.now))

    def hear(self, client: Key, message: Message, path: Path) -> list[Command]:
        """As Node does, and the data plane that opens what it is told to."""
        event = received(message, path, peer=client)
        self.engine.peers.obtain(client).session = True
        if self.requests.take_answer(event, at(self.now)):
            pass
        elif isinstance(message, Close):
            self.service.closed_by(event, message, at(self.now))
        else:
            self.service.handle(event, at(self.now))
        return self.settle()

    def settle(self) -> list[Command]:
        commands = self.take(self.now)
        for command in list(commands):
            if isinstance(command, OpenRelay):
                legs = (next(LEGS), next(LEGS)) if self.room else None
                self.service.opened(RelayOpened(command.request, legs), at(self.now))
                commands += self.take(self.now)
        return commands

    def wait(self, seconds: float) -> list[Command]:
        self.now += seconds
        return self.run_to(self.now)

    def reserve(self, client: Key, path: Path, ttl: int = 3600) -> Reserved:
        self.be(client, path)
        (reply,) = replies(self.hear(client, Reserve(5, ttl), path))
        assert isinstance(reply, Reserved)
        assert reply.request_id == 5
        return reply

    def open(self, opener: Key, path: Path, target: Key) -> tuple[Opened, list[Command]]:
        self.be(opener, path)
        commands = self.hear(opener, Open(6, target), path)
        (reply,) = replies(commands)
        assert isinstance(reply, Opened)
        assert reply.request_id == 6
        return reply, commands

    def agree(self, target: Key, path: Path, opener: Key) -> tuple[Opened, list[Command]]:
        """The target asks for the channel that was opened to it."""
        return self.open(target, path, opener)

    def channel(self, opener: Key, path: Path, target: Key) -> tuple[int, int]:
        """Opened; returns the legs of opener and target."""
        reply, commands = self.open(opener, path, target)
        assert reply.status == RelayStatus.OK
        ((_, offer),) = sent(commands)
        assert isinstance(offer, Opened)
        return reply.channel, offer.channel


def replies(commands: list[Command]) -> list[Message]:
    return [command.message for command in commands if isinstance(command, Reply)]


def sent(commands: list[Command]) -> list[tuple[Key, Message]]:
    return [(command.peer, command.message) for command in commands if isinstance(command, Send)]


def closed(commands: list[Command]) -> dict[Key, Close]:
    return {peer: message for peer, message in sent(commands) if isinstance(message, Close)}


A, B, C = stranger(1), stranger(2), stranger(3)
PATH_A, PATH_B, PATH_C = network_path(1), network_path(2), network_path(3)
