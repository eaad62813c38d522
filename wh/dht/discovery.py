"""Joining the DHT and staying in it: bootstraps, quiet buckets, silent contacts (docs/protocol.md 5)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from wh.config.model import Network, PeerKind
from wh.dht.contacts import MAX_FAILURES
from wh.dht.kademlia import Kademlia
from wh.dht.lookup import LookupResult
from wh.dht.metric import K
from wh.dht.routing_table import Added
from wh.dht.search import SearchCallbacks
from wh.dht.searches import Searches
from wh.engine.core import Engine
from wh.engine.endpoints import FileEndpoints
from wh.engine.events import Instant, Key, Path
from wh.engine.limits import RateLimit
from wh.engine.randomness import jittered
from wh.engine.requests import Answer, Requests
from wh.engine.timers import Alarm
from wh.wire.address import is_v4
from wh.wire.messages import Capability, Contact, Pong

JOIN_RETRY_FIRST_S = 0.5
JOIN_RETRY_MAX_S = 60.0
CHECK_S = 60.0
"""How often the contact that was silent longest, and the bootstraps that are dead, get a PING."""

AT_ONCE, ONE_MORE_S = 3, 2.0
"""So often bootstraps are asked because links changed, and once more each two seconds."""

LOOK_AROUND_S = (2.0, 5.0, 15.0, 60.0)
"""Pauses between lookups for who needs more servers than are known; from the first again after a new one."""

GREETINGS_MAX = 256
"""Nodes that say they are servers, and prove in a moment that they are where they say."""


class Discovery:
    """Keeps the routing table alive. new_server hears of each server that enters it or comes back to life."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        kademlia: Kademlia,
        searches: Searches,
        endpoints: FileEndpoints,
        *,
        capabilities: Callable[[], int],
        new_server: Callable[[Key, Instant], None],
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._searches = searches
        self._endpoints = endpoints
        self._capabilities = capabilities
        self._new_server = new_server
        self._bootstraps: tuple[Key, ...] = ()
        self._join_retry_s = JOIN_RETRY_FIRST_S
        self._next_join = Alarm(engine.timers)
        self._next_check = Alarm(engine.timers)
        self._looks = 0
        self._look_not_before = float("-inf")
        self._greetings: OrderedDict[tuple[Key, Path], int] = OrderedDict()  # -> capabilities
        self._changed_at = float("-inf")
        self._occasions = RateLimit(AT_ONCE, ONE_MORE_S, 1)
        requests.answer_listeners.append(self._answered)
        requests.silence_listeners.append(self._unanswered)
        requests.validation_listeners.append(self._validated)

    @property
    def bootstraps(self) -> tuple[Key, ...]:
        return self._bootstraps

    @property
    def answered(self) -> bool:
        """Some server has, since the host's surroundings changed last."""
        table = self._kademlia.table
        return any(not contact.dead and contact.last_seen >= self._changed_at for contact in table)

    def set_network(self, network: Network, now: Instant) -> None:
        bootstraps = (peer.key for peer in network.peers if peer.kind is PeerKind.BOOT)
        self._bootstraps = tuple(key for key in bootstraps if key != self._engine.key)
        self._kademlia.table.set_protected(self._bootstraps)
        self.join(now)
        if not self._next_check.pending:
            self._schedule_check(now)

    def join(self, now: Instant) -> None:
        """PING the bootstraps now, and with growing pauses until one answers."""
        self._join_retry_s = JOIN_RETRY_FIRST_S
        self._ping_bootstraps(now)

    def surroundings_changed(self, now: Instant) -> None:
        """Who was reached by a family of addresses that this host has no more may be so by the other."""
        self._changed_at = now.monotonic
        for contact in list(self._kademlia.table):
            if not self._engine.addressing.has_family_of(contact.address):
                for _ in range(MAX_FAILURES):
                    self._kademlia.table.on_failure(contact.key)
        self.join(now)

    def links_changed(self, now: Instant) -> None:
        """What was asked in vain is asked again, as often as that may be."""
        if not self._kademlia.joined and self._occasions.allow("", now.monotonic):
            self.join(now)

    def endpoints_changed(self, now: Instant) -> None:
        """Bootstraps that are somewhere else now, by the names that the file has for them."""
        for key in self._bootstraps:
            contact = self._kademlia.table.get(key)
            if contact is None or contact.dead or contact.address not in self._endpoints.addresses_of(key):
                self._ping_bootstrap(key, now)

    def greet(self, key: Key, path: Path, capabilities: int, now: Instant) -> None:
        """A node PINGed us. If it says it is a server it enters the table once it is known to be there: when
        its session is confirmed from that path, or it answers our CHALLENGE."""
        known = self._kademlia.table.get(key)
        unchanged = known is not None and not known.dead and known.address == path.remote
        if unchanged or not capabilities & Capability.SERVER or not self._is_usual(path):
            return
        if self._engine.peers.obtain(key).is_validated(path, now):
            self._add(Contact(key, path.remote, capabilities), now)
            return
        self._greetings[key, path] = capabilities
        if len(self._greetings) > GREETINGS_MAX:
            self._greetings.popitem(last=False)

    def _validated(self, key: Key, path: Path, now: Instant) -> None:
        capabilities = self._greetings.pop((key, path), None)
        if capabilities is not None:
            self._add(Contact(key, path.remote, capabilities), now)

    def ping(self, key: Key, paths: list[Path], now: Instant) -> None:
        """The PONG of a server puts it into the table."""
        message = self._engine.echo(self._capabilities())
        self._requests.start(key, paths, message, now)

    def left(self, key: Key) -> None:
        """A node said LEAVING. A bootstrap keeps its place, as a dead one."""
        self._kademlia.table.remove(key)
        for _ in range(MAX_FAILURES):
            self._kademlia.table.on_failure(key)

    # Joining

    def _ping_bootstraps(self, now: Instant) -> None:
        self._next_join.cancel()
        if self._kademlia.joined or not self._bootstraps:
            return
        for key in self._bootstraps:
            self._ping_bootstrap(key, now)
        wait_s = jittered(self._engine.rng, self._join_retry_s)
        self._join_retry_s = min(JOIN_RETRY_MAX_S, 2 * self._join_retry_s)
        self._next_join.set(now.monotonic + wait_s, self._ping_bootstraps)

    def _ping_bootstrap(self, key: Key, now: Instant) -> None:
        addresses = self._endpoints.addresses_of(key)
        paths = self._engine.addressing.paths_to(addresses)
        if paths:
            self.ping(key, paths, now)

    def _answered(self, key: Key, answer: Answer, now: Instant) -> None:
        table = self._kademlia.table
        if not isinstance(answer.message, Pong):
            table.on_answer(key, now.monotonic)
            return
        if self._is_usual(answer.path):
            self._add(Contact(key, answer.path.remote, answer.message.capabilities), now)

    def _is_usual(self, path: Path) -> bool:
        """Whether we would choose this path by the address alone, which is all that a contact says."""
        return self._engine.addressing.path_to(path.remote) == path

    def _add(self, offered: Contact, now: Instant) -> None:
        table = self._kademlia.table
        known = table.get(offered.key)
        was_alive = known is not None and not known.dead
        if known is not None and was_alive and is_v4(known.address) != is_v4(offered.address):
            offered = Contact(offered.key, known.address, offered.flags)  # it has both, and one is enough
        added = table.add(offered, now.monotonic)
        contact = table.get(offered.key)
        if contact is not None:
            contact.rtt = self._engine.peers.obtain(offered.key).round_trip
        if added in (Added.INSERTED, Added.REFRESHED) and not was_alive:
            self._looks = 0
            self._new_server(offered.key, now)

    def _unanswered(self, key: Key, now: Instant) -> None:
        self._kademlia.table.on_failure(key)
        if not self._kademlia.joined and not self._next_join.pending:
            self.join(now)

    # Staying

    def found_servers(self, result: LookupResult, now: Instant) -> None:
        """Who answered a lookup near ourselves is worth a place in the table."""
        for responder in result.closest[:K]:
            path = self._engine.addressing.path_to(responder.contact.address)
            if path is not None and responder.contact.key not in self._kademlia.table:
                self.ping(responder.contact.key, [path], now)

    def look_around(self, now: Instant) -> None:
        """Somebody needs more servers than are known: those that are may know others by now."""
        if now.monotonic < self._look_not_before or not self._kademlia.joined:
            return
        pause_s = LOOK_AROUND_S[min(self._looks, len(LOOK_AROUND_S) - 1)]
        self._looks += 1
        self._look_not_before = now.monotonic + jittered(self._engine.rng, pause_s)
        self._searches.begin(
            self._engine.key, now, SearchCallbacks(done=self.found_servers), want_record=False
        )

    def _schedule_check(self, now: Instant) -> None:
        when = now.monotonic + jittered(self._engine.rng, CHECK_S)
        self._next_check.set(when, self._check)

    def _check(self, now: Instant) -> None:
        self._schedule_check(now)
        self._kademlia.store.expire(now.unix)
        self._ping_silent(now)
        for key in self._bootstraps:
            contact = self._kademlia.table.get(key)
            if self._kademlia.joined and (contact is None or contact.dead):
                self._ping_bootstrap(key, now)
        buckets = self._kademlia.table.buckets_to_refresh(now.monotonic)
        if buckets and self._kademlia.joined:
            self._refresh(buckets[0], now)

    def _ping_silent(self, now: Instant) -> None:
        quietest = min(self._kademlia.table, key=lambda contact: contact.last_seen, default=None)
        if quietest is None or now.monotonic - quietest.last_seen < CHECK_S:
            return
        path = self._engine.addressing.path_to(quietest.address)
        if path is not None:
            self.ping(quietest.key, [path], now)

    def _refresh(self, bucket: int, now: Instant) -> None:
        """One lookup at a random key of a quiet bucket; it also says how large the network is."""
        target = self._kademlia.table.refresh_target(bucket, self._engine.rng.randbytes)

        def done(result: LookupResult, then: Instant) -> None:
            nearest = [responder.contact.key for responder in result.closest]
            self._kademlia.size.add_sample(target, nearest)
            self.found_servers(result, then)

        self._searches.begin(target, now, SearchCallbacks(done=done), want_record=False)
