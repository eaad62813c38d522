"""Whether UDP gets anywhere at all (docs/protocol.md section 6)."""

from __future__ import annotations

SILENCES_AT_FIRST = 1
SILENCES_LATER = 3
"""Requests to servers that were given up in a row, each sent twice: before any was answered, and after."""


class UdpSilence:
    def __init__(self) -> None:
        self._silences = 0
        self._heard = False

    @property
    def blocked(self) -> bool:
        return self._silences >= (SILENCES_LATER if self._heard else SILENCES_AT_FIRST)

    def answered(self) -> None:
        self._silences, self._heard = 0, True

    def unanswered(self) -> None:
        self._silences += 1

    def restart(self) -> None:
        """The network around us is another one."""
        self._silences, self._heard = 0, False
