"""Rulesets for nftables that make a router behave like one kind of NAT, named by RFC 4787 behaviour.

Mapping says which public port a local socket gets; filtering says whose packets may come back in through it.
"""

from __future__ import annotations

from collections.abc import Callable


def _plain(wan: str) -> str:
    """Routing only."""
    return ""


def _port_restricted(wan: str) -> str:
    """Endpoint-independent mapping that preserves the port, address-and-port-dependent filtering.

    The input chain matters: without it a packet that comes before ours has gone out takes the tuple, our
    mapping moves to another port, and both ends wait for ever.
    """
    return f"""
table ip nat {{
  chain prerouting {{ type nat hook prerouting priority dstnat; }}
  chain postrouting {{ type nat hook postrouting priority srcnat; oifname "{wan}" masquerade; }}
}}
table inet filter {{
  chain forward {{
    type filter hook forward priority filter;
    iifname "{wan}" ct state established,related accept
    iifname "{wan}" drop
  }}
  chain input {{ type filter hook input priority filter; iifname "{wan}" ct state new drop; }}
}}
"""


NAT_RULESETS: dict[str, Callable[[str], str]] = {
    "none": _plain,
    "port-restricted": _port_restricted,
}
"""NAT kind -> function from the name of the outer device to a ruleset for `nft -f -`."""
