"""Joining the DHT: bootstraps, what the last run knew, nodes that come to us (docs/protocol.md 5)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from wh.config.model import Network, PeerKind
from wh.dht.kademlia import Kademlia
from wh.dht.lookups.searches import Searches
from wh.dht.table.contacts import MAX_FAILURES
from wh.dht.table.routing_table import Added
from wh.dht.upkeep import Upkeep
from wh.engine.core import Engine
from wh.engine.endpoints import FileEndpoints
from wh.engine.events import Instant, Key, Path
from wh.engine.limits import RateLimit
from wh.engine.randomness import jittered
from wh.engine.requests import Answer, Requests
from wh.engine.timers import Alarm
from wh.wire.address import Address, is_v4
from wh.wire.messages import Capability, Contact, Pong

JOIN_RETRY_FIRST_S = 0.5
JOIN_RETRY_MAX_S = 15.0
REMEMBERED_AT_ONCE = 4
"""Contacts of the last run that get a PING beside the bootstraps, each time."""

AT_ONCE, ONE_MORE_S = 3, 2.0
"""So often bootstraps are asked because links changed, and once more each two seconds."""

BOOTSTRAP_CHECK_S = 60.0
"""How often bootstraps that are dead get a PING."""

GREETINGS_MAX = 256
"""Nodes that say they are servers, and prove in a moment that they are where they say."""

SETTLE_INTERVAL_S = 10.0


class Discovery:
    """Fills the routing table. new_server hears of each server that enters it or comes back to life."""

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
        self.upkeep = Upkeep(
            engine,
            kademlia,
            searches,
            ping=self._ping_address,
            is_server=lambda: bool(capabilities() & Capability.SERVER),
        )
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._endpoints = endpoints
        self._capabilities = capabilities
        self._new_server = new_server
        self._bootstraps: tuple[Key, ...] = ()
        self._remembered: list[Contact] = []
        self._join_retry_s = JOIN_RETRY_FIRST_S
        self._next_join = Alarm(engine.timers)
        self._next_check = Alarm(engine.timers)
        self._settles = RateLimit(1, SETTLE_INTERVAL_S, entries_max=1)
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
        self.upkeep.start(now)
        if not self._next_check.pending:
            self._check_bootstraps(now)

    def remember(self, contacts: Sequence[Contact], now: Instant) -> None:
        """Servers of the last run, the best first. They are tried as if somebody had named them."""
        self._remembered = [contact for contact in contacts if contact.key != self._engine.key]
        self.join(now)

    def join(self, now: Instant) -> None:
        """PING the bootstraps and who was known before, now and with growing pauses until one answers."""
        self._join_retry_s = JOIN_RETRY_FIRST_S
        self._knock_at_doors(now)

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
        if not capabilities & Capability.SERVER or not self._is_usual(path):
            return
        self._kademlia.named_by.pop(key, None)
        is_validated = self._engine.peers.obtain(key).is_validated(path, now)
        known = self._kademlia.table.get(key)
        if known is not None and not known.dead and known.address == path.remote:
            if is_validated:
                self._kademlia.table.on_answer(key, now.monotonic)
        elif is_validated:
            self._add(_contact(key, path, capabilities), now)
        else:
            self._greetings[key, path] = capabilities
            if len(self._greetings) > GREETINGS_MAX:
                self._greetings.popitem(last=False)

    def _validated(self, key: Key, path: Path, now: Instant) -> None:
        capabilities = self._greetings.pop((key, path), None)
        if capabilities is not None:
            self._add(_contact(key, path, capabilities), now)

    def ping(self, key: Key, paths: list[Path], now: Instant) -> None:
        """The PONG of a server puts it into the table."""
        self._requests.start(key, paths, self._engine.echo(self._capabilities()), now)

    def _ping_address(self, key: Key, address: Address, now: Instant) -> None:
        path = self._engine.addressing.path_to(address)
        if path is not None:
            self.ping(key, [path], now)

    def left(self, key: Key) -> None:
        """A node said LEAVING. A bootstrap keeps its place, as a dead one."""
        self._kademlia.table.remove(key)
        for _ in range(MAX_FAILURES):
            self._kademlia.table.on_failure(key)

    # Joining

    def _knock_at_doors(self, now: Instant) -> None:
        self._next_join.cancel()
        if self._kademlia.joined or not (self._bootstraps or self._remembered):
            return
        for key in self._bootstraps:
            self._ping_bootstrap(key, now)
        self._ping_remembered(now)
        wait_s = jittered(self._engine.rng, self._join_retry_s)
        self._join_retry_s = min(JOIN_RETRY_MAX_S, 2 * self._join_retry_s)
        self._next_join.set(now.monotonic + wait_s, self._knock_at_doors)

    def _ping_bootstrap(self, key: Key, now: Instant) -> None:
        paths = self._engine.addressing.paths_to(self._endpoints.addresses_of(key))
        if paths:
            self.ping(key, paths, now)

    def _ping_remembered(self, now: Instant) -> None:
        """In turn; where they are was true once, and may be somebody else's address by now."""
        tried, later = self._remembered[:REMEMBERED_AT_ONCE], self._remembered[REMEMBERED_AT_ONCE:]
        self._remembered = later + tried
        for contact in tried:
            if self._engine.addressing.is_acceptable(contact.address):
                self._ping_address(contact.key, contact.address, now)

    def _check_bootstraps(self, now: Instant) -> None:
        when = now.monotonic + jittered(self._engine.rng, BOOTSTRAP_CHECK_S)
        self._next_check.set(when, self._check_bootstraps)
        for key in self._bootstraps:
            contact = self._kademlia.table.get(key)
            if self._kademlia.joined and (contact is None or contact.dead):
                self._ping_bootstrap(key, now)

    def _answered(self, key: Key, answer: Answer, now: Instant) -> None:
        self.upkeep.answered(key)
        table = self._kademlia.table
        if not isinstance(answer.message, Pong):
            table.on_answer(key, now.monotonic)
            return
        if self._is_usual(answer.path):
            self._add(_contact(key, answer.path, answer.message.capabilities), now)

    def _is_usual(self, path: Path) -> bool:
        """Whether we would choose this path by the address alone, which is all that a contact says."""
        return self._engine.addressing.path_to(path.remote) == path

    def _add(self, offered: Contact, now: Instant) -> None:
        table = self._kademlia.table
        known = table.get(offered.key)
        was_alive = known is not None and not known.dead
        if known is not None and was_alive and is_v4(known.address) != is_v4(offered.address):
            offered = Contact(offered.key, known.address, offered.flags)  # it has both, and one is enough
        was_joined = self._kademlia.joined
        added = table.add(offered, now.monotonic, self._kademlia.only_source_of(offered.key))
        contact = table.get(offered.key)
        if contact is not None:
            contact.rtt = self._engine.peers.obtain(offered.key).round_trip
        if added in (Added.INSERTED, Added.REFRESHED) and not was_alive:
            self.upkeep.server_found()
            self._new_server(offered.key, now)
            self._settle_with(offered.key, was_joined, now)

    def _settle_with(self, key: Key, was_joined: bool, now: Instant) -> None:
        """The first server is there, or a bootstrap: it may know another part of the network than all whom we
        have met so far, who may have reasons not to tell of it."""
        if not was_joined or (key in self._bootstraps and self._settles.allow(None, now.monotonic)):
            self.upkeep.settle(now)

    def _unanswered(self, key: Key, now: Instant) -> None:
        known = key in self._kademlia.table
        self._kademlia.table.on_failure(key)
        if known:
            self.upkeep.unanswered(key, now)
        if not self._kademlia.joined and not self._next_join.pending:
            self.join(now)


def _contact(key: Key, path: Path, capabilities: int) -> Contact:
    """Others hear what it offers, and nothing else that it said."""
    return Contact(key, path.remote, capabilities & (Capability.SERVER | Capability.RELAY))
