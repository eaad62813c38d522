"""A server that this node has talked to, with what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from wh.engine.rtt import RttEstimator
from wh.wire.address import Address
from wh.wire.messages import Contact
from wh.wire.public_key import Key

MAX_FAILURES = 3
"""Requests in a row without an answer after which a contact counts as dead (docs/protocol.md section 5)."""


@dataclass(slots=True, eq=False)
class TrackedContact:
    """position: the key as a number. Times are monotonic seconds. last_seen: of its last message. failures:
    requests in a row without an answer. since: when it was first seen. checked_at: when it last got a PING
    for want of other news. source: who named it; None: several did, or it came by itself."""

    key: Key
    address: Address
    flags: int
    last_seen: float
    failures: int = 0
    since: float = field(init=False)
    checked_at: float = float("-inf")
    source: Key | None = None
    rtt: RttEstimator = field(default_factory=RttEstimator)
    position: int = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.last_seen
        self.position = int.from_bytes(self.key, "big")

    @property
    def dead(self) -> bool:
        return self.failures >= MAX_FAILURES

    def to_wire(self) -> Contact:
        return Contact(self.key, self.address, self.flags)
