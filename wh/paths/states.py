"""One peer's path as a state machine (docs/protocol.md section 7). Its rule is the table at the end."""

from __future__ import annotations

from enum import Enum, auto

from wh.engine.events import Path


class PathState(Enum):
    IDLE = "idle"  # no way to the peer, and none tried now
    VALIDATING = "validating"  # addresses are tried; none has proved itself
    RELAYED = "relayed"  # a relay's channel carries data
    PUNCHING = "punching"  # the same, while both sides try to open their NATs
    DIRECT = "direct"  # a round trip was made on `path`; data goes there
    SUSPECT = "suspect"  # the same, but `path` has fallen silent: data takes a channel too


class PathInput(Enum):
    TRY = auto()  # there is an address to try
    PROVED = auto()  # a round trip on a direct path: a better one, or the first
    EXHAUSTED = auto()  # nothing that was tried answered
    CHANNEL = auto()  # a relay opened a channel
    UNRELAYED = auto()  # the last channel is gone
    PUNCH = auto()  # hole punching begins
    PUNCHED = auto()  # and ends, with or without success
    SILENT = auto()  # nothing is heard on the direct path
    HEARD = auto()  # something is, again
    DROPPED = auto()  # the direct path is given up; there are channels
    LOST = auto()  # the peer left, or no way to it is left


class PeerPath:
    """State and direct path. Both change in step() only."""

    def __init__(self) -> None:
        self.state = PathState.IDLE
        self.path: Path | None = None

    def step(self, happened: PathInput, path: Path | None = None) -> bool:
        """Whether the direct path changed. path: the one that was PROVED.

        What the table does not list changes nothing: an answer that comes late, say, or a loss reported
        twice."""
        following = TRANSITIONS.get((self.state, happened))
        if following is None:
            return False
        before, self.state = self.path, following
        if happened is PathInput.PROVED:
            self.path = path
        elif following not in HAVING_PATH:
            self.path = None
        return self.path != before


HAVING_PATH = frozenset({PathState.DIRECT, PathState.SUSPECT})
"""States with a direct path."""

ON_CHANNELS = frozenset({PathState.RELAYED, PathState.PUNCHING})
"""States in which channels alone carry data."""

TRANSITIONS: dict[tuple[PathState, PathInput], PathState] = {
    (PathState.IDLE, PathInput.TRY): PathState.VALIDATING,
    (PathState.IDLE, PathInput.CHANNEL): PathState.RELAYED,
    (PathState.IDLE, PathInput.PROVED): PathState.DIRECT,  # the peer came to us
    (PathState.VALIDATING, PathInput.PROVED): PathState.DIRECT,
    (PathState.VALIDATING, PathInput.CHANNEL): PathState.RELAYED,
    (PathState.VALIDATING, PathInput.EXHAUSTED): PathState.IDLE,
    (PathState.VALIDATING, PathInput.LOST): PathState.IDLE,
    (PathState.RELAYED, PathInput.PUNCH): PathState.PUNCHING,
    (PathState.RELAYED, PathInput.PROVED): PathState.DIRECT,
    (PathState.RELAYED, PathInput.UNRELAYED): PathState.IDLE,
    (PathState.RELAYED, PathInput.LOST): PathState.IDLE,
    (PathState.PUNCHING, PathInput.PUNCHED): PathState.RELAYED,
    (PathState.PUNCHING, PathInput.PROVED): PathState.DIRECT,
    (PathState.PUNCHING, PathInput.UNRELAYED): PathState.IDLE,
    (PathState.PUNCHING, PathInput.LOST): PathState.IDLE,
    (PathState.DIRECT, PathInput.PROVED): PathState.DIRECT,  # it moved, or a better one was found
    (PathState.DIRECT, PathInput.SILENT): PathState.SUSPECT,
    (PathState.DIRECT, PathInput.DROPPED): PathState.RELAYED,
    (PathState.DIRECT, PathInput.LOST): PathState.IDLE,
    (PathState.SUSPECT, PathInput.PROVED): PathState.DIRECT,
    (PathState.SUSPECT, PathInput.HEARD): PathState.DIRECT,
    (PathState.SUSPECT, PathInput.DROPPED): PathState.RELAYED,
    (PathState.SUSPECT, PathInput.LOST): PathState.IDLE,
}
