"""What is remembered of each node that we talk with, trusted or not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from wh.events import Instant, Key, Path
from wh.rtt import RttEstimator

STRANGERS_MAX = 2048
VALIDATED_PATHS_MAX = 8
VALIDATION_LIFETIME_S = 600.0
"""As long as an idle control session (docs/protocol.md section 2)."""

UNANSWERED_MAX = 2
"""Requests in a session that may stay unanswered before a new INIT (docs/protocol.md section 2)."""


class Peer:
    """One node: its control session, as far as we know of one, its round trip, its validated paths."""

    __slots__ = ("heard_at", "key", "round_trip", "session", "tcp_port", "unanswered", "validated")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.session = False
        self.unanswered = 0
        self.heard_at: float | None = None  # monotonic
        self.round_trip = RttEstimator()
        self.tcp_port = 0  # where it said that it listens besides; 0: nowhere
        self.validated: OrderedDict[Path, float] = OrderedDict()  # path -> when, the newest last

    def validate(self, path: Path, now: Instant) -> None:
        self.validated[path] = now.monotonic
        self.validated.move_to_end(path)
        if len(self.validated) > VALIDATED_PATHS_MAX:
            self.validated.popitem(last=False)

    def is_validated(self, path: Path, now: Instant, lifetime_s: float = VALIDATION_LIFETIME_S) -> bool:
        at = self.validated.get(path)
        return at is not None and now.monotonic - at < lifetime_s

    def invalidate(self, path: Path) -> None:
        self.validated.pop(path, None)

    @property
    def last_path(self) -> Path | None:
        """The path that was validated last, however long ago."""
        return next(reversed(self.validated), None)

    @property
    def last_direct_path(self) -> Path | None:
        """The same, of those that lead to the peer itself."""
        return next((path for path in reversed(self.validated) if not path.channel), None)

    def session_lost(self) -> None:
        self.session = False
        self.unanswered = 0


class Peers:
    """All of them by key. Strangers are forgotten when there are too many, the longest silent one first."""

    def __init__(self, strangers_max: int = STRANGERS_MAX) -> None:
        self._strangers_max = strangers_max
        self._strangers: OrderedDict[Key, Peer] = OrderedDict()
        self._pinned: dict[Key, Peer] = {}

    def __len__(self) -> int:
        return len(self._strangers) + len(self._pinned)

    def get(self, key: Key) -> Peer | None:
        return self._pinned.get(key) or self._strangers.get(key)

    def obtain(self, key: Key) -> Peer:
        """The peer with that key, new where it is unknown."""
        peer = self._pinned.get(key)
        if peer is not None:
            return peer
        peer = self._strangers.pop(key, None) or Peer(key)
        self._strangers[key] = peer
        if len(self._strangers) > self._strangers_max:
            self._strangers.popitem(last=False)
        return peer

    def forget(self, key: Key) -> None:
        self._strangers.pop(key, None)
        if key in self._pinned:
            self._pinned[key] = Peer(key)

    def pin(self, keys: Collection[Key]) -> list[Key]:
        """Never forget these (the network file's keys); what was pinned before and is not named is a
        stranger again. Returns those."""
        former, self._pinned = self._pinned, {}
        for key in keys:
            known = former.pop(key, None) or self._strangers.pop(key, None)
            self._pinned[key] = known or Peer(key)
        self._strangers.update(former)
        while len(self._strangers) > self._strangers_max:
            self._strangers.popitem(last=False)
        return list(former)

    def with_session(self) -> list[Peer]:
        known = (*self._pinned.values(), *self._strangers.values())
        return [peer for peer in known if peer.session]
