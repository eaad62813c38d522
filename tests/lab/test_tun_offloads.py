"""Split and coalesced frames against the kernel: a TUN with offloads, its sockets, and us as their peer."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest
from ip_packets import ACK, PSH, SYN, TCP, UDP, Packet, stream, verifies

from whcore.offload import HEADER_LEN, coalesce, split

T = TypeVar("T")

# linux/sched.h, linux/if_tun.h, linux/udp.h
CLONE_NEWNET = 0x40000000
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6 = 0x01, 0x02, 0x04, 0x20, 0x40
UDP_SEGMENT = 103

DEADLINE_S = 5.0
FRAME_MAX = 70_000
MTU = 1400
OUR_PORT, KERNEL_PORT = 4000, 4001
MSS = 1300
MSS_OPTION = struct.pack("!BBH", 2, 4, MSS)


@dataclass(frozen=True)
class Family:
    number: socket.AddressFamily
    kernel: str
    ours: str
    prefix_len: int

    def packet(self, protocol: int) -> Packet:
        """From us to the kernel's socket."""
        return Packet(
            protocol=protocol,
            source=socket.inet_pton(self.number, self.ours),
            destination=socket.inet_pton(self.number, self.kernel),
            source_port=OUR_PORT,
            destination_port=KERNEL_PORT,
            window=65535,
        )


IPV4 = Family(socket.AF_INET, "192.0.2.1", "192.0.2.2", 24)
IPV6 = Family(socket.AF_INET6, "2001:db8::1", "2001:db8::2", 64)
each_family = pytest.mark.parametrize("family", [IPV4, IPV6], ids=["ipv4", "ipv6"])


class Tun:
    """A TUN in a network namespace that lives as long as its fds."""

    def __init__(self) -> None:
        self._stack = ThreadPoolExecutor(1, initializer=self._enter_namespace)
        self.fd = self.inside(self._open)
        self.takes_uso = self._offload(TUN_F_USO4 | TUN_F_USO6)
        if not self.takes_uso:
            self._offload(0)

    @staticmethod
    def _enter_namespace() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")

    def _open(self) -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
        for family in (IPV4, IPV6):
            address = f"{family.kernel}/{family.prefix_len}"
            options = ["nodad"] if family is IPV6 else []
            subprocess.run(["ip", "address", "add", address, "dev", "tun0", *options], check=True)
        subprocess.run(["ip", "link", "set", "tun0", "up", "mtu", str(MTU)], check=True)
        return fd

    def _offload(self, more: int) -> bool:
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | more)
            return True
        return False

    def inside(self, make: Callable[[], T]) -> T:
        """Call make in the TUN's namespace."""
        return self._stack.submit(make).result()

    def socket(self, family: Family, kind: socket.SocketKind) -> socket.socket:
        """A socket of the kernel's side, bound to its address."""
        made = self.inside(lambda: socket.socket(family.number, kind))
        made.settimeout(DEADLINE_S)
        made.bind((family.kernel, KERNEL_PORT))
        return made

    def write(self, packets: list[bytes]) -> list[tuple[bytes, bytes]]:
        """Write what the packets become; returns the frames."""
        frames = coalesce(packets, udp=self.takes_uso)
        for header, frame in frames:
            os.write(self.fd, header + frame)
        return frames

    def read(self, protocol: int) -> list[bytes]:
        """The segments of the next frame of a protocol; the kernel also sends what we did not ask for."""
        give_up_at = time.monotonic() + DEADLINE_S
        while select.select([self.fd], [], [], max(0.0, give_up_at - time.monotonic()))[0]:
            frame = os.read(self.fd, FRAME_MAX)
            packets = split(frame[:HEADER_LEN], frame[HEADER_LEN:])
            if packets[0][9 if packets[0][0] >> 4 == 4 else 6] == protocol:
                return packets
        raise TimeoutError("the kernel sent no such packet")

    def close(self) -> None:
        os.close(self.fd)
        self._stack.shutdown()


@pytest.fixture
def tun() -> Iterator[Tun]:
    with contextlib.closing(Tun()) as made:
        yield made


@dataclass(frozen=True)
class Segment:
    sequence: int
    acknowledgement: int
    flags: int
    payload: bytes

    @classmethod
    def parse(cls, packet: bytes) -> Segment:
        tcp = packet[20 if packet[0] >> 4 == 4 else 40 :]
        sequence, acknowledgement, words, flags = struct.unpack("!IIBB", tcp[4:14])
        return cls(sequence, acknowledgement, flags, tcp[(words >> 4) * 4 :])


