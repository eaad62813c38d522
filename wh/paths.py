"""One peer's path as a state machine (docs/protocol.md section 7). Its rule is the table at the end."""

from __future__ import annotations

from enum import Enum, auto

from wh.events import Path


class PathState(Enum):
    IDLE = "idle"  # no way to the peer, and none tried now
    VALIDATING = "validating"  # addresses are tried; none has proved itself
    DIRECT = "direct"  # a round trip was made on `path`; data goes there


class PathInput(Enum):
    TRY = auto()  # there is an address to try
    PROVED = auto()  # a round trip on a path: a better one, or the first
    EXHAUSTED = auto()  # nothing that was tried answered
    LOST = auto()  # the peer left, or stays silent on its path


class PeerPath:
    """State and current path. Both change in step() only."""

    def __init__(self) -> None:
        self.state = PathState.IDLE
        self.path: Path | None = None

    def step(self, happened: PathInput, path: Path | None = None) -> bool:
        """Whether the path that data takes changed. path: the one that was PROVED.

        What the table does not list changes nothing: an answer that comes late, say, or a loss reported
        twice."""
        following = TRANSITIONS.get((self.state, happened))
        if following is None:
            return False
        before, self.state = self.path, following
        self.path = path if following is PathState.DIRECT else None
        return self.path != before


TRANSITIONS: dict[tuple[PathState, PathInput], PathState] = {
    (PathState.IDLE, PathInput.TRY): PathState.VALIDATING,
    (PathState.IDLE, PathInput.PROVED): PathState.DIRECT,  # the peer came to us
    (PathState.VALIDATING, PathInput.PROVED): PathState.DIRECT,
    (PathState.VALIDATING, PathInput.EXHAUSTED): PathState.IDLE,
    (PathState.VALIDATING, PathInput.LOST): PathState.IDLE,
    (PathState.DIRECT, PathInput.PROVED): PathState.DIRECT,  # it moved
    (PathState.DIRECT, PathInput.LOST): PathState.IDLE,
}
