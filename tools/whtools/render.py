"""What `wh show` prints. Plain text in the original's look; no import that costs start-up time."""

from __future__ import annotations

from collections.abc import Iterator

from wh.ipc.schema import Contact, DhtInfo, PeerInfo, Privileges, Relayed, RelayInfo, Status
from whtools.terminal import BLUE, BOLD, DIM, GREEN, YELLOW, counted, paint, printable

KEY_PREFIX_LEN = 10
"""Characters of a key that stand for it in lists, as in the original."""
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
UNIT_STEP = 1024
LOOKS = {
    "direct": ("●", GREEN),
    "relayed": ("○", YELLOW),
    "punching": ("◒", BLUE),
    "validating": ("◒", BLUE),
    "suspect": ("◒", YELLOW),
    "idle": (" ", DIM),
}
"""Sign and colour of a path's state."""
ALIAS_LOOK = ("◌", DIM)
CONTACT_SIGNS = {"live": "●", "bootstrap": "●", "questionable": "◒", "replacement": "○"}
REACHABILITY_LABELS = {
    "nat": " <NAT>",
    "direct": " <DIRECT>",
    "untranslated": " <no NAT>",
    "blocked": " <UDP blocked>",
    "unknown": "",
}


class Renderer:
    """colour: with ANSI sequences. everything: `wh show ... all`."""

    def __init__(self, *, colour: bool, now_unix: float, everything: bool) -> None:
        self._colour = colour
        self._now_unix = now_unix
        self._everything = everything

    def render(self, status: Status) -> str:
        """One interface, without a final newline."""
        return "\n".join(self._lines(status))

    def _lines(self, status: Status) -> Iterator[str]:
        yield self._title(status)
        yield f"  public key: {printable(status.public_key)}"
        if status.address:
            yield f"  address: {printable(status.address)}"
        if not status.has_interface:
            yield f"  helps others to find each other: {_holdings(status.dht, 'other public node')}"
        if status.key_doubled:
            yield "  another running node has this node's key, and each gets a part of the packets: give each"
            yield "  a key of its own (wh genkey), and a trust line in the network file on all machines"
        for name, why in status.unresolved.items():
            yield f"  cannot resolve {printable(name)}: {printable(why)}"
        if self._everything:
            yield from self._details(status)
        yield from self._warnings(status)
        yield from self._peers(status)
        if self._everything and status.dht.contacts:
            yield ""
            yield self._bold("  dht")
            yield from map(
                self._contact, sorted(status.dht.contacts, key=lambda one: (-one.bucket, one.public_key))
            )
        advice = self._advice(status)
        if advice:
            yield ""
            yield f"  {advice}"

    def _title(self, status: Status) -> str:
        network = f", network {self._bold(status.network)}" if status.network else ""
        label = REACHABILITY_LABELS[status.reachability]
        if not status.has_interface:
            return f"public node {self._bold(status.interface)}{network}{label}"
        hostname = f" {self._bold(status.hostname)}" if status.hostname else ""
        return f"interface {self._bold(status.interface)}{network}, node{hostname}{label}"

    def _details(self, status: Status) -> Iterator[str]:
        yield f"  orchid: {printable(status.orchid)}"
        tcp = f" and TCP {status.listen_tcp}" if status.listen_tcp is not None else ""
        yield f"  listen port: {status.listen_port}{tcp}, namespace: {printable(status.namespace)}"
        if status.nat:
            yield f"  nat: {printable(status.nat)}"
        if status.tcp_links:
            yield f"  over TCP to: {', '.join(map(printable, status.tcp_links))}"
        if status.candidates:
            yield f"  reachable at: {', '.join(map(printable, status.candidates))}"
        if status.relays:
            yield f"  relays: {', '.join(map(_relay, status.relays))}"
        if status.relayed.offered:
            yield f"  relays for others: {_relayed(status.relayed)}"
        size = status.dht.size_estimate
        about = f", about {size} in the network" if size is not None else ""
        yield f"  dht: {_holdings(status.dht, 'public node')}{about}"
        if status.privileges is not None:
            yield f"  runs as {_privileges(status.privileges)}"
        yield f"  up for {duration(self._now_unix - status.started_unix)}, pid {status.pid}, {status.version}"

    def _warnings(self, status: Status) -> Iterator[str]:
        if status.has_interface and status.device not in ("", status.interface):
            yield f"  renamed to {printable(status.device)}"
        for warning in status.warnings:
            label = paint("warning", YELLOW, self._colour)
            yield f"  {label}: {printable(warning.message)} [{printable(warning.code)}]"
            if warning.hint:
                yield f"    {printable(warning.hint)}"

    def _peers(self, status: Status) -> Iterator[str]:
        peers = [peer for peer in status.peers if self._everything or is_member(peer)]
        if not peers:
            return
        yield ""
        yield self._bold("  peers")
        yield from map(self._peer, sorted(peers, key=by_name))

    def _peer(self, peer: PeerInfo) -> str:
        sign, shade = ALIAS_LOOK if peer.alias else LOOKS[peer.state]
        name = paint(display_name(peer), shade if peer.state == "idle" else BOLD, self._colour)
        facts = ", ".join(self._facts(peer))
        return f"  {paint(sign, shade, self._colour)}  {name}{': ' + facts if facts else ''}"

    def _facts(self, peer: PeerInfo) -> Iterator[str]:
        if peer.address:
            yield printable(peer.address)
        if peer.expires_unix is not None:
            left_s = peer.expires_unix - self._now_unix
            yield f"open for {duration(left_s)}" if left_s > 0 else "expired"
        if peer.relay:
            yield f"relayed by {printable(peer.relay[:KEY_PREFIX_LEN])} at {printable(peer.endpoint or '')}"
        elif peer.endpoint:
            yield f"at {printable(peer.endpoint)}"
        if peer.state not in ("direct", "idle", "relayed"):
            yield peer.state
        if peer.key_doubled:
            yield "two running nodes have its key"
        if peer.without_ipv6:
            yield "no IPv6 there"
        if peer.why_relayed:
            yield f"not direct: {printable(peer.why_relayed)}"
        if peer.rtt_ms is not None:
            yield f"rtt {peer.rtt_ms:.1f} ms"
        if self._everything and peer.check_words:
            yield f"check words {' '.join(map(printable, peer.check_words))}"
        if self._everything and peer.mtu:
            yield f"path MTU {peer.mtu}"
        if peer.last_handshake_unix is not None:
            yield f"handshake {duration(self._now_unix - peer.last_handshake_unix)} ago"
        if peer.received_bytes or peer.sent_bytes:
            yield f"{size_text(peer.received_bytes)} received, {size_text(peer.sent_bytes)} sent"

    def _contact(self, contact: Contact) -> str:
        rtt = f", rtt {contact.rtt_ms:.1f} ms" if contact.rtt_ms is not None else ""
        bootstrap = ", bootstrap" if contact.state == "bootstrap" else ""
        key = printable(contact.public_key[:KEY_PREFIX_LEN])
        address = printable(contact.address)
        return f"  {CONTACT_SIGNS[contact.state]}  {key}: {address} (bucket:{contact.bucket}){rtt}{bootstrap}"

    def _advice(self, status: Status) -> str | None:
        """What to do where nothing works yet."""
        interface = printable(status.interface)
        if not status.has_interface and status.reachability == "nat":
            return (
                f"others cannot use it behind a NAT: forward UDP port {status.listen_port} to it, and add to "
                "wh up: mode direct"
            )
        if status.has_interface and status.address is None:
            return (
                "this node is no member: its key is on no trust line of the network file. Start it with the "
                "right one (private-key FILE), or have this one added to the file on all machines"
            )
        if status.has_interface and not status.peers:
            return f"no peer is listed: add trust lines to the network file, then run: wh reload {interface}"
        if status.peers and not status.dht.servers and all(peer.state == "idle" for peer in status.peers):
            return (
                f"no peer was found yet: check that UDP port {status.listen_port} is not blocked, and the "
                "addresses of the boot lines in the network file"
            )
        return None

    def _bold(self, text: str) -> str:
        return paint(printable(text), BOLD, self._colour)


