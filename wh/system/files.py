"""Files in directories where other users may have a hand.

A path is walked component by component, each opened beneath the one before and never through a link that
others could have placed, so what was judged is what is used: a name that somebody changes meanwhile leads
nowhere else. A place is safe where only root, this process's user and the owner of / can change what its path
leads to. What is written by name is written in safe places only; what is read may also lie elsewhere, as a
network file does in its user's directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

LINKS_MAX = 40  # on one path, as the kernel allows (MAXSYMLINKS)
OWNER_ONLY = 0o600
OWNER_ONLY_DIRECTORY = 0o700
PUBLIC_DIRECTORY = 0o755

_OWN_DESCRIPTOR = re.compile(r"/dev/stdin|(?:/dev|/proc/self)/fd/[0-9]+")
_ACCESS_LIST = "system.posix_acl_access"


class UnsafePlace(OSError):
    """Others could change what a path leads to. strerror: who, and where."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


def is_ours(status: os.stat_result) -> bool:
    """Whether it belongs to root, to our user, or (in a user namespace without root) to the owner of /."""
    return status.st_uid in {0, os.geteuid(), os.stat("/").st_uid}  # noqa: PTH116


def others_write(fd: int) -> bool:
    """Whether users other than its owner may write a file or directory. fd: may be of O_PATH. With an access
    list the group's bits are its mask (acl(5)), so they say whether anybody in it may."""
    status = os.fstat(fd)
    if status.st_mode & stat.S_IWOTH or not status.st_mode & stat.S_IWGRP:
        return bool(status.st_mode & stat.S_IWOTH)
    return not _is_private(status.st_gid) or _has_access_list(fd)


