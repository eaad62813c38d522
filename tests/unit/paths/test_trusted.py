from __future__ import annotations

import pytest
from engine_parts import (
    OTHER_ADDRESS,
    OTHER_PATH,
    PATH,
    PEER_ADDRESS,
    PEER_KEY,
    at,
)
from trusted_scene import (
    PATIENCE_S,
    Scene,
    acknowledge,
    challenged,
    pong_to,
    respond,
    sends,
    told,
)

from wh.engine.commands import Command, ResetSession, Route, Send, SetDataPaths
from wh.engine.events import Path
from wh.paths.keepalive import KEEPALIVE_S
from wh.paths.states import PathState
from wh.wire.address import pack
from wh.wire.messages import Challenge, Ping


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_found_candidate_is_pinged_probed_and_then_carries_data(scene: Scene) -> None:
    (command,) = [each for each in scene.connect() if isinstance(each, SetDataPaths)]
    assert command.routes == (Route(PATH),)
    assert command.keepalive_s == KEEPALIVE_S
    assert scene.peer.state is PathState.DIRECT


def test_a_path_of_a_reachable_node_needs_no_keepalive_of_the_data_plane(scene: Scene) -> None:
    scene.proved = True
    scene.do(scene.peer.path_wanted)
    (ping,) = sends(scene.publish(PEER_ADDRESS))
    (probe,) = sends(scene.hear(pong_to(ping)))
    (command,) = [each for each in scene.hear(acknowledge(probe)) if isinstance(each, SetDataPaths)]
    assert command.routes == (Route(PATH),)
    assert command.keepalive_s == 0


def test_rounds_come_after_1_2_5_15_and_then_each_30_seconds(scene: Scene) -> None:
    scene.do(scene.peer.start)
    for _ in range(100):
        scene.searches[-1][1].done(at(scene.now))
        scene.wait(1.0)
    times = [seconds for seconds, _ in scene.searches]
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    for gap, wanted in zip(gaps, (1, 2, 5, 15, 30, 30), strict=False):
        assert wanted * 0.9 <= gap <= wanted * 1.1
    assert len(gaps) >= 5


def test_a_reachable_node_looks_for_peers_only_when_traffic_wants_them(scene: Scene) -> None:
    scene.proved = True
    scene.do(scene.peer.start)
    scene.wait(60)
    assert scene.searches == []
    scene.do(scene.peer.path_wanted)
    assert len(scene.searches) == 1
    scene.searches[-1][1].done(at(scene.now))
    scene.wait(100)
    wanted = len(scene.searches)
    assert wanted > 1
    for _ in range(10):
        scene.searches[-1][1].done(at(scene.now))
        scene.wait(60)
    late = [seconds for seconds, _ in scene.searches if seconds > 60 + 180]
    assert late == []


def test_candidates_that_a_record_brings_join_the_attempt_that_runs(scene: Scene) -> None:
    scene.do(scene.peer.start)
    scene.do(lambda now: scene.peer.set_file_addresses((OTHER_ADDRESS,), now))
    (new,) = sends(scene.publish(PEER_ADDRESS))
    assert new.path == PATH
    (probe,) = sends(scene.hear(pong_to(new)))
    assert probe.path == PATH


def test_private_candidates_of_a_public_network_are_left_out(scene: Scene) -> None:
    scene.do(scene.peer.start)
    scene.publish(PEER_ADDRESS, bytes(10) + b"\xff\xff\x0a\x00\x00\x01\x00\x05")
    assert scene.peer.candidates == (PEER_ADDRESS,)


def test_three_keepalives_without_an_answer_drop_the_path_and_start_over(scene: Scene) -> None:
    scene.connect()
    scene.log.clear()
    scene.wait(KEEPALIVE_S * 1.1 + 5)
    lost_at = next(seconds for seconds, each in scene.log if each == SetDataPaths(PEER_KEY))
    sent = [(seconds, each) for seconds, each in scene.log if isinstance(each, Send)]
    keepalives = [seconds for seconds, each in sent if seconds < lost_at and isinstance(each.message, Ping)]
    assert keepalives == [pytest.approx(lost_at - before) for before in (5.0, 3.0, 1.0)]
    assert KEEPALIVE_S * 0.9 <= keepalives[0] <= KEEPALIVE_S * 1.1
    assert (lost_at, ResetSession(PEER_KEY)) in scene.log
    assert any(seconds == lost_at and isinstance(each, Send) for seconds, each in scene.log)


def test_what_the_peer_sends_spares_our_keepalive(scene: Scene) -> None:
    scene.connect()
    for _ in range(10):
        scene.wait(10)
        assert sends(scene.hear(Ping(5, 0, 0, bytes(8)))) == []
    scene.wait(4)
    assert scene.peer.state is PathState.DIRECT
    assert len([1 for _, each in scene.log if isinstance(each, Send) and isinstance(each.message, Ping)]) == 1


def moved(scene: Scene) -> tuple[Send, list[Command]]:
    """The peer has moved, or somebody copies what it sends. Returns what it was asked on PATH."""
    scene.connect()
    old, new = challenged(scene.hear(Ping(5, 0, 0, bytes(8)), OTHER_PATH))
    assert scene.peer.path == PATH
    assert told(scene.hear(respond(new), OTHER_PATH))[-1] == (PATH, OTHER_PATH)
    return old, scene.wait(PATIENCE_S)


