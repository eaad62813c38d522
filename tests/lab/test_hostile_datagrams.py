"""A running node under hostile input: it stays up, never answers with more than it got, memory stays flat."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench_junk import KINDS, SENDER
from labnet import Host
from pinging import answers_within, lost
from tutorial import INTERFACE, PORT, Tutorial
from whcore import keys

FUZZ = Path(__file__).parent.parent / "fuzz"
SEED = 20180704
COUNT = 100_000
WARM_UP_COUNT = 5_000
GROWTH_LIMIT_KB = 5 * 1024
FLOOD_PER_S = 5_000

SPEAK_TO_SOCKET = """
import random, socket, sys
random.seed(int(sys.argv[2]))
for attempt in range(300):
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        caller.connect(sys.argv[1])
        text = random.randbytes(random.choice((0, 1, 10, 1000, 70_000)))
        if attempt % 3 == 0:
            text = b'{"verb": "' + text
        try:
            caller.sendall(text + b"\\n" * (attempt % 2))
            caller.shutdown(socket.SHUT_WR)
            while caller.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
"""


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def capture_of_a_live_exchange(tutorial: Tutorial) -> list[str]:
    """Real datagrams of node_a, control and WireGuard, as hexadecimal. No relay hides those of WireGuard."""
    (tutorial.bootstrap.directory / "public").write_text(f"{tutorial.public_file()}relay off\n")
    capture = tutorial.node_a.popen(
        [sys.executable, FUZZ / "capture.py", str(PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert capture.stdout is not None
    assert capture.stdout.readline() == "listening\n"
    tutorial.up(tutorial.bootstrap)
    tutorial.up(tutorial.node_a, "listen-port", str(PORT))
    tutorial.up(tutorial.node_b)
    tutorial.node_a.run(["ping", "-c3", "-i0.2", "-w5", "node_b"])
    return capture.communicate(timeout=10)[0].split()


def attack(attacker: Host, tutorial: Tutorial, corpus: list[str], *, seed: int, count: int) -> dict[str, Any]:
    print(f"seed {seed}, {count} datagrams")
    order = {
        "host": "198.51.100.10",
        "port": tutorial.inspect(tutorial.node_a)["listen_port"],
        "seed": seed,
        "count": count,
        "public_key": keys.decode_key(tutorial.keys["node_a"]).hex(),
        "corpus": corpus,
    }
    sender = attacker.run([sys.executable, FUZZ / "send_hostile.py"], input=json.dumps(order), timeout=300)
    report: dict[str, Any] = json.loads(sender.stdout)
    return report


def test_hostile_datagrams_change_nothing(tutorial: Tutorial) -> None:
    corpus = capture_of_a_live_exchange(tutorial)
    assert {"ff02", "0100", "0400"} <= {datagram[:4] for datagram in corpus}
    attacker = tutorial.lab.host("attacker")
    attacker.attach(tutorial.networks["net_a"], "198.51.100.66/24")
    pid = tutorial.inspect(tutorial.node_a)["pid"]
    attack(attacker, tutorial, corpus, seed=SEED - 1, count=WARM_UP_COUNT)
    before_kb = resident_kb(pid)

    report = attack(attacker, tutorial, corpus, seed=SEED, count=COUNT)

    assert report["sent"] == COUNT
    assert report["violations"] == []
    status = tutorial.inspect(tutorial.node_a)
    assert status["pid"] == pid
    assert resident_kb(pid) - before_kb < GROWTH_LIMIT_KB
    assert "Traceback" not in tutorial.lab.logs()
    assert lost(tutorial.node_a.run(["ping", "-c5", "-i0.2", "-W2", "node_b"]).stdout) == 0
    assert answers_within(tutorial.node_b, "node_a", 5)


def test_members_meet_while_forged_inits_flood_one_of_them(running: Tutorial) -> None:
    """More of them than Python may see: workers answer with cookies, and who brings one is heard."""
    host = running.node_a
    assert answers_within(running.node_b, "node_a", 10)
    attacker = running.lab.host("attacker")
    attacker.attach(running.networks["net_a"], "198.51.100.66/24")
    key, source = keys.decode_key(running.keys["node_a"]), random.Random(SEED)
    order = {
        "host": "198.51.100.10",
        "port": running.inspect(host)["listen_port"],
        "rate": FLOOD_PER_S,
        "seconds": 12,
        "datagrams": [KINDS["INIT, right mac1"](source, key).hex() for _ in range(1000)],
    }
    before = running.inspect(host)["data"]
    flood = attacker.popen([sys.executable, SENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert flood.stdin is not None
    flood.stdin.write(json.dumps(order))
    flood.stdin.close()
    running.down(running.node_b)
    running.up(running.node_b)
    assert answers_within(running.node_b, "node_a", 8)
    after = running.inspect(host)["data"]
    assert after["cookie_sent"] - before["cookie_sent"] > 1000
    assert after["drop_queue_full"] == before["drop_queue_full"]
    flood.kill()


def test_random_bytes_on_the_local_socket_are_refused_one_by_one(running: Tutorial) -> None:
    host = running.node_a
    status = running.inspect(host)
    socket_path = host.directory / "run" / f"{INTERFACE}.sock"
    host.run([sys.executable, "-c", SPEAK_TO_SOCKET, socket_path, str(SEED)])
    assert running.inspect(host)["pid"] == status["pid"]
    assert resident_kb(status["pid"]) < 60 * 1024
    assert "Traceback" not in running.lab.logs()
    assert answers_within(host, "node_b", 5)
