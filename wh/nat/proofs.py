"""Which of our addresses a KNOCK has reached, and whether they are ours (docs/protocol.md section 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wh.nat.behavior import AGREEMENT, Observations
from wh.nat.mapped_ports import MappedPorts
from wh.wire.address import Address, is_v4

LIFETIME_S = 3600.0
PROOFS_MAX = 16


class Proofs:
    """observations: by family. Whoever arranges a KNOCK also says where we are, and may say what is not true:
    so witnesses must agree, and to take a proof away they must as well. Times are monotonic seconds."""

    def __init__(self, observations: Mapping[int, Observations], mapped: MappedPorts) -> None:
        self._observations = observations
        self._mapped = mapped
        self._proved_at: dict[Address, float] = {}

    def __len__(self) -> int:
        return len(self._proved_at)

    def __iter__(self) -> Iterator[Address]:
        return iter(self._proved_at)

    def __contains__(self, address: object) -> bool:
        return address in self._proved_at

    def add(self, address: Address, now: float) -> bool:
        """A KNOCK that was sent there came. It counts where two networks see us there, or none elsewhere."""
        here, elsewhere = self._words_on(address)
        is_ours = here >= AGREEMENT or not elsewhere
        if not is_ours or (len(self) >= PROOFS_MAX and address not in self):
            return False
        self._proved_at[address] = now
        return True

    def discard(self, address: Address) -> None:
        self._proved_at.pop(address, None)

    def clear(self) -> None:
        self._proved_at.clear()

    def expire(self, now: float) -> bool:
        """Whether any was too old."""
        return self._remove([address for address, at in self._proved_at.items() if now - at > LIFETIME_S])

    def review(self, family: int, enough: int) -> bool:
        """Whether any falls: `enough` networks see us elsewhere, and no two there."""
        refuted = []
        for address in self._proved_at:
            here, elsewhere = self._words_on(address)
            if is_v4(address) == (family == 4) and here < AGREEMENT and elsewhere >= enough:
                refuted.append(address)
        return self._remove(refuted)

    def _words_on(self, address: Address) -> tuple[int, int]:
        """Networks that see us there, and those that see us elsewhere. Nobody sees a gateway's mapping; they
        see its IP."""
        known = 16 if self._mapped.has(address) else len(address)
        words = self._observations[4 if is_v4(address) else 6]
        return words.count(lambda seen: seen[:known] == address[:known])

    def _remove(self, addresses: list[Address]) -> bool:
        for address in addresses:
            del self._proved_at[address]
        return bool(addresses)
