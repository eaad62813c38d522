"""What members' names lead to."""

from __future__ import annotations

import pytest

from wh.inside.names import addresses_of
from wh.ipc.schema import PeerInfo

V4, ULA, ORCHID = "10.0.42.2", "fd00::2", "2001:20::1"


@pytest.mark.parametrize(
    ("address", "without_ipv6", "found"),
    [
        (V4, False, [V4, ORCHID]),
        (V4, True, [V4]),
        (ULA, True, [ULA, ORCHID]),
        (None, True, [ORCHID]),
    ],
)
def test_ipv6_is_left_out_where_there_is_ipv4(
    address: str | None, without_ipv6: bool, found: list[str]
) -> None:
    peer = PeerInfo("key", "b", "trust", address, ORCHID, "direct", without_ipv6=without_ipv6)
    assert addresses_of(peer) == found
