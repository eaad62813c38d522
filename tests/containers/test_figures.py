"""How soon a node has joined, and what twenty of them take."""

from __future__ import annotations

import contextlib
import re
import statistics
import time
from datetime import datetime
from pathlib import Path

from container_engine import FULL, Container, Engine, wait_until
from container_networks import Tutorial

PEERS = 20
MEMORY_MAX_MB = 1200
JOINED_MAX_S = 2.0  # on a machine that does nothing else
WORK_S = 0.1


def slowness() -> float:
    """Seconds that a second of work takes here: 1 on a machine that does nothing else."""
    began, worked = time.monotonic(), time.process_time()
    while time.process_time() - worked < WORK_S:
        pass
    return (time.monotonic() - began) / WORK_S


def join_s(container: Container) -> float:
    """From the start of its first process to the answer that it has joined, without what an answer takes."""
    container.wait_until_healthy()
    joined = time.time()
    container.wait_until_healthy()
    answer_s = time.time() - joined
    return joined - answer_s - datetime.fromisoformat(container.state()["StartedAt"]).timestamp()


def memory_mb(container: Container) -> float:
    """Proportional set sizes: what is shared counts once in all."""
    total = 0
    for pid in processes(container):
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(map(int, re.findall(r"^Pss:\s+(\d+) kB", told, re.MULTILINE)))
    return total / 1000


def processes(container: Container) -> list[int]:
    """With the engine's own, which watches the container."""
    first = Path(f"/proc/{container.state()['Pid']}")
    parent = re.search(r"^PPid:\s+(\d+)", (first / "status").read_text(), re.MULTILINE)
    assert parent is not None
    namespace = (first / "ns/pid").readlink()
    found = [int(parent[1])]
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "ns/pid").readlink() == namespace:
                found.append(int(path.name))
    return found


def test_twenty_containers_join_and_fit(engine: Engine) -> None:
    names = [f"node_{number}" for number in range(PEERS)]
    tutorial = Tutorial(engine, *names)
    tutorial.public.wait_until_healthy()
    joined, unhurried = [], []
    containers = []
    for name in names:
        before = slowness()
        container = tutorial.start(name, FULL)
        joined.append(join_s(container))
        unhurried.append(joined[-1] / statistics.mean((before, slowness())))
        containers.append(container)
    wait_until(lambda: containers[0].health().members == PEERS - 1, "all members")
    total = sum(map(memory_mb, containers))
    print(
        f"start to joined: median {statistics.median(joined):.1f} s, on a machine that does nothing else "
        f"{statistics.median(unhurried):.1f} s; {PEERS} containers: {total:.0f} MB"
    )
    assert total < MEMORY_MAX_MB
    assert statistics.median(unhurried) < JOINED_MAX_S
