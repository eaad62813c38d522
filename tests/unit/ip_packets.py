"""TCP and UDP packets, checksums and segmentation, slow and from the RFCs: what the core is held against."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

TCP = 6
UDP = 17

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000

# linux/virtio_net.h
VNET = struct.Struct("=BBHHHH")
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 4, 5, 0x80
TIMESTAMPS = b"\1\1\x08\x0a" + bytes(range(8))
"""TCP options as most segments have them (RFC 7323, appendix A)."""

CHECKSUM_OFFSET = {TCP: 16, UDP: 6}


def ones_sum(data: bytes) -> int:
    """The folded 16-bit one's complement sum (RFC 1071, 1)."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def complement(data: bytes) -> int:
    return ones_sum(data) ^ 0xFFFF


@dataclass(frozen=True)
class Packet:
    """The fields of a TCP or UDP packet in an IPv4 or IPv6 one; bytes() fills in lengths and checksums.

    source, destination: 4 or 16 bytes. extensions: IPv6 headers, each with its number. Options: a multiple of
    4 bytes. Sequence numbers and identifications may run over their width.
    """

    protocol: int = TCP
    source: bytes = bytes((10, 0, 0, 1))
    destination: bytes = bytes((10, 0, 0, 2))
    source_port: int = 4000
    destination_port: int = 80
    payload: bytes = b""
    traffic_class: int = 0
    hop_limit: int = 64
    identification: int = 0
    fragment: int = DONT_FRAGMENT
    flow_label: int = 0
    ip_options: bytes = b""
    extensions: tuple[tuple[int, bytes], ...] = ()
    sequence: int = 0
    acknowledgement: int = 1
    flags: int = ACK
    reserved: int = 0
    window: int = 500
    urgent: int = 0
    tcp_options: bytes = b""
    udp_checksum: bool = field(default=True)

    def __bytes__(self) -> bytes:
        transport = self._transport(0)
        checksum = complement(self._pseudo_header(len(transport)) + transport)
        if self.protocol == UDP:
            checksum = (checksum or 0xFFFF) if self.udp_checksum else 0
        return self._ip(self._transport(checksum))

    def partial(self) -> bytes:
        """The same with the sum of the pseudo-header as its checksum: a frame that needs one."""
        transport = self._transport(0)
        return self._ip(self._transport(ones_sum(self._pseudo_header(len(transport)))))

    @property
    def transport_at(self) -> int:
        if len(self.source) == 4:
            return 20 + len(self.ip_options)
        return 40 + sum(len(content) for _, content in self.extensions)

    @property
    def header_len(self) -> int:
        return self.transport_at + (20 + len(self.tcp_options) if self.protocol == TCP else 8)

    def _pseudo_header(self, transport_len: int) -> bytes:
        return self.source + self.destination + struct.pack("!II", transport_len, self.protocol)

    def _transport(self, checksum: int) -> bytes:
        ports = struct.pack("!HH", self.source_port, self.destination_port)
        if self.protocol == UDP:
            return ports + struct.pack("!HH", 8 + len(self.payload), checksum) + self.payload
        words = 5 + len(self.tcp_options) // 4
        return (
            ports
            + struct.pack("!II", self.sequence % 2**32, self.acknowledgement)
            + bytes((words << 4 | self.reserved, self.flags))
            + struct.pack("!HHH", self.window, checksum, self.urgent)
            + self.tcp_options
            + self.payload
        )

    def _ip(self, transport: bytes) -> bytes:
        if len(self.source) == 4:
            total = 20 + len(self.ip_options) + len(transport)
            header = struct.pack(
                "!BBHHHBBH4s4s",
                0x45 + len(self.ip_options) // 4,
                self.traffic_class,
                total,
                self.identification % 2**16,
                self.fragment,
                self.hop_limit,
                self.protocol,
                0,
                self.source,
                self.destination,
            )
            header += self.ip_options
            return header[:10] + complement(header).to_bytes(2, "big") + header[12:] + transport
        numbers = [number for number, _ in self.extensions] + [self.protocol]
        chain = b"".join(
            bytes((after,)) + content[1:]
            for after, (_, content) in zip(numbers[1:], self.extensions, strict=True)
        )
        first = 6 << 28 | self.traffic_class << 20 | self.flow_label
        fixed = struct.pack("!IHBB", first, len(chain) + len(transport), numbers[0], self.hop_limit)
        return fixed + self.source + self.destination + chain + transport


def vnet_header(packet: Packet, gso_size: int) -> bytes:
    """The virtio header that says: cut this packet into segments with gso_size bytes of payload."""
    kind = GSO_UDP_L4 if packet.protocol == UDP else GSO_TCPV4 if len(packet.source) == 4 else GSO_TCPV6
    checksum_offset = CHECKSUM_OFFSET[packet.protocol]
    return VNET.pack(NEEDS_CSUM, kind, packet.header_len, gso_size, packet.transport_at, checksum_offset)


def segments(packet: Packet, gso_size: int) -> list[bytes]:
    """What a network card would make of a packet: one Packet for each piece of its payload."""
    pieces = [packet.payload[at : at + gso_size] for at in range(0, len(packet.payload), gso_size)] or [b""]
    made = []
    for i, piece in enumerate(pieces):
        only_first = 0 if i == 0 else CWR
        only_last = 0 if i == len(pieces) - 1 else FIN | PSH
        made.append(
            bytes(
                replace(
                    packet,
                    payload=piece,
                    identification=packet.identification + i,
                    sequence=packet.sequence + i * gso_size,
                    flags=packet.flags & ~only_first & ~only_last,
                )
            )
        )
    return made


def verifies(packet: bytes) -> bool:
    """Whether the checksums of an IPv4 or IPv6 packet, without options or extensions, are right."""
    if packet[0] >> 4 == 4:
        if ones_sum(packet[:20]) != 0xFFFF:
            return False
        protocol, addresses, transport = packet[9], packet[12:20], packet[20:]
    else:
        protocol, addresses, transport = packet[6], packet[8:40], packet[40:]
    return ones_sum(addresses + struct.pack("!II", len(transport), protocol) + transport) == 0xFFFF


def stream(first: Packet, sizes: Sequence[int], *, id_step: int = 1) -> list[Packet]:
    """Packets of one flow, in sequence, with payloads of these sizes."""
    packets = []
    for i, size in enumerate(sizes):
        payload = bytes((i * 31 + at * 7) & 0xFF for at in range(size))
        packets.append(
            replace(
                first,
                payload=payload,
                sequence=first.sequence + sum(sizes[:i]),
                identification=first.identification + i * id_step,
            )
        )
    return packets
