"""Where WireGuard's datagrams leave from and go to: roaming, NAT, policy routes, sticky source addresses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from labnet import Lab, wait_until
from wireguard_ends import (
    PINGS,
    End,
    PacketCounter,
    ping_both_ways,
    same_wire,
    sockets_removed,
    start_and_connect,
)

FWMARK = "0xf000ca6c"
CONNTRACK_S = 2
JUNK_PORT = 4444
SEND_JUNK = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", int(sys.argv[1])))
for kind in (1, 2, 3, 4):
    for n in range(149):
        udp.sendto((bytes([kind]) + bytes(148))[:n], (sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
def ends(lab: Lab) -> Iterator[tuple[End, End]]:
    made = same_wire(lab)
    with sockets_removed(*made):
        yield made


@dataclass(frozen=True)
class Family:
    """Outer addresses of one address family, on the wire of same_wire()."""

    name: str
    own: str
    other: str  # another address that the first end can have
    prefix_len: int

    def endpoint(self, address: str, port: int = 51820) -> str:
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


V4 = Family("v4", "192.0.2.1", "192.0.2.11", 24)
V6 = Family("v6", "2001:db8::1", "2001:db8::11", 64)
BOTH = pytest.mark.parametrize("family", [V4, V6], ids=lambda family: family.name)


def add_address(end: End, address: str, prefix_len: int, device: str = "eth0") -> None:
    nodad = ("nodad",) if ":" in address else ()
    end.host.ip("address", "add", f"{address}/{prefix_len}", "dev", device, *nodad)


def remove_address(end: End, address: str, prefix_len: int, device: str = "eth0") -> None:
    end.host.ip("address", "delete", f"{address}/{prefix_len}", "dev", device)


def change_address(end: End, family: Family) -> None:
    """The old one goes first: with the first IPv4 address of a subnet go all others of it."""
    remove_address(end, family.own, family.prefix_len)
    add_address(end, family.other, family.prefix_len)


# --- roaming ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("pair", [("ours", "ours"), ("ours", "go")], ids=" and ".join)
def test_the_other_end_follows_a_new_address(
    ends: tuple[End, End], family: Family, pair: tuple[str, str]
) -> None:
    start_and_connect(ends, *pair, endpoint=family.name)
    a, b = ends
    ping_both_ways(ends)
    change_address(a, family)
    wait_until(lambda: a.reaches(b.inner), 5, "packets flow from the new address")
    assert b.endpoint_of(a) == family.endpoint(family.other)
    ping_both_ways(ends)


def test_a_peer_moves_between_ipv4_and_ipv6_and_ports(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    for port, endpoint in ((51820, V6), (5000, V6), (5001, V4), (51820, V4)):
        a.wg_set("listen-port", str(port))
        a.set_peer(b, "endpoint", endpoint.endpoint(b.outer6 if endpoint is V6 else b.outer))
        a.ping(b.inner)
        assert b.endpoint_of(a) == endpoint.endpoint(endpoint.own, port)
        b.ping(a.inner6)


def test_only_authenticated_datagrams_move_a_peer(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    ping_both_ways(ends)
    arrived = PacketCounter(b.host, f"udp sport {JUNK_PORT} udp dport {b.port}")
    a.host.run([sys.executable, "-c", SEND_JUNK, str(JUNK_PORT), b.outer, str(b.port)])
    assert arrived.packets == 4 * 149
    assert b.endpoint_of(a) == V4.endpoint(V4.own)
    ping_both_ways(ends)


# --- crypto-routing -----------------------------------------------------------------------------------------


def test_inner_sources_that_are_not_the_peers_are_dropped(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    stranger, stranger6 = "10.9.0.77", "fd09::77"
    add_address(a, stranger, 32, a.interface)
    add_address(a, stranger6, 128, a.interface)
    inside = PacketCounter(b.host, f"iifname {b.interface}")
    for address, source in ((b.inner, stranger), (b.inner6, stranger6)):
        assert not a.reaches(address, "-I", source)
    assert inside.packets == 0
    assert b.transfer(a)[0] >= 128 + 144, "they had come as far as the interface"
    b.set_peer(a, "allowed-ips", f"{a.inner}/32,{a.inner6}/128,{stranger}/32,{stranger6}/128")
    a.ping(b.inner, "-I", stranger)
    a.ping(b.inner6, "-I", stranger6)


# --- NAT ----------------------------------------------------------------------------------------------------


@pytest.fixture
def behind_nat(lab: Lab) -> Iterator[tuple[End, End]]:
    """The first end behind a NAT that forgets a silent mapping after CONNTRACK_S."""
    lan, wan = lab.network("lan"), lab.network("wan")
    nat = lab.router("nat", "port-restricted")
    nat.attach(lan, "192.168.7.1/24", device="lan")
    nat.attach(wan, "203.0.113.1/24", device="wan")
    inside, outside = lab.host("inside"), lab.host("outside")
    inside.attach(lan, "192.168.7.2/24")
    inside.default_route("192.168.7.1")
    outside.attach(wan, "203.0.113.2/24")
    ends = (
        End(inside, f"wg1-{lab.token}", "192.168.7.2", "", "10.9.0.1", "fd09::1"),
        End(outside, f"wg2-{lab.token}", "203.0.113.2", "", "10.9.0.2", "fd09::2"),
    )
    for variable in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
        nat.run(["sysctl", "-qw", f"net.netfilter.{variable}={CONNTRACK_S}"])
    with sockets_removed(*ends):
        for end in ends:
            end.make_key()
            end.start()
            end.listen()
        yield ends


def mappings(lab: Lab) -> int:
    nat = next(host for host in lab.hosts if host.name == "nat")
    return nat.run(["cat", "/proc/net/nf_conntrack"]).stdout.count(" udp ")


def test_keepalives_hold_a_mapping_open_that_silence_loses(lab: Lab, behind_nat: tuple[End, End]) -> None:
    inside, outside = behind_nat
    outside.know(inside, endpoint=None)
    inside.know(outside)
    inside.ping(outside.inner)
    assert outside.reaches(inside.inner)
    wait_until(lambda: mappings(lab) == 0, 10, "the NAT forgets the silent tunnel")
    assert not outside.reaches(inside.inner)
    inside.set_peer(outside, "persistent-keepalive", "1")
    wait_until(lambda: outside.reaches(inside.inner), 5, "a keepalive goes out at once")
    with pytest.raises(TimeoutError):
        wait_until(lambda: mappings(lab) == 0, CONNTRACK_S + 1.5, "the NAT forgets the tunnel")
    outside.ping(inside.inner)


# --- policy routes ------------------------------------------------------------------------------------------


@BOTH
def test_a_policy_route_by_fwmark_carries_the_tunnel(ends: tuple[End, End], family: Family) -> None:
    """Only marked packets may leave: without the mark nothing of the tunnel does, and with it all."""
    start_and_connect(ends, endpoint=family.name)
    ping_both_ways(ends)
    a, b = ends
    other = b.outer6 if family is V6 else b.outer
    rule = ("-6" if family is V6 else "-4", "rule")
    a.host.ip(*rule, "add", "to", other, "fwmark", FWMARK, "lookup", "main", "priority", "100")
    a.host.ip(*rule, "add", "to", other, "prohibit", "priority", "101")
    assert not a.reaches(b.inner)
    a.wg_set("fwmark", FWMARK)
    wait_until(lambda: a.reaches(b.inner), 10, "marked packets pass")
    assert a.host.run(["wg", "show", a.interface, "fwmark"]).stdout.strip() == FWMARK
    ping_both_ways(ends)
    a.wg_set("listen-port", "5555")  # new sockets carry the mark too
    a.ping(b.inner)
    a.wg_set("fwmark", "off")
    assert not a.reaches(b.inner)
    a.host.ip(*rule, "delete", "priority", "101")
    wait_until(lambda: a.reaches(b.inner), 10, "all packets pass")


def test_everything_but_the_tunnel_goes_through_the_tunnel(ends: tuple[End, End]) -> None:
    """A default route through the interface, as wg-quick makes it."""
    start_and_connect(ends)
    a, b = ends
    a.wg_set("fwmark", "51820")
    a.set_peer(b, "allowed-ips", "0.0.0.0/0,::/0")
    a.host.ip("route", "add", "default", "dev", a.interface, "table", "51820")
    a.host.ip("rule", "add", "not", "fwmark", "51820", "table", "51820")
    inside = PacketCounter(b.host, f"iifname {b.interface} ip daddr {b.outer}")
    a.ping(b.inner)
    a.ping(b.outer)
    assert inside.packets == PINGS


# --- sticky source addresses --------------------------------------------------------------------------------


@BOTH
def test_answers_leave_from_the_address_that_was_written_to(ends: tuple[End, End], family: Family) -> None:
    a, b = ends
    add_address(a, family.other, family.prefix_len)
    for end in ends:
        end.start()
        end.listen()
    a.know(b, endpoint=None)
    for written_to in (family.other, family.own, family.other):
        b.know(a, endpoint=family.endpoint(written_to))
        b.ping(a.inner)
        assert b.endpoint_of(a) == family.endpoint(written_to), "it would have moved with another source"
        a.ping(b.inner)
        assert b.endpoint_of(a) == family.endpoint(written_to)


@BOTH
def test_a_source_address_that_was_removed_is_replaced(ends: tuple[End, End], family: Family) -> None:
    a, b = ends
    add_address(a, family.other, family.prefix_len)
    for end in ends:
        end.start()
        end.listen()
    a.know(b, endpoint=None)
    b.know(a, endpoint=family.endpoint(family.other))
    b.ping(a.inner)
    remove_address(a, family.other, family.prefix_len)
    a.ping(b.inner)
    assert b.endpoint_of(a) == family.endpoint(family.own)
    b.ping(a.inner)


@BOTH
def test_a_source_address_that_moved_to_another_device_is_not_clung_to(
    ends: tuple[End, End], family: Family
) -> None:
    """The address is the host's still, but datagrams leave by a device with an address of its own."""
    a, b = ends
    start_and_connect(ends, endpoint=family.name)
    ping_both_ways(ends)
    change_address(a, family)
    add_address(a, family.own, 128 if family is V6 else 32, "lo")

    def moved() -> bool:
        a.reaches(b.inner)
        return b.endpoint_of(a) == family.endpoint(family.other)

    wait_until(moved, 5, "datagrams leave from the device's own address")
    ping_both_ways(ends)


