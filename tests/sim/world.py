"""Thousands of nodes in one process, what befalls them, and what is measured of them."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from simnat import Nat
from simnet import SimNetwork
from simnode import SimNode, network_file
from wh.config.model import Network
from wh.engine.events import LookupRequested
from wh.wire.address import pack

RECEIVED_KEPT = 8
LOOKUP_PATIENCE_S = 40.0


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of a share (Wilson's score)."""
    if not trials:
        return 0.0, 1.0
    share, square = successes / trials, z * z / trials
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def percentile(values: Sequence[float], share: float) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else math.nan


@dataclass
class Lookups:
    """What became of lookups: times in seconds, requests and chains of answers of each."""

    trials: int = 0
    found: int = 0
    elapsed: list[float] = field(default_factory=list)
    finds: list[int] = field(default_factory=list)
    pings: list[int] = field(default_factory=list)
    hops: list[int] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        low, high = wilson(self.found, self.trials)
        return {
            "lookups": self.trials,
            "found": round(self.found / max(1, self.trials), 5),
            "interval": [round(low, 5), round(high, 5)],
            "seconds": [round(percentile(self.elapsed, share), 3) for share in (0.5, 0.99)],
            "finds": round(statistics.fmean(self.finds), 1) if self.finds else None,
            "finds_p99": percentile(self.finds, 0.99),
            "pings": round(statistics.fmean(self.pings), 1) if self.pings else None,
            "hops": [percentile(self.hops, share) for share in (0.5, 0.99)],
        }


class World:
    """Servers that join through the first few, clients behind NATs, virtual time. progress: told of each
    step."""

    def __init__(
        self, seed: int, *, loss: float = 0.0, progress: Callable[[str], None] | None = None, boots: int = 3
    ) -> None:
        self.network = SimNetwork(seed, loss=loss)
        self.network.received_kept = RECEIVED_KEPT
        self.network.keep_log()
        self.servers: list[SimNode] = []
        self.clients: list[SimNode] = []
        self.boots = boots
        self._progress = progress or (lambda text: None)
        self._requests = 0
        self._begun = time.process_time()

    @property
    def rng(self) -> Any:
        return self.network.rng

    def say(self, text: str) -> None:
        spent = time.process_time() - self._begun
        self._progress(f"{spent:7.1f} s CPU, {self.network.time:7.1f} s: {text}")

    def config(self, *trusted: SimNode) -> Network:
        return network_file(self.servers[: self.boots], list(trusted))

    def add_servers(self, count: int, joining_s: float) -> list[SimNode]:
        """They start one after the other within joining_s."""
        made = [SimNode(self.network, self.network.public_address(), mode="direct") for _ in range(count)]
        self.servers += made
        config = self.config()
        for number, server in enumerate(made, 1):
            server.start(config)
            self.network.run(joining_s / count)
            if number % 1000 == 0:
                self.say(f"{number} servers started")
        return made

    def add_clients(self, count: int, joining_s: float, *trusted: SimNode) -> list[SimNode]:
        """Each behind a NAT of its own, with the same inside address."""
        made = []
        for _ in range(count):
            nat = Nat(self.network.public_address()[12:16])
            client = SimNode(self.network, pack("10.0.0.2", 62096), nat=nat, mode="nat")
            client.start(self.config(*trusted))
            made.append(client)
            self.network.run(joining_s / count)
        self.clients += made
        return made

    def run(self, seconds: float, step: float = 300.0) -> None:
        while seconds > 0:
            self.network.run(min(step, seconds))
            seconds -= step
            self.say("running")

    # What is measured

    def look_up(
        self,
        pairs: Sequence[tuple[SimNode, SimNode]],
        *,
        at_once: int = 50,
        patience_s: float = LOOKUP_PATIENCE_S,
    ) -> Lookups:
        """Each pair: who asks, and for whom. An asker asks one thing at a time."""
        result, waiting = Lookups(), list(pairs)
        while waiting:
            busy: dict[bytes, tuple[SimNode, Counter[str]]] = {}
            for pair in list(waiting):
                if len(busy) < at_once and pair[0].key not in busy:
                    waiting.remove(pair)
                    asker, target = pair
                    busy[asker.key] = asker, Counter(asker.sent_kinds)
                    self._requests += 1
                    asker.notifications.clear()
                    asker.handle(LookupRequested(self._requests, target.key))
            self._await([asker for asker, _ in busy.values()], patience_s)
            for asker, before in busy.values():
                self._count(result, asker, before)
        return result

    def _await(self, askers: Sequence[SimNode], patience_s: float) -> None:
        end = self.network.time + patience_s
        while self.network.time < end and not all(
            any(note.final for note in asker.notifications) for asker in askers
        ):
            self.network.run(0.25)

    def _count(self, result: Lookups, asker: SimNode, before: Counter[str]) -> None:
        final = next((note.body for note in asker.notifications if note.final), None)
        sent = asker.sent_kinds - before
        result.trials += 1
        result.finds.append(sent["Find"])
        result.pings.append(sent["Ping"])
        if final is not None and final["found"]:
            result.found += 1
            result.elapsed.append(final["elapsed_ms"] / 1000)
            result.hops.append(final["hops"])

    def random_pairs(
        self, count: int, askers: Sequence[SimNode], targets: Sequence[SimNode]
    ) -> list[tuple[SimNode, SimNode]]:
        pairs = []
        while len(pairs) < count:
            asker, target = self.rng.choice(askers), self.rng.choice(targets)
            if asker is not target:
                pairs.append((asker, target))
        return pairs

    def traffic(self, nodes: Sequence[SimNode], seconds: float) -> float:
        """Mean bytes/s that a node sends within the next seconds."""
        before = sum(node.sent_bytes for node in nodes)
        self.run(seconds)
        return (sum(node.sent_bytes for node in nodes) - before) / seconds / max(1, len(nodes))

    def cost(self) -> dict[str, Any]:
        """What the simulation took so far: CPU seconds, datagrams delivered for each, peak KiB a node."""
        import resource

        spent = time.process_time() - self._begun
        nodes = len(self.servers) + len(self.clients)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "cpu_s": round(spent, 1),
            "datagrams_per_cpu_s": round(self.network.delivered / spent),
            "peak_kib_a_node": round(peak / max(1, nodes)),
            "log": self.network.log_digest,
        }


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
