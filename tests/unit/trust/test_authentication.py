"""Claims of aliases: who is let in, what the others hear, how many wrong ones are looked at; and our own."""

from __future__ import annotations

import random
from typing import Any, TypeVar

import pytest
from engine_parts import OTHER_PATH, OWN_ADDRESS, OWN_KEY, PATH, PEER_ADDRESS, PEER_KEY, Driver, at, received

from wh.config.edits import claim_alias
from wh.config.model import Network
from wh.config.parser import parse
from wh.engine.commands import BindAlias, Command, Notify, Reply, Send, SetDataPaths
from wh.engine.events import (
    AliasBound,
    AliasesClaimed,
    ClaimRequested,
    Instant,
    Key,
    LocalAddresses,
    MessageReceived,
    NetworkLoaded,
    Path,
    ReplyToken,
    SendFailed,
    SessionOpened,
)
from wh.node.node import Node
from wh.trust.alias import ALL_CHECKS_BURST, CHECKS_BURST, REMEMBERED_MAX, Aliases, Verdict
from wh.trust.authentication import GIVE_UP_AFTER_S, LINGER_S, LOOK_AGAIN_S, ClaimInquiry
from wh.trust.exchange import Claim as ClaimOf
from wh.trust.exchange import Offer
from wh.wire.address import pack
from wh.wire.codec import encode
from wh.wire.messages import Auth, Authed, AuthStatus, Message, Ping, Pong, Probe, ProbeAck, Reveal, Subnet
from whcore.keys import encode_key

ALIAS = bytes(31) + b"\x07"
OTHER_ALIAS = bytes(31) + b"\x08"
STRANGER = bytes(31) + b"\x09"
GOOD, BAD = b"g" * 32, b"b" * 32
HASH, COMMITMENT = b"h" * 32, b"c" * 32
FILE = f"""
subnet 10.0.42.0/24
trust server {encode_key(OWN_KEY)}
alias guest {encode_key(ALIAS)}
"""
ELSEWHERE = pack("203.0.113.9", 1)


class Proofs:
    """Takes GOOD for a proof, and counts how often it was asked."""

    def __init__(self) -> None:
        self.checked = 0

    def check(self, claimant: Key, alias: Key, commitment: bytes, proof: bytes) -> bool:
        self.checked += 1
        return proof == GOOD


def make_aliases(text: str = FILE) -> tuple[Aliases, Proofs]:
    proofs = Proofs()
    aliases = Aliases(OWN_KEY, proofs.check)
    aliases.set_network(parse(text))
    return aliases, proofs


# The judgement


def test_while_a_claim_is_written_down_no_other_is_heard():
    aliases, proofs = make_aliases()
    source = Path(0, PEER_ADDRESS)
    assert aliases.judge(PEER_KEY, ALIAS, COMMITMENT, GOOD, source, at(0)) is Verdict.PROVED
    assert aliases.take(PEER_KEY, ALIAS)
    assert aliases.judge(STRANGER, ALIAS, COMMITMENT, GOOD, Path(0, ELSEWHERE), at(0)) is Verdict.SILENCE
    assert aliases.judge(PEER_KEY, ALIAS, COMMITMENT, GOOD, source, at(0)) is Verdict.SILENCE
    assert proofs.checked == 1


def test_after_it_the_claimant_is_a_member_and_others_hear_that_it_is_used():
    aliases, _ = make_aliases()
    aliases.take(PEER_KEY, ALIAS)
    aliases.set_network(parse(claim_alias(FILE, ALIAS, PEER_KEY)))
    aliases.bound(ALIAS, PEER_KEY, AuthStatus.OK)
    assert aliases.judge(PEER_KEY, ALIAS, COMMITMENT, BAD, Path(0, PEER_ADDRESS), at(1)) is AuthStatus.OK
    assert aliases.judge(STRANGER, ALIAS, COMMITMENT, GOOD, Path(0, ELSEWHERE), at(1)) is AuthStatus.USED


def test_a_claim_that_could_not_be_written_down_leaves_the_alias_open():
    aliases, _ = make_aliases()
    aliases.take(PEER_KEY, ALIAS)
    aliases.bound(ALIAS, PEER_KEY, AuthStatus.FAILED)
    assert aliases.judge(STRANGER, ALIAS, COMMITMENT, GOOD, Path(0, ELSEWHERE), at(1)) is Verdict.PROVED


