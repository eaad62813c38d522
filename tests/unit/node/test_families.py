"""Which members take no IPv6 inside: by their own last word, and of members alone."""

from __future__ import annotations

from wh.node.families import WithoutIpv6
from wh.wire.messages import Capability

MEMBER, STRANGER = bytes([9]) + bytes(31), bytes([7]) + bytes(31)


def test_the_last_word_counts_and_strangers_have_none():
    members = {MEMBER}
    without = WithoutIpv6(lambda key: key in members)
    without.hear(MEMBER, Capability.SERVER | Capability.IPV4_INSIDE)
    without.hear(STRANGER, Capability.IPV4_INSIDE)
    assert without.members == {MEMBER}
    without.hear(MEMBER, Capability.SERVER)
    assert without.members == frozenset()
    without.hear(MEMBER, Capability.IPV4_INSIDE)
    members.clear()
    assert without.members == frozenset()
