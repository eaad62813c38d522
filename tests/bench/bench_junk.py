"""What junk costs a daemon: 40,000 datagrams a second at one port, of each kind, in CPU of the daemon.

    PYTHONPATH=sandbox:tests/bench .venv/bin/python tests/bench/bench_junk.py [KIND...]

With the interpreter of another checkout's .venv it measures that one. Exit code 1 where the goal was missed.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from figures import Figure, report
from labnet import Lab, missing_requirements, wait_until
from process_stat import cpu_s
from tutorial import Tutorial
from whcore.keys import decode_key

SENDER = Path(__file__).parent / "junk.py"
RATE = 40_000
SECONDS = 4
DISTINCT = 4_000
GOAL_PERCENT = 25
SEED = 20180704
MAC_LEN = 16
IDLE_FOR_S, IDLE_PERCENT = 1.0, 2
IDLE_WITHIN_S = 60.0

Kind = Callable[[random.Random, bytes], bytes]


def of_type(header: bytes, body_len: int) -> Kind:
    return lambda source, key: header + source.randbytes(body_len)


def with_mac1(header: bytes, body_len: int, label: bytes, more: bytes) -> Kind:
    """What anybody can make who knows the node's public key."""

    def make(source: random.Random, key: bytes) -> bytes:
        body = header + source.randbytes(body_len - 2 * MAC_LEN)
        mac1_key = hashlib.blake2s(label + key + more).digest()
        return (
            body
            + hashlib.blake2s(body, key=mac1_key, digest_size=MAC_LEN).digest()
            + source.randbytes(MAC_LEN)
        )

    return make


KINDS: dict[str, Kind] = {
    "random bytes": lambda source, key: source.randbytes(source.randrange(1, 600)),
    "INIT, wrong mac1": of_type(b"\xff\x02\x01\x00", 208),
    "INIT, right mac1": with_mac1(b"\xff\x02\x01\x00", 208, b"wh2 mac1", bytes(32)),
    "RESP, no such index": of_type(b"\xff\x02\x02\x00", 152),
    "COOKIE, no such index": of_type(b"\xff\x02\x03\x00", 60),
    "DATA, no such index": of_type(b"\xff\x02\x04\x00", 76),
    "CHANNEL, no such channel": of_type(b"\xff\x02\x05\x00", 156),
    "KNOCK": of_type(b"\xff\x02\x06\x00", 8),
    "BEACON": of_type(b"\xff\x02\x07\x00", 34),
    "unknown type": of_type(b"\xff\x02\x63\x00", 100),
    "WireGuard initiation, wrong mac1": of_type(b"\x01\0\0\0", 144),
    "WireGuard initiation, right mac1": with_mac1(b"\x01\0\0\0", 144, b"mac1----", b""),
    "WireGuard response, no such index": of_type(b"\x02\0\0\0", 88),
    "WireGuard data, no such index": of_type(b"\x04\0\0\0", 108),
}


def is_idle(pid: int) -> bool:
    """Whether the daemon does hardly anything for a second: it has joined, and knows its surroundings."""
    before = cpu_s(pid)
    time.sleep(IDLE_FOR_S)
    return 100 * (cpu_s(pid) - before) <= IDLE_PERCENT * IDLE_FOR_S


def main() -> int:
    if reason := missing_requirements():
        print(f"bench-junk: {reason}", file=sys.stderr)
        return 1
    source = random.Random(SEED)
    chosen = sys.argv[1:] or list(KINDS)
    figures = []
    with Lab("junk") as lab:
        tutorial = Tutorial(lab)
        tutorial.start()
        attacker = lab.host("attacker")
        attacker.attach(tutorial.networks["net_a"], "198.51.100.66/24")
        status = tutorial.inspect(tutorial.node_a)
        key = decode_key(tutorial.keys["node_a"])
        wait_until(lambda: is_idle(status["pid"]), IDLE_WITHIN_S, "the daemon has nothing else to do")
        for kind in chosen:
            order = {
                "host": "198.51.100.10",
                "port": status["listen_port"],
                "rate": RATE,
                "seconds": SECONDS,
                "datagrams": [KINDS[kind](source, key).hex() for _ in range(DISTINCT)],
            }
            before = cpu_s(status["pid"])
            sent = int(attacker.run([sys.executable, str(SENDER)], input=json.dumps(order)).stdout)
            spent = cpu_s(status["pid"]) - before
            # The sender may fall behind; what it did not send costs nothing.
            figures.append(Figure(kind, 100 * spent / sent * RATE, "%", GOAL_PERCENT))
            print(figures[-1].row(), f"  ({sent} sent)", flush=True)
    return 0 if report("junk", figures) else 1


if __name__ == "__main__":
    sys.exit(main())
