"""The answer to `wh health`: whether a node does what it is there for, or why not."""

from __future__ import annotations

from collections.abc import Iterator

from wh.config.model import Network, PeerKind
from wh.config.reloading import needs_interface
from wh.daemon.reports.clocks import own_clock_warning
from wh.ipc import schema
from wh.node.status import ClockStatus, NodeStatus
from whcore.keys import encode_key

RIGHT = ClockStatus()


def check_health(
    interface: str,
    network: Network,
    node: NodeStatus,
    *,
    isolated: bool,
    interface_up: bool,
    clocks: ClockStatus = RIGHT,
) -> schema.Health:
    """isolated: the interface is in a namespace of its own. interface_up: it is there, and administratively
    up."""
    members = [peer for peer in node.peers if (entry := network.peer(peer.key)) is None or not entry.is_alias]
    problems = list(_problems(interface, network, node, interface_up))
    if clocks.slow_s is not None:
        warning = own_clock_warning(clocks.slow_s)
        problems.append(schema.HealthProblem("clock", str(warning), warning.hint))
    return schema.Health(
        interface=interface,
        healthy=not problems,
        place=_place(network, isolated),
        public_key=encode_key(node.key),
        servers=len(node.contacts),
        members=len(members),
        direct=sum(peer.state == "direct" for peer in members),
        relayed=sum(peer.state == "relayed" for peer in members),
        over_tcp=bool(node.tcp_links),
        problems=problems,
    )


def _place(network: Network, isolated: bool) -> schema.Place:
    if not needs_interface(network):
        return "none"
    return "isolated" if isolated else "host"


def _problems(
    interface: str, network: Network, node: NodeStatus, interface_up: bool
) -> Iterator[schema.HealthProblem]:
    own = network.peer(node.key)
    if needs_interface(network):
        if not interface_up:
            yield schema.HealthProblem(
                "interface", f"the interface {interface} is down", f"ip link set {interface} up"
            )
        if own is None or not own.trusted:
            yield schema.HealthProblem(
                "membership",
                f"this node's key {encode_key(node.key)} is on no trust line of the network file",
                "give it a trust line in the file of every member, then: wh reload",
            )
    if node.key_elsewhere:
        yield schema.HealthProblem(
            "key",
            f"another node has this node's key {encode_key(node.key)}, and each gets a part of the packets",
            "give each a key of its own (wh genkey), or stop the other and restart this one",
        )
    boots = [peer for peer in network.peers if peer.kind is PeerKind.BOOT and peer.key != node.key]
    if boots and not node.joined:
        yield schema.HealthProblem(
            "public-nodes",
            f"no public node answers, over UDP or TCP; the boot lines name {len(boots)}",
            "let UDP out to their ports, and compare their lines, the clock and the secret with theirs",
        )
