"""The control channel: sessions (whcore.envelope) and codec, between datagrams and the engine's events and
commands.

Sans-IO. Datagrams leave through the `transmit` that it is given; what arrives, receive() turns into events.
Nothing that a datagram contains makes it raise, and everything it keeps is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import blake2s

from msgspec.structs import replace

from wh.engine.commands import Reply, Send
from wh.engine.events import (
    Event,
    Instant,
    Key,
    KnockReceived,
    MessageReceived,
    Path,
    ReplyToken,
    SendFailed,
    SessionOpened,
)
from wh.engine.limits import RateLimit
from wh.net.handshakes import Handshakes
from wh.net.sources import Sources
from wh.net.validation import ValidatedPaths
from wh.wire import codec
from wh.wire.address import is_usable
from wh.wire.errors import BadMessage
from wh.wire.messages import ANSWERS, Auth, Challenge, Find, FindWant, Message, Ping, Probe, Response, Reveal
from whcore import envelope
from whcore.channels import encode_channel
from whcore.datapath import ControlDatagram
from whcore.errors import InvalidKey

# docs/protocol.md sections 1 and 2
MAGIC = b"\xff\x02"
TYPE_INIT, TYPE_RESP, TYPE_COOKIE, TYPE_DATA, TYPE_KNOCK = 1, 2, 3, 4, 6
KNOCK_HEADER = b"\xff\x02\x06\x00"
KNOCK_LEN = 12
PLAINTEXT_BLOCK = 16
DATA_PLAINTEXT_MIN = 32
LENGTH_LEN = 2
DATA_OVERHEAD = 32
DATA_PAYLOAD_MAX = (1200 - 32) // PLAINTEXT_BLOCK * PLAINTEXT_BLOCK - LENGTH_LEN
FIND_PAD = 400
FIND_RECORD_PAD = 1052

CONFIRMATION = b""
"""The payload of a DATA whose only purpose is that the responder knows our address and that we have the
keys."""

CHANNEL_INIT_BURST = 5
CHANNEL_INIT_INTERVAL_S = 0.2
CHANNELS_MAX = 4096
"""What one channel may have us answer (docs/protocol.md section 2)."""

NS = 10**9

Transmit = Callable[[Path, bytes, int, bytes, bool], bool]
"""Send one datagram now, with that hop limit (0: the system's) from that source (of a ControlDatagram; empty:
any), and whole or perhaps in fragments; False where the socket refused it."""

Prove = Callable[[Key, Key, bytes], bytes | None]
"""(peer, alias, commitment) -> the proof of an AUTH in the session with that peer; None without the alias's
secret."""

PingFactory = Callable[[], Ping]
"""A PING of the channel's own, for rekeying: its answer interests nobody."""


