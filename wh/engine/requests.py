"""Requests and their answers: ids, timeouts, repeats, round-trip times, the budget of unproved addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from wh.engine.commands import ResetSession, Send
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, MessageReceived, Path, SendFailed
from wh.engine.peers import UNANSWERED_MAX, Peer
from wh.engine.rtt import MAX_TIMEOUT_S
from wh.engine.timers import Timer
from wh.engine.unproved import Cause, Unproved
from wh.wire.messages import (
    ANSWERS,
    Auth,
    Challenge,
    Find,
    FindWant,
    Message,
    Open,
    Ping,
    Probe,
    ProbeAck,
    Reserve,
    Response,
    Reveal,
)

PENDING_MAX = 1024
PATHS_MAX = 8

FIND_INIT_LEN = 400
FIND_RECORD_INIT_LEN = 1052
"""Plaintext sizes of an INIT that carries FIND (docs/protocol.md section 2)."""

FIND_AGAIN_MAX = 4
"""Contacts that a repeated FIND asks for: it may be that the answer was too long for a path."""

PONG_ROOM = 64
"""Plaintext of a PONG, and so of every PING: on a path that is new to the peer it may answer with no more
than it gets."""

SMALL = Ping | Challenge | Probe | Reserve | Open
"""All that may go where nothing is proved, unpadded: 212 bytes at most, a PING's INIT."""

AUTHED_ROOM = 368
"""Plaintext of an AUTH: that of the longest AUTHED, for the same reason."""

FIRST_CONTACT_RESEND_S = 0.4


class Schedule(NamedTuple):
    """When a request is sent again and given up, in seconds after the first send."""

    resend_after: tuple[float, ...]
    give_up_after: float


FIRST_CONTACT = Schedule((FIRST_CONTACT_RESEND_S,), MAX_TIMEOUT_S)
CHALLENGE = Schedule((), 1.0)
"""For who came from a new address, and will again: as much goes there as came, and no more."""

CANDIDATES = Schedule((0.25, 0.75, 1.75), 2.75)
"""For the candidates of a trusted peer: repeated, because both sides' NATs may have to open first."""


class Answer(NamedTuple):
    """path: the one that led to the peer. rtt: seconds since the last send."""

    message: Message
    path: Path
    rtt: float


MayRepeat = Callable[[], bool]
AnswerCallback = Callable[[Answer, Instant], None]
FailureCallback = Callable[[Instant], None]


def _no_answer_wanted(answer: Answer, now: Instant) -> None:
    """For a request that is made for the listeners' sake, or for what it makes the peer do."""


def _failure_expected(now: Instant) -> None:
    """For a request that comes again anyway."""


def _always() -> bool:
    return True


@dataclass(slots=True)
class Request:
    """One request that waits for its answer. tried: where it has been sent."""

    peer: Key
    paths: list[Path]
    message: Message
    schedule: Schedule
    on_answer: AnswerCallback
    on_failure: FailureCallback
    started_at: float
    pad_to: int = 0
    speculative: bool = False
    cause: Cause = Cause.OURS
    may_repeat: MayRepeat = _always
    sent_at: float = 0.0  # the last time
    sends: int = 0
    timer: Timer | None = None
    tried: set[Path] = field(default_factory=set)

    @property
    def next_at(self) -> float:
        resends = self.schedule.resend_after
        after = resends[self.sends - 1] if self.sends <= len(resends) else self.schedule.give_up_after
        return self.started_at + after


