"""Changes to single lines of a network file. All other lines stay as they are, byte for byte.

Text in, text out. What comes out has been parsed: an edit raises ConfigError where the file cannot be changed
like that, and for what is wrong with the file itself.
"""

from __future__ import annotations

from dataclasses import replace

from wh.config.fields import is_key, read_hostname, read_ip
from wh.config.lines import Word, split
from wh.config.model import IPAddress, Peer, PeerKind
from wh.config.parser import parse
from wh.config.writer import render_peer
from wh.errors import Code, ConfigError
from whcore.keys import encode_key


def claim_alias(text: str, alias: bytes, claimant: bytes) -> str:
    """Turn the alias's line into a `trust` line of the claimant's key, with the name and the address that the
    alias had."""
    network = parse(text)
    peer = next((peer for peer in network.peers if peer.is_alias and peer.key == alias), None)
    if peer is None:
        raise ConfigError("the alias is not in the network file any more", code=Code.UNKNOWN_PEER)
    words = [PeerKind.TRUST.value, peer.hostname, peer.ip, encode_key(claimant)]
    return _checked(_edit_line(text, peer.line, " ".join(str(word) for word in words if word is not None)))


def add_alias(
    text: str, hostname: str, alias: bytes, *, expires: int | None = None, now_unix: float = 0.0
) -> str:
    """A line for a member yet to come, at the end of the file: earlier members keep their addresses. An alias
    that has expired gives its line where it has the same name, or the subnet is full without it."""
    peer = Peer(PeerKind.ALIAS, alias, read_name(hostname), expires=expires)
    expired = [each for each in parse(text).peers if each.expires is not None and each.expires <= now_unix]
    namesake = _namesake(text, hostname)
    if namesake is not None and namesake not in expired:
        raise _taken(namesake)
    if namesake is not None:
        return _in_place_of(namesake, text, peer)
    end = "\r\n" if "\r\n" in text else "\n"
    separator = "" if not text or text.endswith("\n") else end
    try:
        return _checked(f"{text}{separator}{render_peer(peer)}{end}")
    except ConfigError as error:
        if error.code != Code.SUBNET_FULL:
            raise
    if not expired:
        raise _full(text)
    return _in_place_of(expired[0], text, peer)


def _namesake(text: str, hostname: str) -> Peer | None:
    peers = parse(text).peers
    return next((peer for peer in peers if (peer.hostname or "").lower() == hostname.lower()), None)


def _in_place_of(old: Peer, text: str, peer: Peer) -> str:
    """With the address of the old line, whether that stands there or follows from the order."""
    line = render_peer(replace(peer, ip=old.ip if old.static_ip else None, static_ip=old.static_ip))
    return _checked(_edit_line(text, old.line, line))


def _taken(peer: Peer) -> ConfigError:
    name = peer.hostname
    if not peer.is_alias:
        return ConfigError(
            f"{name} is the name of a member", code=Code.NAME_TAKEN, hint="invite by another name"
        )
    return ConfigError(
        f"{name} is invited already",
        code=Code.NAME_TAKEN,
        hint=f"if that invitation is lost, take it back and invite again: wh revoke {name}",
    )


def _full(text: str) -> ConfigError:
    network = parse(text)
    open_ones = [peer.hostname for peer in network.peers if peer.is_alias and peer.hostname]
    hint = "choose a larger subnet, on all machines"
    if open_ones:
        hint = f"take back an invitation that nobody used: wh revoke {open_ones[0]}; or {hint}"
    return ConfigError(f"{network.subnet} has no address left", code=Code.SUBNET_FULL, hint=hint)


def remove_member(text: str, key: bytes) -> str:
    """Take the `trust`, `router` or `alias` line of a key away. Members that had their address from the order
    of the lines keep it: where it would change, it is written into their line."""
    before = parse(text)
    member = next((peer for peer in before.peers if peer.trusted and peer.key == key), None)
    if member is None:
        raise ConfigError("the network file does not trust this key", code=Code.UNKNOWN_PEER)
    lines = text.split("\n")
    lines[member.line - 1] = ""  # for now: the numbers of the other lines must not change
    addresses = {peer.line: peer.ip for peer in before.peers if peer.trusted and peer is not member}
    while moved := _moved(lines, addresses):
        for line, ip in moved.items():
            lines[line - 1] = _with_address(lines[line - 1], ip)
    del lines[member.line - 1]
    return _checked("\n".join(lines))


def _moved(lines: list[str], addresses: dict[int, IPAddress | None]) -> dict[int, IPAddress]:
    """By line, the addresses that members had and now have not."""
    now = {peer.line: peer.ip for peer in parse("\n".join(lines)).peers}
    return {line: ip for line, ip in addresses.items() if ip is not None and now[line] != ip}


def read_name(word: str) -> str:
    """A host name, which is no address. Raises ConfigError."""
    if read_ip(word) is not None:
        raise ConfigError(f"{word} is an address, not a host name", code=Code.BAD_HOSTNAME)
    return read_hostname(word)


def _edit_line(text: str, number: int, content: str) -> str:
    """Put content in the place of a line's words; what stands around them stays, the comment too."""
    lines = text.split("\n")
    line = lines[number - 1]
    words = split(line)
    first, last = words[0], words[-1]
    lines[number - 1] = line[: _start(first)] + content + line[_start(last) + len(last.text) :]
    return "\n".join(lines)


def _with_address(line: str, ip: IPAddress) -> str:
    key = next(word for word in split(line) if is_key(word.text))
    return f"{line[: _start(key)]}{ip} {line[_start(key) :]}"


def _start(word: Word) -> int:
    return word.column - 1


def _checked(text: str) -> str:
    parse(text)
    return text
