"""Packets that the data plane cannot seal as they are: over the path's MTU, or its own."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterator

import pytest
from ip_packets import DONT_FRAGMENT, MORE_FRAGMENTS, TCP, UDP, Packet, complement
from loopback_planes import DEADLINE_S, Node, bound, ipv4, wire

OFFSET = 0x1FFF
PATH_MTU = 1280
LIMIT = (PATH_MTU - 20 - 8 - 32) // 16 * 16
ROUTER_ALERT = b"\x94\x04\x00\x00"  # to be copied into each fragment (RFC 2113)
RECORD_ROUTE = b"\x07\x07\x04" + bytes(4)  # only in the first (RFC 791, 3.1)


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    """Connected, the first with a narrow path to the second."""
    a, b = Node("10.0.0.1"), Node("10.0.0.2")
    try:
        a.knows(b, managed=True)
        b.knows(a, managed=True)
        packet = a.emit(b, b"first")
        assert b.tun.recv(2000) == packet
        a.plane.set_path(b.key, (a.socket, b.remote, 0, PATH_MTU))
        yield a, b
    finally:
        a.close()
        b.close()


def fragment_word(packet: bytes) -> int:
    return int.from_bytes(packet[6:8], "big")


def header_len(packet: bytes) -> int:
    return (packet[0] & 15) * 4


def fragments_of(packet: bytes, node: Node) -> list[bytes]:
    """What arrives of a packet, as much as there is of it."""
    found: list[bytes] = []
    missing = len(packet) - header_len(packet)
    while missing > 0:
        found.append(node.tun.recv(2000))
        missing -= len(found[-1]) - header_len(found[-1])
    return found


def payload_of(fragments: list[bytes], packet: bytes) -> bytes:
    """The reassembled payload (RFC 791, 3.2). Each fragment is checked against the packet that they were."""
    start = fragment_word(packet) & OFFSET
    payload = b""
    for number, fragment in enumerate(fragments):
        assert len(fragment) == int.from_bytes(fragment[2:4], "big") <= LIMIT
        assert complement(fragment[: header_len(fragment)]) == 0
        assert fragment[1] == packet[1]
        assert fragment[4:6] == packet[4:6]
        assert fragment[8:10] + fragment[12:20] == packet[8:10] + packet[12:20]
        assert (fragment_word(fragment) & OFFSET) * 8 == start * 8 + len(payload)
        last = number + 1 == len(fragments)
        expected = fragment_word(packet) & MORE_FRAGMENTS if last else MORE_FRAGMENTS
        assert fragment_word(fragment) & ~OFFSET == expected
        payload += fragment[header_len(fragment) :]
    return payload


def fragmentable(size: int, *, fragment: int = 0, options: bytes = b"") -> bytes:
    """A UDP packet of so many bytes from the first to the second node."""
    payload = random.Random(size).randbytes(size - 28 - len(options))  # noqa: S311 - no secret
    return bytes(Packet(UDP, payload=payload, identification=size, fragment=fragment, ip_options=options))


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 8, 1500, 2 * LIMIT - 20, 9000, 65456])
def test_a_packet_that_may_be_fragmented_is(nodes: tuple[Node, Node], size: int) -> None:
    a, b = nodes
    packet = fragmentable(size)
    a.tun.send(packet)
    assert payload_of(fragments_of(packet, b), packet) == packet[20:]
    assert a.plane.counters()["drop_too_big"] == 0


def test_what_fits_stays_whole(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    packet = fragmentable(LIMIT)
    a.tun.send(packet)
    assert b.tun.recv(2000) == packet


@pytest.mark.parametrize("more", [0, MORE_FRAGMENTS], ids=["the last", "in the middle"])
def test_a_fragment_is_fragmented_further(nodes: tuple[Node, Node], more: int) -> None:
    a, b = nodes
    packet = fragmentable(20 + 8 * 200, fragment=more | 185)
    a.tun.send(packet)
    assert payload_of(fragments_of(packet, b), packet) == packet[20:]


def test_options_are_copied_as_they_ask(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    packet = fragmentable(3000, options=RECORD_ROUTE + b"\x01" + ROUTER_ALERT)
    a.tun.send(packet)
    fragments = fragments_of(packet, b)
    assert payload_of(fragments, packet) == packet[32:]
    assert fragments[0][20:32] == packet[20:32]
    assert all(fragment[20 : header_len(fragment)] == ROUTER_ALERT for fragment in fragments[1:])


def test_options_that_make_no_sense_do_no_harm(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    seed = 791
    rng = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(200):
        packet = fragmentable(LIMIT + 100, options=rng.randbytes(4 * rng.randrange(1, 11)))
        a.tun.send(packet)
        assert payload_of(fragments_of(packet, b), packet) == packet[header_len(packet) :], f"seed {seed}"


def test_fragments_wait_for_a_session_too(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    b.plane.remove_peer(a.key)
    b.knows(a, managed=True)
    a.plane.set_secret_key(a.secret)  # both have to begin anew
    packet = fragmentable(3000)
    a.tun.send(packet)
    assert payload_of(fragments_of(packet, b), packet) == packet[20:]


# --- IPv6: a path that is narrower than any link may be -----------------------------------------------------

SOURCE6, DESTINATION6 = bytes(15) + b"\x01", bytes(15) + b"\x02"
FRAGMENT = 44


def packet6(size: int, next_header: int = UDP, start: bytes = b"") -> bytes:
    """An IPv6 packet of so many bytes from the first to the second node."""
    payload = start + random.Random(size).randbytes(size - 40 - len(start))  # noqa: S311 - no secret
    return struct.pack("!IHBB", 6 << 28 | 7, len(payload), next_header, 9) + SOURCE6 + DESTINATION6 + payload


@pytest.fixture
def nodes6(nodes: tuple[Node, Node]) -> tuple[Node, Node]:
    a, b = nodes
    a.plane.add_allowed_ip(b.key, DESTINATION6, 128)
    b.plane.add_allowed_ip(a.key, SOURCE6, 128)
    return nodes


def fragments6_of(packet: bytes, payload_at: int, node: Node) -> list[bytes]:
    found: list[bytes] = []
    missing = len(packet) - payload_at
    while missing > 0:
        found.append(node.tun.recv(2000))
        missing -= len(found[-1]) - 48
    return found


@pytest.mark.parametrize("size", [LIMIT + 1, 1279, 1280])
def test_ipv6_packets_that_every_link_carries_are_fragmented(nodes6: tuple[Node, Node], size: int) -> None:
    a, b = nodes6
    packet = packet6(size)
    a.tun.send(packet)
    first, last = fragments6_of(packet, 40, b)
    for fragment in (first, last):
        assert len(fragment) == 40 + int.from_bytes(fragment[4:6], "big") <= LIMIT
        assert fragment[:4] + fragment[7:40] == packet[:4] + packet[7:40]
        assert fragment[6] == FRAGMENT
        assert fragment[40:42] == bytes((UDP, 0))
    assert int.from_bytes(first[42:44], "big") == 1
    assert int.from_bytes(last[42:44], "big") == len(first) - 48
    assert first[44:48] == last[44:48]
    assert first[48:] + last[48:] == packet[40:]
    a.tun.send(packet)
    assert fragments6_of(packet, 40, b)[0][44:48] != first[44:48], "another packet's identification"


def test_larger_ipv6_packets_are_answered_with_what_every_link_carries(nodes6: tuple[Node, Node]) -> None:
    a, b = nodes6
    a.tun.send(packet6(1281))
    answer = a.tun.recv(2000)
    assert answer[40] == 2, "packet too big"
    assert int.from_bytes(answer[44:48], "big") == 1280
    whole = packet6(LIMIT)
    a.tun.send(whole)
    assert b.tun.recv(2000) == whole


@pytest.mark.parametrize("more", [0, 1], ids=["the last", "in the middle"])
def test_an_ipv6_fragment_is_fragmented_further(nodes6: tuple[Node, Node], more: int) -> None:
    a, b = nodes6
    offset = 1232
    packet = packet6(48 + 1232, FRAGMENT, struct.pack("!BBHI", UDP, 0, offset | more, 0xABCDEF))
    a.tun.send(packet)
    first, last = fragments6_of(packet, 48, b)
    assert first[40:48] == struct.pack("!BBHI", UDP, 0, offset | 1, 0xABCDEF)
    assert last[40:48] == struct.pack("!BBHI", UDP, 0, offset + len(first) - 48 | more, 0xABCDEF)
    assert first[48:] + last[48:] == packet[48:]


def extension(next_header: int, length: int = 8) -> bytes:
    """With padding in it (RFC 8200, 4.2)."""
    return bytes((next_header, length // 8 - 1, 1, min(length - 4, 255))) + bytes(length - 4)


HBH, ROUTING, OPTIONS = 0, 43, 60
CHAINS = {
    "options for each hop": ([HBH], 1),
    "routing": ([ROUTING], 1),
    "options for the destination": ([OPTIONS], 0),
    "all of them": ([HBH, OPTIONS, ROUTING, OPTIONS], 3),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_extension_headers_are_in_each_fragment_where_nodes_on_the_way_want_them(
    nodes6: tuple[Node, Node], chain: str
) -> None:
    a, b = nodes6
    kinds, in_each = CHAINS[chain]
    headers = b"".join(extension(kind, 16) for kind in (*kinds[1:], UDP))
    packet = packet6(1280, kinds[0], headers)
    a.tun.send(packet)
    front = 40 + 16 * in_each
    first, last = b.tun.recv(2000), b.tun.recv(2000)
    assert first[front + 8 :] + last[front + 8 :] == packet[front:]
    for fragment in (first, last):
        assert len(fragment) == 40 + int.from_bytes(fragment[4:6], "big") <= LIMIT
        named_at = 6 if in_each == 0 else front - 16
        assert fragment[named_at] == FRAGMENT
        assert fragment[front] == [*kinds, UDP][in_each]
        assert fragment[:4] + fragment[7:named_at] == packet[:4] + packet[7:named_at]
        assert fragment[named_at + 1 : front] == packet[named_at + 1 : front]


def test_ipv6_packets_that_cannot_be_fragmented_are_dropped_and_counted(nodes6: tuple[Node, Node]) -> None:
    a, _ = nodes6
    a.tun.send(packet6(1280, ROUTING, b"\xff\xff"))
    a.tun.send(packet6(1280, HBH, extension(HBH, 1240)))
    a.tun.send(packet6(1280, ROUTING, extension(UDP, 1200)))
    a.tun.send(packet6(1280, OPTIONS, extension(FRAGMENT)))
    a.until(lambda: a.plane.counters()["drop_too_big"] == 4, "their extension headers make no sense")


# --- our own datagrams, led back by a route ---------------------------------------------------------------


def test_our_own_datagrams_are_not_sealed_again(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    with bound(socket.AF_INET, "127.0.0.1") as endpoint:
        endpoint.settimeout(DEADLINE_S)
        address, port = endpoint.getsockname()
        a.plane.set_path(b.key, (a.socket, wire(address, port)))
        a.plane.add_allowed_ip(b.key, socket.inet_aton(address), 32)
        a.emit(b, b"x")
        message = endpoint.recv(2000)

        def led_back(payload: bytes, to_port: int = port, fragment: int = DONT_FRAGMENT) -> None:
            a.tun.send(
                bytes(
                    Packet(
                        UDP,
                        destination=socket.inet_aton(address),
                        source_port=a.port,
                        destination_port=to_port,
                        payload=payload,
                        fragment=fragment,
                    )
                )
            )

        led_back(message)
        led_back(message + bytes(100), fragment=MORE_FRAGMENTS)
        a.until(lambda: a.plane.counters()["drop_loop"] == 2, "whole, and its first fragment")
        others = [
            (b"\x04\0\0\0" + os.urandom(100), port, DONT_FRAGMENT),  # another WireGuard's
            (message, port ^ 1, DONT_FRAGMENT),
            (message, port, 100),
            (b"\x04", port, DONT_FRAGMENT),
        ]
        for payload, to_port, fragment in others:
            led_back(payload, to_port, fragment)
            assert len(endpoint.recv(2000)) > len(payload) + 32
        assert a.plane.counters()["drop_loop"] == 2


def test_our_own_handshakes_are_not_staged(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    with bound(socket.AF_INET, "127.0.0.1") as endpoint:
        endpoint.settimeout(DEADLINE_S)
        address, port = endpoint.getsockname()
        a.plane.set_path(b.key, (a.socket, wire(address, port)))
        a.plane.add_allowed_ip(b.key, socket.inet_aton(address), 32)
        a.plane.rekey(b.key)
        message = endpoint.recv(2000)
        assert struct.unpack("<I", message[:4]) == (1,)
        datagram = struct.pack("!HHHH", a.port, port, 8 + len(message), 0) + message
        a.tun.send(ipv4("127.0.0.1", address, datagram))
        a.until(lambda: a.plane.counters()["drop_loop"] == 1, "the initiation came back")


# --- a host without IPv6 ------------------------------------------------------------------------------------

ECHO_REQUEST, UNREACHABLE, NO_ADDRESS, NO_PORT = 128, 1, 3, 4
ICMPV6, HOP_BY_HOP = 58, 0


@pytest.fixture
def without_ipv6(nodes6: tuple[Node, Node]) -> tuple[Node, Node]:
    """The second one's."""
    nodes6[1].plane.take_ipv6(False)
    return nodes6


