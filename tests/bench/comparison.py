"""Samples of several implementations side by side: medians, ratios pair by pair, goals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from implementations import Role

Sample = float | None
"""None: the measurement failed in that round."""


@dataclass(frozen=True)
class Metric:
    key: str
    title: str
    unit: str


METRICS = (
    Metric("tcp_1", "TCP, 1 stream", "Mbit/s"),
    Metric("tcp_4", "TCP, 4 streams", "Mbit/s"),
    Metric("tcp_both_ways", "TCP, both directions at once, sum", "Mbit/s"),
    Metric("udp_64", "UDP, 64 bytes", "packets/s"),
    Metric("udp_512", "UDP, 512 bytes", "packets/s"),
    Metric("udp_1200", "UDP, 1,200 bytes", "packets/s"),
    Metric("rtt", "round trip", "ms"),
    Metric("cpu_per_gb", "CPU of both processes, TCP", "s/GB"),
    Metric("handshakes", "responder handshakes", "per CPU s"),
    Metric("crowd_cost", "CPU of a packet, 10,000 peers / 1 peer", "times"),
    Metric("memory_1", "memory, 1 peer, idle", "MiB"),
    Metric("memory_1000", "memory, 1,000 peers, idle", "MiB"),
    Metric("memory_10000", "memory, 10,000 peers, idle", "MiB"),
    Metric("memory_per_peer", "memory of one more idle peer", "KiB"),
    Metric("memory_loaded", "memory, highest under traffic", "MiB"),
    Metric("relay_gso", "relay forwarding, inner packets of 1,408 bytes", "Mbit/s"),
    Metric("relay_gso_packets", "relay forwarding, inner packets of 96 bytes", "packets/s"),
    Metric("relay_plain", "the same, 1,408 bytes, no UDP segmentation", "Mbit/s"),
    Metric("relay_plain_packets", "the same, 96 bytes, no UDP segmentation", "packets/s"),
)
METRIC = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    def text(self) -> str:
        return f"{number(self.median)} ({number(self.low)} - {number(self.high)})"


def spread(samples: Sequence[Sample]) -> Spread | None:
    """None where every measurement failed."""
    values = [value for value in samples if value is not None]
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def pairwise_ratios(samples: Sequence[Sample], others: Sequence[Sample]) -> list[Sample]:
    """Round by round, so that what slows the whole machine for a while cancels out."""
    pairs = zip(samples, others, strict=False)
    return [one / other if one is not None and other else None for one, other in pairs]


def number(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Samples:
    """What was measured: for each implementation's label and each metric, one sample a round."""

    def __init__(self, roles: dict[str, Role], samples: dict[str, dict[str, list[Sample]]]) -> None:
        """roles: of each label, ours first."""
        self.roles = roles
        self._samples = samples

    @property
    def labels(self) -> list[str]:
        return list(self.roles)

    @property
    def our_label(self) -> str:
        return next(label for label, role in self.roles.items() if role is Role.OURS)

    def label_of(self, role: Role) -> str | None:
        return next((label for label, each in self.roles.items() if each is role), None)

    def of(self, label: str, key: str) -> list[Sample]:
        return self.metrics(label).get(key, [])

    def metrics(self, label: str) -> dict[str, list[Sample]]:
        return self._samples.get(label, {})

    def spread(self, label: str, key: str) -> Spread | None:
        return spread(self.of(label, key))

    def ratio(self, key: str, other: str, other_key: str | None = None) -> Spread | None:
        """Ours by the other implementation's."""
        return spread(pairwise_ratios(self.of(self.our_label, key), self.of(other, other_key or key)))


@dataclass(frozen=True)
class Goal:
    """A limit for our figure, or for its ratio to another implementation's."""

    key: str
    limit: float
    at_least: bool = False
    against: Role | None = None
    other_key: str | None = None
    """The other implementation's metric where it is not the same one."""

    def value(self, samples: Samples) -> float | None:
        if self.against is None:
            found = samples.spread(samples.our_label, self.key)
        elif (other := samples.label_of(self.against)) is not None:
            found = samples.ratio(self.key, other, self.other_key)
        else:
            found = None
        return found.median if found else None

    def met(self, samples: Samples) -> bool | None:
        """None: not measured."""
        value = self.value(samples)
        if value is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit

    def title(self, samples: Samples) -> str:
        metric = METRIC[self.key]
        if self.against is None:
            return f"{metric.title}, {metric.unit}"
        other = samples.label_of(self.against) or f"{self.against.value} wireguard-go (absent)"
        of = f"{METRIC[self.other_key].title} of " if self.other_key else ""
        return f"{metric.title}, {metric.unit} / {of}{other}"

    def limit_text(self) -> str:
        times = "x" if self.against else ""
        return f"{'at least' if self.at_least else 'at most'} {number(self.limit)}{times}"


GOALS = (
    Goal("tcp_1", 1.1, at_least=True, against=Role.NEWEST),
    Goal("udp_1200", 1.5, at_least=True, against=Role.NEWEST),
    Goal("cpu_per_gb", 0.8, against=Role.NEWEST),
    Goal("rtt", 0.8, against=Role.NEWEST),
    Goal("tcp_1", 3.5, at_least=True, against=Role.DEBIAN),
    Goal("relay_gso", 5.0, at_least=True, against=Role.DEBIAN, other_key="tcp_1"),
    Goal("relay_plain", 1.5, at_least=True, against=Role.DEBIAN, other_key="tcp_1"),
    Goal("handshakes", 4_000, at_least=True),
    Goal("memory_loaded", 60),
    Goal("memory_10000", 60),
    Goal("memory_per_peer", 4),
    Goal("crowd_cost", 1.1),
)
