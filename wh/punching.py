"""Hole punching with trusted peers: attempts, offered and answered through channels (docs/protocol.md 7).

So far every attempt fails: an OFFER is refused, and none is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wh.commands import Reply
from wh.engine import Engine
from wh.events import Instant, Key, MessageReceived, Path, SendFailed
from wh.reachability import OwnReachability
from wh.requests import Requests
from wh.timers import Timer
from wh.wire.candidates import NatProfile
from wh.wire.messages import Answer, Go, Offer, Probe


class PathFound(Protocol):
    def __call__(self, peer: Key, path: Path, rtt_s: float, now: Instant, /) -> None: ...


class AttemptEnded(Protocol):
    def __call__(self, peer: Key, succeeded: bool, now: Instant, /) -> None: ...


class Punching:
    """One attempt a peer at a time, whoever began it.

    allowed(peer): whether the network file trusts it; OFFERs of others are ignored. observed(peer): the IPs
    (16 bytes) that the relays of our channels to it see it at. found(peer, path, rtt_s, now): a PROBE of ours
    was answered on that direct path, several times an attempt for several paths. ended(peer, succeeded, now):
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
        self._requests = requests
        self._reachability = reachability
        self._allowed = allowed
        self._observed = observed
        self._found = found
        self._ended = ended
        self._running: dict[Key, Timer] = {}

    def begin(self, peer: Key, channel: Path, now: Instant) -> None:
        """Offer an attempt through that channel, unless one runs. ended() follows, never before this
        returns."""
        if peer not in self._running:
            self._running[peer] = self._engine.timers.call_at(
                now.monotonic, lambda then: self._end(peer, then)
            )

    def is_running(self, peer: Key) -> bool:
        return peer in self._running

    def why_not(self, peer: Key) -> str:
        """Why the last attempt with the peer found no path, for people; empty where none was made."""
        return ""

    def cancel(self, peer: Key) -> None:
        """Give up the attempt with that peer without a word, and without ended()."""
        timer = self._running.pop(peer, None)
        if timer is not None:
            timer.cancel()

    def handle(self, event: MessageReceived, now: Instant) -> bool:
        """Whether the message was one of hole punching: then it is dealt with."""
        if event.first_contact:
            return False
        match event.message:
            case Offer(request_id=request_id, attempt=attempt, round=number):
                if event.path.channel and self._allowed(event.peer):
                    refusal = Answer(request_id, attempt, number, NatProfile(), ())
                    self._engine.emit(Reply(event.reply, refusal))
                return True
            case Go():
                return True
        return False

    def send_failed(self, event: SendFailed, now: Instant) -> bool:
        """Whether it was a PROBE of an attempt; its path is tried no more."""
        return isinstance(event.message, Probe) and not event.message.request_id

    def _end(self, peer: Key, now: Instant) -> None:
        del self._running[peer]
        self._ended(peer, False, now)
