"""Where UDP does not get through, TCP does: real daemons, real firewalls."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faults import block_udp, unblock_udp
from internet import Internet, Site
from labnet import Host, Lab, wait_until
from pinging import RunningPing, answers_within, lost

INTERFACE = "wh0"
JOIN_LIMIT_S = 10.0
"""3 s in which UDP may answer, and a few round trips."""

NOTICE_LIMIT_S = 30.0
RETURN_LIMIT_S = 90.0
"""UDP is tried each minute."""


class Network:
    """A public member with a TCP port, and a member behind a router."""

    def __init__(self, lab: Lab, kind: str, tcp_port: int = 443) -> None:
        self.internet = Internet(lab, publics=1)
        self.public = self.internet.publics[0]
        self.inside: Site = self.internet.site("inside", kind)
        self.keys = {host.name: self._make_key(host) for host in self.hosts}
        lines = [
            "name blocked",
            "subnet 10.0.42.0/24",
            f"boot {self.keys['public1']} {self.public.public_ipv4}",
            f"trust server {self.keys['public1']}",
            f"trust client {self.keys['inside']}",
        ]
        for host in self.hosts:
            (host.directory / "config").write_text("\n".join(lines) + "\n")
        with (self.public.host.directory / "config").open("a") as config:
            config.write(f"listen-tcp {tcp_port}\n")

    @property
    def hosts(self) -> list[Host]:
        return [self.public.host, self.inside.host]

    def _make_key(self, host: Host) -> str:
        return host.shell("umask 077; wh genkey | tee key | wh pubkey").stdout.strip()

    def up(self) -> None:
        for host in self.hosts:
            self.up_one(host)

    def up_one(self, host: Host) -> None:
        host.run(["wh", "up", "./config", "private-key", "./key", "interface", INTERFACE])

    def inspect(self, host: Host) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(host.run(["wh", "inspect", INTERFACE]).stdout)
        return answer

    def over_tcp(self) -> bool:
        return bool(self.inspect(self.inside.host)["tcp_links"])


@pytest.fixture
def lab_with_logs() -> Iterator[Lab]:
    with Lab("tcp", log=print) as lab:
        yield lab
        print(lab.logs())


def test_a_node_without_udp_joins_over_tcp_and_its_traffic_goes_there(lab_with_logs: Lab) -> None:
    network = Network(lab_with_logs, "udp-blocked")
    network.up()
    assert answers_within(network.inside.host, "server", JOIN_LIMIT_S)
    assert answers_within(network.public.host, "client", 5)
    status = network.inspect(network.inside.host)
    assert status["reachability"] == "blocked"
    assert status["tcp_links"] == [f"{network.public.public_ipv4}:62096"]
    assert "<UDP blocked>" in network.inside.host.run(["wh", "show", INTERFACE]).stdout
    assert network.inspect(network.public.host)["control"]["tcp_clients"] == 1
    large = network.inside.host.run(["ping", "-4", "-c5", "-i0.2", "-s1380", "-M", "do", "server"]).stdout
    assert lost(large) == 0


def goes_back_to_udp(network: Network, unblock: Callable[[Host], None], limit_s: float) -> None:
    (router,) = network.inside.routers
    block_udp(router)
    network.up()
    host, public = network.inside.host, network.public.host
    assert answers_within(host, "server", JOIN_LIMIT_S)
    assert network.over_tcp()
    ping = RunningPing(host, "server", per_second=20)
    unblock_udp(router)
    unblock(host)
    wait_until(lambda: not network.over_tcp(), limit_s, "UDP is used again")
    wait_until(lambda: network.inspect(public)["control"]["tcp_clients"] == 0, 15, "the connection has ended")
    ping.wait_for_answers(20)
    assert lost(ping.stop()) <= 1
    (peer,) = (peer for peer in network.inspect(host)["peers"] if peer["hostname"] == "server")
    assert peer["state"] == "direct"


@pytest.mark.slow
def test_a_node_in_another_network_tries_udp_again_at_once(lab_with_logs: Lab) -> None:
    network = Network(lab_with_logs, "port-restricted")
    goes_back_to_udp(network, lambda host: host.assign("eth0", "192.168.1.77/24"), 15)


@pytest.mark.slow  # it is tried each minute
def test_udp_that_comes_back_is_used_without_losing_a_connection(lab_with_logs: Lab) -> None:
    network = Network(lab_with_logs, "port-restricted")
    goes_back_to_udp(network, lambda host: None, RETURN_LIMIT_S)


def test_udp_that_is_blocked_later_is_noticed(lab_with_logs: Lab) -> None:
    network = Network(lab_with_logs, "port-restricted", tcp_port=8443)
    network.up()
    host = network.inside.host
    assert answers_within(host, "server", JOIN_LIMIT_S)
    assert not network.over_tcp()
    block_udp(network.inside.routers[0])
    assert answers_within(host, "server", NOTICE_LIMIT_S)
    assert network.over_tcp()


HOLD_CONNECTIONS = """
import socket, sys, time
held = []
while True:
    try:
        held.append(socket.create_connection((sys.argv[1], 443), 1))
        if len(held) % 2:
            held[-1].send(b"\\x16\\x03\\x01")  # the first bytes of TLS, and no more
    except OSError:
        time.sleep(0.05)
    if len(held) > 400:
        held.pop(0).close()
"""


@pytest.mark.slow
def test_connections_that_say_nothing_keep_nobody_out(lab_with_logs: Lab) -> None:
    network = Network(lab_with_logs, "udp-blocked")
    attacker = network.internet.site("attacker", "open").host
    public, inside = network.hosts
    network.up_one(public)
    attacker.popen([sys.executable, "-c", HOLD_CONNECTIONS, network.public.public_ipv4])
    refused = "tcp_refused_full", "tcp_refused_rate"
    wait_until(
        lambda: any(network.inspect(public)["control"].get(reason) for reason in refused),
        15,
        "the attacker is refused",
    )
    network.up_one(inside)
    assert answers_within(inside, "server", JOIN_LIMIT_S)
    assert network.inspect(public)["control"]["tcp_clients"] <= 17
