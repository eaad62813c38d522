"""A TCP connection through the tunnel lives through whatever happens to relays, NATs and addresses."""

from __future__ import annotations

import pytest

import faults
from cells import Cell, Kinds
from internet import Internet
from labnet import Lab, wait_until
from nodes import UNLIMITED_RELAYS, Node, PublicNodes, wait_for_state
from timed_ping import TimedPing
from transfer import Transfer

GIGABYTE = 1_000_000_000
MEGABYTE = 1_000_000
BETWEEN_FAULTS = 100 * MEGABYTE
RELAYED_S = 20.0
DIRECT_S = 30.0

Stage = tuple[Cell, PublicNodes]


def start(lab: Lab, kinds: Kinds, publics: int) -> Stage:
    """A pair, and relays without limits."""
    internet = Internet(lab, publics=publics)
    public_nodes = PublicNodes(internet)
    cell = Cell(internet, public_nodes, kinds, "t")
    public_nodes.up(*UNLIMITED_RELAYS)
    cell.up()
    return cell, public_nodes


def transfer_of(cell: Cell, length: int) -> Transfer:
    """Begun when a ping has got through."""
    source, target = cell.nodes
    ping = TimedPing(source.host, target.name)
    ping.wait_for_replies(1, RELAYED_S)
    ping.stop()
    return Transfer(source.host, target.host, target.inspect()["address"], length)


def relay_in_use(cell: Cell, publics: PublicNodes) -> Node:
    def look() -> Node | None:
        key = cell.nodes[0].peer(cell.nodes[1])["relay"]
        return next((node for node in publics.nodes if node.key == key), None)

    return wait_until(look, RELAYED_S, "a relay is in use")


@pytest.mark.slow
def test_relayed_gigabyte_survives_each_relay_killed_twice(lab: Lab) -> None:
    cell, publics = start(lab, ("random", "random"), publics=2)
    transfer = transfer_of(cell, GIGABYTE)
    killed: list[str] = []
    for _ in range(4):
        transfer.wait_for_more(BETWEEN_FAULTS)
        relay = relay_in_use(cell, publics)  # with two relays it is the other one each time
        faults.kill(relay.host)
        killed.append(relay.name)
        transfer.wait_for_more(BETWEEN_FAULTS)
        publics.up_again(relay)
        transfer.wait_for_more(BETWEEN_FAULTS)
    transfer.finish()
    assert sorted(killed) == ["public1", "public1", "public2", "public2"]
    assert cell.nodes[0].state(cell.nodes[1]) != "direct"


@pytest.mark.slow
def test_gigabyte_survives_upgrade_address_change_and_rebinding(lab: Lab) -> None:
    cell, _ = start(lab, ("port-restricted", "port-restricted"), publics=3)
    first, second = cell.nodes
    transfer = transfer_of(cell, GIGABYTE)
    wait_for_state(first, second, "direct", DIRECT_S)
    transfer.wait_for_more(BETWEEN_FAULTS)
    faults.change_address(first.host, "eth0", "192.168.1.77/24")
    transfer.wait_for_more(BETWEEN_FAULTS)
    for site in cell.sites:
        faults.flush_conntrack(site.routers[0])
    transfer.wait_for_more(BETWEEN_FAULTS)
    transfer.finish()
    wait_for_state(first, second, "direct", DIRECT_S)
