"""What others' text may ask of a host, by source."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.trust.degrees import (
    DEGREES,
    Held,
    Holding,
    HostFacts,
    Source,
    boot_lines,
    reachable,
    why_no_name,
    why_no_subnet,
    why_no_work,
)
from wh.wire.address import pack

OTHERS = [Source.INVITATION, Source.AUTHED]
NOTHING = HostFacts()
deterministic = settings(derandomize=True, deadline=None)


def host(holding: Holding, *networks: str) -> HostFacts:
    return HostFacts([Held(holding, ip_network(network)) for network in networks])


def test_each_source_has_its_degree():
    assert set(DEGREES) == set(Source)
    assert not any(degree.routes for degree in DEGREES.values())


@pytest.mark.parametrize(
    "subnet",
    ["10.0.42.0/24", "10.7.0.0/16", "172.16.0.0/16", "172.31.255.0/24", "192.168.0.0/16", "100.64.0.0/16"]
    + ["100.127.255.252/30", "fd12:3456:789a::/48", "fd12:3456:789a:1::/64", "fc00:1:2::/48"],
)
def test_private_subnets_are_taken(subnet: str):
    for source in OTHERS:
        assert why_no_subnet(source, ip_network(subnet), NOTHING) is None


@pytest.mark.parametrize(
    "subnet",
    [
        *("8.8.8.0/24", "0.0.0.0/1", "128.0.0.0/1", "224.0.0.0/3", "127.0.0.0/8", "169.254.169.0/24"),
        *("10.0.0.0/8", "8.0.0.0/5", "172.0.0.0/11", "172.16.0.0/12", "192.0.0.0/8", "100.64.0.0/10"),
        *("100.100.100.0/24", "100.100.100.200/32", "100.96.0.0/11", "198.18.0.0/15", "192.0.2.0/24"),
        *("2a00::/12", "2000::/3", "::/1", "fc00::/7", "fd00::/8", "fd00:1::/32", "fe80::/64", "ff02::/16"),
        *("::ffff:10.0.42.0/120", "::ffff:0:0/96", "::10.0.42.0/120", "64:ff9b::a00:2a00/120"),
        *("2002:a00:2a00::/48", "2001:20::/28", "fd00:ec2::/48", "fd20:ce::/48", "fd00:c1::/48", "::1/128"),
    ],
)
def test_other_subnets_are_not(subnet: str):
    for source in (*OTHERS, Source.ROSTER):
        assert why_no_subnet(source, ip_network(subnet), NOTHING)
    assert why_no_subnet(Source.NETWORK_FILE, ip_network(subnet), NOTHING) is None


def test_a_roster_gives_no_subnet():
    assert why_no_subnet(Source.ROSTER, ip_network("10.0.42.0/24"), NOTHING)


@pytest.mark.parametrize("holding", list(Holding))
@pytest.mark.parametrize(
    ("subnet", "theirs"),
    [
        ("10.0.42.0/24", "10.0.42.0/24"),
        ("10.0.42.0/24", "10.0.42.7/32"),
        ("10.0.42.0/24", "10.0.0.0/8"),
        ("10.0.0.0/16", "10.0.42.0/30"),
        ("10.0.42.0/24", "::ffff:10.0.42.7/128"),
        ("fd12:3456:789a::/48", "fd12:3456:789a:5::1/128"),
        ("fd12:3456:789a:5::/64", "fd12:3456:789a::/48"),
        ("fd12:3456:789a:5::/64", "fc00::/7"),
    ],
)
def test_nothing_of_the_host_is_taken_away(holding: Holding, subnet: str, theirs: str):
    for source in OTHERS:
        reason = why_no_subnet(source, ip_network(subnet), host(holding, "192.168.1.0/24", theirs))
        assert reason is not None
        assert holding.value in reason


def test_a_default_route_is_in_nobodys_way():
    facts = host(Holding.ROUTE, "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "::/1", "192.168.1.0/24")
    assert why_no_subnet(Source.AUTHED, ip_network("10.0.42.0/24"), facts) is None
    assert why_no_subnet(Source.AUTHED, ip_network("fd12:3456:789a::/48"), facts) is None


networks = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(2, 32)), st.tuples(st.ip_addresses(v=6), st.integers(2, 128))
).map(lambda each: ip_network(each, strict=False))


@given(networks, networks, st.sampled_from(OTHERS))
@deterministic
def test_what_is_taken_is_private_and_shares_no_address(subnet, theirs, source):
    if why_no_subnet(source, subnet, HostFacts([Held(Holding.ROUTE, theirs)])) is None:
        assert subnet.is_private or subnet.subnet_of(ip_network("100.64.0.0/10"))
        assert subnet.version != theirs.version or not subnet.overlaps(theirs)


@pytest.mark.parametrize("name", ["node_a", "guest", "Guest-7", "x", "3com", "a" * 63])
def test_plain_new_names_are_taken(name: str):
    for source in (Source.AUTHED, Source.ROSTER, Source.NETWORK_FILE):
        assert why_no_name(source, name, NOTHING) is None
    assert why_no_name(Source.INVITATION, name, NOTHING)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "wpad",
            "WPAD",
            "wpad2",
            "isatap",
            "localhost",
            "LocalHost",
            "localhost4",
            "localhost-x",
            "gateway",
        ),
        *("_gateway", "_outbound", "_x", "router", "broadcasthost", "ip6-localhost", "ip6-allnodes", "local"),
        *("arpa", "metadata", "instance-data", "puppet", "salt", "loghost", "kubernetes", "proxy"),
        *("1", "0", "0x7f", "0X7F", "0x", "017700000001", "2130706433"),
        *("", "a.b", "a.", ".", "wpad.", "printer.local", "a.localhost", "1.0.0.127.in-addr.arpa", "10.1"),
        *(
            "a" * 64,
            "a" * 253,
            "-a",
            "a-",
            "a b",
            "a\n",
            "a\0",
            "\x1b[2J",
            "a\u0301",
            "b\u00fccher",
            "\uff4cocal",
        ),
        *(
            "xn--bcher-kva",
            "XN--80ak6aa92e",
            "ab--c",
            "w\u200bpad",
            "ſalt",
            "\u0130",
            "a#b",
            "a/b",
            "$(id)",
            "*",
        ),
    ],
)
def test_other_names_are_not(name: str):
    for source in (Source.AUTHED, Source.ROSTER):
        assert why_no_name(source, name, NOTHING)


def test_names_that_mean_something_here_are_not_taken():
    facts = HostFacts(own_names=frozenset({"laptop"}), known_names=frozenset({"nas"}))
    for name in ("laptop", "LAPTOP", "nas", "Nas"):
        assert why_no_name(Source.AUTHED, name, facts)
    assert why_no_name(Source.NETWORK_FILE, "nas", facts) is None


def test_work_is_what_takes_seconds():
    assert why_no_work(Source.INVITATION, 20) is None
    assert why_no_work(Source.INVITATION, 21)
    assert why_no_work(Source.AUTHED, 1)
    assert why_no_work(Source.ROSTER, 1)
    assert why_no_work(Source.NETWORK_FILE, 64) is None


def test_boot_lines_are_few_and_of_other_hosts():
    key = [bytes([9, number]) + bytes(30) for number in range(10)]
    contacts = [(each, pack("192.0.2.1", 1)) for each in key]
    local = [(key[0], pack("127.0.0.1", 1)), (key[1], pack("::1", 1)), (key[2], pack("127.9.9.9", 1))]
    assert boot_lines(Source.INVITATION, contacts) == contacts[:4]
    assert boot_lines(Source.INVITATION, local) == []
    assert boot_lines(Source.INVITATION, [contacts[0], (key[0], pack("192.0.2.2", 2))]) == contacts[:1]
    assert boot_lines(Source.AUTHED, contacts) == boot_lines(Source.ROSTER, contacts) == []
    assert reachable(Source.INVITATION, [*local, *contacts]) == contacts
    assert reachable(Source.NETWORK_FILE, local) == local
