from __future__ import annotations

import pytest
from engine_parts import OTHER_ADDRESS, OTHER_PATH, PATH, PEER_ADDRESS, PEER_KEY, Driver, at, received

from wh.engine.commands import Command, ResetSession, Send
from wh.engine.events import Path, SendFailed
from wh.engine.peers import STRANGERS_MAX
from wh.engine.requests import CANDIDATES, PATHS_MAX, PENDING_MAX, Answer, Request, Schedule
from wh.engine.unproved import Cause
from wh.wire.address import pack
from wh.wire.messages import Auth, Challenge, Find, FindWant, Ping, Pong, Probe, Put, Response, Reveal

PING = Ping(0, 0, 0, bytes(8))


class Asker(Driver):
    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Answer] = []
        self.failed_at: list[float] = []

    def ask(self, message: object = PING, paths: tuple[Path, ...] = (PATH,), **options: object) -> Request:
        request = self.requests.start(
            PEER_KEY,
            paths,
            message,  # type: ignore[arg-type]
            at(0),
            on_answer=lambda answer, now: self.answers.append(answer),
            on_failure=lambda now: self.failed_at.append(round(now.monotonic - at(0).monotonic, 3)),
            **options,  # type: ignore[arg-type]
        )
        self.take(0)
        return request

    @property
    def peer(self) -> object:
        return self.engine.peers.obtain(PEER_KEY)


def pong(request: Request) -> Pong:
    return Pong(request.message.request_id, PEER_ADDRESS, 0, 0, 0)


@pytest.fixture
def asker() -> Asker:
    return Asker()


def test_a_first_contact_is_repeated_once_and_given_up_after_a_second(asker: Asker) -> None:
    asker.ask()
    asker.run_to(5)
    assert asker.send_times() == [0.0, 0.4]
    assert asker.failed_at == [1.0]
    assert len(asker.requests) == 0


def test_candidates_are_tried_all_at_once_on_the_schedule_of_the_protocol(asker: Asker) -> None:
    asker.ask(paths=(PATH, OTHER_PATH), schedule=CANDIDATES)
    asker.run_to(5)
    assert asker.send_times() == [0, 0, 0.25, 0.25, 0.75, 0.75, 1.75, 1.75]
    assert len({command.message for _, command in asker.log if isinstance(command, Send)}) == 1
    assert asker.failed_at == [2.75]


def test_in_a_session_the_third_send_comes_after_a_reset(asker: Asker) -> None:
    asker.peer.session = True  # type: ignore[attr-defined]
    asker.peer.round_trip.add_sample(0.02)  # type: ignore[attr-defined]
    asker.ask()
    asker.run_to(5)
    kinds = [(seconds, type(command)) for seconds, command in asker.log]
    assert kinds == [(0.0, Send), (0.15, Send), (0.45, ResetSession), (0.45, Send)]
    assert asker.failed_at == [1.45]


@pytest.mark.parametrize(("session", "asked"), [(True, [20, 4]), (False, [20, 20])])
def test_a_find_that_is_repeated_asks_for_what_every_path_carries(
    asker: Asker, session: bool, asked: list[int]
) -> None:
    """An INIT stays the same."""
    peer = asker.engine.peers.obtain(PEER_KEY)
    peer.session = session
    peer.validate(PATH, at(0))
    find = Find(0, bytes(32), 0, 20, FindWant.NODES)
    asker.requests.start(PEER_KEY, [PATH], find, at(0))
    sends = [*asker.take(0), *asker.run_to(1.0)]
    found = [each.message for each in sends if isinstance(each, Send) and isinstance(each.message, Find)]
    assert [each.max for each in found][:2] == asked


def test_an_answer_ends_the_request_measures_it_and_proves_the_path(asker: Asker) -> None:
    request = asker.ask()
    assert asker.requests.take_answer(received(pong(request)), at(0.08))
    assert [answer.path for answer in asker.answers] == [PATH]
    peer = asker.engine.peers.obtain(PEER_KEY)
    assert peer.round_trip.srtt == pytest.approx(0.08)
    assert peer.is_validated(PATH, at(0.1))
    asker.run_to(5)
    assert asker.send_times() == [0.0]
    assert asker.failed_at == []


def test_a_repeated_request_says_nothing_about_the_round_trip(asker: Asker) -> None:
    request = asker.ask()
    asker.run_to(0.5)
    asker.requests.take_answer(received(pong(request)), at(0.5))
    assert asker.engine.peers.obtain(PEER_KEY).round_trip.srtt is None


def test_of_several_paths_the_one_that_answers_is_proved_and_no_other(asker: Asker) -> None:
    request = asker.ask(paths=(PATH, OTHER_PATH))
    asker.requests.take_answer(received(pong(request), OTHER_PATH), at(0.1))
    peer = asker.engine.peers.obtain(PEER_KEY)
    assert peer.is_validated(OTHER_PATH, at(0.1))
    assert not peer.is_validated(PATH, at(0.1))


