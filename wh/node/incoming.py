"""What comes from other nodes, and whose business it is (docs/protocol.md section 3)."""

from __future__ import annotations

from typing import assert_never

from wh.engine.commands import ResetSession
from wh.engine.events import (
    PUNCH_SOCKETS_FROM,
    Instant,
    Key,
    KnockReceived,
    MessageReceived,
    NodeEvent,
    Path,
    SendFailed,
    SessionOpened,
)
from wh.engine.peers import Peer
from wh.node.parts import Parts
from wh.paths.trusted import TrustedPeer
from wh.wire.messages import ANSWERS, Auth, Challenge, ChallengeWant, Leaving, Ping, Reveal

LATE_ANSWERS = tuple(ANSWERS.values())


class Incoming:
    """Stateless: what is to be remembered of a message the parts do."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def handle(self, event: NodeEvent, now: Instant) -> None:
        match event:
            case MessageReceived():
                self._message_received(event, now)
            case SessionOpened():
                self._session_opened(event, now)
            case SendFailed():
                self._send_failed(event, now)
            case KnockReceived():
                self._parts.reachability.knocked(event, now)
            case _:
                assert_never(event)

    # Messages

    def _message_received(self, event: MessageReceived, now: Instant) -> None:
        if event.peer == self._parts.engine.key:
            return
        peer = self._parts.engine.peers.obtain(event.peer)
        peer.heard_at = now.monotonic
        peer.unanswered = 0
        if not event.first_contact:
            peer.session = True
        self._parts.overlay_ipv6.heard(event)
        if not self._parts.requests.take_answer(event, now):
            self._parts.fallback.heard(event, now)
            self._unasked(event, peer, now)

    def _unasked(self, event: MessageReceived, peer: Peer, now: Instant) -> None:
        """A request, or a notice, from another node."""
        parts, message = self._parts, event.message
        trusted = parts.trusted.get(event.peer)
        if isinstance(message, Leaving) and not event.first_contact:
            self._left(event, trusted, now)
            return
        if parts.punching.handle(event, now):
            if parts.punching.is_running(event.peer):
                parts.trusted.punching(event.peer, now)
            return
        if _says_where_the_sender_is(event):
            if trusted is not None:
                trusted.heard(event, now)
            elif not event.first_contact and not peer.is_validated(event.path, now):
                self._challenge(event, now)
        if isinstance(message, Challenge) and not self._uses(event.peer, event.path, message, now):
            return
        if isinstance(message, Auth | Reveal):
            parts.authentication.heard(event, message, now)
        elif not parts.relaying.handle(event, now):
            parts.server.handle(event, now)

    def _uses(self, key: Key, path: Path, challenge: Challenge, now: Instant) -> bool:
        """Whether the path is a way to us, and we use it as the CHALLENGE supposes. A socket that comes and
        goes with a measurement is none: nobody shall move there."""
        match challenge.want:
            case ChallengeWant.ANY:
                return path.socket < PUNCH_SOCKETS_FROM
            case ChallengeWant.DATA:
                trusted = self._parts.trusted.get(key)
                return trusted is not None and trusted.keeps_to(path, now)
            case ChallengeWant.RELAY:
                return self._parts.relays.keeps_to(key, path, now)
        return False

    def _left(self, event: MessageReceived, trusted: TrustedPeer | None, now: Instant) -> None:
        self._parts.discovery.left(event.peer)
        self._parts.engine.peers.obtain(event.peer).session_lost()
        self._parts.relaying.left(event.peer, now)
        if trusted is not None:
            trusted.left(now)
        else:
            self._parts.engine.emit(ResetSession(event.peer))

    def _challenge(self, event: MessageReceived, now: Instant) -> None:
        """Somebody we serve sends from a new address: until it is proved, large answers cannot go there."""
        self._parts.requests.challenge(event.peer, event.path, self._parts.engine.nonce(), now)

    # Sessions

    def _session_opened(self, event: SessionOpened, now: Instant) -> None:
        """As initiator, the answer in the RESP does what else is to do."""
        parts = self._parts
        peer = parts.engine.peers.obtain(event.peer)
        peer.session = True
        peer.unanswered = 0
        parts.relays.session_opened(event.peer, now)
        parts.overlay_ipv6.session_opened(event.peer, event.path, initiator=event.initiator, now=now)
        if event.initiator:
            return
        parts.requests.validated(peer, event.path, now)
        trusted = parts.trusted.get(event.peer)
        if trusted is not None:
            trusted.session_opened(event.path, now)

    def _send_failed(self, event: SendFailed, now: Instant) -> None:
        if self._parts.punching.send_failed(event, now):
            return
        if not isinstance(event.message, Ping):  # that would have gone out in an INIT
            self._parts.engine.peers.obtain(event.peer).session_lost()
        self._parts.requests.send_failed(event, now)


def _says_where_the_sender_is(event: MessageReceived) -> bool:
    """An answer that comes too late went the way of our own request; and what comes to a socket of ours that
    only measures or punches is no sign that anything moved."""
    return event.path.socket < PUNCH_SOCKETS_FROM and not isinstance(event.message, LATE_ANSWERS)