def _is_private(gid: int) -> bool:
    """Whether a group is that of our user alone, as most systems make one for each user: with umask 002 its
    members may write all that he makes. Root's is not: containers give it to others."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    own = user.pw_uid != 0 and gid == user.pw_gid and group.gr_name == user.pw_name
    return own and set(group.gr_mem) <= {user.pw_name}


def _has_access_list(fd: int) -> bool:
    try:
        return _ACCESS_LIST in os.listxattr(f"/proc/self/fd/{fd}")
    except OSError as error:
        return error.errno != errno.ENOTSUP


class _Step(NamedTuple):
    """A directory on the way. fd: O_PATH. why: how others could change what lies beneath; empty: they cannot.
    shared: they may add entries, but not touch ours (the sticky bit, as of /tmp)."""

    fd: int
    path: str
    why: str
    shared: bool


def _judged(fd: int, path: str, parent: _Step | None) -> _Step:
    status = os.fstat(fd)
    exposed = others_write(fd)
    shared = exposed and bool(status.st_mode & stat.S_ISVTX)
    why = parent.why if parent is not None else ""
    if not why and not is_ours(status):
        why = f"{path} belongs to another user (uid {status.st_uid})"
    if not why and exposed and not shared:
        why = f"other users can write {path} (mode {stat.S_IMODE(status.st_mode):o})"
    return _Step(fd, path, why, shared)


class Place:
    """A name in a directory that is held open. why: how others could change what it leads to; empty: they
    cannot. Methods raise OSError."""

    def __init__(self, step: _Step, name: str) -> None:
        self._step = step
        self.directory = step.fd
        self.name = name
        self.path = f"{step.path.rstrip('/')}/{name}"
        self.why = step.why or (f"other users can make files in {step.path}" if step.shared else "")

    def sibling(self, name: str) -> Place:
        return Place(self._step, name)

    def require_safe(self) -> None:
        if self.why:
            raise UnsafePlace(self.why)

    def status(self) -> os.stat_result | None:
        """Of the name itself, never of what a link leads to; None where there is nothing."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, flags: int, mode: int = OWNER_ONLY) -> int:
        """Never through a link, and without waiting for the other end of a pipe."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(self.name, flags, mode, dir_fd=self.directory)

    def open_file(self, flags: int) -> int:
        """A regular file: nothing else is even opened, as that alone makes some devices act."""
        status = self.status()
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise _not_regular(self.path)
        fd = self.open(flags)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise _not_regular(self.path)
        return fd

    def unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.directory)

    def rename_to(self, other: Place) -> None:
        """Over what is there; on disk when this returns."""
        os.rename(self.name, other.name, src_dir_fd=self.directory, dst_dir_fd=other.directory)
        other.sync()

    def sync(self) -> None:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.directory)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _not_regular(path: str) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file", path)


@contextlib.contextmanager
def open_place(path: str | Path, *, make: int | None = None, safe: bool = True) -> Iterator[Place]:
    """Where path leads; the last name need not exist. make: mode of directories that are missing. safe: raise
    UnsafePlace for a place that is not.

    Links are followed where they stand in safe places, and raise UnsafePlace elsewhere. Raises OSError.
    """
    steps = [_judged(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), "/", None)]
    try:
        place = _walk(steps, Path(path), make)
        if safe:
            place.require_safe()
        yield place
    finally:
        for step in steps:
            os.close(step.fd)


def _walk(steps: list[_Step], path: Path, make: int | None) -> Place:
    """Appends to steps the directories on the way. Raises OSError."""
    todo = _names(path if path.is_absolute() else Path.cwd() / path)
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            _leave(steps, max(1, len(steps) - 1))
            continue
        here = Place(steps[-1], name)
        status = here.status()
        if status is not None and stat.S_ISLNK(status.st_mode):
            links += 1
            if links > LINKS_MAX:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = _link(here)
            todo += _names(target)
            if target.startswith("/"):
                _leave(steps, 1)
        elif not todo:
            return here
        else:
            steps.append(_enter(here, make if status is None else None))
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _names(path: str | Path) -> list[str]:
    """The last one first."""
    return [name for name in reversed(Path(path).parts) if name != "/"]


def _leave(steps: list[_Step], kept: int) -> None:
    while len(steps) > kept:
        os.close(steps.pop().fd)


def _link(place: Place) -> str:
    if place.why:
        raise UnsafePlace(f"{place.path} is a symbolic link, and {place.why}")
    return os.readlink(place.name, dir_fd=place.directory)


def _enter(place: Place, make: int | None) -> _Step:
    if make is not None:
        if place._step.why:  # of a shared directory too: what we make there is ours, what was there is judged
            raise UnsafePlace(place._step.why)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place.name, make, dir_fd=place.directory)
            os.chmod(place.name, make, dir_fd=place.directory)  # mkdir's mode went through the umask
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return _judged(os.open(place.name, flags, dir_fd=place.directory), place.path, place._step)


def open_readable(path: str | Path) -> int:
    """A descriptor of a regular file, wherever it lies.

    In a place that is not safe no link is followed, symbolic or hard: who can put one there would have us
    read for him what he may not. Raises OSError.
    """
    with open_place(path, safe=False) as place:
        fd = place.open_file(os.O_RDONLY)
        status = os.fstat(fd)
        if place.why and is_ours(status) and status.st_nlink > 1 and not status.st_mode & stat.S_IROTH:
            os.close(fd)
            raise UnsafePlace(f"{place.path} has a second name, and {place.why}")
    return fd


def open_input(path: str | Path) -> int:
    """As open_readable(), or one of this process's own descriptors, such as the pipe that a shell makes of
    <(...): nobody else can have named it. Raises OSError."""
    if _OWN_DESCRIPTOR.fullmatch(str(path)):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return open_readable(path)


def read_input(path: str | Path, len_max: int) -> bytes:
    """As open_input(); at most len_max bytes. Raises OSError."""
    with os.fdopen(open_input(path), "rb") as file:
        return file.read(len_max)


def read_file(path: str | Path, len_max: int) -> bytes:
    """As open_readable(); at most len_max bytes. Raises OSError."""
    with os.fdopen(open_readable(path), "rb") as file:
        return file.read(len_max)


def read_own_file(path: str | Path, len_max: int) -> bytes:
    """Of a file that we have written ourselves: in a safe place. Raises OSError."""
    with open_place(path) as place, os.fdopen(place.open_file(os.O_RDONLY), "rb") as file:
        return file.read(len_max)


@contextlib.contextmanager
def new_file(place: Place, mode: int) -> Iterator[int]:
    """A descriptor of a file that was not there; on disk at the end. Raises OSError."""
    place.require_safe()
    fd = place.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        yield fd
        if mode != OWNER_ONLY:
            os.fchmod(fd, mode)
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(
    place: Place,
    content: bytes,
    *,
    like: int | None = None,
    mode: int = OWNER_ONLY,
    before_rename: Callable[[], None] = lambda: None,
) -> None:
    """By rename: there is no moment with half of it, and it is on disk when this returns.

    like: a descriptor of the file that it replaces, of which it gets mode, owner and attributes; else it gets
    mode. Raises OSError, or what before_rename raises; nothing is changed then.
    """
    fresh = place.sibling(f".{place.name}.{os.urandom(8).hex()}")
    try:
        with new_file(fresh, mode if like is None else os.fstat(like).st_mode & 0o7777) as fd:
            write_all(fd, content)
            if like is not None:
                _make_like(fd, like)
        before_rename()
        fresh.rename_to(place)
    except BaseException:
        fresh.unlink()
        raise


def write_all(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _make_like(fd: int, like: int) -> None:
    """Owner, and security labels and access lists as far as the file system has them and we may set them."""
    wanted, now = os.fstat(like), os.fstat(fd)
    if (wanted.st_uid, wanted.st_gid) != (now.st_uid, now.st_gid):
        os.fchown(fd, wanted.st_uid, wanted.st_gid)
    with contextlib.suppress(OSError):
        for name in os.listxattr(like):
            with contextlib.suppress(OSError):
                os.setxattr(fd, name, os.getxattr(like, name))


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """One process at a time, by a file of this name that only our user can open: anybody may hold a lock on
    what he may read, for as long as he likes. The file is gone at the end. Blocks. Raises OSError."""
    place.require_safe()
    fd = _lock(place)
    try:
        yield
    finally:
        place.unlink()
        os.close(fd)


def _lock(place: Place) -> int:
    while True:
        fd = place.open(os.O_RDWR | os.O_CREAT, OWNER_ONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            now = place.status()
            if now is not None and os.path.samestat(now, os.fstat(fd)):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # whoever had it has removed it


def remove_socket(path: str | Path, inode: int) -> None:
    """The socket with this number. That it is gone, or another one there, is no error. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), open_place(path) as place:
        status = place.status()
        if status is not None and stat.S_ISSOCK(status.st_mode) and status.st_ino == inode:
            place.unlink()