@pytest.mark.parametrize(
    ("clauses", "proof", "verdict"),
    [
        ("", BAD, AuthStatus.UNKNOWN),
        ("at server", GOOD, Verdict.PROVED),
        ("at other", GOOD, AuthStatus.UNKNOWN),
        (f"expires {int(at(0).unix) + 2}", GOOD, Verdict.PROVED),
        (f"expires {int(at(0).unix) + 1}", GOOD, AuthStatus.EXPIRED),
    ],
)
def test_what_a_claim_is_worth(clauses: str, proof: bytes, verdict: AuthStatus | Verdict):
    aliases, _ = make_aliases(f"{FILE.rstrip()} {clauses}\ntrust other {encode_key(OTHER_ALIAS)}\n")
    assert aliases.judge(PEER_KEY, ALIAS, COMMITMENT, proof, Path(0, PEER_ADDRESS), at(1)) is verdict


def test_an_unknown_alias_costs_no_check():
    aliases, proofs = make_aliases()
    assert (
        aliases.judge(PEER_KEY, OTHER_ALIAS, COMMITMENT, GOOD, Path(0, PEER_ADDRESS), at(0))
        is AuthStatus.UNKNOWN
    )
    assert proofs.checked == 0


def test_whom_the_file_has_lost_since_its_claim_is_unknown():
    aliases, _ = make_aliases("")
    aliases.remember(ALIAS, PEER_KEY)
    assert (
        aliases.judge(PEER_KEY, ALIAS, COMMITMENT, GOOD, Path(0, PEER_ADDRESS), at(0)) is AuthStatus.UNKNOWN
    )
    assert aliases.judge(STRANGER, ALIAS, COMMITMENT, GOOD, Path(0, ELSEWHERE), at(0)) is AuthStatus.USED


def test_claims_remembered_are_bounded():
    aliases, _ = make_aliases("")
    for number in range(REMEMBERED_MAX + 1):
        aliases.remember(number.to_bytes(32, "little"), PEER_KEY)
    judged = [
        aliases.judge(STRANGER, number.to_bytes(32, "little"), COMMITMENT, GOOD, Path(0, ELSEWHERE), at(0))
        for number in range(2)
    ]
    assert judged == [AuthStatus.UNKNOWN, AuthStatus.USED]


def test_wrong_claims_of_one_network_are_looked_at_rarely():
    aliases, proofs = make_aliases()
    for number in range(1000):
        source = Path(0, pack(f"198.51.100.{number % 250}", 1 + number))
        aliases.judge(number.to_bytes(32, "little"), ALIAS, COMMITMENT, BAD, source, at(number / 1000))
    assert proofs.checked <= CHECKS_BURST + 1
    assert aliases.judge(PEER_KEY, ALIAS, COMMITMENT, GOOD, Path(0, ELSEWHERE), at(1)) is Verdict.PROVED


def test_wrong_claims_of_all_networks_are_looked_at_rarely():
    aliases, proofs = make_aliases()
    for number in range(1000):
        source = Path(0, pack(f"10.{number // 250}.{number % 250}.1", 1))
        aliases.judge(number.to_bytes(32, "little"), ALIAS, COMMITMENT, BAD, source, at(number / 1000))
    assert proofs.checked <= ALL_CHECKS_BURST + 20


def test_a_channel_counts_for_itself():
    aliases, proofs = make_aliases()
    for number in range(2 * CHECKS_BURST):
        aliases.judge(STRANGER, ALIAS, COMMITMENT, BAD, Path(0, PEER_ADDRESS, number), at(0))
        aliases.judge(STRANGER, ALIAS, COMMITMENT, BAD, Path(0, PEER_ADDRESS, 7), at(0))
    assert proofs.checked == 3 * CHECKS_BURST - 1


@pytest.mark.parametrize(
    ("clauses", "awaited"), [("", True), ("at other", False), (f"expires {int(at(0).unix) + 1}", False)]
)
def test_claims_are_awaited_while_an_alias_is_open(clauses: str, awaited: bool):
    aliases, _ = make_aliases(f"{FILE.rstrip()} {clauses}\ntrust other {encode_key(OTHER_ALIAS)}\n")
    assert aliases.can_be_claimed(at(1)) is awaited
    assert not make_aliases("")[0].can_be_claimed(at(1))


# Answering


