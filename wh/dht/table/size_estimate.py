"""How many servers the network has, from how near the nearest ones are to a random key."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from wh.dht.table.metric import ID_SPACE, K, distance
from wh.wire.public_key import Key

SAMPLES_KEPT = 8


def servers_in_network(target: Key, nearest: Sequence[Key]) -> float:
    """Least squares through the distances of the servers nearest to a random target, nearest first: among n
    uniform keys the i-th nearest is at about i / (n + 1) of the key space."""
    products = squares = 0.0
    for rank, key in enumerate(nearest, 1):
        products += rank * (distance(target, key) / ID_SPACE)
        squares += rank * rank
    return max(squares / products - 1, len(nearest)) if products else float(len(nearest))


class SizeEstimate:
    """Folds lookups at random keys into one number: the median of the last eight, so that somebody who crowds
    the surroundings of a few keys does not move it."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES_KEPT)

    def add_sample(self, target: Key, nearest: Sequence[Key]) -> None:
        """target: a key nobody else could choose. nearest: the servers that answered, nearest first."""
        if nearest:
            self._samples.append(servers_in_network(target, nearest[:K]))

    @property
    def servers(self) -> float:
        """0 before the first sample."""
        return median(self._samples) if self._samples else 0.0

    @property
    def radius(self) -> int:
        """The distance from a key within which K servers should be; 0 where nothing is known."""
        return min(ID_SPACE, int(ID_SPACE * (K / self.servers))) if self._samples else 0
