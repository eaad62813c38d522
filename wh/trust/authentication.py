"""Claims of aliases (docs/protocol.md section 9): answering those of others, and making our own."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from wh.config.model import Network, Peer
from wh.engine.commands import BindAlias, Reply
from wh.engine.core import Engine
from wh.engine.events import AliasBound, Instant, Key, MessageReceived, Path
from wh.engine.inquiry import Finish, error
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.engine.timers import Alarm
from wh.trust.alias import Aliases, CheckClaim, HandshakeHashes, Verdict
from wh.trust.exchange import Claim, Exchanges, Offer
from wh.wire.address import to_text
from wh.wire.codec import encode
from wh.wire.fields import CLAIM_NONCE_LEN
from wh.wire.messages import Auth, Authed, AuthStatus, Ping, Reveal, Subnet

CLAIM = Schedule((0.5, 1.5, 3.0), 5.0)
"""The first answer may take a while: it is on the server's disk before it is sent."""

GIVE_UP_AFTER_S = 20.0
"""A server that restarts meanwhile is found again."""

OFFERS_MAX = 3
"""Exchanges that one claim begins: a server that restarts between the two halves asks for another. Each is a
guess for whoever stands between (wh.trust.exchange)."""

LINGER_S = 5.0
LOOK_AGAIN_S = 0.02
"""Whether there is a path by now."""

_REFUSALS: dict[int, tuple[str, str, str]] = {
    AuthStatus.UNKNOWN: (
        "WH147",
        "the node that invited does not know the invitation",
        "it was for another node, or has been revoked: ask for a new one",
    ),
    AuthStatus.USED: (
        "WH146",
        "somebody else has used the invitation",
        "if that was not you on another machine, tell who sent it: a stranger may be in the network",
    ),
    AuthStatus.EXPIRED: ("WH144", "the invitation has expired", "ask for a new one"),
    AuthStatus.FAILED: (
        "WH148",
        "the node that invited could not write the newcomer down",
        "its log says why",
    ),
}


