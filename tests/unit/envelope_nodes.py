"""Nodes that seal and open datagrams of the control channel, at a time of the test's."""

import base64
import hashlib
from dataclasses import dataclass, field

from noise.connection import NoiseConnection
from noise_oracle import noise_connection

from whcore.envelope import DATA, REQUEST, RESPONSE, ControlSessions
from whcore.keys import SecretKey

NS = 1_000_000_000
NAMESPACE = b"tests"
UNIX_NS = 1_700_000_000 * NS
NETWORK_SECRET = bytes(range(32))
MODES = [None, NETWORK_SECRET]


def source(network: int = 1, port: int = 62096) -> bytes:
    """192.0.x.1 of an IPv4 /24."""
    return bytes(10) + b"\xff\xff" + bytes([192, 0, network % 256, 1]) + port.to_bytes(2, "big")


def secret_key(seed: int) -> SecretKey:
    return SecretKey.from_text(base64.b64encode(raw_secret(seed)).decode())


def raw_secret(seed: int) -> bytes:
    return hashlib.sha256(b"test key %d" % seed).digest()


@dataclass
class Node:
    """One side, with a clock of its own and the few calls that most tests make."""

    seed: int
    network_secret: bytes | None = None
    workbit: int = 0
    max_sessions: int = 64
    last_timestamp_ns: int = 0
    now: int = 1000 * NS
    sessions: ControlSessions = field(init=False)
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        secret = secret_key(self.seed)
        self.key = secret.public_key
        self.sessions = ControlSessions(
            secret,
            NAMESPACE,
            network_secret=self.network_secret,
            workbit=self.workbit,
            max_sessions=self.max_sessions,
            last_timestamp_ns=self.last_timestamp_ns,
        )

    def initiate(self, peer: "Node", payload: bytes = b"request", pad_to: int = 400) -> bytes:
        return self.sessions.initiate(
            peer.key, payload, pad_to=pad_to, now_ns=self.now, wall_ns=UNIX_NS + self.now
        )

    def open(self, datagram: bytes, network: int = 1, under_load: bool = False):  # type: ignore[no-untyped-def]
        if under_load:
            self.overload()
        return self.sessions.open(datagram, source(network), now_ns=self.now, wall_ns=UNIX_NS + self.now)

    def overload(self) -> None:
        """More INITs in this second than are looked at without a mac2, from elsewhere."""
        junk = b"\xff\x02\x01\x00" + bytes(200)
        junk = junk[:-32] + mac1(junk, self.key, self.network_secret) + bytes(16)
        for _ in range(201):
            self.sessions.open(junk, source(99), now_ns=self.now, wall_ns=UNIX_NS + self.now)

    def answer(self, datagram: bytes, payload: bytes = b"reply") -> bytes:
        """Open an INIT that must be good and respond to it."""
        opened = self.open(datagram)
        assert opened[0] == REQUEST, opened
        response = self.sessions.respond(opened[2], payload, now_ns=self.now)
        assert response is not None
        return response

    def seal(self, peer: "Node", payload: bytes = b"data", pad_to: int = 32) -> bytes:
        datagram = self.sessions.seal(peer.key, payload, now_ns=self.now, pad_to=pad_to)
        assert datagram is not None
        return datagram


def handshake(initiator: Node, responder: Node) -> None:
    response = responder.answer(initiator.initiate(responder))
    assert initiator.open(response) == (RESPONSE, responder.key, b"reply")


def connect(initiator: Node, responder: Node) -> None:
    """A session that both sides have confirmed."""
    handshake(initiator, responder)
    assert responder.open(initiator.seal(responder)) == (DATA, initiator.key, b"data", True)


def pair(network_secret: bytes | None = None) -> tuple[Node, Node]:
    return Node(1, network_secret), Node(2, network_secret)


def by_key(a: Node, b: Node) -> tuple[Node, Node]:
    return (a, b) if a.key < b.key else (b, a)


def advance(ns: int, *nodes: Node) -> None:
    for node in nodes:
        node.now += ns


def oracle(seed: int, network_secret: bytes | None, remote_static: bytes | None = None) -> NoiseConnection:
    """noiseprotocol as the control channel uses Noise; the initiator where remote_static is given."""
    name = (
        b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
        if network_secret is None
        else b"Noise_IKpsk0_25519_ChaChaPoly_BLAKE2s"
    )
    prologue = b"wirehub 2\0" + NAMESPACE
    return noise_connection(name, prologue, raw_secret(seed), network_secret, remote_static)


def mac1(datagram: bytes, receiver: bytes, network_secret: bytes | None) -> bytes:
    key = hashlib.blake2s(b"wh2 mac1" + receiver + (network_secret or bytes(32))).digest()
    return hashlib.blake2s(datagram[:-32], key=key, digest_size=16).digest()
