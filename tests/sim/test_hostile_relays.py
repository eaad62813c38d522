"""What strangers can do to a relay and its clients: not find them, not keep them out, not move them."""

from __future__ import annotations

import random
from functools import partial

import pytest

from copier import Copier
from relayed_pair import Pair, make_pair, start_all
from simnat import Dependence
from simnet import SimNetwork
from simnode import SOCKET, SimNode, make_key, network_file
from wh.config.model import Network, Peer, PeerKind, RelayPolicy
from wh.engine.commands import Send
from wh.engine.events import Key, NetworkLoaded, Path
from wh.wire.address import Address, pack
from wh.wire.messages import (
    Message,
    Open,
    Opened,
    Ping,
    RelayStatus,
    Reserve,
    Reserved,
)

NOWHERE = bytes(18)


class Stranger(SimNode):
    """Says to a relay what it likes, and keeps nothing else."""

    def begin(self, relay: SimNode) -> None:
        self.start(Network())
        self.say(relay, Ping(1, 0, 0, bytes(8)))

    def say(self, relay: SimNode, message: Message) -> None:
        self._execute([Send(relay.key, Path(SOCKET, relay.address), message)])

    def heard(self, kind: type[Message]) -> list[Message]:
        return [event.message for event in self.received if isinstance(event.message, kind)]


def stranger(network: SimNetwork, relay: SimNode, address: Address | None = None) -> Stranger:
    made = Stranger(network, address or network.public_address())
    made.begin(relay)
    return made


def relay_of(pair: Pair, node: SimNode) -> SimNode:
    return next(server for server in pair.servers if server.key in pair.relays_of(node))


# Where the target is


def told_about(attacker: Stranger) -> set[Address]:
    return {message.observed for message in attacker.heard(Opened) if isinstance(message, Opened)}


@pytest.mark.parametrize("alias_is_open", [False, True])
def test_a_relay_tells_no_stranger_where_its_client_is(alias_is_open: bool) -> None:
    """At once, again, after it was barred, with other keys, and while the client lets strangers speak."""
    pair = make_pair()
    if alias_is_open:
        alias = Peer(PeerKind.ALIAS, make_key(random.Random(7)), hostname="newcomer")
        pair.config = Network(peers=(*pair.config.peers, alias))
    start_all(pair)
    relay = relay_of(pair, pair.b)
    told: set[Address] = set()
    for _ in range(5):
        attacker = stranger(pair.network, relay)
        pair.network.run(1)
        for number in range(5):
            attacker.say(relay, Open(10 + number, pair.b.key))
            opened = [each for each in attacker.heard(Opened) if isinstance(each, Opened)]
            if opened and opened[-1].channel:  # it even talks to it
                path = Path(SOCKET, relay.address, opened[-1].channel)
                attacker.admitted.add(path)
                attacker._execute([Send(pair.b.key, path, Ping(1, 0, 0, bytes(8)))])
            pair.network.run(1)
        statuses = {each.status for each in attacker.heard(Opened) if isinstance(each, Opened)}
        assert RelayStatus.OK in statuses
        told |= told_about(attacker)
    assert told == {NOWHERE}


def test_who_trust_each_other_hear_it_before_they_punch() -> None:
    pair = make_pair()
    start_all(pair)
    pair.network.run(5)
    pair.want()
    pair.network.run_until(pair.relayed, 5.0)
    pair.network.run_until(
        lambda: all(
            node.node.parts.seen_by_relays(peer.key) for node, peer in ((pair.a, pair.b), (pair.b, pair.a))
        ),
        2 * pair.network.latency_s,
    )
    for node, peer, nat in ((pair.a, pair.b, pair.nats[1]), (pair.b, pair.a, pair.nats[0])):
        assert node.node.parts.seen_by_relays(peer.key) == {pack(nat.public_ip, 1)[:16]}


# Places


def test_a_few_networks_hold_no_relay_for_ever() -> None:
    """16 addresses in 4 networks take all places first, and renew them as often as they may."""
    network = SimNetwork(1)
    relay = SimNode(network, network.public_address(), mode="direct")
    relay.start(network_file([relay], []))
    attackers = [
        stranger(network, relay, pack(f"20.{number % 4}.{number // 4 % 4}.9", 1000 + number))
        for number in range(128)
    ]
    network.run(1)
    renew(relay, attackers)
    network.run(2)
    assert relay.node.snapshot().relayed.reservations == 128
    honest = [stranger(network, relay, pack(f"30.{number}.0.1", 62096)) for number in range(40)]
    for _ in range(4):
        renew(relay, honest)
        network.run(300)
        renew(relay, attackers)
        network.run(300)
    service = relay.node.parts.relaying._service._tables
    now = network.now.monotonic
    assert sum(service.has_reservation(each.key, now) for each in honest) == len(honest)
    assert sum(service.has_reservation(each.key, now) for each in attackers) == 128 - len(honest)
    refused = [
        message.status for each in honest for message in each.heard(Reserved) if isinstance(message, Reserved)
    ]
    assert set(refused) == {RelayStatus.OK}, "whoever has a place keeps it"


