"""What is remembered of each node that we talk with, trusted or not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from wh.engine.events import Instant, Key, Path
from wh.engine.rtt import RttEstimator
from wh.wire.address import Address

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

    def answered_at(self, address: Address, now: Instant) -> bool:
        """Whether it has proved lately that it gets what is sent to that IP address, at any port: NATs change
        those. What a relay forwards says nothing of where it is."""
        return any(
            path.remote[:16] == address[:16] and not path.channel and self.is_validated(path, now)
            for path in self.validated
        )

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
    """All of them by key. Strangers are forgotten when there are too many, the longest silent one first, and
    before all others those that have proved no path: keys are cheap to invent."""

    def __init__(self, strangers_max: int = STRANGERS_MAX) -> None:
        self._strangers_max = strangers_max
        self._unproved: OrderedDict[Key, Peer] = OrderedDict()
        self._proved: OrderedDict[Key, Peer] = OrderedDict()
        self._pinned: dict[Key, Peer] = {}

    def __len__(self) -> int:
        return len(self._unproved) + len(self._proved) + len(self._pinned)

    def get(self, key: Key) -> Peer | None:
        return self._pinned.get(key) or self._proved.get(key) or self._unproved.get(key)

    def obtain(self, key: Key) -> Peer:
        """The peer with that key, new where it is unknown."""
        peer = self._pinned.get(key)
        if peer is None:
            peer = self._proved.pop(key, None) or self._unproved.pop(key, None) or Peer(key)
            self._add_stranger(peer)
        return peer

    def forget(self, key: Key) -> None:
        self._unproved.pop(key, None)
        self._proved.pop(key, None)
        if key in self._pinned:
            self._pinned[key] = Peer(key)

    def pin(self, keys: Collection[Key]) -> list[Key]:
        """Never forget these (the network file's keys); what was pinned before and is not named is a
        stranger again. Returns those."""
        former, self._pinned = self._pinned, {}
        for key in keys:
            known = former.pop(key, None) or self._proved.pop(key, None) or self._unproved.pop(key, None)
            self._pinned[key] = known or Peer(key)
        for peer in former.values():
            self._add_stranger(peer)
        return list(former)

    def is_pinned(self, key: Key) -> bool:
        return key in self._pinned

    def with_session(self) -> list[Peer]:
        known = (*self._pinned.values(), *self._proved.values(), *self._unproved.values())
        return [peer for peer in known if peer.session]

    def _add_stranger(self, peer: Peer) -> None:
        """As the one that was of use last."""
        (self._proved if peer.validated else self._unproved)[peer.key] = peer
        if len(self._unproved) + len(self._proved) > self._strangers_max:
            newest_alone = len(self._unproved) == int(not peer.validated)
            (self._proved if newest_alone else self._unproved).popitem(last=False)
