"""Copies UDP datagrams between two hosts, from addresses of its own and by shorter ways, and passes on what
comes back.

Runs on a router between them: python copy_datagrams.py PORT1 IP1 BACK1 OWN1 PORT2 IP2 BACK2 OWN2
PORTn: the router's device towards the host with address IPn; BACKn: its device for the shorter way there,
OWNn: our address on that. Prints "ready", and at the end of its input how many it copied and passed on."""

from __future__ import annotations

import selectors
import socket
import sys
from dataclasses import dataclass, field

ETH_P_IP = 0x0800
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_BINDTODEVICE = 25
IPPROTO_UDP = 17


@dataclass
class Side:
    """A host, and where we stand for the other one."""

    port: str
    ip: str
    back: str
    own: str
    packets: socket.socket = field(init=False)
    udp: socket.socket = field(init=False)
    udp_port: int = 0  # of the host

    def __post_init__(self) -> None:
        self.packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self.packets.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.packets.bind((self.port, ETH_P_IP))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, self.back.encode())
        self.udp.bind((self.own, 0))


def udp_of(packet: bytes, source: str, target: str) -> tuple[int, int, bytes] | None:
    """Ports and payload of a datagram between the two."""
    header_len = (packet[0] & 15) * 4
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    if packet[9] != IPPROTO_UDP or packet[12:20] != addresses:
        return None
    ports = packet[header_len : header_len + 4]
    end = header_len + int.from_bytes(packet[header_len + 4 : header_len + 6], "big")
    return int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big"), packet[header_len + 8 : end]


def main() -> None:
    first, second = Side(*sys.argv[1:5]), Side(*sys.argv[5:9])
    copied = passed_on = 0
    waiting = selectors.DefaultSelector()
    for side, other in ((first, second), (second, first)):
        waiting.register(side.packets, selectors.EVENT_READ, ("copy", side, other))
        waiting.register(side.udp, selectors.EVENT_READ, ("pass on", side, other))
    waiting.register(sys.stdin, selectors.EVENT_READ, None)
    print("ready", flush=True)
    while True:
        for key, _ in waiting.select():
            if key.data is None:
                print(copied, passed_on, flush=True)
                return
            what, side, other = key.data
            if what == "copy":
                known = udp_of(side.packets.recv(2048), side.ip, other.ip)
                if known is not None:
                    side.udp_port, other.udp_port, payload = known
                    other.udp.sendto(payload, (other.ip, other.udp_port))
                    copied += 1
            else:
                payload = side.udp.recv(2048)
                if other.udp_port:
                    other.udp.sendto(payload, (other.ip, other.udp_port))
                    passed_on += 1


if __name__ == "__main__":
    main()
