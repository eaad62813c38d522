"""A pair of nodes gets over what happens to the path between them, and connections in the tunnel live on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import faults
from cells import Cell
from internet import Internet
from labnet import Lab, wait_until
from nodes import UNLIMITED_RELAYS, Node, PublicNodes, wait_for_state
from timed_ping import TimedPing
from transfer import Transfer
from wireguard_ends import send_file

MEGABYTE = 1_000_000
RECOVERY_S = 20.0
"""Loose: the machine may be busy. `make bench-nat` measures."""
DIRECT_S = 30.0
TCP_PORT = 443


@dataclass
class Pair:
    """Both behind port-restricted NATs, and direct."""

    internet: Internet
    cell: Cell

    @property
    def a(self) -> Node:
        return self.cell.nodes[0]

    @property
    def b(self) -> Node:
        return self.cell.nodes[1]

    def wait_until_direct(self) -> None:
        for one, other in ((self.a, self.b), (self.b, self.a)):
            wait_for_state(one, other, "direct", DIRECT_S)

    def transfer(self, length: int, silence_s: float = 60.0) -> Transfer:
        address = self.b.inspect()["address"]
        return Transfer(self.a.host, self.b.host, address, length, silence_s=silence_s)


@pytest.fixture
def pair(lab: Lab) -> Pair:
    return make_pair(lab)


def make_pair(lab: Lab, *, largest: int = 0) -> Pair:
    """largest: the ISP swallows longer packets from the beginning."""
    internet = Internet(lab, publics=2, delay_s=0.001)
    if largest:
        faults.swallow_longer_than(internet.isp, largest)
    publics = PublicNodes(internet)
    cell = Cell(internet, publics, ("port-restricted", "port-restricted"), "f")
    publics.up(f"listen-tcp {TCP_PORT}", *UNLIMITED_RELAYS)
    cell.up()
    pair = Pair(internet, cell)
    ping = TimedPing(pair.a.host, pair.b.name)
    pair.wait_until_direct()
    ping.stop()
    return pair


def test_transfer_passes_where_large_packets_vanish(lab: Lab) -> None:
    """Full packets would have 1,468 bytes on the wire. Nobody says that they are too long."""
    make_pair(lab, largest=1300).transfer(4 * MEGABYTE).finish()


def test_ipv6_passes_where_the_path_is_narrower_than_its_links_may_be(lab: Lab) -> None:
    """1,280 bytes of outer packet: less than that is left for the inner one, and no host goes below."""
    pair = make_pair(lab, largest=1300)
    address = pair.b.inspect()["orchid"]
    pings = pair.a.host.run(["ping", "-c5", "-i0.2", "-W2", "-s1350", address], check=False).stdout
    assert pings.count("bytes from") >= 3, "all but the first, which finds out"
    send_file(pair.a.host, pair.b.host, address, megabytes=2)


def test_transfer_goes_on_where_large_packets_begin_to_vanish(pair: Pair) -> None:
    """Missed data has the path measured again, after some seconds and not the minute that it is otherwise."""
    transfer = pair.transfer(8 * MEGABYTE, silence_s=RECOVERY_S)
    transfer.wait_for_more(4 * MEGABYTE)
    faults.swallow_longer_than(pair.internet.isp, 1100)
    transfer.finish()


def test_unplugged_wire_is_plugged_in_again(pair: Pair) -> None:
    wire = pair.cell.sites[0].wire
    assert wire is not None
    transfer = pair.transfer(8 * MEGABYTE)
    transfer.wait_for_more(MEGABYTE)
    ping = TimedPing(pair.a.host, pair.b.name)
    ping.wait_for_replies(3)
    wire.unplug()
    wait_until(lambda: pair.a.state(pair.b) != "direct", RECOVERY_S, "the path is missed")
    wire.plug()
    ping.wait_for_replies(3, RECOVERY_S)
    transfer.finish()
    pair.wait_until_direct()


def test_host_moves_to_another_network(pair: Pair) -> None:
    cafe = pair.internet.site("cafe", "port-restricted")
    transfer = pair.transfer(8 * MEGABYTE)
    transfer.wait_for_more(MEGABYTE)
    cafe.visit(pair.a.host)
    transfer.wait_for_more(MEGABYTE)
    transfer.finish()
    pair.wait_until_direct()
    assert cafe.public_ipv4 in pair.b.peer(pair.a)["endpoint"]


def test_blocked_udp_is_gone_round_and_comes_back(pair: Pair) -> None:
    router = pair.cell.sites[0].routers[0]
    ping = TimedPing(pair.a.host, pair.b.name)
    ping.wait_for_replies(3)
    faults.block_udp(router)
    ping.wait_for_replies(3, 2 * RECOVERY_S)
    assert pair.a.state(pair.b) != "direct"
    faults.unblock_udp(router)
    for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
        wait_for_state(one, other, "direct", 90)
    ping.wait_for_replies(3)
    ping.stop()
