from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from engine_parts import OWN_KEY, Driver, at, received

from wh.config.model import Network, Peer, PeerKind
from wh.dht.kademlia import Kademlia
from wh.engine.commands import AdmitChannel, Command, DismissChannel, Reply, ResetSession, Send
from wh.engine.events import Instant, Key, LocalAddresses, Path
from wh.relay.backoff import ENTRIES_MAX, Backoff
from wh.relay.choosing import SAMPLE, Channel, Offer, choose_relays
from wh.relay.link import PROBE_IN_USE_S
from wh.relay.reservations import SETTLE_S
from wh.relay.reserver import (
    BARRED_S,
    GUEST_S,
    GUESTS_OF_RELAY,
    OFFERS_BURST,
    OPEN_AGAIN_S,
    RelayClient,
)
from wh.wire.address import Address, pack
from wh.wire.messages import (
    Capability,
    Close,
    CloseReason,
    Contact,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    RelayStatus,
    Reserve,
    Reserved,
)
from wh.wire.records import Relay

PEER, OTHER_PEER = bytes((0x11, 1)) + bytes(30), bytes((0x11, 2)) + bytes(30)
STRANGER = bytes((0x12,)) + bytes(31)
MEMBER_RELAY = bytes((0x11, 3)) + bytes(30)
NETWORK = Network(peers=tuple(Peer(PeerKind.TRUST, key) for key in (PEER, OTHER_PEER, MEMBER_RELAY)))
SEEN_AT = pack("203.0.113.9", 40001)


def relay_key(number: int) -> Key:
    return bytes((0x22, number)) + bytes(30)


def relay_address(number: int) -> Address:
    """Each in a /16 of its own."""
    return pack(f"20.{number + 1}.0.1", 62096)


@dataclass
class FakeServer:
    """A relay that answers at once."""

    address: Address
    observed: Address = SEEN_AT
    silent: bool = False
    capabilities: int = 3
    reserve: Callable[[int], Reserved] = lambda request: Reserved(request, RelayStatus.OK, 3600)
    open_status: int = RelayStatus.OK
    legs: dict[Key, int] = field(default_factory=dict)  # peer -> our leg
    next_leg: int = 100
    heard: list[Message] = field(default_factory=list)

    def answer(self, message: Message) -> Message | None:
        self.heard.append(message)
        match message:
            case _ if self.silent:
                return None
            case Ping(request_id=request, nonce=nonce):
                return Pong(request, self.observed, self.capabilities, 0, 0, nonce)
            case Reserve(request_id=request):
                return self.reserve(request)
            case Open(request_id=request, peer=peer) if self.open_status == RelayStatus.OK:
                return Opened(request, RelayStatus.OK, self.leg_to(peer), peer, SEEN_AT)
            case Open(request_id=request):
                return Opened(request, self.open_status)
        return None

    def leg_to(self, peer: Key) -> int:
        if peer not in self.legs:
            self.next_leg += 1
            self.legs[peer] = self.next_leg
        return self.legs[peer]

    def asked(self, kind: type[Message]) -> int:
        return sum(isinstance(message, kind) for message in self.heard)


