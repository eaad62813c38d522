"""Does a process grow? Judged from samples of its memory, file descriptors and threads."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from process_stat import fd_count, resident_kib, thread_count

WARM_UP = 0.2
"""Part of the samples at the start that does not count: buffers and the interpreter find their size."""

RESIDENT_GROWTH_KIB_MAX = 1024.0
"""What the fitted line may climb from its first counted sample to the last: pages come and go."""

COUNT_SLACK = 2
"""A descriptor that is closed a moment later than usual; a leak of one a second makes hundreds."""


@dataclass(frozen=True)
class Resources:
    at_s: float
    resident_kib: int
    fds: int
    threads: int


def sample(pid: int, at_s: float) -> Resources:
    return Resources(at_s, resident_kib(pid), fd_count(pid), thread_count(pid))


def counted(samples: Sequence[Resources]) -> Sequence[Resources]:
    return samples[int(len(samples) * WARM_UP) :]


def resident_growth_kib(samples: Sequence[Resources]) -> float:
    """By the line of least squares through the samples after the warm-up; 0 where there are too few."""
    rest = counted(samples)
    if len(rest) < 2 or rest[-1].at_s == rest[0].at_s:
        return 0.0
    line = statistics.linear_regression([each.at_s for each in rest], [each.resident_kib for each in rest])
    return line.slope * (rest[-1].at_s - rest[0].at_s)


def complaints(name: str, samples: Sequence[Resources]) -> list[str]:
    """What grew. Descriptors and threads: more at any time of the second half than ever in the first."""
    found = []
    growth = resident_growth_kib(samples)
    if growth > RESIDENT_GROWTH_KIB_MAX:
        found.append(f"{name}: resident memory grew by {growth:,.0f} KiB")
    rest = counted(samples)
    first, second = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    if first and second:
        for what in ("fds", "threads"):
            before, after = (max(getattr(each, what) for each in half) for half in (first, second))
            if after > before + COUNT_SLACK:
                found.append(f"{name}: {what} grew from {before} to {after}")
    return found
