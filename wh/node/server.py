"""Answering other nodes' requests (docs/protocol.md section 3)."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from wh.dht.discovery import Discovery
from wh.dht.kademlia import Kademlia
from wh.dht.lookups.searches import Searches
from wh.engine.commands import Knock, Reply, Send
from wh.engine.core import Engine
from wh.engine.events import PUNCH_SOCKETS_FROM, Instant, Key, MessageReceived, Path
from wh.engine.limits import Level, RateLimit, Shares
from wh.engine.requests import Answer, Requests
from wh.nat.reachability import OwnReachability
from wh.node.errands import Errands
from wh.wire.address import Address, port_of, prefix
from wh.wire.codec import MAX_MESSAGE_LEN, encode
from wh.wire.contacts import packed_len
from wh.wire.errors import BadRecord
from wh.wire.messages import (
    MAX_CONTACTS,
    Challenge,
    Contact,
    Dialback,
    Find,
    FindWant,
    Message,
    Nodes,
    Ping,
    PingWant,
    Pong,
    Probe,
    ProbeAck,
    Put,
    PutAck,
    PutStatus,
    Response,
)
from wh.wire.records import Record, decode_header_untrusted

WISHES = (Level(24, 48, 32, 2.0), Level(16, 32, 64, 1.0))
WISHES_BURST, WISHES_INTERVAL_S = 512, 1 / 128
WISH_INTERVAL_S = 5.0
"""Dial-backs that nodes of one network may have us arrange, all nodes, and one; a node's own checks are
minutes apart."""

KNOCKS = (Level(24, 48, 16, 8.0), Level(16, 32, 32, 4.0))
KNOCKS_BURST, KNOCKS_INTERVAL_S = 256, 1 / 64
"""KNOCKs, of 12 bytes, for the networks that DIALBACKs come from, and for all (docs/protocol.md section 3):
in a network of few servers one of them may ask for most."""

TARGET_BURST, TARGET_INTERVAL_S = 8, 1 / 4
PAIR_BURST, PAIR_INTERVAL_S = 2, 1.0
"""KNOCKs to one network, and to one network for another: nobody uses up what is for somebody else."""

LENGTH_GROWS = 1
"""Bytes that the length of the contacts takes more than that of none (msgpack: from 256 on)."""

SENDER_PROVED_S = 3600.0
"""Who asks for a KNOCK has proved within this time that he is where he writes from: whose share it takes."""


class Server:
    """Every answer is a Reply within the capacity that the request leaves; what does not fit is not sent."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        kademlia: Kademlia,
        discovery: Discovery,
        reachability: OwnReachability,
        searches: Searches,
        *,
        record_sequence: Callable[[], int],
        is_doubled: Callable[[Key, int, Instant], bool],
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._discovery = discovery
        self._reachability = reachability
        self._record_sequence = record_sequence
        self._is_doubled = is_doubled
        self._errands = Errands(
            engine, requests, kademlia, searches, lambda: reachability.proved, self._answer_find
        )
        self.tcp_port = 0  # where we also listen; 0: nowhere
        self._wishes = Shares(WISHES, WISHES_BURST, WISHES_INTERVAL_S)
        self._wishes_of = RateLimit(1, WISH_INTERVAL_S)
        self._knocks = Shares(KNOCKS, KNOCKS_BURST, KNOCKS_INTERVAL_S, strict=False)
        self._knocks_at = RateLimit(TARGET_BURST, TARGET_INTERVAL_S)
        self._knocks_between = RateLimit(PAIR_BURST, PAIR_INTERVAL_S)

    def handle(self, event: MessageReceived, now: Instant) -> None:
        """A request is answered; what answers nothing that we asked, or means nothing to us, is ignored."""
        match event.message:
            case Ping():
                self._ping(event, event.message, now)
            case Find():
                self._find(event, event.message, now)
            case _ if event.first_contact:
                return  # an INIT carries only PING and FIND (docs/protocol.md section 2)
            case Put():
                self._put(event, event.message, now)
            case Challenge() if event.path.socket >= PUNCH_SOCKETS_FROM:
                return  # a socket that comes and goes with a measurement: nobody shall move there
            case Challenge(request_id=request_id, nonce=nonce):
                self._reply(event, Response(request_id, nonce))
            case Probe(request_id=request_id, attempt=attempt, number=number):
                self._reply(event, ProbeAck(request_id, attempt, number))
            case Dialback(address=address, nonce=nonce):
                if self._is_where_it_writes_from(event, now):
                    self._dialback(address, nonce, event.path.remote, now)

    def _reply(self, event: MessageReceived, message: Message) -> None:
        if _fits(message, event.capacity):
            self._engine.emit(Reply(event.reply, message))

    # PING

    def _ping(self, event: MessageReceived, ping: Ping, now: Instant) -> None:
        pong = Pong(
            ping.request_id,
            event.path.remote,
            self._engine.capabilities(self._reachability.capabilities),
            0,
            self._record_sequence(),
            ping.nonce,
            self._reachability.outer_tcp_port(self.tcp_port, event.path.remote),
            self._is_doubled(event.peer, ping.instance, now),
        )
        self._reply(event, pong)
        self._discovery.greet(event.peer, event.path, ping.capabilities, now)
        if ping.want == PingWant.DIALBACK and not event.first_contact:
            self._arrange_knock(event, ping, now)

    def _arrange_knock(self, event: MessageReceived, ping: Ping, now: Instant) -> None:
        """Ask a server in another network than the asker's and ours to KNOCK where we see it."""
        if not self._engine.addressing.is_plain(event.path):
            return  # that is not where the asker's UDP comes from
        peer = self._engine.peers.get(event.peer)
        if peer is None or not peer.is_validated(event.path, now):
            return
        target = event.path.remote[:16] + (ping.port or port_of(event.path.remote)).to_bytes(2, "big")
        if not self._wishes_of.allow(event.peer, now.monotonic):
            return
        if not self._wishes.allow(event.path.remote, now.monotonic):
            return
        third = self._third_node(event.peer, target)
        if third is None:
            self._knock_ourselves(target, event.path.remote, ping.nonce, now)
            return
        key, path = third
        message = Dialback(0, target, ping.nonce)
        known = self._engine.peers.get(key)
        if known is not None and known.session:
            self._engine.emit(Send(key, path, message))
            return

        def answered(answer: Answer, then: Instant) -> None:
            self._engine.emit(Send(key, answer.path, message))

        echo = self._engine.echo(self._reachability.capabilities)
        self._requests.start(key, [path], echo, now, on_answer=answered)

    def _knock_ourselves(self, target: Address, observed: Address, nonce: bytes, now: Instant) -> None:
        """In a network without a third node. It proves a port that the asker's packets to us do not use."""
        if target != observed:
            self._dialback(target, nonce, observed, now)

    def _third_node(self, asker: Key, target: Address) -> tuple[Key, Path] | None:
        networks = {prefix(address, 24, 48) for address in (target, *self._engine.addressing.local)}
        others = [
            contact
            for contact in self._kademlia.table
            if not contact.dead and contact.key != asker and prefix(contact.address, 24, 48) not in networks
        ]
        for contact in self._engine.rng.sample(others, len(others)):
            path = self._engine.addressing.path_to(contact.address)
            if path is not None:
                return contact.key, path
        return None

    def _is_where_it_writes_from(self, event: MessageReceived, now: Instant) -> bool:
        """Else it would choose whose share to use up."""
        peer = self._engine.peers.get(event.peer)
        proved = peer is not None and peer.is_validated(event.path, now, SENDER_PROVED_S)
        return proved and not event.path.channel

    def _dialback(self, address: Address, nonce: bytes, asker: Address, now: Instant) -> None:
        path = self._engine.addressing.path_to(address)
        if path is None or not self._engine.addressing.is_acceptable(address):
            return
        pair = prefix(asker, 24, 48), prefix(address, 24, 48)
        if (
            self._knocks.allow(asker, now.monotonic)
            and self._knocks_between.allow(pair, now.monotonic)
            and self._knocks_at.allow(pair[1], now.monotonic)
        ):
            self._engine.emit(Knock(path.socket, address, nonce))

    # FIND and PUT

    def _find(self, event: MessageReceived, find: Find, now: Instant) -> None:
        record = self._record_for(find, now)
        if record is not None or not self._errands.find(event, find, now):
            self._answer_with(event, find, record, now)

    def _answer_find(self, event: MessageReceived, find: Find, found: Record | None, now: Instant) -> None:
        self._answer_with(event, find, found.encoded if found is not None else None, now)

    def _answer_with(self, event: MessageReceived, find: Find, record: bytes | None, now: Instant) -> None:
        """The record first, then the nearest contacts that fit."""
        token = self._kademlia.tokens.make(event.peer, event.path.remote, now.monotonic)
        nodes = Nodes(find.request_id, token, (), record)
        if not _fits(nodes, event.capacity):
            nodes = replace(nodes, record=None)
        room = min(event.capacity, MAX_MESSAGE_LEN) - len(encode(nodes)) - LENGTH_GROWS
        contacts: list[Contact] = []
        for contact in self._contacts_for(event.peer, find):
            room -= packed_len(contact)
            if room < 0:
                break
            contacts.append(contact)
        self._reply(event, replace(nodes, contacts=tuple(contacts)))

    def _record_for(self, find: Find, now: Instant) -> bytes | None:
        if not find.want & FindWant.RECORD:
            return None
        stored = self._kademlia.store.get(find.key, now.unix)
        return stored.encoded if stored is not None and stored.sequence > find.have_sequence else None

    def _contacts_for(self, asker: Key, find: Find) -> list[Contact]:
        count = min(find.max, MAX_CONTACTS)
        nearest = self._kademlia.table.closest(find.key, count + 1)
        return [contact.to_wire() for contact in nearest if contact.key != asker][:count]

    def _put(self, event: MessageReceived, put: Put, now: Instant) -> None:
        status, sequence, ttl = self._store(event, put, now)
        self._reply(event, PutAck(put.request_id, status, sequence, min(ttl, 0xFFFF)))

    def _store(self, event: MessageReceived, put: Put, now: Instant) -> tuple[PutStatus, int, int]:
        source = event.path.remote
        if not self._kademlia.tokens.check(put.token, event.peer, source, now.monotonic):
            return PutStatus.BAD_TOKEN, 0, 0
        if not self._reachability.proved:
            return PutStatus.FULL, 0, 0
        try:
            header = decode_header_untrusted(put.record)
            held = self._kademlia.store.get(header.key, now.unix)
            if held is not None and held.encoded == put.record:  # a signature check saved
                return PutStatus.STORED, held.sequence, max(0, int(held.expiry - now.unix))
            record = self._kademlia.decode_record_untrusted(put.record, now)
        except BadRecord:
            return PutStatus.BAD_RECORD, 0, 0
        nearer = self._kademlia.table.count_nearer(record.key)
        stored = self._kademlia.store.put(record, source, nearer_servers=nearer, unix=now.unix)
        if self._errands.publish(event, record, now) and stored[0] in (PutStatus.TOO_FAR, PutStatus.FULL):
            return PutStatus.STORED, record.sequence, max(0, int(record.expiry - now.unix))
        return stored


def _fits(message: Message, capacity: int) -> bool:
    try:
        return len(encode(message)) <= capacity
    except ValueError:  # longer than any datagram may be
        return False
