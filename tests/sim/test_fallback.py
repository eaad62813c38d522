"""A node whose UDP does not get through, and servers that also listen on TCP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simnat import Nat
from simnet import SimNetwork
from simnode import SimNode, network_file, peer_line
from wh.config.model import Network, Peer, PeerKind
from wh.engine.events import TCP, LookupRequested, NetworkLoaded, Path, PathWanted, PingRequested
from wh.nat.fallback import VERDICT_S
from wh.wire.address import pack

TCP_PORT = 8443


class World:
    """A public bootstrap that is a member too, and a member whose UDP is blocked while `blocking` is set."""

    def __init__(self, seed: int, *, tcp_port: int = TCP_PORT, boots: int = 1) -> None:
        self.network = SimNetwork(seed)
        self.blocking = True
        self.boots = [SimNode(self.network, pack(f"192.0.{i + 2}.1", 62096)) for i in range(boots)]
        self.member = SimNode(self.network, pack("203.0.113.7", 62096))
        self.network.dropped_if = self._drops
        for boot in self.boots:
            boot.listen_tcp(tcp_port)
        config = network_file(self.boots, [self.boots[0], self.member])
        self.config = replace(config, peers=tuple(self._with_tcp(config, tcp_port)))
        for boot in self.boots:
            boot.start(replace(self.config, listen_tcp=tcp_port))

    def _with_tcp(self, config: Network, port: int):
        for peer in config.peers:
            where = peer.endpoint and replace(peer.endpoint, tcp_port=port)
            yield replace(peer, endpoint=where)

    def _drops(self, source: bytes, target: bytes) -> bool:
        return self.blocking and self.member.address[:16] in (source[:16], target[:16])

    @property
    def boot(self) -> SimNode:
        return self.boots[0]

    def path(self) -> Path | None:
        """Where the member's data to the bootstrap goes."""
        return self.member.data_paths.get(self.boot.key)

    def linked(self) -> bool:
        return bool(self.member.links)

    def over_tcp(self) -> bool:
        return self.path() == Path(TCP, self.boot.address)

    def over_udp(self) -> bool:
        path = self.path()
        return path is not None and path.socket != TCP


@pytest.mark.parametrize("seed", range(3))
def test_a_node_without_udp_joins_over_tcp_and_reaches_a_member_there(seed: int) -> None:
    world = World(seed)
    world.member.start(world.config)
    seconds = world.network.run_until(world.over_tcp, 2 * VERDICT_S)
    assert seconds > VERDICT_S  # UDP was given its time
    snapshot = world.member.node.snapshot()
    assert snapshot.joined
    assert snapshot.tcp_links == (world.boot.address,)
    assert snapshot.candidates == ()
    back = world.boot.data_paths[world.member.key]
    assert back is not None and back.socket == TCP and back.remote[:16] == world.member.address[:16]


def test_a_node_with_udp_connects_to_nobody() -> None:
    world = World(1)
    world.blocking = False
    world.member.start(world.config)
    world.network.run_until(world.over_udp, 3)
    world.network.run(300)
    assert not world.linked()


def test_the_usual_ports_are_tried_where_the_file_says_none() -> None:
    for port in (443, 62096):
        world = World(1, tcp_port=port)
        world.member.start(network_file(world.boots, [world.boot, world.member]))
        world.network.run_until(world.over_tcp, 6)


def test_a_node_goes_back_to_udp_when_that_works_and_ends_its_connections() -> None:
    world = World(2)
    world.member.start(world.config)
    world.network.run_until(world.over_tcp, 6)
    world.blocking = False
    world.network.run_until(world.over_udp, 70)
    world.network.run_until(lambda: not world.linked(), 10)
    assert not world.boot.links
    world.network.run(120)
    assert world.over_udp()
    back = world.boot.data_paths[world.member.key]
    assert back is not None and back.socket != TCP
    changes = [path for _, key, path in world.member.path_changes if key == world.boot.key]
    assert None not in changes[changes.index(Path(TCP, world.boot.address)) :]


def test_udp_that_is_blocked_later_is_noticed() -> None:
    world = World(3)
    world.blocking = False
    world.member.start(world.config)
    world.network.run_until(world.over_udp, 3)
    world.network.run(100)
    world.blocking = True
    world.network.run_until(world.over_tcp, 45)


def test_a_port_that_was_told_over_udp_is_remembered() -> None:
    world = World(4)
    world.blocking = False
    plain = network_file(world.boots, [world.boot, world.member])
    world.member.start(plain)
    world.network.run_until(world.over_udp, 3)
    world.network.run(30)
    world.blocking = True
    world.network.run_until(world.over_tcp, 45)


def test_a_broken_connection_is_made_anew() -> None:
    world = World(5)
    world.member.start(world.config)
    world.network.run_until(world.over_tcp, 6)
    world.boot.disconnect_tcp(next(iter(world.boot.links)))
    world.network.run_until(lambda: not world.over_tcp(), 1)
    world.network.run_until(world.over_tcp, 10)


def test_a_server_that_restarts_is_found_again() -> None:
    world = World(6)
    world.member.start(world.config)
    world.network.run_until(world.over_tcp, 6)
    world.boot.stop()
    world.network.run(20)
    assert not world.linked()
    world.boot.start(replace(world.config, listen_tcp=TCP_PORT))
    world.network.run_until(world.over_tcp, 80)


def test_no_more_than_three_connections_are_held() -> None:
    world = World(7, boots=6)
    world.member.start(world.config)
    world.network.run(60)
    assert len(world.member.links) == 3


def test_nobody_listens_and_udp_comes_back() -> None:
    world = World(8, tcp_port=9)
    world.member.start(network_file(world.boots, [world.boot, world.member]))
    world.network.run(200)
    assert not world.linked()
    world.blocking = False
    world.network.run_until(world.over_udp, 70)


def test_a_new_network_file_changes_nothing_that_works() -> None:
    world = World(9)
    world.member.start(world.config)
    world.network.run_until(world.over_tcp, 6)
    world.member.handle(NetworkLoaded(world.config))
    world.network.run(200)
    assert world.over_tcp()


def test_servers_do_not_take_a_client_over_tcp_for_a_server() -> None:
    world = World(10, boots=3)
    world.member.mode = "direct"
    world.member.start(world.config)
    world.network.run_until(world.linked, 6)
    world.network.run(60)
    for boot in world.boots:
        assert world.member.key not in [contact.key for contact in boot.node.snapshot().contacts]


def test_a_user_can_ping_over_tcp() -> None:
    world = World(11)
    world.member.start(world.config)
    world.network.run_until(world.over_tcp, 6)
    world.member.handle(PingRequested(1, world.boot.key))
    world.network.run(2)
    assert world.member.notifications[-1].final
    assert "error" not in world.member.notifications[-1].body


def test_peers_that_udp_reaches_stay_where_they_are_when_servers_fall_silent() -> None:
    world = World(12)
    world.blocking = False
    peer = SimNode(world.network, pack("198.51.100.20", 62096), mode="nat")  # no server either
    line = peer_line(PeerKind.TRUST, peer, endpoint=True)
    config = replace(world.config, peers=(*world.config.peers, line))
    for node in (peer, world.member):
        node.start(config)
    world.network.run_until(lambda: world.member.has_path(peer), 10)
    servers = {boot.address for boot in world.boots}
    world.network.dropped_if = lambda source, target: bool(servers.intersection((source, target)))
    world.network.run_until(world.linked, 60)
    began = len(world.member.path_changes)
    world.network.run(200)
    assert world.linked()
    path = world.member.data_paths[peer.key]
    assert path is not None and path.socket != TCP
    moves = [key for _, key, _ in world.member.path_changes[began:]]
    assert moves.count(peer.key) == 0


def test_a_public_node_with_clients_goes_on_without_the_other_public_node() -> None:
    world = World(13, boots=2)
    world.blocking = False
    world.member.start(world.config)
    world.network.run_until(world.over_udp, 10)
    first, second = world.boots
    world.network.dropped_if = lambda source, target: second.address in (source, target)
    world.network.run(300)
    assert first.node.snapshot().candidates
    assert world.over_udp()


# With relays


class Relayed:
    """Two public nodes that relay and listen on TCP; a member without UDP and one behind a NAT."""

    def __init__(self, seed: int, *, both_blocked: bool = False) -> None:
        self.network = SimNetwork(seed)
        self.boots = [SimNode(self.network, pack(f"192.{i}.2.1", 62096)) for i in range(2)]
        self.blocked = SimNode(self.network, pack("203.0.113.7", 62096))
        self.other = SimNode(self.network, pack("10.1.2.3", 62096), nat=Nat("198.51.100.9"))
        self.blocking = {self.blocked.address[:16]}
        if both_blocked:
            self.blocking.add(pack("198.51.100.9", 0)[:16])
        self.network.dropped_if = lambda source, target: bool(
            self.blocking.intersection((source[:16], target[:16]))
        )
        public = network_file(self.boots, [])
        self.config = network_file(self.boots, [self.blocked, self.other])
        for boot in self.boots:
            boot.listen_tcp(443)
            boot.start(replace(public, listen_tcp=443))
        self.network.run(2)
        for member in (self.blocked, self.other):
            member.start(self.config)

    def want(self) -> None:
        self.blocked.handle(PathWanted(self.other.key))

    def connected(self) -> bool:
        return self.blocked.has_path(self.other) and self.other.has_path(self.blocked)


