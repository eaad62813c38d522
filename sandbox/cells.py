"""Cells of the NAT matrix: two kinds of site, a node in each, and how soon they have what they can have."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from internet import Internet, Site
from labnet import Host, Lab
from nodes import Node, PublicNodes, in_parallel, members_file
from timed_ping import TimedPing, first_data_s, lost

KINDS = (
    "open",
    "endpoint-independent",
    "address-restricted",
    "port-restricted",
    "port-restricted-input-open",
    "sequential",
    "random",
    "random-pool",
    "upnp",
    "nat-pmp",
    "nested",
    "ipv6-only",
    "udp-blocked",
)
NEIGHBOURS = {
    "same-nat": "port-restricted",
    "same-nat-hairpin": "port-restricted-hairpin",
    "same-lan": "port-restricted",
}
"""Cells of two nodes behind one router -> its kind. Where it hairpins, that is the only way between their
networks; else it routes."""

UNPREDICTABLE = {"random", "random-pool"}
ENDPOINT_DEPENDENT = UNPREDICTABLE | {"sequential"}

TCP_PORT = 443
"""Of public nodes, for those whose UDP is blocked."""
POLL_S = 0.1
DIRECT_S = 20.0
SEARCH_S = 75.0
"""Long enough for a second search, 20 s after one that failed."""

SEARCHES_AT_ONCE = 3
"""Each opens hundreds of sockets within a second: with more of them the machine is measured."""

Kinds = tuple[str, str]


def all_cells() -> list[Kinds]:
    """Every unordered pair of kinds, and the neighbours."""
    return [*itertools.combinations_with_replacement(KINDS, 2), *((name, name) for name in NEIGHBOURS)]


def diagonal() -> list[Kinds]:
    return [kinds for kinds in all_cells() if kinds[0] == kinds[1]]


def can_be_direct(kinds: Kinds) -> bool:
    """Ports that nobody can predict need a side where nobody must; without UDP nothing helps."""
    unpredictable = any(kind in UNPREDICTABLE for kind in kinds)
    hopeless = unpredictable and all(kind in ENDPOINT_DEPENDENT for kind in kinds)
    return not hopeless and "udp-blocked" not in kinds


def needs_search(kinds: Kinds) -> bool:
    """Whether only the birthday search finds the direct path."""
    others = {"port-restricted", "port-restricted-input-open", "nested"}
    return any(kind in UNPREDICTABLE for kind in kinds) and any(kind in others for kind in kinds)


@dataclass
class Outcome:
    """What became of a cell. Times from the first packet on, None for what never came."""

    kinds: Kinds
    path: str = "idle"
    first_data_s: float | None = None
    direct_s: float | None = None
    lost: int = 0
    """Of the pings between the first and the last that was answered."""
    logs: str = ""
    """Of both daemons, where it is not as it should be."""

    @property
    def as_expected(self) -> bool:
        return self.first_data_s is not None and (self.path == "direct") == can_be_direct(self.kinds)

    def row(self) -> str:
        times = [f"{s:.2f} s" if s is not None else "never" for s in (self.first_data_s, self.direct_s)]
        verdict = "" if self.as_expected else "  UNEXPECTED"
        return (
            f"{' / '.join(self.kinds):<56} {self.path:<10} first data {times[0]:>7}, direct {times[1]:>7},"
            f" {self.lost} lost{verdict}"
        )


class Cell:
    """Two nodes in an internet that is there already."""

    def __init__(self, internet: Internet, publics: PublicNodes, kinds: Kinds, name: str) -> None:
        """name: short, part of the hosts' names; letters and digits."""
        self.kinds = kinds
        self.by_name = "ipv6-only" in kinds
        self.sites: list[Site] = []
        first, second = self._hosts(internet, name)
        self.nodes = (Node(first, f"{name}a"), Node(second, f"{name}b"))
        self.file = members_file(publics, self.nodes, by_name=self.by_name)

    def _hosts(self, internet: Internet, name: str) -> tuple[Host, Host]:
        if self.kinds[0] in NEIGHBOURS:
            site = internet.site(f"{name}a", NEIGHBOURS[self.kinds[0]])
            self.sites = [site]
            return site.host, site.neighbour(f"{name}b", same_lan=self.kinds[0] == "same-lan")
        self.sites = [
            internet.site(f"{name}{side}", kind, ipv6=self.by_name)
            for side, kind in zip("ab", self.kinds, strict=True)
        ]
        return self.sites[0].host, self.sites[1].host

    def up(self) -> None:
        for node in self.nodes:
            node.up(self.file)

    def measure(self, deadline_s: float) -> Outcome:
        """Ping by name until the path is what it can become, or the time is over."""
        started = time.monotonic()
        ping = TimedPing(self.nodes[0].host, self.nodes[1].name)
        outcome = Outcome(self.kinds)
        goal = "direct" if can_be_direct(self.kinds) else "relayed"
        while (elapsed_s := time.monotonic() - started) < deadline_s:
            outcome.path = self._path()
            if outcome.path == "direct" and outcome.direct_s is None:
                outcome.direct_s = elapsed_s
            if outcome.path == goal and ping.replies():
                break
            time.sleep(POLL_S)
        replies = ping.stop()
        outcome.first_data_s = first_data_s(ping)
        outcome.lost = lost(replies)
        if not outcome.as_expected:
            outcome.logs = "".join(node.host.logs() for node in self.nodes)
        return outcome

    def _path(self) -> str:
        """direct where both ends say so, relayed where data goes to a relay, else the first one's state."""
        first, second = self.nodes
        here, there = first.peer(second), second.peer(first)
        if here["state"] == there["state"] == "direct":
            return "direct"
        return "relayed" if here.get("relay") else str(here["state"])


def batches(kinds: Sequence[Kinds], size: int) -> list[list[Kinds]]:
    """Cells for one lab each. Those that take long because they must search stand together."""
    found: list[list[Kinds]] = []
    for searching, at_once in ((False, size), (True, min(size, SEARCHES_AT_ONCE))):
        alike = [each for each in kinds if needs_search(each) is searching]
        found += [alike[start : start + at_once] for start in range(0, len(alike), at_once)]
    return found


def run_batch(batch: Sequence[Kinds], *, delay_s: float = 0.0) -> list[Outcome]:
    """All at once in a lab of their own: they share the public nodes, and each pair is a network."""
    deadline_s = SEARCH_S if any(map(needs_search, batch)) else DIRECT_S
    with Lab("matrix") as lab:
        internet = Internet(lab, delay_s=delay_s)
        publics = PublicNodes(internet)
        cells = [Cell(internet, publics, kinds, f"c{number}") for number, kinds in enumerate(batch)]
        publics.up(f"listen-tcp {TCP_PORT}")
        in_parallel(Cell.up, cells)
        return in_parallel(lambda cell: cell.measure(deadline_s), cells, at_once=len(cells))
