"""What `wh netcheck` prints."""

from __future__ import annotations

from collections.abc import Iterator

from wh.ipc.schema import FamilyCheck, MappingCheck, NearRelay, NetCheck, PeerCheck
from whtools.render import KEY_PREFIX_LEN, LOOKS, duration
from whtools.terminal import BOLD, GREEN, RED, YELLOW, paint, printable

RELAYS_SHOWN = 5
UDP_TEXTS = {
    "works": ("works", GREEN),
    "blocked": ("blocked: no server answers", RED),
    "unknown": ("not known: no server has answered yet", YELLOW),
}
MAPPING_TEXTS = {
    "none": "none: no NAT",
    "endpoint-independent": "endpoint-independent: the same port for every peer",
    "sequential": "endpoint-dependent, sequential: the next port for another peer",
    "random": "endpoint-dependent: another port for every peer",
    "unknown": "not known: fewer than three servers answered",
}
FILTERING_TEXTS = {
    "endpoint-independent": "endpoint-independent: anybody can reach this node",
    "address-dependent": "address-dependent: only who this node wrote to can reach it",
    "address-and-port-dependent": "address- and port-dependent: only who this node wrote to can reach it",
    "unknown": "not known",
}


class NetworkReport:
    """colour: with ANSI sequences."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def render(self, check: NetCheck) -> str:
        """One interface, without a final newline."""
        return "\n".join(self._lines(check))

    def _lines(self, check: NetCheck) -> Iterator[str]:
        node = f", node {self._bold(check.hostname)}" if check.hostname else ""
        yield f"interface {self._bold(check.interface)}{node}"
        text, shade = UDP_TEXTS[check.udp]
        yield f"  UDP: {paint(text, shade, self._colour)}"
        for family in check.families:
            yield from _family(family)
        if check.hairpinning is not None:
            yield f"  hairpinning: {'yes' if check.hairpinning else 'no'}"
        yield from self._section("port mapping", _port_mapping(check))
        yield from self._section("relays", _relays(check.relays))
        if check.peers:
            yield from self._section("peers", map(self._peer, check.peers))
        if check.udp == "blocked":
            yield ""
            yield f"  {_advice(check)}"

    def _section(self, title: str, lines: Iterator[str]) -> Iterator[str]:
        yield ""
        yield self._bold(f"  {title}")
        yield from lines

    def _peer(self, peer: PeerCheck) -> str:
        sign, shade = LOOKS[peer.state]
        name = self._bold(peer.hostname or peer.public_key[:KEY_PREFIX_LEN])
        state = peer.state if peer.state != "idle" else "no path"
        relay = f" by {printable(peer.relay[:KEY_PREFIX_LEN])}" if peer.relay else ""
        why = f", not direct: {printable(peer.why_relayed)}" if peer.why_relayed else ""
        return f"  {paint(sign, shade, self._colour)}  {name}: {state}{relay}{why}"

    def _bold(self, text: str) -> str:
        return paint(printable(text), BOLD, self._colour)


def _family(family: FamilyCheck) -> Iterator[str]:
    if not family.seen_as:
        own = ", ".join(map(printable, family.own))
        yield f"  IPv{family.version}: {f'no server has seen it; here: {own}' if own else 'none'}"
        return
    pool = ", one of several" if family.pool else ""
    yield f"  IPv{family.version}: seen as {', '.join(map(printable, family.seen_as))}{pool}"
    yield f"    mapping: {MAPPING_TEXTS[family.mapping]}"
    yield f"    filtering: {FILTERING_TEXTS[family.filtering]}"


def _port_mapping(check: NetCheck) -> Iterator[str]:
    asked = [each for each in check.port_mappings if each.state != "absent"]
    yield from map(_mapping, asked)
    absent = list(dict.fromkeys(each.protocol for each in check.port_mappings if each.state == "absent"))
    if not check.gateways:
        yield "     no gateway was asked"
    elif check.searching and not asked:
        yield "     gateways are being asked"
    elif absent and not asked:
        yield f"     {' and '.join(map(printable, check.gateways))}: no answer by {', '.join(absent)}"


def _mapping(mapping: MappingCheck) -> str:
    way = f"{mapping.protocol} at {printable(mapping.gateway)}"
    if mapping.state == "refuses":
        return f"     {way}: refuses: {printable(mapping.trouble)}"
    external = printable(mapping.external or "")
    if mapping.state == "there":
        return f"     {way}: there, not needed; it says that it is {external}"
    does = "maps" if mapping.version == 4 else "lets in"
    lease = "without end" if mapping.lease_s is None else f"for {duration(mapping.lease_s)}"
    verdict = "reached from outside" if mapping.verified else "not reached from outside so far"
    if mapping.transport == "tcp":
        verdict = "not tried from outside"
    return f"     {way}: {does} {external} ({(mapping.transport or '').upper()}), {lease}, {verdict}"


def _relays(relays: list[NearRelay]) -> Iterator[str]:
    for relay in relays[:RELAYS_SHOWN]:
        rtt = f"{relay.rtt_ms:.1f} ms" if relay.rtt_ms is not None else "not measured"
        reserved = ", holds a place for this node" if relay.reserved else ""
        key, address = printable(relay.public_key[:KEY_PREFIX_LEN]), printable(relay.address)
        yield f"     {key}: {address}, {rtt}{reserved}"
    if not relays:
        yield "     none is known"


def _advice(check: NetCheck) -> str:
    return (
        "let UDP out, and its answers in; and check the addresses of the boot lines in the network file "
        f"(this node's port is {check.listen_port})"
    )
