"""The real kernel's networking, in a namespace that ends with the thread that made it."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from wh.errors import SystemSetupError
from wh.net.links import tun

CLONE_NEWNET = 0x40000000  # linux/sched.h


def in_namespace(body: Callable[[], None]) -> None:
    """Run body() in a thread with a network namespace of its own (threads that it starts are in it too)."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _unshare_network()
            body()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _unshare_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def _problem() -> str | None:
    if not Path(tun.TUN_DEVICE).exists():
        return f"there is no {tun.TUN_DEVICE}"
    try:
        in_namespace(lambda: tun.close_all(tun.open_tun("wh-test")))
    except (OSError, SystemSetupError) as error:
        return f"needs root, or CAP_SYS_ADMIN and CAP_NET_ADMIN: {error}"
    return None


PROBLEM = _problem()
needs_namespace = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))


def ip(*words: str) -> str:
    """iproute2, the independent witness."""
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout
