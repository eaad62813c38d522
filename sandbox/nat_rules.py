"""Rulesets for nftables that make a router behave like one kind of NAT, named by RFC 4787 behaviour.

Mapping says which public address and port a local socket gets; filtering says whose packets may come back in
through it. Every ruleset is a function of the router's outer side, and ends with the same filter: what comes
in from outside belongs to a connection, IPv6 included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAPPING_LIFETIME = "300s"
"""How long the sets of the endpoint-independent kinds remember; each packet out begins it anew."""

SEQUENTIAL_PORTS = range(50_000, 50_512)
HASHED_PORTS = range(40_000, 42_000)


@dataclass(frozen=True)
class Outside:
    """The outer side of a router. addresses: IPv4, its own first, then more that are routed to it."""

    device: str
    addresses: tuple[str, ...] = ()
    seed: int = 0xBEEF
    """Of what the router derives ports from; with another one it maps as after a restart."""

    @property
    def address(self) -> str:
        """The router's own, which kinds without masquerading need. Raises ValueError where there is none."""
        if not self.addresses:
            raise ValueError(f"this NAT kind needs an IPv4 address on {self.device}")
        return self.addresses[0]


Ruleset = Callable[[Outside], str]


def plain(outside: Outside) -> str:
    """Routing only."""
    return ""


def firewall(outside: Outside) -> str:
    """No translation; address-and-port-dependent filtering, IPv4 and IPv6."""
    return _filter(outside)


def port_restricted(outside: Outside) -> str:
    """Endpoint-independent mapping that preserves the port, address-and-port-dependent filtering."""
    return _translation(outside, "masquerade") + _filter(outside)


def port_restricted_input_open(outside: Outside) -> str:
    """The same, but a packet that nobody waits for is taken by the router itself, which occupies its tuple:
    a mapping that would need it moves to another port."""
    return _translation(outside, "masquerade") + _filter(outside, unexpected="accept")


def port_restricted_hairpin(outside: Outside) -> str:
    """port_restricted, and hairpinning for mapped ports; isolated inner networks can meet only there."""
    return (
        _translation(
            outside,
            f"snat to {outside.address}",
            arriving=f'iifname != "{outside.device}" {_to_mapped(outside)}',
            more=_remember_mappings(outside) + _hairpin(outside),
        )
        + _filter(outside)
        + _isolation(outside)
    )


def endpoint_independent(outside: Outside) -> str:
    """Mapping (port-preserving) and filtering are both endpoint-independent."""
    return _open_mappings(outside) + _filter(outside, "meta l4proto udp ct status dnat accept")


def address_restricted(outside: Outside) -> str:
    """Endpoint-independent mapping that preserves the port, address-dependent filtering."""
    return _open_mappings(outside) + _filter(
        outside,
        f'iifname != "{outside.device}" meta l4proto udp update @seen'
        f" {{ ip saddr . udp sport . ip daddr timeout {MAPPING_LIFETIME} }}",
        f'iifname "{outside.device}" meta l4proto udp ip daddr . udp dport . ip saddr @seen accept',
        sets="set seen { type ipv4_addr . inet_service . ipv4_addr; flags dynamic,timeout;"
        f" timeout {MAPPING_LIFETIME}; size 65536; }}",
    )


def port_translating(outside: Outside) -> str:
    """Endpoint-independent mapping to another port, address-and-port-dependent filtering."""
    return _translation(outside, _hashed(outside, "ip saddr . udp sport")) + _filter(outside)


def address_dependent(outside: Outside) -> str:
    """Address-dependent mapping to another port, address-and-port-dependent filtering."""
    return _translation(outside, _hashed(outside, "ip saddr . udp sport . ip daddr")) + _filter(outside)


def sequential(outside: Outside) -> str:
    """Address-and-port-dependent mapping and filtering; each new mapping gets the next port."""
    next_port = f"numgen inc mod {len(SEQUENTIAL_PORTS)} {_numbered(SEQUENTIAL_PORTS)}"
    return _translation(outside, f"snat ip to {outside.address}:{next_port}") + _filter(outside)


def random(outside: Outside) -> str:
    """Address-and-port-dependent mapping and filtering; each new mapping gets a random port."""
    return _translation(outside, "masquerade fully-random") + _filter(outside)


def random_pool(outside: Outside) -> str:
    """random(), where each mapping also has a random one of several addresses (arbitrary pooling)."""
    pool = ", ".join(f"{n} : {address}" for n, address in enumerate(outside.addresses))
    one_of_them = f"numgen random mod {len(outside.addresses)} map {{ {pool} }}"
    return _translation(outside, f"snat ip to {one_of_them} fully-random") + _filter(outside)


def udp_blocked(outside: Outside) -> str:
    """port_restricted without UDP, IPv6 included."""
    return _translation(outside, "masquerade") + _filter(outside, "meta l4proto udp drop")


def random_with_port_mapping(outside: Outside) -> str:
    """random(), and the chains in which miniupnpd keeps what its clients asked for."""
    return f"""
table inet filter {{
  chain miniupnpd {{ }}
  chain prerouting_miniupnpd {{ }}
  chain postrouting_miniupnpd {{ }}
  chain prerouting {{ type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    jump postrouting_miniupnpd
    meta nfproto ipv4 oifname "{outside.device}" masquerade fully-random
  }}
}}
""" + _filter(outside, "jump miniupnpd")


def _translation(outside: Outside, udp: str, *, arriving: str = "", more: str = "") -> str:
    """Source NAT on the way out. udp: the statement for UDP; all else is masqueraded.
    arriving: a rule at prerouting. more: sets and chains beside."""
    return f"""
table ip nat {{
  {more}
  chain prerouting {{ type nat hook prerouting priority dstnat; {arriving}; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname "{outside.device}" meta l4proto udp {udp}
    oifname "{outside.device}" masquerade
  }}
}}
"""


def _filter(outside: Outside, *exceptions: str, sets: str = "", unexpected: str = "drop") -> str:
    """exceptions: rules that decide first. unexpected: what becomes of new packets to the router itself.

    Dropping those matters: else a packet that comes before ours has gone out takes the tuple, our mapping
    moves to another port, and both ends wait for ever. IPv6 needs its neighbour discovery all the same.
    """
    rules = "\n    ".join(exceptions)
    return f"""
table inet filter {{
  {sets}
  chain forward {{
    type filter hook forward priority filter;
    {rules}
    iifname "{outside.device}" ct state established,related accept
    iifname "{outside.device}" drop
  }}
  chain input {{
    type filter hook input priority filter;
    meta l4proto ipv6-icmp accept
    iifname "{outside.device}" ct state new {unexpected}
  }}
}}
"""


def _open_mappings(outside: Outside) -> str:
    """Whoever sends to a mapped port reaches the socket behind it, as far as the filter lets him."""
    return _translation(
        outside,
        f"snat to {outside.address}",
        arriving=f'iifname "{outside.device}" {_to_mapped(outside)}',
        more=_remember_mappings(outside),
    )


def _to_mapped(outside: Outside) -> str:
    return f"ip daddr {outside.address} meta l4proto udp dnat ip to udp dport map @mapped"


def _remember_mappings(outside: Outside) -> str:
    """From each packet, before the translation, which keeps the port. A NAT chain sees only the first."""
    return rf"""
  map mapped {{
    type inet_service : ipv4_addr . inet_service; flags dynamic,timeout;
    timeout {MAPPING_LIFETIME}; size 65536;
  }}
  chain remember {{
    type filter hook forward priority filter;
    iifname != "{outside.device}" oifname "{outside.device}" meta l4proto udp update @mapped \
      {{ udp sport timeout {MAPPING_LIFETIME} : ip saddr . udp sport }}
  }}
"""


def _hairpin(outside: Outside) -> str:
    """What comes back in has the outer address as its source (RFC 4787 REQ-9)."""
    return f"""
  chain hairpin {{
    type nat hook postrouting priority srcnat - 1;
    oifname != "{outside.device}" ct status dnat meta l4proto udp snat to {outside.address}
  }}
"""


def _isolation(outside: Outside) -> str:
    """Inner networks reach each other through the outer address or not at all."""
    return f"""
table inet isolation {{
  chain forward {{
    type filter hook forward priority filter + 1;
    iifname != "{outside.device}" oifname != "{outside.device}" ct status dnat accept
    iifname != "{outside.device}" oifname != "{outside.device}" drop
  }}
}}
"""


def _hashed(outside: Outside, of: str) -> str:
    port = f"jhash {of} mod {len(HASHED_PORTS)} seed {outside.seed:#x} {_numbered(HASHED_PORTS)}"
    return f"snat ip to {outside.address}:{port}"


def _numbered(ports: range) -> str:
    """A map from 0, 1, ... to the ports. An offset does not do: such a number is in host byte order."""
    pairs = ", ".join(f"{n} : {port}" for n, port in enumerate(ports))
    return f"map {{ {pairs} }}"


NAT_RULESETS: dict[str, Ruleset] = {
    "none": plain,
    "firewall": firewall,
    "endpoint-independent": endpoint_independent,
    "address-restricted": address_restricted,
    "port-restricted": port_restricted,
    "port-restricted-input-open": port_restricted_input_open,
    "port-restricted-hairpin": port_restricted_hairpin,
    "port-translating": port_translating,
    "address-dependent": address_dependent,
    "sequential": sequential,
    "random": random,
    "random-pool": random_pool,
    "udp-blocked": udp_blocked,
    "random-port-mapping": random_with_port_mapping,
}
"""NAT kind -> ruleset for `nft -f -`."""


def ruleset(kind: str, device: str, addresses: Sequence[str], seed: int = Outside.seed) -> str:
    """For `nft -f -`, in place of whatever the router had. Raises ValueError for an unknown kind."""
    if kind not in NAT_RULESETS:
        raise ValueError(f"no NAT kind {kind!r}; there are {', '.join(NAT_RULESETS)}")
    return "flush ruleset\n" + NAT_RULESETS[kind](Outside(device, tuple(addresses), seed))