@dataclass(frozen=True)
class TwoWays:
    """Addresses of two networks that both ends are on, and of the second end's loopback device."""

    networks: tuple[str, str]
    prefix_len: int
    loopback: str
    loopback_len: int

    def address(self, network: int, end: int) -> str:
        return f"{self.networks[network]}{end}"


TWO_WAYS = {
    "v4": TwoWays(("198.51.100.", "203.0.113."), 24, "100.64.0.2", 32),
    "v6": TwoWays(("2001:db8:a::", "2001:db8:b::"), 64, "2001:db8:f::2", 128),
}


@BOTH
def test_a_better_route_is_taken_with_its_own_source_address(lab: Lab, family: Family) -> None:
    ways = TWO_WAYS[family.name]
    networks = [lab.network("first"), lab.network("second")]
    ends = []
    for number in (1, 2):
        host = lab.host(f"end{number}")
        for way, network in enumerate(networks):
            host.attach(network, f"{ways.address(way, number)}/{ways.prefix_len}", device=f"eth{way}")
        ends.append(End(host, f"wg{number}-{lab.token}", "", "", f"10.9.0.{number}", f"fd09::{number}"))
        ends[-1].make_key()
    a, b = ends
    b.host.ip("address", "add", f"{ways.loopback}/{ways.loopback_len}", "dev", "lo")
    with sockets_removed(a, b):
        for end in (a, b):
            end.start()
            end.listen()
        route = ("route", "add", ways.loopback, "via")
        a.host.ip(*route, ways.address(0, 2), "metric", "100")
        a.know(b, endpoint=family.endpoint(ways.loopback))
        b.know(a, endpoint=None)
        a.ping(b.inner)
        assert b.endpoint_of(a) == family.endpoint(ways.address(0, 1))
        a.host.ip(*route, ways.address(1, 2), "metric", "10")

        def changed() -> bool:
            a.reaches(b.inner)
            return b.endpoint_of(a) == family.endpoint(ways.address(1, 1))

        wait_until(changed, 5, "datagrams take the better route")
        a.ping(b.inner)
        b.ping(a.inner)
        assert b.endpoint_of(a) == family.endpoint(ways.address(1, 1))


