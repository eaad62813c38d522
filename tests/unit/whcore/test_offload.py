"""Splitting and coalescing against a slow segmentation, against each other, and against hostile frames."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ip_packets import (
    ACK,
    CWR,
    DONT_FRAGMENT,
    ECE,
    FIN,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    MORE_FRAGMENTS,
    NEEDS_CSUM,
    PSH,
    RST,
    SYN,
    TCP,
    TIMESTAMPS,
    UDP,
    URG,
    VNET,
    Packet,
    ones_sum,
    segments,
    stream,
    verifies,
    vnet_header,
)
from packet_mix import NEXT, Mix, check_same_packets, coalesced_and_split

from whcore.errors import BadPacket
from whcore.offload import HEADER_LEN, coalesce, split

deterministic = settings(derandomize=True, deadline=None, max_examples=200)

PLAIN = bytes(HEADER_LEN)
# Hop-by-hop options with padding, a routing header of 24 bytes, destination options
EXTENSIONS = ((0, b"\0\0\1\4\0\0\0\0"), (43, b"\0\2\4\0" + bytes(20)), (60, b"\0\0\1\4\0\0\0\0"))


def over_ipv6(packet: Packet) -> Packet:
    return replace(packet, source=bytes(15) + b"\1", destination=bytes(15) + b"\2")


tcp4 = Packet(identification=100, sequence=1000)
tcp6 = replace(over_ipv6(tcp4), flow_label=0x12345)
udp4 = replace(tcp4, protocol=UDP)
udp6 = replace(tcp6, protocol=UDP)
each_kind = pytest.mark.parametrize("first", [tcp4, tcp6, udp4, udp6], ids=["tcp4", "tcp6", "udp4", "udp6"])

addresses = st.sampled_from([4, 16]).flatmap(
    lambda n: st.tuples(st.binary(min_size=n, max_size=n), st.binary(min_size=n, max_size=n))
)
ports = st.integers(0, 65535)
payloads = st.tuples(st.integers(0, 4000), st.randoms(use_true_random=False)).map(
    lambda t: t[1].randbytes(t[0])
)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    source, destination = draw(addresses)
    return Packet(
        protocol=draw(st.sampled_from([TCP, UDP])),
        source=source,
        destination=destination,
        source_port=draw(ports),
        destination_port=draw(ports),
        payload=draw(payloads),
        traffic_class=draw(st.integers(0, 255)),
        hop_limit=draw(st.integers(0, 255)),
        identification=draw(st.integers(0, 65535)),
        fragment=draw(st.sampled_from([0, DONT_FRAGMENT])),
        flow_label=draw(st.integers(0, 2**20 - 1)),
        ip_options=draw(st.sampled_from([b"", b"\1\1\1\0"])),
        extensions=tuple(draw(st.lists(st.sampled_from(EXTENSIONS), max_size=3))),
        sequence=draw(st.integers(0, 2**32 - 1)),
        acknowledgement=draw(st.integers(0, 2**32 - 1)),
        flags=draw(st.integers(0, 255)),
        reserved=draw(st.integers(0, 15)),
        window=draw(st.integers(0, 65535)),
        urgent=draw(st.integers(0, 65535)),
        tcp_options=draw(st.sampled_from([b"", TIMESTAMPS, bytes(40)])),
    )


# --- splitting ----------------------------------------------------------------------------------------------


@deterministic
@given(packet=packets(), gso_size=st.integers(1, 5000))
def test_segments_are_those_of_a_slow_segmentation(packet: Packet, gso_size: int) -> None:
    assert split(vnet_header(packet, gso_size), packet.partial()) == segments(packet, gso_size)


@deterministic
@given(packet=packets())
def test_a_checksum_that_was_left_to_us_is_completed(packet: Packet) -> None:
    flags, _, header_len, _, start, offset = VNET.unpack(vnet_header(packet, 1))
    header = VNET.pack(flags, GSO_NONE, header_len, 0, start, offset)
    assert split(header, packet.partial()) == [bytes(packet)]
    assert split(PLAIN, bytes(packet)) == [bytes(packet)]


@pytest.mark.parametrize("gso_type", [GSO_NONE, GSO_UDP_L4])
def test_a_udp_checksum_of_zero_is_sent_as_ffff(gso_type: int) -> None:
    sum_of_rest = ones_sum(replace(udp4, payload=b"\0\0").partial()[20:])
    packet = replace(udp4, payload=(sum_of_rest ^ 0xFFFF).to_bytes(2, "big"))
    header = VNET.pack(NEEDS_CSUM, gso_type, 28, 2, 20, 6)
    (made,) = split(header, packet.partial())
    assert made[26:28] == b"\xff\xff"
    assert verifies(made)


def test_what_follows_the_ip_packet_in_a_frame_is_no_part_of_it() -> None:
    packet = replace(tcp4, payload=bytes(3000))
    assert split(vnet_header(packet, 1000), packet.partial() + b"more") == segments(packet, 1000)
    assert split(PLAIN, bytes(packet) + b"more") == [bytes(packet)]


def test_the_longest_frame_in_the_smallest_pieces() -> None:
    packet = replace(tcp4, payload=random.Random(1).randbytes(65535 - 40))
    made = split(vnet_header(packet, 1), packet.partial())
    assert len(made) == 65535 - 40
    assert made[40000] == segments(replace(packet, payload=packet.payload[:40001]), 1)[40000]


def contradictions() -> dict[str, tuple[bytes, bytes]]:
    packet = replace(tcp4, payload=bytes(3000))
    frame = packet.partial()
    fields = VNET.unpack(vnet_header(packet, 1000))
    datagram = replace(udp4, payload=bytes(3000))

    def header(**changed: int) -> bytes:
        names = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")
        return VNET.pack(*(changed.get(name, value) for name, value in zip(names, fields, strict=True)))

    def with_byte(at: int, value: int) -> bytes:
        return frame[:at] + bytes((value,)) + frame[at + 1 :]

    return {
        "no packet": (header(), b""),
        "version 5": (header(), with_byte(0, 0x55)),
        "IP header of 16 bytes": (header(), with_byte(0, 0x44)),
        "total length over the frame": (header(), frame[:-1]),
        "total length under the IP header": (header(), with_byte(2, 0)[:3] + b"\x13" + frame[4:]),
        "IPv6 shorter than its header": (header(), b"\x60" + bytes(38)),
        "segments of no size": (header(gso_size=0), frame),
        "segmentation without checksum": (header(flags=0), frame),
        "UFO": (header(gso_type=3), frame),
        "unknown segmentation": (header(gso_type=6), frame),
        "TCP6 on IPv4": (header(gso_type=GSO_TCPV6), frame),
        "TCP4 on IPv6": (header(), over_ipv6(packet).partial()),
        "TCP4 on UDP": (header(), datagram.partial()),
        "USO on TCP": (header(gso_type=GSO_UDP_L4), frame),
        "USO with ECN": (VNET.pack(1, GSO_UDP_L4 | GSO_ECN, 28, 1000, 20, 6), datagram.partial()),
        "ECN alone": (header(gso_type=GSO_ECN), frame),
        "checksum start elsewhere": (header(csum_start=22), frame),
        "checksum elsewhere": (header(csum_offset=6), frame),
        "checksum over the end": (header(gso_type=GSO_NONE, csum_start=3030, csum_offset=9), frame),
        "checksum far over the end": (header(gso_type=GSO_NONE, csum_start=65535, csum_offset=65535), frame),
        "checksum in the IP header": (header(gso_type=GSO_NONE, csum_start=0, csum_offset=10), frame),
        "fragment": (header(), replace(packet, fragment=MORE_FRAGMENTS).partial()),
        "TCP header of 16 bytes": (header(), with_byte(32, 0x40)),
        "TCP header over the end": (header(), with_byte(32, 0xF0)[:50].replace(frame[2:4], b"\0\x32", 1)),
        "no room for a TCP header": (header(), frame[:2] + b"\0\x27" + frame[4:39]),
        "no room for a UDP header": (
            VNET.pack(1, GSO_UDP_L4, 28, 1000, 20, 6),
            datagram.partial()[:2] + b"\0\x1b" + datagram.partial()[4:27],
        ),
        "extension header over the end": (
            VNET.pack(1, GSO_TCPV6, 60, 1000, 48, 16),
            replace(over_ipv6(packet), extensions=((0, b"\0\xff\1\4\0\0\0\0"),), payload=b"").partial(),
        ),
        "nothing where an extension header should be": (
            VNET.pack(1, GSO_TCPV6, 60, 1000, 48, 16),
            b"\x60\0\0\0\0\0\0\x40" + bytes(32),
        ),
        "extension header without room": (
            VNET.pack(1, GSO_TCPV6, 60, 1000, 48, 16),
            b"\x60\0\0\0\0\x07\0\x40" + bytes(32 + 7),
        ),
    }


@pytest.mark.parametrize("case", contradictions())
def test_a_frame_that_contradicts_itself_is_refused(case: str) -> None:
    header, frame = contradictions()[case]
    with pytest.raises(BadPacket):
        split(header, frame)


@each_kind
def test_every_truncation_of_a_frame_is_refused(first: Packet) -> None:
    packet = replace(first, payload=bytes(200), tcp_options=TIMESTAMPS)
    frame = packet.partial()
    for n in range(len(frame)):
        with pytest.raises(BadPacket):
            split(vnet_header(packet, 50), frame[:n])


@deterministic
@given(
    header=st.tuples(
        st.sampled_from([0, 1, 2, 255]),
        st.sampled_from([GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN, 77]),
        *[st.one_of(st.integers(0, 120), st.integers(0, 65535))] * 4,
    ),
    packet=packets(),
    cut=st.integers(0, 200),
    noise=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), max_size=4),
)
def test_any_header_on_any_bytes_is_refused_or_gives_the_frame_in_pieces(
    header: tuple[int, ...], packet: Packet, cut: int, noise: list[tuple[int, int]]
) -> None:
    frame = bytearray(packet.partial()[: 400 - cut])
    for at, value in noise:
        if at < len(frame):
            frame[at] = value
    try:
        made = split(VNET.pack(*header), bytes(frame))
    except BadPacket:
        return
    total = (
        int.from_bytes(frame[2:4], "big") if frame[0] >> 4 == 4 else 40 + int.from_bytes(frame[4:6], "big")
    )
    repeated_headers = (len(made) - 1) * (len(made[0]) - header[3])
    assert sum(map(len, made)) == total + repeated_headers


# --- coalescing ---------------------------------------------------------------------------------------------


def raw(sent: Sequence[Packet]) -> list[bytes]:
    return [bytes(packet) for packet in sent]


def unchanged(sent: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return [(PLAIN, packet) for packet in sent]


def split_all(frames: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    return [packet for header, frame in frames for packet in split(header, frame)]


@each_kind
def test_a_run_of_one_flow_becomes_one_frame_for_the_kernel(first: Packet) -> None:
    sent = stream(replace(first, tcp_options=TIMESTAMPS), [1300] * 20 + [7])
    whole = replace(sent[0], payload=b"".join(packet.payload for packet in sent))
    assert coalesce(raw(sent)) == [(vnet_header(whole, 1300), whole.partial())]


def test_a_push_ends_the_frame_and_is_in_its_header() -> None:
    sent = stream(tcp4, [1000] * 5)
    sent[2] = replace(sent[2], flags=ACK | PSH)
    frames = coalesce(raw(sent))
    assert [VNET.unpack(header)[3] for header, _ in frames] == [1000, 1000]
    assert [frame[33] for _, frame in frames] == [ACK | PSH, ACK]
    assert split_all(frames) == raw(sent)


def test_flows_that_are_interleaved_become_a_frame_each_in_order_of_their_first_packets() -> None:
    flows = [
        stream(replace(kind, source_port=port), [500] * 8)
        for port in (1, 2)
        for kind in (tcp4, udp4, tcp6, udp6)
    ]
    mixed = [packet for packets in zip(*flows, strict=True) for packet in packets]
    frames = coalesce(raw(mixed))
    assert [split(*frame) for frame in frames] == [raw(flow) for flow in flows]


@pytest.mark.parametrize(("tcp", "udp"), [(False, False), (True, False), (False, True)])
def test_only_what_the_tun_takes_is_made(tcp: bool, udp: bool) -> None:
    for first, merged in ((tcp4, tcp), (tcp6, tcp), (udp4, udp), (udp6, udp)):
        sent = raw(stream(first, [100] * 3))
        frames = coalesce(sent, tcp=tcp, udp=udp)
        assert len(frames) == (1 if merged else 3)
        assert split_all(frames) == sent


def test_a_frame_has_at_most_64_packets_and_65535_bytes() -> None:
    assert [len(split(*frame)) for frame in coalesce(raw(stream(udp4, [100] * 130)))] == [64, 64, 2]
    for first in (tcp4, tcp6):
        frames = coalesce(raw(stream(first, [9000] * 15)))
        assert [len(split(*frame)) for frame in frames] == [7, 7, 1]
    exact = stream(tcp4, [6500] * 10 + [495])
    assert [len(frame) for _, frame in coalesce(raw(exact))] == [65535]
    assert [len(frame) for _, frame in coalesce(raw(stream(tcp4, [6500] * 10 + [496])))] == [65040, 536]


def test_more_flows_than_groups_lose_nothing() -> None:
    flows = [stream(replace(tcp4, source_port=port), [10] * 3) for port in range(200)]
    mixed = raw([packet for packets in zip(*flows, strict=True) for packet in packets])
    out = split_all(coalesce(mixed))
    for flow in flows:
        wanted = set(raw(flow))
        assert [packet for packet in out if packet in wanted] == raw(flow)
    assert sorted(out) == sorted(mixed)


tcp_pair = stream(tcp4, [1000, 1000])
tcp6_pair = stream(tcp6, [1000, 1000])
udp_pair = stream(udp4, [1000, 1000])

# The second packet of a pair that would merge, with one thing changed.
STRANGERS: dict[str, tuple[list[Packet], dict[str, object]]] = {
    "source": (tcp_pair, {"source": bytes((10, 0, 0, 9))}),
    "destination": (tcp_pair, {"destination": bytes((10, 0, 0, 9))}),
    "source port": (tcp_pair, {"source_port": 1}),
    "destination port": (udp_pair, {"destination_port": 1}),
    "protocol": (tcp_pair, {"protocol": UDP}),
    "DSCP": (tcp_pair, {"traffic_class": 4}),
    "ECN": (tcp_pair, {"traffic_class": 3}),
    "TTL": (udp_pair, {"hop_limit": 63}),
    "DF": (tcp_pair, {"fragment": 0}),
    "reserved bit": (tcp_pair, {"fragment": 0xC000}),
    "IPv6 ECN": (tcp6_pair, {"traffic_class": 3}),
    "IPv6 flow label": (tcp6_pair, {"flow_label": 1}),
    "IPv6 hop limit": (tcp6_pair, {"hop_limit": 63}),
    "IPv6 extension": (tcp6_pair, {"extensions": EXTENSIONS[:1]}),
    "IPv6 source": (tcp6_pair, {"source": bytes(15) + b"\3"}),
    "IP options": (tcp_pair, {"ip_options": b"\1\1\1\0"}),
    "fragment": (tcp_pair, {"fragment": MORE_FRAGMENTS}),
    "later fragment": (tcp_pair, {"fragment": 5}),
    "sequence gap": (tcp_pair, {"sequence": 2001}),
    "retransmission": (tcp_pair, {"sequence": 1000}),
    "acknowledgement": (tcp_pair, {"acknowledgement": 2}),
    "window": (tcp_pair, {"window": 501}),
    "urgent pointer": (tcp_pair, {"urgent": 1}),
    "options": (tcp_pair, {"tcp_options": TIMESTAMPS}),
    "reserved TCP bits": (tcp_pair, {"reserved": 1}),
    "longer payload": (tcp_pair, {"payload": bytes(1001)}),
    "empty payload": (tcp_pair, {"payload": b""}),
    "empty datagram": (udp_pair, {"payload": b""}),
    "no UDP checksum": (udp_pair, {"udp_checksum": False}),
    "no ACK": (tcp_pair, {"flags": 0}),
    "SYN": (tcp_pair, {"flags": SYN}),
    "FIN": (tcp_pair, {"flags": ACK | FIN}),
    "RST": (tcp_pair, {"flags": ACK | RST}),
    "URG": (tcp_pair, {"flags": ACK | URG}),
    "ECE": (tcp_pair, {"flags": ACK | ECE}),
    "CWR": (tcp_pair, {"flags": ACK | CWR}),
}


@pytest.mark.parametrize("difference", STRANGERS)
def test_a_packet_that_differs_in_what_one_header_can_say_stays_alone(difference: str) -> None:
    (first, second), changed = STRANGERS[difference]
    assert len(coalesce(raw([first, second]))) == 1
    stranger = replace(second, **changed)  # type: ignore[arg-type]
    assert coalesce(raw([first, stranger])) == unchanged(raw([first, stranger]))
    assert coalesce(raw([stranger, first])) == unchanged(raw([stranger, first]))


@pytest.mark.parametrize(
    "changed",
    [
        *({"flags": ACK | flag} for flag in (SYN, FIN, RST, URG, ECE, CWR)),
        {"flags": 0},
        {"reserved": 1},
        {"fragment": MORE_FRAGMENTS},
        {"ip_options": b"\1\1\1\0"},
    ],
    ids=str,
)
def test_packets_that_say_more_than_data_are_alone_even_among_their_like(changed: dict[str, object]) -> None:
    sent = raw([replace(packet, **changed) for packet in stream(tcp4, [1000] * 3)])  # type: ignore[arg-type]
    assert coalesce(sent) == unchanged(sent)


def test_a_longer_datagram_starts_a_new_frame_and_a_shorter_one_ends_its() -> None:
    sizes = [1000, 1000, 1001, 1001, 500, 500, 1]
    sent = raw(stream(udp4, sizes))
    frames = coalesce(sent)
    assert [[len(packet) - 28 for packet in split(*frame)] for frame in frames] == [
        [1000, 1000],
        [1001, 1001, 500],
        [500, 1],
    ]


def test_datagrams_without_checksums_are_merged_among_themselves_and_come_out_with_one() -> None:
    plain = stream(udp4, [100] * 6)
    bare = [replace(packet, udp_checksum=False) for packet in plain]
    assert coalesce(raw(bare[:1])) == unchanged(raw(bare[:1]))
    (frame,) = coalesce(raw(bare))
    assert split(*frame) == raw(plain)
    mixed = raw([*bare[:2], *plain[2:4], *bare[4:]])
    assert [split(*frame) for frame in coalesce(mixed)] == [raw(plain[at : at + 2]) for at in (0, 2, 4)]
    wrong_header = [bytearray(packet) for packet in raw(bare)]
    for packet in wrong_header:
        packet[10] ^= 1
    assert len(coalesce([bytes(packet) for packet in wrong_header])) == len(bare)


def test_datagrams_over_ipv6_without_checksums_stay_as_they_are() -> None:
    """Whoever did not ask for them drops them (RFC 6935), and shall go on doing so."""
    bare = raw([replace(packet, udp_checksum=False) for packet in stream(udp6, [100] * 3)])
    assert coalesce(bare) == unchanged(bare)


def test_identifications_must_be_in_step_unless_the_packet_cannot_be_fragmented() -> None:
    fragmentable = replace(udp4, fragment=0, identification=65534)
    in_step = raw(stream(fragmentable, [100] * 4))
    assert split_all(coalesce(in_step)) == in_step
    assert len(coalesce(in_step)) == 1
    assert len(coalesce(raw(stream(fragmentable, [100] * 4, id_step=2)))) == 4
    atomic = stream(udp4, [100] * 4, id_step=-3)
    (frame,) = coalesce(raw(atomic))
    assert split(*frame) == raw(stream(udp4, [100] * 4))


INTRUDERS = {
    "pure acknowledgement": replace(tcp4, payload=b"", sequence=3000),
    "FIN": replace(tcp4, payload=b"x", flags=ACK | FIN, sequence=3000),
    "first fragment": replace(tcp4, payload=b"x", fragment=MORE_FRAGMENTS),
    "later fragment": replace(tcp4, source_port=9, fragment=7),
    "IP options": replace(tcp4, ip_options=b"\1\1\1\0"),
    "unverified": None,
    "truncated": None,
    "IPv6 extensions": replace(tcp6, extensions=EXTENSIONS[:1]),
}


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_packets_of_a_flow_are_never_merged_around_one_between_them(intruder: str) -> None:
    sent = raw(stream(tcp4, [1000] * 5))
    packet = INTRUDERS[intruder]
    broken = {"unverified": sent[2][:-1] + b"!", "truncated": sent[2][:-1]}
    between = bytes(packet) if packet is not None else broken[intruder]
    frames = coalesce([*sent[:2], between, *sent[2:]])
    assert [len(frame) for _, frame in frames] == [2040, len(between), 3040]
    assert frames[1] == (PLAIN, between)


def test_a_ping_between_packets_of_a_flow_does_not_part_them() -> None:
    sent = raw(stream(tcp4, [1000] * 2))
    ping = sent[0][:9] + b"\1" + sent[0][10:]
    assert len(coalesce([sent[0], ping, sent[1]])) == 2


# Packets of few flows, so that they meet, most of them as they should be.
steps = st.lists(
    st.tuples(
        st.integers(0, len(Mix.FLOWS) - 1),
        st.sampled_from([NEXT] * 12 + list(Mix.ODD)),
        st.integers(0, 2**16),
    ),
    max_size=90,
)


@deterministic
@given(chosen=steps, size=st.integers(1, 1400), fragment=st.sampled_from([0, DONT_FRAGMENT]))
def test_what_was_coalesced_splits_into_the_same_bytes_in_the_same_order(
    chosen: list[tuple[int, str, int]], size: int, fragment: int
) -> None:
    mix = Mix(size, fragment)
    sent = [mix.take(*step) for step in chosen]
    check_same_packets(sent, coalesced_and_split(sent))


@deterministic
@given(packet=packets(), gso_size=st.integers(1, 1400))
def test_what_was_split_coalesces_into_the_same_frame(packet: Packet, gso_size: int) -> None:
    payload = packet.payload[: 64 * gso_size]
    whole = replace(
        packet, payload=payload, flags=ACK | packet.flags & PSH, reserved=0, ip_options=b"", extensions=()
    )
    if len(payload) <= gso_size:
        whole = replace(whole, payload=bytes(gso_size + 1))
    frame = (vnet_header(whole, gso_size), whole.partial())
    assert coalesce(split(*frame)) == [frame]


@deterministic
@given(
    first=st.sampled_from([tcp4, tcp6, udp4, udp6]),
    damage=st.dictionaries(
        st.integers(0, 9), st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1
    ),
)
def test_corruption_is_passed_on_as_it_came(first: Packet, damage: dict[int, tuple[int, int]]) -> None:
    sent = raw(stream(first, [600] * 10))
    for victim, (at, flip) in damage.items():
        packet = bytearray(sent[victim])
        packet[at % len(packet)] ^= flip
        sent[victim] = bytes(packet)
    frames = coalesce(sent)
    for victim in damage:
        if not verifies(sent[victim]):
            assert (PLAIN, sent[victim]) in frames
    for header, frame in frames:
        if any(header):
            assert all(verifies(packet) for packet in split(header, frame))


@pytest.mark.parametrize("at", [10, 36])
def test_a_checksum_of_minus_zero_is_not_rewritten(at: int) -> None:
    """ffff stands for 0 in a one's complement sum, and verifies; what we would write is 0."""
    for number in range(200_000):
        packet = replace(tcp4, payload=number.to_bytes(4, "big"), identification=number)
        made = bytearray(bytes(packet))
        if made[at : at + 2] == b"\0\0":
            break
    made[at : at + 2] = b"\xff\xff"
    following = bytes(replace(packet, sequence=packet.sequence + 4, identification=number + 1))
    assert verifies(bytes(made))
    assert coalesce([bytes(made), following]) == unchanged([bytes(made), following])


@each_kind
def test_every_truncation_of_a_packet_is_passed_on_alone(first: Packet) -> None:
    sent = raw(stream(replace(first, tcp_options=TIMESTAMPS), [60, 60]))
    for n in range(len(sent[1])):
        assert coalesce([sent[0], sent[1][:n]]) == unchanged([sent[0], sent[1][:n]])
