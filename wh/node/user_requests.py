"""What the user wants of the engine: lookups, pings and claims, which end with a Notify; to forget a peer."""

from __future__ import annotations

from typing import assert_never

from wh.engine.commands import ResetSession
from wh.engine.events import (
    ClaimRequested,
    ForgetRequested,
    Instant,
    Key,
    LookupRequested,
    Path,
    PingRequested,
    RequestCancelled,
    UserEvent,
)
from wh.engine.inquiry import Finish, Inquiries, Inquiry, Progress
from wh.node.inquiries import LookupInquiry, PingInquiry
from wh.node.parts import Parts
from wh.paths.trusted_peers import Visit
from wh.trust.alias import HandshakeHashes
from wh.trust.authentication import ClaimInquiry


class UserRequests:
    def __init__(self, parts: Parts, handshake_hashes: HandshakeHashes) -> None:
        self._parts = parts
        self._handshake_hashes = handshake_hashes
        self._inquiries = Inquiries(parts.engine)

    def handle(self, event: UserEvent, now: Instant) -> None:
        match event:
            case LookupRequested() | PingRequested() | ClaimRequested():
                self._inquire(event, now)
            case RequestCancelled(request=request):
                self._inquiries.cancel(request)
            case ForgetRequested(peer=key):
                self._forget(key, now)
            case _:
                assert_never(event)

    def _inquire(self, event: LookupRequested | PingRequested | ClaimRequested, now: Instant) -> None:
        def make(progress: Progress, finish: Finish) -> Inquiry:
            match event:
                case LookupRequested(peer=key):
                    return LookupInquiry(key, self._parts.searches, progress, finish)
                case PingRequested(peer=key):
                    return self._ping(key, finish)
                case ClaimRequested():
                    return self._claim(event, finish)
                case _:
                    assert_never(event)

        self._inquiries.run(event.request, make, now)

    def _ping(self, key: Key, finish: Finish) -> PingInquiry:
        parts = self._parts
        return PingInquiry(
            key,
            parts.engine,
            parts.requests,
            parts.searches,
            self._known_paths(key),
            self._relay_of,
            finish,
        )

    def _claim(self, event: ClaimRequested, finish: Finish) -> ClaimInquiry:
        return ClaimInquiry(
            event.peer,
            event.alias,
            self._parts.engine,
            self._parts.requests,
            lambda now: self._visit(event, now),
            finish,
            self._handshake_hashes,
        )

    def _visit(self, event: ClaimRequested, now: Instant) -> Visit:
        visit = self._parts.trusted.visit(event.peer, event.endpoints, event.relays, now)
        self._parts.neighbours.restart(now)
        return visit

    def _known_paths(self, key: Key) -> list[Path]:
        """Where a node is, without looking it up; the path in use alone if there is one."""
        parts = self._parts
        trusted = parts.trusted.get(key)
        if trusted is not None and trusted.routes.first is not None:
            return [trusted.routes.first]
        if trusted is not None:
            addresses = list(trusted.candidates)
        else:
            contact = parts.kademlia.table.get(key)
            last = parts.engine.peers.obtain(key).last_direct_path
            addresses = [contact.address] if contact is not None else []
            addresses += [last.remote] if last is not None else []
            addresses += parts.endpoints.addresses_of(key)
        return parts.engine.addressing.paths_to(addresses)

    def _relay_of(self, key: Key, path: Path) -> Key | None:
        trusted = self._parts.trusted.get(key)
        return trusted.relay_of(path) if trusted is not None else None

    def _forget(self, key: Key, now: Instant) -> None:
        parts = self._parts
        parts.requests.cancel_all(key)
        parts.kademlia.table.remove(key)
        parts.engine.peers.forget(key)
        parts.overlay_ipv6.forget(key)
        trusted = parts.trusted.get(key)
        if trusted is not None:
            trusted.forget(now)
        else:
            parts.engine.emit(ResetSession(key))
