"""A client of a relay: `relay_client.py PORT RELAY_ADDRESS LEG SIZE SECONDS`.

Floods the relay with CHANNEL datagrams (docs/protocol.md section 2) that hold SIZE bytes each, as many to a
system call as UDP segmentation takes. 0 seconds: one datagram, which proves that a target is there.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

CHANNEL_HEADER = struct.Struct("<II")
CHANNEL_WORD = 0x000502FF
DATA_MESSAGE = b"\x04\0\0\0"

# linux/udp.h; a send is at most 64 segments, and a UDP payload at most 65,507 bytes.
SOL_UDP = 17
UDP_SEGMENT = 103
SEGMENTS_MAX = 64
PAYLOAD_MAX = 65_507


def main() -> None:
    port, leg, size, seconds = (int(sys.argv[n]) for n in (1, 3, 4, 5))
    datagram = CHANNEL_HEADER.pack(CHANNEL_WORD, leg) + DATA_MESSAGE.ljust(size, b"\0")
    run = datagram * min(SEGMENTS_MAX, PAYLOAD_MAX // len(datagram))
    segment = [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", len(datagram)))]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("", port))
        udp.connect((sys.argv[2], port))
        udp.send(datagram)
        stop_at = time.monotonic() + seconds
        while time.monotonic() < stop_at:
            udp.sendmsg([run], segment)


if __name__ == "__main__":
    main()
