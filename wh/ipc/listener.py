"""Making the listening socket: permissions right from its first moment, and never over a live daemon's."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from wh.errors import Code, SystemSetupError
from wh.ipc.credentials import wirehub_gid
from wh.system.files import PUBLIC_DIRECTORY, locked, open_place, remove_socket

OWNER_ONLY = 0o600
OWNER_AND_GROUP = 0o660
LOCK = ".sockets.lock"
"""Of two daemons that start at once, the second must see the first one's socket, not remove it."""

BACKLOG = 64
PROBE_TIMEOUT_S = 2.0


class Listener:
    """A listening socket and its place in the file system."""

    def __init__(self, path: Path, sock: socket.socket) -> None:
        self.sock = sock
        self._path = path
        self._inode = path.stat().st_ino

    @property
    def inode(self) -> int:
        """Of the path."""
        return self._inode

    def remove(self) -> None:
        """Close, and take the path away unless another daemon's socket has taken it."""
        self.sock.close()
        remove_socket(self._path, self._inode)


def open_listener(path_text: str) -> Listener:
    """Raises SystemSetupError: a live daemon answers there, or the system does not let us make the socket."""
    path = Path(path_text)
    try:
        with open_place(path, make=PUBLIC_DIRECTORY) as place, locked(place.sibling(LOCK)):
            if is_alive(path):
                raise SystemSetupError(
                    f"a daemon already runs on {path.stem}",
                    code=Code.ALREADY_RUNNING,
                    hint=f"stop it with: wh down {path.stem}, or name another interface",
                )
            place.unlink()
            return _bind(path)
    except OSError as error:
        raise SystemSetupError(
            f"cannot make the socket {path}: {error.strerror or error}",
            code=Code.RUN_DIRECTORY,
            hint="run as root, or set WH_RUNDIR",
        ) from error


def is_alive(path: Path) -> bool:
    """Whether anything listens. Only a refused connection, or no such path, means that nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (BlockingIOError, TimeoutError):
            return True  # it listens, with a full backlog
        return True


def _bind(path: Path) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), OWNER_ONLY)  # on Linux, the mode that bind gives the path
        sock.bind(str(path))
        group = wirehub_gid()
        if group is not None:
            os.chown(path, -1, group)
            path.chmod(OWNER_AND_GROUP)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return Listener(path, sock)
    except BaseException:
        sock.close()
        raise
