"""Relay forwarding of the data plane: what one relay passes on between two hosts."""

from __future__ import annotations

from whcore.datapath import Datapath


def missing_requirements() -> str | None:
    """Why it cannot be measured with this build, or None."""
    if not hasattr(Datapath, "add_channel"):
        return "relay forwarding: this build's Datapath cannot forward"
    return None