def test_an_answer_from_elsewhere_proves_where_the_request_went_and_not_where_it_came_from(
    asker: Asker,
) -> None:
    request = asker.ask()
    asker.requests.take_answer(received(pong(request), OTHER_PATH), at(0.1))
    peer = asker.engine.peers.obtain(PEER_KEY)
    assert peer.is_validated(PATH, at(0.1))
    assert not peer.is_validated(OTHER_PATH, at(0.1))


@pytest.mark.parametrize(
    "answer",
    [
        lambda number: Pong(number + 1, PEER_ADDRESS, 0, 0, 0),
        lambda number: Response(number, bytes(8)),
        lambda number: Ping(number, 0, 0, bytes(8)),
    ],
)
def test_other_messages_answer_nothing(asker: Asker, answer: object) -> None:
    request = asker.ask()
    message = answer(request.message.request_id)  # type: ignore[operator]
    assert not asker.requests.take_answer(received(message), at(0.1))
    right = pong(request)
    assert not asker.requests.take_answer(received(right, peer=bytes(31) + b"\x09"), at(0.1))
    assert asker.requests.take_answer(received(right), at(0.1))


def test_a_response_must_return_the_challenge(asker: Asker) -> None:
    request = asker.ask(Challenge(0, b"12345678"))
    number = request.message.request_id
    assert not asker.requests.take_answer(received(Response(number, b"87654321")), at(0.1))
    assert asker.requests.take_answer(received(Response(number, b"12345678")), at(0.1))


def test_an_init_leaves_room_for_the_answer(asker: Asker) -> None:
    asker.engine.peers.pin({PEER_KEY})
    asker.engine.addressing.set_configured([PEER_ADDRESS])
    asker.ask(Find(0, bytes(32), 0, 16, FindWant.NODES))
    asker.ask(Find(0, bytes(32), 0, 16, FindWant.NODES | FindWant.RECORD))
    pads = [command.pad_to for _, command in asker.log if isinstance(command, Send)]
    assert pads == [400, 1052]


def key_of(number: int) -> bytes:
    return number.to_bytes(31, "big") + b"\x01"


def ping(asker: Asker, seconds: float, path: Path, key: bytes = PEER_KEY, cause: Cause = Cause.OURS) -> bool:
    """Whether a PING was sent there."""
    request = asker.requests.start(key, [path], PING, at(seconds), cause=cause, schedule=Schedule((), 1.0))
    asker.requests.cancel(request)
    return bool(request.tried)


def host(number: int, network: int = 1, port: int = 62096) -> Path:
    return Path(0, pack(f"203.{network}.113.{number}", port))


def test_silent_addresses_get_a_burst_and_then_a_trickle_whatever_the_port_and_key(asker: Asker) -> None:
    sent = [ping(asker, i / 10, host(7, port=1 + i), key_of(i)) for i in range(100)]
    assert sent[:4] == [True] * 4
    assert sum(sent) == 4 + 4  # in ten seconds


@pytest.mark.parametrize(
    ("cause", "at_once", "a_second"), [(Cause.NAMED, 8, 0.5), (Cause.ERRAND, 8, 0.5), (Cause.OURS, 64, 2)]
)
def test_a_silent_network_has_one_budget_whatever_is_named_in_it(
    asker: Asker, cause: Cause, at_once: int, a_second: float
) -> None:
    hosts = [host(number) for number in range(1, 251)]
    assert sum(ping(asker, 0, path, key_of(1), cause) for path in hosts) == at_once
    later = sum(ping(asker, 10 * second, hosts[second], key_of(1), cause) for second in range(1, 20))
    assert later == 19
    assert sum(ping(asker, 200, path, key_of(1), cause) for path in hosts) <= at_once
    assert sum(ping(asker, 204, path, key_of(1), cause) for path in hosts) == 4 * a_second
    assert all(ping(asker, 204, host(number, network=number), key_of(1), cause) for number in range(20, 40))


def test_a_thousand_networks_are_not_written_to_at_once_and_each_cause_has_its_share(asker: Asker) -> None:
    named = [
        ping(asker, 0, host(1, network=number % 256, port=1 + number), cause=Cause.NAMED)
        for number in range(2000)
    ]
    assert sum(named) <= 512
    assert ping(asker, 0, host(1, network=7))
    assert ping(asker, 0, host(1, network=7), cause=Cause.ERRAND)


