"""From which of a host's addresses control datagrams leave: the one that the other side last wrote to."""

from __future__ import annotations

from collections import OrderedDict

from wh.engine.events import Path

PATHS_MAX = 4096


class Sources:
    """Of the paths that authenticated datagrams came on; the least recently heard go first."""

    def __init__(self) -> None:
        self._sources: OrderedDict[Path, bytes] = OrderedDict()

    def heard(self, path: Path, source: bytes) -> None:
        """source: of whcore.datapath.ControlDatagram."""
        self._sources[path] = source
        self._sources.move_to_end(path)
        if len(self._sources) > PATHS_MAX:
            self._sources.popitem(last=False)

    def of(self, path: Path) -> bytes:
        """Nothing where the kernel may choose."""
        return self._sources.get(path, b"")

    def forget(self) -> None:
        self._sources.clear()
