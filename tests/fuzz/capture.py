"""Print the UDP payloads from and to a port, as hexadecimal lines, until standard input ends.

Usage: capture.py PORT. Needs root; IPv4 without options only.
"""

from __future__ import annotations

import select
import socket
import struct
import sys

ETH_P_ALL = 3
IP_HEADER_LEN = 20
UDP_HEADER_LEN = 8


def udp_payload(packet: bytes, port: int) -> bytes | None:
    if len(packet) < IP_HEADER_LEN + UDP_HEADER_LEN or packet[0] != 0x45 or packet[9] != socket.IPPROTO_UDP:
        return None
    source, destination, length = struct.unpack_from("!HHH", packet, IP_HEADER_LEN)
    if port not in (source, destination):
        return None
    return packet[IP_HEADER_LEN + UDP_HEADER_LEN : IP_HEADER_LEN + length]


def main() -> None:
    port = int(sys.argv[1])
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    print("listening", flush=True)
    captured: list[bytes] = []
    while sys.stdin not in (readable := select.select([tap, sys.stdin], [], [])[0]) or tap in readable:
        if payload := udp_payload(tap.recv(65535), port):
            captured.append(payload)
    for payload in captured:  # not before the end: nobody reads the pipe while the exchange goes on
        print(payload.hex())


if __name__ == "__main__":
    main()
