"""Changing a file that others read and write too, so that no reader ever sees half of it where that is
possible."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_ATTEMPTS = 5  # each ends because another program changed the file meanwhile
_NEW_FILE_MODE = 0o644
_INTERRUPTED_WITHIN_NS = 5_000_000_000  # a file written this soon after its backup was written by us
_RENAME_REFUSED = frozenset({errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM})

_logger = logging.getLogger(__name__)


class _Snapshot(NamedTuple):
    content: bytes
    status: os.stat_result | None  # None: there is no such file


class _ChangedMeanwhile(Exception):
    """Another program wrote the file after we had read it."""


def update_file(path: Path, edit: Callable[[bytes], bytes], *, max_size: int) -> None:
    """Replace a file's content by edit(content), keeping mode, owner and extended attributes.

    The new content appears at once, by rename. A file that cannot be renamed over (a mount point, a second
    hard link, a directory we may not write) is rewritten in place from its first changed byte, with a copy
    PATH.wirehub-backup-* beside it until that is done; a copy that a crash left is put back first. edit may
    run several times: again when another program changed the file meanwhile. A missing file has empty
    content and is made only if edit adds some. Raises OSError; the file is unchanged then.
    """
    target = path.resolve()
    _recover(target)
    for _ in range(_ATTEMPTS):
        before = _read(target, max_size)
        content = edit(before.content)
        if content == before.content:
            return
        try:
            _replace(target, before, content)
        except _ChangedMeanwhile:
            continue
        return
    raise OSError(errno.EBUSY, "other programs keep changing the file", str(path))


def _read(target: Path, max_size: int) -> _Snapshot:
    try:
        with target.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(max_size + 1)
    except FileNotFoundError:
        return _Snapshot(b"", None)
    if len(content) > max_size:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(target))
    return _Snapshot(content, status)


def _replace(target: Path, before: _Snapshot, content: bytes) -> None:
    if before.status is not None and (before.status.st_nlink > 1 or _is_mount_point(target)):
        _write_in_place(target, before, content)
        return
    try:
        _rename_over(target, before, content)
    except OSError as error:
        if error.errno not in _RENAME_REFUSED or before.status is None:
            raise
        _write_in_place(target, before, content)


def _require_unchanged(target: Path, before: _Snapshot) -> None:
    try:
        now = target.stat()
    except FileNotFoundError:
        if before.status is None:
            return
        raise _ChangedMeanwhile from None
    then = before.status
    if then is None or (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) != (
        then.st_dev,
        then.st_ino,
        then.st_size,
        then.st_mtime_ns,
    ):
        raise _ChangedMeanwhile


def _is_mount_point(target: Path) -> bool:
    """Whether a file is mounted by itself, as container runtimes do with /etc/hosts (proc(5), mountinfo,
    field 5)."""
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes().split(b"\n")
    except OSError:
        return False  # then the rename tells
    points = (mount.split(b" ")[4] for mount in mounts if mount)
    wanted = os.fsencode(target)
    return any(_unescape(point) == wanted for point in points)


def _unescape(mount_point: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match.group(1), 8)]), mount_point)


# By rename


def _rename_over(target: Path, before: _Snapshot, content: bytes) -> None:
    temporary = target.with_name(f".{target.name}.wirehub-new")
    temporary.unlink(missing_ok=True)  # of a crash: callers hold a lock
    try:
        _write_new(temporary, content, before.status, target)
        _require_unchanged(target, before)
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _write_new(path: Path, content: bytes, like: os.stat_result | None, like_path: Path) -> None:
    """Make a file that has the mode, owner and attributes of another."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        if like is not None:
            os.fchown(fd, like.st_uid, like.st_gid)
            _copy_attributes(like_path, fd)
        os.fchmod(fd, _NEW_FILE_MODE if like is None else like.st_mode & 0o7777)
        file.flush()
        os.fsync(fd)


def _copy_attributes(source: Path, fd: int) -> None:
    """Security labels and access lists, as far as the file system has them and we may set them."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            with contextlib.suppress(OSError):
                os.setxattr(fd, name, os.getxattr(source, name))


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# In place


def _backup_of(target: Path) -> Path:
    """Named after the file itself: several are mounted at one place of a shared directory where network
    namespaces have hosts files of their own (ip-netns(8))."""
    status = target.stat()
    return target.with_name(f"{target.name}.wirehub-backup-{status.st_dev:x}-{status.st_ino:x}")


def _write_in_place(target: Path, before: _Snapshot, content: bytes) -> None:
    backup = _backup_of(target)
    backup.unlink(missing_ok=True)
    try:
        _write_new(backup, before.content, before.status, target)
    except OSError as error:
        _logger.warning("rewriting %s without a backup: %s", target, error)
    try:
        _require_unchanged(target, before)
        _overwrite_or_restore(target, before.content, content)
    except _ChangedMeanwhile:
        backup.unlink(missing_ok=True)
        raise
    backup.unlink(missing_ok=True)


def _overwrite_or_restore(target: Path, old: bytes, new: bytes) -> None:
    """On failure (a full disk) the old content is back; if even that fails, the backup stays."""
    try:
        _overwrite(target, old, new)
    except OSError:
        _overwrite(target, b"", old)
        _backup_of(target).unlink(missing_ok=True)
        raise


def _overwrite(target: Path, old: bytes, new: bytes) -> None:
    """Write what differs: a block at the end of a file is one append or one truncation."""
    common = len(os.path.commonprefix([old, new]))
    with target.open("r+b") as file:
        file.seek(common)
        file.write(new[common:])
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _recover(target: Path) -> None:
    """Put the backup of an interrupted rewrite back, unless the rewrite had not begun, or somebody edited
    the file since."""
    try:
        backup = _backup_of(target)
        saved = backup.read_bytes()
        age_ns = target.stat().st_mtime_ns - backup.stat().st_mtime_ns
    except FileNotFoundError:
        return
    if 0 <= age_ns <= _INTERRUPTED_WITHIN_NS and saved:
        _logger.warning("putting back %s from %s: its last change was interrupted", target, backup)
        _overwrite(target, b"", saved)
    backup.unlink(missing_ok=True)