def _holdings(dht: DhtInfo, contact: str) -> str:
    return f"{counted(dht.servers, contact)} known, {counted(dht.stored_records, 'record')} stored"


def _relay(relay: RelayInfo) -> str:
    rtt = f" (rtt {relay.rtt_ms:.0f} ms)" if relay.rtt_ms is not None else ""
    return f"{printable(relay.public_key[:KEY_PREFIX_LEN])} at {printable(relay.address)}{rtt}"


def _privileges(kept: Privileges) -> str:
    user = printable(kept.user)
    if kept.why_root:
        user += f" ({printable(kept.why_root)})"
    capabilities = " and ".join(map(printable, kept.capabilities))
    held = f"{capabilities} only" if capabilities else "no capability"
    return f"{user}, {held}; sandbox: {', '.join(map(printable, kept.sandbox)) or 'none'}"


def _relayed(relayed: Relayed) -> str:
    return f"{counted(relayed.reservations, 'reservation')}, {counted(relayed.channels, 'channel')}"


def is_member(peer: PeerInfo) -> bool:
    """Whether the light view has it: trusted in the network file."""
    return peer.kind in ("trust", "router", "alias")


def by_name(peer: PeerInfo) -> tuple[bool, str]:
    """Named peers first, by name; then the others, and aliases, by key."""
    named = bool(peer.hostname) and not peer.alias
    return (not named, peer.hostname or "" if named else peer.public_key)


def display_name(peer: PeerInfo) -> str:
    return printable(peer.hostname or peer.public_key[:KEY_PREFIX_LEN])


def size_text(size: float) -> str:
    """Bytes in the largest unit that keeps the number at 1 or more."""
    for unit in BYTE_UNITS[:-1]:
        if size < UNIT_STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= UNIT_STEP
    return f"{size:.1f} {BYTE_UNITS[-1]}"


def duration(seconds: float) -> str:
    """The two largest units: `3 h 12 min`."""
    rest = max(0, int(seconds))
    parts = []
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
