"""Where the peer is by its own packets and words: its address may change, and so may the path that it wants
us to use (docs/protocol.md section 7)."""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.core import Engine
from wh.engine.events import PUNCH_SOCKETS_FROM, Instant, Key, MessageReceived, Path
from wh.engine.requests import Answer, Request, Requests
from wh.paths.choice import DirectChoice
from wh.paths.migration import Migration
from wh.paths.nomination import Nomination
from wh.paths.routes import Routes
from wh.paths.states import HAVING_PATH, ON_CHANNELS, PeerPath
from wh.wire.messages import Nominate

ALTERNATE_LIFETIME_S = 60.0
"""A path that proved itself this recently is no news to the side that nominates."""


class Whereabouts:
    """A new address moves nothing by itself: the peer must answer there (docs/protocol.md section 2), and
    where there is a path, wh.paths.migration finds out whether it was left. proved(path, now, rtt): the peer
    is there; rtt: seconds, 0 where none is known."""

    def __init__(
        self,
        key: Key,
        engine: Engine,
        requests: Requests,
        machine: PeerPath,
        routes: Routes,
        choice: DirectChoice,
        proved: Callable[[Path, Instant, float], None],
    ) -> None:
        self._key = key
        self._engine = engine
        self._requests = requests
        self._machine = machine
        self._routes = routes
        self._choice = choice
        self._proved = proved
        self._nomination = Nomination(key, engine, lambda: routes.first)
        self._migration = Migration(key, engine, requests, self)
        self._check: Request | None = None

    # What it shows

    def session_opened(self, path: Path, now: Instant) -> None:
        """The peer began a session, and confirmed it from `path`."""
        self._nomination.restart()
        if path.channel:
            return
        if self._machine.state in HAVING_PATH and path != self._machine.path:
            self._migration.seen_at(path, now, proved=True)
        else:
            self._proved(path, now, 0.0)

    def heard(self, event: MessageReceived, now: Instant) -> None:
        """A message in a session."""
        if isinstance(event.message, Nominate):
            self._nominated(event.path, event.message.epoch, now)
        elif event.path.channel == 0:
            self._seen_at(event.path, now)

    def data_arrived(self, path: Path, now: Instant) -> None:
        """The data plane got an authenticated packet on a path that it does not send on."""
        if not path.channel:
            self._seen_at(path, now)
        elif not self._nomination.is_ours:
            self._routes.prefer_channel(path, now)

    def distrust_no_more(self) -> None:
        """The path in use fell silent: what comes from elsewhere may be right."""
        self._migration.distrust_no_more()

    def _nominated(self, path: Path, epoch: int, now: Instant) -> None:
        if not self._nomination.heard(epoch):
            return
        if not path.channel:
            self._seen_at(path, now)
        elif self._machine.state in ON_CHANNELS:
            self._routes.prefer_channel(path, now)

    def _seen_at(self, path: Path, now: Instant) -> None:
        """The peer's packets come from there now."""
        if path == self._machine.path or path.socket >= PUNCH_SOCKETS_FROM:
            return
        if not self._engine.addressing.may_send_to(path.remote):
            return
        if self._machine.state not in HAVING_PATH:
            self.check(path, now)
            return
        lately = self._engine.peers.obtain(self._key).is_validated(path, now, ALTERNATE_LIFETIME_S)
        if not (lately and self._nomination.is_ours):
            self._migration.seen_at(path, now, proved=lately)

    # What we say and ask

    def nominate(self, path: Path, now: Instant) -> None:
        """Data takes this path now."""
        self._nomination.say(path, now)

    def check(self, path: Path, now: Instant) -> None:
        """Ask whether the peer is there, one path at a time; data moves there if it is."""
        if self._check is None:
            self._check = self._requests.prove(
                self._key, path, now, on_answer=self._check_answered, on_failure=self._check_failed
            )

    def stop_check(self) -> None:
        self._requests.cancel(self._check)
        self._check = None

    def stop_migration(self) -> None:
        self._migration.stop()

    def stop(self) -> None:
        self.stop_check()
        self._migration.stop()
        self._nomination.stop()

    def _check_answered(self, answer: Answer, now: Instant) -> None:
        """What hole punching opened is not ours before its socket is adopted."""
        self._check = None
        path, rtt = answer.path, answer.rtt
        if path.channel or path.socket >= PUNCH_SOCKETS_FROM:
            return
        if self._machine.state in HAVING_PATH:
            self._migration.stop()  # it would return to the path that we leave
            self._choice.leave(now)
            self._proved(path, now, rtt)
        else:
            self._choice.works(path, rtt, now)

    def _check_failed(self, now: Instant) -> None:
        self._check = None

    # What wh.paths.migration asks and says (wh.paths.migration.Mover)

    @property
    def path(self) -> Path | None:
        return self._machine.path

    def on_trial(self, path: Path | None, now: Instant) -> None:
        self._routes.set_trial(path)

    def moved(self, path: Path, rtt: float, now: Instant) -> None:
        if self._machine.state in HAVING_PATH:
            self._proved(path, now, rtt)
