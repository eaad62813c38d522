"""What a node remembers over a restart: the last timestamp that it used in a control handshake, its port, and
what its port mappings are recognised by.

Its peers refuse a timestamp that is not later (docs/protocol.md section 2), whatever our clock says. It is
not written at each use: a ceiling well above it is, and the next start goes on from there. A node that comes
back on the port that it had is found by peers that know it, and let in by the NATs in front of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec.structs import replace

from wh.engine.events import Key
from wh.system.files import OWNER_ONLY_DIRECTORY, Place, open_place, read_own_file, replace_file
from wh.wire.address import Address
from whcore.keys import decode_key, encode_key

DEFAULT_STATE_DIR = "/var/lib/wirehub"
STATE_LEN_MAX = 16 * 1024
"""Bytes; a longer file is not ours."""

PASSABLE = 0o711
"""Of the directory that all keys' directories are in: a daemon that is not root goes through to its own."""

SEED_LEN = 16
NS = 10**9
CEILING_AHEAD_NS = 600 * NS
CEILING_REFRESH_NS = 300 * NS
TIMESTAMP_MAX_NS = 1 << 62
"""In the year 2116; later ones make no sense."""

log = logging.getLogger(__name__)


KeyText = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{43}\Z")]
SavedAddress = Annotated[bytes, msgspec.Meta(min_length=18, max_length=18)]


class SavedState(msgspec.Struct, frozen=True):
    """The file's content. timestamp_ceiling_ns: Unix time; nothing later has been used. listen_port: 0:
    unknown. mapping_seed: random; empty: not made yet. public_nodes: by key text, the addresses of
    public nodes of the network file (wh.wire.address), by their own word."""

    timestamp_ceiling_ns: Annotated[int, msgspec.Meta(ge=0, le=TIMESTAMP_MAX_NS)] = 0
    listen_port: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)] = 0
    mapping_seed: Annotated[bytes, msgspec.Meta(max_length=SEED_LEN)] = b""
    public_nodes: Annotated[dict[KeyText, list[SavedAddress]], msgspec.Meta(max_length=64)] = {}

    def addresses(self) -> tuple[tuple[Key, tuple[Address, ...]], ...]:
        return tuple((decode_key(text), tuple(known)) for text, known in self.public_nodes.items())


def state_path(key_text: str, name: str = "state") -> Path:
    """One directory a key, named by it: 43 URL-safe characters. WH_STATEDIR overrides where they are."""
    return Path(os.environ.get("WH_STATEDIR") or DEFAULT_STATE_DIR) / key_text / name


def make_state_directory(key_text: str, uid: int, gid: int) -> Path | None:
    """The key's directory, and of this user: where it was root's, as it was before there was one. None where
    that cannot be, which is logged."""
    directory = state_path(key_text).parent
    try:
        with open_place(directory, make=PASSABLE) as place:
            with contextlib.suppress(FileExistsError):
                os.mkdir(place.name, OWNER_ONLY_DIRECTORY, dir_fd=place.directory)
            status = place.status()
            if status is not None and status.st_uid == 0 != uid:
                _give_away(place, uid, gid)
    except OSError as error:
        log.warning("cannot prepare the state in %s: %s", directory, error)
        return None
    return directory


def make_state_passable() -> Path:
    """Where the directories of all keys are: it is there, and other users may go through to theirs, where it
    is not a place that somebody named."""
    parent = state_path("").parent
    with contextlib.suppress(OSError), open_place(parent / "any", make=PASSABLE):
        if parent == Path(DEFAULT_STATE_DIR):
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o011)
    return parent


def _give_away(place: Place, uid: int, gid: int) -> None:
    """A directory of root's and the files in it."""
    directory = place.open(os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(directory):  # noqa: PTH208
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        os.fchown(directory, uid, gid)
    finally:
        os.close(directory)


class StateFile:
    """The state of one node on disk. path None: an ephemeral key, nothing is read or written."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._saved = SavedState()
        self._write_failed = False

    def load(self) -> SavedState:
        """What the last run left; an empty state where there is none or it makes no sense (which is
        logged)."""
        if self._path is not None:
            try:
                self._saved = msgspec.json.decode(read_own_file(self._path, STATE_LEN_MAX), type=SavedState)
            except FileNotFoundError:
                pass
            except (OSError, msgspec.DecodeError) as error:
                log.warning("ignoring the saved state in %s: %s", self._path, error)
        return self._saved

    def remember_port(self, listen_port: int) -> None:
        if listen_port != self._saved.listen_port:
            self._write(replace(self._saved, listen_port=listen_port))

    def mapping_seed(self) -> bytes:
        """SEED_LEN bytes that nobody else knows, made at first use."""
        if len(self._saved.mapping_seed) != SEED_LEN:
            fresh = replace(self._saved, mapping_seed=secrets.token_bytes(SEED_LEN))
            self._write(fresh)
            return fresh.mapping_seed
        return self._saved.mapping_seed

    def remember_addresses(self, addresses: Iterable[tuple[Key, Sequence[Address]]]) -> None:
        public_nodes = {encode_key(key): list(known) for key, known in addresses}
        if public_nodes != self._saved.public_nodes:
            self._write(replace(self._saved, public_nodes=public_nodes))

    def keep_ahead(self, last_timestamp_ns: int, wall_ns: int) -> None:
        """Raise the ceiling on disk where what is in use, or will soon be, comes near to it."""
        needed = max(last_timestamp_ns, wall_ns)
        if self._saved.timestamp_ceiling_ns < needed + CEILING_REFRESH_NS:
            self._write(replace(self._saved, timestamp_ceiling_ns=needed + CEILING_AHEAD_NS))

    def write_last(self, last_timestamp_ns: int) -> None:
        """On a clean stop: exactly what was used, so that restarts do not run ahead of the clock."""
        self._write(replace(self._saved, timestamp_ceiling_ns=last_timestamp_ns))

    def _write(self, state: SavedState) -> None:
        if self._path is None:
            return
        self._saved = state
        try:
            write_own_file(self._path, msgspec.json.encode(state))
            self._write_failed = False
        except OSError as error:
            if not self._write_failed:
                log.warning("cannot save the state in %s: %s", self._path, error)
            self._write_failed = True


def write_own_file(path: Path, content: bytes) -> None:
    """Atomic, and on disk when it returns; mode 0600, in a directory of ours. Raises OSError."""
    with open_place(path, make=OWNER_ONLY_DIRECTORY) as place:
        replace_file(place, content)
