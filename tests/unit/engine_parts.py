"""Pieces that the tests of the engine's modules share."""

from __future__ import annotations

import random

from wh.engine.commands import Command, Send
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, LocalAddresses, MessageReceived, Path, ReplyToken
from wh.engine.requests import Requests
from wh.wire.address import Address, pack
from wh.wire.messages import Message

OWN_KEY = bytes(31) + b"\x01"
PEER_KEY = bytes(31) + b"\x02"
OWN_ADDRESS = pack("192.0.2.1", 62096)
PEER_ADDRESS = pack("198.51.100.2", 62096)
OTHER_ADDRESS = pack("203.0.113.3", 62096)
PATH = Path(0, PEER_ADDRESS)
OTHER_PATH = Path(0, OTHER_ADDRESS)


def at(seconds: float) -> Instant:
    return Instant(1000.0 + seconds, 1_800_000_000.0 + seconds)


def make_engine(*local: Address) -> Engine:
    engine = Engine(OWN_KEY, random.Random(1))
    engine.addressing.set_local(LocalAddresses(((0, 4), (1, 6)), local or (OWN_ADDRESS,)))
    return engine


def received(message: Message, path: Path = PATH, *, peer: Key = PEER_KEY) -> MessageReceived:
    """As it comes in a session."""
    return MessageReceived(peer, path, message, ReplyToken(peer, path, None), False, 1000)


class Driver:
    """Runs timers of an engine part and collects what it wants sent."""

    def __init__(self) -> None:
        self.engine = make_engine()
        self.requests = Requests(self.engine)
        self.log: list[tuple[float, Command]] = []

    def take(self, seconds: float) -> list[Command]:
        commands = self.engine.take_commands()
        self.log += [(round(seconds, 3), command) for command in commands]
        return commands

    def run_to(self, seconds: float) -> list[Command]:
        """Commands of all timers up to then, each timer run at its own time."""
        commands: list[Command] = []
        while (when := self.engine.timers.next_deadline()) is not None and when <= at(seconds).monotonic:
            elapsed = max(0.0, when - at(0).monotonic)
            self.engine.timers.run_due(at(elapsed))
            commands += self.take(elapsed)
        return commands

    def send_times(self) -> list[float]:
        return [seconds for seconds, command in self.log if isinstance(command, Send)]
