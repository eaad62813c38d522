"""What a pair of nodes lives through, round by round, on wires of 20 ms: the samples of bench-nat.

Each scenario has a lab of its own for all its rounds, three public nodes, and one pair. A sample that a round
could not give is None, and counts as missed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import faults
from cells import Cell, Kinds
from internet import Internet
from labnet import Lab, LabError, wait_until
from nodes import UNLIMITED_RELAYS, Node, PublicNodes, in_parallel, wait_for_state
from timed_ping import TimedPing, farthest_overtaken, first_data_s, longest_gap_s, lost, median_rtt_s

Sample = float | None
Samples = dict[str, list[Sample]]

DELAY_S = 0.02
FAST_PING_S = 0.01
READY_S = 20.0
RELAYED_S = 15.0
DIRECT_S = 15.0
SEARCH_S = 90.0
SETTLED_REPLIES = 100
RATE_BIT_S = 100e6
TCP_S = 5

ROUND_ERRORS = (LabError, TimeoutError, OSError, StopIteration, json.JSONDecodeError)
"""What a round that fails ends with; the next one begins anew."""


@dataclass
class Stage:
    """The lab of one scenario: public nodes that run, and a pair."""

    lab: Lab
    internet: Internet
    publics: PublicNodes
    cell: Cell
    running: bool = False
    seeds: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def a(self) -> Node:
        return self.cell.nodes[0]

    @property
    def b(self) -> Node:
        return self.cell.nodes[1]

    def restart(self) -> None:
        """Both nodes anew, until they know all public nodes. Their NATs know nothing of the round before, or
        its path would still be open."""
        if self.running:
            in_parallel(Node.down, self.cell.nodes)
            self.seeds += 1
            for router in (router for site in self.cell.sites for router in site.routers):
                router.load_nat(seed=self.seeds)
                faults.flush_conntrack(router)
        self.cell.up()
        self.running = True
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Both nodes hold reservations at all public nodes, and a public node has both records."""
        wait_until(lambda: all(map(self._is_ready, self.cell.nodes)), READY_S, "both nodes are ready")
        wait_until(lambda: any(map(_has_records, self.publics.nodes)), READY_S, "both are published")

    def _is_ready(self, node: Node) -> bool:
        return len(node.inspect()["relays"]) >= len(self.publics.nodes)

    def channels(self) -> int:
        """That the pair has, at all public nodes."""
        return sum(int(node.inspect()["relayed"]["channels"]) for node in self.publics.nodes)

    def relay_in_use(self) -> Node:
        """The public node that the first one's data goes through. Raises LabError where there is none."""
        key = self.a.peer(self.b)["relay"]
        for node in self.publics.nodes:
            if node.key == key:
                return node
        raise LabError(f"no relay in use: {self.a.peer(self.b)}")


def _has_records(public: Node) -> bool:
    return int(public.inspect()["dht"]["stored_records"]) >= 2


@contextmanager
def staged(kinds: Kinds, *, rate_bit_s: float = 0.0) -> Iterator[Stage]:
    """rate_bit_s: of each wire."""
    with Lab("nat") as lab:
        internet = Internet(lab, delay_s=DELAY_S)
        publics = PublicNodes(internet)
        cell = Cell(internet, publics, kinds, "p")
        if rate_bit_s:
            for site in internet.sites:
                assert site.wire is not None
                site.wire.change(rate_bit_s=rate_bit_s)
        publics.up(*UNLIMITED_RELAYS)
        yield Stage(lab, internet, publics, cell)


def rounds(
    kinds: Kinds, count: int, play: Callable[[Stage], dict[str, Sample]], keys: tuple[str, ...]
) -> Samples:
    """play() count times on one stage; its samples by key."""
    samples: Samples = {key: [] for key in keys}
    with staged(kinds) as stage:
        for number in range(count):
            try:
                found = play(stage)
            except ROUND_ERRORS as error:
                print(f"  round {number + 1}: {' '.join(str(error).split())[:300]}", flush=True)
                found = {}
            for key in keys:
                samples[key].append(found.get(key))
            texts = (f"{key} {value:.3g}" for key, value in found.items() if value is not None)
            print(f"  round {number + 1}: {', '.join(texts)}", flush=True)
    return samples


def first_data_through_a_relay(stage: Stage) -> dict[str, Sample]:
    """In round trips of the same relayed path."""
    stage.restart()
    ping = TimedPing(stage.a.host, stage.b.name, interval_s=0.05)
    ping.wait_for_replies(1, RELAYED_S)
    first = first_data_s(ping)
    ping.wait_for_replies(20)
    round_trip = median_rtt_s(ping.stop()[-10:])
    return {"first_data": first / round_trip if first is not None else None}


