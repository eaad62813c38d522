"""Hole punching between NATs of all kinds."""

from __future__ import annotations

from typing import Any

import pytest

from punch_host import Pair
from simnat import Dependence, Nat, Ports
from simnet import CORE_HOPS
from wh.engine.commands import AdoptSocket
from wh.wire.address import is_private

EACH_PORT = Dependence.ADDRESS_AND_PORT_DEPENDENT
EACH_ADDRESS = Dependence.ADDRESS_DEPENDENT
ANY = Dependence.ENDPOINT_INDEPENDENT
RANDOM_PORTS: dict[str, Any] = {"mapping": EACH_PORT, "ports": Ports.RANDOM}

KNOWN_PORTS: dict[str, dict[str, Any]] = {
    "full cone": {"filtering": ANY},
    "address-restricted": {"filtering": EACH_ADDRESS},
    "port-restricted": {},
    "preserving": {"ports": Ports.PRESERVING},
    "random ports": {"ports": Ports.RANDOM},
    "open input": {"ports": Ports.PRESERVING, "input_open": True},
}
SEQUENTIAL: dict[str, dict[str, Any]] = {
    "sequential": {"mapping": EACH_PORT},
    "sequential by address": {"mapping": EACH_ADDRESS, "filtering": EACH_ADDRESS},
}
PUNCHED = {**KNOWN_PORTS, **SEQUENTIAL}


def nat(kind: dict[str, Any], number: int, seed: int = 1, **more: Any) -> Nat:
    return Nat(f"203.{number}.113.9", seed=10 * seed + number, **{**kind, **more})


@pytest.mark.parametrize("a", PUNCHED)
@pytest.mark.parametrize("b", PUNCHED)
def test_every_pair_of_nats_with_known_or_sequential_ports_is_punched(a: str, b: str) -> None:
    """With a single hop between the NATs where early packets harm: the openers arrive."""
    pair = Pair(nat(PUNCHED[a], 1), nat(PUNCHED[b], 2), core_hops=1 if "open input" in (a, b) else CORE_HOPS)
    assert pair.run()
    assert pair.took < 0.5  # OFFER, ANSWER and GO take 120 ms, a sample 40
    assert pair.open_sockets() == 0


@pytest.mark.parametrize("kind", PUNCHED)
def test_one_side_without_a_nat_needs_no_luck(kind: str) -> None:
    for pair in (
        Pair(nat(PUNCHED[kind], 1), None, inside_b="203.9.9.9"),
        Pair(None, nat(PUNCHED[kind], 2), inside_a="203.9.9.9"),
    ):
        assert pair.run()
        assert pair.took < 0.5


@pytest.mark.parametrize("hops", [CORE_HOPS, 1])
@pytest.mark.parametrize("kind", KNOWN_PORTS)
def test_random_ports_are_found_by_a_search(kind: str, hops: int) -> None:
    for seed in (1, 2):
        random_nat, other = nat(RANDOM_PORTS, 1, seed), nat(KNOWN_PORTS[kind], 2, seed)
        for first, second in ((random_nat, other), (other, random_nat)):
            pair = Pair(first, second, seed=seed, core_hops=hops)
            assert pair.run()
            assert pair.took < 25.0
            assert pair.open_sockets() == 0


@pytest.mark.parametrize("other", [RANDOM_PORTS, *SEQUENTIAL.values()])
def test_what_nobody_can_foretell_is_not_tried(other: dict[str, Any]) -> None:
    for first, second in ((RANDOM_PORTS, other), (other, RANDOM_PORTS)):
        pair = Pair(nat(first, 1), nat(second, 2))
        assert not pair.run()
        assert len(pair.a.probes) + len(pair.b.probes) < 60
        assert pair.open_sockets() == 0
        assert pair.a.node.punching.why_not(pair.b.key) == "both NATs give each connection another port"


def test_a_pool_of_addresses_is_found_in_the_end() -> None:
    pool = nat(RANDOM_PORTS, 1, pool=("203.1.113.10", "203.1.113.11"))
    pair = Pair(pool, nat({}, 2))
    attempts = 1
    while not pair.run():
        attempts += 1
        pair.network.run(20 * 2**attempts)
    assert attempts <= 4


def test_nested_nats_are_punched() -> None:
    outer = Nat("203.1.113.9")
    inner = Nat("10.64.0.7", outer=outer)
    for hops in (CORE_HOPS, 1):
        pair = Pair(inner, nat({}, 2), inside_a="192.168.1.2", core_hops=hops)
        assert pair.run()
        assert pair.took < 0.5


@pytest.mark.parametrize("kind", [*PUNCHED.values(), RANDOM_PORTS])
@pytest.mark.parametrize("hairpin", [False, True])
def test_two_hosts_behind_one_nat_meet_in_their_network(kind: dict[str, Any], hairpin: bool) -> None:
    shared = nat(kind, 1, hairpin=hairpin)
    pair = Pair(shared, shared)
    assert pair.run()
    for host, other in ((pair.a, pair.b), (pair.b, pair.a)):
        assert host.node.found[0][1].remote == other.address


def test_two_networks_behind_one_nat_meet_by_its_hairpin() -> None:
    shared = Nat("203.1.113.9", hairpin=True)
    inner_a, inner_b = (Nat(f"10.64.0.{i}", outer=shared) for i in (1, 2))
    pair = Pair(inner_a, inner_b, inside_a="192.168.1.2", inside_b="192.168.2.2")
    assert pair.run()
    assert not is_private(pair.a.node.found[0][1].remote)