def test_a_peer_that_moved_is_challenged_and_then_followed(scene: Scene) -> None:
    _, commands = moved(scene)
    assert told(commands)[-1] == (OTHER_PATH,)
    scene.wait(5)
    assert scene.peer.path == OTHER_PATH


def test_a_peer_that_still_sends_where_it_was_has_not_moved(scene: Scene) -> None:
    scene.connect()
    old, new = challenged(scene.hear(Ping(5, 0, 0, bytes(8)), OTHER_PATH))
    scene.hear(respond(new), OTHER_PATH)
    assert told(scene.hear(respond(old), OTHER_PATH))[-1] == (PATH,)  # also when that is copied
    scene.wait(5)
    assert scene.peer.path == PATH


def test_an_answer_that_comes_late_moves_the_path_back(scene: Scene) -> None:
    old, _ = moved(scene)
    assert scene.peer.path == OTHER_PATH
    scene.hear(respond(old), PATH)
    assert scene.peer.path == PATH


def test_a_former_path_that_is_the_path_again_is_asked_anew(scene: Scene) -> None:
    moved(scene)
    scene.peer._whereabouts.moved(PATH, 0.0, at(scene.now))
    third = Path(0, pack("203.0.113.9", 9))
    old, _ = sends(scene.hear(Ping(6, 0, 0, bytes(8)), third))
    assert old.path == PATH
    scene.hear(respond(old), PATH)
    scene.wait(5)
    assert scene.peer.path == PATH


def test_copies_are_looked_at_less_and_less(scene: Scene) -> None:
    scene.connect()
    looked_at = []
    for tenths in range(150):
        commands = sends(scene.do(lambda now: scene.peer.data_arrived(OTHER_PATH, now)))
        if commands:
            looked_at.append(tenths / 10)
            for each in commands:
                if isinstance(each.message, Challenge):
                    scene.hear(respond(each), each.path)
        scene.wait(0.1)
        assert scene.peer.path == PATH
    assert 1 < len(looked_at) <= 5
    scene.do(lambda now: scene.peer.silent(PATH, 0, now))
    assert sends(scene.do(lambda now: scene.peer.data_arrived(OTHER_PATH, now))) != []


def test_a_session_that_begins_elsewhere_may_be_a_copy_too(scene: Scene) -> None:
    scene.connect()
    commands = scene.do(lambda now: scene.peer.session_opened(OTHER_PATH, now))
    (old,) = sends(commands)
    assert old.path == PATH
    assert told(commands)[-1] == (PATH, OTHER_PATH)
    scene.hear(respond(old), PATH)
    scene.wait(5)
    assert scene.peer.path == PATH


def test_a_peer_that_moves_on_is_followed_from_path_to_path(scene: Scene) -> None:
    moved(scene)
    third = Path(0, pack("203.0.113.9", 9))
    commands = sends(scene.hear(Ping(6, 0, 0, bytes(8)), third))
    assert [each.path for each in commands] == [OTHER_PATH, third]
    scene.hear(respond(commands[1]), third)
    scene.wait(PATIENCE_S)
    assert scene.peer.path == third


def test_a_challenge_without_an_answer_moves_nothing(scene: Scene) -> None:
    scene.connect()
    scene.hear(Ping(5, 0, 0, bytes(8)), OTHER_PATH)
    scene.wait(3)
    assert scene.peer.path == PATH


def test_packets_on_a_path_that_also_works_do_not_make_data_swing(scene: Scene) -> None:
    """Both sides may have chosen another of two good paths: each keeps its own."""
    moved(scene)
    for _ in range(5):
        scene.wait(1)
        assert scene.hear(Ping(6, 0, 0, bytes(8)), PATH) == []
        assert scene.do(lambda now: scene.peer.data_arrived(PATH, now)) == []
    assert scene.peer.path == OTHER_PATH


def test_data_on_a_new_path_is_checked_before_it_moves_ours(scene: Scene) -> None:
    scene.connect()
    _, challenge = challenged(scene.do(lambda now: scene.peer.data_arrived(OTHER_PATH, now)))
    assert scene.do(lambda now: scene.peer.data_arrived(OTHER_PATH, now)) == []
    scene.hear(respond(challenge), OTHER_PATH)
    scene.wait(PATIENCE_S)
    assert scene.peer.path == OTHER_PATH


def test_a_session_that_the_peer_opened_is_a_path(scene: Scene) -> None:
    commands = scene.do(lambda now: scene.peer.session_opened(OTHER_PATH, now))
    assert told(commands)[-1] == (OTHER_PATH,)


def test_a_peer_that_leaves_loses_its_path_and_is_tried_again_soon(scene: Scene) -> None:
    scene.connect()
    assert SetDataPaths(PEER_KEY) in scene.do(scene.peer.left)
    assert scene.peer.state is PathState.IDLE
    assert any(send.path == PATH for send in sends(scene.wait(1.2)))


def test_traffic_for_a_peer_with_a_path_tells_the_data_plane_again(scene: Scene) -> None:
    scene.connect()
    assert told(scene.do(scene.peer.path_wanted)) == [(PATH,)]


def test_a_closed_peer_does_nothing_any_more(scene: Scene) -> None:
    scene.connect()
    scene.peer.close(at(scene.now))
    assert scene.take(0) == [SetDataPaths(PEER_KEY)]
    assert scene.wait(100) == []

    other = Scene()
    other.do(other.peer.start)
    other.peer.close(at(0))
    assert other.searches[-1][1].cancelled
    assert other.wait(100) == []
