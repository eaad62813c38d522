"""The engine of a WireHub node, sans-IO: events and the time in, commands and the next deadline out."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from wh.commands import Command
from wh.events import Event, Instant, Key
from wh.randomness import Randomness
from wh.status import NodeStatus


class Mode(StrEnum):
    """What the operator says of our own reachability (`wh up ... mode M`)."""

    UNKNOWN = "unknown"  # find out
    DIRECT = "direct"  # reachable: a server without proof
    NAT = "nat"  # never a server


class Node:
    """One node of one network.

    The caller owns sockets, clock and randomness. It calls handle() with each event and tick() once
    next_deadline() has passed, and carries out the commands that they return, in order. Neither raises for
    anything that came from the network.

    key: our 32-byte public key. sign(message) -> 64-byte XEdDSA signature with our secret key;
    verify(key, message, signature) -> bool.
    """

    def __init__(
        self,
        key: Key,
        *,
        rng: Randomness,
        sign: Callable[[bytes], bytes],
        verify: Callable[[bytes, bytes, bytes], bool],
        mode: str = Mode.UNKNOWN,
    ) -> None: ...

    def handle(self, event: Event, now: Instant) -> list[Command]:
        """Take in one event."""

    def tick(self, now: Instant) -> list[Command]:
        """Run every timer that is due at now.monotonic."""

    def next_deadline(self) -> float | None:
        """Monotonic time at which tick() is wanted; None: nothing is scheduled."""

    def snapshot(self) -> NodeStatus: ...
