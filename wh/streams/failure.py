"""How a stream ended."""

from __future__ import annotations

from enum import Enum


class End(Enum):
    DONE = "done"  # all bytes of both directions are where they should be
    LOCAL_ERROR = "local error"  # our own source or sink failed
    REMOTE_ERROR = "remote error"  # the other end's did
    LOST = "lost"  # the connection broke, or said nothing for too long
    PROTOCOL = "protocol"  # the other end is no 0nc
    CANCELLED = "cancelled"


class StreamFailure(Exception):
    def __init__(self, end: End, message: str) -> None:
        super().__init__(message)
        self.end = end
