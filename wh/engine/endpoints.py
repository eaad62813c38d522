"""The endpoints that the network file gives to peers, with host names resolved and kept fresh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

from wh.config.model import Endpoint, Network
from wh.engine.commands import ResolveName
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, NameResolved
from wh.engine.limits import RateLimit
from wh.engine.randomness import jittered
from wh.engine.timers import Alarm
from wh.wire.address import Address, is_v4

RETRY_FIRST_S = 1.0
AT_ONCE, ONE_MORE_S = 3, 5.0
"""So often a name is asked because something changed, and once more each five seconds."""

RETRY_MAX_S = 60.0
REFRESH_S = 300.0
ADDRESSES_MAX = 8


class FileEndpoints:
    """Key -> addresses. `changed` is called when a name gets other addresses than it had."""

    def __init__(self, engine: Engine, changed: Callable[[Instant], None]) -> None:
        self._engine = engine
        self._changed = changed
        self._of_peer: dict[Key, Endpoint] = {}
        self._tcp_ports: dict[Key, int] = {}
        self._resolved: dict[tuple[str, int], tuple[Address, ...]] = {}
        self._addresses: dict[Key, tuple[Address, ...]] = {}  # as far as they are resolved
        self._learnt: Mapping[Key, tuple[Address, ...]] = {}
        self._next = Alarm(engine.timers)
        self._retry_s = RETRY_FIRST_S
        self._occasions = RateLimit(AT_ONCE, ONE_MORE_S)
        self._owed: set[tuple[str, int]] = set()  # to be asked when the limit allows
        self._owed_at = Alarm(engine.timers)

    def set_network(self, network: Network, now: Instant) -> None:
        self._of_peer = {peer.key: peer.endpoint for peer in network.peers if peer.endpoint is not None}
        said = [(peer.key, peer.endpoint.tcp_port) for peer in network.peers if peer.endpoint is not None]
        self._tcp_ports = {key: port for key, port in said if port is not None}
        names = self._names()
        self._resolved = {name: known for name, known in self._resolved.items() if name in names}
        self._retry_s = RETRY_FIRST_S
        self._publish()
        self._ask(now)

    def addresses_of(self, key: Key) -> tuple[Address, ...]:
        """What the file says first; learnt ones where it has none of their family."""
        said = self._addresses.get(key, ())
        families = {is_v4(address) for address in said}
        return (*said, *(each for each in self._learnt.get(key, ()) if is_v4(each) not in families))

    def set_learnt(self, addresses: Mapping[Key, tuple[Address, ...]]) -> None:
        """Of nodes that the file names, by their own word."""
        self._learnt = addresses

    def tcp_port_of(self, key: Key) -> int:
        """Where the file says that the node listens besides; 0: nowhere."""
        return self._tcp_ports.get(key, 0)

    def resolved(self, event: NameResolved, now: Instant) -> None:
        """A name that fails to resolve keeps the addresses it had."""
        name = (event.host, event.port)
        addresses = tuple(dict.fromkeys(event.addresses))[:ADDRESSES_MAX]
        if name not in self._names() or not addresses or self._resolved.get(name) == addresses:
            return
        self._resolved[name] = addresses
        self._publish()
        self._schedule(now)
        self._changed(now)

    def links_changed(self, now: Instant) -> None:
        """Names that could not be found may be there now, and others may have another address here."""
        self._retry_s = RETRY_FIRST_S
        self._ask_early(self._names(), now)
        if self._missing():
            self._schedule(now)

    def unanswered(self, key: Key, now: Instant) -> None:
        """A node that is silent may have moved, and its name with it."""
        endpoint = self._of_peer.get(key)
        if endpoint is not None and endpoint.address is None:
            self._ask_early({(endpoint.host, endpoint.port)}, now)

    def _ask_early(self, names: set[tuple[str, int]], now: Instant) -> None:
        for name in sorted(names):
            if self._occasions.allow(name, now.monotonic):
                self._engine.emit(ResolveName(*name))
            else:
                self._owed.add(name)
        if self._owed and not self._owed_at.pending:
            self._owed_at.set(now.monotonic + ONE_MORE_S, self._ask_owed)

    def _ask_owed(self, now: Instant) -> None:
        """Of many changes in a row the last one counts."""
        owed, self._owed = self._owed & self._names(), set()
        self._ask_early(owed, now)

    def _names(self) -> set[tuple[str, int]]:
        return {(known.host, known.port) for known in self._of_peer.values() if known.address is None}

    def _publish(self) -> None:
        self._addresses = {key: self._find(endpoint) for key, endpoint in self._of_peer.items()}
        self._engine.addressing.set_configured(chain.from_iterable(self._addresses.values()))

    def _find(self, endpoint: Endpoint) -> tuple[Address, ...]:
        if endpoint.address is not None:
            return (endpoint.address,)
        return self._resolved.get((endpoint.host, endpoint.port), ())

    def _ask(self, now: Instant) -> None:
        for host, port in sorted(self._missing() or self._names()):
            self._engine.emit(ResolveName(host, port))
        self._schedule(now)
        self._retry_s = min(RETRY_MAX_S, 2 * self._retry_s)

    def _missing(self) -> set[tuple[str, int]]:
        return {name for name in self._names() if name not in self._resolved}

    def _schedule(self, now: Instant) -> None:
        self._next.cancel()
        if not self._names():
            return
        wait_s = jittered(self._engine.rng, self._retry_s if self._missing() else REFRESH_S)
        self._next.set(now.monotonic + wait_s, self._ask)