class Scene(Driver):
    """A client behind a NAT, and relays in its routing table."""

    def __init__(self, relays: int = 5, network: Network = NETWORK) -> None:
        super().__init__()
        self.proved = False
        self.welcome = False
        self.translated: bool | None = True
        self.servers: dict[Key, FakeServer] = {}
        self.events: list[tuple[object, ...]] = []
        self.short_at: list[float] = []
        self.kademlia = Kademlia.of(self.engine, lambda message: bytes(64), lambda *arguments: True)
        self.client = RelayClient(
            self.engine,
            self.requests,
            self.kademlia,
            self,
            opened=lambda channel, now: self.events.append(("opened", channel)),
            closed=lambda peer, path, now: self.events.append(("closed", peer, path)),
            failed=lambda peer, now: self.events.append(("failed", peer)),
            changed=lambda now: self.events.append(("changed",)),
            short=lambda now: self.short_at.append(now.monotonic - at(0).monotonic),
            welcome=lambda now: self.welcome,
        )
        self.now = 0.0
        for number in range(relays):
            self.add_server(relay_key(number), relay_address(number), srtt=0.01 * (number + 1))
        self.do(lambda now: self.client.set_network(network, now))

    def add_server(self, key: Key, address: Address, srtt: float | None = None, flags: int = 3) -> FakeServer:
        self.servers[key] = FakeServer(address)
        self.kademlia.table.add(Contact(key, address, flags), at(self.now).monotonic)
        contact = self.kademlia.table.get(key)
        if contact is not None:
            contact.rtt = self.engine.peers.obtain(key).round_trip
            if srtt is not None:
                contact.rtt.add_sample(srtt)
        return self.servers[key]

    def server(self, number: int) -> FakeServer:
        return self.servers[relay_key(number)]

    def do(self, action: Callable[[Instant], None]) -> list[Command]:
        action(at(self.now))
        return self.settle(self.take(self.now))

    def settle(self, commands: list[Command]) -> list[Command]:
        """Let the servers answer what was sent, and what that leads to."""
        done: list[Command] = []
        while commands:
            done += commands
            for command in commands:
                self._carry_out(command)
            commands = self.take(self.now)
        return done

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, ResetSession):
            self.engine.peers.obtain(command.peer).session_lost()
        if not isinstance(command, Send):
            return
        server = self.servers[command.peer]
        answer = server.answer(command.message) if command.path.remote == server.address else None
        if answer is not None:
            self._session(command.peer)
            event = received(answer, command.path, peer=command.peer)
            self.requests.take_answer(event, at(self.now))

    def _session(self, key: Key) -> None:
        peer = self.engine.peers.obtain(key)
        peer.unanswered = 0
        if not peer.session:
            peer.session = True
            self.client.session_opened(key, at(self.now))

    def hear(self, key: Key, message: Message, path: Path | None = None) -> list[Command]:
        event = received(message, path or Path(0, self.servers[key].address), peer=key)
        if isinstance(message, Opened):
            return self.do(lambda now: self.client.offered(event, message, now))
        assert isinstance(message, Close)
        return self.do(lambda now: self.client.closed_by(event, message, now))

    def wait(self, seconds: float) -> None:
        """Timers run at their times, and servers answer."""
        end = self.now + seconds
        while (when := self.engine.timers.next_deadline()) is not None and when <= at(end).monotonic:
            self.now = max(self.now, when - at(0).monotonic + 1e-9)
            self.engine.timers.run_due(at(self.now))
            self.settle(self.take(self.now))
        self.now = end

    def held(self) -> list[Key]:
        return [relay.key for relay in self.client.relays]

    def opened(self) -> list[Channel]:
        return [event[1] for event in self.events if event[0] == "opened"]  # type: ignore[misc]

    def open(self, *numbers: int, peer: Key = PEER, rtt_ms: int = 10) -> None:
        relays = [Relay(relay_key(number), relay_address(number), rtt_ms) for number in numbers]
        self.do(lambda now: self.client.open(peer, relays, now))

    def offer(self, number: int, peer: Key = PEER, leg: int = 77) -> list[Command]:
        """As a relay does, which tells no address before both have asked."""
        self.server(number).legs[peer] = leg
        return self.hear(relay_key(number), Opened(0, RelayStatus.OK, leg, peer))


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.wait(1)
    return scene


# Which relays


def offers(*rtts: float | None, member: bool = False, start: int = 0) -> list[Offer]:
    return [
        Offer(relay_key(number), Path(0, relay_address(number)), rtt, member)
        for number, rtt in enumerate(rtts, start)
    ]


def keys(chosen: list[Offer]) -> list[int]:
    return [offer.key[1] for offer in chosen]


def test_the_nearest_are_chosen(scene: Scene) -> None:
    assert keys(choose_relays(offers(0.3, 0.1, None, 0.05), [], 3, scene.engine.rng)) == [3, 1, 2]


