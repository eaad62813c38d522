"""From which of a host's addresses control datagrams leave: the one that the other side last wrote to, unless
it does not answer there, or what is sent from there would go elsewhere now."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from wh.engine.events import Path
from wh.net.links.source_routes import Use

PATHS_MAX = 4096
UNANSWERED_MAX = 2
"""Requests, UNANSWERED_EACH_S or more apart; the next one leaves from wherever the kernel likes."""

UNANSWERED_EACH_S = 0.5


@dataclass(slots=True)
class _Source:
    """asked: how often since it was heard; asked_at: the last time, monotonic seconds."""

    source: bytes
    asked: int = 0
    asked_at: float = float("-inf")


class Sources:
    """Of the paths that authenticated datagrams came on; the least recently heard go first."""

    def __init__(self) -> None:
        self._sources: OrderedDict[Path, _Source] = OrderedDict()
        self._refused: OrderedDict[Path, bytes] = OrderedDict()

    def heard(self, path: Path, source: bytes) -> None:
        """source: of whcore.datapath.ControlDatagram."""
        if self._refused.get(path) == source:
            return
        self._sources[path] = _Source(source)
        self._sources.move_to_end(path)
        if len(self._sources) > PATHS_MAX:
            self._sources.popitem(last=False)

    def asks(self, path: Path, now: float) -> None:
        """Something is about to go there that wants an answer."""
        known = self._sources.get(path)
        if known is None or now - known.asked_at < UNANSWERED_EACH_S:
            return
        if known.asked >= UNANSWERED_MAX:
            del self._sources[path]
            return
        known.asked += 1
        known.asked_at = now

    def of(self, path: Path) -> bytes:
        """Nothing where the kernel may choose."""
        known = self._sources.get(path)
        return known.source if known is not None else b""

    def uses(self) -> set[Use]:
        """Those that are used, or would be, were they not refused."""
        used = {Use(path.remote, known.source) for path, known in self._sources.items() if known.source}
        return used | {Use(path.remote, source) for path, source in self._refused.items()}

    def refuse(self, refused: AbstractSet[Use]) -> None:
        """These and no others, also where the other side writes to them."""
        for path, source in list(self._refused.items()):
            if Use(path.remote, source) not in refused:
                del self._refused[path]
        for path, known in list(self._sources.items()):
            if Use(path.remote, known.source) in refused:
                del self._sources[path]
                self._refused[path] = known.source
        while len(self._refused) > PATHS_MAX:
            self._refused.popitem(last=False)

    def forget(self) -> None:
        self._sources.clear()
        self._refused.clear()
