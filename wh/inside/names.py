"""What members' names lead to, by the word of their daemon (wh.naming.table says it for the hosts file)."""

from __future__ import annotations

from wh.ipc.schema import PeerInfo


def addresses_of(peer: PeerInfo) -> list[str]:
    """No IPv6 where its host takes none, unless there is nothing else."""
    found = [text for text in (peer.address, peer.orchid) if text]
    ipv4 = [text for text in found if ":" not in text]
    return ipv4 if peer.without_ipv6 and ipv4 else found
