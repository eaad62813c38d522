"""Round-trip time of one peer, and how long to wait for it (RFC 6298, docs/protocol.md section 5)."""

from __future__ import annotations

MIN_TIMEOUT_S = 0.15
MAX_TIMEOUT_S = 1.0
INITIAL_TIMEOUT_S = 0.5
"""Before any sample: most round trips on the Internet, with a handshake, are shorter."""

_SRTT_GAIN = 1 / 8
_RTTVAR_GAIN = 1 / 4


class RttEstimator:
    """Smoothed round-trip time and its variation, in seconds. srtt is None before the first sample."""

    __slots__ = ("rttvar", "srtt")

    def __init__(self) -> None:
        self.srtt: float | None = None
        self.rttvar = 0.0

    def add_sample(self, rtt: float) -> None:
        """rtt: seconds, of a request that was sent once (of a repeated one it is unclear)."""
        if self.srtt is None:
            self.srtt, self.rttvar = rtt, rtt / 2
            return
        self.rttvar += _RTTVAR_GAIN * (abs(self.srtt - rtt) - self.rttvar)
        self.srtt += _SRTT_GAIN * (rtt - self.srtt)

    @property
    def timeout(self) -> float:
        """Seconds after which a request counts as slow: srtt + 4 var, within 0.15 and 1."""
        if self.srtt is None:
            return INITIAL_TIMEOUT_S
        return min(max(self.srtt + 4 * self.rttvar, MIN_TIMEOUT_S), MAX_TIMEOUT_S)
