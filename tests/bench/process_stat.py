"""What the kernel tells of a running process (proc(5)), for benches and the soak."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Numbers of /proc/PID/stat's fields after the command's closing parenthesis, from 0: utime, stime.
_UTIME, _STIME = 11, 12


def cpu_s(pid: int) -> float:
    """CPU seconds in user and kernel mode, of all threads that live or lived. Steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) / TICKS_PER_S


def resident_kib(pid: int) -> int:
    return _status(pid, "VmRSS")


def peak_resident_kib(pid: int) -> int:
    return _status(pid, "VmHWM")


def thread_count(pid: int) -> int:
    return _status(pid, "Threads")


def fd_count(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def tcp_counters(pid: int) -> dict[str, int]:
    """The Tcp line of /proc/net/snmp (RFC 1213's names) in the process's network namespace."""
    lines = Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Tcp:"))
    return dict(zip(names, map(int, values), strict=True))


def _status(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
