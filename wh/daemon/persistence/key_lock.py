"""One daemon a key and state directory: two would take each other's packets and overwrite each other's state.
Also where they are containers with a volume in common."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path

from wh.errors import Code, SystemSetupError
from wh.system.files import OWNER_ONLY_DIRECTORY, open_place

log = logging.getLogger(__name__)


class KeyLock:
    """close() lets go; so does the end of the process, however it comes."""

    def __init__(self, path: Path | None) -> None:
        """path None: an ephemeral key, which nobody else has. Raises SystemSetupError where another daemon
        holds it. Where no file can be made there is no state to protect either."""
        self._fd = -1
        if path is None:
            return
        try:
            with open_place(path, make=OWNER_ONLY_DIRECTORY) as place:
                self._fd = place.open(os.O_RDWR | os.O_CREAT)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise SystemSetupError(
                f"a daemon with this node's key runs already, on {path.parent}",
                code=Code.ALREADY_RUNNING,
                hint="give each node a key of its own",
            ) from None
        except OSError as error:
            log.info("%s cannot be locked: %s", path, error)

    def close(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
