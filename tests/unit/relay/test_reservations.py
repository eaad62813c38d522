"""A client has three reservations: made, renewed, replaced."""

from __future__ import annotations

import pytest
from client_of_relays import (
    MEMBER_RELAY,
    Scene,
    relay_address,
    relay_key,
)
from engine_parts import OWN_KEY, at

from wh.config.model import Network, Peer, PeerKind
from wh.engine.events import Path
from wh.relay.reservations import SETTLE_S
from wh.wire.address import pack
from wh.wire.messages import (
    Capability,
    Ping,
    RelayStatus,
    Reserve,
    Reserved,
)


def test_three_reservations_are_made_at_once(scene: Scene) -> None:
    assert scene.held() == [relay_key(0), relay_key(1), relay_key(2)]
    assert scene.client.relays[0].address == relay_address(0)
    assert scene.client.relays_until == int(at(0).unix) + 3600
    assert ("changed",) in scene.events


def test_in_a_small_network_there_are_as_many_as_exist_and_more_when_they_come() -> None:
    scene = Scene(relays=1)
    scene.wait(5)
    assert scene.held() == [relay_key(0)]
    assert scene.short_at[0] == pytest.approx(0, abs=0.01)
    scene.add_server(relay_key(1), relay_address(1))
    scene.do(scene.client.servers_changed)
    scene.wait(1)
    assert len(scene.held()) == 2


def test_a_member_that_relays_is_taken_first() -> None:
    scene = Scene(relays=0)
    for number in range(3):
        scene.add_server(relay_key(number), relay_address(number), srtt=0.01)
    scene.add_server(MEMBER_RELAY, pack("20.99.0.1", 1), srtt=0.4)
    scene.wait(1)
    assert MEMBER_RELAY in scene.held()


@pytest.mark.parametrize("flags", [0, Capability.SERVER])
def test_who_does_not_offer_to_relay_is_not_asked(flags: int) -> None:
    scene = Scene(relays=0)
    server = scene.add_server(relay_key(0), relay_address(0), flags=flags)
    scene.wait(60)
    assert server.heard == []


def test_relays_at_private_addresses_are_no_use_to_others() -> None:
    scene = Scene(relays=0)
    scene.add_server(relay_key(0), pack("10.0.0.9", 62096))
    scene.wait(60)
    assert scene.held() == []


def test_who_is_reachable_needs_no_relay() -> None:
    scene = Scene()
    scene.proved = True
    scene.wait(60)
    assert scene.held() == []


@pytest.mark.parametrize("network", [Network(), Network(peers=(Peer(PeerKind.TRUST, OWN_KEY),))])
def test_whom_nobody_may_want_to_reach_needs_no_relay(network: Network) -> None:
    scene = Scene(network=network)
    scene.wait(60)
    assert scene.held() == []
    scene.welcome = True  # an alias can be claimed
    scene.wait(20)
    assert len(scene.held()) == 3


def test_without_a_nat_there_is_time_to_prove_that_we_are_reachable() -> None:
    scene = Scene()
    scene.translated = False
    scene.wait(SETTLE_S - 0.1)
    assert scene.held() == []
    scene.wait(1)
    assert len(scene.held()) == 3


def test_reservations_are_renewed_at_half_of_their_life(scene: Scene) -> None:
    scene.wait(1790)
    assert scene.server(0).asked(Reserve) == 1
    scene.wait(30)
    assert [scene.server(number).asked(Reserve) for number in range(3)] == [2, 2, 2]
    assert scene.client.relays_until is not None
    assert scene.client.relays_until > int(at(1790).unix) + 3500
    scene.wait(3 * 3600)
    assert len(scene.held()) == 3


def test_reservations_end_when_we_turn_out_to_be_reachable(scene: Scene) -> None:
    scene.proved = True
    scene.wait(2000)
    assert scene.held() == []
    assert scene.server(0).heard[-1] == Reserve(scene.server(0).heard[-1].request_id, 0)


