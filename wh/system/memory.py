"""What a process does before it reads a secret key."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def protect_memory() -> None:
    """No core dump, no ptrace and no /proc/PID/mem of another process of this user may show a key."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
