"""A node whose UDP does not get through, and servers that also listen on TCP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simnet import SimNetwork
from simnode import SimNode, network_file
from wh.config.model import Network
from wh.events import TCP, NetworkLoaded, Path, PingRequested
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
        return self.blocking and self.member.address in (source, target)

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
    seconds = world.network.run_until(world.over_tcp, 6)
    assert seconds > 2.9  # UDP was given its time
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
    world.boot.disconnect(next(iter(world.boot.links)))
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
