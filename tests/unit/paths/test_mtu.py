"""How large the datagrams are that a path is found to carry."""

from __future__ import annotations

import pytest
from engine_parts import OTHER_ADDRESS, PATH, PEER_KEY, Driver, at, received

from wh.engine.commands import Command, Send
from wh.engine.events import Instant, Path
from wh.paths.mtu import CHECK_S, SUSPECTED_AFTER_S, PathMtu
from wh.wire.address import pack
from wh.wire.messages import Probe, ProbeAck

ALL = {576, 1024, 1200, 1280, 1368, 1400, 1496}
IPV4_OVERHEAD = 20 + 8 + 32


class Scene(Driver):
    """A path that carries datagrams up to `limit` bytes of IP."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        peer = self.engine.peers.obtain(PEER_KEY)
        peer.session = True
        peer.validate(PATH, at(0))
        self.limit = limit
        self.told: list[tuple[Path, int]] = []
        self.tried: list[int] = []
        self.mtu = PathMtu(PEER_KEY, self.engine, self.requests, self._found)

    def _found(self, path: Path, mtu: int, now: Instant) -> None:
        self.told.append((path, mtu))

    def settle(self, seconds: float, commands: list[Command]) -> None:
        """Answer what fits, up to that time and 10 ms after it was sent."""
        while commands:
            for command in commands:
                assert isinstance(command, Send)
                assert isinstance(command.message, Probe)
                total = command.pad_to + IPV4_OVERHEAD
                self.tried.append(total)
                if total <= self.limit:
                    probe = command.message
                    answer = ProbeAck(probe.request_id, probe.attempt, probe.number)
                    self.requests.take_answer(received(answer), at(seconds))
            commands = self.take(seconds)

    def run(self, until: float) -> None:
        while (when := self.engine.timers.next_deadline()) is not None and when <= at(until).monotonic:
            self.settle(when - at(0).monotonic, self.run_to(when - at(0).monotonic))


def measured(limit: int) -> Scene:
    scene = Scene(limit)
    scene.mtu.start(PATH, at(0))
    scene.settle(0.0, scene.take(0))
    scene.run(2.0)
    return scene


@pytest.mark.parametrize(
    ("limit", "mtu"),
    [(1500, 1496), (1496, 1496), (1450, 1400), (1300, 1280), (1240, 1200), (1100, 1024), (576, 576)],
)
def test_the_largest_size_that_is_answered_is_the_mtu(limit: int, mtu: int) -> None:
    scene = measured(limit)
    assert set(scene.told) == {(PATH, mtu)}
    assert set(scene.tried) == ALL


def test_what_has_passed_counts_before_the_rest_is_given_up() -> None:
    scene = Scene(1450)
    scene.mtu.start(PATH, at(0))
    scene.settle(0.0, scene.take(0))
    scene.run(0.29)
    assert scene.told == []
    scene.run(0.31)
    assert scene.told == [(PATH, 1400)]


def test_a_path_that_carries_not_even_the_smallest_size_is_told_so() -> None:
    assert measured(500).told == [(PATH, 0)]


def test_lost_probes_do_not_end_the_session() -> None:
    scene = measured(1300)
    assert scene.engine.peers.obtain(PEER_KEY).session


def test_one_datagram_a_minute_tells_that_nothing_changed() -> None:
    scene = measured(1450)
    scene.tried.clear()
    scene.run(3.5 * CHECK_S)
    assert scene.tried == [1400] * 3
    assert set(scene.told) == {(PATH, 1400)}


def test_a_path_that_became_smaller_is_measured_anew() -> None:
    scene = measured(1500)
    scene.limit = 1380
    scene.run(2 * CHECK_S)
    assert list(dict.fromkeys(scene.told)) == [(PATH, 1496), (PATH, 1368)]


def test_a_narrow_path_that_became_wider_is_found_out() -> None:
    scene = measured(1100)
    scene.limit = 1450
    scene.run(1.5 * CHECK_S)
    assert list(dict.fromkeys(scene.told)) == [(PATH, 1024), (PATH, 1400)]


def suspect(scene: Scene, seconds: float) -> None:
    scene.mtu.suspected(PATH, at(seconds))
    scene.settle(seconds, scene.take(seconds))


def test_where_data_is_missed_the_path_is_checked_at_once_but_not_all_the_time() -> None:
    scene = measured(1450)
    scene.tried.clear()
    for seconds in (2.0, 2.5, 2 + SUSPECTED_AFTER_S, 3 + SUSPECTED_AFTER_S):
        suspect(scene, seconds)
    assert scene.tried == [1400]
    scene.run(3.5 * CHECK_S)
    assert scene.tried == [1400] * 4, "each minute goes on from there"
    scene.limit = 1300
    suspect(scene, 3.5 * CHECK_S)
    scene.run(3.5 * CHECK_S + 2)
    assert scene.told[-1] == (PATH, 1280)


def test_a_path_that_much_is_sent_on_is_checked_more_often() -> None:
    scene = measured(1450)
    scene.tried.clear()
    for seconds in (5.0, 10.0, 15.0, 20.0, 25.0):
        scene.run(seconds)
        scene.mtu.busy(PATH, at(seconds))
    scene.run(3 * CHECK_S)
    assert scene.tried == [1400] * (3 + 2), "once more for what was sent last, then each minute"


def test_what_is_suspected_of_another_path_or_of_the_smallest_size_is_not_tried() -> None:
    scene = measured(600)
    scene.tried.clear()
    suspect(scene, 3 * SUSPECTED_AFTER_S)
    scene.mtu.suspected(Path(0, OTHER_ADDRESS), at(3 * SUSPECTED_AFTER_S))
    assert scene.take(3 * SUSPECTED_AFTER_S) == []
    assert scene.tried == []


def test_padding_leaves_room_for_the_headers_of_the_path() -> None:
    scene, over_ipv6 = Scene(1500), Path(1, pack("2001:db8::7", 62096))
    scene.engine.peers.obtain(PEER_KEY).validate(over_ipv6, at(0))
    scene.mtu.start(Path(0, OTHER_ADDRESS, 5), at(0))
    assert {send.pad_to for send in scene.take(0) if isinstance(send, Send)} == {
        total - IPV4_OVERHEAD - 8 for total in ALL
    }
    scene.mtu.start(over_ipv6, at(0))
    assert {send.pad_to for send in scene.take(0) if isinstance(send, Send)} == {
        total - IPV4_OVERHEAD - 20 for total in ALL
    }


def test_nothing_is_sent_after_the_end() -> None:
    scene = Scene(1300)
    scene.mtu.start(PATH, at(0))
    scene.settle(0.0, scene.take(0))
    scene.mtu.stop()
    assert scene.run_to(3 * CHECK_S) == []
    assert scene.told == []
