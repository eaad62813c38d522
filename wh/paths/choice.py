"""Which of the direct paths that work is taken (docs/protocol.md section 7)."""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.commands import AdoptSocket, CloseSocket
from wh.engine.core import Engine
from wh.engine.events import PUNCH_SOCKETS_FROM, Instant, Key, Path
from wh.engine.limits import RecentlySeen
from wh.engine.requests import Requests
from wh.paths.mtu import PathMtu
from wh.paths.routes import Routes
from wh.paths.states import HAVING_PATH, ON_CHANNELS, PeerPath

LEFT_S = 60.0
LEFT_MAX = 8
"""Direct paths that we gave up: asked there, we do not say that we use them."""

BETTER_S = 0.005
BETTER_SHARE = 0.9
"""Another direct path must be better by 5 ms and 10%."""


class DirectChoice:
    """take(path, now, rtt): this one it is; rtt: seconds, 0 where none is known.

    An address that the peer has told, or that follows from such a one, counts more than one that is only
    where its PROBEs came from: these may be copies. A path that hole punching found is taken once the data
    plane has its socket; one that is to take the place of channels, once its MTU is known."""

    def __init__(
        self,
        key: Key,
        engine: Engine,
        requests: Requests,
        machine: PeerPath,
        routes: Routes,
        take: Callable[[Path, Instant, float], None],
    ) -> None:
        self._key = key
        self._engine = engine
        self._requests = requests
        self._machine = machine
        self._routes = routes
        self._take = take
        self._mtu = PathMtu(key, engine, requests, self._mtu_found)
        self._measured: Path | None = None  # waits for its MTU while channels carry data
        self._adopting: Path | None = None  # found through a punch socket, which the data plane is to get
        self._learned: set[Path] = set()  # found by hole punching, and not told by the peer
        self._left = RecentlySeen(LEFT_S, LEFT_MAX)

    # What was found

    def punched(self, path: Path, rtt: float, told: bool, now: Instant) -> None:
        """A PROBE was answered there. told: at an address that the peer told, or that follows from one."""
        if not told:
            self._learned.add(path)
        if path.socket < PUNCH_SOCKETS_FROM:
            self._requests.validated(self._engine.peers.obtain(self._key), path, now)
            self.works(path, rtt, now)
        elif self._machine.state not in HAVING_PATH and (
            self._adopting is None or self._gives_way(self._adopting, path)
        ):
            self._adopting = path
            self._engine.emit(AdoptSocket(path.socket))

    def socket_adopted(self, socket: int, adopted: int | None, now: Instant) -> bool:
        """Whether it was ours."""
        path = self._adopting
        if path is None or path.socket != socket:
            return False
        self._adopting = None
        if adopted is not None:
            moved = Path(adopted, path.remote)
            if path in self._learned:
                self._learned.add(moved)
            self._requests.validated(self._engine.peers.obtain(self._key), moved, now)
            self.works(moved, 0.0, now)
        return True

    def works(self, path: Path, rtt: float, now: Instant) -> None:
        """A direct path works. Where a channel carries data it goes on doing so until the path's MTU is
        known."""
        state, current = self._machine.state, self._machine.path
        if current is not None and path != current and not self._is_better(path, rtt, current):
            return
        if state not in ON_CHANNELS:
            if path != current:
                self.leave(now)
            self._take(path, now, rtt)
        elif self._measured is None or self._gives_way(self._measured, path):
            self._measured = path
            self._mtu.start(path, now)

    def _is_better(self, path: Path, rtt: float, current: Path) -> bool:
        """No round trip is known of a path that was adopted just now."""
        if self._gives_way(current, path):
            return True
        if path in self._learned:
            return False
        known = self._routes.round_trip_s(current)
        return known is not None and 0.0 < rtt < min(known - BETTER_S, known * BETTER_SHARE)

    def _gives_way(self, held: Path, found: Path) -> bool:
        return held in self._learned and found not in self._learned

    # What became of it

    def taken(self, path: Path, now: Instant) -> None:
        """What was learned of others is forgotten."""
        self._learned &= {path}
        if self._mtu.path != path:
            self._mtu.start(path, now)

    def leave(self, now: Instant) -> None:
        """For a path of our own choice. Not where the peer seems to have moved, nor for what only its packets
        spoke for: what copies come by is never a path that we have left."""
        path = self._machine.path
        if path is not None and path not in self._learned:
            self._left.note(path, now.monotonic)

    def has_left(self, path: Path, now: Instant) -> bool:
        return self._left.seen(path, now.monotonic)

    def release(self, former: Path | None) -> None:
        """A socket that hole punching made for this path goes with it."""
        if former is None or self._engine.addressing.is_main_socket(former.socket):
            return
        current = self._machine.path
        if current is None or current.socket != former.socket:
            self._engine.emit(CloseSocket(former.socket))

    def stop_measuring(self) -> None:
        """The path that was taken is gone. One that is adopted meanwhile may still be taken."""
        self._mtu.stop()

    def stop(self) -> None:
        self._mtu.stop()
        self._measured = self._adopting = None
        self._learned.clear()

    # Its MTU

    def suspected(self, path: Path, now: Instant) -> None:
        """Data is missed there that short messages are not: it may be too long for the path by now."""
        self._mtu.suspected(path, now)

    def busy(self, path: Path, now: Instant) -> None:
        """Much is sent there."""
        self._mtu.busy(path, now)

    def _mtu_found(self, path: Path, mtu: int, now: Instant) -> None:
        """Where not even the smallest size passes, the path may be dead; then its keepalives tell."""
        waits, self._measured = path == self._measured, None
        if mtu:
            self._routes.set_mtu(path, mtu)
        elif waits:
            self._mtu.stop()
        if mtu and waits and self._machine.state in ON_CHANNELS:
            self._take(path, now, 0.0)
