"""From which of the host's addresses datagrams leave, data and control: the one that the other side wrote to,
as long as the way from there is the one that it was."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set as AbstractSet

from wh.engine.events import Key
from wh.net.links.netlink_socket import NetlinkSocket
from wh.net.links.source_routes import SourceRoutes, Use
from wh.net.sources import Sources
from whcore.datapath import Datapath

REFUSED_MAX = 2
"""Of one peer's data, which has at most two paths."""


class Uplinks:
    """uses() and judge() may take long and come from another thread, the rest from the event loop's."""

    def __init__(self, datapath: Datapath, control: Sources, routes: SourceRoutes) -> None:
        self._datapath = datapath
        self._control = control
        self._routes = routes
        self._refused: dict[Key, set[Use]] = {}

    def uses(self) -> frozenset[Use]:
        data = {Use(remote, source) for _, remote, source in self._datapath.sources()}
        return frozenset(data.union(self._control.uses(), *self._refused.values()))

    def learn(self, kernel: NetlinkSocket, uses: AbstractSet[Use]) -> None:
        """While nothing changes: which way each of them takes."""
        self._routes.learn(kernel, uses)

    def judge(self, kernel: NetlinkSocket, uses: AbstractSet[Use]) -> set[Use]:
        """Those that take another way now, or none."""
        return self._routes.refused(kernel, uses)

    def refuse(self, refused: AbstractSet[Use]) -> None:
        """Leave from these no more, nor from any that was refused and is not among them."""
        self._datapath.links_changed()
        self._control.refuse(refused)
        now: dict[Key, set[Use]] = defaultdict(set)
        for key, uses in self._refused.items():
            now[key] |= uses & refused
        for key, remote, source in self._datapath.sources():
            if (use := Use(remote, source)) in refused:
                now[key].add(use)
        for key, uses in now.items():
            if self._datapath.has_peer(key):
                self._datapath.refuse_sources(key, list({use.source for use in uses})[:REFUSED_MAX])
        self._refused = {key: uses for key, uses in now.items() if uses and self._datapath.has_peer(key)}

    def forget(self) -> None:
        """The kernel chooses anew, everywhere: after a sleep nothing is as it was."""
        self._refused.clear()
        self._datapath.forget_sources()
        self._control.forget()