def make_node(text: str = FILE) -> Node:
    node = Node(
        OWN_KEY,
        rng=random.Random(1),
        sign=lambda message: bytes(64),
        verify=lambda key, message, signature: False,
        check_claim=Proofs().check,
        handshake_hashes=lambda peer: (HASH,),
    )
    node.handle(LocalAddresses(((0, 4),), (OWN_ADDRESS,)), at(0))
    node.handle(NetworkLoaded(parse(text)), at(0))
    return node


def offer_of(peer: Key, alias: Key = ALIAS) -> Offer:
    return Offer(ClaimOf(HASH, peer, OWN_KEY, alias), peer)


def hears(node: Node, message: Message, peer: Key, **changes: Any) -> list[Command]:
    token = ReplyToken(peer, PATH, None)
    about = {"first_contact": False, "capacity": 1000, **changes}
    return node.handle(MessageReceived(peer, PATH, message, token, **about), at(1))


def claim(
    node: Node,
    proof: bytes = GOOD,
    *,
    peer: Key = PEER_KEY,
    alias: Key = ALIAS,
    number: int = 5,
    **changes: Any,
) -> list[Command]:
    commitment = offer_of(peer, alias).commitment
    return hears(node, Auth(number, alias, commitment, proof), peer, **changes)


def reveal(node: Node, *, peer: Key = PEER_KEY, number: int = 5, **changes: Any) -> list[Command]:
    return hears(node, Reveal(number, ALIAS, offer_of(peer).nonce), peer, **changes)


def answers(commands: list[Command]) -> list[Authed]:
    replies = [command.message for command in commands if isinstance(command, Reply)]
    return [message for message in replies if isinstance(message, Authed)]


def test_a_claim_is_answered_with_a_nonce_and_what_it_reveals_is_written_down_with_the_words():
    node = make_node()
    (proved,) = answers(claim(node))
    assert (proved.status, len(proved.nonce)) == (AuthStatus.PROVED, 32)
    assert answers(claim(node)) == [proved]  # its answer was lost
    offer = offer_of(PEER_KEY)
    offer.answered(proved.nonce)
    commands = reveal(node)
    assert BindAlias(ALIAS, PEER_KEY, offer.words()) in commands
    assert answers(commands) == []
    assert answers(reveal(node, number=6)) == []
    node.handle(NetworkLoaded(parse(claim_alias(FILE, ALIAS, PEER_KEY))), at(2))
    assert answers(node.handle(AliasBound(ALIAS, PEER_KEY, AuthStatus.OK), at(2))) == [
        Authed(
            6,
            ALIAS,
            AuthStatus.OK,
            "guest",
            (bytes([10, 0, 42, 3]),),
            Subnet(bytes([10, 0, 42, 0]), 24),
            "server",
            (bytes([10, 0, 42, 2]),),
        )
    ]
    for repeated in (claim(node, BAD), reveal(node)):
        assert [answer.status for answer in answers(repeated)] == [AuthStatus.OK]
    for late in (claim(node, peer=STRANGER), reveal(node, peer=STRANGER)):
        assert answers(late) == [Authed(5, ALIAS, AuthStatus.USED)]


def test_a_claimant_hears_of_a_failure():
    node = make_node()
    claim(node)
    reveal(node)
    commands = node.handle(AliasBound(ALIAS, PEER_KEY, AuthStatus.FAILED), at(2))
    assert answers(commands) == [Authed(5, ALIAS, AuthStatus.FAILED)]


def test_nothing_is_written_down_that_was_not_proved_or_is_not_what_was_committed_to():
    node = make_node()
    assert answers(reveal(node)) == [Authed(5, ALIAS, AuthStatus.AGAIN)]
    claim(node, BAD)
    assert answers(reveal(node)) == [Authed(5, ALIAS, AuthStatus.AGAIN)]
    claim(node)
    assert answers(reveal(node, peer=STRANGER)) == [Authed(5, ALIAS, AuthStatus.AGAIN)]
    assert answers(hears(node, Reveal(5, ALIAS, bytes(32)), PEER_KEY)) == [Authed(5, ALIAS, AuthStatus.AGAIN)]


def test_of_two_claimants_the_first_to_reveal_is_let_in():
    node = make_node()
    claim(node, peer=STRANGER)
    claim(node)
    assert any(isinstance(command, BindAlias) for command in reveal(node))
    assert reveal(node, peer=STRANGER) == []


