"""Where the sockets of the daemons are."""

from __future__ import annotations

import os
from pathlib import Path

from wh.system.interface_name import RULE, is_interface_name

DEFAULT_RUN_DIR = "/run/wirehub"
SOCKET_SUFFIX = ".sock"
LOG_SUFFIX = ".log"
LOG_MODE = 0o640
NAME_SHOWN = 60


def run_dir() -> str:
    """The directory of the sockets; WH_RUNDIR overrides it, for tests and for use without root."""
    return os.environ.get("WH_RUNDIR") or DEFAULT_RUN_DIR


def socket_path(interface: str) -> str:
    """Raises ValueError for a text that cannot be an interface's name (and so could leave the directory)."""
    if not is_interface_name(interface):
        raise ValueError(f"{interface[:NAME_SHOWN]!r} is not an interface name: {RULE}")
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
    interfaces = (name.removesuffix(SOCKET_SUFFIX) for name in names if name.endswith(SOCKET_SUFFIX))
    return sorted(filter(is_interface_name, interfaces))
