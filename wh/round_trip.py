"""Round-trip time of a peer and the timeout that follows from it (RFC 6298)."""

from __future__ import annotations

MIN_TIMEOUT_S = 0.15
MAX_TIMEOUT_S = 1.0
"""docs/protocol.md section 5."""

_ALPHA = 1 / 8
_BETA = 1 / 4
_K = 4


class RoundTrip:
    """Smoothed estimate; times in seconds."""

    __slots__ = ("srtt", "variation")

    def __init__(self) -> None:
        self.srtt: float | None = None
        self.variation = 0.0

    def sample(self, rtt: float) -> None:
        if self.srtt is None:
            self.srtt, self.variation = rtt, rtt / 2
            return
        self.variation += _BETA * (abs(self.srtt - rtt) - self.variation)
        self.srtt += _ALPHA * (rtt - self.srtt)

    @property
    def timeout(self) -> float:
        """srtt + 4 var within its limits; the upper one before the first sample."""
        if self.srtt is None:
            return MAX_TIMEOUT_S
        return min(MAX_TIMEOUT_S, max(MIN_TIMEOUT_S, self.srtt + _K * self.variation))
