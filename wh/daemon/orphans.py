"""What the first process of a container owes to the others: an end to those that nobody else waits for.

The kernel gives it every process whose parent is gone; one that has ended stays in the process table until it
is waited for (wait(2), "zombie").
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

SWEEP_S = 5.0
"""A child of our own is waited for at once by who started it: what was dead a sweep ago is an orphan."""

FIRST_PROCESS = 1


async def reap_orphans(interval_s: float = SWEEP_S) -> None:
    """Runs until it is cancelled."""
    dead: set[int] = set()
    while True:
        await asyncio.sleep(interval_s)
        now_dead = _dead_children()
        for pid in dead & now_dead:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        dead = now_dead - dead


def _dead_children() -> set[int]:
    """Those of each of our threads (proc(5), /proc/PID/task/TID/children)."""
    pids: set[int] = set()
    for children in Path("/proc/self/task").glob("*/children"):
        try:
            pids.update(map(int, children.read_text().split()))
        except OSError:
            continue  # the thread has ended
    return {pid for pid in pids if _is_dead(pid)}


def _is_dead(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"