def test_claims_from_before_the_start_are_remembered():
    node = make_node("")
    node.handle(AliasesClaimed(((ALIAS, PEER_KEY),)), at(1))
    assert answers(claim(node, peer=STRANGER)) == [Authed(5, ALIAS, AuthStatus.USED)]


def test_nobody_is_refused_before_the_network_file_is_read():
    node = Node(OWN_KEY, rng=random.Random(1), sign=lambda message: bytes(64), verify=lambda *_: False)
    assert answers(claim(node)) == []


def test_a_claim_in_an_init_is_no_claim():
    node = make_node()
    assert answers(claim(node, first_contact=True)) == []
    claim(node)
    assert not any(isinstance(command, BindAlias) for command in reveal(node, first_contact=True))


def test_an_answer_is_not_longer_than_may_be():
    assert answers(claim(make_node(), BAD, capacity=20)) == []


def test_a_node_that_can_check_nothing_lets_nobody_in():
    node = Node(OWN_KEY, rng=random.Random(1), sign=lambda message: bytes(64), verify=lambda *_: False)
    node.handle(NetworkLoaded(parse(FILE)), at(0))
    assert answers(claim(node)) == [Authed(5, ALIAS, AuthStatus.UNKNOWN)]


# Claiming


M = TypeVar("M")


class FakeVisit:
    def __init__(self) -> None:
        self.path: Path | None = None
        self.ended = False

    def end(self, now: Instant) -> None:
        self.ended = True


class Claiming:
    def __init__(self) -> None:
        self.driver = Driver()
        self.visit = FakeVisit()
        self.results: list[dict[str, Any]] = []
        self.inquiry = ClaimInquiry(
            PEER_KEY,
            ALIAS,
            self.driver.engine,
            self.driver.requests,
            lambda now: self.visit,
            self.results.append,
            lambda peer: (HASH,),
        )
        self.inquiry.start(at(0))

    def reach(self, seconds: float, path: Path = PATH) -> None:
        """There is a path now."""
        peer = self.driver.engine.peers.obtain(PEER_KEY)
        peer.validate(path, at(seconds))
        peer.session = True
        self.visit.path = path
        self.driver.run_to(seconds + LOOK_AGAIN_S)

    def sent(self) -> list[Auth]:
        return self.all_of(Auth)

    def reveals(self) -> list[Reveal]:
        return self.all_of(Reveal)

    def all_of(self, kind: type[M]) -> list[M]:
        sends = [command for _, command in self.driver.log if isinstance(command, Send)]
        return [send.message for send in sends if isinstance(send.message, kind)]

    def proved(self, seconds: float, nonce: bytes = b"s" * 32, path: Path = PATH) -> Reveal:
        """The server says so; what is revealed then."""
        authed = Authed(self.sent()[-1].request_id, ALIAS, AuthStatus.PROVED, nonce=nonce)
        self.answer(authed, seconds, path)
        return self.reveals()[-1]

    def answer(self, authed: Authed, seconds: float, path: Path = PATH) -> None:
        self.driver.requests.take_answer(received(authed, path), at(seconds))
        self.driver.take(seconds)
        self.driver.run_to(seconds)


def test_a_claim_is_sent_once_there_is_a_path_and_repeated_until_it_is_heard():
    claiming = Claiming()
    claiming.driver.run_to(1)
    assert claiming.sent() == []
    claiming.reach(1)
    (first,) = claiming.sent()
    assert (first.alias, first.proof) == (ALIAS, bytes(32))
    claiming.driver.run_to(2)
    assert claiming.sent() == [first, first]


@pytest.mark.parametrize("pinged", [False, True])
def test_a_claim_follows_the_session_whoever_began_it(pinged: bool):
    """A PING of ours in a session that another one's made would be answered a round trip later."""
    claiming = Claiming()
    requests, engine = claiming.driver.requests, claiming.driver.engine
    if pinged:
        requests.start(
            PEER_KEY,
            [PATH],
            engine.echo(),
            at(0),
            on_answer=lambda answer, now: None,
            on_failure=lambda now: None,
        )
    claiming.visit.path = PATH
    claiming.driver.run_to(0.1)
    claiming.driver.run_to(0.1)
    assert len(claiming.all_of(Ping)) == 1
    assert claiming.sent() == []
    claiming.reach(0.1)
    assert len(claiming.sent()) == 1