def test_a_link_local_endpoint_with_its_link(lab: Lab, ends: tuple[End, End]) -> None:
    """Not the first of the host's links, on which the kernel would look without."""
    a, b = ends
    second = lab.network("second")
    for end in ends:
        end.host.attach(second, device="eth1")
    addresses = b.host.ip("-6", "-br", "address", "show", "dev", "eth1", "scope", "link")
    link_local = addresses.split()[2].partition("/")[0]
    for end in ends:
        end.start()
        end.listen()
    b.know(a, endpoint=None)
    a.know(b, endpoint=f"[{link_local}%eth1]:{b.port}")
    a.ping(b.inner)
    b.ping(a.inner6)
    assert a.endpoint_of(b) == f"[{link_local}%eth1]:{b.port}"


# --- routing loops ------------------------------------------------------------------------------------------


@BOTH
def test_an_endpoint_that_is_routed_into_its_own_tunnel_is_bounded(
    ends: tuple[End, End], family: Family
) -> None:
    start_and_connect(ends)
    a, b = ends
    ping_both_ways(ends)
    a.set_peer(b, "endpoint", family.endpoint(b.inner6 if family is V6 else b.inner))
    entering = PacketCounter(a.host, f"oifname {a.interface}", "output")
    assert not a.reaches(b.inner)
    first = entering.packets
    assert first < 64, "one ping does not breed"
    assert not a.reaches(b.inner)
    assert entering.packets - first < 64
    a.know(b)
    wait_until(lambda: a.reaches(b.inner), 10, "the tunnel works again with a sound endpoint")
