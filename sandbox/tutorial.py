"""The README's tutorial as a lab: a public node, node_a on another public network, node_b behind a NAT.

bootstrap 192.0.2.7 ──── isp ──── 198.51.100.10 node_a
                          │
                     203.0.113.2 nat ──── 192.168.77.10 node_b

In the demo node_a is behind a NAT too: 198.51.100.2 nat_a ──── 192.168.66.10 node_a.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

from labnet import Host, Lab, Network, Router
from nodes import in_parallel

Shell = Callable[[Host, str], subprocess.CompletedProcess[str]]
"""Runs a line of bash on a host; raises where it fails."""

INTERFACE = "wh0"
PORT = 62096
BOOTSTRAP_ADDRESS = "192.0.2.7"
SUBNET = "10.0.42.0/24"
ADDRESSES = {"node_a": "10.0.42.2", "node_b": "10.0.42.3", "node_c": "10.0.42.4"}
"""Assigned in the order of the file's trust lines, from the subnet's second address on."""

KEY_TEXT = re.compile(r"[A-Za-z0-9_-]{43}\n")


def plain_shell(host: Host, command: str) -> subprocess.CompletedProcess[str]:
    return host.shell(command)


class Tutorial:
    """The machines, and each step of the tutorial as a method. Every command goes through `shell`."""

    def __init__(
        self,
        lab: Lab,
        shell: Shell = plain_shell,
        nat: str = "port-restricted",
        nat_a: str | None = None,
        joint: str = "_",
    ) -> None:
        """nat: node_b's. nat_a: node_a's, if it is to be behind one too. joint: in the nodes' names; the
        README has a hyphen, the tutorial of 2018 had an underscore, which must go on to work."""
        self.lab = lab
        self.shell = shell
        self.bootstrap = lab.host("bootstrap")
        self.node_a = lab.host(f"node{joint}a")
        self.node_b = lab.host(f"node{joint}b")
        self.isp = lab.router("isp")
        self.nat = lab.router("nat", nat)
        self.nat_a = lab.router("nat_a", nat_a) if nat_a else None
        self.keys: dict[str, str] = {}
        self.networks = self._connect()

    def _connect(self) -> dict[str, Network]:
        networks = {name: self.lab.network(name) for name in ("net_public", "net_a", "net_wan", "net_lan")}
        _join(networks["net_public"], self.isp, "192.0.2.1", self.bootstrap, BOOTSTRAP_ADDRESS)
        if self.nat_a is None:
            _join(networks["net_a"], self.isp, "198.51.100.1", self.node_a, "198.51.100.10")
        else:
            networks["net_lan_a"] = self.lab.network("net_lan_a")
            _join(networks["net_a"], self.isp, "198.51.100.1", self.nat_a, "198.51.100.2", device="wan")
            _join(
                *(networks["net_lan_a"], self.nat_a, "192.168.66.1", self.node_a, "192.168.66.10"),
                router_device="lan",
            )
        _join(networks["net_wan"], self.isp, "203.0.113.1", self.nat, "203.0.113.2", device="wan")
        _join(
            networks["net_lan"], self.nat, "192.168.77.1", self.node_b, "192.168.77.10", router_device="lan"
        )
        return networks

    @property
    def nodes(self) -> list[Host]:
        return [self.bootstrap, self.node_a, self.node_b]

    def make_keys(self) -> None:
        for host in self.nodes:
            self.make_key(host)

    def make_key(self, host: Host) -> None:
        """A secret key in NAME.sk; the public one is remembered for the network file."""
        printed = self.shell(host, f"umask 077; wh genkey | tee {host.name}.sk | wh pubkey").stdout
        if not KEY_TEXT.fullmatch(printed):
            raise ValueError(f"not a public key: {printed!r}")
        self.keys[host.name] = printed.strip()

    def network_file(self, *more_lines: str) -> str:
        """The README's file, with these keys."""
        a, b = self.node_a.name, self.node_b.name
        lines = [
            "name tutorial           # name of network",
            f"subnet {SUBNET}     # private subnetwork",
            "",
            "# one DHT bootstrap node",
            f"boot {self.keys['bootstrap']} {BOOTSTRAP_ADDRESS}",
            "",
            f"# two nodes, {a} & {b}",
            f"trust {a} {self.keys[a]}",
            f"trust {b} {self.keys[b]}",
            *more_lines,
        ]
        return "\n".join(lines) + "\n"

    def public_file(self) -> str:
        """The file of a node that serves the public DHT and is in nobody's network."""
        return f"name public\nworkbit 8\nboot {self.keys['bootstrap']} {BOOTSTRAP_ADDRESS}:{PORT}\n"

    def write_files(self) -> None:
        (self.bootstrap.directory / "public").write_text(self.public_file())
        for host in (self.node_a, self.node_b):
            (host.directory / "config").write_text(self.network_file())

    def up(self, host: Host, *options: str) -> subprocess.CompletedProcess[str]:
        words = ["interface", INTERFACE, *options]
        if host is self.bootstrap:
            return self.shell(
                host, f"wh up ./public private-key ./bootstrap.sk {' '.join(words)} mode direct"
            )
        return self.shell(host, f"wh up ./config private-key ./{host.name}.sk {' '.join(words)}")

    def down(self, host: Host) -> None:
        self.shell(host, f"wh down {INTERFACE}")

    def start(self) -> None:
        """Everything up to and including the last `wh up`."""
        self.make_keys()
        self.write_files()
        self.up_all()

    def up_all(self) -> None:
        """The members beside each other, once there is somebody whom they meet at."""
        bootstrap, *members = self.nodes
        self.up(bootstrap)
        in_parallel(self.up, members)

    def inspect(self, host: Host) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(host.run(["wh", "inspect", INTERFACE]).stdout)
        return answer


def _join(
    network: Network,
    router: Router,
    gateway: str,
    host: Host,
    address: str,
    *,
    device: str = "eth0",
    router_device: str | None = None,
) -> None:
    """Put both on a network, the host with the router as its default gateway."""
    router.attach(network, f"{gateway}/24", device=router_device or network.name)
    host.attach(network, f"{address}/24", device=device)
    host.default_route(gateway)
