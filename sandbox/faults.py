"""What goes wrong in a network when a test says so. Wires have more of it: see wires.Wire."""

from __future__ import annotations

import signal
import socket
import struct

from inside import inside
from labnet import Host, Router

NETLINK_NETFILTER = 12  # linux/netlink.h
NLMSG_ERROR = 2
NLM_F_REQUEST, NLM_F_ACK = 1, 4
IPCTNL_MSG_CT_DELETE = 1 << 8 | 2  # linux/netfilter/nfnetlink.h: subsystem CTNETLINK, message
_HEADER = struct.Struct("=IHHII")
_NFGENMSG = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)

UDP_TABLE = "fault_udp"
LENGTH_TABLE = "fault_length"
SEPARATION_TABLE = "fault_separation"


def kill(host: Host) -> None:
    """SIGKILL to all that runs on the host: no goodbye to anybody."""
    host.signal_processes(signal.SIGKILL)


def flush_conntrack(router: Router) -> None:
    """The router forgets every connection and mapping, as by a restart. The sets of nat_rules stay."""
    inside(router, _delete_all_connections)


def _delete_all_connections() -> None:
    length = _HEADER.size + len(_NFGENMSG)
    request = _HEADER.pack(length, IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + _NFGENMSG
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.sendto(request, (0, 0))
        answer = netlink.recv(4096)
    kind = _HEADER.unpack_from(answer)[1]
    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
    if kind != NLMSG_ERROR or code != 0:
        raise OSError(-code, "conntrack was not flushed")


def change_address(host: Host, device: str, address: str) -> None:
    """For a device with one IPv4 address, which keeps its default routes. address: with prefix length."""
    (old,) = host.ip("-4", "-o", "address", "show", "dev", device).splitlines()
    routes = host.ip("-4", "route", "show", "default", "dev", device).splitlines()
    host.ip("address", "delete", old.split()[3], "dev", device)
    host.assign(device, address)
    for route in routes:
        host.ip("route", "replace", *route.split(), "dev", device)


def block_udp(router: Router) -> None:
    """Nothing of UDP passes the router any more, of either family."""
    _add_rule(router, UDP_TABLE, "meta l4proto udp drop")


def unblock_udp(router: Router) -> None:
    router.run(["nft", "delete", "table", "inet", UDP_TABLE])


def swallow_longer_than(router: Router, length: int) -> None:
    """Longer IP packets than that vanish in the router without an ICMP message."""
    _add_rule(router, LENGTH_TABLE, f"meta length > {length} drop")


def swallow_nothing(router: Router) -> None:
    router.run(["nft", "delete", "table", "inet", LENGTH_TABLE])


def separate(router: Router, one: str, other: str) -> None:
    """The router passes nothing between two IPv4 addresses any more."""
    _add_rule(router, SEPARATION_TABLE, f"ip saddr {{ {one}, {other} }} ip daddr {{ {one}, {other} }} drop")


def reunite(router: Router) -> None:
    router.run(["nft", "delete", "table", "inet", SEPARATION_TABLE])


def _add_rule(router: Router, table: str, rule: str) -> None:
    chain = f"chain forward {{\ntype filter hook forward priority filter - 1\n{rule}\n}}"
    router.run(["nft", "-f", "-"], input=f"table inet {table} {{\n{chain}\n}}\n")
