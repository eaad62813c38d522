"""Finding addresses of one peer that answer: rounds of looking up and trying (docs/protocol.md section 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.randomness import jittered
from wh.engine.requests import CANDIDATES, Answer, Request, Requests
from wh.engine.timers import Alarm
from wh.wire.address import Address
from wh.wire.candidates import MAX_CANDIDATES
from wh.wire.messages import Probe
from wh.wire.records import Record, Relay

RETRY_AFTER_S = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)
RETRY_LATER_S = 600.0
"""Pauses between rounds, and of all later ones. Who comes back looks for us too, and begins at once; a change
of our own addresses, a server that lives again and traffic make a round at once."""

ATTEMPT_INTERVAL_S = 1.0


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


class Seeker(Protocol):
    """Who wants the path (wh.paths.trusted.TrustedPeer)."""

    def wants_path(self, now: Instant) -> bool: ...

    def trying(self, now: Instant) -> None: ...

    def exhausted(self, now: Instant) -> None: ...

    def found(self, answer: Answer, now: Instant) -> None: ...

    @property
    def has_channel(self) -> bool:
        """Then the session lives, whatever stays silent."""
        ...

    def relays_known(self, relays: Sequence[Relay], now: Instant) -> None: ...


class PathFinder:
    """Addresses come from the network file, from what worked before, and from the peer's record."""

    def __init__(
        self, key: Key, engine: Engine, requests: Requests, finder: RecordFinder, seeker: Seeker
    ) -> None:
        self._key = key
        self._engine = engine
        self._requests = requests
        self._finder = finder
        self._seeker = seeker
        self._file_addresses: tuple[Address, ...] = ()
        last = engine.peers.obtain(key).last_direct_path
        self._worked = last.remote if last is not None else None
        self._record: Record | None = None
        self._rounds = 0
        self._round_at = float("-inf")
        self._search: Search | None = None
        self._attempt: Request | None = None  # PINGs to candidates
        self._probes: list[Request] = []  # PROBEs where it may have answered
        self._next_round = Alarm(engine.timers)

    @property
    def candidates(self) -> tuple[Address, ...]:
        """What the file says, the last path that worked, and what its record says, at most 8."""
        published = self._record.candidates if self._record is not None else ()
        addressing = self._engine.addressing
        found = [*self._file_addresses, *([self._worked] if self._worked is not None else [])]
        found += [candidate.address for candidate in published if addressing.is_acceptable(candidate.address)]
        return tuple(dict.fromkeys(found))[:MAX_CANDIDATES]

    @property
    def worked_at(self) -> Address | None:
        return self._worked

    @property
    def relays(self) -> tuple[Relay, ...]:
        """Where the peer can be reached, by its record."""
        return self._record.relays if self._record is not None else ()

    def start(self, now: Instant) -> None:
        """A round at once, and more of them while a path is wanted."""
        self._rounds = 0
        self._round(now)

    def start_later(self, now: Instant) -> None:
        self._rounds = 0
        self._schedule_round(now)

    def wanted(self, now: Instant) -> None:
        """Traffic waits. A round that is just over asked no relay if it was before the traffic, and the
        record that it did not find may be there by now."""
        if now.monotonic - self._round_at >= ATTEMPT_INTERVAL_S:
            self.start(now)
            return
        if self._record is None:
            self.look_again(now)
        self._seeker.relays_known(self.relays, now)

    def look_again(self, now: Instant) -> None:
        """Somebody new may know the record, or the peer may have said something new."""
        if self._seeker.wants_path(now) and self._search is None:
            self._look_up(now)

    def set_file_addresses(self, addresses: tuple[Address, ...], now: Instant) -> None:
        if addresses != self._file_addresses:
            self._file_addresses = addresses
            if addresses and self._seeker.wants_path(now):
                self._try_candidates(now)

    def worked(self, address: Address) -> None:
        """The peer was there: a candidate for the next time."""
        self._worked = address

    def forget(self) -> None:
        self._record = self._worked = None

    def stop(self) -> None:
        """A path was found, or none is wanted any more."""
        for request in (self._attempt, *self._probes):
            self._requests.cancel(request)
        self._attempt = None
        self._probes.clear()
        if self._search is not None:
            self._search.cancel()
            self._search = None
        self._next_round.cancel()
        self._rounds = 0

    def _round(self, now: Instant) -> None:
        self._schedule_round(now)
        if not self._seeker.wants_path(now):
            return
        self._round_at = now.monotonic
        self.look_again(now)
        self._try_candidates(now)
        self._seeker.relays_known(self.relays, now)

    def _schedule_round(self, now: Instant) -> None:
        after = RETRY_AFTER_S[self._rounds] if self._rounds < len(RETRY_AFTER_S) else RETRY_LATER_S
        self._rounds += 1
        self._next_round.cancel()
        when = now.monotonic + jittered(self._engine.rng, after)
        self._next_round.set(when, self._round)

    def _look_up(self, now: Instant) -> None:
        self._search = self._finder.find_record(
            self._key,
            now,
            have_sequence=self._record.sequence if self._record is not None else 0,
            found=self._found,
            done=self._search_done,
        )

    def _search_done(self, now: Instant) -> None:
        self._search = None

    def _found(self, record: Record, now: Instant) -> None:
        self._record = record
        if self._seeker.wants_path(now):
            self._try_candidates(now)
            self._seeker.relays_known(self.relays, now)

    def _try_candidates(self, now: Instant) -> None:
        """PING them all at once: whichever answers first wins. A running attempt gets what is new."""
        paths = self._engine.addressing.paths_to(self.candidates)
        if not paths or self._probes:
            return
        if self._attempt is not None:
            self._requests.add_paths(self._attempt, paths, now)
            return
        self._seeker.trying(now)
        self._attempt = self._requests.start(
            self._key,
            paths,
            self._engine.echo(),
            now,
            on_answer=self._candidate_answered,
            on_failure=self._attempt_failed,
            schedule=CANDIDATES,
            speculative=self._seeker.has_channel,
        )

    def _candidate_answered(self, answer: Answer, now: Instant) -> None:
        """The path works for us; a PROBE in the new session shows the peer the same. Where the INIT went
        through a channel too, and arrived there first, no address has answered. Where the answer came from
        elsewhere, all candidates get a PROBE: that address nobody told us, it may be of somebody who copies
        datagrams and is faster than they are."""
        asked, self._attempt = self._attempt, None
        if answer.path.channel or asked is None:
            self._attempt_failed(now)
            return
        paths = [answer.path] if answer.path in asked.paths else list(asked.paths)
        self._probes = [self._probe(path, now) for path in paths]

    def _probe(self, path: Path, now: Instant) -> Request:
        number = int.from_bytes(self._engine.rng.randbytes(4), "little")
        return self._requests.start(
            self._key,
            [path],
            Probe(0, number, number),
            now,
            on_answer=self._probe_answered,
            on_failure=self._probe_failed,
            speculative=self._seeker.has_channel,
        )

    def _probe_answered(self, answer: Answer, now: Instant) -> None:
        for request in self._probes:
            self._requests.cancel(request)
        self._probes.clear()
        self._seeker.found(answer, now)

    def _probe_failed(self, now: Instant) -> None:
        """All were sent at once, and are given up at once."""
        if self._probes:
            self._probes.pop()
            if not self._probes:
                self._attempt_failed(now)

    def _attempt_failed(self, now: Instant) -> None:
        self._attempt = None
        self._seeker.exhausted(now)
