"""Control handshakes that we began: which INIT went where, and what waits for the session. Bounded,
sans-IO."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from wh.engine.commands import Send
from wh.engine.events import Key, Path

LIFE_S = 1.0
"""How long an INIT may be answered, and messages wait for that (wh.engine.commands.Send)."""
AGAIN_S = 0.25
"""An INIT this old is replaced when the engine asks for one on a path that it was sent on."""
WAITING_MAX = 4
PATHS_MAX = 8  # what the engine tries at once
HANDSHAKES_MAX = 1024


@dataclass(slots=True)
class Handshake:
    """datagram: the INIT, which carries `first`. It may go out on several paths: whichever copy arrives first
    is answered, the others are replays to the responder."""

    first: Send
    datagram: bytes
    begun: float
    paths: list[Path]
    waiting: deque[Send] = field(default_factory=deque)

    def should_replace(self, send: Send, now: float) -> bool:
        """Whether this request deserves an INIT of its own: the path has had this one, in vain."""
        if send.path not in self.paths:
            return False
        return send.message == self.first.message or now - self.begun >= AGAIN_S

    def add_path(self, path: Path) -> bool:
        """True where the INIT must be sent there too."""
        if path in self.paths or len(self.paths) >= PATHS_MAX:
            return False
        self.paths.append(path)
        return True

    def carries_or_queues(self, send: Send) -> bool:
        """Keep a message until the session is up, unless the INIT carries it. False where too many wait
        already."""
        if send.message == self.first.message:
            return True
        if len(self.waiting) >= WAITING_MAX:
            return False
        self.waiting.append(send)
        return True


class Handshakes:
    """At most one a peer."""

    def __init__(self) -> None:
        self._by_peer: OrderedDict[Key, Handshake] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._by_peer)

    def get(self, peer: Key) -> Handshake | None:
        return self._by_peer.get(peer)

    def begin(self, send: Send, datagram: bytes, now: float) -> list[Send]:
        """An INIT goes out. What waited for the one that it replaces waits for it. Returns messages that are
        given up because the table was full."""
        replaced = self._by_peer.pop(send.peer, None)
        abandoned: list[Send] = []
        if len(self._by_peer) >= HANDSHAKES_MAX:
            abandoned.extend(self._by_peer.popitem(last=False)[1].waiting)
        waiting = replaced.waiting if replaced is not None else deque()
        self._by_peer[send.peer] = Handshake(send, datagram, now, [send.path], waiting)
        return abandoned

    def finish(self, peer: Key) -> Handshake | None:
        return self._by_peer.pop(peer, None)

    def expire(self, now: float) -> list[Send]:
        """Messages that waited in vain."""
        unsent: list[Send] = []
        while self._by_peer:
            oldest = next(iter(self._by_peer.values()))
            if now - oldest.begun < LIFE_S:
                break
            unsent.extend(self._by_peer.popitem(last=False)[1].waiting)
        return unsent

    def next_deadline(self) -> float | None:
        """Monotonic seconds at which expire() has something to do."""
        return next(iter(self._by_peer.values())).begun + LIFE_S if self._by_peer else None