def test_a_claim_has_room_for_the_longest_answer():
    """On a path that is not validated the answer may not be longer: through a channel that is often so."""
    claiming = Claiming()
    claiming.reach(0)
    (pad_to,) = {
        command.pad_to
        for _, command in claiming.driver.log
        if isinstance(command, Send) and isinstance(command.message, Auth)
    }
    addresses = tuple(bytes([number]) * 16 for number in range(1, 5))
    longest = Authed(
        (1 << 32) - 1, ALIAS, 0, "n" * 63, addresses, Subnet(bytes(16), 128), "s" * 63, addresses
    )
    assert 2 + len(encode(longest)) <= pad_to


def test_a_claim_whose_session_was_lost_makes_a_new_one():
    claiming = Claiming()
    claiming.reach(0)
    claiming.driver.engine.peers.obtain(PEER_KEY).session_lost()
    claiming.driver.run_to(8)
    pings = [
        command.message
        for _, command in claiming.driver.log
        if isinstance(command, Send) and isinstance(command.message, Ping)
    ]
    assert pings
    before = len(claiming.sent())
    claiming.reach(8)
    claiming.answer(Pong(pings[-1].request_id, OWN_ADDRESS, 0, 0, 0, pings[-1].nonce), 8)
    claiming.driver.run_to(11)
    assert len(claiming.sent()) > before


@pytest.mark.parametrize("channel", [0, 7])
def test_what_the_server_says_of_our_place_is_the_result(channel: int):
    claiming = Claiming()
    path = Path(0, PEER_ADDRESS, channel)
    claiming.reach(0, path)
    revealed = claiming.proved(0.05, path=path)
    (auth,) = claiming.sent()
    place = ("guest", (bytes([10, 0, 42, 3]),), Subnet(bytes([10, 0, 42, 0]), 24), "server", (bytes(16),))
    claiming.answer(Authed(revealed.request_id, ALIAS, AuthStatus.OK, *place), 0.1, path)
    claim = ClaimOf(HASH, claiming.driver.engine.key, PEER_KEY, ALIAS)
    assert auth.commitment == claim.commitment(revealed.nonce)
    assert claiming.results == [
        {
            "name": "guest",
            "addresses": ["10.0.42.3"],
            "subnet": "10.0.42.0/24",
            "server_name": "server",
            "server_addresses": ["::"],
            "endpoint": None if channel else "198.51.100.2:62096",
            "check_words": list(claim.words(revealed.nonce, b"s" * 32)),
        }
    ]
    assert not claiming.visit.ended
    claiming.driver.run_to(1 + LINGER_S)
    assert claiming.visit.ended


def test_who_lets_us_in_without_an_exchange_shows_no_words():
    claiming = Claiming()
    claiming.reach(0)
    claiming.answer(Authed(claiming.sent()[0].request_id, ALIAS, AuthStatus.OK), 0.1)
    assert claiming.results[0]["check_words"] == []


def test_our_nonce_stays_hidden_until_the_servers_is_there():
    claiming = Claiming()
    claiming.reach(0)
    claiming.driver.run_to(1)
    assert claiming.reveals() == []
    revealed = claiming.proved(1)
    claiming.driver.run_to(2)
    assert {(each.alias, each.nonce) for each in claiming.reveals()} == {(ALIAS, revealed.nonce)}


def test_a_server_that_answers_with_a_second_nonce_is_left():
    """It knows ours by now."""
    claiming = Claiming()
    claiming.reach(0)
    revealed = claiming.proved(0.1)
    claiming.answer(Authed(revealed.request_id, ALIAS, AuthStatus.PROVED, nonce=b"2" * 32), 0.2)
    assert "error" in claiming.results[0]


