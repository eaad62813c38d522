"""Writer of the network file."""

from __future__ import annotations

from wh.config.model import Network, Peer, RelayPolicy
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
        ("listen-tcp", network.listen_tcp),
        *_relay_settings(network.relay),
    ]
    lines = [f"{word} {value}" for word, value in settings if value is not None]
    if network.peers:
        lines.append("")
    lines.extend(render_peer(peer) for peer in network.peers)
    return "\n".join(lines) + "\n"


def _relay_settings(policy: RelayPolicy) -> list[tuple[str, str]]:
    return [
        ("relay", "on" if policy.offered else "off"),
        ("relay-rate", f"{_size(policy.rate)} {_size(policy.total_rate)}"),
        ("relay-quota", _size(policy.day_quota)),
    ]


def _size(size: int) -> str:
    return str(size) if size else "unlimited"


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