def test_members_come_first_however_far(scene: Scene) -> None:
    every = [*offers(0.01, 0.02, 0.03), *offers(0.5, member=True, start=3)]
    assert keys(choose_relays(every, [], 3, scene.engine.rng)) == [3, 0, 1]


def test_each_network_gives_one_relay_where_there_are_others(scene: Scene) -> None:
    same = [Offer(relay_key(number), Path(0, pack(f"20.9.0.{number}", 1)), 0.01, False) for number in (7, 8)]
    every = [*same, *offers(0.5, 0.6)]
    assert keys(choose_relays(every, [], 3, scene.engine.rng)) == [7, 0, 1]
    assert keys(choose_relays(every, [pack("20.9.0.1", 1)], 2, scene.engine.rng)) == [0, 1]
    assert sorted(keys(choose_relays(same, [], 3, scene.engine.rng))) == [7, 8]


def test_only_eight_random_ones_are_compared(scene: Scene) -> None:
    chosen = {
        tuple(keys(choose_relays(offers(*([0.1] * 4 * SAMPLE)), [], 3, scene.engine.rng))) for _ in range(50)
    }
    assert len(chosen) > 10
    assert choose_relays([], [], 3, scene.engine.rng) == []


def test_failures_make_pauses_longer() -> None:
    backoff = Backoff((1.0, 5.0, 30.0))
    for pause in (1.0, 5.0, 30.0, 30.0):
        backoff.failed("a", 0.0)
        assert not backoff.may_try("a", pause - 0.1)
        assert backoff.may_try("a", pause)
    backoff.succeeded("a")
    assert backoff.may_try("a", 0.0)
    assert "a" not in backoff
    for number in range(2 * ENTRIES_MAX):
        backoff.failed(number, 0.0)
    assert len(backoff) == ENTRIES_MAX


# Reservations


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


# Opening channels


def test_a_channel_is_opened_at_the_nearest_relay_of_the_peer(scene: Scene) -> None:
    scene.open(4, 1, 3)
    (channel,) = scene.opened()
    leg = scene.server(1).legs[PEER]
    assert channel == Channel(Path(0, relay_address(1), leg), relay_key(1), PEER, SEEN_AT, True)
    assert scene.client.channels_to(PEER) == [channel]
    assert AdmitChannel(channel.path) in [command for _, command in scene.log]


def test_what_counts_is_the_whole_way() -> None:
    scene = Scene(relays=5)
    scene.wait(1)
    relays = [Relay(relay_key(0), relay_address(0), 300), Relay(relay_key(4), relay_address(4), 5)]
    scene.do(lambda now: scene.client.open(PEER, relays, now))
    assert [channel.relay for channel in scene.opened()] == [relay_key(4)]


def test_the_second_channel_is_at_another_relay(scene: Scene) -> None:
    scene.open(0, 1)
    scene.open(0, 1)
    scene.open(0, 1)
    scene.wait(1)
    assert [channel.relay for channel in scene.opened()] == [relay_key(0), relay_key(1)]
    assert scene.events[-1] == ("failed", PEER)


def test_a_relay_that_we_have_no_session_with_gets_a_ping_first() -> None:
    scene = Scene(relays=0)
    scene.servers[relay_key(7)] = server = FakeServer(relay_address(7))
    scene.open(7)
    assert [type(message) for message in server.heard][:2] == [Ping, Open]
    assert len(scene.opened()) == 1


def test_a_relay_is_reached_where_we_know_it_if_not_where_the_peer_does(scene: Scene) -> None:
    """The peer may have IPv6, which gets us nowhere."""
    relay = Relay(relay_key(4), pack("2001:db8::4", 62096), 10)
    scene.do(lambda now: scene.client.open(PEER, [relay], now))
    (channel,) = scene.opened()
    assert channel.path[:2] == (0, relay_address(4))


def test_a_session_that_lives_on_another_address_shows_where_the_relay_is() -> None:
    scene = Scene(relays=0)
    key, path = relay_key(7), Path(0, relay_address(7))
    scene.servers[key] = FakeServer(relay_address(7))
    known = scene.engine.peers.obtain(key)
    known.session = True
    known.validate(path, at(0))
    scene.do(lambda now: scene.client.open(PEER, [Relay(key, pack("20.200.0.1", 9))], now))
    (channel,) = scene.opened()
    assert channel.path[:2] == path[:2]


