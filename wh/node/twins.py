"""Keys that two running nodes use at once, ours among them (docs/protocol.md section 3, PING).

Each takes the sessions of the other one over, so that both have gaps that look like a bad network. A node
says in its PINGs which run of it speaks: whoever hears two of one key in turn tells both, in his PONGs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from wh.engine.events import Instant, Key

KEYS_MAX = 4096
WITNESSES_MAX = 64
WINDOW_S = 60.0
"""How lately both must have been heard. PINGs come at least each 22 s."""

OVERLAP_S = 2.0
"""How long the older one must be heard beside the newer. In a restart it is not, but for what comes late."""

STRANGERS_NEEDED = 2
"""Of those who say that our key is used twice. One of the network file suffices."""

SPOKEN_UP_S = (0.0, 5.0, 10.0)
"""After being told, a node PINGs its peers, so that they hear both. The later ones come more than OVERLAP_S
after the other one's first."""
SPOKEN_UP_INTERVAL_S = 60.0
"""Who says now this and now that does not make us PING more."""


@dataclass(slots=True)
class _Voice:
    """One run of a node."""

    instance: int
    first_at: float
    last_at: float


@dataclass(slots=True)
class _Heard:
    older: _Voice | None
    newer: _Voice
    doubled: bool = False

    def hear(self, instance: int, at: float) -> None:
        voice = next((each for each in (self.older, self.newer) if each and each.instance == instance), None)
        if voice is None:
            self.older, self.newer = self.newer, _Voice(instance, at, at)
        else:
            voice.last_at = at
        self.doubled = self._overlap_until(at - WINDOW_S)

    def _overlap_until(self, lately: float) -> bool:
        older, newer = self.older, self.newer
        if older is None or min(older.last_at, newer.last_at) < lately:
            return False
        return older.last_at - newer.first_at >= OVERLAP_S


class Twins:
    """is_known: whether a key is in the network file."""

    def __init__(self, is_known: Callable[[Key], bool]) -> None:
        self._is_known = is_known
        self._heard: OrderedDict[Key, _Heard] = OrderedDict()  # who spoke last comes last
        self._witnesses: OrderedDict[Key, None] = OrderedDict()

    def hear(self, peer: Key, instance: int, now: Instant) -> bool:
        """A PING came. Whether its sender is to be told that another one has the key."""
        if instance == 0:  # it does not say
            return False
        heard = self._heard.pop(peer, None) or _Heard(None, _Voice(instance, now.monotonic, now.monotonic))
        heard.hear(instance, now.monotonic)
        self._heard[peer] = heard
        if len(self._heard) > KEYS_MAX:
            self._heard.popitem(last=False)
        return heard.doubled

    def told(self, witness: Key, doubled: bool) -> bool:
        """A PONG came: its sender says whether our key is used twice. Returns whether that is news."""
        before = self.own
        self._witnesses.pop(witness, None)
        if doubled:
            self._witnesses[witness] = None
            if len(self._witnesses) > WITNESSES_MAX:
                self._witnesses.popitem(last=False)
        return self.own and not before

    @property
    def own(self) -> bool:
        """Whether another running node has our key."""
        known = any(map(self._is_known, self._witnesses))
        return known or len(self._witnesses) >= STRANGERS_NEEDED

    @property
    def others(self) -> tuple[Key, ...]:
        """Keys of the network file that two running nodes have."""
        return tuple(key for key, heard in self._heard.items() if heard.doubled and self._is_known(key))