def test_a_server_that_forgot_is_offered_another_nonce_but_not_for_ever():
    claiming = Claiming()
    claiming.reach(0)
    commitments, nonces = set(), set()
    for number in range(3):
        revealed = claiming.proved(0.1 * number + 0.05)
        commitments.add(claiming.sent()[-1].commitment)
        nonces.add(revealed.nonce)
        claiming.answer(Authed(revealed.request_id, ALIAS, AuthStatus.AGAIN), 0.1 * number + 0.1)
    assert (len(commitments), len(nonces)) == (3, 3)
    (result,) = claiming.results
    assert "error" in result


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (AuthStatus.UNKNOWN, "WH147"),
        (AuthStatus.USED, "WH146"),
        (AuthStatus.EXPIRED, "WH144"),
        (AuthStatus.FAILED, "WH148"),
        (200, "WH147"),
    ],
)
def test_refusals_are_told_apart(status: int, code: str):
    claiming = Claiming()
    claiming.reach(0)
    claiming.answer(Authed(claiming.sent()[0].request_id, ALIAS, status), 0.1)
    (result,) = claiming.results
    assert result["error"]["code"] == code
    assert result["error"]["hint"]


def test_a_server_that_restarts_meanwhile_is_claimed_at_again():
    claiming = Claiming()
    claiming.reach(0)
    first = claiming.sent()[-1]
    claiming.visit.path = None
    claiming.driver.requests.send_failed(SendFailed(PEER_KEY, PATH, first), at(1))
    claiming.driver.run_to(3)
    claiming.reach(3, OTHER_PATH)
    assert claiming.sent()[-1].request_id != first.request_id


@pytest.mark.parametrize("path", [None, PATH])
def test_silence_has_an_end(path: Path | None):
    claiming = Claiming()
    if path is not None:
        claiming.reach(0, path)
    claiming.driver.run_to(2 * GIVE_UP_AFTER_S)
    assert [result["error"]["code"] for result in claiming.results] == ["WH321"]
    assert claiming.visit.ended


@pytest.mark.parametrize("reached", [False, True])
def test_a_claim_can_be_given_up(reached: bool):
    claiming = Claiming()
    if reached:
        claiming.reach(0)
    claiming.inquiry.cancel()
    claiming.driver.run_to(60)
    assert claiming.results == []
    assert len(claiming.sent()) == reached
    assert claiming.visit.ended


def test_a_node_finds_the_server_at_the_endpoint_of_an_invitation_and_claims_there():
    node = Node(
        PEER_KEY,
        rng=random.Random(1),
        sign=lambda message: bytes(64),
        verify=lambda *_: False,
        handshake_hashes=lambda peer: (HASH,),
    )
    node.handle(LocalAddresses(((0, 4),), (PEER_ADDRESS,)), at(0))
    node.handle(NetworkLoaded(Network()), at(0))
    server = Path(0, OWN_ADDRESS)
    commands = node.handle(ClaimRequested(1, OWN_KEY, ALIAS, (OWN_ADDRESS,)), at(1))
    ping = sent_to(server, Ping, commands)
    node.handle(SessionOpened(OWN_KEY, server, True), at(1.01))
    pong = Pong(ping.request_id, PEER_ADDRESS, 0, 0, 0, ping.nonce)
    probe = sent_to(server, Probe, node.handle(received(pong, server, peer=OWN_KEY), at(1.01)))
    ack = ProbeAck(probe.request_id, probe.attempt, probe.number)
    node.handle(received(ack, server, peer=OWN_KEY), at(1.02))
    auth = sent_to(server, Auth, node.tick(at(1.05)))
    authed = Authed(auth.request_id, ALIAS, AuthStatus.USED)
    commands = node.handle(received(authed, server, peer=OWN_KEY), at(1.1))
    (notice,) = [command for command in commands if isinstance(command, Notify)]
    assert (notice.request, notice.final, notice.body["error"]["code"]) == (1, True, "WH146")
    assert SetDataPaths(OWN_KEY) in commands
    assert node.snapshot().peers == ()


def test_a_node_asks_the_relays_of_an_invitation_for_a_channel():
    node = Node(PEER_KEY, rng=random.Random(1), sign=lambda message: bytes(64), verify=lambda *_: False)
    node.handle(LocalAddresses(((0, 4),), (PEER_ADDRESS,)), at(0))
    node.handle(NetworkLoaded(Network()), at(0))
    commands = node.handle(ClaimRequested(1, OWN_KEY, ALIAS, (), ((STRANGER, ELSEWHERE),)), at(1))
    assert [command.peer for command in commands if isinstance(command, Send)] == [STRANGER]


Sent = TypeVar("Sent")


def sent_to(path: Path, kind: type[Sent], commands: list[Command]) -> Sent:
    sends = [command for command in commands if isinstance(command, Send) and command.path == path]
    (message,) = [send.message for send in sends if isinstance(send.message, kind)]
    return message
