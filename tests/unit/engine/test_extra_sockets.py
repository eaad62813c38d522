from __future__ import annotations

from engine_parts import PEER_ADDRESS, PEER_KEY, Driver, at, received

from wh.engine.commands import CloseSocket, Command, OpenSocket, Send
from wh.engine.events import Instant, Key, Path, SocketOpened
from wh.engine.extra_sockets import ExtraSockets
from wh.nat.sampling import NEXT_SERVER_AFTER_S, Sample, Sampling
from wh.nat.silence import SILENCES_LATER, UdpSilence
from wh.wire.address import Address, pack
from wh.wire.messages import Ping, Pong

SEEN_AT = pack("203.0.113.9", 4000)
SOCKET = 70_000
OTHER_KEY = bytes(31) + b"\x05"
OTHER_SERVER = pack("198.18.0.1", 62096)


def test_a_socket_goes_to_who_asked_for_it() -> None:
    commands: list[Command] = []
    sockets = ExtraSockets(commands.append)
    got: list[tuple[str, int | None]] = []
    first = sockets.open(4, lambda socket, port, now: got.append(("first", socket)))
    second = sockets.open(6, lambda socket, port, now: got.append(("second", socket)))
    assert commands == [OpenSocket(first, 4), OpenSocket(second, 6)]
    sockets.opened(SocketOpened(second, SOCKET, 5000), at(0))
    sockets.opened(SocketOpened(first, None, 0), at(0))
    sockets.opened(SocketOpened(first, SOCKET, 5000), at(0))  # nobody waits any more
    assert got == [("second", SOCKET), ("first", None)]


def test_a_socket_that_nobody_wants_any_more_is_closed_when_it_comes() -> None:
    commands: list[Command] = []
    sockets = ExtraSockets(commands.append)
    request = sockets.open(4, lambda socket, port, now: None)
    sockets.give_up(request)
    sockets.opened(SocketOpened(request, SOCKET, 5000), at(0))
    assert commands[-1] == CloseSocket(SOCKET)


class Sampled(Driver):
    """A sampling whose servers answer when they are told to."""

    def __init__(self, servers: list[tuple[Key, Address]], *, at_once: int = 1, wanted: int = 1) -> None:
        super().__init__()
        self.samples: list[Sample | None] = []
        self.sampling = Sampling(
            self.engine, self.requests, servers, at(0), self._done, at_once=at_once, wanted=wanted
        )
        self.take(0)

    def _done(self, sample: Sample | None, now: Instant) -> None:
        self.samples.append(sample)

    def open(self, socket: int | None = SOCKET) -> list[Send]:
        (request,) = [each for _, each in self.log if isinstance(each, OpenSocket)]
        self.engine.sockets.opened(SocketOpened(request.request, socket, 5000), at(0))
        return [each for each in self.take(0) if isinstance(each, Send)]

    def answer(self, send: Send, seconds: float) -> None:
        ping = send.message
        assert isinstance(ping, Ping)
        pong = Pong(ping.request_id, SEEN_AT, 1, 0, 0, ping.nonce)
        assert self.requests.take_answer(received(pong, send.path, peer=send.peer), at(seconds))


def test_one_server_tells_where_a_fresh_socket_is_seen() -> None:
    sampled = Sampled([(PEER_KEY, PEER_ADDRESS), (OTHER_KEY, OTHER_SERVER)])
    (ping,) = sampled.open()
    assert ping.path == Path(SOCKET, PEER_ADDRESS)
    sampled.answer(ping, 0.05)
    assert sampled.samples == [Sample(SOCKET, 4, (SEEN_AT,))]
    assert sampled.engine.peers.obtain(PEER_KEY).last_path is None
    assert not [each for each in sampled.run_to(5) if isinstance(each, Send)]


def test_a_silent_server_is_not_waited_for() -> None:
    sampled = Sampled([(PEER_KEY, PEER_ADDRESS), (OTHER_KEY, OTHER_SERVER)])
    sampled.open()
    (ping,) = [each for each in sampled.run_to(NEXT_SERVER_AFTER_S) if isinstance(each, Send)]
    assert ping.peer == OTHER_KEY
    sampled.answer(ping, 0.25)
    assert [sample.observed for sample in sampled.samples if sample] == [(SEEN_AT,)]


def test_without_any_answer_the_socket_comes_all_the_same_and_soon() -> None:
    for servers in ([], [(PEER_KEY, PEER_ADDRESS)]):
        sampled = Sampled(servers)
        sampled.open()
        sampled.run_to(0.7)
        assert sampled.samples == [Sample(SOCKET, 4, ())]


def test_where_no_socket_can_be_opened_there_is_no_sample() -> None:
    sampled = Sampled([(PEER_KEY, PEER_ADDRESS)])
    assert sampled.open(None) == []
    assert sampled.samples == [None]


def test_a_sampling_that_is_given_up_closes_its_socket() -> None:
    opened, early = Sampled([(PEER_KEY, PEER_ADDRESS)]), Sampled([(PEER_KEY, PEER_ADDRESS)])
    opened.open()
    for sampled in (opened, early):
        sampled.sampling.cancel()
        sampled.take(0)
    early.open()
    for sampled in (opened, early):
        sampled.run_to(5)
        assert [each for _, each in sampled.log if isinstance(each, CloseSocket)] == [CloseSocket(SOCKET)]
        assert sampled.samples == []


def test_silence_counts_as_blocked_at_once_where_nothing_was_ever_heard_and_later_not_so_soon() -> None:
    silence = UdpSilence()
    assert not silence.blocked
    silence.unanswered()
    assert silence.blocked
    silence.answered()
    for _ in range(SILENCES_LATER - 1):
        silence.unanswered()
    assert not silence.blocked
    silence.unanswered()
    assert silence.blocked
    silence.restart()
    assert not silence.blocked
