"""A host with several addresses answers from the one that it was written to."""

from __future__ import annotations

from pinging import answers_within
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
