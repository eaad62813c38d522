"""A flood of handshake messages: data flows on, cookies are asked for, an honest newcomer gets in."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from loopback_planes import Node

from whcore.keys import SecretKey
from whcore.sansio import Tunnel

FORGERIES = 64
ADMISSION_S = 60.0
PACKETS = 200


def initiations(victim: bytes) -> list[bytes]:
    """Handshake initiations with a right mac1, of keys that the victim does not know."""
    return [
        Tunnel(SecretKey.generate(), victim).initiate(now_ns=1, wall_ns=1_700_000_000_000_000_000)
        for _ in range(FORGERIES)
    ]


@contextmanager
def flood(victim: Node) -> Iterator[None]:
    """Send such initiations as fast as one thread can, for as long as the block runs."""
    stop = threading.Event()
    forged = initiations(victim.key)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            while not stop.is_set():
                for datagram in forged:
                    attacker.sendto(datagram, ("127.0.0.1", victim.port))

    attackers = [threading.Thread(target=send) for _ in range(2)]
    for attacker in attackers:
        attacker.start()
    try:
        victim.until(lambda: victim.plane.counters()["cookie_sent"] > 0, "the flood is noticed")
        yield
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join()


def delivered(sender: Node, victim: Node, n: int) -> int:
    """How many of n packets arrive. The kernel's socket buffer is shared with the flood: a few may not."""
    victim.tun.settimeout(0.2)
    arrived = 0
    for _ in range(n):
        packet = sender.emit(victim, os.urandom(8))
        try:
            arrived += victim.tun.recv(2000) == packet
        except TimeoutError:
            continue
    return arrived


def admitted(newcomer: Node, victim: Node) -> None:
    """Until there is a cookie, one message in a few gets through a full queue; tries are 5 s apart."""
    give_up_at = time.monotonic() + ADMISSION_S
    victim.tun.settimeout(0.5)
    while True:
        packet = newcomer.emit(victim, os.urandom(8))
        try:
            if victim.tun.recv(2000)[:20] == packet[:20]:
                return
        except TimeoutError:
            assert time.monotonic() < give_up_at, newcomer.plane.counters()


def test_data_flows_and_a_newcomer_gets_in_during_a_handshake_flood() -> None:
    a, b, newcomer = Node("10.0.0.1"), Node("10.0.0.2"), Node("10.0.0.3")
    try:
        a.knows(b)
        b.knows(a)
        newcomer.knows(b)
        b.knows(newcomer)
        packet = a.emit(b, b"first")
        assert b.tun.recv(2000) == packet
        with flood(b):
            assert delivered(a, b, PACKETS) >= PACKETS * 9 // 10
            admitted(newcomer, b)
        counters = b.plane.counters()
        assert counters["cookie_sent"] > 0
        assert counters["tx_handshake"] < counters["rx_handshake"] + counters["drop_queue_full"]
    finally:
        for node in (a, b, newcomer):
            node.close()
