"""Valid WireGuard initiations of many peers against one device, as fast as it answers.

Called by bench-data on the host that plays the peers. Prints one JSON object. A few initiations are under way
at any time, so that no implementation is under load and asks for cookies (whitepaper 5.3).
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from process_stat import cpu_s
from uapi_client import peer_lines, set_device
from whcore.keys import SecretKey, decode_key
from whcore.sansio import Tunnel

WINDOW = 16
"""Initiations without a response; every implementation takes 128 for load."""

RESPONSE_LEN = 92
RESPONSE_TYPE = 2
PASS_INTERVAL_S = 0.1
"""A peer's initiations are further apart than any implementation's limit for one peer (20 to 50 ms)."""

LOST_AFTER_S = 2.0
ANSWERED_AT_LEAST = 0.95
"""With fewer answers the CPU went to something else than responses."""


def initiations(peers: Iterable[Tunnel], number: int) -> list[bytes]:
    """One of each peer, each timestamp later than the last pass's."""
    wall_ns = time.time_ns() + number * 1_000_000_000
    return [peer.initiate(now_ns=time.monotonic_ns(), wall_ns=wall_ns) for peer in peers]


def answered(udp: socket.socket, messages: Iterator[bytes]) -> int:
    """Send all, WINDOW at a time; returns how many responses came. Ends early where none comes any more."""
    responses = outstanding = 0
    while True:
        for message in islice(messages, WINDOW - outstanding):
            udp.send(message)
            outstanding += 1
        if not outstanding:
            return responses
        try:
            answer = udp.recv(2048)
        except TimeoutError:
            outstanding = 0
            continue
        if len(answer) == RESPONSE_LEN and answer[0] == RESPONSE_TYPE:
            responses += 1
        outstanding -= 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("interface")
    parser.add_argument("public_key")
    parser.add_argument("address")
    for name in ("port", "pid", "peers", "passes"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()

    responder = decode_key(arguments.public_key)
    keys = [SecretKey.generate() for _ in range(arguments.peers)]
    peers = [Tunnel(key, responder) for key in keys]
    lines = [
        peer_lines(key.public_key, f"10.{64 + i // 65536}.{i // 256 % 256}.{i % 256}/32")
        for i, key in enumerate(keys)
    ]
    set_device(arguments.interface, (line for peer in lines for line in peer))
    responses, spent = 0, 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(LOST_AFTER_S)
        udp.connect((arguments.address, arguments.port))
        for number in range(arguments.passes):
            messages = initiations(peers, number)
            before = cpu_s(arguments.pid)
            responses += answered(udp, iter(messages))
            time.sleep(PASS_INTERVAL_S)
            spent += cpu_s(arguments.pid) - before
    sent = arguments.peers * arguments.passes
    if responses < sent * ANSWERED_AT_LEAST or not spent:
        sys.exit(f"{responses} of {sent} initiations were answered, in {spent:g} CPU seconds")
    print(json.dumps({"responses": responses, "responses_per_cpu_s": responses / spent}))


if __name__ == "__main__":
    main()
