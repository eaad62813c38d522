"""Our side of relays: reservations that others reach us by, and channels to peers (docs/protocol.md 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from wh.engine import Engine
from wh.events import Instant, Key, Path
from wh.kademlia import Kademlia
from wh.relay.client import Channel
from wh.requests import Requests
from wh.wire.messages import CloseReason
from wh.wire.records import Relay


class Reachability(Protocol):
    """Whether others can open a path to us: then we need no relay."""

    @property
    def proved(self) -> bool: ...


class RelayClient:
    """opened(channel, now): a channel is there, and control may be sent through it at once. closed(peer,
    path, now): it ended, other than by close(). A channel whose path changes is closed and opened again.
    failed(peer, now): what open() began came to nothing. changed(now): `relays` says something new."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        kademlia: Kademlia,
        reachability: Reachability,
        *,
        opened: Callable[[Channel, Instant], None],
        closed: Callable[[Key, Path, Instant], None],
        failed: Callable[[Key, Instant], None],
        changed: Callable[[Instant], None],
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._reachability = reachability
        self._opened = opened
        self._closed = closed
        self._failed = failed
        self._changed = changed

    @property
    def relays(self) -> tuple[Relay, ...]:
        """Where others can open a channel to us, for our record."""
        return ()

    def channels_to(self, peer: Key) -> list[Channel]:
        """Those that are open."""
        return []

    def open(self, peer: Key, relays: Sequence[Relay], now: Instant) -> None:
        """Open one more channel to a peer, at the nearest of the relays of its record where there is none and
        none is being opened; where that refuses, at the next. opened or failed follows, later."""

    def close(self, path: Path, now: Instant, reason: CloseReason = CloseReason.DONE) -> None:
        """We want that channel no more. closed is not called."""

    def wanted(self, peer: Key, yes: bool, now: Instant) -> None:
        """Whether data goes through the peer's channels now: their relays are probed every 2 s then."""

    def check(self, relay: Key, now: Instant) -> None:
        """What goes through this relay fell silent: see whether it lives, and tell it where we are now."""
