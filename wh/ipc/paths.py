"""Where the sockets of the daemons are."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_RUN_DIR = "/run/wirehub"
SOCKET_SUFFIX = ".sock"
LOG_SUFFIX = ".log"
INTERFACE_LEN_MAX = 15
"""IFNAMSIZ (linux/if.h) without its final zero."""


def run_dir() -> str:
    """The directory of the sockets; WH_RUNDIR overrides it, for tests and for use without root."""
    return os.environ.get("WH_RUNDIR") or DEFAULT_RUN_DIR


def is_interface_name(name: str) -> bool:
    """Whether the kernel would take the name (dev_valid_name in net/core/dev.c)."""
    if not name or name in (".", "..") or len(os.fsencode(name)) > INTERFACE_LEN_MAX:
        return False
    return not any(char in "/:" or char.isspace() or char == "\0" for char in name)


def socket_path(interface: str) -> str:
    """Raises ValueError for a text that cannot be an interface's name (and so could leave the directory)."""
    if not is_interface_name(interface):
        raise ValueError(
            f"{interface!r} is not an interface name: 1 to {INTERFACE_LEN_MAX} characters without / or :"
        )
    return f"{run_dir()}/{interface}{SOCKET_SUFFIX}"


def log_path(interface: str) -> Path:
    """Where a daemon's standard error goes; WH_LOGPATH overrides it, as in the original."""
    return Path(os.environ.get("WH_LOGPATH") or f"{run_dir()}/{interface}{LOG_SUFFIX}")


def present_interfaces() -> list[str]:
    """Interfaces that have a socket, sorted. The daemon behind one may be gone."""
    try:
        names = [path.name for path in Path(run_dir()).iterdir()]
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(SOCKET_SUFFIX) for name in names if name.endswith(SOCKET_SUFFIX))
