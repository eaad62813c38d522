"""How long to wait before the next search among a peer's ports (docs/protocol.md section 7)."""

from __future__ import annotations

from wh.engine.events import Key

FIRST_PAUSE_S = 20.0
LONGEST_PAUSE_S = 3600.0
PEERS_MAX = 1024


class SearchPauses:
    """After each search that failed twice as long as after the one before. now: monotonic seconds."""

    def __init__(self) -> None:
        self._pauses: dict[Key, tuple[float, float]] = {}  # peer -> length, end

    def over(self, peer: Key, now: float) -> bool:
        _, end = self._pauses.get(peer, (0.0, now))
        return now >= end

    def ended(self, peer: Key, *, succeeded: bool, now: float) -> None:
        length, _ = self._pauses.pop(peer, (FIRST_PAUSE_S / 2, now))
        if succeeded:
            return
        length = min(LONGEST_PAUSE_S, 2 * length)
        self._pauses[peer] = length, now + length
        if len(self._pauses) > PEERS_MAX:
            del self._pauses[next(iter(self._pauses))]
