"""What the data plane is told of a peer's paths."""

from __future__ import annotations

import pytest
from engine_parts import OTHER_PATH, PATH, PEER_KEY, Driver, at

from wh.engine.commands import ClearSilence, Command, PathMode, Route, SetDataPaths
from wh.engine.events import Path
from wh.paths.routes import OVERLAP_MIN_S, SILENCE_MAX_S, SILENCE_MIN_S, Routes

CHANNEL = Path(0, OTHER_PATH.remote, 7)
SECOND_CHANNEL = Path(0, OTHER_PATH.remote, 8)


class Scene(Driver):
    def __init__(self) -> None:
        super().__init__()
        self.routes = Routes(PEER_KEY, self.engine, lambda: 20)

    def told(self, commands: list[Command] | None = None) -> list[SetDataPaths]:
        taken = self.take(0) if commands is None else commands
        return [command for command in taken if isinstance(command, SetDataPaths)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def paths(command: SetDataPaths) -> list[Path]:
    return [route.path for route in command.routes]


def test_a_direct_path_comes_before_channels_and_two_at_most_are_told(scene: Scene) -> None:
    scene.routes.add_channel(CHANNEL, at(0))
    scene.routes.add_channel(SECOND_CHANNEL, at(0))
    assert [paths(command) for command in scene.told()] == [[CHANNEL], [CHANNEL, SECOND_CHANNEL]]
    scene.routes.set_direct(PATH, at(0))
    (command,) = scene.told()
    assert paths(command) == [PATH, CHANNEL]
    assert command.keepalive_s == 20
    assert (scene.routes.first, scene.routes.second) == (PATH, CHANNEL)


def test_a_switch_sends_on_both_paths_for_two_round_trips_of_the_former(scene: Scene) -> None:
    scene.routes.add_channel(CHANNEL, at(0))
    scene.routes.add_round_trip(CHANNEL, 0.3)
    scene.take(0)
    scene.routes.set_direct(PATH, at(0))
    (command,) = scene.told()
    assert command.mode is PathMode.DUPLICATE
    assert scene.told(scene.run_to(0.59)) == []
    (command,) = scene.told(scene.run_to(0.61))
    assert command.mode is PathMode.PRIMARY


def test_the_overlap_lasts_200_ms_at_least(scene: Scene) -> None:
    scene.routes.add_channel(CHANNEL, at(0))
    scene.routes.add_round_trip(CHANNEL, 0.001)
    scene.routes.set_direct(PATH, at(0))
    scene.take(0)
    assert scene.told(scene.run_to(OVERLAP_MIN_S - 0.01)) == []
    assert len(scene.told(scene.run_to(OVERLAP_MIN_S + 0.01))) == 1


def test_the_first_path_of_all_has_nothing_to_overlap_with(scene: Scene) -> None:
    scene.routes.set_direct(PATH, at(0), rtt=0.02)
    (command,) = scene.told()
    assert command.mode is PathMode.PRIMARY


def test_silence_is_one_and_a_half_round_trips_and_four_deviations_within_bounds(scene: Scene) -> None:
    scene.routes.set_direct(PATH, at(0), rtt=0.001)
    assert scene.routes.silence_s == SILENCE_MIN_S
    scene.routes.set_direct(OTHER_PATH, at(0), rtt=0.2)
    assert scene.routes.silence_s == pytest.approx(1.5 * 0.2 + 4 * 0.0125)
    for _ in range(50):
        scene.routes.add_round_trip(OTHER_PATH, 0.2)
    assert scene.routes.silence_s == pytest.approx(0.3, abs=0.01)


def test_silence_that_was_none_makes_us_more_patient_up_to_a_limit(scene: Scene) -> None:
    scene.routes.set_direct(PATH, at(0), rtt=0.1)
    before = scene.routes.silence_s
    scene.routes.heard_again(at_once=False, one_way=True)
    assert scene.routes.silence_s == before
    scene.routes.heard_again(at_once=True, one_way=True)
    assert scene.routes.silence_s == 2 * before
    assert ClearSilence(PEER_KEY) in scene.take(0)
    for _ in range(10):
        scene.routes.heard_again(at_once=True, one_way=True)
    assert scene.routes.silence_s == SILENCE_MAX_S
    scene.routes.add_channel(CHANNEL, at(0))
    scene.routes.set_direct(None, at(0))
    assert scene.routes.silence_s == 0.5  # another path, nothing is known of it


def test_the_silence_after_a_conversation_makes_nobody_more_patient(scene: Scene) -> None:
    scene.routes.set_direct(PATH, at(0), rtt=0.1)
    before = scene.routes.silence_s
    scene.routes.heard_again(at_once=True, one_way=False)
    assert scene.routes.silence_s == before
    scene.routes.heard_again(at_once=True, one_way=True)
    scene.routes.heard_again(at_once=True, one_way=False)
    assert scene.routes.silence_s == before
    assert scene.told()[-1].silence_s == before


def test_small_changes_of_the_round_trip_are_not_told(scene: Scene) -> None:
    scene.routes.set_direct(PATH, at(0), rtt=0.2)
    scene.take(0)
    scene.routes.add_round_trip(PATH, 0.2)
    scene.routes.add_round_trip(PATH, 0.21)
    few = len(scene.told())
    for _ in range(30):
        scene.routes.add_round_trip(PATH, 0.2)
    assert few + len(scene.told()) <= 5


def test_a_known_mtu_goes_with_its_path(scene: Scene) -> None:
    scene.routes.set_direct(PATH, at(0))
    scene.routes.set_mtu(PATH, 1400)
    assert scene.told()[-1].routes == (Route(PATH, 1400),)
    scene.routes.set_direct(OTHER_PATH, at(0))
    assert scene.told()[-1].routes == (Route(OTHER_PATH, 0),)


def test_channels_change_places(scene: Scene) -> None:
    scene.routes.add_channel(CHANNEL, at(0))
    scene.routes.add_channel(SECOND_CHANNEL, at(0))
    scene.routes.prefer_channel(SECOND_CHANNEL, at(0))
    assert scene.routes.channels == (SECOND_CHANNEL, CHANNEL)
    scene.routes.demote_channel(SECOND_CHANNEL, at(0))
    assert scene.routes.channels == (CHANNEL, SECOND_CHANNEL)
    scene.take(0)
    scene.routes.demote_channel(SECOND_CHANNEL, at(0))
    scene.routes.prefer_channel(CHANNEL, at(0))
    assert scene.told() == []


def two_channels(scene: Scene, *round_trips: float) -> None:
    for channel, round_trip in zip((CHANNEL, SECOND_CHANNEL), round_trips, strict=True):
        scene.routes.add_channel(channel, at(0))
        scene.routes.add_round_trip(channel, round_trip)
    scene.take(0)


def test_flows_are_split_over_two_channels_that_are_alike(scene: Scene) -> None:
    two_channels(scene, 0.1, 0.12)
    scene.routes.split(True)
    (command,) = scene.told()
    assert command.mode is PathMode.SPLIT
    assert command.silence_s == pytest.approx(1.75 * 0.12), "that of the slower one"
    assert scene.routes.in_use == (CHANNEL, SECOND_CHANNEL)
    scene.routes.split(True)
    assert scene.told() == []
    scene.routes.split(False)
    assert [command.mode for command in scene.told()] == [PathMode.PRIMARY]
    assert scene.routes.in_use == (CHANNEL,)


def test_flows_are_not_split_where_one_way_is_longer_or_direct(scene: Scene) -> None:
    two_channels(scene, 0.1, 0.13)
    scene.routes.split(True)
    assert scene.told() == []
    for _ in range(10):
        scene.routes.add_round_trip(SECOND_CHANNEL, 0.1)
    assert scene.told()[-1].mode is PathMode.SPLIT
    scene.routes.set_direct(PATH, at(0))
    assert scene.told()[-1].mode is PathMode.DUPLICATE
    modes = [command.mode for command in scene.told(scene.run_to(5))]
    assert modes == [PathMode.PRIMARY]


def test_without_any_path_the_data_plane_is_told_so_once(scene: Scene) -> None:
    scene.routes.set_direct(PATH, at(0))
    scene.take(0)
    scene.routes.clear()
    assert scene.told() == [SetDataPaths(PEER_KEY)]
    scene.routes.clear()
    assert scene.told() == []


def test_the_silence_of_a_path_that_is_gone_is_not_that_of_the_next(scene: Scene) -> None:
    scene.routes.add_channel(CHANNEL, at(0))
    scene.routes.add_channel(SECOND_CHANNEL, at(0))
    for path in (CHANNEL, SECOND_CHANNEL):
        scene.routes.add_round_trip(path, 0.1)
    patient = scene.routes.silence_s
    scene.routes.heard_again(at_once=True, one_way=True)
    scene.take(0)
    scene.routes.remove_channel(CHANNEL, at(0))
    assert ClearSilence(PEER_KEY) in scene.take(0)
    assert scene.routes.first == SECOND_CHANNEL
    assert scene.routes.silence_s == patient
