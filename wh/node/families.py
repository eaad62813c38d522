"""Members whose hosts take no IPv6 inside the overlay (docs/protocol.md section 3, PING).

Their kernels drop it without a word, so that a program waits for long where a name has both kinds of address.
"""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.events import Key
from wh.wire.messages import Capability


class WithoutIpv6:
    """is_member: whether a key is in the network file; nobody else's word is kept."""

    def __init__(self, is_member: Callable[[Key], bool]) -> None:
        self._is_member = is_member
        self._keys: set[Key] = set()

    def hear(self, peer: Key, capabilities: int) -> None:
        """A PING or PONG came: the last one counts."""
        if capabilities & Capability.IPV4_INSIDE and self._is_member(peer):
            self._keys.add(peer)
        else:
            self._keys.discard(peer)

    @property
    def members(self) -> frozenset[Key]:
        return frozenset(filter(self._is_member, self._keys))