def test_who_has_answered_has_no_budget_and_others_at_its_address_have(asker: Asker) -> None:
    """A liar may invent keys, and put them where an honest server is."""
    asker.requests.validated(asker.engine.peers.obtain(PEER_KEY), PATH, at(0))
    assert all(ping(asker, 1, PATH) for _ in range(100))
    assert sum(ping(asker, 1, PATH, key_of(i)) for i in range(100)) == 4
    elsewhere = Path(0, OTHER_ADDRESS)
    assert sum(ping(asker, 1, elsewhere) for _ in range(100)) == 4


def test_proof_is_not_flushed_by_invented_keys(asker: Asker) -> None:
    asker.requests.validated(asker.engine.peers.obtain(PEER_KEY), PATH, at(0))
    for number in range(2 * STRANGERS_MAX):
        asker.engine.peers.obtain(key_of(number))
    assert all(ping(asker, 1, PATH) for _ in range(100))


def test_endpoints_of_the_file_have_no_budget_for_keys_of_the_file(asker: Asker) -> None:
    asker.engine.addressing.set_configured([OTHER_ADDRESS])
    assert sum(ping(asker, 0, OTHER_PATH) for _ in range(100)) == 4
    asker.engine.peers.pin({PEER_KEY})
    assert all(ping(asker, 0, OTHER_PATH) for _ in range(100))


def test_live_servers_of_the_table_have_no_budget(asker: Asker) -> None:
    asker.requests.unproved.known_at = lambda key, address: (key, address) == (PEER_KEY, PEER_ADDRESS)
    assert all(ping(asker, 0, PATH) for _ in range(100))
    assert sum(ping(asker, 0, OTHER_PATH) for _ in range(100)) == 4


def test_nothing_long_goes_where_nothing_is_proved(asker: Asker) -> None:
    for message in (
        Find(0, bytes(32), 0, 16, 1),
        Auth(0, bytes(32), bytes(32)),
        Reveal(0, bytes(32), bytes(32)),
        Put(0, bytes(8), bytes(500)),
    ):
        asker.ask(message)
    asker.ask(Probe(0, 1, 2), pad_to=1400)
    assert asker.send_times() == []
    asker.ask(Probe(0, 1, 2))
    assert asker.send_times() == [0.0]


def test_what_was_never_sent_is_nobodys_silence(asker: Asker) -> None:
    silent: list[bytes] = []
    asker.requests.silence_listeners.append(lambda key, now: silent.append(key))
    asker.ask(Find(0, bytes(32), 0, 16, 1))
    asker.run_to(5)
    assert asker.failed_at == [1.0]
    assert silent == []


def test_a_challenge_is_sent_once_to_where_something_came_from(asker: Asker) -> None:
    """No more than came: whoever has a session may send from addresses that are not his."""
    for number in range(50):
        asker.requests.challenge(key_of(number), host(7), bytes(8), at(0))
        asker.requests.challenge(key_of(number), host(8), bytes(8), at(0))
    asker.take(0)
    asker.run_to(5)
    assert asker.send_times() == [0.0] * 50


def test_a_path_that_cannot_be_sent_on_is_left_out_and_without_any_the_request_fails(asker: Asker) -> None:
    request = asker.ask(paths=(PATH, OTHER_PATH))
    asker.requests.send_failed(SendFailed(PEER_KEY, PATH, request.message), at(0))
    resent: list[Command] = asker.run_to(0.5)
    assert [command.path for command in resent if isinstance(command, Send)] == [OTHER_PATH]
    asker.requests.send_failed(SendFailed(PEER_KEY, OTHER_PATH, request.message), at(0.5))
    asker.run_to(0.6)
    assert asker.failed_at
    assert len(asker.requests) == 0


def test_a_full_table_refuses_without_sending(asker: Asker) -> None:
    requests = [asker.ask() for _ in range(PENDING_MAX)]
    asker.log.clear()
    asker.ask()
    assert asker.send_times() == []
    assert asker.failed_at == []
    asker.run_to(0.0)
    assert asker.failed_at == [0.0]
    asker.requests.cancel(requests[0])
    assert len(asker.requests) == PENDING_MAX - 1


def test_a_cancelled_request_is_silent(asker: Asker) -> None:
    request = asker.ask()
    asker.requests.cancel(request)
    assert not asker.requests.take_answer(received(pong(request)), at(0.1))
    asker.run_to(5)
    assert asker.answers == []
    assert asker.failed_at == []


def test_further_paths_join_a_request_in_flight(asker: Asker) -> None:
    request = asker.ask(schedule=CANDIDATES)
    more = [Path(0, OTHER_ADDRESS[:16] + port.to_bytes(2, "big")) for port in range(1, 20)]
    asker.requests.add_paths(request, [PATH, *more], at(0.1))
    sends = [command for command in asker.take(0.1) if isinstance(command, Send)]
    assert len(request.paths) == PATHS_MAX
    assert [send.path for send in sends] == more[:4]  # what the budget of one silent address leaves
    assert all(send.message == request.message for send in sends)