def time_to_direct(deadline_s: float, key: str) -> Callable[[Stage], dict[str, Sample]]:
    def play(stage: Stage) -> dict[str, Sample]:
        stage.restart()
        outcome = stage.cell.measure(deadline_s)
        return {key: outcome.direct_s}

    return play


def relay_killed(stage: Stage) -> dict[str, Sample]:
    """The one in use, while another channel is open."""
    if not stage.running:
        stage.restart()
    ping = TimedPing(stage.a.host, stage.b.name, interval_s=FAST_PING_S)
    ping.wait_for_replies(SETTLED_REPLIES, RELAYED_S)
    wait_until(lambda: stage.channels() >= 2, READY_S, "both channels are open")
    relay = stage.relay_in_use()
    faults.kill(relay.host)
    ping.wait_for_replies(2 * SETTLED_REPLIES, 30)
    gap = longest_gap_s(ping.stop()[SETTLED_REPLIES // 2 :])
    stage.publics.up_again(relay)
    stage.wait_until_ready()
    return {"relay_gap": gap}


def nat_rebinding(stage: Stage) -> dict[str, Sample]:
    """The first one's NAT forgets all and gives other ports from then on."""
    ping = _direct_ping(stage)
    stage.seeds += 1
    router = stage.cell.sites[0].routers[0]
    router.load_nat(seed=stage.seeds)
    faults.flush_conntrack(router)
    return {"rebinding_gap": _gap_after(ping)}


def address_change(stage: Stage) -> dict[str, Sample]:
    """The first one's host gets another address in its home network."""
    ping = _direct_ping(stage)
    stage.seeds += 1
    faults.change_address(stage.a.host, "eth0", f"192.168.1.{2 + stage.seeds % 2}/24")
    return {"address_gap": _gap_after(ping)}


def upgrade(stage: Stage) -> dict[str, Sample]:
    """From relayed to direct under a ping."""
    stage.restart()
    ping = TimedPing(stage.a.host, stage.b.name, interval_s=FAST_PING_S)
    for one, other in ((stage.a, stage.b), (stage.b, stage.a)):
        wait_for_state(one, other, "direct", DIRECT_S)
    ping.wait_for_replies(SETTLED_REPLIES)
    replies = ping.stop()
    return {"upgrade_lost": lost(replies), "upgrade_overtaken": farthest_overtaken(replies)}


def tcp_throughput(count: int) -> Samples:
    """Mbit/s, direct and relayed alternating, over wires of one rate."""
    samples: Samples = {"tcp_direct": [], "tcp_relayed": []}
    for _ in range(count):
        for key, kinds in (("tcp_direct", ("port-restricted",) * 2), ("tcp_relayed", ("random",) * 2)):
            try:
                with staged((kinds[0], kinds[1]), rate_bit_s=RATE_BIT_S) as stage:
                    samples[key].append(_tcp_mbit_s(stage, key.removeprefix("tcp_")))
            except ROUND_ERRORS as error:
                print(f"  {key}: {' '.join(str(error).split())[:300]}", flush=True)
                samples[key].append(None)
            print(f"  {key}: {samples[key][-1]}", flush=True)
    return samples


def _tcp_mbit_s(stage: Stage, path: str) -> float:
    stage.restart()
    ping = TimedPing(stage.a.host, stage.b.name)
    ping.wait_for_replies(1, RELAYED_S)
    wait_for_state(stage.a, stage.b, path, DIRECT_S)
    server = stage.b.host.popen(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
    connect = ["iperf3", "-J", "-c", stage.b.name, "-t", str(TCP_S), "-O1"]

    def measured() -> str:
        answer = stage.a.host.run(connect, check=False)
        return answer.stdout if answer.returncode == 0 else ""

    output = wait_until(measured, 30, "iperf3's server answers")
    server.wait(10)
    return float(json.loads(output)["end"]["sum_received"]["bits_per_second"]) / 1e6


def _direct_ping(stage: Stage) -> TimedPing:
    if not stage.running:
        stage.restart()
    ping = TimedPing(stage.a.host, stage.b.name, interval_s=FAST_PING_S)
    for one, other in ((stage.a, stage.b), (stage.b, stage.a)):
        wait_for_state(one, other, "direct", DIRECT_S)
    ping.wait_for_replies(SETTLED_REPLIES)
    return ping


def _gap_after(ping: TimedPing) -> float:
    before = len(ping.replies())
    ping.wait_for_replies(2 * SETTLED_REPLIES, 30)
    return longest_gap_s(ping.stop()[before - 10 :])
