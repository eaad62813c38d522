"""Named scenarios of the DHT in virtual time: `python -m tests.sim NAME` (docs/dht.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from simnode import SimNode
from wh.dht.lookups.search import SearchCallbacks
from wh.dht.table.metric import K, distance
from wh.wire.messages import Capability
from world import World

Result = dict[str, Any]
Scenario = Callable[[World, int, int], Result]
"""(world, servers, lookups) -> what was measured."""

SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def true_nearest(world: World, target: bytes, among: list[SimNode]) -> set[bytes]:
    return {node.key for node in sorted(among, key=lambda node: distance(node.key, target))[:K]}


def recall(world: World, trials: int) -> float:
    """Of the K servers nearest to a random key, the share that a lookup finds."""
    total = 0.0
    for _ in range(trials):
        target, asker = world.rng.randbytes(32), world.rng.choice(world.servers)
        found: list[bytes] = []
        searches = asker.node.parts.searches

        def done(result: Any, now: Any, found: list[bytes] = found) -> None:
            found.extend(responder.contact.key for responder in result.closest[: K + 1])

        searches.begin(target, world.network.now, SearchCallbacks(done=done), want_record=False)
        asker._schedule()
        world.network.run(10)
        others = [server for server in world.servers if server is not asker and server.running]
        total += len(set(found) & true_nearest(world, target, others)) / K
    return total / trials


@scenario
def quiet(world: World, servers: int, lookups: int) -> Result:
    """Servers that have just joined, and clients behind NATs, look each other up; then the traffic of an
    idle quarter of an hour."""
    world.add_servers(servers, max(20.0, servers / 20))
    clients = world.add_clients(max(10, servers // 50), 10.0)
    world.run(30)
    world.say("looking up")
    by_servers = world.look_up(world.random_pairs(lookups, world.servers, world.servers))
    by_clients = world.look_up(world.random_pairs(lookups, clients, world.servers))
    found_recall = recall(world, 20)
    world.run(1800)
    bytes_s = {
        "server": round(world.traffic(world.servers[world.boots :], 450)),
        "bootstrap": round(world.traffic(world.servers[: world.boots], 450)),
        "client": round(world.traffic(clients, 450)),
    }
    contacts = [len(server.node.parts.kademlia.table) for server in world.servers]
    estimates = sorted(server.node.snapshot().size_estimate for server in world.servers)
    return {
        "servers_ask": by_servers.summary(),
        "clients_ask": by_clients.summary(),
        "recall": round(found_recall, 3),
        "recall_later": round(recall(world, 20), 3),
        "bytes_a_s": bytes_s,
        "contacts": round(sum(contacts) / len(contacts)),
        "size_estimate": estimates[servers // 2],
    }


def is_server(node: SimNode) -> bool:
    return bool(node.node.parts.reachability.capabilities & Capability.SERVER)


def exponential(world: World, mean: float) -> float:
    return -mean * math.log(1 - world.rng.random())
