"""A trusted peer that is reached through relays: first data, the way to a direct path, and back."""

from __future__ import annotations

import pytest
from engine_parts import OTHER_ADDRESS, OTHER_PATH, PATH, PEER_ADDRESS, PEER_KEY
from trusted_scene import (
    PATIENCE_S,
    Scene,
    acknowledge,
    challenged,
    is_mtu_probe,
    pong_to,
    respond,
    sends,
    told,
)

from wh.engine.commands import AdoptSocket, ClearSilence, CloseSocket, Command, PathMode, Send, SetDataPaths
from wh.engine.events import PUNCH_SOCKETS_FROM, Path
from wh.paths.flow_splitting import BUSY_BYTES_S, PAUSE_S
from wh.paths.mtu import SUSPECTED_AFTER_S
from wh.paths.silence import SUSPECT_FOR_S
from wh.paths.states import PathState
from wh.paths.trusted import WANTED_FOR_S
from wh.paths.upgrades import UPGRADE_AFTER_S
from wh.relay.choosing import Channel
from wh.wire.address import pack
from wh.wire.messages import Nominate, Ping, Probe, ProbeAck
from wh.wire.records import Record, Relay

RELAY_KEY = bytes(31) + b"\x10"
OTHER_RELAY_KEY = bytes(31) + b"\x11"
CHANNEL = Path(0, OTHER_ADDRESS, 70)
OTHER_CHANNEL = Path(0, OTHER_ADDRESS[:15] + b"\x99" + OTHER_ADDRESS[16:], 71)
RELAYS = (Relay(RELAY_KEY, CHANNEL.remote), Relay(OTHER_RELAY_KEY, OTHER_CHANNEL.remote))
PUNCHED = Path(PUNCH_SOCKETS_FROM + 3, PEER_ADDRESS)
ADOPTED = Path(9, PEER_ADDRESS)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def publish_relays(scene: Scene) -> list[Command]:
    record = Record(PEER_KEY, 1, 0, relays=RELAYS)
    search = scene.searches[-1][1]
    commands = scene.do(lambda now: search.found(record, now))
    scene.do(search.done)
    return commands


def open_channel(scene: Scene, path: Path = CHANNEL, *, by_us: bool = True) -> list[Command]:
    relay = RELAY_KEY if path == CHANNEL else OTHER_RELAY_KEY
    channel = Channel(path, relay, PEER_KEY, PEER_ADDRESS, by_us)
    return scene.do(lambda now: scene.peer.channel_opened(channel, now))


def relayed(scene: Scene) -> Scene:
    """Traffic wanted a path, the record told of relays, and two channels are open."""
    scene.do(scene.peer.path_wanted)
    publish_relays(scene)
    open_channel(scene)
    open_channel(scene, OTHER_CHANNEL)
    return scene


def fall_silent(scene: Scene, path: Path, received: int = 0) -> list[Command]:
    return scene.do(lambda now: scene.peer.silent(path, received, now))


def answer_mtu_probes(scene: Scene, commands: list[Command]) -> list[Command]:
    later: list[Command] = []
    for command in commands:
        if isinstance(command, Send) and is_mtu_probe(command):
            probe = command.message
            assert isinstance(probe, Probe)
            later += scene.hear(ProbeAck(probe.request_id, probe.attempt, probe.number), command.path)
    return later


def direct(scene: Scene) -> Scene:
    """As relayed(), then hole punching found PATH."""
    relayed(scene)
    commands = scene.do(lambda now: scene.peer.punched(PATH, 0.05, True, now))
    answer_mtu_probes(scene, commands)
    assert scene.peer.state is PathState.DIRECT
    return scene


def test_traffic_goes_through_a_channel_as_soon_as_it_is_open(scene: Scene) -> None:
    scene.do(scene.peer.path_wanted)
    publish_relays(scene)
    assert scene.relays.opened == [RELAYS]
    commands = open_channel(scene)
    assert told(commands) == [(CHANNEL,)]
    assert scene.peer.state is PathState.RELAYED
    assert scene.relays.in_use
    assert scene.relays.opened == [RELAYS, RELAYS]  # a second one, to survive the loss of the first
    assert told(open_channel(scene, OTHER_CHANNEL)) == [(CHANNEL, OTHER_CHANNEL)]
    assert len(scene.relays.opened) == 2


def test_a_channel_that_answers_is_measured_and_data_keeps_to_that(scene: Scene) -> None:
    scene.do(scene.peer.path_wanted)
    publish_relays(scene)
    ping = next(each for each in sends(open_channel(scene)) if isinstance(each.message, Ping))
    probes = scene.hear(pong_to(ping), CHANNEL)
    measured = [each for each in probes if isinstance(each, Send) and is_mtu_probe(each)]
    assert {each.path for each in measured} == {CHANNEL}
    commands = answer_mtu_probes(scene, probes)
    routes = [each.routes for each in commands if isinstance(each, SetDataPaths)]
    assert [route.mtu for route in routes[-1]] == [1496]


