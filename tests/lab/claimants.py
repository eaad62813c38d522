"""Many claimants of one alias in one process, on the control channel alone: `python claimants.py < ORDER`.

ORDER is a line of JSON: invitation; either count, to claim with that many keys until each has an answer
(within deadline_s), or wrong, seconds and per_second, to send wrong claims in so many sessions. Prints
`ready`, then JSON: results (by key an AuthStatus, or null), or sent and ok.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from typing import Any

from wh.net.alias_proofs import AliasProofs
from wh.trust.exchange import Claim, Offer
from wh.trust.invitation import Invitation, decode_untrusted
from wh.wire import codec
from wh.wire.address import ip_of, pack, port_of
from wh.wire.messages import Auth, Authed, AuthStatus, Ping, Reveal
from whcore import envelope
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey, encode_key

REPEAT_S = 0.5
UNANSWERED_MAX = 3
"""Claims in a session before a new one is begun: the server may have been restarted."""

WAIT_S = 0.005
NS = 10**9


class Claimant:
    """One key with a socket of its own. status: what the server answered."""

    def __init__(self, invited: Invitation) -> None:
        self.secret = SecretKey.search(invited.workbit, invited.namespace.encode(), threads=1)
        self.status: int | None = None
        self._server = invited.server_key
        self._offer: Offer | None = None
        self._alias = invited.alias_secret()
        self._sessions = ControlSessions(self.secret, invited.namespace.encode())
        self._proofs = AliasProofs(self.secret, self._sessions)
        self._proofs.hold(self._alias)
        self._next_at = 0.0
        self._unanswered = 0
        address = invited.endpoints[0]
        self._source = pack(ip_of(address), port_of(address))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect((str(ip_of(address)), port_of(address)))

    @property
    def ready(self) -> bool:
        return self._sessions.has_session(self._server)

    def step(self, now: float) -> None:
        """Begin a session, or claim in the one that there is."""
        if now < self._next_at or self.status is not None:
            return
        self._next_at = now + REPEAT_S
        if self._unanswered >= UNANSWERED_MAX:
            self._sessions.drop(self._server)
            self._unanswered = 0
        if self.ready:
            self._unanswered += 1
            self._continue()
        else:
            self._begin()

    def _continue(self) -> None:
        """AUTH until the server has answered with its nonce, then REVEAL."""
        alias = self._alias.public_key
        if self._offer is None:
            session = self._sessions.handshake_hashes(self._server)[0]
            claim = Claim(session, self.secret.public_key, self._server, alias)
            self._offer = Offer(claim, os.urandom(32))
        if self._offer.may_reveal:
            self._say(Reveal(1, alias, self._offer.nonce))
        else:
            proof = self._proofs.prove(self._server, alias, self._offer.commitment)
            self._say(Auth(1, alias, self._offer.commitment, proof or bytes(32)))

    def claim_wrongly(self) -> None:
        self._say(Auth(1, self._alias.public_key, bytes(32), os.urandom(32)))

    def _say(self, message: Auth | Reveal) -> None:
        encoded = codec.encode(message)
        datagram = self._sessions.seal(self._server, encoded, now_ns=time.monotonic_ns(), pad_to=368)
        if datagram is not None:
            self._send(datagram)

    def receive(self) -> None:
        try:
            data = self.socket.recv(2048)
        except (BlockingIOError, ConnectionError):  # nobody listens while the server restarts
            return
        opened = self._sessions.open(data, self._source, now_ns=time.monotonic_ns(), wall_ns=time.time_ns())
        match opened:
            case (envelope.RESPONSE, _, _):
                self._next_at = 0.0
            case (envelope.DATA, _, payload, _):
                message = codec.decode_untrusted(payload)
                if isinstance(message, Authed):
                    self._take(message)

    def _take(self, authed: Authed) -> None:
        if authed.status == AuthStatus.PROVED and self._offer is not None:
            self._offer.answered(authed.nonce)
            self._next_at = 0.0
        elif authed.status == AuthStatus.AGAIN:
            self._offer = None
            self._next_at = 0.0
        else:
            self.status = authed.status

    def _begin(self) -> None:
        payload = codec.encode(Ping(1, 0, 0, bytes(8)))
        self._send(
            self._sessions.initiate(
                self._server, payload, pad_to=64, now_ns=time.monotonic_ns(), wall_ns=time.time_ns()
            )
        )

    def _send(self, datagram: bytes) -> None:
        try:
            self.socket.send(datagram)
        except (BlockingIOError, ConnectionError):
            return


class Crowd:
    def __init__(self, invited: Invitation, count: int) -> None:
        self.members = [Claimant(invited) for _ in range(count)]
        self._selector = selectors.DefaultSelector()
        for member in self.members:
            self._selector.register(member.socket, selectors.EVENT_READ, member)

    def turn(self) -> None:
        """Take what has come, after a short wait."""
        for key, _ in self._selector.select(WAIT_S):
            key.data.receive()


def claim_all(invited: Invitation, count: int, deadline_s: float) -> dict[str, Any]:
    crowd = Crowd(invited, count)
    print("ready", flush=True)
    give_up_at = time.monotonic() + deadline_s
    while any(each.status is None for each in crowd.members) and time.monotonic() < give_up_at:
        for member in crowd.members:
            member.step(time.monotonic())
        crowd.turn()
    return {"results": {encode_key(each.secret.public_key): each.status for each in crowd.members}}


def claim_wrongly(invited: Invitation, sessions: int, seconds: float, per_second: int) -> dict[str, Any]:
    crowd = Crowd(invited, sessions)
    while not all(member.ready for member in crowd.members):
        for member in crowd.members:
            if not member.ready:
                member.step(time.monotonic())
        crowd.turn()
    print("ready", flush=True)
    began, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        while sent < elapsed * per_second:
            crowd.members[sent % sessions].claim_wrongly()
            sent += 1
        crowd.turn()
    return {"sent": sent, "ok": sum(member.status == AuthStatus.OK for member in crowd.members)}


def main() -> None:
    order = json.loads(sys.stdin.readline())
    invited = decode_untrusted(order["invitation"])
    if "wrong" in order:
        report = claim_wrongly(invited, order["wrong"], order["seconds"], order["per_second"])
    else:
        report = claim_all(invited, order["count"], order["deadline_s"])
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
