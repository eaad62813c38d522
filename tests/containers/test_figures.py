"""How soon a node has joined, and what twenty of them take."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

from container_engine import FULL, Container, Engine, wait_until
from container_networks import Tutorial

PEERS = 20
MEMORY_MAX_MB = 1200
JOINED_MAX_S = 10.0  # 2 s on a machine that does nothing else


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
    joined = []
    containers = []
    for name in names:
        started = time.monotonic()
        container = tutorial.start(name, FULL)
        container.wait_until_healthy()
        joined.append(time.monotonic() - started)
        containers.append(container)
    joined.sort()
    wait_until(lambda: containers[0].health().members == PEERS - 1, "all members")
    total = sum(map(memory_mb, containers))
    load = os.getloadavg()[0]
    print(
        f"start to joined: median {joined[PEERS // 2]:.1f} s, {joined[0]:.1f} to {joined[-1]:.1f} s, "
        f"engine's start and health's included; {PEERS} containers: {total:.0f} MB; load {load:.0f}"
    )
    assert total < MEMORY_MAX_MB
    assert joined[0] < JOINED_MAX_S