def test_without_traffic_no_channel_is_opened(scene: Scene) -> None:
    scene.do(scene.peer.start)
    publish_relays(scene)
    assert scene.relays.opened == []


def test_traffic_just_after_a_round_opens_a_channel_at_once(scene: Scene) -> None:
    scene.do(scene.peer.start)
    publish_relays(scene)
    scene.do(scene.peer.path_wanted)
    assert scene.relays.opened == [RELAYS]


def test_traffic_just_after_a_round_that_found_no_record_looks_again(scene: Scene) -> None:
    scene.do(scene.peer.start)
    scene.do(scene.searches[-1][1].done)
    scene.do(scene.peer.path_wanted)
    assert len(scene.searches) == 2
    publish_relays(scene)
    assert scene.relays.opened == [RELAYS]


def test_a_channel_that_the_peer_opened_carries_our_answers(scene: Scene) -> None:
    commands = open_channel(scene, by_us=False)
    assert told(commands) == [(CHANNEL,)]
    assert scene.peer.state is PathState.RELAYED
    assert scene.puncher.begun == []


def test_who_opened_the_channel_offers_hole_punching_once_the_session_is_up(scene: Scene) -> None:
    scene.do(scene.peer.path_wanted)
    publish_relays(scene)
    (ping,) = sends(open_channel(scene))
    assert isinstance(ping.message, Ping)
    assert ping.path == CHANNEL
    assert scene.puncher.begun == []
    scene.hear(pong_to(ping), CHANNEL)
    assert scene.puncher.begun == [CHANNEL]
    assert scene.peer.state is PathState.PUNCHING


def test_attempts_come_again_after_5_15_and_then_each_60_seconds(scene: Scene) -> None:
    relayed(scene)
    begun_at: list[float] = []
    for _ in range(4 * 200):
        before = len(scene.puncher.begun)
        scene.wait(0.25)
        scene.do(lambda now: scene.peer.traffic(1, 0, now))
        if len(scene.puncher.begun) > before:
            begun_at.append(scene.now)
            scene.do(scene.peer.punch_ended)
    gaps = [later - earlier for earlier, later in zip(begun_at, begun_at[1:], strict=False)]
    for gap, wanted in zip(gaps, (*UPGRADE_AFTER_S, UPGRADE_AFTER_S[-1]), strict=False):
        assert wanted * 0.85 <= gap <= wanted * 1.15
    assert len(gaps) >= 3


def test_data_stays_on_the_channel_until_the_direct_path_is_measured(scene: Scene) -> None:
    relayed(scene)
    commands = scene.do(lambda now: scene.peer.punched(PATH, 0.05, True, now))
    assert told(commands) == []
    commands = answer_mtu_probes(scene, commands)
    assert told(commands)[-1] == (PATH, CHANNEL)
    assert scene.peer.state is PathState.DIRECT
    assert scene.peer.routes.mtu(PATH) == 1496
    assert not scene.relays.in_use


def test_a_path_that_carries_no_large_datagram_at_all_is_not_taken(scene: Scene) -> None:
    relayed(scene)
    scene.do(lambda now: scene.peer.punched(PATH, 0.05, True, now))
    assert told(scene.wait(1.5)) == []
    assert scene.peer.state is PathState.RELAYED


def test_a_socket_of_hole_punching_is_adopted_before_data_takes_it(scene: Scene) -> None:
    relayed(scene)
    assert AdoptSocket(PUNCHED.socket) in scene.do(lambda now: scene.peer.punched(PUNCHED, 0.05, True, now))
    adopt = scene.do(lambda now: scene.peer.socket_adopted(PUNCHED.socket, ADOPTED.socket, now) or None)
    answer_mtu_probes(scene, adopt)
    assert scene.peer.path == ADOPTED
    commands = scene.do(scene.peer.left)
    assert CloseSocket(ADOPTED.socket) in commands


def test_a_socket_that_the_data_plane_has_no_room_for_changes_nothing(scene: Scene) -> None:
    relayed(scene)
    scene.do(lambda now: scene.peer.punched(PUNCHED, 0.05, True, now))
    scene.do(lambda now: scene.peer.socket_adopted(PUNCHED.socket, None, now) or None)
    assert scene.peer.state is PathState.RELAYED
    assert scene.do(lambda now: scene.peer.punched(PATH, 0.05, True, now)) != []


