"""WireHub nodes on hosts of an internet: their keys, network files and daemons, and what they tell."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from internet import Internet
from labnet import Host, LabError, wait_until
from whcore.keys import SecretKey, encode_key

T = TypeVar("T")
R = TypeVar("R")

INTERFACE = "wh0"
PORT = 62096
PUBLIC_WORKBIT = 8
NAMESPACE = b"public"
STARTED_AT_ONCE = 4
UNLIMITED_RELAYS = ("relay-rate unlimited unlimited", "relay-quota unlimited")
"""Lines for the network file of public nodes that shall relay as fast as they can."""
IPC_TIMEOUT_S = 10.0


def inspect(host: Host) -> dict[str, Any]:
    """What `wh inspect` prints there, without starting a program. Raises LabError, OSError."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.settimeout(IPC_TIMEOUT_S)
        daemon.connect(str(host.directory / "run" / f"{INTERFACE}.sock"))
        daemon.sendall(b'{"verb": "status", "args": {}}\n')
        with daemon.makefile() as lines:
            answer: dict[str, Any] = json.loads(lines.readline())
    if "ok" not in answer:
        raise LabError(f"{host.name}: {answer}")
    status: dict[str, Any] = answer["ok"]
    return status


class Node:
    """One daemon. name: in network files, if it is a member of one."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self.key = self._make_key()

    def _make_key(self) -> str:
        """The private half goes into a file; the text of the public one is returned."""
        secret = SecretKey.search(PUBLIC_WORKBIT, NAMESPACE, threads=1)
        fd = os.open(self.host.directory / "node.sk", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            secret.write_fd(fd)
        finally:
            os.close(fd)
        return encode_key(secret.public_key)

    def up(self, network_file: str, *words: str) -> None:
        """Returns when the daemon says that it is usable."""
        (self.host.directory / "network").write_text(network_file)
        self.host.run(["wh", "up", "./network", "private-key", "./node.sk", "interface", INTERFACE, *words])

    def reload(self, network_file: str) -> None:
        (self.host.directory / "network").write_text(network_file)
        self.host.run(["wh", "reload", INTERFACE])

    def down(self) -> None:
        self.host.run(["wh", "down", INTERFACE])

    def inspect(self) -> dict[str, Any]:
        return inspect(self.host)

    def peer(self, other: Node) -> dict[str, Any]:
        """The other one's part of inspect()."""
        found: dict[str, Any] = next(
            peer for peer in self.inspect()["peers"] if peer["public_key"] == other.key
        )
        return found

    def state(self, other: Node) -> str:
        """Of the path to the other one: idle, relayed, punching, validating, direct, suspect."""
        return str(self.peer(other)["state"])


class PublicNodes:
    """A node on each public host, which is bootstrap and relay to all others."""

    def __init__(self, internet: Internet) -> None:
        self.sites = internet.publics
        self.nodes = [Node(site.host, site.name) for site in self.sites]
        self._file = ""

    def up(self, *more_lines: str) -> None:
        """more_lines: of their network file."""
        self._file = "\n".join(["name public", *self.boot_lines(), *more_lines, ""])
        in_parallel(self.up_again, self.nodes)

    def up_again(self, node: Node) -> None:
        """One of them, with the file of the others."""
        node.up(self._file, "mode", "direct")

    def boot_lines(self, *, by_name: bool = False) -> list[str]:
        """With IPv4 addresses, or with the names that stand for addresses of both families."""
        hosts = [site.name if by_name else site.public_ipv4 for site in self.sites]
        return [f"boot {node.key} {host}:{PORT}" for node, host in zip(self.nodes, hosts, strict=True)]


def members_file(
    publics: PublicNodes, members: Sequence[Node], *more_lines: str, by_name: bool = False
) -> str:
    """The network file of nodes that know each other, and the public nodes by name or IPv4 address."""
    trust = [f"trust {node.name} {node.key}" for node in members]
    boots = publics.boot_lines(by_name=by_name)
    return "\n".join(["name members", "subnet 10.42.0.0/24", *boots, *trust, *more_lines, ""])


def in_parallel(
    action: Callable[[T], R], subjects: Iterable[T], *, at_once: int = STARTED_AT_ONCE
) -> list[R]:
    """action's results, in order. The first error is raised, when all have ended."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(action, subjects))


def wait_for_state(node: Node, other: Node, state: str, deadline_s: float) -> None:
    wait_until(lambda: node.state(other) == state, deadline_s, f"{node.name} -> {other.name} is {state}")
