"""A mapping that a gateway gave is published once a KNOCK came through it, and not before or longer."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from engine_parts import OWN_KEY, at

from wh.config.model import Network
from wh.engine.commands import Command, Knock, Send
from wh.engine.events import (
    Key,
    KnockReceived,
    LocalAddresses,
    MappingsChanged,
    MessageReceived,
    NetworkLoaded,
    Path,
    PortMapping,
    ReplyToken,
    SessionOpened,
    Woke,
)
from wh.nat.mapped_ports import ATTEMPTS, MappedPorts
from wh.node.node import Node
from wh.wire.address import Address, pack, to_text
from wh.wire.messages import Capability, Find, Message, Nodes, Ping, PingWant, Pong

INSIDE = pack("192.168.1.2", 4000)
OBSERVED = pack("203.0.113.9", 4000)
STRANGER = pack("100.64.0.1", 9)
MAPPED_PORT = 14000
MAPPED = pack("203.0.113.9", MAPPED_PORT)
SERVERS = {bytes((number,)) + bytes(30) + b"\x01": pack(f"198.{number}.0.1", 62096) for number in (1, 2)}
MAPPING = PortMapping("udp", 4000, MAPPED)


class World:
    """A node behind a NAT, and two servers that answer each PING at once."""

    def __init__(self, mode: str = "unknown", observed: Address = OBSERVED) -> None:
        self.observed = observed
        self.wishes: list[Ping] = []
        self.knocks: list[Knock] = []
        self.seconds = 0.0
        self.node = Node(
            OWN_KEY, rng=random.Random(1), sign=lambda _: bytes(64), verify=lambda *_: True, mode=mode
        )
        self.handle(LocalAddresses(((0, 4), (1, 6)), (INSIDE,)))
        self.handle(NetworkLoaded(Network()))
        for key, address in SERVERS.items():
            self.handle(SessionOpened(key, Path(0, address), False))
            self.receive(key, Ping(1, 0, 0, bytes(8), Capability.SERVER))

    def handle(self, *events: object) -> None:
        for event in events:
            self.react(self.node.handle(event, at(self.seconds)))  # type: ignore[arg-type]

    def receive(self, key: Key, message: Message) -> None:
        path = Path(0, SERVERS[key])
        self.handle(MessageReceived(key, path, message, ReplyToken(key, path, None), False, 1000))

    def react(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Knock():
                    self.knocks.append(command)
                case Send(peer, _, Ping(request_id=number, want=want, nonce=nonce) as ping):
                    if want == PingWant.DIALBACK:
                        self.wishes.append(ping)
                    self.receive(peer, Pong(number, self.observed, Capability.SERVER, 0, 0, nonce))
                case Send(peer, _, Find(request_id=number)):
                    self.receive(peer, Nodes(number, b"token", ()))

    def run_to(self, seconds: float) -> None:
        while (when := self.node.next_deadline()) is not None and when <= at(seconds).monotonic:
            self.seconds = max(self.seconds, when - at(0).monotonic)
            self.react(self.node.tick(at(self.seconds)))

    def knock(self, wish: Ping, source: Address = STRANGER) -> None:
        self.handle(KnockReceived(source, wish.nonce))

    def published(self) -> dict[str, bool]:
        return {to_text(each.endpoint): each.confirmed for each in self.node.snapshot().candidates}

    def wish_for(self, port: int) -> Ping:
        return next(wish for wish in reversed(self.wishes) if wish.port == port)


@pytest.fixture
def world() -> World:
    return World()


def test_a_mapping_is_published_once_a_knock_came_through_it(world: World) -> None:
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(2)
    assert to_text(MAPPED) not in world.published()
    world.knock(world.wish_for(MAPPED_PORT))
    assert world.published()[to_text(MAPPED)]
    assert world.node.snapshot().server


def test_a_mapping_that_no_knock_passes_is_never_published(world: World) -> None:
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(400)
    assert to_text(MAPPED) not in world.published()
    assert not world.node.snapshot().server


def test_a_new_mapping_is_tried_several_times_within_seconds(world: World) -> None:
    world.run_to(5)
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(30)
    assert sum(wish.port == MAPPED_PORT for wish in world.wishes) >= ATTEMPTS


def test_a_knock_from_a_server_that_we_write_to_proves_a_port_that_only_the_mapping_opens(
    world: World,
) -> None:
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(2)
    (server, *_) = SERVERS.values()
    world.knock(world.wish_for(0), server)
    assert not world.node.snapshot().server
    world.knock(world.wish_for(MAPPED_PORT), server)
    assert world.published()[to_text(MAPPED)]


def test_such_a_knock_proves_nothing_where_our_own_packets_use_that_port_too(world: World) -> None:
    world.handle(MappingsChanged((PortMapping("udp", 4000, OBSERVED),)))
    world.run_to(2)
    (server, *_) = SERVERS.values()
    first, second = world.wishes
    world.knock(first, server)
    assert not world.node.snapshot().server
    world.knock(second)
    assert world.node.snapshot().server


def test_a_mapping_that_is_gone_is_not_published_any_more(world: World) -> None:
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(2)
    world.knock(world.wish_for(MAPPED_PORT))
    world.handle(MappingsChanged(()))
    assert to_text(MAPPED) not in world.published()
    assert not world.node.snapshot().server
    world.handle(MappingsChanged((MAPPING,)))
    assert to_text(MAPPED) not in world.published()


@pytest.mark.parametrize("claimed", ["10.0.0.1", "100.64.7.7", "192.168.0.1", "8.8.8.8", "127.0.0.1"])
def test_a_gateway_that_names_a_wrong_address_cannot_have_it_published(world: World, claimed: str) -> None:
    world.handle(MappingsChanged((PortMapping("udp", 4000, pack(claimed, MAPPED_PORT)),)))
    world.run_to(2)
    world.knock(world.wish_for(MAPPED_PORT))
    assert not [address for address in world.published() if address.startswith(claimed)]
    assert world.published()[to_text(MAPPED)]


def test_mappings_of_tcp_ports_say_nothing_about_udp(world: World) -> None:
    world.handle(MappingsChanged((PortMapping("tcp", 4000, MAPPED),)))
    world.run_to(30)
    assert {wish.port for wish in world.wishes} == {0}


def test_others_are_told_the_tcp_port_that_a_gateway_maps() -> None:
    ports = MappedPorts()
    assert ports.outer_tcp_port(443, 4) == 443
    ports.set([PortMapping("tcp", 443, pack("203.0.113.5", 8443)), PortMapping("udp", 443, MAPPED)])
    assert (ports.outer_tcp_port(443, 4), ports.outer_tcp_port(443, 6)) == (8443, 443)
    assert ports.outer_tcp_port(80, 4) == 80


def test_declared_nodes_have_their_mappings_tried_too() -> None:
    world = World("nat")
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(30)
    assert {wish.port for wish in world.wishes} == {MAPPED_PORT}
    world.knock(world.wishes[0])
    assert world.published()[to_text(MAPPED)]
    assert not world.node.snapshot().server


def test_another_public_address_needs_a_new_proof(world: World) -> None:
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(2)
    world.knock(world.wish_for(MAPPED_PORT))
    world.observed = pack("203.0.113.77", 4000)
    world.run_to(600)
    assert not [address for address in world.published() if address.endswith(f":{MAPPED_PORT}")]
    world.knock(world.wish_for(MAPPED_PORT))
    assert world.published()[f"203.0.113.77:{MAPPED_PORT}"]


def test_the_proof_outlives_a_moved_translation_of_the_same_address(world: World) -> None:
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(2)
    world.knock(world.wish_for(MAPPED_PORT))
    world.observed = pack("203.0.113.9", 5555)
    world.run_to(600)
    assert world.published()[to_text(MAPPED)]


def test_after_a_sleep_everything_is_proved_again(world: World) -> None:
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(2)
    world.knock(world.wish_for(MAPPED_PORT))
    count = len(world.wishes)
    world.handle(Woke())
    assert not world.node.snapshot().server
    world.run_to(20)
    assert len(world.wishes) > count
    world.knock(world.wish_for(MAPPED_PORT))
    assert world.published()[to_text(MAPPED)]


def test_a_server_without_a_third_node_knocks_itself_but_only_at_another_port() -> None:
    node = Node(
        OWN_KEY, rng=random.Random(1), sign=lambda _: bytes(64), verify=lambda *_: True, mode="direct"
    )
    node.handle(LocalAddresses(((0, 4),), (pack("192.0.2.1", 62096),)), at(0))
    node.handle(NetworkLoaded(Network()), at(0))
    asker, path = bytes(31) + b"\x05", Path(0, OBSERVED)
    token = ReplyToken(asker, path, None)
    for seconds, port, knocks in ((0, 0, []), (10, MAPPED_PORT, [Knock(0, MAPPED, b"12345678")])):
        node.handle(SessionOpened(asker, path, False), at(seconds))
        wish = Ping(1, PingWant.DIALBACK, port, b"12345678")
        commands = node.handle(MessageReceived(asker, path, wish, token, False, 1000), at(seconds))
        assert [each for each in commands if isinstance(each, Knock)] == knocks


def test_targets_take_turns_and_the_table_of_them_is_bounded() -> None:
    ports = MappedPorts()
    targets = [pack("203.0.113.9", port) for port in (1, 2, 3)]
    turns = [ports.next_target(targets, float(when)) for when in range(6)]
    assert turns == targets * 2
    for port in range(1, 1000):
        ports.next_target([pack("203.0.113.9", port)], 10.0)
    assert len(ports._asked) <= 32
    assert ports.next_target([], 11.0) is None


def own_knocks(world: World) -> list[Knock]:
    return [knock for knock in world.knocks if knock.to == OBSERVED]


def test_hairpinning_is_found_out_by_knocking_at_our_own_door(world: World) -> None:
    world.run_to(2)
    assert world.node.surroundings().hairpinning is None
    (knock,) = own_knocks(world)
    world.handle(KnockReceived(OBSERVED, knock.nonce))
    assert world.node.surroundings().hairpinning is True
    assert not world.node.snapshot().server  # which proves nothing else
    world.run_to(10)
    assert world.node.surroundings().hairpinning is True


def test_a_nat_that_sends_nothing_back_does_not_hairpin(world: World) -> None:
    world.run_to(10)
    assert world.node.surroundings().hairpinning is False
    world.handle(KnockReceived(OBSERVED, own_knocks(world)[0].nonce))
    assert world.node.surroundings().hairpinning is False
    world.handle(Woke())
    assert world.node.surroundings().hairpinning is None


def test_a_node_without_translation_knocks_nowhere() -> None:
    world = World(observed=INSIDE)
    world.run_to(10)
    assert world.knocks == []


def test_the_surroundings_name_proved_mappings_only(world: World) -> None:
    world.handle(MappingsChanged((MAPPING,)))
    world.run_to(2)
    assert world.node.surroundings().proved_mappings == ()
    world.knock(world.wish_for(MAPPED_PORT))
    assert world.node.surroundings().proved_mappings == (MAPPED,)
