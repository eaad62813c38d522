"""The daemon's verbs: words in, results out, over a daemon that says what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import msgspec
import pytest

from wh.commands import Notify
from wh.config.model import Network
from wh.config.parser import parse
from wh.errors import IpcError
from wh.events import Event, ForgetRequested, Key, LookupRequested, PingRequested
from wh.ipc import schema
from wh.ipc.server import Progress
from wh.verbs import Verbs
from whcore.keys import SecretKey, encode_key, encode_key_wg

OWN, PEER = (SecretKey.generate().public_key for _ in range(2))
NETWORK = f"subnet 10.0.42.0/24\ntrust me {encode_key(OWN)}\ntrust node_b 10.0.42.9 {encode_key(PEER)}\n"
ENDPOINT = "192.0.2.1:62096"
Result = TypeVar("Result")


class FakeDaemon:
    def __init__(self, *notices: Notify) -> None:
        self.network: Network = parse(NETWORK)
        self.own_key: Key = OWN
        self.events: list[Event] = []
        self.stop_requested = False
        self._notices = notices

    def status(self) -> schema.Status:
        raise NotImplementedError

    async def reload(self) -> schema.Reloaded:
        return schema.Reloaded(added=["new"], removed=[], changed=[])

    def request_stop(self) -> None:
        self.stop_requested = True

    def dispatch(self, *events: Event) -> None:
        self.events += events

    async def ask(self, make_event: Callable[[int], Event]) -> AsyncGenerator[Notify, None]:
        self.events.append(make_event(1))
        for notice in self._notices:
            yield notice


def ignore(step: msgspec.Struct) -> None:
    """For verbs that tell no progress."""


def run(answer: Awaitable[Result]) -> Result:
    async def wait() -> Result:
        return await answer

    return asyncio.run(wait())


def resolve(word: str) -> schema.ResolveResult:
    return run(Verbs(FakeDaemon()).resolve(schema.ResolveArguments(word), ignore))


@pytest.mark.parametrize(
    "word", ["node_b", "NODE_B", "10.0.42.9", encode_key(PEER), encode_key_wg(PEER), "orchid"]
)
def test_a_peer_is_found_by_whatever_names_it(word: str) -> None:
    if word == "orchid":
        word = resolve("node_b").addresses[1]
    found = resolve(word)
    assert (found.name, found.public_key, found.hostname) == (word, encode_key(PEER), "node_b")
    assert found.addresses[0] == "10.0.42.9"


@pytest.mark.parametrize("word", ["node_c", "10.0.42.77", "A" * 44, "x y", "\0"])
def test_an_unknown_word_is_an_error_that_says_what_works(word: str) -> None:
    with pytest.raises(IpcError) as caught:
        resolve(word)
    assert caught.value.code == "WH314"
    assert caught.value.hint


def test_any_key_can_be_looked_up() -> None:
    key = SecretKey.generate().public_key
    body = {"found": False, "candidates": [], "relays": [], "hops": 0, "elapsed_ms": 3.0}
    daemon = FakeDaemon(Notify(1, True, body))
    found = run(Verbs(daemon).lookup(schema.PeerArguments(encode_key(key)), ignore))
    assert daemon.events == [LookupRequested(1, key)]
    assert (found.public_key, found.found) == (encode_key(key), False)


def test_progress_of_a_lookup_is_passed_on() -> None:
    result = {"found": True, "candidates": [ENDPOINT], "relays": [], "hops": 2, "elapsed_ms": 3.0}
    notices = (Notify(1, False, {"asked": 4, "closest_bucket": 9}), Notify(1, True, result))
    told: list[msgspec.Struct] = []
    progress: Progress = told.append
    found = run(Verbs(FakeDaemon(*notices)).lookup(schema.PeerArguments("node_b"), progress))
    assert told == [schema.LookupProgress(asked=4, closest_bucket=9)]
    assert (found.candidates, found.hops) == ([ENDPOINT], 2)


def test_ping_tells_who_answered_from_where() -> None:
    daemon = FakeDaemon(Notify(1, True, {"endpoint": ENDPOINT, "rtt_ms": 1.5, "via": None}))
    answer = run(Verbs(daemon).ping(schema.PeerArguments("node_b"), ignore))
    assert daemon.events == [PingRequested(1, PEER)]
    assert answer == schema.PingResult(encode_key(PEER), "node_b", ENDPOINT, 1.5, None)


def test_an_error_of_the_engine_reaches_the_caller() -> None:
    failure = {"error": {"code": "WH321", "message": "the peer does not answer", "hint": "is it up?"}}
    with pytest.raises(IpcError) as caught:
        run(Verbs(FakeDaemon(Notify(1, True, failure))).ping(schema.PeerArguments("node_b"), ignore))
    assert (caught.value.code, caught.value.hint) == ("WH321", "is it up?")


@pytest.mark.parametrize("verb", ["ping", "lookup", "forget"])
def test_a_node_does_not_look_for_itself(verb: str) -> None:
    handler = Verbs(FakeDaemon()).handlers()[verb]
    with pytest.raises(IpcError, match="me is this node itself"):
        run(handler(schema.PeerArguments("me"), ignore))


def test_forget_and_down_reach_the_daemon() -> None:
    daemon = FakeDaemon()
    run(Verbs(daemon).forget(schema.PeerArguments("node_b"), ignore))
    assert daemon.events == [ForgetRequested(PEER)]
    run(Verbs(daemon).down(schema.NoArguments(), ignore))
    assert daemon.stop_requested


def test_there_is_a_handler_for_each_verb() -> None:
    assert set(Verbs(FakeDaemon()).handlers()) == set(schema.VERBS)
