"""The trusted peers of the network file, as they come and go with it."""

from __future__ import annotations

from collections.abc import Iterator

from wh.config.model import Network, PeerKind
from wh.endpoints import FileEndpoints
from wh.engine import Engine
from wh.events import Instant, Key
from wh.requests import Requests
from wh.trusted import Reachability, RecordFinder, TrustedPeer


class TrustedPeers:
    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        finder: RecordFinder,
        reachability: Reachability,
        endpoints: FileEndpoints,
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._finder = finder
        self._reachability = reachability
        self._endpoints = endpoints
        self._by_key: dict[Key, TrustedPeer] = {}

    def __iter__(self) -> Iterator[TrustedPeer]:
        return iter(self._by_key.values())

    def get(self, key: Key) -> TrustedPeer | None:
        return self._by_key.get(key)

    def set_network(self, network: Network, now: Instant) -> None:
        """Peers that stay are not disturbed. An alias is no node: nobody has a path to it."""
        kinds = (PeerKind.TRUST, PeerKind.ROUTER)
        wanted = {peer.key for peer in network.peers if peer.kind in kinds} - {self._engine.key}
        for key in self._by_key.keys() - wanted:
            self._by_key.pop(key).close()
        added = [key for key in wanted if key not in self._by_key]
        for key in sorted(added):
            self._by_key[key] = TrustedPeer(
                key, self._engine, self._requests, self._finder, self._reachability
            )
        self.endpoints_changed(now)
        for key in sorted(added):
            self._by_key[key].start(now)

    def endpoints_changed(self, now: Instant) -> None:
        for key, peer in self._by_key.items():
            peer.set_file_addresses(self._endpoints.addresses_of(key), now)

    def servers_changed(self, now: Instant) -> None:
        """Somebody new may know the records of peers that have no path yet."""
        for peer in self._by_key.values():
            peer.look_again(now)

    def local_changed(self, now: Instant) -> None:
        """Our own addresses changed: what failed may work now, and peers must hear where we are."""
        for peer in self._by_key.values():
            peer.verify_path(now)
            peer.start(now)