class Authentication:
    """Claims that others make here. Each is answered in the session that it came in; over a limit, not at
    all."""

    def __init__(self, engine: Engine, check: CheckClaim, handshake_hashes: HandshakeHashes) -> None:
        self._engine = engine
        self._handshake_hashes = handshake_hashes
        self._exchanges = Exchanges(engine.key, engine.rng.randbytes)
        self._network: Network | None = None  # None: not read yet, which is no reason to refuse anybody
        self._aliases = Aliases(engine.key, check)
        self._waiting: dict[Key, MessageReceived] = {}  # by alias: the claimant's last REVEAL

    def set_network(self, network: Network) -> None:
        self._network = network
        self._aliases.set_network(network)

    def awaits_claims(self, now: Instant) -> bool:
        return self._aliases.can_be_claimed(now)

    def remember(self, claims: Iterable[tuple[Key, Key]]) -> None:
        """Alias and claimant of claims from before the start."""
        for alias, claimant in claims:
            self._aliases.remember(alias, claimant)

    def heard(self, event: MessageReceived, message: Auth | Reveal, now: Instant) -> None:
        """One in an INIT could be a replay, and is ignored."""
        if event.first_contact or self._network is None:
            return
        if isinstance(message, Auth):
            self._claimed(event, message, now)
        else:
            self._revealed(event, message, now)

    def _claimed(self, event: MessageReceived, auth: Auth, now: Instant) -> None:
        verdict = self._aliases.judge(event.peer, auth.alias, auth.commitment, auth.proof, event.path, now)
        if isinstance(verdict, AuthStatus):
            self._answer(event, auth.alias, verdict)
        elif verdict is Verdict.PROVED:
            hashes = self._handshake_hashes(event.peer)
            nonce = self._exchanges.answer(event.peer, auth.alias, auth.commitment, hashes, now.monotonic)
            if nonce is not None:
                self._reply(event, Authed(auth.request_id, auth.alias, AuthStatus.PROVED, nonce=nonce))

    def _revealed(self, event: MessageReceived, reveal: Reveal, now: Instant) -> None:
        """From here on the claim is written down, with the words."""
        alias = reveal.alias
        refusal = self._aliases.refusal(event.peer, alias, now)
        if isinstance(refusal, AuthStatus):
            self._answer(event, alias, refusal)
        elif refusal is Verdict.SILENCE:
            waiting = self._waiting.get(alias)
            if waiting is not None and waiting.peer == event.peer:
                self._waiting[alias] = event
        elif (words := self._exchanges.reveal(event.peer, alias, reveal.nonce, now.monotonic)) is None:
            self._answer(event, alias, AuthStatus.AGAIN)
        elif self._aliases.take(event.peer, alias):
            self._waiting[alias] = event
            self._engine.emit(BindAlias(alias, event.peer, words))

    def bound(self, event: AliasBound) -> None:
        """The claim is on disk, and what it says is our network; or that failed."""
        status = AuthStatus(event.status)
        self._aliases.bound(event.alias, event.claimant, status)
        waiting = self._waiting.pop(event.alias, None)
        if waiting is not None:
            self._answer(waiting, event.alias, status)

    def _answer(self, event: MessageReceived, alias: Key, status: AuthStatus) -> None:
        authed = Authed(event.message.request_id, alias, status)
        if status is AuthStatus.OK:
            authed = self._welcome(event, alias)
        self._reply(event, authed)

    def _reply(self, event: MessageReceived, authed: Authed) -> None:
        if len(encode(authed)) <= event.capacity:
            self._engine.emit(Reply(event.reply, authed))

    def _welcome(self, event: MessageReceived, alias: Key) -> Authed:
        """What the newcomer's own network file needs."""
        network = self._network or Network()
        newcomer, ourselves = self._aliases.member(event.peer), network.peer(self._engine.key)
        subnet = network.subnet
        return Authed(
            event.message.request_id,
            alias,
            AuthStatus.OK,
            _name(newcomer),
            _addresses(newcomer),
            None if subnet is None else Subnet(subnet.network_address.packed, subnet.prefixlen),
            _name(ourselves),
            _addresses(ourselves),
        )


def _name(peer: Peer | None) -> str:
    return "" if peer is None or peer.hostname is None else peer.hostname


def _addresses(peer: Peer | None) -> tuple[bytes, ...]:
    return () if peer is None or peer.ip is None else (peer.ip.packed,)


class Visit(Protocol):
    """A way to the server, sought as long as the visit lasts (wh.paths.trusted_peers.Visit)."""

    @property
    def path(self) -> Path | None: ...

    def end(self, now: Instant) -> None: ...


