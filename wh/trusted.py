"""The way to one trusted peer: found, kept alive, moved and found again (docs/protocol.md 6, 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wh.commands import ResetSession, Route, SetDataPaths
from wh.engine import Engine
from wh.events import Instant, Key, MessageReceived, Path
from wh.paths import PathInput, PathState, PeerPath
from wh.randomness import jittered
from wh.requests import CANDIDATES, Answer, Request, Requests, Schedule
from wh.timers import Timer
from wh.wire.address import Address
from wh.wire.candidates import MAX_CANDIDATES
from wh.wire.fields import NONCE_LEN
from wh.wire.messages import Challenge, Ping, PingWant, Probe
from wh.wire.records import Record

RETRY_AFTER_S = (1.0, 2.0, 5.0, 15.0)
RETRY_LATER_S = 30.0
KEEPALIVE_S = 20.0
KEEPALIVE = Schedule((2.0, 4.0), 5.0)
"""A path dies after three keepalives without an answer."""

WANTED_FOR_S = 180.0
"""How long traffic that found no path is a reason to look for one."""

ATTEMPT_INTERVAL_S = 1.0
ALTERNATE_LIFETIME_S = 60.0
"""A path that proved itself this recently is no news: where both sides chose another of several good paths,
packets keep arriving on it, and moving to it would make the other side move too."""


class Search(Protocol):
    def cancel(self) -> None: ...


class RecordFinder(Protocol):
    """Looks up the record of a peer. found: each record better than the one before, as it comes in, where its
    sequence exceeds have_sequence. done: once, at the end, unless it is cancelled; never before find_record()
    has returned."""

    def find_record(
        self,
        key: Key,
        now: Instant,
        *,
        have_sequence: int,
        found: Callable[[Record, Instant], None],
        done: Callable[[Instant], None],
    ) -> Search: ...


class Reachability(Protocol):
    """Whether others can open a path to us: then keeping one open to them is their business."""

    @property
    def proved(self) -> bool: ...


class TrustedPeer:
    """One `trust` or `router` line of the file. Call start() once, and close() when the line is gone."""

    def __init__(
        self, key: Key, engine: Engine, requests: Requests, finder: RecordFinder, reachability: Reachability
    ) -> None:
        self.key = key
        self._engine = engine
        self._requests = requests
        self._finder = finder
        self._reachability = reachability
        self._machine = PeerPath()
        self._file_addresses: tuple[Address, ...] = ()
        self._record: Record | None = None
        self._rounds = 0
        self._round_at = float("-inf")
        self._wanted_until = float("-inf")
        self._search: Search | None = None  # for its record
        self._attempt: Request | None = None  # PINGs to candidates
        self._probe: Request | None = None  # a PROBE on the one that answered
        self._check: Request | None = None  # a CHALLENGE on a path that the peer seems to have moved to
        self._keepalive: Request | None = None
        self._timer: Timer | None = None  # the next round, or the next keepalive

    @property
    def state(self) -> PathState:
        return self._machine.state

    @property
    def path(self) -> Path | None:
        return self._machine.path

    @property
    def candidates(self) -> tuple[Address, ...]:
        """What the file says, the last path that worked, and what its record says, at most 8."""
        published = self._record.candidates if self._record is not None else ()
        last = self._engine.peers.obtain(self.key).last_path
        addressing = self._engine.addressing
        found = [*self._file_addresses, *([last.remote] if last is not None else [])]
        found += [candidate.address for candidate in published if addressing.is_acceptable(candidate.address)]
        return tuple(dict.fromkeys(found))[:MAX_CANDIDATES]

    # What the node tells it

    def start(self, now: Instant) -> None:
        if self.state is not PathState.DIRECT:
            self._rounds = 0
            self._round(now)

    def look_again(self, now: Instant) -> None:
        """There is a new server to ask for the record."""
        if self.state is not PathState.DIRECT and self._wants_path(now) and self._search is None:
            self._look_up(now)

    def close(self) -> None:
        self._cancel_all()
        if self._machine.step(PathInput.LOST):
            self._engine.emit(SetDataPaths(self.key))

    def set_file_addresses(self, addresses: tuple[Address, ...], now: Instant) -> None:
        if addresses != self._file_addresses:
            self._file_addresses = addresses
            if addresses and self.state is not PathState.DIRECT and self._wants_path(now):
                self._try_candidates(now)

    def path_wanted(self, now: Instant) -> None:
        self._wanted_until = now.monotonic + WANTED_FOR_S
        if self.state is PathState.DIRECT:
            self._set_data_path()
        elif now.monotonic - self._round_at >= ATTEMPT_INTERVAL_S:
            self.start(now)

    def session_opened(self, path: Path, now: Instant) -> None:
        """The peer began a session, and confirmed it from `path`."""
        self._proved(path, now)

    def heard(self, event: MessageReceived, now: Instant) -> None:
        """A message in a session. A new address moves nothing by itself (docs/protocol.md section 2)."""
        if event.first_contact or event.path == self.path:
            return
        self._check_path(event.path, now)

    def data_arrived(self, path: Path, now: Instant) -> None:
        """The data plane got an authenticated packet on a path that it does not send on."""
        if path != self.path:
            self._check_path(path, now)

    def verify_path(self, now: Instant) -> None:
        """Something hints that the path may be dead, or that we are at another address: find out now."""
        if self.state is PathState.DIRECT and self._keepalive is None:
            self._send_keepalive(now)

    def left(self, now: Instant) -> None:
        """The peer said LEAVING."""
        self._lose(now)
        self._rounds = 0
        self._schedule_round(now)

    def forget(self, now: Instant) -> None:
        self._record = None
        self._lose(now)
        self.start(now)

    # Finding a path: rounds of looking up and trying

    def _wants_path(self, now: Instant) -> bool:
        return not self._reachability.proved or now.monotonic < self._wanted_until

    def _round(self, now: Instant) -> None:
        if self.state is PathState.DIRECT:
            return
        self._schedule_round(now)
        if not self._wants_path(now):
            return
        self._round_at = now.monotonic
        if self._search is None:
            self._look_up(now)
        self._try_candidates(now)

    def _look_up(self, now: Instant) -> None:
        self._search = self._finder.find_record(
            self.key,
            now,
            have_sequence=self._record.sequence if self._record is not None else 0,
            found=self._found,
            done=self._search_done,
        )

    def _schedule_round(self, now: Instant) -> None:
        after = RETRY_AFTER_S[self._rounds] if self._rounds < len(RETRY_AFTER_S) else RETRY_LATER_S
        self._rounds += 1
        self._set_timer(now.monotonic + jittered(self._engine.rng, after), self._round)

    def _search_done(self, now: Instant) -> None:
        self._search = None

    def _found(self, record: Record, now: Instant) -> None:
        self._record = record
        if self.state is not PathState.DIRECT and self._wants_path(now):
            self._try_candidates(now)

    def _try_candidates(self, now: Instant) -> None:
        """PING them all at once: whichever answers first wins. A running attempt gets what is new."""
        paths = [path for path in map(self._engine.addressing.path_to, self.candidates) if path is not None]
        if not paths or self._probe is not None:
            return
        if self._attempt is not None:
            self._requests.add_paths(self._attempt, paths, now)
            return
        self._machine.step(PathInput.TRY)
        self._attempt = self._requests.start(
            self.key,
            paths,
            Ping(0, PingWant.ECHO, 0, self._engine.rng.randbytes(NONCE_LEN)),
            now,
            on_answer=self._candidate_answered,
            on_failure=self._attempt_failed,
            schedule=CANDIDATES,
        )

    def _candidate_answered(self, answer: Answer, now: Instant) -> None:
        """The path works for us; a PROBE in the new session shows the peer the same."""
        self._attempt = None
        number = int.from_bytes(self._engine.rng.randbytes(4), "little")
        self._probe = self._requests.start(
            self.key,
            [answer.path],
            Probe(0, number, number),
            now,
            on_answer=lambda acknowledged, then: self._proved(acknowledged.path, then),
            on_failure=self._attempt_failed,
        )

    def _attempt_failed(self, now: Instant) -> None:
        self._attempt = self._probe = None
        self._machine.step(PathInput.EXHAUSTED)

    # Having a path

    def _proved(self, path: Path, now: Instant) -> None:
        self._cancel_requests()
        if self._machine.step(PathInput.PROVED, path):
            self._set_data_path()
        self._rounds = 0
        self._schedule_keepalive(now)

    def _set_data_path(self) -> None:
        keepalive_s = 0 if self._reachability.proved else int(KEEPALIVE_S)
        routes = (Route(self.path),) if self.path is not None else ()
        self._engine.emit(SetDataPaths(self.key, routes, keepalive_s=keepalive_s))

    def _lose(self, now: Instant) -> None:
        self._cancel_all()
        self._engine.peers.obtain(self.key).session_lost()
        self._engine.emit(ResetSession(self.key))
        if self._machine.step(PathInput.LOST):
            self._engine.emit(SetDataPaths(self.key))

    def _schedule_keepalive(self, now: Instant) -> None:
        self._set_timer(now.monotonic + jittered(self._engine.rng, KEEPALIVE_S), self._keepalive_due)

    def _keepalive_due(self, now: Instant) -> None:
        """Silence is what needs a PING; one side's PINGs keep the path for both."""
        heard_at = self._engine.peers.obtain(self.key).heard_at
        quiet_at = now.monotonic if heard_at is None else heard_at + KEEPALIVE_S * 0.8
        if quiet_at > now.monotonic:
            self._set_timer(quiet_at, self._keepalive_due)
        else:
            self._send_keepalive(now)

    def _send_keepalive(self, now: Instant) -> None:
        if self.path is None:
            return
        self._keepalive = self._requests.start(
            self.key,
            [self.path],
            Ping(0, PingWant.ECHO, 0, self._engine.rng.randbytes(NONCE_LEN)),
            now,
            on_answer=self._keepalive_answered,
            on_failure=self._keepalive_failed,
            schedule=KEEPALIVE,
        )

    def _keepalive_answered(self, answer: Answer, now: Instant) -> None:
        self._keepalive = None
        self._schedule_keepalive(now)

    def _keepalive_failed(self, now: Instant) -> None:
        self._keepalive = None
        self._lose(now)
        self.start(now)

    def _check_path(self, path: Path, now: Instant) -> None:
        """Move to where the peer's packets come from now, once it has answered there."""
        peer = self._engine.peers.obtain(self.key)
        known = self.state is PathState.DIRECT and peer.is_validated(path, now, ALTERNATE_LIFETIME_S)
        if known or self._check is not None or self._engine.addressing.path_to(path.remote) is None:
            return
        nonce = self._engine.rng.randbytes(NONCE_LEN)
        self._check = self._requests.start(
            self.key,
            [path],
            Challenge(0, nonce) if peer.session else Ping(0, PingWant.ECHO, 0, nonce),
            now,
            on_answer=self._check_answered,
            on_failure=self._check_failed,
        )

    def _check_answered(self, answer: Answer, now: Instant) -> None:
        self._check = None
        self._proved(answer.path, now)

    def _check_failed(self, now: Instant) -> None:
        self._check = None

    # Timers and requests

    def _set_timer(self, when: float, callback: Callable[[Instant], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._engine.timers.call_at(when, callback)

    def _cancel_requests(self) -> None:
        for request in (self._attempt, self._probe, self._check, self._keepalive):
            self._requests.cancel(request)
        self._attempt = self._probe = self._check = self._keepalive = None

    def _cancel_all(self) -> None:
        self._cancel_requests()
        if self._search is not None:
            self._search.cancel()
            self._search = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