def verifies6(packet: bytes) -> bool:
    pseudo = packet[8:40] + struct.pack("!IHBB", len(packet) - 40, 0, 0, packet[6])
    return complement(pseudo + packet[40:]) == 0


@pytest.mark.parametrize(("protocol", "code"), [(UDP, NO_PORT), (TCP, NO_ADDRESS), (59, NO_ADDRESS)])
@pytest.mark.parametrize("size", [60, 600, LIMIT])
def test_ipv6_for_a_host_that_has_none_is_refused(
    without_ipv6: tuple[Node, Node], size: int, protocol: int, code: int
) -> None:
    a, b = without_ipv6
    b.plane.set_path(a.key, (b.socket, a.remote, 0, PATH_MTU))
    packet = packet6(size, protocol)
    a.tun.send(packet)
    answer = a.tun.recv(2000)
    assert answer[6:40] == bytes((ICMPV6, 64)) + DESTINATION6 + SOURCE6
    assert answer[40:42] == bytes((UNREACHABLE, code))
    assert answer[48:] == packet[: LIMIT - 48]
    assert verifies6(answer)
    a.until(lambda: b.plane.counters()["drop_no_ipv6"] == 1, "it was dropped")


def test_ipv4_goes_on_and_ipv6_too_once_there_is_some(without_ipv6: tuple[Node, Node]) -> None:
    a, b = without_ipv6
    a.tun.send(packet6(100))
    packet = a.emit(b, b"x")
    assert b.tun.recv(2000) == packet
    assert a.tun.recv(2000)[40] == UNREACHABLE
    b.plane.take_ipv6(True)
    a.tun.send(packet6(100))
    assert b.tun.recv(2000) == packet6(100)


