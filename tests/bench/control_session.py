"""CPU that two ControlSessions in one process spend on a FIND and its NODES, messages encoded and decoded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from wh.wire import address, codec
from wh.wire.messages import Contact, Find, Nodes
from whcore import envelope
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey

T = TypeVar("T")

CONTACTS = 300
REQUESTS = 5000
NAMESPACE = b"public"
NS = 10**9
UNIX_S = 1_800_000_000
FIND_PAD = 400
"""docs/protocol.md section 2: an INIT with FIND pads its plaintext to this."""

NODES_CONTACTS = 5


@dataclass
class Cost:
    """CPU microseconds of one side, for one request."""

    initiator_us: float
    responder_us: float


class Stopwatch:
    def __init__(self) -> None:
        self.total_ns = 0

    def time(self, action: Callable[[], T]) -> T:
        started = time.process_time_ns()
        result = action()
        self.total_ns += time.process_time_ns() - started
        return result


class Side:
    """One node's control plane, with the time that it used."""

    def __init__(self, source: bytes) -> None:
        self.key = SecretKey.generate()
        self.sessions = ControlSessions(self.key, NAMESPACE)
        self.source = source
        self.watch = Stopwatch()


_ticks = count(1)


def now() -> tuple[int, int]:
    """Of a clock that moves on by 0.1 s each time: a flood would be asked for cookies."""
    passed_ns = next(_ticks) * NS // 10
    return 1000 * NS + passed_ns, UNIX_S * NS + passed_ns


def find() -> bytes:
    return codec.encode(Find(1, bytes(range(32)), 0, 20, 0))


def nodes() -> bytes:
    contact = Contact(bytes(range(32)), address.pack("192.0.2.7", 62096), 1)
    return codec.encode(Nodes(1, bytes(16), (contact,) * NODES_CONTACTS, None))


def contact_once(initiator: Side, responder: Side) -> None:
    """INIT with a FIND, RESP with the NODES."""
    monotonic, wall = now()
    peer = responder.key.public_key
    init = initiator.watch.time(
        lambda: initiator.sessions.initiate(peer, find(), pad_to=FIND_PAD, now_ns=monotonic, wall_ns=wall)
    )

    def answer() -> bytes | None:
        opened = responder.sessions.open(init, initiator.source, now_ns=monotonic, wall_ns=wall)
        if opened[0] != envelope.REQUEST:
            raise RuntimeError(f"the responder made of an INIT: {opened}")
        codec.decode_untrusted(opened[3])
        return responder.sessions.respond(opened[2], nodes(), now_ns=monotonic)

    resp = responder.watch.time(answer)
    if resp is None:
        raise RuntimeError("no answer to an INIT")

    def accept() -> None:
        opened = initiator.sessions.open(resp, responder.source, now_ns=monotonic, wall_ns=wall)
        if opened[0] != envelope.RESPONSE:
            raise RuntimeError(f"the initiator made of a RESP: {opened}")
        codec.decode_untrusted(opened[2])

    initiator.watch.time(accept)


def carry(sender: Side, receiver: Side, make: Callable[[], bytes]) -> None:
    """One message in an open session."""
    monotonic, wall = now()
    peer = receiver.key.public_key
    data = sender.watch.time(lambda: sender.sessions.seal(peer, make(), now_ns=monotonic))
    if data is None:
        raise RuntimeError("no session")

    def accept() -> None:
        opened = receiver.sessions.open(data, sender.source, now_ns=monotonic, wall_ns=wall)
        if opened[0] != envelope.DATA:
            raise RuntimeError(f"the receiver made of a DATA: {opened}")
        codec.decode_untrusted(opened[2])

    receiver.watch.time(accept)


def side(number: int) -> Side:
    """Each in a network of its own, so that no limit for one network is met."""
    return Side(address.pack(f"100.{64 + number // 250}.{number % 250}.1", 62096))


def first_contact_cost() -> Cost:
    responder, initiator_ns = side(0), 0
    for number in range(1, CONTACTS + 1):
        initiator = side(number)
        contact_once(initiator, responder)
        initiator_ns += initiator.watch.total_ns
    return Cost(initiator_ns / CONTACTS / 1000, responder.watch.total_ns / CONTACTS / 1000)


def session_request_cost() -> Cost:
    initiator, responder = side(1), side(2)
    contact_once(initiator, responder)
    carry(initiator, responder, find)  # confirms the responder's keys
    initiator.watch.total_ns = responder.watch.total_ns = 0
    for _ in range(REQUESTS):
        carry(initiator, responder, find)
        carry(responder, initiator, nodes)
    return Cost(initiator.watch.total_ns / REQUESTS / 1000, responder.watch.total_ns / REQUESTS / 1000)
