"""A host with several addresses answers from the one that it was written to."""

from __future__ import annotations

import pytest

from labnet import Host, wait_until
from pinging import answers_within, lost
from timed_ping import TimedPing, longest_gap_s
from tutorial import BOOTSTRAP_ADDRESS, Tutorial
from wireguard_ends import PacketCounter

PREFERRED = "192.0.2.99"  # what the kernel takes where nothing else is asked for


def test_a_node_answers_from_the_address_that_its_file_names(tutorial: Tutorial) -> None:
    """The NAT in front of node_b would let nothing else in."""
    bootstrap = tutorial.bootstrap
    bootstrap.ip("address", "add", f"{PREFERRED}/24", "dev", "eth0")
    bootstrap.ip("route", "replace", "default", "via", "192.0.2.1", "src", PREFERRED)
    right = PacketCounter(bootstrap, f"ip saddr {BOOTSTRAP_ADDRESS} meta l4proto udp", "output")
    tutorial.up(bootstrap)
    tutorial.up(tutorial.node_b)
    tutorial.up(tutorial.node_a)
    assert answers_within(tutorial.node_a, "node_b", 15)
    assert right.packets > 0


@pytest.fixture
def named(tutorial: Tutorial) -> Tutorial:
    """node_a has two addresses, and the file names the one that the kernel would not take."""
    a = tutorial.node_a
    a.ip("address", "add", "198.51.100.99/24", "dev", "eth0")
    a.ip("route", "replace", "default", "via", "198.51.100.1", "src", "198.51.100.99")
    for host in (a, tutorial.node_b):
        config = host.directory / "config"
        line = f"trust node_a {tutorial.keys['node_a']}"
        config.write_text(config.read_text().replace(line, f"{line} 198.51.100.10:7777"))
    return tutorial


def test_data_leaves_from_the_address_that_the_peer_writes_to(named: Tutorial) -> None:
    a, b = named.node_a, named.node_b
    for host in named.nodes:
        named.up(host)
    assert answers_within(b, "node_a", 15)

    def direct(host: object) -> bool:
        status = named.inspect(host)
        return next(peer for peer in status["peers"] if peer["hostname"] == "node_b")["state"] == "direct"

    wait_until(lambda: direct(a), 15, "the path is direct")
    wrong = PacketCounter(a, "ip saddr 198.51.100.99 ip daddr 203.0.113.2 meta l4proto udp", "output")
    assert lost(b.run(["ping", "-c10", "-i0.1", "-W2", "node_a"]).stdout) == 0
    assert wrong.packets == 0
    ping = TimedPing(a, "node_b", interval_s=0.02)
    ping.wait_for_replies(5)
    container_starts_and_stops(a, 20)
    ping.wait_for_replies(20)
    assert wrong.packets == 0, "what changes nothing for us is no reason to choose anew"
    gap_s = longest_gap_s(ping.stop())
    print(f"containers: {gap_s:.3f} s")
    assert gap_s < 1.0, "it was 3.4 s each time"


def container_starts_and_stops(host: Host, times: int) -> None:
    """What of it a network sees."""
    for number in range(times):
        subnet = f"172.17.{number}.1/24"
        host.ip("link", "add", f"veth{number}", "type", "veth", "peer", "name", f"inside{number}")
        host.ip("address", "add", subnet, "dev", f"veth{number}")
        host.ip("link", "set", f"veth{number}", "up")
        host.ip("link", "del", f"veth{number}")
