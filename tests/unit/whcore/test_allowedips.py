"""The tries of allowed IPs against a list of networks searched by eye."""

import ipaddress
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from whcore.allowedips import AllowedIPs
from whcore.errors import SystemFailure

type_of_address = {4: ipaddress.IPv4Address, 16: ipaddress.IPv6Address}
type_of_network = {4: ipaddress.IPv4Network, 16: ipaddress.IPv6Network}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network_of(address: bytes, prefix_len: int) -> Network:
    return type_of_network[len(address)]((address, prefix_len), strict=False)


class NetworkList:
    """The same answers, slow and obvious."""

    def __init__(self) -> None:
        self.peers: dict[Network, int] = {}

    def lookup(self, address: bytes) -> int | None:
        ip = type_of_address[len(address)](address)
        holding = [network for network in self.peers if ip.version == network.version and ip in network]
        return self.peers[max(holding, key=lambda network: network.prefixlen)] if holding else None

    def items(self) -> list[tuple[bytes, int, int]]:
        def order(network: Network) -> tuple[int, int, int]:
            return network.version, int(network.network_address), network.prefixlen

        return [
            (network.network_address.packed, network.prefixlen, self.peers[network])
            for network in sorted(self.peers, key=order)
        ]


# Few distinct bytes, so that prefixes nest, part and meet often.
few_bytes = st.sampled_from([0x00, 0x01, 0x80, 0xFF])
addresses = st.one_of(
    st.lists(few_bytes, min_size=4, max_size=4).map(bytes),
    st.lists(few_bytes, min_size=16, max_size=16).map(bytes),
)
prefixes = addresses.flatmap(lambda address: st.tuples(st.just(address), st.integers(0, 8 * len(address))))
peers = st.integers(0, 3)


class Comparison(RuleBasedStateMachine):
    """Insert and remove at random; trie and list must answer alike at every step."""

    @initialize()
    def start(self) -> None:
        self.trie, self.oracle = AllowedIPs(), NetworkList()

    @rule(prefix=prefixes, peer=peers)
    def insert(self, prefix: tuple[bytes, int], peer: int) -> None:
        self.trie.insert(*prefix, peer)
        self.oracle.peers[network_of(*prefix)] = peer

    @rule(data=st.data(), prefix=prefixes, peer=peers)
    def remove(self, data: st.DataObject, prefix: tuple[bytes, int], peer: int) -> None:
        held = [(network.network_address.packed, network.prefixlen) for network in self.oracle.peers]
        if held and data.draw(st.booleans()):
            prefix = data.draw(st.sampled_from(held))
        if self.oracle.peers.get(network_of(*prefix)) == peer:
            self.trie.remove(*prefix, peer)
            del self.oracle.peers[network_of(*prefix)]
        else:
            with pytest.raises(SystemFailure):
                self.trie.remove(*prefix, peer)

    @rule(peer=peers)
    def remove_peer(self, peer: int) -> None:
        self.trie.remove_peer(peer)
        self.oracle.peers = {network: other for network, other in self.oracle.peers.items() if other != peer}

    @rule(address=addresses)
    def lookup(self, address: bytes) -> None:
        assert self.trie.lookup(address) == self.oracle.lookup(address)

    @invariant()
    def holds_the_same(self) -> None:
        assert self.trie.items() == self.oracle.items()
        assert len(self.trie) == len(self.oracle.peers)


TestComparison = Comparison.TestCase
TestComparison.settings = settings(derandomize=True, deadline=None, max_examples=150, stateful_step_count=40)


@settings(derandomize=True, deadline=None)
@given(held=st.lists(st.tuples(prefixes, peers), max_size=40), wanted=st.lists(addresses, max_size=20))
def test_lookup_finds_the_longest_match(
    held: list[tuple[tuple[bytes, int], int]], wanted: list[bytes]
) -> None:
    trie, oracle = AllowedIPs(), NetworkList()
    for prefix, peer in held:
        trie.insert(*prefix, peer)
        oracle.peers[network_of(*prefix)] = peer
    for address in wanted + [prefix[0] for prefix, _ in held]:
        assert trie.lookup(address) == oracle.lookup(address)


def test_families_do_not_see_each_other() -> None:
    table = AllowedIPs()
    table.insert(bytes(4), 0, 1)
    assert table.lookup(bytes(16)) is None
    table.insert(bytes(16), 0, 2)
    assert (table.lookup(bytes(4)), table.lookup(bytes(16))) == (1, 2)


def test_a_large_table_builds_fast_and_empties_again() -> None:
    source = random.Random(1)
    held = {(source.randbytes(4), 32) for _ in range(100_000)}
    table = AllowedIPs()
    started_at = time.process_time()
    for peer, (address, prefix_len) in enumerate(held):
        table.insert(address, prefix_len, peer % 7)
    # About 0.05 s here; the bound only catches a table that has become linear.
    assert time.process_time() - started_at < 2
    assert len(table) == len(held)
    for peer in range(7):
        table.remove_peer(peer)
    assert len(table) == 0
    assert table.items() == []


@pytest.mark.parametrize(
    ("address", "prefix_len"), [(b"", 0), (bytes(5), 0), (bytes(4), 33), (bytes(16), -1)]
)
def test_what_is_no_prefix_is_refused(address: bytes, prefix_len: int) -> None:
    with pytest.raises(ValueError, match="address"):
        AllowedIPs().insert(address, prefix_len, 1)
