"""Writer of the network file."""

from __future__ import annotations

from wh.config.model import Network, Peer
from whcore.keys import encode_key


def render(network: Network) -> str:
    """The text of a network file that parses to an equal network.

    Every setting is written out, also where it has its default value; addresses that the parser assigned
    are not. Peers keep their order, since the addresses without a static_ip follow from it.
    """
    settings = [
        ("name", network.name),
        ("namespace", network.namespace),
        ("workbit", network.workbit),
        ("subnet", network.subnet),
        ("secret", network.secret),
    ]
    lines = [f"{word} {value}" for word, value in settings if value is not None]
    if network.peers:
        lines.append("")
    lines.extend(render_peer(peer) for peer in network.peers)
    return "\n".join(lines) + "\n"


def render_peer(peer: Peer) -> str:
    """One peer line, without line end."""
    words = [
        peer.kind.value,
        peer.hostname,
        peer.ip if peer.static_ip else None,
        encode_key(peer.key),
        peer.endpoint,
        None if peer.at is None else f"at {encode_key(peer.at)}",
        None if peer.expires is None else f"expires {peer.expires}",
    ]
    return " ".join(str(word) for word in words if word is not None)
