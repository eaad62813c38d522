"""The PROBEs of one attempt of hole punching: sent within a budget, answered, and found to be answered
(docs/protocol.md section 7)."""

from __future__ import annotations

from collections.abc import Iterable

from wh.engine.commands import Reply, Send
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, MessageReceived, Path
from wh.punch.schedule import ProbeBudget, in_turn
from wh.wire.messages import Probe, ProbeAck

LEARNED_MAX = 8
"""Addresses that PROBEs of the peer came from, beside those that it told."""


class Prober:
    """attempt: the number in the PROBEs. vouched: IPs that relays see the peer at."""

    def __init__(self, engine: Engine, peer: Key, attempt: int, vouched: frozenset[bytes]) -> None:
        self._engine = engine
        self._peer = peer
        self._attempt = attempt
        self._budget = ProbeBudget(vouched)
        self._predicted: list[Path] = []
        self._targets: dict[Path, None] = {}
        self._learned: set[Path] = set()
        self._probed_back: set[Path] = set()
        self._sent: dict[int, tuple[Path, float]] = {}  # number of a PROBE -> where to, when
        self._answered: set[Path] = set()

    def aim(
        self, predicted: Iterable[Path], targets: Iterable[Path], vouched: frozenset[bytes] = frozenset()
    ) -> None:
        """For a new round. PROBEs of the ones before may still be answered. vouched: IPs as above, which may
        be known only by now."""
        self._budget.vouched |= vouched
        self._predicted = list(predicted)
        self._targets = dict.fromkeys(targets)
        self._probed_back.clear()

    def shoot(self, number: int, ttl: int, now: Instant) -> None:
        """Predicted ports come first and in order: each takes the next port of a sequential NAT of ours,
        which the peer predicts."""
        for path in self._predicted:
            self.probe_vouched(path, ttl, now)
        unanswered = [(path.remote[:16], path) for path in self._targets if path not in self._answered]
        for path in in_turn(number, unanswered):
            self._probe(path, ttl, now)

    def probe_vouched(self, path: Path, ttl: int, now: Instant) -> None:
        """One of many guesses."""
        if self._budget.take_of_many(path.remote[:16]):
            self._send(path, ttl, now)

    def acknowledge(self, event: MessageReceived, number: int) -> None:
        self._engine.emit(Reply(event.reply, ProbeAck(0, self._attempt, number)))

    def probe_back(self, path: Path, now: Instant) -> None:
        """A PROBE of the peer came this way, which is open then: the same way out is the best to try, once a
        round at once. Nobody may have told us this address."""
        if path in self._probed_back:
            return
        if path not in self._targets and path not in self._predicted:
            if len(self._learned) >= LEARNED_MAX or not self._engine.addressing.may_send_to(path.remote):
                return
            self._learned.add(path)
            self._targets[path] = None
        self._probed_back.add(path)
        self._probe(path, 0, now)

    def answered(self, number: int, now: Instant) -> tuple[Path, float] | None:
        """A path that was not known to work yet, and its round trip in seconds. It is the one that our PROBE
        took, whichever way the answer came."""
        path, at = self._sent.pop(number, (None, 0.0))
        if path is None or path in self._answered:
            return None
        self._answered.add(path)
        return path, now.monotonic - at

    def was_told(self, path: Path) -> bool:
        """Whether we would have probed it also without having got a PROBE from there."""
        return path not in self._learned

    def unreachable(self, path: Path) -> None:
        """The system refuses to send there."""
        self._targets.pop(path, None)
        self._predicted = [each for each in self._predicted if each != path]

    def _probe(self, path: Path, ttl: int, now: Instant) -> None:
        if self._budget.take(path.remote):
            self._send(path, ttl, now)

    def _send(self, path: Path, ttl: int, now: Instant) -> None:
        number = int.from_bytes(self._engine.rng.randbytes(4), "little")  # or an answer could be guessed
        self._sent[number] = path, now.monotonic
        self._engine.emit(Send(self._peer, path, Probe(0, self._attempt, number), ttl=ttl))
