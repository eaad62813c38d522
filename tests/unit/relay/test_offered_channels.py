"""Channels that others open to a client: members' and guests', and no more of them than it wants."""

from __future__ import annotations

from client_of_relays import (
    NETWORK,
    OTHER_PEER,
    PEER,
    SEEN_AT,
    STRANGER,
    FakeServer,
    Scene,
    relay_address,
    relay_key,
)
from engine_parts import received

from wh.config.model import Network, Peer, PeerKind
from wh.engine.commands import AdmitChannel, Command, DismissChannel, Reply, Send
from wh.engine.events import Path
from wh.relay.choosing import Channel
from wh.relay.reserver import (
    GUEST_S,
    GUESTS_OF_RELAY,
    OFFERS_BURST,
)
from wh.wire.address import pack
from wh.wire.messages import (
    Close,
    CloseReason,
    Message,
    Open,
    Opened,
    RelayStatus,
    Reserved,
)


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
