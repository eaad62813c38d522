"""What nobody waits for is reaped by the first process, and what somebody waits for is left to them."""

from __future__ import annotations

import subprocess
import sys

PATIENCE_S = 30

FIRST_PROCESS = """
import asyncio, ctypes, os, subprocess, sys
from wh.daemon.orphans import _dead_children, reap_orphans

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

async def main():
    sweeping = asyncio.ensure_future(reap_orphans(0.02))
    for _ in range(20):  # each shell ends before what it started, which is ours then
        subprocess.run(["sh", "-c", "sleep 0.1 & sleep 0.1 &"], check=True)
    seen = 0
    while seen < 10:
        seen = max(seen, len(_dead_children()))
        await asyncio.sleep(0.001)
    while _dead_children():
        await asyncio.sleep(0.01)
    ours = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
    assert await ours.wait() == 7
    sweeping.cancel()

asyncio.run(main())
print("reaped")
"""


def test_orphans_are_reaped_and_our_own_children_keep_their_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_PROCESS], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stdout == "reaped\n", done.stderr
