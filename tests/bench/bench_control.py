"""`make bench-control`: what the control plane and the command line cost, against their goals.

Exit code 1 where a goal was missed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from control_session import first_contact_cost, session_request_cost
from figures import Figure, report
from labnet import Host, Lab, missing_requirements
from tutorial import Tutorial
from whcore.keys import SecretKey

ROUNDS = 30
SEARCH_S = 3.0
UNREACHABLE_WORKBIT = 200
PING_DEADLINE_S = 10


def wall_s(argv: list[str], stdin: Path | None = None) -> float:
    with (stdin or Path(os.devnull)).open("rb") as stream:
        started = time.monotonic()
        subprocess.run(argv, stdin=stream, stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - started


def pubkey_start() -> list[Figure]:
    """`wh pubkey` against a Python that does nothing, alternating, so that a busy machine slows both."""
    wh = Path(sys.executable).parent / "wh"
    pubkey, nothing = [], []
    with tempfile.TemporaryDirectory() as folder:
        key_file = Path(folder) / "key"
        key_file.touch(0o600)
        with key_file.open("wb") as stream:
            SecretKey.generate().write_fd(stream.fileno())
        for _ in range(ROUNDS):
            pubkey.append(wall_s([str(wh), "pubkey"], key_file))
            nothing.append(wall_s([sys.executable, "-I", "-c", "pass"]))
    ratio = statistics.median(pubkey) / statistics.median(nothing)
    return [Figure("wh pubkey, whole process / an empty Python", ratio, "times", 3)]


def key_search() -> list[Figure]:
    """Keys per second of one thread, from a search that cannot succeed."""
    rate = 0.0

    def note_rate(tried: int, seconds: float) -> bool:
        nonlocal rate
        rate = tried / seconds if seconds else 0.0
        return seconds > SEARCH_S

    try:
        SecretKey.search(UNREACHABLE_WORKBIT, b"public", threads=1, progress=note_rate)
    except InterruptedError:
        return [Figure("key search, one core", rate, "keys/s", 30_000, at_least=True)]
    raise RuntimeError("a key of 200 workbits was found")


def control_sessions() -> list[Figure]:
    """CPU of the envelope and the codec together, without sockets."""
    first, later = first_contact_cost(), session_request_cost()
    return [
        Figure("first control contact, initiator", first.initiator_us, "us", 400),
        Figure("first control contact, responder", first.responder_us, "us", 400),
        Figure("request in a session, who asks", later.initiator_us, "us", 40),
        Figure("request in a session, who answers", later.responder_us, "us", 40),
    ]


def timed_s(action: Callable[..., object], *arguments: object) -> float:
    started = time.monotonic()
    action(*arguments)
    return time.monotonic() - started


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def tutorial_network() -> list[Figure]:
    """Real daemons in the tutorial's lab. The worst of the three nodes counts."""
    with Lab("bench") as lab:
        tutorial = Tutorial(lab)
        tutorial.make_keys()
        tutorial.write_files()
        ups = [timed_s(tutorial.up, host) for host in tutorial.nodes]
        first_ping = timed_s(ping_until_answered, tutorial.node_a, "node_b")
        memory = [resident_mb(tutorial.inspect(host)["pid"]) for host in tutorial.nodes]
    return [
        Figure("wh up returns", max(ups), "s", 1),
        Figure("first ping answered after the second wh up", first_ping, "s", 2),
        Figure("resident memory of a daemon with 3 peers", max(memory), "MB", 60),
    ]


def ping_until_answered(host: Host, peer: str) -> None:
    host.run(["ping", "-4", "-c1", "-i0.2", f"-w{PING_DEADLINE_S}", peer])


def main() -> int:
    if reason := missing_requirements():
        print(f"bench-control: {reason}", file=sys.stderr)
        return 1
    benches = (pubkey_start, key_search, control_sessions, tutorial_network)
    figures = [figure for bench in benches for figure in bench()]
    return 0 if report("control", figures) else 1


if __name__ == "__main__":
    sys.exit(main())
