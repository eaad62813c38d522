"""The randomness that the engine is given: the part of random.Random that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Randomness(Protocol):
    """random.SystemRandom in the daemon; random.Random(seed) in simulations."""

    def random(self) -> float:
        """Uniform in [0, 1)."""

    def uniform(self, a: float, b: float) -> float: ...

    def randbytes(self, n: int) -> bytes: ...

    def sample(self, population: Sequence[Item], k: int) -> list[Item]: ...


def jittered(rng: Randomness, seconds: float, spread: float = 0.1) -> float:
    """seconds, moved by up to `spread` of it either way, so that nodes do not act in step."""
    return seconds * rng.uniform(1 - spread, 1 + spread)
