"""Every name, key and address leads to its peer."""

import ipaddress

import pytest

from wh.config.parser import parse
from wh.naming.table import NameTable
from whcore.keys import decode_key, encode_key_wg, orchid

KEY_A = "zW-1lBeQ7IkT6NW6hL_NsV4eOPOwJi_rt1vO-omOEmQ"
KEY_B = "g878Bf9ZDc4IzFSUhWFTO1VYFVmHD5XfvEsVn83Dsho"
KEY_C = "9OtorxsAqPqZkJ-fAYNRAPr9piMWKMLnGqOVVpMUvXY"
FILE = f"""
namespace ns
subnet 10.0.42.0/24
boot hub {KEY_A} 192.0.2.1
trust Node_A {KEY_A}
peer other {KEY_B}
alias guest {KEY_C}
"""
ORCHID_A = ipaddress.IPv6Address(orchid(decode_key(KEY_A), b"ns"))


@pytest.fixture
def table():
    return NameTable(parse(FILE))


@pytest.mark.parametrize(
    "word",
    ["Node_A", "node_a", "hub", KEY_A, encode_key_wg(decode_key(KEY_A)), "10.0.42.2", str(ORCHID_A),
     ORCHID_A.exploded],
)  # fmt: skip
def test_a_trusted_peer_is_found_by_all_it_is_called(table, word):
    entry = table.find(word)
    assert (entry.key, entry.hostname) == (decode_key(KEY_A), "Node_A")
    assert entry.addresses == (ipaddress.ip_address("10.0.42.2"), ORCHID_A)


def test_the_subnet_address_and_the_orchid_lead_back_to_the_name(table):
    for address in (ipaddress.ip_address("10.0.42.2"), ORCHID_A):
        assert table.of_address(address).hostname == "Node_A"
    assert table.of_address(ipaddress.ip_address("10.0.42.9")) is None


def test_only_trusted_peers_have_addresses(table):
    assert table.find("other").addresses == ()
    assert table.of_address(ipaddress.IPv6Address(orchid(decode_key(KEY_B), b"ns"))) is None


def test_an_alias_has_no_orchid_since_its_key_is_not_known_yet(table):
    assert [str(address) for address in table.find("guest").addresses] == ["10.0.42.3"]


def test_a_key_that_the_file_does_not_have_is_still_a_key(table):
    key = bytes([9, *bytes(31)])
    entry = table.find(encode_key_wg(key))
    assert (entry.key, entry.hostname, entry.addresses) == (key, None, ())
    assert entry.label == table.label(key)
    assert table.of_key(key) is None


@pytest.mark.parametrize("word", ["nobody", "10.0.42.77", "", "Node_A.", KEY_A[:-1]])
def test_what_means_nothing_is_not_found(table, word):
    assert table.find(word) is None


def test_each_key_is_listed_once_under_its_best_name(table):
    assert sorted(entry.label for entry in table) == ["Node_A", "guest", "other"]


def test_a_name_without_ipv6_keeps_what_else_it_has(table):
    assert table.find("Node_A").without_ipv6().addresses == (ipaddress.ip_address("10.0.42.2"),)
    alone = NameTable(parse(f"namespace ns\nsubnet fd00::/64\ntrust a {KEY_A}\n")).find("a")
    assert alone.without_ipv6() == alone