@pytest.mark.parametrize("both_blocked", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_member_without_udp_is_reached_through_relays(seed: int, both_blocked: bool) -> None:
    world = Relayed(seed, both_blocked=both_blocked)
    world.network.run(8)
    world.want()
    world.network.run_until(world.connected, 5)
    path = world.blocked.data_paths[world.other.key]
    assert path is not None and path.socket == TCP and path.channel
    world.network.run(20)
    for node, other in ((world.blocked, world.other), (world.other, world.blocked)):
        (peer,) = (peer for peer in node.node.snapshot().peers if peer.key == other.key)
        assert peer.state in ("relayed", "punching")


class Large:
    """So many servers that none holds every record, all listening on TCP. The members' files name three of
    them, each others."""

    SERVERS = 64

    def __init__(self, seed: int) -> None:
        self.network = SimNetwork(seed)
        self.servers = [
            SimNode(self.network, self.network.public_address(), mode="direct") for _ in range(self.SERVERS)
        ]
        self.boots = self.servers[:3]
        self.blocked = SimNode(self.network, pack("203.0.113.7", 62096))
        self.other = SimNode(self.network, pack("10.1.2.3", 62096), nat=Nat("198.51.100.9"))
        blocked_ip = self.blocked.address[:16]
        self.network.dropped_if = lambda source, target: blocked_ip in (source[:16], target[:16])
        for server in self.servers:
            server.listen_tcp(8443)
            server.start(replace(network_file(self.boots, []), listen_tcp=8443))
        self.network.run(40)
        for member, boots in ((self.blocked, self.boots), (self.other, self.servers[3:6])):
            config = network_file(boots, [self.blocked, self.other])
            member.start(replace(config, peers=tuple(map(self._with_tcp, config.peers))))
        self.network.run(15)

    def _with_tcp(self, peer: Peer) -> Peer:
        return replace(peer, endpoint=replace(peer.endpoint, tcp_port=8443)) if peer.endpoint else peer

    def holders(self, node: SimNode) -> list[SimNode]:
        now = self.network.now.unix
        return [server for server in self.servers if server.node.parts.kademlia.store.get(node.key, now)]

    def linked(self) -> list[SimNode]:
        return [server for server, _ in self.blocked.links.values()]


@pytest.fixture(scope="module")
def large() -> Large:
    return Large(21)


def test_servers_publish_what_a_client_over_tcp_says(large: Large) -> None:
    assert {server.key for server in large.linked()} == {boot.key for boot in large.boots}
    assert len(large.holders(large.blocked)) >= 15
    assert len(large.holders(large.other)) >= 15


def test_a_record_that_no_linked_server_holds_is_found(large: Large) -> None:
    asked = [
        server.key
        for server in large.servers
        if server not in large.boots and not any(boot in large.holders(server) for boot in large.boots)
    ]
    assert len(asked) > 10
    for number, key in enumerate(asked[:10], 1):
        large.blocked.handle(LookupRequested(number, key))
    large.network.run(6)
    found = {notice.request: notice.body for notice in large.blocked.notifications if notice.final}
    assert [body["found"] for body in found.values()] == [True] * 10


@pytest.mark.parametrize("by_blocked", [True, False])
def test_peers_meet_at_relays_that_only_one_of_them_knew(large: Large, by_blocked: bool) -> None:
    first, second = (large.blocked, large.other) if by_blocked else (large.other, large.blocked)
    relays = [{relay.key for relay in node.node.snapshot().relays} for node in (first, second)]
    assert all(relays) and relays[0].isdisjoint(relays[1])
    first.handle(PathWanted(second.key))
    large.network.run_until(lambda: first.has_path(second) and second.has_path(first), 10)
    large.network.run(10)
    path = large.blocked.data_paths[large.other.key]
    assert path is not None and path.socket == TCP and path.channel
    assert len(large.blocked.links) <= 8
