"""What an attacker can make a node do: nothing that raises, grows without bound, or floods somebody else."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from simnet import SimNetwork
from simnode import SOCKET, SimNode, make_key, network_file
from simnode import fake_sign as sign_with
from simnode import fake_verify as verify
from wh.engine.commands import Command, Knock, Reply, Send
from wh.engine.events import (
    Event,
    Instant,
    Key,
    KnockReceived,
    LocalAddresses,
    LookupRequested,
    MessageReceived,
    NameResolved,
    NetworkLoaded,
    Path,
    RelayEnded,
    RelayOpened,
    ReplyToken,
    SendFailed,
    SessionOpened,
)
from wh.engine.peers import STRANGERS_MAX
from wh.engine.requests import PENDING_MAX
from wh.node.node import Node
from wh.relay.tables import RESERVATIONS_MAX
from wh.wire import messages as wire
from wh.wire.address import Address, pack
from wh.wire.codec import encode

OWN_ADDRESS = pack("192.0.2.1", 62096)
EVENTS = 10_000
REGULARS = 20


def bare_node(rng: random.Random, mode: str = "direct") -> Node:
    """A server with one bootstrap and one trusted peer in its file, none of which answers."""
    key = make_key(rng)
    node = Node(key, rng=rng, sign=sign_with(key), verify=verify, mode=mode)
    network = SimNetwork(0)
    others = [SimNode(network, network.public_address()) for _ in range(2)]
    node.handle(LocalAddresses(((SOCKET, 4),), (OWN_ADDRESS,)), Instant(0.0, 1.8e9))
    node.handle(NetworkLoaded(network_file(others[:1], others[1:])), Instant(0.0, 1.8e9))
    return node


def random_address(rng: random.Random) -> Address:
    return pack(".".join(str(rng.randrange(1, 224)) for _ in range(4)), rng.randrange(1, 65536))


def random_message(rng: random.Random) -> wire.Message:
    number, nonce, key = rng.getrandbits(32), rng.randbytes(8), make_key(rng)
    contacts = tuple(
        wire.Contact(make_key(rng), random_address(rng), rng.getrandbits(2)) for _ in range(rng.randrange(17))
    )
    return rng.choice(
        (
            wire.Ping(number, rng.randrange(3), rng.getrandbits(16), nonce, rng.getrandbits(2)),
            wire.Pong(number, random_address(rng), rng.getrandbits(2), 0, 1, nonce),
            wire.Find(number, key, rng.getrandbits(64), rng.getrandbits(8), rng.getrandbits(8)),
            wire.Nodes(number, nonce, contacts, rng.randbytes(rng.randrange(513))),
            wire.Put(number, nonce, rng.randbytes(rng.randrange(513))),
            wire.PutAck(number, rng.getrandbits(8), rng.getrandbits(64), 5),
            wire.Challenge(number, nonce),
            wire.Response(number, nonce),
            wire.Dialback(number, random_address(rng), nonce),
            wire.Probe(number, number, number),
            wire.ProbeAck(number, number, number),
            wire.Nominate(number, number, number),
            wire.Leaving(number),
            wire.Reserve(number, rng.choice((0, 60, 3600))),
            wire.Reserved(number, rng.randrange(3), rng.choice((0, 60, 3600))),
            wire.Open(number, key),
            wire.Opened(
                rng.choice((0, number)), rng.randrange(2), rng.randrange(4), key, random_address(rng)
            ),
            wire.Close(number, rng.randrange(4), rng.randrange(4)),
        )
    )


def random_event(rng: random.Random, keys: list[Key], waiting: list[Send]) -> Event:
    """Now and then an answer to something that the node asked, so that its answer handlers run too."""
    key, path = rng.choice(keys), Path(SOCKET, random_address(rng))
    message = random_message(rng)
    if waiting and rng.random() < 0.5:
        asked = rng.choice(waiting)
        key, path = asked.peer, asked.path
        message = type(message)(asked.message.request_id, *list_fields(message)[1:])
        if rng.random() < 0.1:
            return SendFailed(key, path, asked.message)
    elif rng.random() < 0.3:  # a few that stay where they are
        regular = rng.randrange(REGULARS)
        key, path = keys[regular], Path(SOCKET, pack(f"20.{regular}.0.1", 62096))
        if rng.random() < 0.1:
            return SessionOpened(key, path, False)
    kind = rng.random()
    if kind < 0.05:
        return SessionOpened(key, path, rng.random() < 0.5)
    if kind < 0.08:
        return KnockReceived(path.remote, rng.randbytes(8))
    if kind < 0.09:
        return NameResolved("nobody.example", 1, (path.remote,))
    if kind < 0.16:
        return random_relay_event(rng)
    if isinstance(message, wire.Open | wire.Opened) and rng.random() < 0.8:
        message = replace(message, peer=rng.choice(keys[:REGULARS]))
    first_contact = rng.random() < 0.3
    token = ReplyToken(key, path, 1 if first_contact else None)
    return MessageReceived(key, path, message, token, first_contact, rng.randrange(1200))


def random_relay_event(rng: random.Random) -> Event:
    """As of a data plane, with few legs, so that some fit."""
    first = 2 * rng.randrange(200)
    legs = (first, first + 1)
    return rng.choice(
        (
            RelayOpened(1 + rng.randrange(EVENTS // 100), rng.choice((legs, legs, None))),
            RelayEnded((legs,)),
        )
    )


def list_fields(message: wire.Message) -> list[object]:
    return [getattr(message, name) for name in message.__struct_fields__]


@pytest.mark.parametrize("seed", range(3))
def test_random_messages_neither_raise_nor_make_tables_grow(seed: int) -> None:
    rng = random.Random(seed)
    node = bare_node(rng)
    keys = [make_key(rng) for _ in range(EVENTS // 2)]
    waiting: list[Send] = []
    now = Instant(0.0, 1.8e9)
    for _ in range(EVENTS):
        now = Instant(now.monotonic + rng.random() * 0.02, now.unix + 0.01)
        event = random_event(rng, keys, waiting)
        commands = node.handle(event, now) + node.tick(now)
        waiting = (waiting + [each for each in commands if isinstance(each, Send)])[-50:]
        for command in commands:
            if isinstance(command, Reply) and not isinstance(command.message, wire.Reserved | wire.Opened):
                assert isinstance(event, MessageReceived)
                assert len(encode(command.message)) <= event.capacity
                assert command.to is event.reply
    assert len(node.parts.engine.peers) <= STRANGERS_MAX + 2
    assert len(node.parts.requests) <= PENDING_MAX
    assert len(node.parts.engine.timers) <= PENDING_MAX + 100
    assert len(node.snapshot().contacts) < 1000
    assert node.snapshot().relayed.reservations <= RESERVATIONS_MAX + 1
    assert len(node.parts.engine.commands) == 0


def test_a_spoofed_source_gets_nothing_but_the_answer() -> None:
    """Whoever says that he is a server, from an address that is not his, must not aim a node at a victim."""
    rng = random.Random(1)
    node = bare_node(rng)
    victim = random_address(rng)
    for step in range(2000):
        now = Instant(10.0 + step * 0.01, 1.8e9 + step * 0.01)
        key = make_key(rng)
        path = Path(SOCKET, victim[:16] + rng.randrange(1, 65536).to_bytes(2, "big"))
        ping = wire.Ping(1, 0, 0, bytes(8), wire.Capability.SERVER)
        event = MessageReceived(key, path, ping, ReplyToken(key, path, 1), True, 100)
        commands = node.handle(event, now) + node.tick(now)
        assert not any(isinstance(each, Send) and each.path.remote[:16] == victim[:16] for each in commands)


def test_dialbacks_cannot_be_turned_into_a_flood() -> None:
    """From two thousand networks, at one of them and at all."""
    rng = random.Random(2)
    node = bare_node(rng)
    knocks: list[tuple[float, Address]] = []
    victim = random_address(rng)
    for step in range(3000):
        now = Instant(10.0 + step * 0.01, 1.8e9)
        key, path = make_key(rng), Path(SOCKET, random_address(rng))
        target = victim if step % 2 else random_address(rng)
        message = wire.Dialback(1, target, rng.randbytes(8))
        node.handle(SessionOpened(key, path, False), now)
        event = MessageReceived(key, path, message, ReplyToken(key, path, None), False, 1000)
        knocks += [(now.monotonic, each.to) for each in node.handle(event, now) if isinstance(each, Knock)]
    assert 0 < sum(to == victim for _, to in knocks) <= 8 + 30 * 4 + 1
    assert 0 < len(knocks) <= 256 + 30 * 64 + 1


def test_a_claimed_server_that_does_not_answer_enters_no_table() -> None:
    rng = random.Random(3)
    node = bare_node(rng)
    for step in range(300):
        key, path = make_key(rng), Path(SOCKET, random_address(rng))
        ping = wire.Ping(1, 0, 0, bytes(8), wire.Capability.SERVER)
        now = Instant(10.0 + step * 0.1, 1.8e9)
        node.handle(MessageReceived(key, path, ping, ReplyToken(key, path, 1), True, 100), now)
        node.tick(now)
    assert node.snapshot().contacts == ()


def test_a_put_needs_a_token_and_a_valid_signature() -> None:
    network = SimNetwork(5)
    server = SimNode(network, network.public_address(), mode="direct")
    honest = SimNode(network, network.public_address())
    config = network_file([server], [])
    server.start(config)
    honest.start(config)
    network.run(2)
    (event,) = [each for each in server.received if isinstance(each.message, wire.Put)]
    stored = server.node.snapshot().stored_records
    forged = bytearray(event.message.record)  # type: ignore[union-attr]
    forged[40] ^= 1  # the sequence
    wrong_token = wire.Put(1, bytes(8), bytes(forged))
    bad_signature = wire.Put(1, event.message.token, bytes(forged))  # type: ignore[union-attr]
    statuses = [put_status(server, event, message) for message in (wrong_token, bad_signature)]
    assert statuses == [wire.PutStatus.BAD_TOKEN, wire.PutStatus.BAD_RECORD]
    assert server.node.snapshot().stored_records == stored == 1


def put_status(node: SimNode, like: MessageReceived, message: wire.Put) -> int:
    event = MessageReceived(like.peer, like.path, message, like.reply, False, 1000)
    (reply,) = [each for each in node.node.handle(event, node.network.now) if isinstance(each, Reply)]
    assert isinstance(reply.message, wire.PutAck)
    return reply.message.status


def test_liars_do_not_hide_a_record() -> None:
    """A fifth of the servers answer every FIND with contacts that do not exist."""
    network = SimNetwork(7)
    servers = [SimNode(network, network.public_address(), mode="direct") for _ in range(40)]
    config = network_file(servers[:3], [])
    for server in servers:
        server.start(config)
        network.run(0.2)
    network.run(10)
    for liar in network.rng.sample(servers[3:], 8):
        make_liar(liar)
    asker = next(server for server in servers[3:] if not hasattr(server, "lies"))
    target = servers[0]
    asker.handle(LookupRequested(1, target.key))
    network.run(10)
    assert asker.notifications[-1].body["found"]


def make_liar(server: SimNode) -> None:
    server.lies = True  # type: ignore[attr-defined]
    honest_reply = server._reply
    rng = server.network.rng

    def lie(reply: Reply) -> None:
        message = reply.message
        if isinstance(message, wire.Nodes):
            bogus = tuple(wire.Contact(make_key(rng), random_address(rng), 1) for _ in range(6))
            reply = Reply(reply.to, wire.Nodes(message.request_id, message.token, bogus))
        honest_reply(reply)

    server._reply = lie  # type: ignore[method-assign]


def test_a_server_that_lies_about_sequences_does_not_spoil_ours() -> None:
    network = SimNetwork(8)
    liar, honest = (SimNode(network, network.public_address(), mode="direct") for _ in range(2))
    node = SimNode(network, network.public_address())
    for highest in (2**64 - 1, 2**63):
        make_sequence_liar(liar, highest)
        for each in (liar, honest, node):
            each.start(network_file([liar, honest], []))
        network.run(200)
        honest.handle(LookupRequested(1, node.key))
        network.run(3)
        assert honest.notifications[-1].body["found"]


def make_sequence_liar(server: SimNode, sequence: int) -> None:
    honest_reply = SimNode._reply

    def lie(reply: Reply) -> None:
        message = reply.message
        if isinstance(message, wire.PutAck):
            reply = Reply(reply.to, wire.PutAck(message.request_id, wire.PutStatus.OUTDATED, sequence, 60))
        honest_reply(server, reply)

    server._reply = lie  # type: ignore[method-assign]


# Dial-backs


def server_with_sessions(seed: int, addresses: dict[Key, Address]) -> Node:
    """A server that has sessions with nodes at these addresses, which have proved them."""
    node = bare_node(random.Random(1000 + seed))
    for key, address in addresses.items():
        node.handle(SessionOpened(key, Path(SOCKET, address), False), Instant(1.0, 1.8e9))
    return node


def ask(node: Node, key: Key, address: Address, message: wire.Message, seconds: float) -> list[Command]:
    path, now = Path(SOCKET, address), Instant(10.0 + seconds, 1.8e9 + seconds)
    event = MessageReceived(key, path, message, ReplyToken(key, path, None), False, 1000)
    return node.tick(now) + node.handle(event, now)


def crowd(rng: random.Random, networks: int) -> dict[Key, Address]:
    """Two hundred nodes of so many /24, two to a /16."""
    numbers = range(200)
    places = [divmod(number % networks, 2) for number in numbers]
    return {
        make_key(rng): pack(f"20.{large}.{small}.{1 + number}", 62096)
        for number, (large, small) in zip(numbers, places, strict=True)
    }


HONEST_ASKERS = 58


def honest_askers(rng: random.Random) -> dict[Key, Address]:
    return {make_key(rng): pack(f"30.{i}.1.1", 62096) for i in range(HONEST_ASKERS)}


@pytest.mark.parametrize("networks", [1, 8, 64])
@pytest.mark.parametrize("sessions", [1, 200])
def test_a_crowd_keeps_nobody_from_being_knocked_at(networks: int, sessions: int) -> None:
    """Two hundred DIALBACKs a second, in one session or as many as there are, for ten seconds."""
    rng = random.Random(11)
    attackers, honest = crowd(rng, networks), honest_askers(rng)
    node = server_with_sessions(11, {**attackers, **honest})
    some = list(attackers.items())[:sessions]
    served = 0
    for step in range(2000):
        key, address = some[step % len(some)]
        junk = wire.Dialback(1, random_address(rng), rng.randbytes(8))
        ask(node, key, address, junk, step / 200)
        if step % (2000 // HONEST_ASKERS) == 0 and step // 34 < HONEST_ASKERS:
            key, address = list(honest.items())[step // 34]
            wanted = wire.Dialback(1, pack(f"40.{step // 34}.1.1", 5000), rng.randbytes(8))
            commands = ask(node, key, address, wanted, step / 200)
            served += any(isinstance(each, Knock) and each.to == wanted.address for each in commands)
    assert served >= HONEST_ASKERS - 1


def test_nobody_uses_up_the_knocks_for_a_network() -> None:
    rng = random.Random(12)
    (attacker, attacking), (honest, asking) = ((make_key(rng), random_address(rng)) for _ in range(2))
    node = server_with_sessions(12, {attacker: attacking, honest: asking})
    target = pack("40.1.2.3", 5000)
    for step in range(460):
        ask(node, attacker, attacking, wire.Dialback(1, target, rng.randbytes(8)), step / 100)
    commands = ask(node, honest, asking, wire.Dialback(1, target, bytes(8)), 4.6)
    assert [each.to for each in commands if isinstance(each, Knock)] == [target]


def test_who_writes_from_an_address_that_is_not_his_has_nobody_knock() -> None:
    """Else it would be somebody else's share that he uses up."""
    rng = random.Random(13)
    attacker, address = make_key(rng), random_address(rng)
    node = server_with_sessions(13, {attacker: address})
    spoofed = ask(node, attacker, random_address(rng), wire.Dialback(1, random_address(rng), bytes(8)), 0.0)
    assert not any(isinstance(each, Knock) for each in spoofed)


def test_two_hundred_wishes_for_a_dialback_leave_room_for_others() -> None:
    rng = random.Random(14)
    attackers, honest = crowd(rng, 1), honest_askers(rng)
    third, there = make_key(rng), pack("50.1.1.1", 62096)
    node = server_with_sessions(14, {**attackers, **honest, third: there})
    ask(node, third, there, wire.Ping(1, 0, 0, bytes(8), wire.Capability.SERVER), 0.0)

    def arranged(key: Key, address: Address, seconds: float) -> int:
        wish = wire.Ping(1, wire.PingWant.DIALBACK, 0, rng.randbytes(8))
        node.handle(SessionOpened(third, Path(SOCKET, there), False), Instant(10.0 + seconds, 1.8e9))
        commands = ask(node, key, address, wish, seconds)
        sent = [each.message for each in commands if isinstance(each, Send) and each.peer == third]
        return any(
            isinstance(each, wire.Dialback | wire.Ping) for each in sent
        )  # a PING where a session is wanted

    taken = sum(arranged(key, address, i / 200) for i in range(10) for key, address in attackers.items())
    assert taken <= 32 + 1
    assert sum(arranged(key, address, 1.0) for key, address in honest.items()) == HONEST_ASKERS