def test_a_refusing_relay_is_passed_over_for_the_next(scene: Scene) -> None:
    scene.server(0).open_status = RelayStatus.UNKNOWN
    scene.open(0, 1)
    assert [channel.relay for channel in scene.opened()] == [relay_key(1)]
    assert ("failed", PEER) not in scene.events


def test_a_silent_relay_is_passed_over_for_the_next() -> None:
    scene = Scene(relays=0)
    for number in (7, 8):
        scene.servers[relay_key(number)] = FakeServer(relay_address(number))
    scene.server(7).silent = True
    scene.open(7, 8)
    scene.wait(2)
    assert [channel.relay for channel in scene.opened()] == [relay_key(8)]


def test_a_refusal_is_not_asked_again_for_a_while(scene: Scene) -> None:
    server = scene.server(0)
    server.open_status = RelayStatus.UNKNOWN
    for _ in range(50):
        scene.open(0)
        scene.wait(0.1)
    assert server.asked(Open) == 1
    assert scene.events.count(("failed", PEER)) == 50
    server.open_status = RelayStatus.OK
    scene.wait(OPEN_AGAIN_S)
    scene.open(0)
    assert len(scene.opened()) == 1


@pytest.mark.parametrize("told_by", ["status", "close"])
def test_where_the_peer_does_not_want_us_we_stay_away(scene: Scene, told_by: str) -> None:
    server = scene.server(0)
    if told_by == "status":
        server.open_status = RelayStatus.BARRED
        scene.open(0)
    else:
        scene.open(0)
        scene.hear(relay_key(0), Close(0, server.legs[PEER], CloseReason.UNWANTED))
    asked = server.asked(Open)
    scene.wait(BARRED_S - 1)
    scene.open(0)
    assert server.asked(Open) == asked
    scene.wait(10)
    scene.open(0)
    assert server.asked(Open) == asked + 1


def test_two_opens_at_one_relay_are_one(scene: Scene) -> None:
    scene.server(0).silent = True
    scene.open(0)
    scene.open(0)
    assert scene.server(0).asked(Open) == 1


@pytest.mark.parametrize(
    "relay",
    [
        Relay(PEER, relay_address(0)),
        Relay(OWN_KEY, relay_address(0)),
        Relay(relay_key(50), pack("10.1.1.1", 9)),
        Relay(relay_key(50), pack("127.0.0.1", 9)),
    ],
)
def test_no_relay_is_used_that_cannot_be_one(relay: Relay) -> None:
    scene = Scene(relays=0)
    scene.do(lambda now: scene.client.open(PEER, [relay], now))
    scene.wait(1)
    assert scene.events == [("failed", PEER)]
    assert scene.send_times() == []


def test_an_answer_about_another_peer_opens_nothing(scene: Scene) -> None:
    scene.server(0).answer = lambda message: Opened(  # type: ignore[method-assign]
        message.request_id, RelayStatus.OK, 5, OTHER_PEER, SEEN_AT
    )
    scene.open(0)
    scene.wait(1)
    assert scene.opened() == []
    assert scene.events[-1] == ("failed", PEER)


# Channels that others open


def test_a_relay_of_ours_may_tell_of_a_channel_that_a_peer_opened(scene: Scene) -> None:
    scene.offer(0)
    (channel,) = scene.opened()
    assert channel == Channel(Path(0, relay_address(0), 77), relay_key(0), PEER, bytes(18), False)
    scene.offer(0)
    assert len(scene.opened()) == 1


def test_the_channel_of_a_member_is_agreed_to_and_so_both_hear_where_the_other_is(scene: Scene) -> None:
    scene.offer(0)
    assert [message.peer for message in scene.server(0).heard if isinstance(message, Open)] == [PEER]
    (channel,) = scene.client.channels_to(PEER)
    assert (channel.observed, channel.opened_by_us) == (SEEN_AT, False)


