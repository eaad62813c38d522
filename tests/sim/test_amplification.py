"""What lying servers make a node send to somebody else: not more than three bytes for one of theirs, and
little in all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hostile_servers import (
    HEADERS_LEN,
    Invent,
    Meter,
    inventor,
    make_nodes_liar,
    replayer,
    slanderer,
    squatter,
    withholder,
)
from simnet import SimNetwork
from simnode import SOCKET, Datagram, SimNode, make_key, network_file
from wh.engine.events import LookupRequested, Path
from wh.wire import messages as wire
from wh.wire.codec import decode_untrusted

HONEST = 8
FIRST_CONTACT_LEN = 148 + 64 + HEADERS_LEN

Scene = tuple[SimNetwork, Meter, SimNode, list[SimNode]]

BEHAVIOURS: dict[str, Callable[[SimNetwork, list[SimNode]], Invent]] = {
    "invent": lambda network, honest: inventor(network),
    "replay": lambda network, honest: replayer(network),
    "withhold": lambda network, honest: withholder(network),
    "contradict": slanderer,
}


def besieged(seed: int, liars: int, behaviour: str) -> Scene:
    """A client whose table has a few honest servers and some liars, all of which it has talked with."""
    network = SimNetwork(seed)
    servers = [SimNode(network, network.public_address(), mode="direct") for _ in range(HONEST + liars)]
    client = SimNode(network, network.public_address(), mode="nat")
    for server in servers:
        server.start(network_file(servers[:1], []))
    client.start(network_file(servers, []))
    network.run(3)
    honest, lying = servers[:HONEST], servers[HONEST:]
    for liar in lying:
        make_nodes_liar(liar, BEHAVIOURS[behaviour](network, honest))
    return network, Meter(network, lying), client, honest


def look_up(network: SimNetwork, client: SimNode, number: int, seconds: float = 8.0) -> None:
    client.handle(LookupRequested(number, make_key(network.rng)))
    network.run(seconds)


@pytest.mark.parametrize(
    ("liars", "behaviour"),
    [*((1, each) for each in BEHAVIOURS), (20, "invent"), pytest.param(20, "replay", marks=pytest.mark.slow)],
)
def test_a_lookup_amplifies_no_lie_more_than_three_times(liars: int, behaviour: str) -> None:
    network, meter, client, _ = besieged(1, liars, behaviour)
    look_up(network, client, 1, 5.0)
    print(f"seed 1, {liars} {behaviour}: {meter.spent} B spent, {meter.sent} B to the victims' /24")
    assert meter.spent
    assert meter.sent + meter.other <= 3 * meter.spent
    assert meter.sent <= 8 * FIRST_CONTACT_LEN


def test_lookup_after_lookup_a_network_gets_a_trickle() -> None:
    network, meter, client, _ = besieged(2, 8, "invent")
    begun = network.time
    for number in range(20):
        look_up(network, client, number, 1.0)
    assert meter.sent <= (8 + (network.time - begun) / 2 + 1) * FIRST_CONTACT_LEN


def test_an_honest_server_gets_no_flood_for_keys_that_others_put_at_its_address() -> None:
    """That it has answered us does not make it fair game."""
    network, meter, client, honest = besieged(3, 0, "invent")
    liars = honest[1:]
    for liar in liars:
        make_nodes_liar(liar, squatter(network, honest))
    unasked: list[int] = []
    honest[0]._init_arrived = lambda path, datagram: unasked.append(1)  # type: ignore[method-assign]
    deliver = honest[0]._receive

    def receive(path: object, datagram: object) -> None:
        if datagram.receiver != honest[0].key:  # type: ignore[attr-defined]
            unasked.append(1)
        deliver(path, datagram)  # type: ignore[arg-type]

    network.attach(honest[0].address, lambda source, datagram: receive(Path(SOCKET, source), datagram))
    for number in range(10):
        look_up(network, client, number, 2.0)
    assert len(unasked) <= 4 + 20 / 2 + 2


def test_what_liars_name_keeps_no_honest_server_from_being_asked() -> None:
    """Eight of them in a network of twenty-four, and every record is found."""
    network = SimNetwork(4)
    servers = [SimNode(network, network.public_address(), mode="direct") for _ in range(24)]
    for server in servers:
        server.start(network_file(servers[:3], []))
        network.run(0.1)
    network.run(5)
    honest, liars = servers[:16], servers[16:]
    for number, liar in enumerate(liars):
        make_nodes_liar(liar, list(BEHAVIOURS.values())[number % 4](network, honest))
    client = SimNode(network, network.public_address(), mode="nat")
    client.start(network_file(honest[:3], []))
    network.run(3)
    found: list[bytes] = []
    for target in network.rng.sample(honest, 8):
        client.node.parts.searches.find_record(
            target.key,
            network.now,
            have_sequence=0,
            found=lambda record, now: found.append(record.key),
            done=lambda now: None,
        )
        client._schedule()
        network.run(2)
    assert len(set(found)) == 8


def test_no_stranger_learns_whom_we_look_up_without_forward_secrecy() -> None:
    """Also where sessions have ended of which the engine does not know: no INIT carries a FIND, but to nodes
    of the file."""
    network = SimNetwork(5)
    servers = [SimNode(network, network.public_address(), mode="direct") for _ in range(20)]
    for server in servers:
        server.start(network_file(servers[:2], []))
        network.run(0.1)
    network.run(5)
    told: list[bytes] = []
    send = network.send

    def watched(source: bytes, target: bytes, datagram: Datagram, **how: object) -> None:
        if datagram.kind == "init" and isinstance(decode_untrusted(datagram.payload), wire.Find):
            told.append(datagram.receiver)
        send(source, target, datagram, **how)  # type: ignore[arg-type]

    network.send = watched  # type: ignore[method-assign]
    asker = servers[-1]
    found: list[bytes] = []
    for target in servers[2:8]:
        for server in servers:
            for table in (server.sessions, server.current, server.next, server.handshakes):
                table.clear()
        asker.node.parts.searches.find_record(
            target.key,
            network.now,
            have_sequence=0,
            found=lambda record, now: found.append(record.key),
            done=lambda now: None,
        )
        asker._schedule()
        network.run(2)
    assert set(told) <= {server.key for server in servers[:2]}
    assert len(set(found)) == 6
