"""Keeping the routing table full of servers that live (docs/protocol.md section 5)."""

from __future__ import annotations

from collections.abc import Callable

from wh.dht.kademlia import Kademlia
from wh.dht.lookups.lookup import LookupResult
from wh.dht.lookups.search import SearchCallbacks
from wh.dht.lookups.searches import Searches
from wh.dht.table.contacts import TrackedContact
from wh.dht.table.metric import K
from wh.engine.core import Engine
from wh.engine.events import Instant, Key
from wh.engine.randomness import jittered
from wh.engine.timers import Alarm
from wh.wire.address import Address

LOOK_AROUND_S = (2.0, 5.0, 15.0, 60.0)
"""Pauses between lookups for who needs more servers than are known; from the first again after a new one."""

SERVER_LOOK_S, CLIENT_LOOK_S = 1800.0, 3600.0
"""Between lookups of ourselves, which show who came near."""

CHECK_MIN_S, CHECK_MAX_S, CLIENT_CHECK_MAX_S = 2.0, 60.0, 300.0
"""Between two PINGs to the quietest contact. Each that stays silent makes the pause a quarter of what it was,
each that answers a tenth longer: where nodes come and go tables are looked after more often."""

QUIET_S = 60.0
FORGET_FAILURES = 6
"""PINGs in vain after which a dead contact is forgotten, where others live."""

FAR_BUCKETS = 3
"""Keys in these say how large the network is: they are far enough from our own that nobody could crowd them
for our sake."""

CLIENT_BUCKETS = 2
"""That a client fills: it needs some to begin with, and keeps nobody's records."""


class Upkeep:
    """Lookups of ourselves and of quiet buckets, and PINGs to those that were silent longest.

    ping(key, address, now). is_server: whether others have us in their tables."""

    def __init__(
        self,
        engine: Engine,
        kademlia: Kademlia,
        searches: Searches,
        *,
        ping: Callable[[Key, Address, Instant], None],
        is_server: Callable[[], bool],
    ) -> None:
        self.refreshed_at: float | None = None  # monotonic; when the last lookup for the table's sake ended
        self._engine = engine
        self._kademlia = kademlia
        self._searches = searches
        self._ping = ping
        self._is_server = is_server
        self._looking = False
        self._look_at = float("-inf")  # when we look ourselves up again
        self._looks = 0
        self._look_not_before = float("-inf")
        self._check_s = CHECK_MAX_S
        self._checked: Key | None = None
        self._next_check = Alarm(engine.timers)

    def start(self, now: Instant) -> None:
        if not self._next_check.pending:
            self._schedule_check(now)

    def settle(self, now: Instant) -> None:
        """We are new here, or the network is new to us: look ourselves up, and then a key of each bucket."""
        self._look_at = now.monotonic
        self._kademlia.table.forget_lookups()
        self._look(now)

    def look_around(self, now: Instant) -> None:
        """Somebody needs more servers than are known: those that are may know others by now."""
        if now.monotonic < self._look_not_before or not self._kademlia.joined:
            return
        pause_s = LOOK_AROUND_S[min(self._looks, len(LOOK_AROUND_S) - 1)]
        self._looks += 1
        self._look_not_before = now.monotonic + jittered(self._engine.rng, pause_s)
        self._look_at = now.monotonic
        self._look(now)

    def server_found(self) -> None:
        """Who looks around finds more."""
        self._looks = 0

    # Lookups, one after the other

    def _look(self, now: Instant) -> None:
        if self._looking or not self._kademlia.joined:
            return
        if now.monotonic >= self._look_at:
            pause_s = SERVER_LOOK_S if self._is_server() else CLIENT_LOOK_S
            self._look_at = now.monotonic + jittered(self._engine.rng, pause_s)
            self._begin(self._engine.key, now, sample=False)
            return
        buckets = self._kademlia.table.buckets_to_refresh(now.monotonic)
        if not self._is_server():
            buckets = [bucket for bucket in buckets if bucket <= CLIENT_BUCKETS]
        if buckets:
            target = self._kademlia.table.refresh_target(buckets[-1], self._engine.rng.randbytes)
            self._begin(target, now, sample=buckets[-1] <= FAR_BUCKETS)

    def _begin(self, target: Key, now: Instant, *, sample: bool) -> None:
        self._looking = True

        def done(result: LookupResult, then: Instant) -> None:
            self._looking = False
            self.refreshed_at = then.monotonic
            if sample:
                nearest = [responder.contact.key for responder in result.closest]
                self._kademlia.size.add_sample(target, nearest)
            self.found_servers(result, then)
            self._look(then)

        self._searches.begin(target, now, SearchCallbacks(done=done), want_record=False)

    def found_servers(self, result: LookupResult, now: Instant) -> None:
        """Who answered a lookup is worth a place in the table."""
        for responder in result.closest[:K]:
            if responder.contact.key not in self._kademlia.table:
                self._ping(responder.contact.key, responder.contact.address, now)

    # Who still lives

    def answered(self, key: Key) -> None:
        if key == self._checked:
            self._checked = None
            longest = CHECK_MAX_S if self._is_server() else CLIENT_CHECK_MAX_S
            self._check_s = min(longest, 1.1 * self._check_s)

    def unanswered(self, key: Key, now: Instant) -> None:
        contact = self._kademlia.table.get(key)
        if contact is None or contact.failures == 1:
            self._check_s = max(CHECK_MIN_S, self._check_s / 4)
        self._schedule_check(now)
        if contact is not None and contact.failures >= FORGET_FAILURES and self._kademlia.joined:
            self._kademlia.table.remove(key)

    def _schedule_check(self, now: Instant) -> None:
        pause_s = CHECK_MIN_S if self._suspected() else self._check_s
        when = now.monotonic + jittered(self._engine.rng, pause_s)
        self._next_check.set(when, self._check)

    def _check(self, now: Instant) -> None:
        self._schedule_check(now)
        self._kademlia.store.expire(now.unix)
        contact = self._next_to_check(now)
        if contact is not None:
            self._checked = contact.key
            contact.checked_at = now.monotonic
            self._ping(contact.key, contact.address, now)
        self._look(now)

    def _suspected(self) -> list[TrackedContact]:
        return [contact for contact in self._kademlia.table if contact.failures and not contact.dead]

    def _next_to_check(self, now: Instant) -> TrackedContact | None:
        """One that has just failed; else one that has long been silent; among the dead each once in a few
        minutes. They must not stand in the way of those that may live."""
        before = now.monotonic - QUIET_S
        suspected = self._suspected()
        if suspected:
            return max(suspected, key=lambda contact: contact.failures)
        quiet = [contact for contact in self._kademlia.table if _silent_since(contact) < before]
        dead = [contact for contact in quiet if contact.dead]
        living = [contact for contact in quiet if not contact.dead]
        rarely = QUIET_S * len(dead) if self._kademlia.joined else QUIET_S
        due = [contact for contact in dead if contact.checked_at < now.monotonic - rarely]
        return min(due or living, key=_silent_since, default=None)


def _silent_since(contact: TrackedContact) -> float:
    return contact.last_seen if not contact.dead else max(contact.last_seen, contact.checked_at)
