"""From a network file to what a member's host needs."""

from __future__ import annotations

import ipaddress

import pytest

from wh.config.parser import parse
from wh.config.reloading import needs_interface
from wh.daemon import overlay
from whcore.keys import SecretKey, encode_key, orchid

OWN, OTHER, ALIAS = (SecretKey.generate().public_key for _ in range(3))
ORCHID = {key: ipaddress.IPv6Address(orchid(key, b"public")) for key in (OWN, OTHER, ALIAS)}
FILE = f"""
name net
subnet 10.0.42.0/24
trust me {encode_key(OWN)}
trust 10.0.42.9 other {encode_key(OTHER)}
alias guest {encode_key(ALIAS)}
"""


def test_a_member_gets_its_address_and_its_orchid() -> None:
    plan = overlay.plan_overlay(parse(FILE), OWN)
    assert {str(address) for address in plan.link.addresses} == {"10.0.42.2/24", f"{ORCHID[OWN]}/128"}


def test_other_members_may_use_their_own_addresses_and_no_more() -> None:
    plan = overlay.plan_overlay(parse(FILE), OWN)
    assert {str(each) for each in plan.allowed_ips[OTHER]} == {"10.0.42.9/32", f"{ORCHID[OTHER]}/128"}


def test_neither_we_nor_an_unclaimed_alias_is_a_peer_of_the_data_plane() -> None:
    plan = overlay.plan_overlay(parse(FILE), OWN)
    assert set(plan.allowed_ips) == {OTHER}
    assert {str(route) for route in plan.link.routes} == {"10.0.42.9/32", f"{ORCHID[OTHER]}/128"}


def test_packets_to_members_leave_with_our_address_of_that_kind() -> None:
    plan = overlay.plan_overlay(parse(FILE), OWN)
    assert (str(plan.link.cover), str(plan.link.cover.source)) == ("10.0.42.0/24", "10.0.42.2")
    assert {str(route): str(route.source) for route in plan.link.routes} == {
        "10.0.42.9/32": "10.0.42.2",
        f"{ORCHID[OTHER]}/128": str(ORCHID[OWN]),
    }


def test_members_have_names_and_so_have_we() -> None:
    plan = overlay.plan_overlay(parse(FILE), OWN)
    assert {entry.hostname for entry in plan.names} == {"me", "other"}


def test_a_key_that_the_file_does_not_trust_has_only_its_orchid() -> None:
    stranger = SecretKey.generate().public_key
    network = parse(FILE)
    assert overlay.own_address(network, stranger) is None
    link = overlay.plan_overlay(network, stranger).link
    (address,) = link.addresses
    assert address.ip in ipaddress.ip_network("2001:20::/28")
    assert {route.source for route in link.routes} == {address.ip}


def test_an_ipv6_subnet_works_the_same() -> None:
    text = FILE.replace("10.0.42.0/24", "fd00:42::/64").replace("10.0.42.9", "fd00:42::9")
    plan = overlay.plan_overlay(parse(text), OWN)
    assert "fd00:42::2/64" in {str(address) for address in plan.link.addresses}
    assert "fd00:42::9/128" in {str(each) for each in plan.allowed_ips[OTHER]}


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("name net", False),
        ("subnet 10.0.42.0/24", True),
        (FILE, True),
        (f"boot {encode_key(OTHER)} h", False),
    ],
)
def test_a_network_without_overlay_needs_no_interface(text: str, needed: bool) -> None:
    assert needs_interface(parse(text)) is needed


def test_the_default_interface_has_a_legal_name() -> None:
    assert overlay.default_interface(b"\xfb\xff" * 16) == "wh--__7__v_"
