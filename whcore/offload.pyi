"""The data plane uses the C functions that offload.pxd declares; split() and coalesce() are for tests."""

from collections.abc import Iterable

HEADER_LEN: int
"""Bytes of a struct virtio_net_hdr (linux/virtio_net.h), fields in the machine's byte order."""

def split(header: bytes, packet: bytes) -> list[bytes]:
    """The IP packets in one frame as it is read from a TUN, each with a length, identification, sequence
    number and checksums of its own. header: HEADER_LEN bytes, else ValueError. Raises BadPacket where header
    and packet contradict each other."""

def coalesce(packets: Iterable[bytes], *, tcp: bool = True, udp: bool = True) -> list[tuple[bytes, bytes]]:
    """The frames (virtio header, packet) to write to a TUN for a batch of IP packets."""

def granted(fd: int) -> tuple[str, ...]:
    """Names of the offloads that a TUN, or a packet socket in its place, has from now on: "checksums", "TSO",
    "USO"."""