def test_a_relay_that_did_not_hear_that_we_agree_hears_it_again(scene: Scene) -> None:
    server = scene.server(0)
    honest = server.answer
    server.answer = lambda message: None if isinstance(message, Open) else honest(message)  # type: ignore
    scene.offer(0)
    scene.wait(8)
    server.answer = honest  # type: ignore[method-assign]
    scene.wait(2)
    scene.offer(0)
    assert [channel.observed for channel in scene.client.channels_to(PEER)] == [SEEN_AT]


def test_an_opener_hears_later_where_the_peer_is(scene: Scene) -> None:
    elsewhere = pack("203.0.113.77", 1)
    scene.open(4)  # no reservation there
    (channel,) = scene.opened()
    told = Opened(0, RelayStatus.OK, channel.path.channel, PEER, elsewhere)
    scene.hear(relay_key(4), told, Path(0, pack("20.99.0.1", 1)))
    assert scene.client.channels_to(PEER)[0].observed != elsewhere
    scene.hear(relay_key(4), told)
    assert scene.client.channels_to(PEER)[0].observed == elsewhere
    assert scene.hear(relay_key(4), Opened(0, RelayStatus.OK, 5, PEER, elsewhere)) == []


def test_a_reservation_that_went_to_somebody_else_is_replaced(scene: Scene) -> None:
    key = scene.held()[0]
    event = received(Reserved(0, RelayStatus.FULL), Path(0, scene.servers[key].address), peer=key)
    scene.do(lambda now: scene.client.crowded_out(event, now))
    scene.wait(1)
    assert key not in scene.held()
    assert len(scene.held()) == 3


def test_strangers_do_not_use_up_what_members_may_open(scene: Scene) -> None:
    for number in range(200):
        scene.offer(0, peer=bytes((0x13, number)) + bytes(30), leg=200 + number)
    scene.offer(0)
    assert [channel.peer for channel in scene.opened()] == [PEER]


def test_the_channel_of_a_stranger_is_not_wanted(scene: Scene) -> None:
    commands = scene.offer(0, peer=STRANGER)
    assert [command.message for command in commands if isinstance(command, Send)] == [
        Close(0, 77, CloseReason.UNWANTED)
    ]
    assert scene.opened() == []
    assert not any(isinstance(command, AdmitChannel | Reply) for command in commands)


def closes(commands: list[Command]) -> list[Message]:
    sent = [command.message for command in commands if isinstance(command, Send)]
    return [message for message in sent if isinstance(message, Close)]


def test_where_an_alias_is_open_a_stranger_may_speak_and_no_more(scene: Scene) -> None:
    scene.welcome = True
    commands = scene.offer(0, peer=STRANGER)
    path = Path(0, relay_address(0), 77)
    assert AdmitChannel(path) in commands
    assert scene.opened() == []
    assert closes(scene.offer(0, peer=STRANGER)) == []
    assert scene.server(0).asked(Open) == 0, "nobody tells it where we are"
    scene.wait(GUEST_S - 1)
    assert scene.client.channels_to(STRANGER) != []
    scene.wait(2)
    assert scene.client.channels_to(STRANGER) == []
    assert Close(0, 77, CloseReason.DONE) in scene.server(0).heard


def test_a_guest_that_becomes_a_member_keeps_its_channel(scene: Scene) -> None:
    scene.welcome = True
    scene.offer(0, peer=STRANGER)
    members = (*NETWORK.peers, Peer(PeerKind.TRUST, STRANGER))
    assert closes(scene.do(lambda now: scene.client.set_network(Network(peers=members), now))) == []
    assert [channel.peer for channel in scene.opened()] == [STRANGER]
    scene.wait(GUEST_S + 1)
    assert len(scene.client.channels_to(STRANGER)) == 1


def test_other_guests_stay_when_one_becomes_a_member(scene: Scene) -> None:
    scene.welcome = True
    scene.offer(0, peer=STRANGER)
    assert closes(scene.do(lambda now: scene.client.set_network(NETWORK, now))) == []
    assert len(scene.client.channels_to(STRANGER)) == 1


