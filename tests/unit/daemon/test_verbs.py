"""The daemon's verbs: words in, results out, over a daemon that says what the test wants."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from wh.config.edits import add_alias
from wh.config.model import Network
from wh.config.parser import parse
from wh.daemon.verbs import Verbs
from wh.engine.commands import Notify
from wh.engine.events import Event, ForgetRequested, Key, LookupRequested, PingRequested
from wh.errors import Code, InvitationError, IpcError, SystemSetupError
from wh.ipc import schema
from wh.ipc.server import Progress
from wh.trust.invitation import Contact, Invitation, decode_untrusted, derive_alias, encode
from wh.wire.address import Address, pack
from whcore.errors import InvalidKey
from whcore.keys import SecretKey, encode_key, encode_key_wg

OWN, PEER = (SecretKey.generate().public_key for _ in range(2))
NETWORK = f"subnet 10.0.42.0/24\ntrust me {encode_key(OWN)}\ntrust node_b 10.0.42.9 {encode_key(PEER)}\n"
ENDPOINT = "192.0.2.1:62096"
NOW = 1_700_000_000
SEED = bytes(range(16))
ALIAS = derive_alias(SEED, "public", 8).public_key
PLACE = {
    "name": "guest",
    "addresses": ["10.0.42.3"],
    "subnet": "10.0.42.0/24",
    "server_name": "b",
    "server_addresses": ["10.0.42.9"],
    "endpoint": ENDPOINT,
    "check_words": ["acid", "barn", "cactus"],
}
Result = TypeVar("Result")


class FakeDaemon:
    def __init__(self, *notices: Notify) -> None:
        self.network: Network = parse(NETWORK)
        self.own_key: Key = OWN
        self.events: list[Event] = []
        self.stop_requested = False
        self.revoked: list[Key] = []
        self.claims: list[tuple[Key, Key, tuple[Address, ...], tuple[Contact, ...]]] = []
        self.claim_answer: Mapping[str, Any] = PLACE
        self._notices = notices

    def status(self) -> schema.Status:
        raise NotImplementedError

    def netcheck(self) -> schema.NetCheck:
        return schema.NetCheck("wh0", "me", 1, "works", [], None, [], False, [], [], [])

    def health(self) -> schema.Health:
        return schema.Health("wh0", True, "host", "k", 1, 0, 0, 0, False, [])

    async def reload(self) -> schema.Reloaded:
        return schema.Reloaded(added=["new"], removed=[], changed=[])

    async def invite(self, name: str, expires_s: int | None) -> Invitation:
        self.network = parse(add_alias(NETWORK, name, ALIAS))
        return Invitation(OWN, SEED, expiry=int(NOW) + (expires_s or -NOW))

    async def claim(
        self,
        server: Key,
        alias: SecretKey,
        endpoints: Sequence[Address] = (),
        relays: Sequence[Contact] = (),
    ) -> Mapping[str, Any]:
        self.claims.append((server, alias.public_key, tuple(endpoints), tuple(relays)))
        return self.claim_answer

    async def revoke(self, key: Key) -> None:
        self.revoked.append(key)

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
    result = {"found": True, "candidates": [ENDPOINT], "relays": [OWN], "hops": 2, "elapsed_ms": 3.0}
    notices = (Notify(1, False, {"asked": 4, "closest_bucket": 9}), Notify(1, True, result))
    told: list[msgspec.Struct] = []
    progress: Progress = told.append
    found = run(Verbs(FakeDaemon(*notices)).lookup(schema.PeerArguments("node_b"), progress))
    assert told == [schema.LookupProgress(asked=4, closest_bucket=9)]
    assert (found.candidates, found.relays, found.hops) == ([ENDPOINT], [encode_key(OWN)], 2)


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


def test_netcheck_is_what_the_daemon_knows() -> None:
    assert run(Verbs(FakeDaemon()).netcheck(schema.NoArguments(), ignore)).udp == "works"


def test_there_is_a_handler_for_each_verb() -> None:
    assert set(Verbs(FakeDaemon()).handlers()) == set(schema.VERBS)


# Who comes and who goes


def test_an_invitation_is_told_with_the_alias_that_it_made():
    daemon = FakeDaemon()
    invited = run(Verbs(daemon).invite(schema.InviteArguments("guest", 60), ignore))
    assert (invited.name, invited.alias, invited.address) == ("guest", encode_key(ALIAS), "10.0.42.3")
    assert invited.expires_unix == NOW + 60
    assert decode_untrusted(invited.invitation).seed == SEED


def test_an_invitation_without_an_end_has_none():
    assert run(Verbs(FakeDaemon()).invite(schema.InviteArguments("guest"), ignore)).expires_unix is None


def claim_of(daemon: FakeDaemon, **changes: Any) -> schema.Authenticated:
    invited = Invitation(
        **{
            "server_key": PEER,
            "seed": SEED,
            "endpoints": (pack("192.0.2.1", 7),),
            "relays": ((PEER, pack("192.0.2.2", 8)),),
            **changes,
        }
    )
    return run(Verbs(daemon).claim(schema.ClaimArguments(encode(invited)), ignore))


def test_a_claim_asks_the_server_of_the_invitation_where_it_says():
    daemon = FakeDaemon()
    told = claim_of(daemon)
    assert daemon.claims == [(PEER, ALIAS, (pack("192.0.2.1", 7),), ((PEER, pack("192.0.2.2", 8)),))]
    assert (told.name, told.addresses, told.public_key) == ("guest", ["10.0.42.3"], encode_key(PEER))
    assert told.check_words == ["acid", "barn", "cactus"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"expiry": 1}, Code.INVITATION_EXPIRED), ({"server_key": OWN}, Code.INVITATION_OWN)],
)
def test_an_invitation_that_cannot_work_asks_nobody(changes: dict[str, Any], code: Code):
    daemon = FakeDaemon()
    with pytest.raises(InvitationError) as caught:
        claim_of(daemon, **changes)
    assert caught.value.code == code
    assert daemon.claims == []


def test_a_refused_claim_is_an_error():
    daemon = FakeDaemon()
    daemon.claim_answer = {"error": {"code": "WH146", "message": "used", "hint": "ask"}}
    with pytest.raises(IpcError) as caught:
        claim_of(daemon)
    assert (caught.value.code, caught.value.hint) == ("WH146", "ask")


def test_the_alias_of_a_key_file_is_read_by_the_daemon(tmp_path: Path):
    daemon, key_file, alias = FakeDaemon(), tmp_path / "alias.sk", SecretKey.generate()
    with key_file.open("wb") as file:
        alias.write_fd(file.fileno())
    with key_file.open("rb") as file:
        arguments = schema.AuthenticateArguments("node_b", file.fileno())
        run(Verbs(daemon).authenticate(arguments, ignore))
    assert daemon.claims == [(PEER, alias.public_key, (), ())]


def test_a_key_file_that_cannot_be_read_is_told(tmp_path: Path):
    verbs = Verbs(FakeDaemon())
    pipe, other_end = os.pipe()
    with pytest.raises(SystemSetupError) as caught:
        run(verbs.authenticate(schema.AuthenticateArguments("node_b", pipe), ignore))
    assert caught.value.code == Code.KEY_FILE_UNREADABLE
    os.close(pipe)
    os.close(other_end)
    (tmp_path / "bad").write_text("no key")
    with (tmp_path / "bad").open("rb") as file, pytest.raises(InvalidKey):
        run(verbs.authenticate(schema.AuthenticateArguments("node_b", file.fileno()), ignore))


def test_a_revoked_peer_is_forgotten_too():
    daemon = FakeDaemon()
    revoked = run(Verbs(daemon).revoke(schema.PeerArguments("node_b"), ignore))
    assert (revoked.hostname, revoked.kind) == ("node_b", "trust")
    assert daemon.revoked == [PEER]
    assert daemon.events == [ForgetRequested(PEER)]


def test_a_node_does_not_revoke_itself():
    with pytest.raises(IpcError):
        run(Verbs(FakeDaemon()).revoke(schema.PeerArguments("me"), ignore))