def test_one_channel_stays_behind_a_direct_path(scene: Scene) -> None:
    direct(scene)
    for _ in range(120):
        for send in sends(scene.wait(0.5)):
            if isinstance(send.message, Ping):
                scene.hear(pong_to(send), send.path)
    assert scene.relays.closed == [OTHER_CHANNEL]
    assert scene.peer.routes.second == CHANNEL


def test_silence_on_the_direct_path_is_probed_and_forgiven_when_answered(scene: Scene) -> None:
    direct(scene)
    commands = fall_silent(scene, PATH)
    assert scene.peer.state is PathState.SUSPECT
    assert scene.relays.checked == [RELAY_KEY, OTHER_RELAY_KEY]
    (probe,) = sends(commands)
    assert probe.path == PATH
    scene.hear(acknowledge(probe))
    assert scene.peer.state is PathState.DIRECT


def test_after_a_silence_that_was_none_long_data_is_tried(scene: Scene) -> None:
    direct(scene)
    scene.wait(2 * SUSPECTED_AFTER_S)
    (probe,) = sends(fall_silent(scene, PATH))
    commands = scene.hear(acknowledge(probe))
    assert [each.path for each in commands if isinstance(each, Send) and is_mtu_probe(each)] == [PATH]


def test_a_direct_path_that_stays_silent_gives_way_to_the_channel(scene: Scene) -> None:
    direct(scene)
    fall_silent(scene, PATH)
    commands = scene.wait(SUSPECT_FOR_S + 0.1)
    assert told(commands)[-1] == (CHANNEL, OTHER_CHANNEL)
    assert scene.peer.state in (PathState.RELAYED, PathState.PUNCHING)
    assert scene.engine.peers.obtain(PEER_KEY).session  # which lives in the channel
    assert scene.puncher.begun == [CHANNEL]


def test_a_channel_that_stays_silent_comes_last(scene: Scene) -> None:
    relayed(scene)
    fall_silent(scene, CHANNEL)
    commands = scene.wait(SUSPECT_FOR_S + 0.1)
    assert told(commands)[-1] == (OTHER_CHANNEL, CHANNEL)


def measured(scene: Scene) -> Scene:
    """As relayed(), and both channels are measured."""
    relayed(scene)
    for channel in (CHANNEL, OTHER_CHANNEL):
        scene.peer.routes.add_round_trip(channel, 0.1)
    return scene


def be_busy(scene: Scene) -> list[Command]:
    commands: list[Command] = []
    for _ in range(2):
        commands += scene.wait(2)
        commands += scene.do(lambda now: scene.peer.traffic(100, 10 * BUSY_BYTES_S, now))
    return commands


def modes(commands: list[Command]) -> list[PathMode]:
    return [command.mode for command in commands if isinstance(command, SetDataPaths)]


def test_a_busy_peer_has_its_flows_on_both_channels_until_one_falls_silent(scene: Scene) -> None:
    measured(scene)
    assert modes(be_busy(scene))[-1] is PathMode.SPLIT
    (probe,) = sends(fall_silent(scene, OTHER_CHANNEL))
    assert probe.path == OTHER_CHANNEL
    scene.now += 0.1
    assert ClearSilence(PEER_KEY) in scene.hear(acknowledge(probe), OTHER_CHANNEL)
    assert modes(be_busy(scene)) == [], "it only paused"
    fall_silent(scene, OTHER_CHANNEL)
    commands = scene.wait(SUSPECT_FOR_S + 0.1)
    assert told(commands) == [(CHANNEL, OTHER_CHANNEL)], "the first one goes on"
    assert modes(commands) == [PathMode.PRIMARY]
    assert PathMode.SPLIT not in modes(be_busy(scene)), "not so soon"
    scene.wait(PAUSE_S)
    assert modes(be_busy(scene))[-1] is PathMode.SPLIT


def test_the_end_of_a_silent_channel_is_no_reason_to_overlook_the_next_silence(scene: Scene) -> None:
    relayed(scene)
    fall_silent(scene, CHANNEL)
    scene.do(lambda now: scene.peer.channel_closed(CHANNEL, now))
    (probe,) = sends(fall_silent(scene, OTHER_CHANNEL))
    assert probe.path == OTHER_CHANNEL


def test_the_silence_of_a_path_that_carries_nothing_is_none(scene: Scene) -> None:
    relayed(scene)
    assert fall_silent(scene, OTHER_CHANNEL) == []


def test_the_loss_of_one_relay_costs_nothing_and_another_channel_is_opened(scene: Scene) -> None:
    relayed(scene)
    scene.relays.opened.clear()
    commands = scene.do(lambda now: scene.peer.channel_closed(CHANNEL, now))
    assert told(commands) == [(OTHER_CHANNEL,)]
    assert scene.relays.opened == [RELAYS]
    assert scene.peer.state is PathState.RELAYED


