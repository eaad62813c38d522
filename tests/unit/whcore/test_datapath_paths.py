"""Paths of the data plane over loopback: two at a time, silence, relay channels, path MTU, ECN."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial

import pytest
from loopback_planes import DEADLINE_S, Node, bound, ipv4, wire

from whcore import datapath as core
from whcore.channels import encode_channel
from whcore.errors import SystemFailure

IP_DONT_FRAGMENT = 0x4000
SILENCE_NS = 50_000_000
SPLIT_SILENCE_NS = 800_000_000
"""Longer than it takes to send all FLOWS, on a busy machine too."""


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node, Node]]:
    """Two managed peers of each other, connected, and a third that relays."""
    a, b, relay = Node("10.0.0.1"), Node("10.0.0.2"), Node("10.0.0.3")
    try:
        a.knows(b, managed=True)
        b.knows(a, managed=True)
        packet = a.emit(b, b"first")
        assert b.tun.recv(2000) == packet
        yield a, b, relay
    finally:
        for node in (a, b, relay):
            node.close()


def second_socket(node: Node) -> int:
    return second_place(node)[0]


def second_place(node: Node) -> tuple[int, bytes]:
    """Another socket of a node, and its address."""
    udp = bound(socket.AF_INET, "127.0.0.1")
    address = wire("127.0.0.1", udp.getsockname()[1])
    return node.plane.add_socket(udp.detach()), address


@pytest.fixture
def dead() -> Iterator[bytes]:
    """An address that takes everything and never answers."""
    with bound(socket.AF_INET, "127.0.0.1") as nowhere:
        yield wire("127.0.0.1", nowhere.getsockname()[1])


def received(node: Node, n: int) -> list[bytes]:
    return [node.tun.recv(2000) for _ in range(n)]


def test_duplicated_packets_arrive_once(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    paths = [(a.socket, b.remote), (second_socket(a), b.remote)]
    a.plane.set_paths(b.key, paths, mode=core.PATHS_DUPLICATE)
    packets = [a.emit(b, os.urandom(8)) for _ in range(20)]
    assert received(b, 20) == packets
    b.until(lambda: b.plane.counters()["drop_replay"] == 20, "the copies are dropped by the replay window")
    assert a.plane.counters()["duplicated"] == 20


def test_flows_are_split_over_two_paths_and_each_stays_on_its_own(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    paths = [(a.socket, b.remote), (second_socket(a), b.remote)]
    a.plane.set_paths(b.key, paths, mode=core.PATHS_SPLIT)
    for flow in FLOWS:
        a.emit(b, flow)
        b.tun.recv(2000)
    reported = {event[3] for event in b.plane.drain_events() if event[0] == core.EVENT_NEW_PATH}
    assert len(reported) == 1, "some flows came from the second socket, which b was not told of"
    assert a.plane.counters()["duplicated"] == 0


def silent_path(node: Node, peer: Node) -> tuple[object, object]:
    """Socket and remote of the path to the peer that the next event tells of."""
    kind, key, socket_id, remote, channel = node.event(core.EVENT_PATH_SILENT)
    assert (kind, key, channel) == (core.EVENT_PATH_SILENT, peer.key, 0)
    return socket_id, remote


def accounted(node: Node) -> int:
    """Data messages sent, copies apart, as counted after their send."""
    counters = node.plane.counters()
    return counters["tx_data"] - counters["duplicated"]


def test_after_silence_the_second_path_is_used_too(nodes: tuple[Node, Node, Node], dead: bytes) -> None:
    a, b, _ = nodes
    a.plane.set_paths(b.key, [(a.socket, dead), (a.socket, b.remote)], silence_ns=SILENCE_NS)
    a.until(lambda: accounted(a) == 1, "the first packet is accounted for")
    before = accounted(a)
    sent: list[bytes] = []
    b.tun.settimeout(0.02)
    arrived = b""

    def got_through() -> bool:
        nonlocal arrived
        sent.append(a.emit(b, os.urandom(8)))
        try:
            arrived = b.tun.recv(2000)
        except TimeoutError:
            return False
        return True

    a.until(got_through, "a packet arrives over the second path")
    assert arrived in sent[1:], "the first ones went to the dead path alone"
    assert silent_path(a, b) == (a.socket, dead)
    a.until(lambda: accounted(a) == before + len(sent), "every packet and copy is accounted for")
    duplicated = a.plane.counters()["duplicated"]
    a.plane.clear_silence(b.key)
    a.emit(b, b"to the dead path only")
    a.until(lambda: a.plane.counters()["tun_reads"] >= len(sent) + 2, "it was sent")
    assert a.plane.counters()["duplicated"] == duplicated


def udp_header(port: int) -> bytes:
    return struct.pack("!HHHH", port, 53, 8, 0)


FLOWS = [udp_header(port) for port in range(32)]
"""As many as it takes for some to be on each of two paths."""


def emitted(a: Node, b: Node, payload: bytes = b"") -> bool:
    """Emit a packet. Returns whether it went out twice."""
    before, duplicated = accounted(a), a.plane.counters()["duplicated"]
    a.emit(b, payload or os.urandom(8))
    a.until(lambda: accounted(a) == before + 1, "the packet is accounted for")
    return a.plane.counters()["duplicated"] > duplicated


def test_silence_is_told_once_and_without_another_packet(nodes: tuple[Node, Node, Node], dead: bytes) -> None:
    a, b, _ = nodes
    a.plane.set_paths(b.key, [(a.socket, dead), (a.socket, b.remote)], silence_ns=SILENCE_NS)
    for _ in range(2):
        assert not emitted(a, b)
        assert silent_path(a, b) == (a.socket, dead)
        for _ in range(5):
            assert emitted(a, b)
            b.tun.recv(2000)
        assert a.plane.drain_events() == []
        a.plane.clear_silence(b.key)


def test_silence_goes_on_where_a_second_path_comes_to_the_first(
    nodes: tuple[Node, Node, Node], dead: bytes
) -> None:
    a, b, _ = nodes
    a.plane.set_paths(b.key, [(a.socket, dead)], silence_ns=10**12)
    assert not emitted(a, b)
    a.plane.set_paths(b.key, [(a.socket, dead), (a.socket, b.remote)], silence_ns=SILENCE_NS)
    assert silent_path(a, b) == (a.socket, dead)
    assert emitted(a, b)
    a.plane.set_paths(b.key, [(a.socket, b.remote), (a.socket, dead)], silence_ns=SILENCE_NS)
    assert not emitted(a, b), "another first path"


def test_the_packets_of_the_user_are_counted_by_peer(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    assert b.plane.packets_received(a.key) == 1
    for _ in range(3):
        a.emit(b, b"more")
        b.tun.recv(2000)
    assert b.plane.packets_received(a.key) == 4
    assert a.plane.packets_received(b.key) == 0
    with pytest.raises(KeyError):
        a.plane.packets_received(relay.key)


def test_the_silence_of_an_only_path_is_told_too(nodes: tuple[Node, Node, Node], dead: bytes) -> None:
    a, b, _ = nodes
    a.plane.set_paths(b.key, [(a.socket, dead)], silence_ns=SILENCE_NS)
    assert not emitted(a, b)
    assert silent_path(a, b) == (a.socket, dead)
    assert not emitted(a, b)


def test_who_is_answered_in_time_is_not_silent(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    a.plane.set_paths(b.key, [(a.socket, b.remote), (second_socket(a), b.remote)], silence_ns=10**9)
    for _ in range(50):
        assert not emitted(a, b)
        b.tun.recv(2000)
        answer = b.emit(a, b"answer")
        assert a.tun.recv(2000) == answer
    a.plane.set_paths(b.key, [(a.socket, b.remote), (second_socket(a), b.remote)], silence_ns=1)
    assert not emitted(a, b), "the first packet on new paths"
    assert silent_path(a, b) == (a.socket, b.remote)


def test_only_what_comes_on_the_first_path_ends_silence(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    first, remote_of_first = second_place(a)
    a.plane.set_paths(b.key, [(first, b.remote), (a.socket, b.remote)], silence_ns=SILENCE_NS)
    assert not emitted(a, b)
    a.event(core.EVENT_PATH_SILENT)
    for _ in range(3):
        answer = b.emit(a, b"to the second path")
        assert a.tun.recv(2000) == answer
        assert emitted(a, b), "the peer thinks that the first path is dead"
    b.plane.set_path(a.key, (b.socket, remote_of_first))
    answer = b.emit(a, b"to the first path")
    assert a.tun.recv(2000) == answer
    assert not emitted(a, b)
    assert [event for event in a.plane.drain_events() if event[0] == core.EVENT_NEW_PATH] == [], (
        "both are the peer's paths"
    )


Split = tuple[Node, Node, list[tuple[int, bytes]], list[tuple[int, bytes]]]


@pytest.fixture
def split(nodes: tuple[Node, Node, Node]) -> Split:
    """a splits flows over two paths to b; and their paths."""
    a, b, _ = nodes
    second, remote_of_second = second_place(a)
    paths = [(a.socket, b.remote), (second, b.remote)]
    back = [(b.socket, a.remote), (b.socket, remote_of_second)]
    a.plane.set_paths(b.key, paths, mode=core.PATHS_SPLIT, silence_ns=SPLIT_SILENCE_NS)
    return a, b, paths, back


def converse(a: Node, b: Node) -> None:
    for flow in FLOWS:
        for one, other in ((a, b), (b, a)):
            packet = one.emit(other, flow)
            assert other.tun.recv(2000) == packet


def passed(ns: float, since: float) -> bool:
    return time.monotonic() > since + ns / 1e9


def silent_paths(node: Node) -> set[int]:
    """Sockets of those told of."""
    return {event[2] for event in node.plane.drain_events() if event[0] == core.EVENT_PATH_SILENT}


def test_a_second_path_that_the_peer_does_not_split_to_is_not_silent(split: Split) -> None:
    a, b, paths, _ = split
    for _ in range(3):
        converse(a, b)
        answered_at = time.monotonic()
        a.until(partial(passed, 1.2 * SPLIT_SILENCE_NS, answered_at), "silence would have been told")
        assert paths[1][0] not in silent_paths(a)


def test_each_of_two_paths_with_flows_can_fall_silent(split: Split) -> None:
    a, b, paths, back = split
    b.plane.set_paths(a.key, back, mode=core.PATHS_SPLIT)
    converse(a, b)
    told: set[int] = set()
    assert not any(emitted(a, b, flow) for flow in FLOWS)
    received(b, len(FLOWS))
    a.until(lambda: told.update(silent_paths(a)) or told == {paths[0][0], paths[1][0]}, "both are silent")
    assert all(emitted(a, b, flow) for flow in FLOWS)
    received(b, len(FLOWS))
    b.plane.set_path(a.key, back[0])
    answer = b.emit(a, b"on the first")
    assert a.tun.recv(2000) == answer
    twice = [emitted(a, b, flow) for flow in FLOWS]
    assert True in twice, "those of the second, which is silent still"
    assert False in twice, "those of the first"
    received(b, len(FLOWS))
    a.plane.clear_silence(b.key)
    a.plane.drain_events()
    answer = b.emit(a, b"on the first")
    assert a.tun.recv(2000) == answer
    assert not any(emitted(a, b, flow) for flow in FLOWS)
    a.until(lambda: silent_paths(a) == {paths[0][0]}, "the first one alone is silent")


def test_a_handshake_begins_on_both_paths(nodes: tuple[Node, Node, Node], dead: bytes) -> None:
    a, b, _ = nodes
    a.plane.drain_events()
    a.plane.set_paths(b.key, [(a.socket, dead), (a.socket, b.remote)], silence_ns=10**9)
    a.plane.rekey(b.key)
    assert a.event(core.EVENT_HANDSHAKE) == (core.EVENT_HANDSHAKE, b.key)


@pytest.mark.parametrize("changes", ["socket", "address family"])
def test_paths_that_cannot_be_are_refused_and_change_nothing(
    nodes: tuple[Node, Node, Node], changes: str
) -> None:
    a, b, _ = nodes
    bad = (7, b.remote) if changes == "socket" else (a.socket, bytes(15) + b"\x01\x00\x01")
    with pytest.raises(ValueError, match="path"):
        a.plane.set_paths(b.key, [(a.socket, b.remote), bad])
    packet = a.emit(b, b"as before")
    assert b.tun.recv(2000) == packet


def through_relay(a: Node, b: Node, relay: Node, **limits: int) -> tuple[int, int]:
    legs = relay.plane.relay_open((relay.socket, a.remote), (relay.socket, b.remote), **limits)
    a.plane.set_path(b.key, (a.socket, relay.remote, legs[0]))
    b.plane.set_path(a.key, (b.socket, relay.remote, legs[1]))
    return legs


def test_packets_cross_a_relay_both_ways(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    legs = through_relay(a, b, relay)
    for _ in range(5):
        packet = a.emit(b, os.urandom(1000))
        assert b.tun.recv(2000) == packet
        packet = b.emit(a, os.urandom(1000))
        assert a.tun.recv(2000) == packet
    assert b.plane.peers()[0].path == (b.socket, relay.remote)
    status = relay.plane.relay_status(legs[1])
    assert status.legs == legs
    assert status.proved
    assert status.packets == (5, 5)
    assert status.drops == 0
    assert relay.plane.counters()["forwarded"] == 10


def test_a_handshake_crosses_a_relay(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    through_relay(a, b, relay)
    a.plane.drain_events()
    a.plane.rekey(b.key)
    assert a.event(core.EVENT_HANDSHAKE) == (core.EVENT_HANDSHAKE, b.key)
    packet = b.emit(a, b"with the new keys")
    assert a.tun.recv(2000) == packet


def test_a_handshake_that_came_out_of_a_channel_is_answered_into_it(
    nodes: tuple[Node, Node, Node],
) -> None:
    a, b, relay = nodes
    legs = relay.plane.relay_open((relay.socket, a.remote), (relay.socket, b.remote))
    a.plane.set_path(b.key, (a.socket, relay.remote, legs[0]))
    a.plane.drain_events()
    b.plane.drain_events()
    a.plane.rekey(b.key)
    assert a.event(core.EVENT_HANDSHAKE) == (core.EVENT_HANDSHAKE, b.key)
    assert b.event(core.EVENT_NEW_PATH) == (core.EVENT_NEW_PATH, a.key, b.socket, relay.remote, legs[1])
    assert relay.plane.relay_status(legs[0]).packets[1] == 1
    assert b.plane.peers()[0].path == (b.socket, a.remote)


def test_control_datagrams_of_the_largest_size_cross_a_relay(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    legs = relay.plane.relay_open((relay.socket, a.remote), (relay.socket, b.remote))
    control = b"\xff\x02\x01\x00" + os.urandom(1196)
    assert a.plane.send_control(a.socket, relay.remote, encode_channel(legs[0], control))
    arrived = b.control()
    assert arrived[:4] == (b.socket, relay.remote, control, legs[1])
    answer = encode_channel(arrived.channel, b"\xff\x02\x02\x00answer")
    assert b.plane.send_control(arrived.socket, arrived.remote, answer, source=arrived.source)
    assert a.control()[:4] == (a.socket, relay.remote, b"\xff\x02\x02\x00answer", legs[0])


FROM_RELAY = 1 << 31


def test_a_channel_inside_a_channel_is_dropped(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    legs = relay.plane.relay_open((relay.socket, a.remote), (relay.socket, b.remote))
    control = b"\xff\x02\x01\x00" + bytes(100)
    for inner in (encode_channel(legs[1], control), encode_channel(legs[1] | FROM_RELAY, control)):
        a.plane.send_control(a.socket, relay.remote, encode_channel(legs[0], inner))
        a.plane.send_control(a.socket, b.remote, encode_channel(legs[1] | FROM_RELAY, inner))
    relay.until(lambda: relay.plane.counters()["drop_forward"] == 2, "the relay forwards neither")
    b.until(lambda: b.plane.counters()["drop_unknown"] == 2, "a client takes neither")
    assert relay.plane.counters()["forwarded"] == 0
    assert b.plane.drain_control() == []


def test_channels_between_relays_make_no_loop(nodes: tuple[Node, Node, Node]) -> None:
    """What a relay sends says so in its header, and no relay forwards that: what comes in goes out once."""
    a, one, two = nodes
    opener, _ = one.plane.relay_open((one.socket, a.remote), (one.socket, two.remote))
    two.plane.relay_open((two.socket, one.remote), (two.socket, one.remote))
    back, _ = one.plane.relay_open((one.socket, two.remote), (one.socket, two.remote))
    control = b"\xff\x02\x01\x00" + bytes(40)
    a.plane.send_control(a.socket, one.remote, encode_channel(opener, control))
    assert two.control()[2] == control
    a.plane.send_control(a.socket, one.remote, encode_channel(back, control))
    one.until(lambda: one.plane.counters()["drop_forward"] == 1, "a channel of others is of no use")
    assert one.plane.counters()["forwarded"] == 1
    assert two.plane.counters()["forwarded"] == two.plane.counters()["drop_forward"] == 0


def test_a_relay_drops_what_is_not_of_its_channel(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    legs = through_relay(a, b, relay)
    channel = b"\xff\x02\x05\x00" + legs[0].to_bytes(4, "little")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(channel + b"from elsewhere", ("127.0.0.1", relay.port))
        stranger.sendto(b"\xff\x02\x05\x00\x01\x00\x00\x00no channel", ("127.0.0.1", relay.port))
    relay.until(lambda: relay.plane.counters()["drop_forward"] == 2, "both are counted")
    assert relay.plane.counters()["forwarded"] == 0


def test_a_channel_follows_a_client_that_moved_and_can_be_closed(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    legs = through_relay(a, b, relay)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    moved = wire("127.0.0.1", udp.getsockname()[1])
    a.plane.set_path(b.key, (a.plane.add_socket(udp.detach()), relay.remote, legs[0]))
    a.emit(b, b"not yet")
    relay.until(lambda: relay.plane.counters()["drop_forward"] == 1, "the new address is unknown")
    relay.plane.relay_move(legs[0], (relay.socket, moved))
    packet = a.emit(b, b"now")
    assert b.tun.recv(2000) == packet
    relay.plane.relay_close(legs[1])
    with pytest.raises(KeyError):
        relay.plane.relay_status(legs[0])
    assert relay.plane.relay_expire(0) == []


def test_silent_channels_are_ended_and_named(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    used = through_relay(a, b, relay)
    unused = relay.plane.relay_open((relay.socket, a.remote), (relay.socket, b.remote))
    packet = b.emit(a, b"from the target")
    assert a.tun.recv(2000) == packet
    silent_ns = relay.plane.relay_status(used[0]).silent_ns
    assert 0 <= silent_ns[1] < silent_ns[0], "the opener has sent nothing since it was opened"
    assert relay.plane.relay_expire(3600 * 10**9) == []
    assert sorted(relay.plane.relay_expire(0)) == sorted([used, unused])
    assert relay.plane.relay_expire(0) == []


def test_relay_limits_hold(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    through_relay(a, b, relay, quota=1200)
    packet = b.emit(a, os.urandom(500))
    assert a.tun.recv(2000) == packet
    a.emit(b, os.urandom(1000))
    relay.until(lambda: relay.plane.counters()["drop_forward"] == 1, "over the quota")
    with pytest.raises(SystemFailure):
        for _ in range(5000):
            relay.plane.relay_open((relay.socket, a.remote), (relay.socket, b.remote))


def with_dont_fragment(packet: bytes) -> bytes:
    return packet[:6] + struct.pack("!H", IP_DONT_FRAGMENT) + packet[8:]


def test_a_packet_over_the_path_mtu_is_answered_with_icmp(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    a.plane.set_path(b.key, (a.socket, b.remote, 0, 1280))
    limit = (1280 - 20 - 8 - 32) // 16 * 16
    fits = with_dont_fragment(ipv4(a.address, b.address, bytes(limit - 20)))
    a.tun.send(fits)
    assert b.tun.recv(2000) == fits
    too_long = with_dont_fragment(ipv4(a.address, b.address, bytes(limit - 19)))
    a.tun.send(too_long)
    answer = a.tun.recv(2000)
    assert answer[9] == 1, "ICMP"
    assert answer[12:20] == too_long[16:20] + too_long[12:16]
    assert answer[20:22] == b"\x03\x04", "fragmentation needed"
    assert int.from_bytes(answer[26:28], "big") == limit
    assert answer[28:] == too_long[: len(answer) - 28]
    assert ones_sum(answer[:20]) == ones_sum(answer[20:]) == 0xFFFF


def test_of_two_paths_the_narrower_sets_the_limit(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    paths = [(a.socket, b.remote, 0, 1500), (a.socket, relay.remote, 7, 1300)]
    a.plane.set_paths(b.key, paths, silence_ns=10**9)
    a.tun.send(with_dont_fragment(ipv4(a.address, b.address, bytes(1400))))
    limit = (1300 - 20 - 8 - 8 - 32) // 16 * 16
    assert int.from_bytes(a.tun.recv(2000)[26:28], "big") == limit


def test_ipv6_is_answered_with_packet_too_big(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    destination = bytes(15) + b"\x02"
    a.plane.add_allowed_ip(b.key, destination, 128)
    a.plane.set_path(b.key, (a.socket, b.remote, 0, 1400))
    header = struct.pack("!IHBB", 6 << 28, 1400 - 40, 59, 64) + bytes(15) + b"\x01" + destination
    a.tun.send(header + bytes(1400 - 40))
    answer = a.tun.recv(2000)
    assert answer[40] == 2, "packet too big"
    assert int.from_bytes(answer[44:48], "big") == (1400 - 20 - 8 - 32) // 16 * 16
    pseudo = answer[8:40] + struct.pack("!II", len(answer) - 40, 58)
    assert ones_sum(pseudo + answer[40:]) == 0xFFFF


def ones_sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [(0, 0, 0), (1, 0, 1), (2, 0, 2), (2, 3, 3), (1, 3, 3), (2, 1, 1), (3, 0, 3), (3, 1, 3), (0, 3, None)],
)
def test_congestion_marks_cross_the_tunnel_as_rfc_6040_says(
    nodes: tuple[Node, Node, Node], inner: int, outer: int, expected: int | None
) -> None:
    """The outer mark is set by a wire between the two: a socket that repeats what it hears."""
    a, b, _ = nodes
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire_end:
        wire_end.bind(("127.0.0.1", 0))
        wire_end.settimeout(DEADLINE_S)
        a.plane.set_path(b.key, (a.socket, wire("127.0.0.1", wire_end.getsockname()[1])))
        packet = bytearray(ipv4(a.address, b.address, b"marked"))
        packet[1] = inner
        packet[10:12] = (0xFFFF - ones_sum(bytes(packet[:20]))).to_bytes(2, "big")
        a.tun.send(packet)
        datagram = wire_end.recv(2000)
        wire_end.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, outer)
        wire_end.sendto(datagram, ("127.0.0.1", b.port))
    if expected is None:
        b.until(lambda: b.plane.counters()["drop_ecn"] == 1, "a mark that cannot be carried drops the packet")
        return
    arrived = b.tun.recv(2000)
    assert arrived[1] == expected
    assert ones_sum(arrived[:20]) == 0xFFFF


def test_data_leaves_from_where_the_peer_writes_to_unless_that_is_refused(
    nodes: tuple[Node, Node, Node],
) -> None:
    a, b, _ = nodes

    def hear() -> None:
        packet = b.emit(a, b"hello")
        assert a.tun.recv(2000) == packet

    hear()
    ((key, remote, source),) = a.plane.sources()
    assert (key, remote, source[:16]) == (b.key, b.remote, wire("127.0.0.1", 0)[:16])
    a.plane.set_paths(b.key, [(second_socket(a), b.remote), (a.socket, b.remote, 0, 1400)])
    assert a.plane.sources() == [(key, remote, source)], "a decision about paths is none about that"
    a.plane.refuse_sources(b.key, [source])
    for _ in range(3):
        hear()
        assert a.plane.sources() == [], "although b writes there"
    packet = a.emit(b, b"from anywhere")
    assert b.tun.recv(2000) == packet
    a.plane.set_paths(b.key, [(a.socket, b.remote)])
    hear()
    assert a.plane.sources() == [], "nor of what is refused"
    a.plane.refuse_sources(b.key, [])
    hear()
    assert a.plane.sources() == [(b.key, b.remote, source)]
    a.plane.forget_sources(b.key)
    assert a.plane.sources() == []
    hear()
    assert len(a.plane.sources()) == 1
    for refused in ([b"short"], [source] * 3):
        with pytest.raises(ValueError, match="source|two paths"):
            a.plane.refuse_sources(b.key, refused)
    with pytest.raises(KeyError):
        a.plane.refuse_sources(bytes(32), [])
