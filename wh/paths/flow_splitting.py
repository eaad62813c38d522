"""Whether a peer's flows are worth two channels (docs/protocol.md section 7)."""

from __future__ import annotations

from wh.engine.events import Instant

BUSY_BYTES_S = 250_000
"""Both directions together, before encryption; below that one relay is always enough."""

PAUSE_S = 10.0
"""After one of the two fell silent for good: by then its relay is known to be lost."""


class FlowSplitting:
    def __init__(self) -> None:
        self._busy = False
        self._reported_at: float | None = None
        self._paused_until = float("-inf")

    def traffic(self, count: int, now: Instant) -> None:
        """count: bytes, either way, since the report before."""
        before, self._reported_at = self._reported_at, now.monotonic
        if before is not None and now.monotonic > before:
            self._busy = count >= BUSY_BYTES_S * (now.monotonic - before)

    def pause(self, now: Instant) -> None:
        self._paused_until = now.monotonic + PAUSE_S

    def wanted(self, now: Instant) -> bool:
        return self._busy and now.monotonic >= self._paused_until
