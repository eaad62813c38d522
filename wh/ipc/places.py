"""How many callers the local socket serves at once, and whose: nobody can take all places from the others."""

from __future__ import annotations

from wh.ipc.credentials import Caller

PLACES_MAX = 64
"""What others leave of them is for root and the daemon's own user."""

OTHERS_MAX = 56
"""Of all other users together."""

USER_MAX = 8
"""Of one of them."""

UNKNOWN_MAX = 28
"""Of users together that the system has no name for: who makes user namespaces may be thousands of them
(subuid(5))."""


class Places:
    def __init__(self) -> None:
        self._taken: dict[object, Caller] = {}

    def take(self, place: object, caller: Caller) -> bool:
        """Whether there is one. leave() gives it back."""
        if self._may_take(caller):
            self._taken[place] = caller
            return True
        return False

    def leave(self, place: object) -> None:
        self._taken.pop(place, None)

    def _may_take(self, caller: Caller) -> bool:
        if len(self._taken) >= PLACES_MAX:
            return False
        if caller.is_privileged:
            return True
        others = [each for each in self._taken.values() if not each.is_privileged]
        own = sum(each.uid == caller.uid for each in others)
        if len(others) >= OTHERS_MAX or own >= USER_MAX:
            return False
        return caller.is_known or sum(not each.is_known for each in others) < UNKNOWN_MAX
