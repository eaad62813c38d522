"""The control channel: two of them back to back, over a wire that the test holds in its hands."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.engine.commands import Reply, Send
from wh.engine.events import (
    Event,
    Instant,
    KnockReceived,
    MessageReceived,
    Path,
    SendFailed,
    SessionOpened,
)
from wh.net import handshakes
from wh.net.control import ControlChannel
from wh.net.validation import ValidatedPaths
from wh.wire.address import Address, pack
from wh.wire.messages import (
    Challenge,
    Contact,
    Find,
    FindWant,
    Message,
    Nodes,
    Ping,
    Pong,
    Put,
    Response,
)
from whcore.datapath import ControlDatagram
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey

UNIX = 1_800_000_000.0
NONCE = bytes(range(8))
PING = Ping(7, 0, 0, NONCE)
NAMESPACE = b"public"


class Side:
    """One channel with its sessions; `sent` is what it put on the wire."""

    def __init__(self, address: str) -> None:
        self.address = pack(address, 62096)
        self.secret = SecretKey.generate()
        self.key = self.secret.public_key
        self.sent: deque[tuple[Path, bytes]] = deque()
        self.sources: list[bytes] = []
        self.own_source = b"the address " + address.encode()
        self.refusing = False
        self.channel = ControlChannel(
            ControlSessions(self.secret, NAMESPACE), self._transmit, lambda: Ping(0, 0, 0, bytes(8))
        )

    def _transmit(self, path: Path, datagram: bytes, ttl: int, source: bytes, whole: bool) -> bool:
        if not self.refusing:
            self.sent.append((path, datagram))
            self.sources.append(source)
        return not self.refusing


class Wire:
    """Two sides, one clock. Side `a` begins in these tests."""

    def __init__(self) -> None:
        self.a, self.b = Side("192.0.2.1"), Side("198.51.100.1")
        self.now = Instant(1000.0, UNIX)

    def pass_time(self, seconds: float) -> None:
        self.now = Instant(self.now.monotonic + seconds, self.now.unix + seconds)

    def send(self, sender: Side, message: Message, to: Address | None = None) -> list[Event]:
        receiver = self.other(sender)
        path = Path(0, to or receiver.address)
        return sender.channel.send(Send(receiver.key, path, message), self.now)

    def other(self, side: Side) -> Side:
        return self.b if side is self.a else self.a

    def deliver(self, sender: Side, source: Address | None = None) -> list[Event]:
        """Everything that `sender` has put on the wire to the other side's address arrives there."""
        receiver = self.other(sender)
        events: list[Event] = []
        while sender.sent:
            path, datagram = sender.sent.popleft()
            if path.remote == receiver.address:
                arrived = ControlDatagram(0, source or sender.address, datagram, 0, receiver.own_source)
                events += receiver.channel.receive(arrived, self.now)
        return events

    def reply(self, side: Side, received: Event, message: Message) -> None:
        assert isinstance(received, MessageReceived)
        side.channel.reply(Reply(received.reply, message), self.now)

    def open_session(self) -> None:
        """By a PING of `a` and everything that follows from it."""
        assert self.send(self.a, PING) == []
        (request,) = self.deliver(self.a)
        self.reply(self.b, request, pong_to(self.a))
        self.deliver(self.b)
        self.deliver(self.a)


def pong_to(side: Side) -> Pong:
    return Pong(7, side.address, 0, 0, 0, NONCE)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_a_request_and_its_answer_travel_in_the_handshake(wire: Wire) -> None:
    assert wire.send(wire.a, PING) == []
    (request,) = wire.deliver(wire.a)
    assert isinstance(request, MessageReceived)
    assert (request.peer, request.message, request.first_contact) == (wire.a.key, PING, True)
    wire.reply(wire.b, request, pong_to(wire.a))
    opened, answer = wire.deliver(wire.b)
    path_to_b = Path(0, wire.b.address)
    assert opened == SessionOpened(wire.b.key, path_to_b, initiator=True)
    assert isinstance(answer, MessageReceived)
    assert (answer.message, answer.path) == (pong_to(wire.a), path_to_b)


def test_the_responder_learns_that_the_session_is_up_without_another_request(wire: Wire) -> None:
    wire.send(wire.a, PING)
    (request,) = wire.deliver(wire.a)
    wire.reply(wire.b, request, pong_to(wire.a))
    wire.deliver(wire.b)
    assert wire.deliver(wire.a) == [SessionOpened(wire.a.key, Path(0, wire.a.address), initiator=False)]