@each_family
def test_a_tcp_socket_receives_what_a_coalesced_frame_carries(tun: Tun, family: Family) -> None:
    with tun.socket(family, socket.SOCK_STREAM) as listener:
        listener.listen()
        us = replace(family.packet(TCP), sequence=10_000, acknowledgement=0)
        tun.write([bytes(replace(us, flags=SYN, tcp_options=MSS_OPTION))])
        (answer,) = tun.read(TCP)
        assert verifies(answer)
        us = replace(us, sequence=10_001, acknowledgement=Segment.parse(answer).sequence + 1)
        tun.write([bytes(us)])
        sent = stream(us, [MSS] * 40 + [7])
        sent[-1] = replace(sent[-1], flags=ACK | PSH)
        frames = tun.write([bytes(packet) for packet in sent])
        assert len(frames) == 1
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(DEADLINE_S)
            payload = b"".join(packet.payload for packet in sent)
            assert connection.recv(len(payload), socket.MSG_WAITALL) == payload


@each_family
def test_a_udp_socket_receives_each_datagram_of_a_coalesced_frame(tun: Tun, family: Family) -> None:
    if not tun.takes_uso:
        pytest.skip("this kernel's TUN has no USO")
    with tun.socket(family, socket.SOCK_DGRAM) as receiver:
        sent = stream(family.packet(UDP), [1000] * 20 + [17])
        assert len(tun.write([bytes(packet) for packet in sent])) == 1
        assert [receiver.recv(FRAME_MAX) for _ in sent] == [packet.payload for packet in sent]


def test_a_udp_socket_receives_datagrams_without_checksums_that_were_coalesced(tun: Tun) -> None:
    if not tun.takes_uso:
        pytest.skip("this kernel's TUN has no USO")
    with tun.socket(IPV4, socket.SOCK_DGRAM) as receiver:
        sent = stream(replace(IPV4.packet(UDP), udp_checksum=False), [1000] * 20 + [17])
        assert len(tun.write([bytes(packet) for packet in sent])) == 1
        assert [receiver.recv(FRAME_MAX) for _ in sent] == [packet.payload for packet in sent]


@each_family
def test_the_kernel_still_finds_the_corruption_in_a_packet_of_a_flow(tun: Tun, family: Family) -> None:
    with tun.socket(family, socket.SOCK_DGRAM) as receiver:
        sent = stream(family.packet(UDP), [1000] * 6)
        raw = [bytes(packet) for packet in sent]
        raw[2] = raw[2][:-1] + bytes((raw[2][-1] ^ 1,))
        tun.write(raw)
        wanted = [packet.payload for i, packet in enumerate(sent) if i != 2]
        assert [receiver.recv(FRAME_MAX) for _ in wanted] == wanted


@each_family
def test_every_segment_of_what_a_tcp_socket_sends_verifies(tun: Tun, family: Family) -> None:
    with tun.socket(family, socket.SOCK_STREAM) as sender:
        sender.setblocking(False)
        with pytest.raises(BlockingIOError):
            sender.connect((family.ours, OUR_PORT))
        (first,) = tun.read(TCP)
        assert verifies(first)
        us = replace(family.packet(TCP), sequence=5000, acknowledgement=Segment.parse(first).sequence + 1)
        tun.write([bytes(replace(us, flags=SYN | ACK, tcp_options=MSS_OPTION))])
        tun.read(TCP)
        payload = os.urandom(10 * MSS)  # the initial congestion window (RFC 6928)
        sender.settimeout(5)  # a busy kernel takes what the TUN was given a moment later
        assert sender.send(payload) == len(payload)
        received: dict[int, bytes] = {}
        largest = 0
        while sum(map(len, received.values())) < len(payload):
            packets = tun.read(TCP)
            largest = max(largest, len(packets))
            for packet in packets:
                assert verifies(packet)
                assert len(packet) <= MTU
                segment = Segment.parse(packet)
                received[(segment.sequence - us.acknowledgement) % 2**32] = segment.payload
        assert largest > 1
        assert b"".join(received[at] for at in sorted(received)) == payload


@each_family
def test_every_segment_of_what_a_udp_socket_sends_verifies(tun: Tun, family: Family) -> None:
    if not tun.takes_uso:
        pytest.skip("this kernel's TUN has no USO")
    with tun.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"alone", (family.ours, OUR_PORT))
        (datagram,) = tun.read(UDP)
        assert verifies(datagram)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        payload = os.urandom(20 * 1000 + 17)
        sender.sendto(payload, (family.ours, OUR_PORT))
        packets = tun.read(UDP)
        assert len(packets) == 21
        assert all(map(verifies, packets))
        headers = 28 if family is IPV4 else 48
        assert b"".join(packet[headers:] for packet in packets) == payload
