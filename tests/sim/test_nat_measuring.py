"""What a node finds out of its NAT, from servers' answers alone."""

from __future__ import annotations

import msgspec
import pytest

from hostile_servers import make_witness_liar
from simnat import Dependence, Nat, Ports
from simnet import SimNetwork
from simnode import SOCKET, Datagram, SimNode, network_file
from wh.engine.commands import Reply
from wh.engine.events import Event, KnockReceived, Path
from wh.nat.behavior import NatBehaviour
from wh.nat.reachability import OwnReachability
from wh.wire.address import Address, pack
from wh.wire.candidates import Filtering, Mapping
from wh.wire.messages import Pong

VICTIM = pack("203.0.113.66", 7777)
EACH_PORT = Dependence.ADDRESS_AND_PORT_DEPENDENT
EACH_ADDRESS = Dependence.ADDRESS_DEPENDENT


def measured(nat: Nat | None, *, servers: int = 4, seed: int = 1, seconds: float = 15.0) -> SimNode:
    network = SimNetwork(seed)
    boots = [SimNode(network, pack(f"198.{18 + i}.0.1", 62096), mode="direct") for i in range(servers)]
    inside = pack("10.1.2.3" if nat is not None else "192.0.2.77", 62096)
    node = SimNode(network, inside, nat=nat)
    config = network_file(boots, [])
    for each in (*boots, node):
        each.start(config)
    network.run(seconds)
    return node


def behaviour(node: SimNode) -> NatBehaviour:
    (found,) = node.node.parts.reachability.behaviours()
    return found


@pytest.mark.parametrize(
    ("nat", "mapping", "step"),
    [
        (None, Mapping.NONE, 0),
        (Nat("203.0.113.9"), Mapping.ENDPOINT_INDEPENDENT, 0),
        (Nat("203.0.113.9", ports=Ports.RANDOM), Mapping.ENDPOINT_INDEPENDENT, 0),
        (Nat("203.0.113.9", mapping=EACH_PORT), Mapping.SEQUENTIAL, 1),
        (Nat("203.0.113.9", mapping=EACH_ADDRESS), Mapping.SEQUENTIAL, 1),
        (Nat("203.0.113.9", mapping=EACH_PORT, ports=Ports.RANDOM), Mapping.RANDOM, 0),
    ],
)
def test_the_mapping_is_told_apart(nat: Nat | None, mapping: Mapping, step: int) -> None:
    found = behaviour(measured(nat))
    assert (found.mapping, found.step) == (mapping, step)
    assert not found.pool


def test_several_public_addresses_are_a_pool() -> None:
    nat = Nat("203.0.113.9", mapping=EACH_PORT, ports=Ports.RANDOM, pool=("203.0.113.10", "203.0.113.11"))
    found = behaviour(measured(nat))
    assert found.mapping is Mapping.RANDOM
    assert found.pool
    assert "in a pool of addresses" in str(found)


@pytest.mark.parametrize(
    ("servers", "ports", "mapping"),
    [
        (1, Ports.RANDOM, Mapping.UNKNOWN),
        (2, Ports.RANDOM, Mapping.RANDOM),
        (2, Ports.SEQUENTIAL, Mapping.SEQUENTIAL),
    ],
)
def test_two_witnesses_that_differ_are_enough(servers: int, ports: Ports, mapping: Mapping) -> None:
    nat = Nat("203.0.113.9", mapping=EACH_PORT, ports=ports)
    assert behaviour(measured(nat, servers=servers)).mapping is mapping


@pytest.mark.parametrize("servers", [3, 4])
@pytest.mark.parametrize("mapping", [Dependence.ENDPOINT_INDEPENDENT, EACH_PORT])
def test_one_witness_that_lies_is_outvoted(servers: int, mapping: Dependence) -> None:
    network = SimNetwork(1)
    boots = [SimNode(network, pack(f"198.{18 + i}.0.1", 62096), mode="direct") for i in range(servers)]
    node = SimNode(network, pack("10.1.2.3", 62096), nat=Nat("203.0.113.9", mapping=mapping))
    for each in (*boots, node):
        each.start(network_file(boots, []))
    make_liar(boots[0])
    network.run(15)
    found = behaviour(node).mapping
    assert (found in (Mapping.SEQUENTIAL, Mapping.RANDOM)) == (mapping is EACH_PORT)


def make_liar(server: SimNode) -> None:
    """Each PONG names another port."""
    honest_reply = server._reply

    def lie(reply: Reply) -> None:
        if isinstance(reply.message, Pong):
            wrong = pack("203.0.113.9", server.network.rng.randrange(1024, 65536))
            reply = Reply(reply.to, msgspec.structs.replace(reply.message, observed=wrong))
        honest_reply(reply)

    server._reply = lie  # type: ignore[method-assign]