def test_what_is_sent_during_the_handshake_arrives_after_it_in_order(wire: Wire) -> None:
    wire.send(wire.a, PING)
    later: list[Message] = [Put(n, b"", b"record") for n in range(handshakes.WAITING_MAX)]
    for message in later:
        assert wire.send(wire.a, message) == []
    assert [type(each) for each in wire.send(wire.a, Put(99, b"", b""))] == [SendFailed]
    (request,) = wire.deliver(wire.a)
    wire.reply(wire.b, request, pong_to(wire.a))
    wire.deliver(wire.b)
    received = [each.message for each in wire.deliver(wire.a) if isinstance(each, MessageReceived)]
    assert received == later


def test_messages_that_waited_in_vain_come_back(wire: Wire) -> None:
    put = Put(1, b"", b"record")
    wire.send(wire.a, PING)
    wire.send(wire.a, put)
    deadline = wire.a.channel.next_deadline()
    assert deadline == wire.now.monotonic + handshakes.LIFE_S
    wire.pass_time(handshakes.LIFE_S)
    path = Path(0, wire.b.address)
    assert wire.a.channel.expire(wire.now) == [SendFailed(wire.b.key, path, put)]
    assert wire.a.channel.next_deadline() is None


def test_only_ping_and_find_may_begin_a_handshake(wire: Wire) -> None:
    put = Put(1, b"", b"record")
    assert wire.send(wire.a, put) == [SendFailed(wire.b.key, Path(0, wire.b.address), put)]
    assert not wire.a.sent


def test_what_is_for_a_session_begins_none_but_waits_for_one(wire: Wire) -> None:
    path, find = Path(0, wire.b.address), Find(1, bytes(32), 0, 16, FindWant.NODES)
    in_session = Send(wire.b.key, path, find, in_session=True)
    assert wire.a.channel.send(in_session, wire.now) == [SendFailed(wire.b.key, path, find)]
    assert not wire.a.sent
    wire.send(wire.a, Ping(2, 0, 0, bytes(8)))
    assert wire.a.channel.send(in_session, wire.now) == []
    assert len(wire.a.sent) == 1


def test_a_find_leaves_room_for_its_answer(wire: Wire) -> None:
    find = Find(1, wire.b.key, 0, 16, FindWant.NODES | FindWant.RECORD)
    wire.send(wire.a, find)
    (request,) = wire.deliver(wire.a)
    assert isinstance(request, MessageReceived)
    contacts = tuple(Contact(SecretKey.generate().public_key, wire.a.address) for _ in range(8))
    nodes = Nodes(1, bytes(16), contacts, bytes(400))
    wire.reply(wire.b, request, nodes)
    answers = [each for each in wire.deliver(wire.b) if isinstance(each, MessageReceived)]
    assert [answer.message for answer in answers] == [nodes]


def test_an_answer_longer_than_its_request_stays_unsent_before_validation(wire: Wire) -> None:
    wire.send(wire.a, PING)
    init_len = len(wire.a.sent[0][1])
    (request,) = wire.deliver(wire.a)
    assert isinstance(request, MessageReceived)
    assert request.capacity + 92 <= init_len
    wire.reply(wire.b, request, Nodes(7, bytes(16), (), bytes(512)))
    assert not wire.b.sent


def test_one_init_tries_all_paths_and_any_may_answer(wire: Wire) -> None:
    dead = pack("203.0.113.9", 1)
    assert wire.send(wire.a, PING, to=dead) == []
    assert wire.send(wire.a, PING) == []
    (first_path, first), (second_path, second) = wire.a.sent
    assert (first_path.remote, second_path.remote) == (dead, wire.b.address)
    assert first == second
    (request,) = wire.deliver(wire.a)
    wire.reply(wire.b, request, pong_to(wire.a))
    opened, _ = wire.deliver(wire.b)
    assert opened == SessionOpened(wire.b.key, Path(0, wire.b.address), initiator=True)


def test_repeating_a_request_on_its_path_makes_a_new_handshake(wire: Wire) -> None:
    """The first INIT may have arrived and its answer been lost: the same one again would be a replay."""
    wire.send(wire.a, PING)
    (request,) = wire.deliver(wire.a)
    wire.reply(wire.b, request, pong_to(wire.a))
    wire.b.sent.clear()
    wire.pass_time(0.4)
    wire.send(wire.a, PING)
    (again,) = wire.deliver(wire.a)
    wire.reply(wire.b, again, pong_to(wire.a))
    assert any(isinstance(each, SessionOpened) for each in wire.deliver(wire.b))