UNANSWERED = {
    "an error": packet6(100, ICMPV6, bytes((UNREACHABLE, 0, 0, 0))),
    "an error behind options": packet6(100, HOP_BY_HOP, bytes((ICMPV6, 0, 1, 4, 0, 0, 0, 0, UNREACHABLE))),
    "perhaps a piece of one": packet6(100, FRAGMENT, struct.pack("!BBHI", ICMPV6, 0, 8, 1)),
    "nothing of it": packet6(40, ICMPV6),
    "options without end": packet6(60, HOP_BY_HOP, bytes((ICMPV6, 255))),
    "multicast": packet6(100)[:24] + b"\xff\x02" + bytes(13) + b"\x01" + packet6(100)[40:],
}


@pytest.mark.parametrize("kind", UNANSWERED)
def test_what_must_have_no_icmp_answer_has_none(without_ipv6: tuple[Node, Node], kind: str) -> None:
    a, b = without_ipv6
    a.plane.add_allowed_ip(b.key, b"\xff\x02" + bytes(14), 16)
    a.tun.send(UNANSWERED[kind])
    a.until(lambda: b.plane.counters()["drop_no_ipv6"] == 1, "it was dropped")
    a.tun.send(packet6(100, ICMPV6, bytes((ECHO_REQUEST, 0))))
    assert a.tun.recv(2000)[48:] == packet6(100, ICMPV6, bytes((ECHO_REQUEST, 0)))


def test_refusals_have_a_rate(without_ipv6: tuple[Node, Node]) -> None:
    a, b = without_ipv6
    for _ in range(1000):
        a.tun.send(packet6(60))
    a.until(lambda: b.plane.counters()["drop_no_ipv6"] == 1000, "all were dropped")
    a.until(lambda: b.plane.counters()["tx_data"] >= 50, "so many at once")
    assert b.plane.counters()["tx_data"] < 200