def renew(relay: SimNode, clients: list[Stranger]) -> None:
    for number, client in enumerate(clients):
        client.network.call_later(0.01 * number, partial(client.say, relay, Reserve(5, 3600)))


@pytest.mark.parametrize("seed", range(1, 5))
def test_strangers_of_one_network_keep_nobody_from_a_client(seed: int) -> None:
    """They open so many channels to it as may wait, with ever new keys, while it lets strangers speak.
    The relay's news may overtake each other."""
    pair = make_pair(seed)
    alias = Peer(PeerKind.ALIAS, make_key(random.Random(7)), hostname="newcomer")
    pair.config = Network(peers=(*pair.config.peers, alias))
    start_all(pair)
    relay = relay_of(pair, pair.b)
    attackers = [
        stranger(pair.network, relay, pack(f"20.1.{number % 3}.9", 1000 + number)) for number in range(60)
    ]
    pair.network.run(1)

    def flood() -> None:
        for attacker in attackers:
            attacker.say(relay, Open(10, pair.b.key))

    for _ in range(3):
        flood()
        pair.network.run(1)
    newcomer = stranger(pair.network, relay)
    pair.network.run(1)
    flood()
    newcomer.say(relay, Open(10, pair.b.key))
    flood()
    pair.network.run(1)
    (opened,) = {each for each in newcomer.heard(Opened) if isinstance(each, Opened)}
    assert opened.status == RelayStatus.OK
    assert pair.b.node.parts.relays.channels_to(newcomer.key), "it may speak"


# Members that are no more


def test_a_channel_loses_its_privilege_with_its_member() -> None:
    network = SimNetwork(1)
    relay = SimNode(network, network.public_address(), mode="direct")
    members = [Stranger(network, network.public_address()) for _ in range(2)]
    policy = RelayPolicy()
    file = [Peer(PeerKind.TRUST, each.key) for each in members]
    relay.start(Network(peers=tuple(file), relay=policy))
    for each in members:
        each.begin(relay)
    network.run(1)
    members[1].say(relay, Reserve(5, 3600))
    network.run(1)
    members[0].say(relay, Open(6, members[1].key))
    network.run(1)
    (channel,) = relay.relay.channels
    assert channel.trusted
    relay.handle(NetworkLoaded(Network(peers=tuple(file[:1]), relay=policy)))
    assert not channel.trusted
    relay.handle(NetworkLoaded(Network(peers=tuple(file), relay=policy)))
    assert channel.trusted


# Who copies datagrams


@pytest.mark.parametrize("spoofing", [False, True])
def test_whoever_copies_datagrams_to_a_relay_does_not_become_its_client(spoofing: bool) -> None:
    pair = make_pair(servers=1)
    start_all(pair, reservations=1)
    pair.network.run(5)
    pair.want()
    pair.network.run_until(pair.relayed, 5.0)
    relay = pair.servers[0]
    pair.nats[0].filtering = Dependence.ENDPOINT_INDEPENDENT
    copier = Copier(pair.network, pack(pair.nats[0].public_ip, 1)[:16], relay.address[:16], spoofing=spoofing)
    honest = pair.network.dropped_if
    between = {copier.ip, pack(pair.nats[1].public_ip, 1)[:16]}
    # What a relay sees is what the peer hears: it shall not try the copier's address.
    pair.network.dropped_if = lambda source, target: (
        honest(source, target) or {source[:16], target[:16]} == between
    )
    client = pair.a.node.parts.relays.link(relay.key)
    assert client is not None
    away = 0.0
    for step in range(6000):
        if step % 1000 == 0:
            client.announce(pair.network.now)  # as when it seems to have moved
            pair.a._execute(pair.a.node._take_commands(pair.network.now))
        pair.network.run(0.01)
        away += 0.01 * is_at_copier(relay, copier, pair.a.key)
    assert copier.copied > 20
    assert copier.passed_on > 0
    assert away < 0.5
    copier.stop()
    assert pair.passes()


def is_at_copier(relay: SimNode, copier: Copier, key: Key) -> bool:
    path = relay.node.parts.relaying._service._tables.path_of(key)
    return path is not None and copier.is_ours(path.remote)
