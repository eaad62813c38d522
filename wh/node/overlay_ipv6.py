"""Members whose hosts take no IPv6 of the overlay: each says so in its PINGs and PONGs, and when that changes
at once to members that it has a path to (docs/protocol.md section 3)."""

from __future__ import annotations

from wh.engine.commands import LeaveOutIpv6
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, MessageReceived, Path
from wh.engine.requests import Requests
from wh.paths.trusted_peers import TrustedPeers
from wh.wire.messages import Capability, Ping, Pong


class OverlayIpv6:
    """lacking: members that have said that they have none."""

    def __init__(self, engine: Engine, requests: Requests, trusted: TrustedPeers) -> None:
        self._engine = engine
        self._requests = requests
        self._trusted = trusted
        self.lacking: frozenset[Key] = frozenset()

    def set_own(self, taken: bool, now: Instant) -> None:
        """Whether this host takes it."""
        if taken == self._engine.takes_ipv6:
            return
        self._engine.takes_ipv6 = taken
        for known in self._engine.peers.with_session():
            peer = self._trusted.get(known.key)
            path = (peer.routes.first if peer is not None else None) or known.last_path
            if peer is not None and path is not None:
                self._tell(known.key, path, now)

    def session_opened(self, key: Key, path: Path, *, initiator: bool, now: Instant) -> None:
        """What an INIT said may have been recorded long ago, and what a RESP said may have changed meanwhile:
        so it is said again, and who began the session is asked where it said otherwise before."""
        unsure = not self._engine.takes_ipv6 or (key in self.lacking and not initiator)
        if unsure and self._trusted.get(key) is not None:
            self._tell(key, path, now)

    def _tell(self, key: Key, path: Path, now: Instant) -> None:
        self._requests.start(key, [path], self._engine.echo(), now, speculative=True)

    def heard(self, event: MessageReceived) -> None:
        message = event.message
        if event.first_contact or not isinstance(message, Ping | Pong):
            return
        if message.capabilities & Capability.NO_IPV6 and self._trusted.get(event.peer) is not None:
            self._set(self.lacking | {event.peer})
        elif event.peer in self.lacking:
            self.forget(event.peer)

    def forget(self, key: Key) -> None:
        self._set(self.lacking - {key})

    def network_changed(self) -> None:
        """Who is no member any more is forgotten."""
        self._set(frozenset(key for key in self.lacking if self._trusted.get(key) is not None))

    def _set(self, lacking: frozenset[Key]) -> None:
        if lacking != self.lacking:
            self.lacking = lacking
            self._engine.emit(LeaveOutIpv6(lacking))
