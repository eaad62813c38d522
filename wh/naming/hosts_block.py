"""Whether our names still are in the hosts file, asked often."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from wh.naming import hosts
from wh.naming.table import NameEntry

log = logging.getLogger(__name__)


class HostsBlock:
    """An interface's names. The file is read only where it has changed since."""

    def __init__(self, path: Path, interface: str) -> None:
        self._path = path
        self._interface = interface
        self._right: tuple[object, ...] = ()

    def is_right(self, entries: Iterable[NameEntry]) -> bool:
        """As hosts.write() leaves it; also where the file cannot be read. Blocks."""
        wanted = tuple(entries)
        try:
            status = self._path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns, wanted)
            if state == self._right:
                return True
            with self._path.open("rb") as file:
                content = file.read(hosts.MAX_HOSTS_SIZE)
        except OSError as error:
            log.debug("cannot read %s: %s", self._path, error)
            return True
        if not hosts.holds(content, self._interface, wanted):
            return False
        self._right = state
        return True
