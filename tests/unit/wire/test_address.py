"""Wire addresses, against ipaddress as the oracle."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.wire import address

deterministic = settings(derandomize=True, deadline=None)

EDGES = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.63.255.255 100.64.0.0 100.127.255.255 100.128.0.0 127.0.0.1 127.9.9.9
    169.253.1.1 169.254.1.1 172.15.1.1 172.16.0.0 172.31.255.255 172.32.0.0 192.167.1.1 192.168.1.1 192.0.2.1
    198.51.100.1 203.0.113.1 223.255.255.255 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255
    :: ::1 ::2 fbff::1 fc00::1 fdff::1 fe00::1 fe7f::1 fe80::1 febf::1 fec0::1 feff::1 ff02::1 2001:db8::1
"""
ips = st.one_of(
    st.ip_addresses(v=4), st.ip_addresses(v=6), st.sampled_from(EDGES.split()).map(ipaddress.ip_address)
)
ports = st.integers(0, 0xFFFF)


def unmapped(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ip.ipv4_mapped or ip if ip.version == 6 else ip


@deterministic
@given(ips, ports)
def test_packing_keeps_address_and_port_and_one_form_for_ipv4(ip, port):
    packed = address.pack(ip, port)
    assert len(packed) == address.ADDRESS_LEN
    assert (address.ip_of(packed), address.port_of(packed)) == (unmapped(ip), port)
    assert address.is_v4(packed) == (unmapped(ip).version == 4)
    assert packed[16:] == port.to_bytes(2, "big")


@deterministic
@given(ips, ports, st.booleans())
def test_only_unicast_with_a_port_is_usable(ip, port, allow_loopback):
    plain = unmapped(ip)
    oracle = port != 0 and not plain.is_multicast and not plain.is_unspecified
    if plain.version == 4:
        oracle = oracle and plain not in ipaddress.ip_network("0.0.0.0/8")
        oracle = oracle and plain not in ipaddress.ip_network("240.0.0.0/4")
    if plain.is_loopback:
        oracle = oracle and allow_loopback
    assert address.is_usable(address.pack(ip, port), allow_loopback=allow_loopback) == oracle


@deterministic
@given(ips, ports)
def test_private_means_not_on_the_public_internet(ip, port):
    plain = unmapped(ip)
    private = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
    oracle = (
        plain.is_loopback or plain.is_link_local or any(plain in ipaddress.ip_network(net) for net in private)
    )
    assert address.is_private(address.pack(ip, port)) == oracle


@pytest.mark.parametrize("length", [0, 4, 16, 17, 19])
def test_an_address_of_another_length_is_not_usable(length):
    assert not address.is_usable(b"\x20" * length)


@pytest.mark.parametrize("port", [-1, 0x10000])
def test_a_port_out_of_range_is_refused(port):
    with pytest.raises(ValueError, match="port"):
        address.pack("192.0.2.1", port)


def test_a_host_name_is_no_address():
    with pytest.raises(ValueError, match="wirehub"):
        address.pack("wirehub.example", 1)


@deterministic
@given(st.ip_addresses(v=4), st.ip_addresses(v=4), ports, ports)
def test_a_prefix_is_shared_by_exactly_one_network(a, b, port_a, port_b):
    same = ipaddress.ip_network((a, 24), strict=False) == ipaddress.ip_network((b, 24), strict=False)
    assert (
        address.prefix(address.pack(a, port_a), 24, 48) == address.prefix(address.pack(b, port_b), 24, 48)
    ) == same


def test_prefixes_by_family():
    assert address.prefix(address.pack("203.0.113.7", 1), 24, 48) == address.prefix(
        address.pack("203.0.113.99", 2), 24, 48
    )
    assert address.prefix(address.pack("203.0.113.7", 1), 24, 48) != address.prefix(
        address.pack("203.0.112.7", 1), 24, 48
    )
    assert address.prefix(address.pack("2001:db8:1:2::7", 1), 24, 48) == address.prefix(
        address.pack("2001:db8:1::", 2), 24, 48
    )
    assert address.prefix(address.pack("2001:db8:1::", 1), 24, 48) != address.prefix(
        address.pack("2001:db8:2::", 1), 24, 48
    )


def test_text_is_what_an_operator_writes():
    assert address.to_text(address.pack("192.0.2.1", 62096)) == "192.0.2.1:62096"
    assert address.to_text(address.pack("2001:db8::1", 62096)) == "[2001:db8::1]:62096"
