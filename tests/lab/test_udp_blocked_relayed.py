"""Members whose UDP is blocked, and members behind NATs: public nodes relay between TCP and UDP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from faults import block_udp, change_address, unblock_udp
from internet import Internet, Site
from labnet import Lab, wait_until
from nodes import Node, PublicNodes, in_parallel, members_file
from pinging import RunningPing, answers_within, lost

FIRST_DATA_LIMIT_S = 15.0
"""3 s in which UDP may answer, then a reservation and a record over TCP, and a busy machine."""

RETURN_LIMIT_S = 20.0


class Network:
    """Public nodes that listen on TCP, and members at sites of these kinds. lines: of the public file."""

    def __init__(
        self, lab: Lab, *kinds: str, publics: int = 2, delay_s: float = 0.0, lines: Sequence[str] = ()
    ) -> None:
        internet = Internet(lab, publics, delay_s=delay_s)
        self.publics = PublicNodes(internet)
        self.publics.up("listen-tcp 443", *lines)
        self.sites: list[Site] = [internet.site(f"site{i}", kind) for i, kind in enumerate(kinds)]
        self.members = [Node(site.host, f"m{i}") for i, site in enumerate(self.sites)]

    def up(self) -> None:
        file = members_file(self.publics, self.members)
        in_parallel(lambda node: node.up(file), self.members)


@pytest.fixture
def lab_with_logs() -> Iterator[Lab]:
    with Lab("tcpr", log=print) as lab:
        yield lab
        print(lab.logs())


@pytest.mark.parametrize(
    "other",
    [
        "port-restricted",
        pytest.param("udp-blocked", marks=pytest.mark.slow),
        pytest.param("open", marks=pytest.mark.slow),
    ],
)
def test_a_member_without_udp_is_reached_by_name_through_relays(lab_with_logs: Lab, other: str) -> None:
    network = Network(lab_with_logs, "udp-blocked", other)
    network.up()
    blocked, member = network.members
    assert answers_within(blocked.host, "m1", FIRST_DATA_LIMIT_S)
    assert answers_within(member.host, "m0", 5)
    assert blocked.inspect()["reachability"] == "blocked"
    assert blocked.peer(member)["relay"] in [node.key for node in network.publics.nodes]
    large = blocked.host.run(["ping", "-4", "-c10", "-i0.1", "-s1380", "-M", "do", "m1"]).stdout
    assert lost(large) == 0


@pytest.mark.slow
def test_the_loss_of_a_relay_over_tcp_is_made_good(lab_with_logs: Lab) -> None:
    network = Network(lab_with_logs, "udp-blocked", "port-restricted")
    network.up()
    blocked, member = network.members
    assert answers_within(blocked.host, "m1", FIRST_DATA_LIMIT_S)
    wait_until(lambda: len(blocked.inspect()["tcp_links"]) == 2, 10, "both public nodes are linked")
    ping = RunningPing(blocked.host, "m1", per_second=10)
    relay = blocked.peer(member)["relay"]
    (used,) = (node for node in network.publics.nodes if node.key == relay)
    for pid in used.host.pids():
        used.host.run(["kill", "-9", str(pid)])
    wait_until(lambda: blocked.peer(member)["relay"] not in (relay, None), 20, "the other relay is used")
    ping.wait_for_answers(20)
    assert lost(ping.stop()) <= 100


def test_traffic_goes_on_when_udp_comes_back(lab_with_logs: Lab) -> None:
    network = Network(lab_with_logs, "port-restricted", "port-restricted")
    (router,) = network.sites[0].routers
    block_udp(router)
    network.up()
    first, second = network.members
    assert answers_within(first.host, "m1", FIRST_DATA_LIMIT_S)
    assert first.inspect()["reachability"] == "blocked"
    ping = RunningPing(first.host, "m1", per_second=20)
    unblock_udp(router)
    network.sites[0].host.assign("eth0", "192.168.1.77/24")  # another network: UDP is tried at once
    wait_until(lambda: first.inspect()["tcp_links"] == [], RETURN_LIMIT_S, "UDP is used again")
    wait_until(lambda: first.inspect()["control"]["tcp_links"] == 0, 10, "the connections have ended")
    ping.wait_for_answers(20)
    assert lost(ping.stop()) <= 20


@pytest.mark.slow
def test_a_node_that_changes_its_address_connects_anew(lab_with_logs: Lab) -> None:
    network = Network(lab_with_logs, "udp-blocked", "port-restricted")
    network.up()
    blocked, _ = network.members
    assert answers_within(blocked.host, "m1", FIRST_DATA_LIMIT_S)
    ping = RunningPing(blocked.host, "m1", per_second=10)
    change_address(blocked.host, "eth0", "192.168.1.99/24")
    ping.wait_for_answers(20)
    assert lost(ping.stop()) <= 40
