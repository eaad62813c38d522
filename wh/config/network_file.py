"""The network file on disk, changed by the daemon itself: claims, invitations, revocations.

The file is the truth about who is in: a change that a crash interrupts has happened, or has not. A file that
others can replace, by a link to any other, is not changed: root's daemon would write there for them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from wh.config import parser
from wh.config.model import Network
from wh.errors import Code, ConfigError
from wh.system.file_update import update_file
from wh.system.files import Place, UnsafePlace, is_ours, locked, open_place, open_readable, others_write

Edit = Callable[[str], str]
"""The new text. Raises ConfigError where there is none; it may be called several times."""


class NetworkFile:
    """path: as `wh up` was given it; a symbolic link stays one."""

    def __init__(self, path: str) -> None:
        self._path = path

    def edit(self, change: Edit, accept: Callable[[Network], None]) -> None:
        """Change the file, on disk when this returns; mode, owner and all else of it stay. accept raises
        ConfigError for a network that this daemon could not go over to.

        Raises ConfigError, with the file as it was: also where others than root and the daemon's own user can
        write it, or a directory that it is in. Blocks: not for the event loop.
        """

        def changed(content: bytes) -> bytes:
            parser.decode(content, path=self._path)
            text = change(content.decode())
            accept(parser.parse(text, path=self._path))
            return text.encode()

        try:
            with open_place(self._path) as place, locked(place.sibling(f".{place.name}.lock")):
                _require_ours(place)
                update_file(place, changed, max_size=parser.MAX_FILE_SIZE)
        except OSError as error:
            raise ConfigError(
                f"cannot change {self._path}: {error.strerror}",
                code=Code.FILE_UNWRITABLE,
                hint=_hint(error),
            ) from error


def open_network_file(path: str) -> int:
    """A descriptor, to read from. Raises ConfigError."""
    try:
        return open_readable(path)
    except OSError as error:
        raise parser.unreadable(path, error) from error


def _require_ours(place: Place) -> None:
    """Raises OSError."""
    fd = place.open_file(os.O_RDONLY)
    try:
        status = os.fstat(fd)
        if not is_ours(status):
            raise UnsafePlace(f"the file belongs to another user (uid {status.st_uid})")
        if others_write(fd):
            raise UnsafePlace(f"other users can write it (mode {stat.S_IMODE(status.st_mode):o})")
    finally:
        os.close(fd)


def _hint(error: OSError) -> str:
    if isinstance(error, UnsafePlace):
        who = "root" if os.geteuid() == 0 else "root or this user"
        return f"keep it where only {who} can write, such as /etc/wirehub, with mode 600"
    if error.errno == errno.EBUSY:
        return "where the file is a mount point, as in a container, mount its directory instead"
    return "the daemon must be allowed to write the file and its directory"
