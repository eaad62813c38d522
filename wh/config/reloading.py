"""What of a network file a running daemon cannot change."""

from __future__ import annotations

from wh.config.model import Network
from wh.errors import Code, ConfigError

FIXED_SETTINGS = ("name", "namespace", "workbit", "secret", "listen_tcp")
"""What keys, sessions and sockets were made from."""


def needs_interface(network: Network) -> bool:
    """Whether there is an overlay to be on. Without one, a node only serves the DHT, and needs no
    privilege."""
    return network.subnet is not None or any(peer.trusted for peer in network.peers)


def require_reloadable(before: Network, after: Network) -> None:
    """Raises ConfigError for a network that only a new start can go over to."""
    changed = [
        name.replace("_", "-") for name in FIXED_SETTINGS if getattr(before, name) != getattr(after, name)
    ]
    if needs_interface(before) != needs_interface(after):
        changed.append("whether there is an overlay")
    if changed:
        raise ConfigError(
            f"a reload cannot change {', '.join(changed)}",
            code=Code.RESTART_NEEDED,
            hint="stop and start: wh down, then wh up",
            place=after.path,
        )
