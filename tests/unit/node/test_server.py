"""What a node answers, seen from outside: messages in, Reply out."""

from __future__ import annotations

import hashlib
import random

import pytest
from engine_parts import OWN_ADDRESS, OWN_KEY, PATH, PEER_ADDRESS, PEER_KEY, at
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.config.model import Network
from wh.engine.commands import Command, Knock, Reply, Send
from wh.engine.events import (
    PUNCH_SOCKETS_FROM,
    Key,
    LocalAddresses,
    MessageReceived,
    NetworkLoaded,
    Path,
    ReplyToken,
    SessionOpened,
)
from wh.node.node import Node
from wh.wire.address import Address, pack
from wh.wire.candidates import Candidate
from wh.wire.codec import encode
from wh.wire.messages import (
    MAX_CONTACTS,
    Capability,
    Challenge,
    Dialback,
    Find,
    FindWant,
    Message,
    Nodes,
    Ping,
    PingWant,
    Pong,
    Probe,
    ProbeAck,
    Put,
    PutAck,
    PutStatus,
    Response,
)
from wh.wire.records import Record, sign_record

NAMESPACE = b"public"


def sign_as(key: Key, message: bytes) -> bytes:
    return hashlib.blake2b(message, key=key, digest_size=64).digest()


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    return sign_as(key, message) == signature


def make_node(mode: str = "direct") -> Node:
    def sign(message: bytes) -> bytes:
        return sign_as(OWN_KEY, message)

    node = Node(OWN_KEY, rng=random.Random(1), sign=sign, verify=verify, mode=mode)
    node.handle(LocalAddresses(((0, 4),), (OWN_ADDRESS,)), at(0))
    node.handle(NetworkLoaded(Network()), at(0))
    return node


def ask(
    node: Node,
    message: Message,
    *,
    peer: Key = PEER_KEY,
    path: Path = PATH,
    first_contact: bool = False,
    capacity: int = 1166,
    seconds: float = 1.0,
) -> list[Command]:
    token = ReplyToken(peer, path, 1 if first_contact else None)
    return node.handle(MessageReceived(peer, path, message, token, first_contact, capacity), at(seconds))


def answer(commands: list[Command]) -> Message | None:
    replies = [command.message for command in commands if isinstance(command, Reply)]
    assert len(replies) <= 1
    return replies[0] if replies else None


def key_of(number: int) -> Key:
    return hashlib.blake2b(bytes((number,)), digest_size=31).digest() + b"\x01"


def address_of(number: int) -> Address:
    return pack(f"{number + 1}.{number}.1.1", 62096)


def befriend(node: Node, count: int) -> None:
    """Servers that opened a session and PINGed from it."""
    for number in range(count):
        key, path = key_of(number), Path(0, address_of(number))
        node.handle(SessionOpened(key, path, False), at(0))
        ask(node, Ping(1, 0, 0, bytes(8), Capability.SERVER), peer=key, path=path)


@pytest.fixture
def node() -> Node:
    return make_node()


def test_a_ping_tells_the_sender_where_it_is_seen(node: Node) -> None:
    pong = answer(ask(node, Ping(7, PingWant.ECHO, 0, b"12345678"), first_contact=True))
    assert pong == Pong(7, PEER_ADDRESS, Capability.SERVER | Capability.RELAY, 0, 0, b"12345678")


def test_challenges_and_probes_are_returned_in_a_session_only(node: Node) -> None:
    assert answer(ask(node, Challenge(3, b"12345678"))) == Response(3, b"12345678")
    assert answer(ask(node, Probe(4, 5, 6))) == ProbeAck(4, 5, 6)
    for message in (Challenge(3, b"12345678"), Probe(4, 5, 6), Put(1, b"", b"")):
        assert answer(ask(node, message, first_contact=True)) is None


def test_nobody_is_led_to_a_socket_that_only_measures(node: Node) -> None:
    passing = Path(PUNCH_SOCKETS_FROM, PATH.remote)
    assert answer(ask(node, Challenge(3, b"12345678"), path=passing)) is None
    assert isinstance(answer(ask(node, Ping(7, 0, 0, bytes(8)), path=passing)), Pong)


def test_find_names_the_nearest_servers_and_not_the_one_who_asks(node: Node) -> None:
    befriend(node, 30)
    target = key_of(200)
    nodes = answer(ask(node, Find(9, target, 0, 255, FindWant.NODES), peer=key_of(0)))
    assert isinstance(nodes, Nodes)
    others = sorted(
        (key_of(number) for number in range(1, 30)),
        key=lambda key: int.from_bytes(key, "big") ^ int.from_bytes(target, "big"),
    )
    assert [contact.key for contact in nodes.contacts] == others[:MAX_CONTACTS]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(capacity=st.integers(0, 1300))