@pytest.mark.parametrize("seed", range(4, 16))
def test_losses_cost_time_and_not_the_path(seed: int) -> None:
    pair = Pair(nat(KNOWN_PORTS["open input"], 1), nat(SEQUENTIAL["sequential"], 2), seed=seed, loss=0.1)
    pair.a.node.adopts = pair.b.node.adopts = True
    assert pair.run()
    assert pair.took < 8.0


@pytest.mark.parametrize("servers", [0, 1, 2])
def test_few_servers_are_enough(servers: int) -> None:
    """Without any nobody knows its own address: only what is in the same network is left."""
    pair = Pair(nat({}, 1), nat({}, 2), servers=servers)
    assert pair.run() == (servers > 0)


def test_the_next_rounds_find_what_the_first_one_could_not() -> None:
    """Whatever the node's own sockets send is lost: only fresh ones get through."""
    pair = Pair(nat({}, 1), nat({}, 2))
    reflexive = {host.nat.mappings[host.address] for host in (pair.a, pair.b) if host.nat is not None}
    pair.network.dropped_if = lambda source, target: {source, target} <= reflexive
    assert pair.run()
    assert 0.4 < pair.took < 1.0
    assert all(host.node.found[0][1].socket >= 1 << 16 for host in (pair.a, pair.b))


def test_the_socket_that_won_can_be_adopted_and_the_others_are_closed() -> None:
    pair = Pair(nat(SEQUENTIAL["sequential"], 1), nat(SEQUENTIAL["sequential"], 2))
    pair.a.node.adopts = pair.b.node.adopts = True
    assert pair.run()
    assert pair.open_sockets() == 2
    assert AdoptSocket(pair.a.node.found[0][1].socket)


def test_an_attempt_that_fails_ends_on_both_sides_within_the_time_of_its_rounds() -> None:
    pair = Pair(nat({}, 1), nat({}, 2))
    pair.network.dropped_if = lambda source, target: source[12:14] == target[12:14] == b"\xcb\x01"
    blocked = {b"\xcb\x01", b"\xcb\x02"}
    pair.network.dropped_if = lambda source, target: {source[12:14], target[12:14]} == blocked
    assert not pair.run()
    assert pair.network.now.monotonic - pair.begun < 10
    assert pair.open_sockets() == 0
    assert pair.a.node.punching.why_not(pair.b.key) == "no PROBE was answered"


@pytest.mark.parametrize("lower_first", [False, True])
def test_where_both_offer_at_once_the_lower_keys_attempt_is_made(lower_first: bool) -> None:
    pair = Pair(nat({}, 1), nat({}, 2))
    pair.begin()
    pair.begin_at_b()
    pair.network.run_until(pair.over, 20.0)
    assert all(len(host.node.ended) == 1 and host.node.ended[0][1] for host in (pair.a, pair.b))
    numbers = {probe.message.attempt for host in (pair.a, pair.b) for _, probe in host.probes}
    assert len(numbers) == 1


def test_a_lost_go_delays_and_harms_nothing() -> None:
    pair = Pair(nat({}, 1), nat({}, 2))
    pair.network.channel_drops = lambda datagram: datagram.payload[1:2] == b"\x16"  # GO
    assert pair.run()
    assert pair.took < 1.5


def test_a_peer_without_a_session_gets_one_through_the_channel() -> None:
    pair = Pair(nat({}, 1), nat({}, 2))
    assert pair.b.key not in pair.a.current
    assert pair.run()


def test_a_peer_that_is_gone_is_not_waited_for() -> None:
    pair = Pair(nat({}, 1), nat({}, 2))
    pair.b.stop()
    pair.begin()
    pair.network.run_until(lambda: bool(pair.a.node.ended), 5.0)
    assert not pair.a.node.ended[0][1]


def test_a_search_waits_longer_after_each_failure() -> None:
    """A router that lets nothing in is searched twice, and then not for 20 s, then 40 s."""
    pair = Pair(nat(RANDOM_PORTS, 1), nat({}, 2))
    blocked = {b"\xcb\x01", b"\xcb\x02"}
    pair.network.dropped_if = lambda source, target: {source[12:14], target[12:14]} == blocked
    searches = []
    for _ in range(30):
        before = pair.a.opened
        assert not pair.run()
        if pair.a.opened - before > 100:
            searches.append(pair.network.time)
        pair.network.run(5)
    gaps = [later - earlier for earlier, later in zip(searches, searches[1:], strict=False)]
    assert len(gaps) >= 2
    assert gaps[0] >= 20
    assert all(later > 1.3 * earlier for earlier, later in zip(gaps, gaps[1:], strict=False))


def test_a_search_stops_where_our_own_connections_suffer() -> None:
    pair = Pair(nat(RANDOM_PORTS, 1), nat({}, 2))
    pair.begin()
    pair.network.run(1)
    pair.network.dropped_if = lambda source, target: True
    pair.network.run_until(lambda: bool(pair.a.node.ended), 9.0)
    assert pair.a.node.punching.why_not(pair.b.key) == "our NAT suffers from so many connections"
    assert pair.open_sockets() == 0
