"""Servers that lie, for attacks in the simulation, and a meter of what they make others send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from simnet import SimNetwork
from simnode import Datagram, SimNode, make_key
from wh.engine.commands import Reply
from wh.wire import messages as wire
from wh.wire.address import Address, pack, prefix

HEADERS_LEN = 28
DATA_OVERHEAD = 32
VICTIM_NETWORK = prefix(pack("203.0.113.1", 1), 24, 48)

Invent = Callable[[bytes], Sequence[wire.Contact]]
"""target of a FIND -> contacts"""


def victim(number: int) -> Address:
    return pack(f"203.0.113.{1 + number % 250}", 1024 + number % 60_000)


def near(target: bytes, network: SimNetwork) -> bytes:
    """A key nearer to target than anybody honest."""
    return target[:8] + network.rng.randbytes(24)


def size_of(datagram: Datagram) -> int:
    """On the wire, with IPv4 and UDP headers."""
    return datagram.size + HEADERS_LEN + (DATA_OVERHEAD if datagram.kind == "data" else 0)


@dataclass
class Meter:
    """sent: bytes that came to the victims' network. other: to addresses where nobody is. spent: bytes of the
    liars' answers."""

    network: SimNetwork
    liars: list[SimNode]
    sent: int = 0
    other: int = 0
    spent: int = 0
    targets: set[Address] = field(default_factory=set)

    def __post_init__(self) -> None:
        send, addresses = self.network.send, {liar.address for liar in self.liars}

        def metered(source: Address, target: Address, datagram: Datagram, **how: object) -> None:
            if source in addresses and datagram.kind in ("data", "resp"):
                self.spent += size_of(datagram)
            elif target.startswith(VICTIM_NETWORK):
                self.sent += size_of(datagram)
                self.targets.add(target)
            elif (0, target) not in self.network._receivers:
                self.other += size_of(datagram)
            send(source, target, datagram, **how)  # type: ignore[arg-type]

        self.network.send = metered  # type: ignore[method-assign]

    def reset(self) -> None:
        self.sent = self.other = self.spent = 0
        self.targets.clear()


def make_nodes_liar(server: SimNode, invent: Invent) -> None:
    """Every NODES names what invent() says, as many as fit."""
    honest_reply, received = server._reply, server.received

    def lie(reply: Reply) -> None:
        message = reply.message
        if isinstance(message, wire.Nodes):
            asked = next(each.message for each in reversed(received) if isinstance(each.message, wire.Find))
            contacts = tuple(invent(asked.key))[: wire.MAX_CONTACTS]
            reply = Reply(reply.to, wire.Nodes(message.request_id, message.token, contacts))
        honest_reply(reply)

    server._reply = lie  # type: ignore[method-assign]


def make_witness_liar(server: SimNode, observed: Callable[[], Address | None]) -> None:
    """Every PONG says that the other is seen there; None: the truth."""
    honest_reply = server._reply

    def lie(reply: Reply) -> None:
        seen = observed()
        if isinstance(reply.message, wire.Pong) and seen is not None:
            reply = Reply(reply.to, replace(reply.message, observed=seen))
        honest_reply(reply)

    server._reply = lie  # type: ignore[method-assign]


def inventor(network: SimNetwork) -> Invent:
    """New keys of the victims' network each time."""
    return lambda target: [
        wire.Contact(near(target, network), victim(network.rng.randrange(10_000)), 1) for _ in range(16)
    ]


def replayer(network: SimNetwork) -> Invent:
    """The same keys of the victims' network each time, whatever is asked."""
    contacts = [wire.Contact(make_key(network.rng), victim(number), 1) for number in range(16)]
    return lambda target: contacts


def withholder(network: SimNetwork) -> Invent:
    """One victim at a time: the fewest bytes that name one."""
    return lambda target: [wire.Contact(near(target, network), victim(network.rng.randrange(10_000)), 1)]


def slanderer(network: SimNetwork, servers: Sequence[SimNode]) -> Invent:
    """Contradicts itself and others: honest servers' keys at ever other addresses of the victims."""
    return lambda target: [
        wire.Contact(server.key, victim(network.rng.randrange(10_000)), 1)
        for server in network.rng.sample(list(servers), min(16, len(servers)))
    ]


def squatter(network: SimNetwork, servers: Sequence[SimNode]) -> Invent:
    """Invented keys at an honest server's very address: it is the victim."""
    return lambda target: [wire.Contact(near(target, network), servers[0].address, 1) for _ in range(16)]