def test_both_sides_beginning_at_once_end_with_both_requests_answered(wire: Wire) -> None:
    wire.send(wire.a, PING)
    wire.send(wire.b, PING)
    requests: dict[bytes, int] = {wire.a.key: 0, wire.b.key: 0}
    for _ in range(4):
        for side in (wire.a, wire.b):
            for event in wire.deliver(wire.other(side)):
                if isinstance(event, MessageReceived) and event.message == PING:
                    requests[event.peer] += 1
                    wire.reply(side, event, pong_to(wire.other(side)))
    assert requests == {wire.a.key: 1, wire.b.key: 1}


def test_a_session_carries_messages_both_ways(wire: Wire) -> None:
    wire.open_session()
    for sender in (wire.a, wire.b):
        assert wire.send(sender, Challenge(3, NONCE)) == []
        (event,) = wire.deliver(sender)
        assert isinstance(event, MessageReceived)
        assert event.message == Challenge(3, NONCE)
        assert not event.first_contact


def test_full_length_answers_need_a_proven_path(wire: Wire) -> None:
    wire.open_session()
    wire.send(wire.a, PING)
    moved = pack("203.0.113.77", 4000)
    (from_new_address,) = wire.deliver(wire.a, source=moved)
    wire.send(wire.a, PING)
    (from_proven_address,) = wire.deliver(wire.a)
    assert isinstance(from_new_address, MessageReceived)
    assert isinstance(from_proven_address, MessageReceived)
    assert from_new_address.capacity < 64 < 1000 < from_proven_address.capacity


def test_an_answered_challenge_proves_a_path(wire: Wire) -> None:
    wire.open_session()
    moved = pack("203.0.113.77", 4000)
    wire.b.channel.send(Send(wire.a.key, Path(0, moved), Challenge(3, NONCE)), wire.now)
    wire.send(wire.a, Response(3, NONCE))
    wire.send(wire.a, PING)
    *_, ping = wire.deliver(wire.a, source=moved)
    assert isinstance(ping, MessageReceived)
    assert ping.capacity > 1000


def test_a_wrong_response_proves_nothing() -> None:
    paths = ValidatedPaths()
    path = Path(0, pack("203.0.113.77", 4000))
    paths.challenge_sent(b"k" * 32, path, NONCE)
    paths.challenge_answered(b"k" * 32, path, bytes(8), 0.0)
    assert not paths.holds(b"k" * 32, path, 0.0)


def ping_from(wire: Wire, source: Address) -> int:
    """The room for an answer there."""
    wire.send(wire.a, PING)
    *_, ping = wire.deliver(wire.a, source=source)
    assert isinstance(ping, MessageReceived)
    return ping.capacity


def prove(wire: Wire, address: Address) -> None:
    wire.b.channel.send(Send(wire.a.key, Path(0, address), Challenge(3, NONCE)), wire.now)
    wire.send(wire.a, Response(3, NONCE))
    wire.deliver(wire.a, source=address)


def test_an_address_that_was_proved_long_ago_is_no_target_for_long_answers(wire: Wire) -> None:
    """Whoever lived there may have moved, and somebody else lives there now."""
    wire.open_session()
    moved = pack("203.0.113.77", 4000)
    prove(wire, moved)
    assert ping_from(wire, moved) > 1000
    for _ in range(5):
        wire.pass_time(150)
        assert ping_from(wire, wire.a.address) > 1000
        wire.b.channel.remove_idle(wire.now)
    assert ping_from(wire, moved) < 200
    prove(wire, moved)
    assert ping_from(wire, moved) > 1000


def test_a_path_is_proved_again_however_much_it_is_used(wire: Wire) -> None:
    paths = ValidatedPaths()
    path = Path(0, pack("203.0.113.77", 4000))
    paths.add(b"k" * 32, path, 0.0)
    held = [paths.holds(b"k" * 32, path, 60.0 * minute) for minute in range(60)]
    assert held == [True] * 40 + [False] * 20


def test_what_was_proved_ends_with_the_session(wire: Wire) -> None:
    wire.open_session()
    assert len(wire.b.channel._validated) == 1
    wire.pass_time(700)
    wire.b.channel.remove_idle(wire.now)
    assert len(wire.b.channel._validated) == 0


def test_a_malformed_message_ends_nothing_but_itself(wire: Wire) -> None:
    wire.open_session()
    wire.pass_time(1)
    init = ControlSessions(wire.a.secret, NAMESPACE).initiate(
        wire.b.key,
        b"\xc1garbage",
        pad_to=64,
        now_ns=int(wire.now.monotonic * 1e9),
        wall_ns=int(wire.now.unix * 1e9),
    )
    assert wire.b.channel.receive(ControlDatagram(0, wire.a.address, init), wire.now) == []
    assert wire.b.channel.counters()["malformed_message"] == 1
    wire.send(wire.a, PING)
    assert len(wire.deliver(wire.a)) == 1


