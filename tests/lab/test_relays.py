"""Pairs behind NATs that nothing gets through, on real daemons: what they say to each other is relayed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import pytest

from faults import kill
from internet import Internet
from labnet import Lab, wait_until
from nodes import Node, PublicNodes, members_file
from pinging import RunningPing
from wh.config.model import RelayPolicy

DELAY_S = 0.01
TRANSFER_S = 4
RATE = RelayPolicy().rate
BURST = 250_000


@dataclass
class Pair:
    publics: PublicNodes
    a: Node
    b: Node

    def relays_of(self, node: Node) -> list[str]:
        return [relay["public_key"] for relay in node.inspect()["relays"]]

    def address(self, node: Node) -> str:
        return str(node.inspect()["address"])

    def relay_in_use(self) -> Node | None:
        key = self.a.peer(self.b)["relay"]
        return next((node for node in self.publics.nodes if node.key == key), None)

    def channels(self) -> int:
        """At all public nodes that run."""
        count = 0
        for node in self.publics.nodes:
            with suppress(OSError):
                count += node.inspect()["relayed"]["channels"]
        return count

    def reserved(self, count: int) -> bool:
        return all(len(self.relays_of(node)) >= count for node in (self.a, self.b))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both behind random NATs, and three public nodes. Each test leaves what the next needs."""
    with Lab("relay", log=print) as lab:
        internet = Internet(lab, delay_s=DELAY_S)
        publics = PublicNodes(internet)
        a, b = (Node(internet.site(name, "random").host, name) for name in ("a", "b"))
        publics.up()
        for node in (a, b):
            node.up(members_file(publics, (a, b)))
        pair = Pair(publics, a, b)
        wait_until(lambda: pair.reserved(3), 30, "both hold three reservations")
        yield pair


def test_a_pair_is_relayed(pair: Pair) -> None:
    pair.a.host.run(["ping", "-4", "-c3", "-i0.3", "-W5", "b"])
    assert pair.a.state(pair.b) in ("relayed", "punching")
    assert pair.a.peer(pair.b)["relay"] in pair.relays_of(pair.b)
    served = [node.inspect()["relayed"] for node in pair.publics.nodes]
    assert sum(each["reservations"] for each in served) >= 6
    assert sum(each["channels"] for each in served) >= 1


def iperf_server(pair: Pair) -> subprocess.Popen[str]:
    """On b, for one test."""
    server = pair.b.host.popen(["iperf3", "-s", "-1", "-B", pair.address(pair.b)])
    wait_until(lambda: ":5201" in pair.b.host.run(["ss", "-Hltn"]).stdout, 10, "iperf3 listens")
    return server


def bytes_per_second(pair: Pair, *options: str) -> float:
    """From a to b over TCP."""
    server = iperf_server(pair)
    client = pair.a.host.run(["iperf3", "-J", *options, "-c", pair.address(pair.b)])
    assert server.wait(10) == 0
    received = json.loads(client.stdout)["end"]["sum_received"]
    return float(received["bytes"] / received["seconds"])


def test_strangers_get_a_megabyte_a_second(pair: Pair) -> None:
    """What the public nodes allow by default to who is not in their files."""
    assert 0.3 * RATE < bytes_per_second(pair, "-t", str(TRANSFER_S)) < 1.1 * RATE + BURST / TRANSFER_S
    dropped = sum(node.inspect()["data"]["drop_forward"] for node in pair.publics.nodes)
    assert dropped > 0


def test_several_flows_use_both_relays(pair: Pair) -> None:
    """From when both ends know that there is much to carry."""
    wait_until(lambda: pair.channels() >= 2, 10, "two channels are open")
    assert bytes_per_second(pair, "-P", "8", "-O", "6", "-t", "6") > 1.3 * RATE


def forwarded(pair: Pair) -> list[int]:
    """Datagrams, by each public node."""
    return [node.inspect()["data"]["forwarded"] for node in pair.publics.nodes]


def test_a_relay_that_dies_stops_none_of_several_flows(pair: Pair) -> None:
    wait_until(lambda: pair.channels() >= 2, 10, "two channels are open")
    server = iperf_server(pair)
    command = ["iperf3", "-J", "-P", "8", "-t", "30", "-c", pair.address(pair.b)]
    client = pair.a.host.popen(command, stdout=subprocess.PIPE)
    before = forwarded(pair)

    def both_carry_flows() -> bool:
        return sum(now - then > 500 for now, then in zip(forwarded(pair), before, strict=True)) >= 2

    wait_until(both_carry_flows, 16, "flows are split")
    dead = wait_until(pair.relay_in_use, 10, "data is relayed")
    kill(dead.host)
    output, _ = client.communicate(timeout=60)
    assert (client.returncode, server.wait(10)) == (0, 0), output
    seconds = json.loads(output)["intervals"][-10:]  # a flow that lost much to a relay's limit may pause
    for number in range(8):
        assert sum(second["streams"][number]["bytes"] for second in seconds) > 0, "every flow goes on"
    pair.publics.up_again(dead)
    wait_until(lambda: pair.reserved(3), 60, "there are three relays again")


def test_a_relay_that_dies_costs_less_than_two_seconds(pair: Pair) -> None:
    """With the other channel already there; the machine may be busy."""
    ping = RunningPing(pair.a.host, "b", per_second=100)
    wait_until(lambda: pair.channels() >= 2, 10, "two channels are open")
    for _ in range(2):
        dead = wait_until(pair.relay_in_use, 10, "data is relayed")
        kill(dead.host)
        ping.wait_for_answers(50)
        wait_until(lambda dead=dead: pair.relay_in_use() is not dead, 10, "another relay is the first")
        pair.publics.up_again(dead)
        wait_until(lambda: pair.reserved(3), 60, "there are three relays again")
        wait_until(lambda: pair.channels() >= 2, 60, "two channels are open again")
    assert longest_gap(ping.stop()) < 2 * 100


def test_an_operator_who_wants_no_more_relaying_is_left_alone(pair: Pair) -> None:
    ping = RunningPing(pair.a.host, "b", per_second=20)
    first = wait_until(pair.relay_in_use, 10, "data is relayed")
    first.reload("\n".join(["name public", "relay off", *pair.publics.boot_lines(), ""]))
    wait_until(
        lambda: first.key not in pair.relays_of(pair.a) + pair.relays_of(pair.b), 60, "it relays for nobody"
    )
    assert first.inspect()["relayed"] == {"offered": False, "reservations": 0, "channels": 0}
    ping.wait_for_answers(20)
    assert wait_until(pair.relay_in_use, 10, "data is relayed elsewhere") is not first
    ping.stop()


def longest_gap(output: str) -> int:
    """Packets in a row without an answer."""
    answered = sorted(int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", output))
    return max(later - earlier for earlier, later in pairwise(answered)) - 1
