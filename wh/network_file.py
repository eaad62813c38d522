"""The network file on disk, changed by the daemon itself: claims, invitations, revocations.

The file is the truth about who is in: a change that a crash interrupts has happened, or has not.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wh.config import parser
from wh.config.model import Network
from wh.errors import Code, ConfigError
from wh.naming.file_update import update_file

Edit = Callable[[str], str]
"""The new text. Raises ConfigError where there is none; it may be called several times."""


class NetworkFile:
    """path: as `wh up` was given it; a symbolic link stays one."""

    def __init__(self, path: str) -> None:
        self._path = path

    def edit(self, change: Edit, accept: Callable[[Network], None]) -> None:
        """Change the file, on disk when this returns; mode, owner and all else of it stay. accept raises
        ConfigError for a network that this daemon could not go over to.

        Raises ConfigError, with the file as it was. Blocks: not for the event loop.
        """

        def changed(content: bytes) -> bytes:
            parser.decode(content, path=self._path)
            text = change(content.decode())
            accept(parser.parse(text, path=self._path))
            return text.encode()

        try:
            with _locked(Path(self._path).resolve().parent):
                update_file(Path(self._path), changed, max_size=parser.MAX_FILE_SIZE)
        except OSError as error:
            raise ConfigError(
                f"cannot change {self._path}: {error.strerror}",
                code=Code.FILE_UNWRITABLE,
                hint="the daemon must be allowed to write the file and its directory",
            ) from error


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Against other daemons, which may have the same file. A lock on the file itself would go with it when it
    is replaced."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
