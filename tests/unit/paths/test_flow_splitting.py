"""When a peer's flows are worth two channels."""

from __future__ import annotations

from engine_parts import at

from wh.paths.flow_splitting import BUSY_BYTES_S, PAUSE_S, FlowSplitting


def test_only_busy_peers_have_their_flows_split() -> None:
    splitting = FlowSplitting()
    splitting.traffic(100 * BUSY_BYTES_S, at(0))
    assert not splitting.wanted(at(0)), "nobody knows how long that took"
    splitting.traffic(2 * BUSY_BYTES_S, at(2))
    assert splitting.wanted(at(2))
    splitting.traffic(2 * BUSY_BYTES_S - 1, at(4))
    assert not splitting.wanted(at(4))


def test_a_silence_is_a_reason_to_wait() -> None:
    splitting = FlowSplitting()
    splitting.traffic(0, at(0))
    splitting.traffic(BUSY_BYTES_S, at(1))
    splitting.pause(at(1))
    assert not splitting.wanted(at(1))
    assert not splitting.wanted(at(PAUSE_S))
    assert splitting.wanted(at(1 + PAUSE_S))
