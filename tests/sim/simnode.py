"""A Node on a simulated host: carries out its commands, with control sessions that have the real ones'
semantics but no cryptography. Messages do pass through the codec."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field, replace
from functools import partial

from simnat import Nat
from simnet import SimNetwork
from simrelay import SimRelay
from wh.config.model import Endpoint, Network, Peer, PeerKind
from wh.engine.commands import (
    BindAlias,
    Command,
    Knock,
    LeaveOutIpv6,
    Notify,
    OpenRelay,
    RememberAddresses,
    Reply,
    Route,
    Send,
    SetDataPaths,
)
from wh.engine.events import (
    TCP,
    AliasBound,
    Event,
    Instant,
    Key,
    KnockReceived,
    LocalAddresses,
    MessageReceived,
    NameResolved,
    NetworkLoaded,
    Path,
    ReplyToken,
    SendFailed,
    SessionOpened,
    TcpConnected,
    TcpLost,
)
from wh.node.executor import RelayChange, carry_out
from wh.node.node import Node
from wh.wire.address import Address, ip_of, pack, port_of
from wh.wire.codec import decode_untrusted, encode
from wh.wire.messages import AuthStatus, Find, Message, Ping, Response

SOCKET = 7
FIRST_ADOPTED = 8
FIRST_EXTRA = 1 << 16
EXTRA_PORT = 50_000
INIT_OVERHEAD, RESP_OVERHEAD, LENGTH_LEN = 148, 92, 2
SESSION_CAPACITY = 1_166
HEADERS_LEN, DATA_OVERHEAD = 28, 32  # IPv4 and UDP; around what DATA carries
IDLE_S = 600.0
OPENED_MAX = 8_128
"""An idle session ends (docs/protocol.md section 2); so many counters are remembered."""


def fake_sign(key: Key) -> object:
    return lambda message: hashlib.blake2b(message, key=key, digest_size=64).digest()


def fake_verify(key: bytes, message: bytes, signature: bytes) -> bool:
    return hashlib.blake2b(message, key=key, digest_size=64).digest() == signature


def make_key(rng: random.Random) -> Key:
    return rng.randbytes(31) + bytes((rng.randrange(0x70),))


@dataclass
class Datagram:
    """kind: init, resp, data or knock. session: invented by whoever sends the INIT. counter: of data;
    only the first copy opens. channel: the leg where it goes through a relay; from_relay: bit 31 of it."""

    kind: str
    sender: Key = b""
    receiver: Key = b""
    session: int = 0
    payload: bytes = b""
    size: int = 0
    channel: int = 0
    from_relay: bool = False
    counter: int = field(default_factory=itertools.count(1).__next__)


@dataclass
class Handshake:
    session: int
    datagram: Datagram
    first: Send
    begun: float
    paths: list[Path]
    waiting: list[Send] = field(default_factory=list)


def padded(payload: bytes, minimum: int = 32) -> int:
    return max(minimum, -(-(len(payload) + LENGTH_LEN) // 16) * 16)


class SimNode:
    """start() begins, stop() ends without a word (as kill -9 does)."""

    def __init__(
        self,
        network: SimNetwork,
        address: Address,
        *,
        key: Key | None = None,
        nat: Nat | None = None,
        mode: str = "unknown",
    ) -> None:
        self.network = network
        self.address = address
        self.nat = nat
        self.mode = mode
        self.key = key or make_key(network.rng)
        self.links: dict[Address, tuple[SimNode, Address]] = {}  # over TCP: who, and as whom he knows us
        self.names: dict[str, tuple[Address, ...]] = {}
        self.running = False
        self._reset()

    def _reset(self) -> None:
        rng = random.Random(self.network.rng.random())
        sign = fake_sign(self.key)
        self.node = Node(self.key, rng=rng, sign=sign, verify=fake_verify, mode=self.mode)  # type: ignore
        self.sessions: dict[Key, set[int]] = {}  # those that open
        self.current: dict[Key, int] = {}
        self.next: dict[Key, int] = {}
        self.handshakes: dict[Key, Handshake] = {}
        self.opened_data: OrderedDict[int, None] = OrderedDict()
        self.used_at: dict[Key, float] = {}  # when something of a peer's session last went or came
        self.validated: set[tuple[Key, Path]] = set()
        self.relay = SimRelay(self.network, self.handle)
        self.admitted: set[Path] = set()
        self.routes: dict[Key, tuple[Route, ...]] = {}
        self.data_paths: dict[Key, Path | None] = {}
        self.path_changes: list[tuple[float, Key, Path | None]] = []
        self.notifications: list[Notify] = []
        self.received: deque[MessageReceived] = deque(maxlen=self.network.received_kept)
        self.sockets: dict[int, Address] = {}  # id -> local address
        self.opened = 0
        self.sent_bytes = 0  # without those through channels
        self.sent_kinds: Counter[str] = Counter()  # names of messages
        self._wakeup = float("inf")

    # Life

    def start(self, config: Network) -> None:
        self._reset()
        self.running = True
        self._attach(SOCKET, self.address)
        self.handle(LocalAddresses(((SOCKET, 4),), (self.address,)))
        self.handle(NetworkLoaded(config))

    def stop(self) -> None:
        self.running = False
        for address in self.sockets.values():
            self.network.detach(address, self.nat)
        for address in list(self.links):
            self.disconnect_tcp(address)

    def listen_tcp(self, port: int) -> None:
        self.network.tcp_servers[self.address[:16] + port.to_bytes(2, "big")] = self

    def connect_tcp(self, address: Address, ports: tuple[int, ...]) -> None:
        found = [self.network.tcp_servers.get(address[:16] + port.to_bytes(2, "big")) for port in ports]
        server = next((node for node in found if node is not None and node.running), None)
        if server is None:
            self.network.call_later(2 * self.network.latency_s, lambda: self.handle(TcpLost(address)))
            return
        public = pack(self.nat.public_ip, 0) if self.nat is not None else self.address
        client = public[:16] + self.network.rng.randrange(20_000, 60_000).to_bytes(2, "big")

        def connected() -> None:
            server.links[client] = (self, address)
            self.links[address] = (server, client)
            self.handle(TcpConnected(address))

        self.network.call_later(6 * self.network.latency_s, connected)

    def disconnect_tcp(self, address: Address) -> None:
        """As the engine asks for it, or because the network breaks the connection."""
        if address in self.links:
            other, name = self.links.pop(address)
            other.links.pop(name, None)
            other.handle(TcpLost(name))

    def has_path(self, other: SimNode) -> bool:
        return self.data_paths.get(other.key) is not None

    # Sockets

    def _attach(self, socket: int, address: Address) -> None:
        self.sockets[socket] = address
        self.network.attach(
            address, lambda source, datagram: self._receive(Path(socket, source), datagram), self.nat
        )

    def _close(self, socket: int) -> Address | None:
        address = self.sockets.pop(socket, None)
        if address is not None:
            self.network.detach(address, self.nat)
        return address

    # Driving the node

    def handle(self, event: Event) -> None:
        self._execute(self.node.handle(event, self.network.now))

    def _tick(self, when: float) -> None:
        """An earlier deadline has come up since where `when` is not the one that is waited for."""
        if when != self._wakeup:
            return
        self._wakeup = float("inf")
        deadline = self.node.next_deadline()
        if self.running and deadline is not None and deadline <= self.network.now.monotonic:
            self._execute(self.node.tick(self.network.now))
        else:
            self._schedule()

    def _schedule(self) -> None:
        deadline = self.node.next_deadline()
        if self.running and deadline is not None and deadline < self._wakeup:
            self._wakeup = deadline
            self.network.call_later(
                deadline - self.network.now.monotonic + 1e-6, partial(self._tick, deadline)
            )

    def _execute(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                self.sent_kinds[type(command.message).__name__] += 1
            for event in carry_out(command, self, self.network.now):
                self.network.call_later(0, partial(self.handle, event))
        self._schedule()

    # As wh.node.executor.Executor

    def knock(self, command: Knock) -> None:
        knock = Datagram("knock", payload=command.nonce, size=12)
        self.network.send(self.address, command.to, knock, nat=self.nat)

    def reset_session(self, peer: Key) -> None:
        self._forget_session(peer)

    def set_data_paths(self, command: SetDataPaths) -> None:
        self.routes[command.peer] = command.routes
        path = command.routes[0].path if command.routes else None
        if path != self.data_paths.get(command.peer):
            self.path_changes.append((self.network.time, command.peer, path))
        self.data_paths[command.peer] = path

    def clear_silence(self, peer: Key) -> None:
        """There is no data plane."""

    def admit_channel(self, path: Path) -> None:
        self.admitted.add(path)

    def dismiss_channel(self, path: Path) -> None:
        self.admitted.discard(path)

    def open_relay(self, command: OpenRelay) -> tuple[int, int]:
        return self.relay.open(command)

    def change_relay(self, command: RelayChange) -> None:
        self.relay.change(command)

    def open_socket(self, family: int) -> tuple[int, int]:
        self.opened += 1
        socket, port = FIRST_EXTRA + self.opened, EXTRA_PORT + self.opened
        self._attach(socket, pack(ip_of(self.address), port))
        return socket, port

    def close_socket(self, socket: int) -> None:
        self._close(socket)

    def adopt_socket(self, socket: int) -> int | None:
        address = self._close(socket)
        if address is None:
            return None
        adopted = next(i for i in range(FIRST_ADOPTED, FIRST_EXTRA) if i not in self.sockets)
        self._attach(adopted, address)
        return adopted

    def bind_alias(self, command: BindAlias) -> list[Event]:
        """Nothing is written down in a simulation."""
        return [AliasBound(command.alias, command.claimant, AuthStatus.FAILED)]

    def send_beacon(self) -> None:
        """A simulated Internet is no LAN."""

    def resolve_name(self, host: str, port: int) -> None:
        answer = NameResolved(host, port, self.names.get(host, ()))
        self.network.call_later(0.02, partial(self.handle, answer))

    def leave_out_ipv6(self, command: LeaveOutIpv6) -> None:
        """No names here."""

    def remember_addresses(self, command: RememberAddresses) -> None:
        self.remembered = command.addresses

    def notify(self, command: Notify) -> None:
        self.notifications.append(command)

    # Sessions

    def _forget_session(self, peer: Key) -> None:
        for table in (self.sessions, self.current, self.next, self.handshakes):
            table.pop(peer, None)

    def _end_idle(self, peer: Key) -> None:
        before = self.used_at.get(peer, self.network.time)
        self.used_at[peer] = self.network.time
        if self.network.time - before > IDLE_S:
            self._forget_session(peer)
            self.validated = {each for each in self.validated if each[0] != peer}

    def _transmit(self, path: Path, datagram: Datagram, ttl: int = 0) -> bool:
        """False where the socket was closed."""
        if path.socket == TCP:
            other, name = self.links.get(path.remote, (None, b""))
            if other is not None:
                arrived = partial(other._receive, Path(TCP, name), replace(datagram, channel=path.channel))
                self.network.call_later(self.network.latency_s, arrived)
            return other is not None
        source = self.sockets.get(path.socket)
        if source is None:
            return False
        if (path.remote, path.channel) in self.network.channels:
            self.network.send_through_channel(path.remote, path.channel, datagram)
        else:
            sent = replace(datagram, channel=path.channel) if path.channel else datagram
            self.sent_bytes += HEADERS_LEN + sent.size + (DATA_OVERHEAD if sent.kind == "data" else 0)
            self.network.send(source, path.remote, sent, nat=self.nat, ttl=ttl or 64)
        return True

    def send(self, command: Send, now: Instant) -> tuple[Event, ...]:
        if command.path.socket == TCP and command.path.remote not in self.links:
            self._fail(command)
            return ()
        self._end_idle(command.peer)
        if command.peer in self.current:
            self._send_data(command)
        else:
            self._send_in_handshake(command)
        return ()

    def _send_in_handshake(self, send: Send) -> None:
        may_begin = isinstance(send.message, Ping | Find) and not getattr(send, "in_session", False)
        handshake = self.handshakes.get(send.peer)
        if handshake is not None and self.network.time - handshake.begun > 1.0:
            del self.handshakes[send.peer]
            handshake = None
        if handshake is None or (
            may_begin and send.path in handshake.paths and send.message == handshake.first.message
        ):
            if may_begin:
                self._begin(send, handshake.waiting if handshake else [])
            else:
                self._fail(send)
        elif send.message == handshake.first.message:
            handshake.paths.append(send.path)
            self._transmit(send.path, handshake.datagram)
        else:
            if may_begin and send.path not in handshake.paths:
                handshake.paths.append(send.path)
                self._transmit(send.path, handshake.datagram)
            handshake.waiting.append(send)

    def _fail(self, send: Send) -> None:
        self.network.call_later(0, lambda: self.handle(SendFailed(send.peer, send.path, send.message)))

    def _begin(self, send: Send, waiting: list[Send]) -> None:
        payload = encode(send.message)
        session = self.network.rng.getrandbits(48)
        size = INIT_OVERHEAD + max(send.pad_to, padded(payload, 0))
        datagram = Datagram("init", self.key, send.peer, session, payload, size)
        self.handshakes[send.peer] = Handshake(
            session, datagram, send, self.network.time, [send.path], waiting
        )
        self._transmit(send.path, datagram)

    def _send_data(self, send: Send) -> None:
        payload = encode(send.message)
        session = self.current[send.peer]
        size = max(send.pad_to, padded(payload))
        datagram = Datagram("data", self.key, send.peer, session, payload, size)
        if not self._transmit(send.path, datagram, send.ttl):
            self._fail(send)

    def reply(self, command: Reply, now: Instant) -> None:
        self._reply(command)

    def _reply(self, reply: Reply) -> None:
        payload, token = encode(reply.message), reply.to
        if token.pending is not None:
            size = RESP_OVERHEAD + padded(payload, 0)
            datagram = Datagram("resp", self.key, token.peer, token.pending, payload, size)
            self.next[token.peer] = token.pending
            self._transmit(token.path, datagram)
        elif token.peer in self.current:
            session = self.current[token.peer]
            self._transmit(
                token.path, Datagram("data", self.key, token.peer, session, payload, padded(payload))
            )

    def _receive(self, path: Path, datagram: Datagram) -> None:
        if datagram.channel and not datagram.from_relay:
            self._forward(path, datagram)
            return
        if datagram.channel:
            path = path._replace(channel=datagram.channel)
            if path not in self.admitted:
                return
        if datagram.kind == "knock":
            self.handle(KnockReceived(path.remote, datagram.payload))
            return
        if datagram.receiver != self.key:
            return
        self._end_idle(datagram.sender)
        if datagram.kind == "init":
            self._init_arrived(path, datagram)
        elif datagram.kind == "resp":
            self._resp_arrived(path, datagram)
        else:
            self._data_arrived(path, datagram)

    def _forward(self, path: Path, datagram: Datagram) -> None:
        leg = self.relay.forward(datagram.channel, path.remote, datagram)
        if leg is not None:
            self._transmit(leg.path._replace(channel=leg.id), replace(datagram, from_relay=True))

    def _init_arrived(self, path: Path, datagram: Datagram) -> None:
        handshake = self.handshakes.get(datagram.sender)
        glare = handshake is not None and self.network.time - handshake.begun < 1.0
        if datagram.session in self.sessions.get(datagram.sender, ()) or (
            glare and self.key < datagram.sender
        ):
            return
        self.sessions.setdefault(datagram.sender, set()).add(datagram.session)
        capacity = datagram.size - RESP_OVERHEAD - LENGTH_LEN - 15
        self._deliver(datagram, path, ReplyToken(datagram.sender, path, datagram.session), True, capacity)

    def _resp_arrived(self, path: Path, datagram: Datagram) -> None:
        handshake = self.handshakes.get(datagram.sender)
        if handshake is None or handshake.session != datagram.session:
            return
        del self.handshakes[datagram.sender]
        self._session_up(datagram, path, initiator=True)
        for send in handshake.waiting:
            self._send_data(send)
        if not handshake.waiting:
            self._transmit(path, Datagram("data", self.key, datagram.sender, datagram.session, b"", 64))
        self._deliver(datagram, path, ReplyToken(datagram.sender, path, None), False, 0)

    def _data_arrived(self, path: Path, datagram: Datagram) -> None:
        if (
            datagram.session not in self.sessions.get(datagram.sender, ())
            or datagram.counter in self.opened_data
        ):
            return
        self.opened_data[datagram.counter] = None
        if len(self.opened_data) > OPENED_MAX:
            self.opened_data.popitem(last=False)
        if self.next.get(datagram.sender) == datagram.session:
            del self.next[datagram.sender]
            self._session_up(datagram, path, initiator=False)
            handshake = self.handshakes.pop(datagram.sender, None)
            if handshake is not None:
                for send in (handshake.first, *handshake.waiting):
                    self._send_data(send)
        known = (datagram.sender, path) in self.validated
        capacity = SESSION_CAPACITY if known else datagram.size - LENGTH_LEN
        if datagram.payload:
            self._deliver(datagram, path, ReplyToken(datagram.sender, path, None), False, capacity)

    def _session_up(self, datagram: Datagram, path: Path, *, initiator: bool) -> None:
        peer = datagram.sender
        self.current[peer] = datagram.session
        self.sessions.setdefault(peer, set()).add(datagram.session)
        self.validated.add((peer, path))
        self.handle(SessionOpened(peer, path, initiator))

    def _deliver(
        self, datagram: Datagram, path: Path, token: ReplyToken, first_contact: bool, capacity: int
    ) -> None:
        message: Message | None = decode_untrusted(datagram.payload)
        assert message is not None
        if isinstance(message, Response):
            self.validated.add((datagram.sender, path))
        event = MessageReceived(datagram.sender, path, message, token, first_contact, capacity)
        self.received.append(event)
        self.handle(event)


def peer_line(kind: PeerKind, node: SimNode, endpoint: bool = False) -> Peer:
    where = Endpoint(str(ip_of(node.address)), port_of(node.address)) if endpoint else None
    return Peer(kind, node.key, endpoint=where)


def network_file(boots: list[SimNode], trusted: list[SimNode]) -> Network:
    """A file with the bootstraps' endpoints, and trusted peers known by key only."""
    lines = [peer_line(PeerKind.BOOT, node, endpoint=True) for node in boots]
    return Network(namespace="sim", peers=(*lines, *(peer_line(PeerKind.TRUST, node) for node in trusted)))


def connect_by_channel(network: SimNetwork, a: SimNode, b: SimNode, relay: Address) -> tuple[Path, Path]:
    """A channel through a relay that is not there itself; the paths of a and b through it."""
    first = 1 + len(network.channels)
    paths = Path(SOCKET, relay, first), Path(SOCKET, relay, first + 1)
    for channel, node, path in ((first, b, paths[1]), (first + 1, a, paths[0])):
        network.channels[relay, channel] = partial(_receive_from_channel, node, path)
    return paths


def _receive_from_channel(node: SimNode, path: Path, datagram: Datagram) -> None:
    if node.running:
        node._receive(path, datagram)