class ControlChannel:
    def __init__(
        self,
        sessions: envelope.ControlSessions,
        transmit: Transmit,
        make_ping: PingFactory,
        *,
        prove: Prove = lambda peer, alias, commitment: None,
        allow_loopback: bool = False,
    ) -> None:
        self._sessions = sessions
        self._prove = prove
        self._transmit = transmit
        self._make_ping = make_ping
        self._allow_loopback = allow_loopback
        self._handshakes = Handshakes()
        self._validated = ValidatedPaths()
        self._sources = Sources()
        self._channels: set[Path] = set()
        self._channel_inits = RateLimit(CHANNEL_INIT_BURST, CHANNEL_INIT_INTERVAL_S, CHANNELS_MAX)
        self._counts: Counter[str] = Counter()

    # Outgoing.

    def send(self, command: Send, now: Instant) -> list[Event]:
        """Carry out one Send; a SendFailed comes back for every message that cannot go out."""
        if type(command.message) in ANSWERS:
            self._sources.asks(command.path, now.monotonic)
        if self._sessions.has_session(command.peer):
            events = self._send_data(command, now)
            if self._sessions.needs_rekey(command.peer, _ns(now.monotonic)):
                events += self._rekey(command, now)
            return events
        return self._send_without_session(command, now)

    def reply(self, command: Reply, now: Instant) -> None:
        """Answer a request on the path that it came on."""
        payload = codec.encode(command.message)
        token, now_ns = command.to, _ns(now.monotonic)
        if token.pending is not None:
            datagram = self._sessions.respond(token.pending, payload, now_ns=now_ns)
        else:
            datagram = self._sessions.seal(token.peer, payload, now_ns=now_ns)
        if datagram is None:
            self._counts["reply_impossible"] += 1
        else:
            self._put(token.path, datagram)

    def reset(self, peer: Key) -> None:
        """Forget the session with a peer and all that waits for one."""
        self._sessions.drop(peer)
        self._handshakes.finish(peer)
        self._validated.forget(peer)

    @property
    def sources(self) -> Sources:
        """What datagrams leave from."""
        return self._sources

    def admit_channel(self, path: Path) -> None:
        """Datagrams that come out of this channel are judged; those of all others are dropped."""
        if len(self._channels) < CHANNELS_MAX:
            self._channels.add(path)

    def dismiss_channel(self, path: Path) -> None:
        self._channels.discard(path)

    def expire(self, now: Instant) -> list[Event]:
        """Give up what has waited too long. Call it at next_deadline()."""
        return [_failed(unsent) for unsent in self._handshakes.expire(now.monotonic)]

    def remove_idle(self, now: Instant) -> None:
        """Remove sessions that are idle or over-age. Call it every few seconds."""
        self._sessions.expire(_ns(now.monotonic))
        self._validated.forget_unless(self._sessions.has_session)

    def next_deadline(self) -> float | None:
        return self._handshakes.next_deadline()

    def counters(self) -> dict[str, int]:
        """Of this channel and of its sessions."""
        return {
            **self._sessions.counters(),
            **self._counts,
            "handshakes_waiting": len(self._handshakes),
        }

    def _send_data(self, command: Send, now: Instant) -> list[Event]:
        message = command.message
        if isinstance(message, Auth):
            proof = self._prove(command.peer, message.alias, message.commitment)
            if proof is None:
                return [_failed(command)]
            message = replace(message, proof=proof)
        payload = codec.encode(message)
        padded = isinstance(command.message, Probe | Ping | Auth | Reveal)
        pad_to = max(command.pad_to if padded else 0, DATA_PLAINTEXT_MIN)
        datagram = self._sessions.seal(command.peer, payload, now_ns=_ns(now.monotonic), pad_to=pad_to)
        whole = isinstance(message, Probe)  # which measures the path
        if datagram is None or not self._put(command.path, datagram, command.ttl, whole=whole):
            return [_failed(command)]
        if isinstance(command.message, Challenge):
            self._validated.challenge_sent(command.peer, command.path, command.message.nonce)
        return []

    def _send_without_session(self, command: Send, now: Instant) -> list[Event]:
        """Begin a handshake with it, or let it wait for the one in flight (wh.engine.commands.Send)."""
        may_begin = isinstance(command.message, Ping | Find) and not command.in_session
        handshake = self._handshakes.get(command.peer)
        if handshake is None:
            return self._begin(command, now) if may_begin else [_failed(command)]
        if may_begin and handshake.should_replace(command, now.monotonic):
            return self._begin(command, now)
        if may_begin and handshake.add_path(command.path) and not self._put(command.path, handshake.datagram):
            return [_failed(command)]
        return [] if handshake.carries_or_queues(command) else [_failed(command)]

    def _begin(self, command: Send, now: Instant) -> list[Event]:
        """The message goes out in an INIT."""
        payload = codec.encode(command.message)
        try:
            datagram = self._sessions.initiate(
                command.peer,
                payload,
                pad_to=max(command.pad_to, _pad_of(command.message)),
                now_ns=_ns(now.monotonic),
                wall_ns=_ns(now.unix),
            )
        except (InvalidKey, ValueError):
            self._counts["init_impossible"] += 1
            return [_failed(command)]
        if not self._put(command.path, datagram):
            return [_failed(command)]
        return [_failed(unsent) for unsent in self._handshakes.begin(command, datagram, now.monotonic)]

    def _rekey(self, command: Send, now: Instant) -> list[Event]:
        """The session in use goes on until the new one is there."""
        if self._handshakes.get(command.peer) is not None:
            return []
        return self._begin(Send(command.peer, command.path, self._make_ping()), now)

    def _put(
        self, path: Path, datagram: bytes, ttl: int = 0, source: bytes = b"", *, whole: bool = False
    ) -> bool:
        if path.channel:
            datagram = encode_channel(path.channel, datagram)
        if self._transmit(path, datagram, ttl, source or self._sources.of(path), whole):
            return True
        self._counts["transmit_failed"] += 1
        return False

    # Incoming.

    def receive(self, datagram: ControlDatagram, now: Instant) -> list[Event]:
        """Judge one datagram from the network."""
        data, path = datagram.data, Path(datagram.socket, datagram.remote, datagram.channel)
        if len(data) < KNOCK_LEN or data[:2] != MAGIC or data[3]:
            return self._drop("malformed_datagram")
        if not is_usable(path.remote, allow_loopback=self._allow_loopback):
            return self._drop("bad_source")
        if path.channel and path not in self._channels:
            return self._drop("unknown_channel")
        if data[2] == TYPE_KNOCK and not path.channel:
            if len(data) != KNOCK_LEN:
                return self._drop("malformed_datagram")
            return [KnockReceived(path.remote, data[4:])]
        if TYPE_INIT <= data[2] <= TYPE_DATA:
            return self._open(data, path, datagram.source, now)
        return self._drop("unknown_datagram_type")

    def _open(self, data: bytes, path: Path, source: bytes, now: Instant) -> list[Event]:
        if data[2] == TYPE_INIT and path.channel and not self._channel_inits.allow(path, now.monotonic):
            return self._drop("init_budget")
        opened = self._sessions.open(data, _source_of(path), now_ns=_ns(now.monotonic), wall_ns=_ns(now.unix))
        if opened[0] in (envelope.REQUEST, envelope.RESPONSE, envelope.DATA):
            self._sources.heard(path, source)
        match opened:
            case (envelope.REQUEST, peer, pending, payload):
                return self._on_request(peer, path, pending, payload)
            case (envelope.RESPONSE, peer, payload):
                return self._on_response(peer, path, payload, len(data), now)
            case (envelope.DATA, peer, payload, confirmed):
                return self._on_data(peer, path, payload, confirmed, len(data), now)
            case (envelope.COOKIE_REPLY, answer):
                self._put(path, answer, source=source)
            case (envelope.COOKIE_TAKEN, _, again):
                self._put(path, again)
        return []  # also for DROPPED, which the sessions count

    def _on_request(self, peer: Key, path: Path, pending: int, payload: bytes) -> list[Event]:
        message = self._decode(payload)
        if message is None:
            return []
        token = ReplyToken(peer, path, pending)
        capacity = self._sessions.response_capacity(pending)
        return [MessageReceived(peer, path, message, token, first_contact=True, capacity=capacity)]

    def _on_response(
        self, peer: Key, path: Path, payload: bytes, datagram_len: int, now: Instant
    ) -> list[Event]:
        events: list[Event] = self._session_up(peer, path, now, initiator=True)
        return events + self._on_message(peer, path, payload, datagram_len, now)

    def _on_data(
        self, peer: Key, path: Path, payload: bytes, confirmed: bool, datagram_len: int, now: Instant
    ) -> list[Event]:
        events = self._session_up(peer, path, now, initiator=False) if confirmed else []
        if payload == CONFIRMATION:
            return events
        return events + self._on_message(peer, path, payload, datagram_len, now)

    def _session_up(self, peer: Key, path: Path, now: Instant, *, initiator: bool) -> list[Event]:
        """Keys are confirmed: send what waited for them. An initiator owes the responder a DATA in any case;
        and on glare (both sides began, the other's handshake won) our own first message has not been
        answered."""
        self._validated.add(peer, path, now.monotonic)
        events: list[Event] = [SessionOpened(peer, path, initiator)]
        handshake = self._handshakes.finish(peer)
        waiting = list(handshake.waiting) if handshake is not None else []
        if handshake is not None and not initiator:
            waiting.insert(0, handshake.first)
        for send in waiting:
            events += self._send_data(send, now)
        if initiator and not any(send.path == path for send in waiting):
            confirmation = self._sessions.seal(peer, CONFIRMATION, now_ns=_ns(now.monotonic))
            if confirmation is not None:
                self._put(path, confirmation)
        return events

    def _on_message(
        self, peer: Key, path: Path, payload: bytes, datagram_len: int, now: Instant
    ) -> list[Event]:
        message = self._decode(payload)
        if message is None:
            return []
        if isinstance(message, Response):
            self._validated.challenge_answered(peer, path, message.nonce, now.monotonic)
        proved = self._validated.holds(peer, path, now.monotonic)
        capacity = DATA_PAYLOAD_MAX if proved else _capacity_of(datagram_len)
        token = ReplyToken(peer, path, None)
        return [MessageReceived(peer, path, message, token, first_contact=False, capacity=capacity)]

    def _decode(self, payload: bytes) -> Message | None:
        try:
            message = codec.decode_untrusted(payload, allow_loopback=self._allow_loopback)
        except BadMessage:
            self._counts["malformed_message"] += 1
            return None
        if message is None:
            self._counts["unknown_message"] += 1
        return message

    def _drop(self, reason: str) -> list[Event]:
        self._counts[reason] += 1
        return []


def _source_of(path: Path) -> bytes:
    """18 bytes that stand for where a datagram came from, in cookies and limits (docs/protocol.md section 1).
    Each channel is a network of its own."""
    if not path.channel:
        return path.remote
    named = path.remote + path.channel.to_bytes(4, "little")
    return blake2s(named, digest_size=len(path.remote)).digest()


def _ns(seconds: float) -> int:
    return int(seconds * NS)


def _failed(send: Send) -> SendFailed:
    return SendFailed(send.peer, send.path, send.message)


def _pad_of(message: Message) -> int:
    """Room for the answer: a RESP is never longer than its INIT."""
    if not isinstance(message, Find):
        return 0
    return FIND_RECORD_PAD if message.want & FindWant.RECORD else FIND_PAD


def _capacity_of(datagram_len: int) -> int:
    """The longest payload of an answer that is not longer than a DATA of this length."""
    return (datagram_len - DATA_OVERHEAD) // PLAINTEXT_BLOCK * PLAINTEXT_BLOCK - LENGTH_LEN