def test_a_relay_that_refuses_is_replaced_and_not_asked_all_the_time() -> None:
    scene = Scene(relays=3)
    refusing = scene.server(0)
    refusing.reserve = lambda request: Reserved(request, RelayStatus.FULL)
    scene.wait(1)
    assert len(scene.held()) == 2
    scene.add_server(relay_key(9), relay_address(9), srtt=0.001)
    scene.wait(40)
    assert len(scene.held()) == 3
    assert refusing.asked(Reserve) < 5


def test_a_relay_that_answers_pings_only_is_given_up() -> None:
    scene = Scene(relays=1)
    server = scene.server(0)
    server.reserve = lambda request: None  # type: ignore[assignment, return-value]
    scene.wait(10)
    assert scene.held() == []
    scene.wait(3600)
    assert server.asked(Reserve) < 200


def test_a_silent_relay_is_lost_after_three_pings_and_replaced(scene: Scene) -> None:
    scene.wait(20)
    silent = scene.server(1)
    silent.silent = True
    silent.heard.clear()
    scene.events.clear()
    scene.wait(30)
    assert silent.asked(Ping) == 3
    assert len(scene.held()) == 3
    assert relay_key(1) not in scene.held()
    assert ("changed",) in scene.events


def test_idle_relays_get_a_ping_each_15_to_20_seconds(scene: Scene) -> None:
    before = scene.server(0).asked(Ping)
    scene.wait(600)
    assert 600 / 20 <= scene.server(0).asked(Ping) - before <= 600 / 14


def test_a_relay_that_leaves_is_replaced_at_once(scene: Scene) -> None:
    scene.do(lambda now: scene.client.left(relay_key(0), now))
    scene.wait(0.1)
    assert len(scene.held()) == 3
    assert relay_key(0) not in scene.held()


def test_after_an_outage_the_only_relay_is_found_again_soon() -> None:
    scene = Scene(relays=1)
    scene.wait(10)
    scene.server(0).silent = True
    scene.wait(100)
    assert scene.held() == []
    scene.server(0).silent = False
    scene.wait(35)
    assert scene.held() == [relay_key(0)]


def test_a_lost_relay_that_answers_somebody_else_is_asked_at_once() -> None:
    scene = Scene(relays=1)
    scene.wait(10)
    scene.server(0).silent = True
    scene.wait(100)
    scene.server(0).silent = False
    ping = Ping(0, 0, 0, bytes(8))
    scene.do(lambda now: scene.requests.start(relay_key(0), [Path(0, relay_address(0))], ping, now))
    scene.wait(0.1)
    assert scene.held() == [relay_key(0)]


def test_a_new_mapping_that_a_pong_shows_is_told_to_the_relay(scene: Scene) -> None:
    server = scene.server(0)
    before = server.asked(Reserve)
    server.observed = pack("203.0.113.9", 50002)
    scene.wait(20)
    assert server.asked(Reserve) == before + 1
    scene.wait(100)
    assert server.asked(Reserve) == before + 1


def test_a_relay_that_relays_no_more_is_asked_and_replaced(scene: Scene) -> None:
    server = scene.server(0)
    server.capabilities = int(Capability.SERVER)
    server.reserve = lambda request: Reserved(request, RelayStatus.REFUSED)
    scene.wait(20)
    assert relay_key(0) not in scene.held()
    assert len(scene.held()) == 3


def test_a_relay_that_is_not_sure_of_itself_keeps_whom_it_has(scene: Scene) -> None:
    scene.server(0).capabilities = 0
    scene.wait(60)
    assert relay_key(0) in scene.held()


def test_addresses_of_ours_that_change_are_told_to_all_relays(scene: Scene) -> None:
    before = scene.server(0).asked(Reserve)
    scene.do(scene.client.local_changed)
    assert scene.server(0).asked(Reserve) == before + 1