def test_without_any_channel_the_search_starts_over(scene: Scene) -> None:
    relayed(scene)
    searches = len(scene.searches)
    scene.do(lambda now: scene.peer.channel_closed(CHANNEL, now))
    commands = scene.do(lambda now: scene.peer.channel_closed(OTHER_CHANNEL, now))
    assert told(commands) == [()]
    assert len(scene.searches) == searches + 1


def test_channels_end_180_seconds_after_the_last_traffic(scene: Scene) -> None:
    relayed(scene)
    scene.wait(WANTED_FOR_S - 50)
    scene.do(lambda now: scene.peer.traffic(128, 0, now))
    scene.wait(WANTED_FOR_S - 50)
    assert scene.relays.closed == []
    scene.wait(150)
    assert set(scene.relays.closed) == {CHANNEL, OTHER_CHANNEL}
    assert scene.peer.state is PathState.IDLE


def test_the_lower_key_nominates_and_the_higher_one_follows(scene: Scene) -> None:
    """Ours is the lower one here; see engine_parts."""
    direct(scene)
    said = [command for command in scene.wait(1.1) if isinstance(command, Send)]
    nominations = [send for send in said if isinstance(send.message, Nominate)]
    assert {send.path for send in nominations} == {PATH}
    assert scene.hear(Nominate(0, 100), OTHER_PATH) == []  # the higher key decides nothing


def test_a_peer_that_moved_is_followed_without_a_new_measurement_first(scene: Scene) -> None:
    direct(scene)
    _, challenge = challenged(scene.hear(Ping(5, 0, 0, bytes(8)), OTHER_PATH))
    commands = scene.hear(respond(challenge), OTHER_PATH) + scene.wait(PATIENCE_S)
    assert told(commands)[-1] == (OTHER_PATH, CHANNEL)


LEARNED = Path(0, pack("203.0.113.66", 6))


def test_an_address_that_nobody_told_gives_way_to_one_that_the_peer_told(scene: Scene) -> None:
    """Copies of its PROBEs may have come from there, and have been faster."""
    open_channel(scene)
    scene.do(lambda now: scene.peer.punched(LEARNED, 0.01, False, now))
    commands = scene.do(lambda now: scene.peer.punched(PATH, 0.05, True, now))
    assert {send.path for send in commands if isinstance(send, Send) and is_mtu_probe(send)} == {PATH}
    for probe in [each for each in commands if isinstance(each, Send) and is_mtu_probe(each)]:
        scene.hear(acknowledge(probe))
    scene.wait(1)
    assert scene.peer.path == PATH
    scene.do(lambda now: scene.peer.punched(LEARNED, 0.001, False, now))
    assert scene.peer.path == PATH


def test_what_comes_through_a_channel_moves_no_direct_path(scene: Scene) -> None:
    direct(scene)
    assert sends(scene.hear(Ping(5, 0, 0, bytes(8)), CHANNEL)) == []
    assert scene.do(lambda now: scene.peer.data_arrived(Path(0, OTHER_ADDRESS, 99), now)) == []
    assert scene.peer.path == PATH


def test_no_more_than_four_channels_are_held(scene: Scene) -> None:
    for leg in range(1, 7):
        open_channel(scene, Path(0, OTHER_ADDRESS, leg), by_us=False)
    assert len(scene.peer.routes.channels) == 4
    assert len(scene.relays.closed) == 2


def test_a_peer_that_leaves_or_whose_line_goes_loses_its_channels(scene: Scene) -> None:
    relayed(scene)
    commands = scene.do(scene.peer.left)
    assert SetDataPaths(PEER_KEY) in commands
    assert scene.relays.closed == [CHANNEL, OTHER_CHANNEL]

    other = relayed(Scene())
    other.do(other.peer.close)
    assert other.relays.closed == [CHANNEL, OTHER_CHANNEL]
    assert other.wait(300) == []


def test_a_new_address_of_ours_is_told_to_relays_and_peer_at_once(scene: Scene) -> None:
    direct(scene)
    scene.relays.checked.clear()
    (ping,) = sends(scene.do(scene.peer.links_changed))
    assert ping.path == PATH
    assert scene.relays.checked == [RELAY_KEY, OTHER_RELAY_KEY]


def test_status_says_why_a_path_is_relayed(scene: Scene) -> None:
    assert scene.peer.why_relayed == ""
    relayed(scene)
    assert scene.peer.why_relayed == "both NATs choose ports at random"
    assert scene.peer.relay_of(CHANNEL) == RELAY_KEY
    assert scene.peer.relay_of(PATH) is None
