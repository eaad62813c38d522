"""Peers and keypairs at scale: the arenas grow in place, and an idle peer stays small."""

from __future__ import annotations

from pathlib import Path

from whcore.datapath import Datapath
from whcore.keys import SecretKey

PEERS = 2000
PAGE_LEN = 4096


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_LEN


def test_an_idle_peer_costs_less_than_4_kb() -> None:
    keys = [SecretKey.generate().public_key for _ in range(PEERS)]
    plane = Datapath(SecretKey.generate())
    try:
        plane.add_peer(keys[0])
        before = resident_bytes()
        for key in keys[1:]:
            plane.add_peer(key)
        assert (resident_bytes() - before) / (PEERS - 1) < 4096
        assert len(plane.peers()) == PEERS
    finally:
        plane.close()
