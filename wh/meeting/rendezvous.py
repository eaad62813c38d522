"""Two programs that meet by an invitation, without root, account or server: what `0nc` is made of.

Each side is a node of a network of two that exists for this meeting only: fresh keys, an interface in a
namespace of its own, nothing on disk. Whoever invites keeps an alias for the guest; whoever has the
invitation claims it. Then both have TCP sockets in the overlay (docs/protocol.md section 11).
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wh.config.edits import add_alias
from wh.config.fields import read_endpoint
from wh.config.model import DEFAULT_NAMESPACE, DEFAULT_WORKBIT, Endpoint, Network, Peer, PeerKind
from wh.config.parser import parse
from wh.config.writer import render
from wh.daemon.embedded import EmbeddedNode, options_of
from wh.engine.events import Key
from wh.errors import Code, InvitationError, IpcError, SystemSetupError, UsageError
from wh.net.private.namespace import PrivateNamespace
from wh.node.status import PeerStatus
from wh.paths.states import PathState
from wh.trust import invitation
from wh.trust.degrees import Source, reachable
from wh.trust.invitation import Contact, Flag, Invitation
from wh.wire.address import Address, ip_of, is_private, port_of, to_text
from whcore.errors import InvalidKey
from whcore.keys import SecretKey, decode_key, orchid

PORT = 1
"""TCP, in the overlay; nothing else is there."""

BACKLOG = 64

PATIENCE_S = 30.0
"""To reach the one who invited, where the user says nothing."""

ENDPOINTS_TOLD = 6
RELAYS_WITHIN_S = 3.0
DIRECT_STATES = frozenset({PathState.DIRECT.value, PathState.SUSPECT.value})
PATH_KNOWN_WITHIN_S = 1.0
POLL_S = 0.01
CONNECT_RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Terms:
    """How to find each other. bootstraps: public nodes; lan: only addresses of this network, and no
    bootstraps; relay: whether relays may carry the stream."""

    bootstraps: tuple[Contact, ...] = ()
    lan: bool = False
    relay: bool = True


def read_bootstrap(word: str) -> Contact:
    """KEY@ADDRESS[:PORT]. Raises UsageError."""
    key_text, at, place = word.rpartition("@")
    try:
        key, endpoint = decode_key(key_text), read_endpoint(place)
    except (InvalidKey, ValueError) as error:
        raise UsageError(f"{word!r} is no bootstrap node: {error}", hint="write KEY@ADDRESS:PORT") from None
    if endpoint.address is None or not at:
        raise UsageError(f"{word!r} is no bootstrap node", hint="write KEY@ADDRESS:PORT")
    return key, endpoint.address


class Party:
    """What both sides have. close() in any case; all calls block."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.namespace = PrivateNamespace()
        self._node: EmbeddedNode | None = None

    @property
    def node(self) -> EmbeddedNode:
        if self._node is None:
            raise RuntimeError("the node has not been started")
        return self._node

    def close(self) -> None:
        if self._node is not None:
            self._node.close()
        self.namespace.close()

    def address_of(self, key: Key) -> str:
        """In the overlay."""
        return overlay_address(key, self.node.node.network.namespace)

    def listen(self) -> socket.socket:
        """Where the other side's connections arrive, non-inheritable and blocking."""
        listener = self._socket()
        listener.bind((self.address_of(self.node.own_key), PORT))
        listener.listen(BACKLOG)
        return listener

    def connect(self, key: Key, deadline: float) -> socket.socket:
        """To the other side. deadline: time.monotonic(). Raises OSError."""
        while True:
            connection = self._socket()
            try:
                connection.settimeout(max(POLL_S, deadline - time.monotonic()))
                connection.connect((self.address_of(key), PORT))
                connection.settimeout(None)
                return connection
            except OSError:
                connection.close()
                if time.monotonic() + CONNECT_RETRY_S >= deadline:
                    raise
            time.sleep(CONNECT_RETRY_S)  # it may not be listening yet

    def _socket(self) -> socket.socket:
        """Of TCP, in the overlay. Raises SystemSetupError."""
        try:
            return self.namespace.socket(socket.AF_INET6, socket.SOCK_STREAM)
        except OSError as error:
            raise SystemSetupError(
                f"no IPv6 in the overlay: {error.strerror}",
                code=Code.NO_IPV6,
                hint="the kernel must not be started with ipv6.disable=1",
            ) from None

    def path_text(self, key: Key) -> str:
        """`direct 192.0.2.1:4000`, for people: a path that pauses is one, too."""
        for peer in self.node.call(lambda node: node.parts.node.snapshot()).peers:
            if peer.key == key:
                return _path_text(peer)
        return ""

    def data_path_text(self, key: Key) -> str:
        """The same of a path that data may take; empty where there is none."""
        for peer in self.node.call(lambda node: node.parts.node.snapshot()).peers:
            if peer.key == key and peer.endpoint and (self._terms.relay or peer.state in DIRECT_STATES):
                return _path_text(peer)
        return ""

    def await_path(self, key: Key) -> None:
        """There is a connection, so there is a path: the engine hears of it a moment after the kernel."""
        deadline = time.monotonic() + PATH_KNOWN_WITHIN_S
        while not self.data_path_text(key) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _start(self, network: Network, secret_key: SecretKey) -> None:
        options = replace(options_of(self.namespace), lan=True, direct_only=not self._terms.relay)
        self._node = EmbeddedNode(network, secret_key, options)
        self._node.start()