def test_the_second_socket_is_closed_again() -> None:
    node = measured(Nat("203.0.113.9", mapping=EACH_PORT))
    assert node.opened >= 1
    assert list(node.sockets) == [SOCKET]


def test_a_second_socket_that_hears_nothing_is_followed_by_another() -> None:
    """Whatever it asks for the first time is lost."""
    network = SimNetwork(1)
    boots = [SimNode(network, pack(f"198.{18 + i}.0.1", 62096), mode="direct") for i in range(3)]
    node = SimNode(network, pack("10.1.2.3", 62096), nat=Nat("203.0.113.9", mapping=EACH_PORT))
    for each in (*boots, node):
        each.start(network_file(boots, []))
    network.run_until(lambda: node.opened == 1, 5.0)
    network.dropped_if = lambda source, target: True
    network.run(1.2)
    network.dropped_if = lambda source, target: False
    network.run_until(lambda: behaviour(node).mapping is Mapping.SEQUENTIAL, 5.0)
    assert node.opened == 2


def test_a_nat_that_maps_alike_for_all_costs_no_second_socket() -> None:
    assert measured(Nat("203.0.113.9"), seconds=900).opened == 0


def test_the_verdict_stays_where_the_nat_forgets_its_mappings_one_by_one() -> None:
    nat = Nat("203.0.113.9", mapping=EACH_PORT)
    node = measured(nat)
    for _ in range(4):
        nat.mappings.clear()
        for _ in range(300):
            node.network.run(1)
            assert behaviour(node).mapping is Mapping.SEQUENTIAL


class UnknockedNode(SimNode):
    """Every third node's KNOCK is lost, as behind a NAT in a network of strangers."""

    def handle(self, event: Event) -> None:
        if not isinstance(event, KnockReceived):
            super().handle(event)


def test_knocks_that_never_come_show_filtering_at_least_by_address() -> None:
    network = SimNetwork(1)
    boots = [SimNode(network, pack(f"198.{18 + i}.0.1", 62096), mode="direct") for i in range(4)]
    node = UnknockedNode(network, pack("10.1.2.3", 62096), nat=Nat("203.0.113.9"))
    for each in (*boots, node):
        each.start(network_file(boots, []))
    network.run(10)
    assert behaviour(node).filtering == Filtering.ADDRESS_DEPENDENT
    assert "address-dependent filtering or stricter" in str(behaviour(node))


def test_who_calls_itself_direct_is_a_client_once_knocks_have_stayed_out() -> None:
    network = SimNetwork(1)
    boots = [SimNode(network, pack(f"198.{18 + i}.0.1", 62096), mode="direct") for i in range(4)]
    node = UnknockedNode(network, pack("10.1.2.3", 62096), nat=Nat("203.0.113.9"), mode="direct")
    for each in (*boots, node):
        each.start(network_file(boots, []))
    network.run(0.1)
    assert node.node.snapshot().server
    network.run(10)
    assert not node.node.snapshot().server
    assert all(boot.node.snapshot().server for boot in boots)


def test_a_knock_from_a_node_that_we_wrote_to_shows_nothing() -> None:
    assert behaviour(measured(Nat("203.0.113.9"))).filtering == Filtering.UNKNOWN


def test_udp_that_is_blocked_is_noticed_within_two_seconds_and_so_is_its_return() -> None:
    network = SimNetwork(1)
    boot = SimNode(network, pack("198.18.0.1", 62096), mode="direct")
    node = SimNode(network, pack("10.1.2.3", 62096), nat=Nat("203.0.113.9"))
    network.dropped_if = lambda source, target: True
    for each in (boot, node):
        each.start(network_file([boot], []))
    reachability = node.node.parts.reachability
    network.run_until(lambda: reachability.udp_blocked, 2.0)
    network.dropped_if = lambda source, target: False
    network.run_until(lambda: not reachability.udp_blocked, 70.0)
    network.dropped_if = lambda source, target: True
    network.run_until(lambda: reachability.udp_blocked, 300.0)


# Witnesses that lie


