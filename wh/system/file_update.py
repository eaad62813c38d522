"""Changing a file that others read and write too, so that no reader ever sees half of it where that is
possible."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from wh.system.files import OWNER_ONLY, Place, new_file, replace_file, write_all

_ATTEMPTS = 5  # each ends because another program changed the file meanwhile
_NEW_FILE_MODE = 0o644
_INTERRUPTED_WITHIN_NS = 5_000_000_000  # a file written this soon after its backup was written by us

_logger = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """A file as it was read. fd: open for as long as this is used; both None: there is no such file."""

    content: bytes
    fd: int | None
    status: os.stat_result | None


class ChangedMeanwhile(Exception):
    """Another program wrote the file after we had read it."""


Edit = Callable[[bytes], bytes]
"""The new content. It may be called several times: again when another program changed the file meanwhile."""

Write = Callable[[Place, Snapshot, bytes], None]
"""Puts the content where the snapshot came from. Raises OSError, ChangedMeanwhile; the file is unchanged
then."""


def replace(place: Place, before: Snapshot, content: bytes) -> None:
    """By rename, keeping mode, owner and extended attributes."""
    replace_file(
        place,
        content,
        like=before.fd,
        mode=_NEW_FILE_MODE,
        before_rename=lambda: _require_unchanged(place, before),
    )


def replace_or_rewrite(place: Place, before: Snapshot, content: bytes) -> None:
    """As replace(). A file that is mounted by itself, as container runtimes do with /etc/hosts, cannot be
    renamed over: it is rewritten in place from its first changed byte, with a copy PATH.wirehub-backup-*
    beside it until that is done."""
    if before.fd is not None and is_mount_point(place, before.fd):
        _rewrite(place, before, content)
        return
    try:
        replace(place, before, content)
    except OSError as error:
        if error.errno != errno.EBUSY or before.fd is None:
            raise
        _rewrite(place, before, content)


def update_file(place: Place, edit: Edit, *, max_size: int, write: Write = replace) -> None:
    """Change a file's content to edit(content). A missing file has empty content and is made only if edit
    adds some. place: a safe one. Raises OSError; the file is unchanged then."""
    place.require_safe()
    for _ in range(_ATTEMPTS):
        with _read(place, max_size) as before:
            content = edit(before.content)
            if content == before.content:
                return
            try:
                write(place, before, content)
            except ChangedMeanwhile:
                continue
            return
    raise OSError(errno.EBUSY, "other programs keep changing the file", place.path)


@contextlib.contextmanager
def _read(place: Place, max_size: int) -> Iterator[Snapshot]:
    try:
        fd = place.open_file(os.O_RDONLY)
    except FileNotFoundError:
        yield Snapshot(b"", None, None)
        return
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        content = file.read(max_size + 1)
        if len(content) > max_size:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), place.path)
        yield Snapshot(content, fd, status)


def _require_unchanged(place: Place, before: Snapshot) -> None:
    if _version(place.status()) != _version(before.status):
        raise ChangedMeanwhile


def _version(status: os.stat_result | None) -> tuple[int, ...] | None:
    return None if status is None else (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def is_mount_point(place: Place, fd: int) -> bool:
    """Whether the file is mounted by itself: by what mount the two are seen (proc(5), fdinfo)."""
    try:
        return _mount_of(fd) != _mount_of(place.directory)
    except OSError:
        return False  # then the rename tells


def _mount_of(fd: int) -> bytes:
    lines = Path(f"/proc/self/fdinfo/{fd}").read_bytes().splitlines()
    return next((line for line in lines if line.startswith(b"mnt_id:")), b"")


# In place


def _backup_of(place: Place, status: os.stat_result) -> Place:
    """Named after the file itself: several are mounted at one place of a shared directory where network
    namespaces have hosts files of their own (ip-netns(8))."""
    return place.sibling(f"{place.name}.wirehub-backup-{status.st_dev:x}-{status.st_ino:x}")


def _rewrite(place: Place, before: Snapshot, content: bytes) -> None:
    if before.status is None:
        raise ChangedMeanwhile
    with _opened_to_rewrite(place) as fd:
        backup = _make_backup(place, before.status, before.content)
        if _version(os.fstat(fd)) != _version(before.status):
            backup.unlink()
            raise ChangedMeanwhile
        _overwrite_or_restore(fd, before.content, content, backup)
    backup.unlink()


@contextlib.contextmanager
def _opened_to_rewrite(place: Place) -> Iterator[int]:
    fd = place.open_file(os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def _make_backup(place: Place, status: os.stat_result, content: bytes) -> Place:
    backup = _backup_of(place, status)
    backup.unlink()
    try:
        with new_file(backup, OWNER_ONLY) as fd:
            write_all(fd, content)
    except OSError as error:
        backup.unlink()
        _logger.warning("rewriting %s without a backup: %s", place.path, error)
    return backup


def _overwrite_or_restore(fd: int, old: bytes, new: bytes, backup: Place) -> None:
    """On failure (a full disk) the old content is back; if even that fails, the backup stays."""
    try:
        _overwrite(fd, old, new)
    except OSError:
        _overwrite(fd, b"", old)
        backup.unlink()
        raise


def _overwrite(fd: int, old: bytes, new: bytes) -> None:
    """Write what differs: a block at the end of a file is one append or one truncation."""
    common = len(os.path.commonprefix([old, new]))
    with os.fdopen(fd, "r+b", closefd=False) as file:
        file.seek(common)
        file.write(new[common:])
        file.truncate()
        file.flush()
        os.fsync(fd)


def recover(place: Place) -> None:
    """Put the backup of an interrupted rewrite back, unless the rewrite had not begun, or somebody edited
    the file since. Raises OSError."""
    place.require_safe()
    status = place.status()
    if status is None:
        return
    backup = _backup_of(place, status)
    try:
        saved = _read_backup(backup, status)
    except FileNotFoundError:
        return
    if saved:
        _logger.warning("putting back %s from %s: its last change was interrupted", place.path, backup.path)
        with _opened_to_rewrite(place) as fd:
            _overwrite(fd, b"", saved)
    backup.unlink()


def _read_backup(backup: Place, status: os.stat_result) -> bytes:
    """Nothing where it cannot be ours, or is not of the change that was interrupted. status: of the file."""
    made = backup.status()
    if made is not None and not stat.S_ISREG(made.st_mode):
        return b""
    with os.fdopen(backup.open_file(os.O_RDONLY), "rb") as file:
        made = os.fstat(file.fileno())
        ours = made.st_uid == os.geteuid() and made.st_nlink == 1
        if not ours or stat.S_IMODE(made.st_mode) != OWNER_ONLY:
            return b""
        in_time = 0 <= status.st_mtime_ns - made.st_mtime_ns <= _INTERRUPTED_WITHIN_NS
        return file.read() if in_time else b""