def test_guests_are_few(scene: Scene) -> None:
    scene.welcome = True
    for number in range(GUESTS_OF_RELAY + 1):
        commands = scene.offer(0, peer=bytes((0x13, number)) + bytes(30), leg=200 + number)
        assert len(closes(commands)) == (number == GUESTS_OF_RELAY)
    assert closes(scene.offer(1, peer=STRANGER)) == [], "each relay has its own"


def test_who_is_no_relay_of_ours_cannot_open_channels(scene: Scene) -> None:
    scene.servers[STRANGER] = FakeServer(pack("20.77.0.1", 1))
    assert scene.hear(STRANGER, Opened(0, RelayStatus.OK, 77, PEER, SEEN_AT)) == []
    assert scene.offer(4) == []  # it relays, but we have no reservation there
    elsewhere = Path(0, pack("20.1.0.2", 62096))
    assert scene.hear(relay_key(0), Opened(0, RelayStatus.OK, 77, PEER, SEEN_AT), elsewhere) == []
    assert scene.hear(relay_key(0), Opened(0, RelayStatus.OK, 0, PEER, SEEN_AT)) == []
    assert scene.hear(relay_key(0), Opened(0, RelayStatus.FULL, 77, PEER, SEEN_AT)) == []
    assert scene.opened() == []


def test_a_relay_cannot_make_us_hold_more_than_one_channel_to_a_peer(scene: Scene) -> None:
    for leg in range(1, 1000):
        scene.offer(0, leg=leg)
    assert len(scene.client.channels_to(PEER)) == 1
    assert len(scene.opened()) == OFFERS_BURST
    admitted = {command.path for _, command in scene.log if isinstance(command, AdmitChannel)}
    dismissed = {command.path for _, command in scene.log if isinstance(command, DismissChannel)}
    assert len(admitted - dismissed) == 1


def test_a_leg_belongs_to_one_peer(scene: Scene) -> None:
    scene.offer(0)
    scene.offer(0, peer=OTHER_PEER)
    path = Path(0, relay_address(0), 77)
    assert ("closed", PEER, path) in scene.events
    assert scene.client.channels_to(PEER) == []
    assert [channel.path for channel in scene.client.channels_to(OTHER_PEER)] == [path]


def test_a_peer_that_is_no_longer_trusted_loses_its_channels(scene: Scene) -> None:
    scene.offer(0)
    commands = scene.do(lambda now: scene.client.set_network(Network(peers=(NETWORK.peers[1],)), now))
    assert DismissChannel(Path(0, relay_address(0), 77)) in commands
    assert scene.client.channels_to(PEER) == []


# Channels end and move


def test_a_channel_that_the_relay_ends_is_gone(scene: Scene) -> None:
    scene.open(0)
    (channel,) = scene.opened()
    commands = scene.hear(relay_key(0), Close(0, channel.path.channel, CloseReason.GONE))
    assert DismissChannel(channel.path) in commands
    assert ("closed", PEER, channel.path) in scene.events
    assert scene.client.channels_to(PEER) == []


def test_nobody_else_ends_it(scene: Scene) -> None:
    scene.open(0)
    (channel,) = scene.opened()
    scene.hear(relay_key(1), Close(0, channel.path.channel))
    scene.servers[STRANGER] = FakeServer(pack("20.77.0.1", 1))
    scene.hear(STRANGER, Close(0, channel.path.channel))
    assert scene.client.channels_to(PEER) == [channel]


def test_a_channel_that_we_close_is_told_to_the_relay_and_not_to_us(scene: Scene) -> None:
    scene.open(0)
    (channel,) = scene.opened()
    commands = scene.do(lambda now: scene.client.close(channel.path, now))
    assert scene.server(0).heard[-1] == Close(0, channel.path.channel, CloseReason.DONE)
    assert DismissChannel(channel.path) in commands
    assert not any(event[0] == "closed" for event in scene.events)