def test_a_refusing_socket_is_told_to_the_engine(wire: Wire) -> None:
    wire.a.refusing = True
    assert wire.send(wire.a, PING) == [SendFailed(wire.b.key, Path(0, wire.b.address), PING)]


def test_under_load_a_cookie_is_asked_for_and_brought(wire: Wire) -> None:
    strangers = [Side(f"203.0.{i}.1") for i in range(201)]  # one INIT of each network, in one second
    for stranger in strangers:
        stranger.channel.send(Send(wire.b.key, Path(0, wire.b.address), PING), wire.now)
        wire.b.channel.receive(ControlDatagram(0, stranger.address, stranger.sent[0][1]), wire.now)
    wire.send(wire.a, PING)
    assert wire.deliver(wire.a) == []  # a COOKIE goes back instead
    assert wire.deliver(wire.b) == []  # and the INIT again, with mac2
    (request,) = wire.deliver(wire.a)
    assert isinstance(request, MessageReceived)
    assert request.message == PING


def test_a_knock_is_exactly_twelve_bytes(wire: Wire) -> None:
    source = pack("203.0.113.5", 9)
    knock = b"\xff\x02\x06\x00" + NONCE
    assert wire.a.channel.receive(ControlDatagram(0, source, knock), wire.now) == [
        KnockReceived(source, NONCE)
    ]
    assert wire.a.channel.receive(ControlDatagram(0, source, knock + b"x"), wire.now) == []


@pytest.mark.parametrize("source", [bytes(17) + b"\x05", pack("192.0.2.9", 0), pack("224.0.0.1", 5)])
def test_sources_that_nobody_can_have_are_refused(wire: Wire, source: Address) -> None:
    knock = b"\xff\x02\x06\x00" + NONCE
    assert wire.a.channel.receive(ControlDatagram(0, source, knock), wire.now) == []
    assert wire.a.channel.counters()["bad_source"] == 1


def test_an_old_session_is_renewed_by_who_began_it(wire: Wire) -> None:
    wire.open_session()
    types: list[int] = []
    for _ in range(4):  # never idle for 10 min, but past the 30 min of a rekey
        wire.pass_time(480)
        wire.send(wire.b, Challenge(1, NONCE))
        assert [datagram[2] for _, datagram in wire.b.sent] == [4]
        wire.deliver(wire.b)
        wire.send(wire.a, Challenge(1, NONCE))
        types = [datagram[2] for _, datagram in wire.a.sent]
        wire.deliver(wire.a)
    assert types == [4, 1]


def test_datagrams_leave_from_the_address_that_the_other_side_wrote_to(wire: Wire) -> None:
    wire.open_session()
    assert wire.a.sources == [b"", wire.a.own_source], "an INIT and the DATA that confirms"
    assert wire.b.sources == [wire.b.own_source]
    wire.b.own_source = b"another address"
    wire.send(wire.a, Challenge(1, NONCE))
    wire.deliver(wire.a)
    wire.send(wire.b, Challenge(1, NONCE))
    assert wire.b.sources[-1] == b"another address"
    wire.b.channel.sources.forget()
    wire.send(wire.b, Challenge(1, NONCE))
    assert wire.b.sources[-1] == b""


def test_who_is_not_known_does_not_choose_our_source(wire: Wire) -> None:
    wire.open_session()
    forged = b"\xff\x02\x04\x00" + bytes(100)
    wire.b.channel.receive(ControlDatagram(0, wire.a.address, forged, 0, b"forged"), wire.now)
    wire.send(wire.b, Challenge(1, NONCE))
    assert wire.b.sources[-1] == wire.b.own_source


def test_reset_forgets_the_session(wire: Wire) -> None:
    wire.open_session()
    wire.a.channel.reset(wire.b.key)
    wire.send(wire.a, PING)
    assert wire.a.sent[0][1][2] == 1


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda kind, body: b"\xff\x02" + bytes([kind]) + b"\0" + body,
            st.integers(0, 8),
            st.binary(max_size=1300),
        ),
    )
)
def test_no_datagram_raises_or_is_answered_with_more_than_it_has(data: bytes) -> None:
    side = Side("192.0.2.1")
    side.channel.receive(ControlDatagram(0, pack("203.0.113.5", 9), data), Instant(5.0, UNIX))
    assert sum(len(datagram) for _, datagram in side.sent) <= len(data)
