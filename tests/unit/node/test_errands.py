"""What a server does for clients over TCP, and for whom it does not."""

from __future__ import annotations

import random

import pytest
from engine_parts import OWN_KEY, PEER_KEY, at, make_engine

from wh.dht.kademlia import Kademlia
from wh.engine.events import TCP, MessageReceived, Path, ReplyToken
from wh.engine.requests import Requests
from wh.node.errands import BURST, OF_NETWORK, RUNNING_MAX, Errands
from wh.wire.address import pack
from wh.wire.messages import Find, FindWant, Put
from wh.wire.records import Record

CLIENT = Path(TCP, pack("203.0.113.9", 50_000))
WANT = FindWant.NODES | FindWant.RECORD


class FakeSearches:
    """Keeps what was begun; the test lets it find and end."""

    def __init__(self) -> None:
        self.finds: list[dict] = []
        self.puts: list[bytes] = []

    def find_record(self, key, now, **how):
        self.finds.append({"key": key, **how})

    def begin(self, key, now, callbacks, *, want_record, cause):
        assert not want_record
        self.puts.append(key)


class Scene:
    def __init__(self) -> None:
        self.engine = make_engine()
        self.searches = FakeSearches()
        self.answers: list[tuple[MessageReceived, Find, Record | None]] = []
        self.is_server = True
        kademlia = Kademlia.of(self.engine, lambda data: b"", lambda key, data, signature: True)
        self.errands = Errands(
            self.engine,
            Requests(self.engine),
            kademlia,
            self.searches,
            lambda: self.is_server,
            lambda event, find, record, now: self.answers.append((event, find, record)),
        )

    def ask(self, key: bytes, seconds: float = 0, *, path=CLIENT, want=WANT, peer=PEER_KEY, first=False):
        find = Find(random.Random(len(self.answers)).getrandbits(31), key, 0, 16, want)
        event = MessageReceived(peer, path, find, ReplyToken(peer, path, None), first, 1000)
        return self.errands.find(event, find, at(seconds)), event


def key_of(number: int) -> bytes:
    return number.to_bytes(31, "big") + b"\x01"


def record_of(key: bytes, sequence: int = 1) -> Record:
    return Record(key, sequence, 2_000_000_000, encoded=b"record")


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_answer_waits_for_the_lookup(scene: Scene) -> None:
    accepted, event = scene.ask(key_of(1))
    assert accepted and not scene.answers
    (search,) = scene.searches.finds
    assert search["key"] == key_of(1)
    search["done"](at(0.5))
    assert [(asked, found) for asked, _, found in scene.answers] == [(event, None)]


def test_a_better_record_may_come_for_a_moment(scene: Scene) -> None:
    scene.ask(key_of(1))
    (search,) = scene.searches.finds
    search["found"](record_of(key_of(1), 1), at(0.1))
    search["found"](record_of(key_of(1), 2), at(0.2))
    assert not scene.answers
    scene.engine.timers.run_due(at(0.31))
    assert [found.sequence for _, _, found in scene.answers if found] == [2]
    search["found"](record_of(key_of(1), 3), at(0.4))
    search["done"](at(0.5))
    assert len(scene.answers) == 1


def test_who_asks_again_gets_the_answer_to_the_latest_question(scene: Scene) -> None:
    scene.ask(key_of(1))
    again, event = scene.ask(key_of(1), 0.4)
    assert again and len(scene.searches.finds) == 1
    scene.searches.finds[0]["done"](at(0.5))
    assert [asked for asked, _, _ in scene.answers] == [event]


def test_only_clients_over_tcp_in_a_session_have_errands(scene: Scene) -> None:
    assert not scene.ask(key_of(1), path=Path(0, CLIENT.remote))[0]
    assert not scene.ask(key_of(1), first=True)[0]
    assert not scene.ask(key_of(1), want=FindWant.NODES)[0]
    scene.engine.addressing.add_link(CLIENT.remote)
    assert not scene.ask(key_of(1))[0]  # a server that we reach over TCP
    scene.engine.addressing.remove_link(CLIENT.remote)
    scene.is_server = False
    assert not scene.ask(key_of(1))[0]
    assert scene.searches.finds == []


def client_in(network: int, host: int = 9) -> Path:
    return Path(TCP, pack(f"203.{network // 2}.{network}.{host}", 50_000))


def test_the_clients_of_a_network_share_a_budget_whatever_their_keys(scene: Scene) -> None:
    def ask(number: int, seconds: float = 0) -> bool:
        return scene.ask(key_of(number), seconds, peer=key_of(1000 + number), path=client_in(1, number))[0]

    accepted = [ask(number) for number in range(1, OF_NETWORK.burst + 6)]
    assert accepted == [True] * OF_NETWORK.burst + [False] * 5
    assert ask(99, OF_NETWORK.interval_s)
    assert not ask(100, OF_NETWORK.interval_s)
    assert scene.ask(key_of(1), path=client_in(2))[0]


def test_no_more_than_so_many_lookups_run_for_all_clients(scene: Scene) -> None:
    accepted = [scene.ask(key_of(i), path=client_in(i))[0] for i in range(RUNNING_MAX + 3)]
    assert accepted == [True] * RUNNING_MAX + [False] * 3
    scene.searches.finds[0]["done"](at(1))
    assert scene.ask(key_of(500), 1, path=client_in(100))[0]


def test_a_crowd_of_networks_leaves_errands_for_one_that_seldom_asks(scene: Scene) -> None:
    for round_ in range(BURST):
        for network in range(20):
            if scene.ask(key_of(round_), path=client_in(network), peer=key_of(network))[0]:
                scene.searches.finds[-1]["done"](at(0))
    assert scene.ask(key_of(1), path=client_in(200))[0]


def test_a_clients_own_record_is_published_once(scene: Scene) -> None:
    def publish(record: Record, *, peer: bytes = PEER_KEY, path: Path = CLIENT) -> bool:
        put = Put(1, b"", record.encoded)
        event = MessageReceived(peer, path, put, ReplyToken(peer, path, None), False, 1000)
        return scene.errands.publish(event, record, at(0))

    assert not publish(record_of(OWN_KEY))  # somebody else's
    assert not publish(record_of(PEER_KEY), path=Path(0, CLIENT.remote))
    assert publish(record_of(PEER_KEY))
    assert publish(record_of(PEER_KEY))
    assert publish(record_of(PEER_KEY, 2))
    assert scene.searches.puts == [PEER_KEY] * 2
