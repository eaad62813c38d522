"""Hole punching with trusted peers: attempts, offered and answered through channels (docs/protocol.md 7).

What happens in an attempt is wh.punch.attempt's business; this knows which attempts there are, lets messages
in, and keeps the limits that reach beyond one attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wh.engine.commands import Reply
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, MessageReceived, Path, SendFailed
from wh.engine.limits import RateLimit
from wh.engine.requests import Requests
from wh.nat.reachability import OwnReachability
from wh.punch.attempt import Attempt, AttemptContext
from wh.punch.search_pauses import SearchPauses
from wh.wire.candidates import NatProfile
from wh.wire.messages import Answer, Go, Offer, Probe, ProbeAck

ATTEMPTS_MAX = 16
OFFERS_BURST = 4
OFFERS_INTERVAL_S = 15.0
"""What one peer may have us do: an attempt costs up to 24 PROBEs to each of 8 addresses that it names."""

REASONS_MAX = 1024


class PathFound(Protocol):
    def __call__(self, peer: Key, path: Path, rtt_s: float, told: bool, now: Instant, /) -> None: ...


class AttemptEnded(Protocol):
    def __call__(self, peer: Key, succeeded: bool, now: Instant, /) -> None: ...


class Punching:
    """One attempt a peer at a time, whoever began it.

    allowed(peer): whether the network file trusts it; OFFERs of others are ignored. observed(peer): the IPs
    (16 bytes) that the relays of our channels to it see it at. found(peer, path, rtt_s, told, now): a PROBE
    of ours was answered on that direct path, several times an attempt for several paths; told: the peer told
    its address, or one that it follows from. ended(peer, succeeded, now):
    once an attempt, offered or answered. A path's socket may be one of the attempt's own: who wants it emits
    AdoptSocket within found() or ended(); when ended() has returned, the attempt's other sockets close.

    The node gives every message that no request of ours waits for to handle(), and every SendFailed of a
    PROBE to send_failed().
    """

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        reachability: OwnReachability,
        *,
        allowed: Callable[[Key], bool],
        observed: Callable[[Key], frozenset[bytes]],
        found: PathFound,
        ended: AttemptEnded,
    ) -> None:
        self._engine = engine
        self._reachability = reachability
        self._around = AttemptContext(engine, requests, reachability, observed, self)
        self._allowed = allowed
        self._found = found
        self._ended = ended
        self._attempts: dict[Key, Attempt] = {}
        self._offers = RateLimit(OFFERS_BURST, OFFERS_INTERVAL_S)
        self._pauses = SearchPauses()
        self._reasons: dict[Key, str] = {}

    # For the paths

    def begin(self, peer: Key, channel: Path, now: Instant) -> None:
        """Offer an attempt through that channel, unless one runs. ended() follows, never before this
        returns."""
        if peer in self._attempts:
            return
        number = int.from_bytes(self._engine.rng.randbytes(4), "little")
        attempt = Attempt(self._around, peer, number, channel, offering=True)
        refused = self._refuses_to_begin()
        self._attempts[peer] = attempt
        if refused:
            self._engine.timers.call_at(
                now.monotonic, lambda then: self._fail_to_begin(attempt, refused, then)
            )
        else:
            attempt.start(now)

    def is_running(self, peer: Key) -> bool:
        return peer in self._attempts

    def why_not(self, peer: Key) -> str:
        """Why the last attempt with the peer found no path, for people; empty where none was made."""
        return self._reasons.get(peer, "")

    def cancel(self, peer: Key) -> None:
        """Give up the attempt with that peer without a word, and without ended()."""
        attempt = self._attempts.pop(peer, None)
        if attempt is not None:
            self._discard(attempt)

    # For the node

    def handle(self, event: MessageReceived, now: Instant) -> bool:
        """Whether the message was one of hole punching: then it is dealt with. PROBEs with a request id are
        requests of somebody else."""
        if event.first_contact:
            return False
        match event.message:
            case Offer() as offer:
                if event.path.channel and self._allowed(event.peer):
                    self._offered(event, offer, now)
                return True
            case Go() as go:
                attempt = self._attempt(event.peer, go.attempt)
                if attempt is not None:
                    attempt.go(go, now)
                return True
            case Probe(request_id=0, attempt=number) as probe:
                attempt = None if event.path.channel else self._attempt(event.peer, number)
                if attempt is not None:
                    attempt.probed(event, probe.number, now)
                return attempt is not None
            case ProbeAck(request_id=0, attempt=number) as ack:
                attempt = self._attempt(event.peer, number)
                if attempt is not None:
                    attempt.acknowledged(ack.number, now)
                return True
        return False

    def send_failed(self, event: SendFailed, now: Instant) -> bool:
        """Whether it was a PROBE of an attempt; its path is tried no more."""
        if not isinstance(event.message, Probe) or event.message.request_id:
            return False
        attempt = self._attempt(event.peer, event.message.attempt)
        if attempt is not None:
            attempt.unreachable(event.path)
        return True

    # OFFERs of peers

    def _offered(self, event: MessageReceived, offer: Offer, now: Instant) -> None:
        running = self._attempts.get(event.peer)
        if running is not None and running.number == offer.attempt and not running.offering:
            running.offered(event, offer, now)
            return
        if running is not None and running.awaits_answer and self._ours_wins(event.peer):
            return
        if offer.round or not self._takes_offer(event.peer, now):
            refusal = Answer(offer.request_id, offer.attempt, offer.round, NatProfile(), ())
            self._engine.emit(Reply(event.reply, refusal))
            return
        if running is not None and running.searching:
            self._pauses.ended(event.peer, succeeded=False, now=now.monotonic)
        self.cancel(event.peer)
        attempt = Attempt(self._around, event.peer, offer.attempt, event.path, offering=False)
        self._attempts[event.peer] = attempt
        attempt.offered(event, offer, now)

    def _ours_wins(self, peer: Key) -> bool:
        """Both sides offered at once: the lower key's counts (docs/protocol.md section 7)."""
        return self._engine.key < peer

    def _takes_offer(self, peer: Key, now: Instant) -> bool:
        room = peer in self._attempts or len(self._attempts) < ATTEMPTS_MAX
        return room and self._offers.allow(peer, now.monotonic)

    # For the attempts (wh.punch.attempt.Owner)

    def may_search(self, peer: Key, now: Instant) -> bool:
        busy = any(each.searching for each in self._attempts.values())
        return not busy and self._pauses.over(peer, now.monotonic)

    def path_found(self, peer: Key, path: Path, rtt_s: float, told: bool, now: Instant) -> None:
        self._found(peer, path, rtt_s, told, now)

    def attempt_over(self, attempt: Attempt, reason: str, now: Instant) -> None:
        if self._attempts.get(attempt.peer) is attempt:
            del self._attempts[attempt.peer]
        if attempt.searching:
            self._pauses.ended(attempt.peer, succeeded=not reason, now=now.monotonic)
        self._remember(attempt.peer, reason)
        self._ended(attempt.peer, not reason, now)
        self._discard(attempt)

    # Beginning and ending

    def _refuses_to_begin(self) -> str:
        if self._reachability.udp_blocked:
            return "UDP is blocked here"
        return "too many attempts at once" if len(self._attempts) >= ATTEMPTS_MAX else ""

    def _fail_to_begin(self, attempt: Attempt, reason: str, now: Instant) -> None:
        if self._attempts.get(attempt.peer) is attempt:
            self.attempt_over(attempt, reason, now)

    def _attempt(self, peer: Key, number: int) -> Attempt | None:
        attempt = self._attempts.get(peer)
        return attempt if attempt is not None and attempt.number == number else None

    def _discard(self, attempt: Attempt) -> None:
        attempt.stop()
        for socket in attempt.sockets:
            self._engine.sockets.close(socket)

    def _remember(self, peer: Key, reason: str) -> None:
        self._reasons.pop(peer, None)
        if reason:
            self._reasons[peer] = reason
        if len(self._reasons) > REASONS_MAX:
            del self._reasons[next(iter(self._reasons))]
