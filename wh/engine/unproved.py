"""What may go to addresses that have proved nothing: whoever names one may mean to harm whoever is there
(docs/protocol.md section 2)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from wh.engine.core import Engine
from wh.engine.events import TCP, Instant, Key, Path
from wh.engine.limits import Level, Shares
from wh.wire.address import Address

IP = Level(32, 128, 4, 2.0)
NAMED_NETWORK = Level(24, 48, 8, 2.0)
NAMED_BURST, NAMED_INTERVAL_S = 512, 1 / 64
"""A lookup meets some thirty servers for the first time, and publishing a hundred."""

OURS_NETWORK = Level(24, 48, 64, 0.5)
OURS_BURST, OURS_INTERVAL_S = 256, 1 / 32
"""Many peers may be in one network, and each has some addresses that get four datagrams in a round."""


class Cause(Enum):
    """Why something is sent where nobody has answered, and so whose share it takes: nobody's lies keep us
    from our own peers, and nobody's errands from our own lookups."""

    OURS = auto()  # the network file, what its members say, our user
    NAMED = auto()  # a server named it, for a lookup of ours
    ERRAND = auto()  # the same, for a client's


class Unproved:
    """known_at(key, address): whether the routing table has that live server at that address."""

    def __init__(self, engine: Engine) -> None:
        self.known_at: Callable[[Key, Address], bool] = lambda key, address: False
        self._engine = engine
        self._shares = {
            Cause.OURS: Shares((IP, OURS_NETWORK), OURS_BURST, OURS_INTERVAL_S),
            Cause.NAMED: Shares((IP, NAMED_NETWORK), NAMED_BURST, NAMED_INTERVAL_S),
            Cause.ERRAND: Shares((IP, NAMED_NETWORK), NAMED_BURST, NAMED_INTERVAL_S),
        }

    def is_proved(self, key: Key, path: Path, now: Instant) -> bool:
        """Whether that node has answered there, or our own file says that it is there. What others have
        answered from there says nothing: anybody can invent a key and put it at their address."""
        if path.channel or path.socket == TCP:
            return True  # a relay, or a connection, that is there
        peers, address = self._engine.peers, path.remote
        if peers.is_pinned(key) and self._engine.addressing.is_configured(address):
            return True
        known = peers.get(key)
        return (known is not None and known.answered_at(address, now)) or self.known_at(key, address)

    def take(self, path: Path, cause: Cause, now: Instant) -> bool:
        """One datagram to an address that is not proved, of the size of a PING's INIT at most."""
        return self._shares[cause].allow(path.remote, now.monotonic)
