"""Relays that lose, delay, repeat, change and misroute what they carry spoil nothing but speed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import faults
from cells import Cell
from internet import Internet
from labnet import Host, Lab
from nodes import PORT, UNLIMITED_RELAYS, Node, PublicNodes
from timed_ping import TimedPing
from transfer import Transfer
from wires import Wire

MEGABYTE = 1_000_000
RELAYED_S = 20.0
HARMLESS: dict[str, float] = {
    "delay_s": 0.001,
    "jitter_s": 0,
    "loss": 0,
    "reorder": 0,
    "duplicate": 0,
    "corrupt": 0,
}
HOSTILE: dict[str, dict[str, float]] = {
    "lose": {"loss": 0.02},
    "delay": {"delay_s": 0.02, "jitter_s": 0.02, "reorder": 0.02},
    "repeat": {"duplicate": 0.2},
    "change": {"corrupt": 0.02},
}
COUNTER = {"lose": "lost", "delay": "reordered", "repeat": "duplicated", "change": "corrupted"}


@dataclass
class Pair:
    """Two nodes that only relays connect."""

    internet: Internet
    cell: Cell

    @property
    def from_relays(self) -> list[Wire]:
        """Whose lane 0 carries what a relay sends."""
        return [site.wire for site in self.internet.publics if site.wire is not None]

    def transfer(self) -> None:
        """All of it arrives as it was sent, or this raises."""
        source, target = self.cell.nodes
        Transfer(source.host, target.host, target.inspect()["address"], 4 * MEGABYTE).finish()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Lab("relays", log=print) as lab:
        internet = Internet(lab, publics=2, delay_s=HARMLESS["delay_s"])
        publics = PublicNodes(internet)
        cell = Cell(internet, publics, ("port-restricted", "port-restricted"), "h")
        faults.separate(internet.isp, *(site.public_ipv4 for site in cell.sites))
        publics.up(*UNLIMITED_RELAYS)
        cell.up()
        ping = TimedPing(cell.nodes[0].host, cell.nodes[1].name)
        ping.wait_for_replies(1, RELAYED_S)
        ping.stop()
        yield Pair(internet, cell)


def dropped(node: Node) -> int:
    """Datagrams that the data plane did not take."""
    return sum(count for name, count in node.inspect()["data"].items() if name.startswith("drop_"))


@pytest.mark.parametrize("what", HOSTILE)
def test_transfer_arrives_whole_through_relays_that(pair: Pair, what: str) -> None:
    before = [dropped(node) for node in pair.cell.nodes]
    for wire in pair.from_relays:
        wire.change(lanes=(0,), **HOSTILE[what])
    try:
        pair.transfer()
    finally:
        for wire in pair.from_relays:
            wire.change(lanes=(0,), **HARMLESS)
    assert sum(wire.counters()[0][COUNTER[what]] for wire in pair.from_relays) > 0
    if what in ("repeat", "change"):
        assert sum(map(dropped, pair.cell.nodes)) > sum(before)
    assert_sound(pair)


def test_misrouted_datagrams_are_dropped_and_counted(pair: Pair) -> None:
    """A tenth of what a relay sends to one of them goes to the other one instead."""
    first, second = (mapped(pair.cell, side) for side in range(2))
    before = [dropped(node) for node in pair.cell.nodes]
    for public in pair.internet.publics:
        misroute(public.host, first, second)
    pair.transfer()
    assert all(dropped(node) > count for node, count in zip(pair.cell.nodes, before, strict=True))
    assert_sound(pair)


def assert_sound(pair: Pair) -> None:
    for node in pair.cell.nodes:
        assert not node.inspect()["control"].get("engine_failures")


def mapped(cell: Cell, side: int) -> tuple[str, int]:
    """Where a node is seen, behind a NAT that preserves ports."""
    return cell.sites[side].public_ipv4, cell.nodes[side].inspect()["listen_port"]


def misroute(relay: Host, first: tuple[str, int], second: tuple[str, int]) -> None:
    """To the mapping that the other one's NAT has for this relay. Marked, or it would be sent back again."""
    rules = "\n".join(
        f"meta mark 0 ip daddr {one[0]} udp dport {one[1]} udp sport {PORT} numgen random mod 10 == 0"
        f" ip daddr set {other[0]} udp dport set {other[1]} meta mark set 1"
        for one, other in ((first, second), (second, first))
    )
    chain = f"chain output {{\ntype filter hook output priority mangle\n{rules}\n}}"
    relay.run(["nft", "-f", "-"], input=f"table ip hostile {{\n{chain}\n}}\n")
