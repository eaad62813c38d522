"""What the parts of the engine share: commands, timers, randomness, our addresses, sockets, known nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from wh.engine.addressing import Addressing
from wh.engine.commands import Command
from wh.engine.events import Key
from wh.engine.extra_sockets import ExtraSockets
from wh.engine.peers import Peers
from wh.engine.randomness import Randomness
from wh.engine.timers import Timers
from wh.wire.fields import NONCE_LEN
from wh.wire.messages import Capability, Ping, PingWant


@dataclass(slots=True)
class Engine:
    key: Key
    rng: Randomness
    instance: int = 0  # which run of the node this is; 0: it does not say
    takes_ipv6: bool = True  # this host, out of the overlay
    timers: Timers = field(default_factory=Timers)
    peers: Peers = field(default_factory=Peers)
    addressing: Addressing = field(default_factory=Addressing)
    commands: list[Command] = field(default_factory=list)
    sockets: ExtraSockets = field(init=False)

    def __post_init__(self) -> None:
        self.sockets = ExtraSockets(self.emit)

    def emit(self, command: Command) -> None:
        self.commands.append(command)

    def take_commands(self) -> list[Command]:
        commands, self.commands = self.commands, []
        return commands

    def nonce(self) -> bytes:
        return self.rng.randbytes(NONCE_LEN)

    def capabilities(self, offered: int = 0) -> int:
        """What a PING or PONG says of us."""
        return offered if self.takes_ipv6 else offered | Capability.NO_IPV6

    def echo(self, offered: int = 0) -> Ping:
        """A PING that wants its PONG and nothing else."""
        return Ping(0, PingWant.ECHO, 0, self.nonce(), self.capabilities(offered), self.instance)