class Witnesses:
    """Four servers of four networks, and a node behind a NAT that lets everybody in."""

    def __init__(self, seed: int = 1, servers: int = 5) -> None:
        self.network = SimNetwork(seed)
        self.servers = [
            SimNode(self.network, pack(f"{60 + i}.{18 + i}.0.1", 62096), mode="direct")
            for i in range(servers)
        ]
        self.nat = Nat("198.51.100.9", open_to_all=True)
        self.node = SimNode(self.network, pack("10.1.2.3", 62096), nat=self.nat)
        for server in self.servers:
            server.start(network_file(self.servers, []))
        self.network.run(2)
        self.node.start(network_file(self.servers[:1], []))
        self.pings = 0
        send = self.network.send

        def counted(source: bytes, target: bytes, datagram: Datagram, **how: object) -> None:
            self.pings += source == self.node.address
            send(source, target, datagram, **how)  # type: ignore[arg-type]

        self.network.send = counted  # type: ignore[method-assign]

    @property
    def reachability(self) -> OwnReachability:
        return self.node.node.parts.reachability

    def prove(self, address: Address) -> None:
        """As when a KNOCK came, from a node that was never written to."""
        self.reachability._expected[b"knocking"] = address
        self.node.handle(KnockReceived(pack("90.1.2.3", 1), b"knocking"))

    def observed(self) -> Address:
        (found,) = self.reachability.behaviours()
        return found.observed[0]


def test_one_witness_cannot_take_a_proof_away_whatever_it_says() -> None:
    """It tells now this address, now that, now the truth."""
    scene = Witnesses()
    scene.network.run(15)
    scene.prove(scene.observed())
    assert scene.reachability.proved
    lies = [VICTIM, None, None, pack("192.0.2.8", 5), VICTIM, None, pack("192.0.2.9", 5)]
    make_witness_liar(scene.servers[1], lambda: scene.network.rng.choice(lies))
    make_witness_liar(scene.servers[0], lambda: None)
    for _ in range(40):
        scene.node.node.parts.discovery.ping(
            scene.servers[1].key, [Path(SOCKET, scene.servers[1].address)], scene.network.now
        )
        scene.node._schedule()
        scene.network.run(40)
        assert scene.reachability.proved
        assert VICTIM not in [each.address for each in scene.reachability.candidates()]
        assert VICTIM not in scene.reachability.reflexive()


def test_a_witness_that_contradicts_itself_costs_no_endless_measuring() -> None:
    calm, restless = Witnesses(), Witnesses()
    for scene in (calm, restless):
        scene.network.run(15)
    make_witness_liar(restless.servers[1], lambda: pack("192.0.2.8", restless.network.rng.randrange(1, 9999)))
    for scene in (calm, restless):
        scene.pings = 0
        for _ in range(300):
            liar = scene.servers[1]
            scene.node.node.parts.discovery.ping(liar.key, [Path(SOCKET, liar.address)], scene.network.now)
            scene.node._schedule()
            scene.network.run(1)
    assert restless.pings <= calm.pings + 60


def test_a_knock_proves_no_address_that_only_its_arranger_sees() -> None:
    """A server and its accomplice could have anybody's address published."""
    scene = Witnesses()
    make_witness_liar(scene.servers[1], lambda: VICTIM)
    scene.network.run(15)
    scene.prove(VICTIM)
    assert not scene.reachability.proved
    assert VICTIM not in [each.address for each in scene.reachability.candidates()]
    scene.prove(scene.observed())
    assert scene.reachability.proved


@pytest.mark.parametrize("servers", [1, 2, 5])
def test_a_proof_falls_where_the_nat_did_move(servers: int) -> None:
    """Also where there is nobody else to ask."""
    scene = Witnesses(servers=servers)
    scene.network.run(15)
    before = scene.observed()
    scene.prove(before)
    assert scene.reachability.proved
    scene.nat.rebind()
    scene.node.node.parts.discovery.ping(
        scene.servers[0].key, [Path(SOCKET, scene.servers[0].address)], scene.network.now
    )
    scene.node._schedule()
    scene.network.run_until(lambda: scene.observed() != before, 5.0)
    assert before not in scene.reachability._proofs


def test_an_answer_of_who_is_in_no_table_is_no_word() -> None:
    """Somebody who says that he is a server, and whom the table has no place for."""
    scene = Witnesses()
    scene.network.run(15)
    stranger = SimNode(scene.network, pack("91.1.2.3", 62096), mode="direct")
    stranger.start(network_file([], []))
    make_witness_liar(stranger, lambda: VICTIM)
    words = len(scene.reachability._observations[4])
    table = scene.node.node.parts.kademlia.table
    table._allow_network = lambda bucket, contact: False  # type: ignore[method-assign]
    scene.node.node.parts.discovery.ping(stranger.key, [Path(SOCKET, stranger.address)], scene.network.now)
    scene.node._schedule()
    scene.network.run(1)
    assert len(scene.reachability._observations[4]) == words
    assert VICTIM not in scene.reachability._observations[4].addresses()