class Host(Party):
    """Whoever invites."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._guests = 0

    def start(self) -> None:
        """Raises SystemSetupError."""
        workbit = _workbit(self._terms.bootstraps)
        secret_key = _new_key(workbit, DEFAULT_NAMESPACE)
        # The subnet is never used: a network file has one, and overlay addresses come from keys.
        subnet = ipaddress.IPv6Network((b"\xfd" + secrets.token_bytes(7) + bytes(8), 64))
        own = Peer(PeerKind.TRUST, secret_key.public_key, "host")
        network = Network(workbit=workbit, subnet=subnet, peers=(*_boots(self._terms.bootstraps), own))
        self._start(parse(render(network)), secret_key)

    def invite(self, expires_s: float) -> str:
        """Keep a place for one more guest. Returns the text of its invitation."""
        self._guests += 1
        network = self.node.node.network
        invited = Invitation(
            self.node.own_key,
            secrets.token_bytes(invitation.SEED_LEN),
            expiry=min(int(time.time() + expires_s), invitation.MAX_EXPIRY),
            flags=Flag.STREAM,
            namespace=network.namespace,
            workbit=network.workbit,
        )
        alias = invited.alias_secret()
        name = f"guest{self._guests}"
        wanted = parse(add_alias(render(network), name, alias.public_key, expires=invited.expiry))
        alias.close()
        self.node.run(self.node.node.adopt(wanted))
        relays = self._relays()  # which are kept for who expects somebody
        return invitation.encode(
            replace(
                invited,
                endpoints=self._endpoints(),
                relays=relays,
                bootstraps=() if self._terms.lan else self._terms.bootstraps[: invitation.MAX_BOOTSTRAPS],
            )
        )

    def guests(self) -> set[Key]:
        """Who has used an invitation."""
        peers = self.node.node.network.peers
        return {peer.key for peer in peers if peer.kind is PeerKind.TRUST} - {self.node.own_key}

    def guest_at(self, address: str) -> Key | None:
        """Whose overlay address it is."""
        return next((key for key in self.guests() if self.address_of(key) == address), None)

    def check_words(self, guest: Key) -> tuple[str, ...]:
        return self.node.call(lambda node: node.check_words(guest))

    def _endpoints(self) -> tuple[Address, ...]:
        """Our own addresses, and those that others see us at where there is somebody to tell."""
        own = sorted(self.node.call(lambda node: node.local_addresses), key=_preference)
        if self._terms.lan:
            return tuple(each for each in own if is_private(each) or len(own) == 1)[:ENDPOINTS_TOLD]
        snapshot = self.node.call(lambda node: node.parts.node.snapshot())
        seen = (candidate.endpoint for candidate in snapshot.candidates)
        return tuple(dict.fromkeys((*seen, *own)))[: invitation.MAX_ENDPOINTS]

    def _relays(self) -> tuple[Contact, ...]:
        """Where we hold reservations: the guest need not look us up, and two NATs are opened through them.
        The first invitation waits for one, where there is anybody to ask; by then it is known how others
        see us."""
        if self._terms.lan or not self._terms.bootstraps:
            return ()
        deadline = time.monotonic() + RELAYS_WITHIN_S
        while True:
            snapshot = self.node.call(lambda node: node.parts.node.snapshot())
            if snapshot.relays or time.monotonic() >= deadline:
                found = ((each.key, each.endpoint) for each in snapshot.relays)
                return tuple(found)[: invitation.MAX_RELAYS]
            time.sleep(POLL_S)


class Guest(Party):
    """Whoever was invited."""

    def __init__(self, text: str, terms: Terms) -> None:
        """Raises InvitationError."""
        self._invited = _read(text)
        self.words: tuple[str, ...] = ()
        super().__init__(terms)

    @property
    def host(self) -> Key:
        return self._invited.server_key

    def start(self) -> None:
        """Raises SystemSetupError."""
        invited = self._invited
        secret_key = _new_key(invited.workbit, invited.namespace)
        own = Peer(PeerKind.TRUST, secret_key.public_key, "guest")
        network = Network(
            namespace=invited.namespace, workbit=invited.workbit, peers=(*_boots(self._bootstraps()), own)
        )
        self._start(network, secret_key)

    def claim(self, patience_s: float = PATIENCE_S) -> None:
        """Reach the host, and prove that we are who it waits for. Raises InvitationError, IpcError."""
        alias = self._invited.alias_secret()
        invited = self._invited
        relays = () if self._terms.lan else invited.relays
        try:
            body = self.node.run(
                self.node.node.claim(self.host, alias, invited.endpoints, relays), patience_s
            )
        except TimeoutError:
            raise IpcError("the one who invited cannot be reached", code=Code.NO_ANSWER) from None
        if (failure := body.get("error")) is not None:
            raise IpcError(failure["message"], code=failure["code"], hint=failure.get("hint", ""))
        self.words = tuple(body["check_words"])
        if not self.words:  # our key is new: nobody can have known it before
            raise InvitationError(
                "the one who invited left out what check words come from",
                code=Code.NO_CHECK_WORDS,
                hint="somebody may be between: ask for a new invitation, over another way",
            )
        network = self.node.node.network
        host = Peer(PeerKind.TRUST, self.host, "host", endpoint=_endpoint(body.get("endpoint")))
        self.node.run(self.node.node.adopt(replace(network, peers=(*network.peers, host))))

    def _bootstraps(self) -> tuple[Contact, ...]:
        if self._terms.lan:
            return ()
        invited = reachable(Source.INVITATION, self._invited.bootstraps)
        return tuple(dict((*invited, *self._terms.bootstraps)).items())


def _path_text(peer: PeerStatus) -> str:
    state = PathState.DIRECT.value if peer.state in DIRECT_STATES else peer.state
    return f"{state} {to_text(peer.endpoint)}" if peer.endpoint else state


def overlay_address(key: Key, namespace: str) -> str:
    return str(ipaddress.IPv6Address(orchid(key, namespace.encode())))


def _read(text: str) -> Invitation:
    """Raises InvitationError."""
    invited = invitation.decode_untrusted(text)
    invited.check_usable(now_unix=time.time())
    if not invited.flags & Flag.STREAM:
        raise InvitationError(
            "the invitation is to join a network, not a stream",
            code=Code.INVITATION_MALFORMED,
            hint="use it with: wh join INVITATION",
        )
    return invited


def _workbit(bootstraps: Sequence[Contact]) -> int:
    """Strangers ask for work; between the two of us nobody is one."""
    return DEFAULT_WORKBIT if bootstraps else 0


def _new_key(workbit: int, namespace: str) -> SecretKey:
    if workbit == 0:
        return SecretKey.generate()
    return SecretKey.search(workbit, namespace.encode())


def _boots(contacts: Sequence[Contact]) -> list[Peer]:
    return [
        Peer(PeerKind.BOOT, key, endpoint=Endpoint(str(ip_of(address)), port_of(address)))
        for key, address in contacts
    ]


def _endpoint(text: str | None) -> Endpoint | None:
    return None if text is None else read_endpoint(text)


def _preference(address: Address) -> tuple[bool, bytes]:
    """IPv4 first: home networks without it are rare, and without IPv6 are not."""
    return address[:12] != bytes(10) + b"\xff\xff", address