class Requests:
    """The table of requests in flight, at most PENDING_MAX.

    answer_listeners are told of every answer, and silence_listeners of every request given up, before whoever
    made the request; validation_listeners of every path that its peer has proved."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pending: dict[tuple[Key, int], Request] = {}
        self._last_id = int.from_bytes(engine.rng.randbytes(4), "little")
        self.unproved = Unproved(engine)
        self.answer_listeners: list[Callable[[Key, Answer, Instant], None]] = []
        self.silence_listeners: list[Callable[[Key, Instant], None]] = []
        self.validation_listeners: list[Callable[[Key, Path, Instant], None]] = []

    def __len__(self) -> int:
        return len(self._pending)

    def start(
        self,
        peer: Key,
        paths: Sequence[Path],
        message: Message,
        now: Instant,
        *,
        on_answer: AnswerCallback = _no_answer_wanted,
        on_failure: FailureCallback = _failure_expected,
        schedule: Schedule | None = None,
        pad_to: int = 0,
        speculative: bool = False,
        cause: Cause = Cause.OURS,
        may_repeat: MayRepeat = _always,
    ) -> Request:
        """Send a request on all `paths` and repeat it until it is answered or given up; exactly one of
        on_answer and on_failure follows, later, unless it is cancelled. Its request id is filled in here.
        Where too many are in flight, on_failure is all that happens. pad_to: plaintext size of a PROBE.
        speculative: no answer says something of the path, nothing of the peer or the session. cause: whose
        share of what may go to unproved addresses this takes. may_repeat: asked before each resend."""
        self._last_id = self._last_id % 0xFFFF_FFFF + 1  # never 0, which means unsolicited
        request = Request(
            peer,
            list(paths),
            replace(message, request_id=self._last_id),
            schedule or _schedule_for(self._engine.peers.obtain(peer)),
            on_answer,
            on_failure,
            now.monotonic,
            pad_to=pad_to,
            speculative=speculative,
            cause=cause,
            may_repeat=may_repeat,
        )
        if len(self._pending) >= PENDING_MAX or not paths:
            self._fail_soon(request, now)
        else:
            self._pending[peer, self._last_id] = request
            self._transmit(request, now)
        return request

    def add_paths(self, request: Request, paths: Sequence[Path], now: Instant) -> None:
        """Try a request in flight on further paths too, at most PATHS_MAX in all."""
        new = [path for path in paths if path not in request.paths][: PATHS_MAX - len(request.paths)]
        request.paths += new
        for path in new:
            self._send(request, path, now)

    def challenge(self, peer: Key, path: Path, nonce: bytes, now: Instant) -> None:
        """Have a peer prove that it is where something of its session just came from."""
        if not self.waits_for(peer, Challenge):
            self.start(peer, [path], Challenge(0, nonce), now, schedule=CHALLENGE, speculative=True)

    def prove(
        self,
        peer: Key,
        path: Path,
        now: Instant,
        *,
        on_answer: AnswerCallback,
        on_failure: FailureCallback,
    ) -> Request:
        """Ask whether the peer is at the end of this path: in its session, if there is one."""
        in_session = self._engine.peers.obtain(peer).session
        message = Challenge(0, self._engine.nonce()) if in_session else self._engine.echo()
        return self.start(
            peer, [path], message, now, on_answer=on_answer, on_failure=on_failure, speculative=True
        )

    def cancel(self, request: Request | None) -> None:
        if request is not None:
            self._remove(request)

    def cancel_all(self, peer: Key) -> None:
        for request in [request for request in self._pending.values() if request.peer == peer]:
            self._remove(request)

    def waits_for(self, peer: Key, kind: type[Message], path: Path | None = None) -> bool:
        """Whether a request of that type to that peer is in flight. path: on that one; None: on any."""
        return any(
            key == peer and isinstance(request.message, kind) and path in (None, *request.paths)
            for (key, _), request in self._pending.items()
        )

    def take_answer(self, event: MessageReceived, now: Instant) -> bool:
        """Whether the message answered a request of ours; a path that it was sent on is validated by that."""
        request = self._pending.get((event.peer, event.message.request_id))
        if request is None or not _answers(request.message, event.message):
            return False
        self._remove(request)
        peer = self._engine.peers.obtain(event.peer)
        rtt = max(0.0, now.monotonic - request.sent_at)
        if request.sends == 1:
            peer.round_trip.add_sample(rtt)
        path = _proven_path(request, event.path)
        if path is not None:
            self.validated(peer, path, now)
        answer = Answer(event.message, path or event.path, rtt)
        for listener in self.answer_listeners:
            listener(event.peer, answer, now)
        request.on_answer(answer, now)
        return True

    def validated(self, peer: Peer, path: Path, now: Instant) -> None:
        """The peer has proved that it gets what is sent on this path."""
        peer.validate(path, now)
        self._engine.peers.obtain(peer.key)  # to be remembered rather than those that proved nothing
        for listener in self.validation_listeners:
            listener(peer.key, path, now)

    def send_failed(self, event: SendFailed, now: Instant) -> None:
        """The runner could not send: the path counts no more, and without another the request fails."""
        request = self._pending.get((event.peer, event.message.request_id))
        if request is None or type(request.message) is not type(event.message):
            return
        request.paths = [path for path in request.paths if path != event.path]
        if not request.paths:
            self._remove(request)
            self._fail_soon(request, now)

    def _transmit(self, request: Request, now: Instant) -> None:
        request.sends += 1
        if request.sends > 1:
            request.message = self._asking_for_less(request.peer, request.message)
        if request.sends == 1 or request.may_repeat():
            request.sent_at = now.monotonic
            for path in request.paths:
                self._send(request, path, now)
        request.timer = self._engine.timers.call_at(
            request.next_at, lambda then: self._timed_out(request, then)
        )

    def _asking_for_less(self, key: Key, message: Message) -> Message:
        """In an INIT it stays as it is: the same one goes out again."""
        if isinstance(message, Find) and self._engine.peers.obtain(key).session:
            return replace(message, max=min(message.max, FIND_AGAIN_MAX))
        return message

    def _send(self, request: Request, path: Path, now: Instant) -> None:
        pad_to = request.pad_to or _pad_to(request.message)
        if self._may_send(request, path, pad_to, now):
            request.tried.add(path)
            in_session = isinstance(request.message, Find) and not self._engine.peers.is_pinned(request.peer)
            self._engine.emit(Send(request.peer, path, request.message, pad_to, in_session=in_session))

    def _may_send(self, request: Request, path: Path, pad_to: int, now: Instant) -> bool:
        """Where nothing is proved only small messages go, within limits; beside them a CHALLENGE, once, which
        is no longer than what came from there."""
        if self.unproved.is_proved(request.peer, path, now):
            return True
        if isinstance(request.message, Challenge) and request.sends == 1:
            return True
        small = isinstance(request.message, SMALL) and pad_to <= PONG_ROOM
        return small and self.unproved.take(path, request.cause, now)

    def _timed_out(self, request: Request, now: Instant) -> None:
        """What was sent nowhere, for want of budget, is no silence of anybody."""
        counts = bool(request.tried) and not request.speculative
        if counts:
            self._count_unanswered(request.peer)
        if request.sends > len(request.schedule.resend_after):
            self._remove(request)
            for listener in self.silence_listeners if counts else ():
                listener(request.peer, now)
            request.on_failure(now)
            return
        self._transmit(request, now)

    def _count_unanswered(self, key: Key) -> None:
        peer = self._engine.peers.obtain(key)
        if not peer.session:
            return
        peer.unanswered += 1
        if peer.unanswered >= UNANSWERED_MAX:
            peer.session_lost()
            self._engine.emit(ResetSession(key))

    def _fail_soon(self, request: Request, now: Instant) -> None:
        """From a timer, so that no callback runs inside start()."""
        request.timer = self._engine.timers.call_at(now.monotonic, request.on_failure)

    def _remove(self, request: Request) -> None:
        self._pending.pop((request.peer, request.message.request_id), None)
        if request.timer is not None:
            request.timer.cancel()


def _schedule_for(peer: Peer) -> Schedule:
    """In a session two sends may stay unanswered; the third is a new INIT."""
    if not peer.session:
        return FIRST_CONTACT
    first = peer.round_trip.timeout
    second = first + min(MAX_TIMEOUT_S, 2 * first)
    return Schedule((first, second), second + MAX_TIMEOUT_S)


def _pad_to(message: Message) -> int:
    """Room for the answer: a reply is never longer than its request, on a path that is not validated."""
    if isinstance(message, Ping):
        return PONG_ROOM
    if isinstance(message, Auth | Reveal):
        return AUTHED_ROOM
    if not isinstance(message, Find):
        return 0
    return FIND_RECORD_INIT_LEN if message.want & FindWant.RECORD else FIND_INIT_LEN


def _proven_path(request: Request, answered_from: Path) -> Path | None:
    """On which path the request must have arrived: the one that the answer came on, or its only one, where
    the answer may come from another address of the node. An INIT goes on other paths than its request too."""
    if answered_from in request.tried:
        return answered_from
    only = next(iter(request.tried)) if len(request.tried) == 1 else None
    if only is None or (only.socket, only.channel) != (answered_from.socket, answered_from.channel):
        return None
    return only


def _answers(request: Message, answer: Message) -> bool:
    if ANSWERS.get(type(request)) is not type(answer):
        return False
    if isinstance(request, Challenge) and isinstance(answer, Response):
        return request.nonce == answer.nonce
    if isinstance(request, Probe) and isinstance(answer, ProbeAck):
        return (request.attempt, request.number) == (answer.attempt, answer.number)
    return True
