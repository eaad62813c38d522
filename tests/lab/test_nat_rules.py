"""Every kind of NAT is what it is called: mapping and filtering, measured with sockets on both sides."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

import faults
from inside import inside, udp_socket
from internet import POOL, Internet, Site
from labnet import Host, Lab
from nat_rules import HASHED_PORTS, SEQUENTIAL_PORTS

INSIDE_PORT = 6000
SERVER_PORTS = (7001, 7002)

Address = tuple[str, int]


@dataclass
class Bench:
    """A socket behind the NAT, and servers: two ports on each of two public hosts."""

    site: Site
    client: socket.socket
    servers: dict[tuple[int, int], socket.socket]  # (host, port)

    def address_of(self, server: tuple[int, int]) -> Address:
        return self.servers[server].getsockname()[:2]

    def mapping(self, server: tuple[int, int]) -> Address:
        """Where this server sees the client."""
        self.client.sendto(b"out", self.address_of(server))
        _, source = self.servers[server].recvfrom(100)
        return source[:2]

    def lets_in(self, sender: tuple[int, int], mapped: Address, witness: tuple[int, int]) -> bool:
        """Whether the sender reaches the mapping. witness: a server that certainly does, and comes after."""
        self.servers[sender].sendto(b"in", mapped)
        self.servers[witness].sendto(b"last", mapped)
        texts = [self.client.recvfrom(100)[0]]
        while texts[-1] != b"last":
            texts.append(self.client.recvfrom(100)[0])
        return b"in" in texts


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def bench(lab: Lab, stack: ExitStack, kind: str) -> Bench:
    internet = Internet(lab, publics=2)
    site = internet.site("site", kind)
    client = stack.enter_context(udp_socket(site.host, "", INSIDE_PORT))
    servers = {
        (host, port): stack.enter_context(udp_socket(public.host, public.public_ipv4, port))
        for host, public in enumerate(internet.publics)
        for port in SERVER_PORTS
    }
    return Bench(site, client, servers)


FIRST, SAME_ADDRESS, OTHER_ADDRESS = (0, 7001), (0, 7002), (1, 7001)

BEHAVIOUR = {
    # kind: mapping depends on, filtering depends on, the port is preserved
    "open": ("nothing", "nothing", True),
    "endpoint-independent": ("nothing", "nothing", True),
    "address-restricted": ("nothing", "address", True),
    "port-restricted": ("nothing", "address and port", True),
    "port-restricted-input-open": ("nothing", "address and port", True),
    "port-restricted-hairpin": ("nothing", "address and port", True),
    "port-translating": ("nothing", "address and port", False),
    "address-dependent": ("address", "address and port", False),
    "sequential": ("address and port", "address and port", False),
    "random": ("address and port", "address and port", False),
    "random-pool": ("address and port", "address and port", False),
    "upnp": ("address and port", "address and port", False),
    "nat-pmp": ("address and port", "address and port", False),
    "nested": ("nothing", "address and port", True),
}


@pytest.mark.parametrize("kind", BEHAVIOUR)
def test_mapping_and_filtering_are_as_named(lab: Lab, stack: ExitStack, kind: str) -> None:
    mapping, filtering, preserves_port = BEHAVIOUR[kind]
    nat = bench(lab, stack, kind)
    first = nat.mapping(FIRST)
    assert nat.mapping(FIRST) == first, "a mapping lives on"
    assert (first[1] == INSIDE_PORT) == preserves_port
    assert (nat.mapping(SAME_ADDRESS) == first) == (mapping != "address and port")
    assert (nat.mapping(OTHER_ADDRESS) == first) == (mapping == "nothing")
    nat.client = stack.enter_context(udp_socket(nat.site.host, "", INSIDE_PORT + 1))
    first = nat.mapping(FIRST)
    assert nat.lets_in(OTHER_ADDRESS, first, FIRST) == (filtering == "nothing")
    assert nat.lets_in(SAME_ADDRESS, first, FIRST) == (filtering in ("nothing", "address"))


def test_sequential_takes_the_next_port(lab: Lab, stack: ExitStack) -> None:
    nat = bench(lab, stack, "sequential")
    ports = [nat.mapping(server)[1] for server in nat.servers]
    assert ports == list(SEQUENTIAL_PORTS[: len(ports)])


def test_random_ports_are_spread_wide(lab: Lab, stack: ExitStack) -> None:
    nat = bench(lab, stack, "random")
    ports = {nat.mapping(server)[1] for server in nat.servers}
    assert len(ports) == len(nat.servers)
    assert max(ports) - min(ports) > 1_000  # fails once in 50 million times


def test_pool_has_several_addresses_for_one_socket(lab: Lab, stack: ExitStack) -> None:
    internet = Internet(lab, publics=1)
    site = internet.site("site", "random-pool")
    client = stack.enter_context(udp_socket(site.host))
    server = stack.enter_context(udp_socket(internet.publics[0].host, "", 7000))
    addresses = [f"192.0.2.{n}" for n in range(100, 116)]
    internet.publics[0].host.assign("eth0", *(f"{address}/24" for address in addresses))
    seen = set()
    for address in addresses:
        client.sendto(b"out", (address, 7000))
        seen.add(server.recvfrom(100)[1][0])
    assert len(seen) > 1
    assert seen <= {f"{site.subnets[0].ipv4}.{n}" for n in POOL}


def test_translated_port_changes_as_after_a_restart(lab: Lab, stack: ExitStack) -> None:
    nat = bench(lab, stack, "port-translating")
    before = nat.mapping(FIRST)
    assert before[1] in HASHED_PORTS
    nat.site.routers[0].load_nat(seed=1)
    faults.flush_conntrack(nat.site.routers[0])
    after = nat.mapping(FIRST)
    assert after != before
    assert nat.mapping(OTHER_ADDRESS) == after


@pytest.mark.parametrize(
    ("kind", "moves"), [("port-restricted", False), ("port-restricted-input-open", True)]
)
def test_early_packet_moves_the_mapping_only_where_the_router_takes_it(
    lab: Lab, stack: ExitStack, kind: str, moves: bool
) -> None:
    nat = bench(lab, stack, kind)
    nat.servers[FIRST].sendto(b"early", (nat.site.public_ipv4, INSIDE_PORT))
    nat.mapping(OTHER_ADDRESS)  # goes after it, so the early one was there by then
    assert (nat.mapping(FIRST)[1] != INSIDE_PORT) == moves


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_udp_is_blocked_and_tcp_passes(lab: Lab, stack: ExitStack, ipv6: bool) -> None:
    internet = Internet(lab, publics=1)
    site = internet.site("site", "udp-blocked", ipv6=True)
    public = internet.publics[0]
    address = public.ipv6 if ipv6 else public.public_ipv4
    listener = stack.enter_context(inside(public.host, lambda: tcp_listener(address)))
    server = stack.enter_context(udp_socket(public.host, address, 7000))
    client = stack.enter_context(udp_socket(site.host, "::" if ipv6 else ""))
    client.sendto(b"out", (address, 7000))
    inside(site.host, lambda: socket.create_connection((address, 7000), timeout=5)).close()
    listener.accept()[0].close()
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.recvfrom(100)


def answers_ping(source: Host, address: str) -> bool:
    return source.run(["ping", "-nc1", "-W1", address], check=False).returncode == 0


def tcp_listener(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 7000), family=family)


@pytest.mark.parametrize(("kind", "meets"), [("port-restricted-hairpin", True), ("port-restricted", False)])
def test_hairpinning_shows_the_outer_address(lab: Lab, stack: ExitStack, kind: str, meets: bool) -> None:
    internet = Internet(lab, publics=1)
    site = internet.site("site", kind)
    neighbour = site.neighbour("neighbour", same_lan=False)
    public = internet.publics[0]
    server = stack.enter_context(udp_socket(public.host, public.public_ipv4, 7000))
    client = stack.enter_context(udp_socket(site.host, "", 6000))
    other = stack.enter_context(udp_socket(neighbour, "", 6001))
    for udp in (client, other):
        udp.sendto(b"out", server.getsockname())
        assert server.recvfrom(100)[1] == (site.public_ipv4, udp.getsockname()[1])
    client.sendto(b"hairpin", (site.public_ipv4, 6001))
    server.sendto(b"last", (site.public_ipv4, 6001))
    arrived = [other.recvfrom(100)]
    if meets:
        assert arrived == [(b"hairpin", (site.public_ipv4, 6000))]
        other.sendto(b"back", (site.public_ipv4, 6000))
        assert client.recvfrom(100) == (b"back", (site.public_ipv4, 6001))
    else:
        assert arrived[0][0] == b"last"


def test_neighbours_on_one_router_meet_only_without_isolation(lab: Lab) -> None:
    internet = Internet(lab, publics=0)
    for kind, meets in (("port-restricted", True), ("port-restricted-hairpin", False)):
        site = internet.site(f"s{meets:d}", kind)
        near = site.neighbour(f"near{meets:d}", same_lan=True)
        far = site.neighbour(f"far{meets:d}", same_lan=False)
        assert answers_ping(site.host, near.ipv4_addresses("eth0")[0])
        assert answers_ping(site.host, far.ipv4_addresses("eth0")[0]) == meets


def test_low_ttl_opens_the_mapping_and_reaches_nobody(lab: Lab, stack: ExitStack) -> None:
    """There is a routed hop between two NATs: what a punch's first packet lives by."""
    internet = Internet(lab, publics=0)
    sites = [internet.site(name, "port-restricted") for name in ("left", "right")]
    left, right = (stack.enter_context(udp_socket(site.host, "", INSIDE_PORT)) for site in sites)
    to_left, to_right = ((site.public_ipv4, INSIDE_PORT) for site in sites)
    left.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)
    left.sendto(b"opener", to_right)  # its own router, the ISP, no farther
    right.sendto(b"through", to_left)
    assert left.recvfrom(100) == (b"through", to_right)
    left.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
    left.sendto(b"answer", to_right)
    assert right.recvfrom(100) == (b"answer", to_left)


def test_ipv6_passes_a_stateful_filter(lab: Lab, stack: ExitStack) -> None:
    internet = Internet(lab, publics=1)
    public, site = internet.publics[0], internet.site("site", "ipv6-only")
    server = stack.enter_context(udp_socket(public.host, public.ipv6, 7000))
    stranger = stack.enter_context(udp_socket(public.host, public.ipv6, 7001))
    client = stack.enter_context(udp_socket(site.host, site.ipv6, INSIDE_PORT))
    client.sendto(b"out", server.getsockname())
    assert server.recvfrom(100)[1][:2] == (site.ipv6, INSIDE_PORT)
    stranger.sendto(b"in", client.getsockname())
    server.sendto(b"last", client.getsockname())
    assert client.recvfrom(100)[0] == b"last"
    assert site.host.ipv4_addresses("eth0") == []


def test_nested_site_with_ipv6_is_routed(lab: Lab) -> None:
    internet = Internet(lab, publics=1)
    site = internet.site("site", "nested", ipv6=True)
    assert answers_ping(site.host, internet.publics[0].ipv6)
    assert answers_ping(site.host, internet.publics[0].public_ipv4)
