"""How large a datagram a path carries: PROBEs padded to known sizes (docs/protocol.md 7, RFC 8899)."""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.engine.timers import Alarm
from wh.wire.address import is_v4
from wh.wire.messages import Probe

IP_TOTALS = (576, 1024, 1200, 1280, 1368, 1400, 1496)
"""Bytes of an IP datagram: what every IPv4 host takes (RFC 791, 3.2), two sizes of tunnels in tunnels, IPv6's
minimum, two tunnels' inside of 1,500, and our largest packet."""

USUAL_MIN = 1280
"""Less may have been bad luck on a crowded path, and is slow: larger sizes are tried again each time."""

TRIES = Schedule((0.25, 0.6), 1.2)
PROVISIONAL_S = 0.3
"""What has passed by then counts until the rest is known: larger datagrams may be vanishing meanwhile."""

CHECK_S = 60.0
"""A router on the way may have changed its mind without telling."""

SUSPECTED_AFTER_S = 2.0
"""From one check to the next where there is a reason."""

BUSY_AFTER_S = 9.0
"""The same where much is sent: other packets, which are shorter, may be answered all the while."""

BUSY_BYTES = 1500
"""Sent since the last report of traffic. A stalled TCP repeats a whole packet; pings are less than that."""

_HEADERS = {True: 20 + 8, False: 40 + 8}  # of IP and UDP, by whether it is IPv4
_DATA_OVERHEAD = 32
_CHANNEL_HEADER = 8


class PathMtu:
    """Measures one path at a time. found(path, mtu, now): each time that something new is known, mtu 0 where
    not even the smallest size passed; the first call is at most 1.2 s after start()."""

    def __init__(
        self, key: Key, engine: Engine, requests: Requests, found: Callable[[Path, int, Instant], None]
    ) -> None:
        self._key = key
        self._engine = engine
        self._requests = requests
        self._found = found
        self._path: Path | None = None
        self._waiting: dict[int, Request] = {}  # by IP total
        self._passed = 0
        self._known = 0
        self._known_at = float("-inf")
        self._next_check = Alarm(engine.timers)
        self._provisional = Alarm(engine.timers)

    @property
    def path(self) -> Path | None:
        """What is measured."""
        return self._path

    def start(self, path: Path, now: Instant) -> None:
        self.stop()
        self._path = path
        self._try_all(now)

    def suspected(self, path: Path, now: Instant) -> None:
        """Data is missed there that short messages are not: it may be too long for the path by now."""
        if self._is_worth_checking(path) and now.monotonic >= self._known_at + SUSPECTED_AFTER_S:
            self._check_again(now)

    def busy(self, path: Path, now: Instant) -> None:
        """Much is sent there: the next check comes earlier."""
        if self._is_worth_checking(path):
            when = max(now.monotonic, self._known_at + BUSY_AFTER_S)
            self._next_check.set(min(when, self._known_at + CHECK_S), self._check_again)

    def _is_worth_checking(self, path: Path) -> bool:
        return path == self._path and not self._waiting and self._known > IP_TOTALS[0]

    def stop(self) -> None:
        for request in self._waiting.values():
            self._requests.cancel(request)
        self._waiting.clear()
        self._path = None
        self._next_check.cancel()
        self._provisional.cancel()

    def _try_all(self, now: Instant) -> None:
        self._passed = self._known = 0
        if self._path is not None:
            for total in IP_TOTALS:
                self._try(self._path, total, now)
            when = now.monotonic + PROVISIONAL_S
            self._provisional.set(when, self._tell_what_passed)

    def _tell_what_passed(self, now: Instant) -> None:
        if self._path is not None and self._waiting and self._passed:
            self._found(self._path, self._passed, now)

    def _check_again(self, now: Instant) -> None:
        """What passed before, and larger sizes where that is little; where it does not pass any more,
        everything."""
        self._passed = 0
        self._next_check.cancel()
        larger = [total for total in IP_TOTALS if total > self._known] if self._known < USUAL_MIN else []
        for total in [*([self._known] if self._known else []), *larger]:
            if self._path is not None:
                self._try(self._path, total, now)

    def _try(self, path: Path, total: int, now: Instant) -> None:
        number = int.from_bytes(self._engine.rng.randbytes(4), "little")

        def answered(_: Answer, then: Instant) -> None:
            self._passed = max(self._passed, total)
            self._ended(total, then)

        self._waiting[total] = self._requests.start(
            self._key,
            [path],
            Probe(0, number, number),
            now,
            on_answer=answered,
            on_failure=lambda then: self._ended(total, then),
            schedule=TRIES,
            pad_to=_plaintext_len(path, total),
            speculative=True,
        )

    def _ended(self, total: int, now: Instant) -> None:
        """What is smaller than a size that passed needs no answer of its own."""
        self._waiting.pop(total, None)
        for smaller in [each for each in self._waiting if each < self._passed]:
            self._requests.cancel(self._waiting.pop(smaller))
        if self._waiting or self._path is None:
            return
        if self._passed < self._known:
            self._try_all(now)
            return
        news, self._known = self._passed != self._known or not self._passed, self._passed
        self._known_at = now.monotonic
        self._next_check.set(now.monotonic + CHECK_S, self._check_again)
        if news:
            self._found(self._path, self._passed, now)


def _plaintext_len(path: Path, total: int) -> int:
    channel = _CHANNEL_HEADER if path.channel else 0
    return total - _HEADERS[is_v4(path.remote)] - _DATA_OVERHEAD - channel