def test_a_relay_where_nothing_is_left_is_not_probed_any_more() -> None:
    scene = Scene(relays=0)
    scene.servers[relay_key(7)] = server = FakeServer(relay_address(7))
    scene.open(7)
    (channel,) = scene.opened()
    scene.do(lambda now: scene.client.close(channel.path, now))
    heard = len(server.heard)
    scene.wait(100)
    assert len(server.heard) == heard


def test_relays_in_use_are_probed_every_two_seconds(scene: Scene) -> None:
    scene.open(0)
    scene.do(lambda now: scene.client.wanted(PEER, True, now))
    used, idle = scene.server(0).asked(Ping), scene.server(1).asked(Ping)
    scene.wait(100)
    assert scene.server(0).asked(Ping) - used in range(45, 51)
    assert scene.server(1).asked(Ping) - idle < 10
    scene.do(lambda now: scene.client.wanted(PEER, False, now))
    used = scene.server(0).asked(Ping)
    scene.wait(100)
    assert scene.server(0).asked(Ping) - used < 10


def test_a_relay_in_use_that_dies_takes_its_channels_along_soon(scene: Scene) -> None:
    scene.open(0)
    scene.do(lambda now: scene.client.wanted(PEER, True, now))
    (channel,) = scene.opened()
    scene.wait(5)
    scene.server(0).silent = True
    scene.wait(PROBE_IN_USE_S + 1.6)
    assert ("closed", PEER, channel.path) in scene.events
    assert DismissChannel(channel.path) in [command for _, command in scene.log]


def test_a_check_tells_the_relay_at_once_where_we_are(scene: Scene) -> None:
    reserves = scene.server(0).asked(Reserve)
    scene.do(lambda now: scene.client.check(relay_key(0), now))
    assert scene.server(0).asked(Reserve) == reserves + 1
    scene.servers[relay_key(7)] = server = FakeServer(relay_address(7))
    scene.open(7)
    opens = server.asked(Open)
    scene.do(lambda now: scene.client.check(relay_key(7), now))
    assert server.asked(Open) == opens + 1
    assert len(scene.opened()) == 1
    scene.do(lambda now: scene.client.check(STRANGER, now))


def test_a_relay_that_restarted_gets_everything_anew(scene: Scene) -> None:
    """It has forgotten the session, the reservation and the channel."""
    scene.open(0)
    (before,) = scene.opened()
    server = scene.server(0)
    server.legs.clear()
    reserves = server.asked(Reserve)
    scene.engine.peers.obtain(relay_key(0)).session_lost()
    scene.wait(20)
    assert server.asked(Reserve) == reserves + 1
    _, after = scene.opened()
    assert after.path.channel == server.legs[PEER] != before.path.channel
    assert ("closed", PEER, before.path) in scene.events


def test_a_new_session_with_a_relay_that_forgot_nothing_changes_nothing(scene: Scene) -> None:
    scene.open(0)
    scene.events.clear()
    scene.engine.peers.obtain(relay_key(0)).session_lost()
    scene.wait(20)
    assert not any(event[0] in ("opened", "closed") for event in scene.events)


def test_a_restarted_relay_that_does_not_know_the_peer_ends_its_channel(scene: Scene) -> None:
    scene.offer(0)
    scene.server(0).open_status = RelayStatus.UNKNOWN
    scene.engine.peers.obtain(relay_key(0)).session_lost()
    scene.wait(20)
    assert ("closed", PEER, Path(0, relay_address(0), 77)) in scene.events


def test_channels_follow_when_another_socket_leads_to_the_relay(scene: Scene) -> None:
    scene.open(0)
    (before,) = scene.opened()
    scene.engine.addressing.set_local(LocalAddresses(((5, 4),), (pack("192.0.2.200", 62096),)))
    commands = scene.do(scene.client.local_changed)
    after = before.at(Path(5, relay_address(0)))
    assert after.path == Path(5, relay_address(0), before.path.channel)
    assert DismissChannel(before.path) in commands
    assert AdmitChannel(after.path) in commands
    assert scene.client.channels_to(PEER) == [after]
    events = [event for event in scene.events if event[0] != "changed"]
    assert events[-2:] == [("closed", PEER, before.path), ("opened", after)]
    assert len(scene.held()) == 3
