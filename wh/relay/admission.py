"""Whose requests a relay answers, and when: within limits, and once it is proved that the sender gets what
goes to its address (docs/protocol.md section 8)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from wh.engine.core import Engine
from wh.engine.events import Instant, Key, MessageReceived, Path
from wh.engine.limits import RateLimit
from wh.engine.requests import Requests, Schedule
from wh.relay.tables import RelayTables
from wh.wire.address import prefix
from wh.wire.messages import Challenge, Open

REQUESTS_BURST = 16
REQUESTS_INTERVAL_S = 0.5
"""RESERVE and OPEN of one stranger; a client needs a handful an hour."""

NETWORK_BURST = 64
NETWORK_INTERVAL_S = 0.0625
"""The same of all strangers of a network (IPv4 /24, IPv6 /48): keys cost nothing."""

CHALLENGE_ONCE = Schedule((), 1.0)
"""Who waits for an answer asks again; more than came from an address must not go there."""

ANSWER_LEN_MAX = 80
WAITING_MAX = 256


class Admission:
    """answer(event, now): a RESERVE or an OPEN that may be answered where it came from."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        tables: RelayTables,
        answer: Callable[[MessageReceived, Instant], None],
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._tables = tables
        self._answer = answer
        self._rates = RateLimit(REQUESTS_BURST, REQUESTS_INTERVAL_S)
        self._network_rates = RateLimit(NETWORK_BURST, NETWORK_INTERVAL_S)
        self._waiting: OrderedDict[Key, MessageReceived] = OrderedDict()  # for its path to be validated
        requests.validation_listeners.append(self._validated)

    def handle(self, event: MessageReceived, now: Instant) -> None:
        """A RESERVE or an OPEN of a session. From an address that is not proved it waits until that is."""
        path = event.path
        if path.channel or not self._engine.addressing.is_main_socket(path.socket):
            return
        if not (self._tables.is_member(event.peer) or self._agrees(event) or self._allows(event, now)):
            return
        proved = self._engine.peers.obtain(event.peer).is_validated(event.path, now)
        if proved and event.capacity >= ANSWER_LEN_MAX:
            self._answer(event, now)
        else:
            self._prove(event, now)

    def left(self, key: Key) -> None:
        """It said LEAVING."""
        self._waiting.pop(key, None)

    def _allows(self, event: MessageReceived, now: Instant) -> bool:
        network = prefix(event.path.remote, 24, 48)
        within = self._rates.allow(event.peer, now.monotonic)
        return within and self._network_rates.allow(network, now.monotonic)

    def _agrees(self, event: MessageReceived) -> bool:
        """Once for each channel, however many others have opened."""
        if not isinstance(event.message, Open):
            return False
        channel = self._tables.between(event.peer, event.message.peer)
        return channel is not None and channel.target == event.peer and not channel.agreed

    def _prove(self, event: MessageReceived, now: Instant) -> None:
        self._waiting[event.peer] = event
        self._waiting.move_to_end(event.peer)
        if len(self._waiting) > WAITING_MAX:
            self._waiting.popitem(last=False)
        if not self._requests.waits_for(event.peer, Challenge, event.path):
            challenge = Challenge(0, self._engine.nonce())
            self._requests.start(event.peer, [event.path], challenge, now, schedule=CHALLENGE_ONCE)

    def _validated(self, key: Key, path: Path, now: Instant) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.path == path:
            del self._waiting[key]
            self._answer(waiting, now)
