"""Joining, and coming back, when bootstraps are dead, lie or move; keeping a table of servers that live."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostile_servers import make_nodes_liar
from simnat import Nat
from simnet import SimNetwork
from simnode import SimNode, network_file
from wh.config.model import Endpoint
from wh.engine.events import Remembered
from wh.wire.address import pack
from wh.wire.messages import Contact
from world import World


def is_joined(node: SimNode) -> bool:
    return node.node.snapshot().joined


def restart(node: SimNode, world: World, known: Remembered) -> None:
    """As kill -9 and a new start, with what was written down."""
    node.stop()
    node.start(world.config())
    node.handle(known)


@pytest.mark.parametrize("behind_nat", [False, True])
def test_who_was_here_before_needs_no_bootstrap_that_lives(behind_nat: bool) -> None:
    world = World(21, boots=1)
    world.add_servers(30, 10.0)
    node = world.add_clients(1, 2.0)[0] if behind_nat else world.servers[-1]
    world.run(60)
    known = node.node.memory()
    assert len(known.servers) > 10
    world.servers[0].stop()
    restart(node, world, known)
    assert world.network.run_until(lambda: is_joined(node), 2.0) < 2.0
    world.run(20)
    assert world.look_up([(node, world.servers[5])]).found == 1


def test_nothing_that_is_remembered_is_believed() -> None:
    """Victims in the state file: each gets a few PINGs, and nobody else is told of them."""
    world = World(22, boots=1)
    world.add_servers(10, 5.0)
    node, victims = world.servers[-1], [pack(f"203.0.{i}.1", 62096) for i in range(32)]
    heard: dict[bytes, int] = {}
    for victim in victims:
        world.network.attach(
            victim,
            lambda source, datagram, victim=victim: heard.__setitem__(victim, heard.get(victim, 0) + 1),
        )
    bogus = tuple(Contact(world.rng.randbytes(31) + b"\x01", victim, 1) for victim in victims)
    restart(node, world, Remembered(bogus, ()))
    world.run(60)
    assert sum(heard.values()) <= 32
    assert not {each.key for each in bogus} & {each.key for each in node.node.snapshot().contacts}
    assert not {each.key for each in bogus} & {each.key for each in node.node.memory().servers}


@pytest.mark.slow
def test_buckets_are_full_a_minute_after_the_start() -> None:
    """Nobody waits for a refresh in half an hour."""
    world = World(23)
    world.add_servers(100, 10.0)
    world.run(60)
    for server in world.servers[3:20]:
        far = [each for each in server.node.parts.kademlia.table if (each.key[0] ^ server.key[0]) & 0x80]
        assert len(far) >= 18


@pytest.mark.slow
def test_the_dead_are_noticed_and_not_told_of() -> None:
    """A third of the servers dies at once; ten minutes later tables name few of them."""
    world = World(24)
    world.add_servers(60, 10.0)
    world.run(120)
    dead = world.servers[40:]
    for server in dead:
        server.stop()
    keys = {server.key for server in dead}
    world.run(600)
    told = [
        each.key
        for server in world.servers[:40]
        for each in server.node.parts.kademlia.table
        if not each.dead and each.key in keys
    ]
    assert len(told) <= 40


@pytest.mark.slow
def test_a_bootstrap_that_lies_is_made_good_by_one_that_comes_later() -> None:
    """It names only accomplices; the honest one was not there for the first 30 s."""
    world = World(25, boots=2)
    liar, *_ = world.add_servers(60, 10.0)
    world.run(30)
    accomplices = [world.servers[number] for number in range(2, 12)]
    contacts = [Contact(each.key, each.address, 1) for each in accomplices]
    for each in (liar, *accomplices):
        make_nodes_liar(each, lambda target: contacts)
    honest = world.servers[1]
    honest.stop()
    newcomers = world.add_clients(3, 1.0)
    world.run(30)
    honest.start(world.config())
    world.run(60)
    result = world.look_up(world.random_pairs(30, newcomers, world.servers[12:]))
    assert result.found >= 29


def test_a_bootstrap_behind_a_name_that_moves_is_found_at_once() -> None:
    network = SimNetwork(26)
    boot = SimNode(network, pack("192.0.2.1", 62096))
    member = SimNode(network, pack("10.0.0.2", 62096), nat=Nat("100.1.2.3"), mode="nat")
    config = network_file([boot], [boot, member])
    named = replace(config.peers[0], endpoint=Endpoint("boot.example"))
    config = replace(config, peers=(named, *config.peers[1:]))
    member.names["boot.example"] = (boot.address,)
    boot.start(network_file([boot], [member]))
    member.start(config)
    network.run_until(lambda: is_joined(member), 5.0)
    boot.stop()
    boot.address = pack("198.51.100.9", 62096)
    boot.start(network_file([boot], [member]))
    member.names["boot.example"] = (boot.address,)
    network.run_until(
        lambda: any(each.endpoint == boot.address for each in member.node.snapshot().contacts), 60
    )