class ClaimInquiry:
    """Our own claim of an alias at another node: reach it, prove, exchange nonces, be told our place.

    Result: name, addresses, subnet, server_name, server_addresses (text), endpoint (None through a relay),
    check_words (none where our key had its place before); or error.
    """

    def __init__(
        self,
        server: Key,
        alias: Key,
        engine: Engine,
        requests: Requests,
        visit: Callable[[Instant], Visit],
        finish: Finish,
        handshake_hashes: HandshakeHashes,
    ) -> None:
        self._server = server
        self._alias = alias
        self._engine = engine
        self._requests = requests
        self._make_visit = visit
        self._finish = finish
        self._handshake_hashes = handshake_hashes
        self._offer: Offer | None = None
        self._offers = 0
        self._give_up_at = float("inf")
        self._visit: Visit | None = None
        self._request: Request | None = None
        self._next = Alarm(engine.timers)

    def start(self, now: Instant) -> None:
        self._give_up_at = now.monotonic + GIVE_UP_AFTER_S
        self._visit = self._make_visit(now)
        self._claim(now)

    def cancel(self) -> None:
        self._requests.cancel(self._request)
        self._next.cancel()
        if self._visit is not None:
            self._next.set(0.0, self._visit.end)  # as soon as there is a now

    def _claim(self, now: Instant) -> None:
        """Once there is a path, and with it a session: an AUTH goes nowhere else."""
        path = self._visit.path if self._visit is not None else None
        offer = self._current_offer() if path is not None else None
        if path is not None and offer is not None:
            self._next.cancel()
            self._requests.cancel(self._request)
            self._request = self._requests.start(
                self._server,
                [path],
                self._next_message(offer),
                now,
                on_answer=self._answered,
                on_failure=self._unanswered,
                schedule=CLAIM,
            )
        elif now.monotonic < self._give_up_at:
            if path is not None:
                self._open_session(path, now)
            self._next.set(now.monotonic + LOOK_AGAIN_S, self._claim)
        else:
            hint = "is its daemon running? Behind a NAT it must know a public node that the invitation names"
            self._end(error("WH321", "the node that invited cannot be reached", hint), now)

    def _open_session(self, path: Path, now: Instant) -> None:
        """By a PING. One behind somebody else's would be answered a round trip after the session is there."""
        if not self._requests.waits_for(self._server, Ping, path):
            self._request = self._requests.start(
                self._server,
                [path],
                self._engine.echo(),
                now,
                on_answer=lambda _, then: self._claim(then),
                on_failure=self._unanswered,
            )

    def _current_offer(self) -> Offer | None:
        """Made in the session that there is; None where it went again."""
        if not self._engine.peers.obtain(self._server).session:
            return None
        hashes = self._handshake_hashes(self._server)
        if self._offer is None and hashes:
            self._offers += 1
            claim = Claim(hashes[0], self._engine.key, self._server, self._alias)
            self._offer = Offer(claim, self._engine.rng.randbytes(CLAIM_NONCE_LEN))
        return self._offer

    def _next_message(self, offer: Offer) -> Auth | Reveal:
        return (
            Reveal(0, self._alias, offer.nonce)
            if offer.may_reveal
            else Auth(0, self._alias, offer.commitment)
        )

    def _unanswered(self, now: Instant) -> None:
        if now.monotonic < self._give_up_at:
            self._next.set(now.monotonic + LOOK_AGAIN_S, self._claim)
        else:
            hint = "it may be overloaded, or older than invitations are: try again"
            self._end(error("WH321", "the node that invited does not answer the claim", hint), now)

    def _end(self, result: dict[str, Any], now: Instant) -> None:
        """After a success the path stays for a while: whoever claimed makes the server a member next."""
        self._requests.cancel(self._request)
        self._next.cancel()
        if self._visit is not None and "error" in result:
            self._visit.end(now)
        elif self._visit is not None:
            self._next.set(now.monotonic + LINGER_S, self._visit.end)
        self._finish(result)

    def _answered(self, answer: Answer, now: Instant) -> None:
        authed, offer = answer.message, self._offer
        if not isinstance(authed, Authed) or authed.alias != self._alias or offer is None:
            self._unanswered(now)
        elif authed.status == AuthStatus.PROVED and not offer.may_reveal:
            offer.answered(authed.nonce)
            self._claim(now)
        elif authed.status == AuthStatus.AGAIN and self._offers < OFFERS_MAX:
            self._offer = None
            self._claim(now)
        elif authed.status == AuthStatus.OK:
            endpoint = None if answer.path.channel else to_text(answer.path.remote)
            self._end({**_place_of(authed), "endpoint": endpoint, "check_words": list(offer.words())}, now)
        else:
            self._end(error(*_REFUSALS.get(authed.status, _REFUSALS[AuthStatus.UNKNOWN])), now)


def _place_of(authed: Authed) -> dict[str, Any]:
    subnet = authed.subnet
    return {
        "name": authed.name,
        "addresses": [str(ipaddress.ip_address(ip)) for ip in authed.addresses],
        "subnet": None if subnet is None else f"{ipaddress.ip_address(subnet.base)}/{subnet.prefix_len}",
        "server_name": authed.server_name,
        "server_addresses": [str(ipaddress.ip_address(ip)) for ip in authed.server_addresses],
    }