def test_an_answer_takes_what_room_there_is_the_record_first(capacity: int) -> None:
    node = make_node()
    befriend(node, 20)
    record = store(node)
    message = Find(9, PEER_KEY, 0, 16, FindWant.NODES | FindWant.RECORD)
    nodes = answer(ask(node, message, capacity=capacity))
    if nodes is None:
        assert capacity < 30
        return
    assert isinstance(nodes, Nodes)
    assert len(encode(nodes)) <= capacity
    if nodes.contacts and capacity > len(record.encoded) + 100:
        assert nodes.record == record.encoded


def store(node: Node) -> Record:
    token = answer(ask(node, Find(1, PEER_KEY, 0, 16, FindWant.NODES)))
    assert isinstance(token, Nodes)
    record = signed(sequence=5)
    acknowledged = answer(ask(node, Put(2, token.token, record.encoded)))
    assert acknowledged == PutAck(2, PutStatus.STORED, 5, 3599)
    return record


def signed(sequence: int) -> Record:
    unsigned = Record(PEER_KEY, sequence, int(at(0).unix) + 3600, candidates=(Candidate(PEER_ADDRESS),))
    return sign_record(unsigned, namespace=NAMESPACE, sign=lambda message: sign_as(PEER_KEY, message))


def test_a_stored_record_is_returned_unless_the_asker_has_it(node: Node) -> None:
    record = store(node)
    for have, expected in ((0, record.encoded), (4, record.encoded), (5, None), (6, None)):
        nodes = answer(ask(node, Find(1, PEER_KEY, have, 16, FindWant.RECORD)))
        assert isinstance(nodes, Nodes)
        assert nodes.record == expected
    assert node.snapshot().stored_records == 1


def test_a_token_is_good_for_its_key_and_address_only(node: Node) -> None:
    nodes = answer(ask(node, Find(1, PEER_KEY, 0, 16, FindWant.NODES)))
    assert isinstance(nodes, Nodes)
    put = Put(2, nodes.token, signed(sequence=5).encoded)
    for other in ({"peer": key_of(1)}, {"path": Path(0, address_of(1))}):
        refused = answer(ask(node, put, **other))  # type: ignore[arg-type]
        assert isinstance(refused, PutAck)
        assert refused.status == PutStatus.BAD_TOKEN
    stored = answer(ask(node, put))
    assert isinstance(stored, PutAck)
    assert stored.status == PutStatus.STORED


def test_a_client_stores_nothing() -> None:
    node = make_node(mode="nat")
    nodes = answer(ask(node, Find(1, PEER_KEY, 0, 16, FindWant.NODES)))
    assert isinstance(nodes, Nodes)
    refused = answer(ask(node, Put(2, nodes.token, signed(sequence=5).encoded)))
    assert isinstance(refused, PutAck)
    assert refused.status == PutStatus.FULL
    assert node.snapshot().stored_records == 0


def test_a_dialback_is_asked_of_a_server_in_another_network_than_both(node: Node) -> None:
    near = Path(0, OWN_ADDRESS[:15] + b"\x77" + OWN_ADDRESS[16:])
    node.handle(SessionOpened(key_of(100), near, False), at(0))
    ask(node, Ping(1, 0, 0, bytes(8), Capability.SERVER), peer=key_of(100), path=near)
    befriend(node, 1)
    wish = Ping(2, PingWant.DIALBACK, 1234, b"12345678")
    assert dialbacks(ask(node, wish)) == []  # its path is not proved
    node.handle(SessionOpened(PEER_KEY, PATH, False), at(1))
    (send,) = dialbacks(ask(node, wish))
    assert (send.peer, send.path.remote) == (key_of(0), address_of(0))
    assert send.message == Dialback(0, PEER_ADDRESS[:16] + (1234).to_bytes(2, "big"), b"12345678")
    assert dialbacks(ask(node, wish, seconds=1.5)) == []  # once in a while is enough


def dialbacks(commands: list[Command]) -> list[Send]:
    return [each for each in commands if isinstance(each, Send) and isinstance(each.message, Dialback)]


def test_the_third_node_knocks_once_where_it_is_told(node: Node) -> None:
    target = pack("203.0.113.3", 1234)
    knock = Knock(0, target, b"12345678")
    assert knock not in ask(node, Dialback(0, target, b"12345678"))  # its path is not proved
    node.handle(SessionOpened(PEER_KEY, PATH, False), at(1))
    knocks = [knock in ask(node, Dialback(0, target, b"12345678")) for _ in range(4)]
    assert knocks == [True, True, False, False]
