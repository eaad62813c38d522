"""Finding peers in the same LAN by BEACON (docs/protocol.md section 1): when we announce ourselves, and
what is made of what others announce."""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.commands import SendBeacon
from wh.engine.core import Engine
from wh.engine.events import BeaconHeard, Instant
from wh.engine.limits import RateLimit
from wh.engine.randomness import jittered
from wh.engine.timers import Alarm
from wh.paths.states import HAVING_PATH
from wh.paths.trusted_peers import TrustedPeers

AGAIN_AFTER_S = (1.0, 2.0, 5.0, 15.0)
LATER_S = 30.0
ANSWER_INTERVAL_S = 1.0


class Neighbours:
    """Silent unless enabled: a BEACON tells the whole LAN our key."""

    def __init__(
        self,
        engine: Engine,
        trusted: TrustedPeers,
        *,
        enabled: bool,
        awaits_claims: Callable[[Instant], bool],
    ) -> None:
        self._engine = engine
        self._trusted = trusted
        self._enabled = enabled
        self._awaits_claims = awaits_claims
        self._answers = RateLimit(1, ANSWER_INTERVAL_S, entries_max=1)
        self._rounds = 0
        self._next = Alarm(engine.timers)

    def restart(self, now: Instant) -> None:
        """Our addresses or our peers are others than before."""
        if self._enabled:
            self._rounds = 0
            self._announce(now)

    def heard(self, event: BeaconHeard, now: Instant) -> None:
        """A trusted peer is in this LAN; or somebody unknown, to whom we say that we are, where we wait for
        somebody unknown. What a BEACON says is tried, never believed."""
        if not self._enabled or event.key == self._engine.key:
            return
        if self._trusted.get(event.key) is not None:
            if self._engine.addressing.path_to(event.address) is not None:
                self._trusted.heard_nearby(event.key, event.address, now)
        elif self._awaits_claims(now) and self._answers.allow(None, now.monotonic):
            self._engine.emit(SendBeacon())

    def _announce(self, now: Instant) -> None:
        """As long as somebody could be looking for us in vain."""
        first = self._rounds == 0
        if first or any(peer.state not in HAVING_PATH for peer in self._trusted):
            self._engine.emit(SendBeacon())
        after = AGAIN_AFTER_S[self._rounds] if self._rounds < len(AGAIN_AFTER_S) else LATER_S
        self._rounds += 1
        when = now.monotonic + jittered(self._engine.rng, after)
        self._next.set(when, self._announce)
