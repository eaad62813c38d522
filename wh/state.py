"""What a node must remember over a restart: ceilings of its two ever-growing numbers, and servers to begin
with.

A number that must never go back (the timestamp of control handshakes, the sequence of our record) is not
written at each use: a ceiling well above it is, and the next start begins there.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

DEFAULT_STATE_DIR = "/var/lib/wirehub"
CONTACTS_MAX = 50
STATE_LEN_MAX = 64 * 1024
"""Bytes; a longer file is not ours."""

CEILING_AHEAD_NS = 600 * 10**9
CEILING_REFRESH_NS = CEILING_AHEAD_NS // 2
MILLISECOND_NS = 10**6

log = logging.getLogger(__name__)


class SavedContact(msgspec.Struct, frozen=True):
    """A server: its key and address as text."""

    key: str
    address: str


class SavedState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file's content. timestamp_ceiling_ns: Unix ns; sequence_ceiling: Unix ms, as records count."""

    timestamp_ceiling_ns: int = 0
    sequence_ceiling: int = 0
    contacts: tuple[SavedContact, ...] = ()


def state_path(key_text: str) -> Path:
    """One file a key, named by it: 43 URL-safe characters. WH_STATEDIR overrides the directory."""
    return Path(os.environ.get("WH_STATEDIR") or DEFAULT_STATE_DIR) / f"{key_text}.state"


class StateFile:
    """The state of one node on disk. path None: an ephemeral key, nothing is read or written."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._saved = SavedState()
        self._write_failed = False

    @property
    def saved(self) -> SavedState:
        return self._saved

    def load(self) -> SavedState:
        """What the last run left; an empty state where there is none or it makes no sense (that is
        logged)."""
        if self._path is not None:
            try:
                with self._path.open("rb") as file:
                    self._saved = msgspec.json.decode(file.read(STATE_LEN_MAX), type=SavedState)
            except FileNotFoundError:
                pass
            except (OSError, msgspec.DecodeError) as error:
                log.warning("ignoring the saved state in %s: %s", self._path, error)
        return self._saved

    def refresh_due(self, last_timestamp_ns: int, wall_ns: int) -> bool:
        """Whether a number in use comes too near to the ceiling that is on disk."""
        ahead_of = max(last_timestamp_ns, wall_ns)
        return self._path is not None and self._saved.timestamp_ceiling_ns < ahead_of + CEILING_REFRESH_NS

    def write_ceilings(
        self, last_timestamp_ns: int, last_sequence: int, contacts: tuple[SavedContact, ...], wall_ns: int
    ) -> None:
        """While running: the ceilings go CEILING_AHEAD_NS beyond both what was used and the clock."""
        self._write(
            SavedState(
                timestamp_ceiling_ns=max(last_timestamp_ns, wall_ns) + CEILING_AHEAD_NS,
                sequence_ceiling=max(last_sequence, wall_ns // MILLISECOND_NS)
                + CEILING_AHEAD_NS // MILLISECOND_NS,
                contacts=contacts[:CONTACTS_MAX],
            )
        )

    def write_final(
        self, last_timestamp_ns: int, last_sequence: int, contacts: tuple[SavedContact, ...]
    ) -> None:
        """On a clean stop: exactly what was used, so that restarts do not run ahead of the clock."""
        self._write(
            SavedState(
                timestamp_ceiling_ns=last_timestamp_ns,
                sequence_ceiling=last_sequence,
                contacts=contacts[:CONTACTS_MAX],
            )
        )

    def _write(self, state: SavedState) -> None:
        if self._path is None:
            return
        self._saved = state
        try:
            _replace_file(self._path, msgspec.json.encode(state))
            self._write_failed = False
        except OSError as error:
            if not self._write_failed:
                log.warning("cannot save the state in %s: %s", self._path, error)
            self._write_failed = True


def _replace_file(path: Path, content: bytes) -> None:
    """Atomic, and on disk when it returns; mode 0600."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    fresh.replace(path)
