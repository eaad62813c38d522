"""The lines of peers in a network file: one by one, and what they may not say together.

A key may stand once in a `boot` or `peer` line and once in a `trust` or `router` line: a member can serve as
bootstrap node too, and Network.peers keeps both lines. An alias's key stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from wh.config import fields
from wh.config.lines import Line, Word
from wh.config.model import (
    DEFAULT_PORT,
    HOSTNAME,
    TRUSTED_KINDS,
    Endpoint,
    IPAddress,
    IPNetwork,
    Peer,
    PeerKind,
)
from wh.errors import Code, ConfigError

FIRST_HOST_INDEX = 2  # the original leaves the first address of a subnet free


@dataclass(slots=True)
class _Draft:
    """What the words of a line said so far."""

    kind: PeerKind
    hostname: str | None = None
    ip: IPAddress | None = None
    key: bytes | None = None
    endpoint: Endpoint | None = None


class PeerLines:
    """What they said so far. Methods raise the ConfigError of their line, with its place."""

    def __init__(self) -> None:
        self._peers: list[Peer] = []
        self._alias_nodes: list[tuple[Line, Word]] = []  # line and word of each `at`
        self._hostname_line: dict[str, int] = {}  # lower case: the resolver does not tell them apart
        self._ip_line: dict[IPAddress, int] = {}
        self._key_line: dict[tuple[bytes, str], int] = {}

    def read(self, line: Line, command: Word, arguments: list[Word], subnet: IPNetwork | None) -> None:
        """subnet: None where its line is wrong, and has its own error."""
        draft = _Draft(PeerKind(command.text))
        at: Word | None = None
        expires: int | None = None
        if draft.kind is PeerKind.ALIAS:
            arguments, at, expires = _read_alias_clauses(line, arguments)
        for word in arguments:
            self._read_word(line, draft, word, subnet)
        if draft.key is None:
            raise _missing_key(line, command, arguments)
        if draft.kind is PeerKind.BOOT and draft.endpoint is None:
            message, hint = "bootstrap node must have an endpoint set", "add HOST or HOST:PORT after the key"
            raise line.error(command, message, Code.BAD_ENDPOINT, hint)
        if at is not None:
            self._alias_nodes.append((line, at))
        static = draft.ip is not None
        self._peers.append(
            Peer(
                draft.kind,
                draft.key,
                draft.hostname,
                draft.ip,
                static,
                draft.endpoint,
                line.number,
                expires=expires,
            )
        )

    def finish(self, end: Line, subnet: IPNetwork | None) -> tuple[Peer, ...]:
        """All of them; every alias has its node now, every trusted peer an address. end: the last line."""
        self._bind_alias_nodes()
        return tuple(self._assign_ips(end, subnet))

    def _read_word(self, line: Line, draft: _Draft, word: Word, subnet: IPNetwork | None) -> None:
        """In front of the key a name and an address, behind it an endpoint and its TCP port."""
        key = line.read(word, fields.read_key)
        if key is not None:
            if draft.key is not None:
                raise line.error(word, "public key already set", Code.EXTRA_WORD)
            draft.key = self._claim_key(line, draft.kind, word, key)
        elif draft.key is None:
            if (ip := fields.read_ip(word.text)) is not None:
                draft.ip = self._claim_ip(line, draft, word, ip, subnet)
            else:
                draft.hostname = self._claim_hostname(line, word, earlier=draft.hostname)
        elif draft.endpoint is None:
            draft.endpoint = _read_endpoint(line, draft, word)
        else:
            draft.endpoint = _read_tcp_port(line, word, draft.endpoint)

    def _claim_key(self, line: Line, kind: PeerKind, word: Word, key: bytes) -> bytes:
        role = _KEY_ROLE[kind]
        for rival in _KEY_RIVALS[role]:
            if (earlier := self._key_line.get((key, rival))) is not None:
                raise line.error(word, f"public key was already set at line {earlier}", Code.BAD_PEER_KEY)
        self._key_line[key, role] = line.number
        return key

    def _claim_ip(
        self, line: Line, draft: _Draft, word: Word, ip: IPAddress, subnet: IPNetwork | None
    ) -> IPAddress:
        if draft.kind not in TRUSTED_KINDS:
            raise line.error(
                word,
                "non-trusted peer cannot have a static ip",
                Code.BAD_PRIVATE_IP,
                "remove it, or begin the line with trust",
            )
        if draft.ip is not None:
            raise line.error(word, "private ip is already set", Code.BAD_PRIVATE_IP)
        if subnet is not None:
            line.read(word, lambda _: fields.check_host_of(ip, subnet))
        first = self._ip_line.setdefault(ip, line.number)
        if first != line.number:
            raise line.error(word, f"private ip was already set at line {first}", Code.BAD_PRIVATE_IP)
        return ip

    def _claim_hostname(self, line: Line, word: Word, *, earlier: str | None) -> str:
        if earlier is not None:
            line.read(word, _read_second_hostname)
        hostname = line.read(word, fields.read_hostname)
        first = self._hostname_line.setdefault(hostname.lower(), line.number)
        if first != line.number:
            raise line.error(word, f"hostname was already set at line {first}", Code.BAD_HOSTNAME)
        return hostname

    def _bind_alias_nodes(self) -> None:
        """Find the nodes that `at` named, once all lines are read."""
        nodes = [peer for peer in self._peers if not peer.is_alias]
        by_name = {peer.hostname.lower(): peer.key for peer in nodes if peer.hostname is not None}
        keys = {peer.key for peer in nodes}
        index_of = {peer.line: index for index, peer in enumerate(self._peers)}
        for line, word in self._alias_nodes:
            node = line.read(word, fields.read_key) or by_name.get(word.text.lower())
            if node not in keys:
                raise line.error(
                    word,
                    f"no node is called {fields.shown(word.text)}",
                    Code.BAD_ALIAS,
                    "at names a node of this file, by its host name or its key",
                )
            index = index_of[line.number]
            self._peers[index] = replace(self._peers[index], at=node)

    def _assign_ips(self, end: Line, subnet: IPNetwork | None) -> Iterator[Peer]:
        """Give trusted peers without static address the free ones of the subnet, in the order of the file."""
        free = self._free_ips(subnet)
        for peer in self._peers:
            if not peer.trusted or peer.ip is not None or subnet is None:
                yield peer
                continue
            ip = next(free, None)
            if ip is None:
                raise end.error(
                    Word("", 1),
                    "too many trusted nodes",
                    Code.SUBNET_FULL,
                    f"{subnet} has no address left for line {peer.line}; choose a larger subnet",
                )
            yield replace(peer, ip=ip)

    def _free_ips(self, subnet: IPNetwork | None) -> Iterator[IPAddress]:
        if subnet is None:
            return
        last = subnet.num_addresses - (2 if subnet.version == 4 else 1)
        for index in range(FIRST_HOST_INDEX, last + 1):
            ip = subnet.network_address + index
            if ip not in self._ip_line:
                yield ip


def _read_tcp_port(line: Line, word: Word, endpoint: Endpoint) -> Endpoint:
    port = line.read(word, fields.read_tcp_port)
    if port is None:
        raise line.error(word, f"invalid {fields.shown(word.text)}", Code.EXTRA_WORD, _PEER_USAGE)
    if endpoint.tcp_port is not None:
        raise line.error(word, "TCP port is already set", Code.BAD_ENDPOINT)
    return replace(endpoint, tcp_port=port)


def _read_alias_clauses(line: Line, arguments: list[Word]) -> tuple[list[Word], Word | None, int | None]:
    """Split off what stands behind an alias's key: `at NODE` and `expires WHEN`. The node may have its
    line further down."""
    words, clauses = _split_at_clauses(arguments)
    at: Word | None = None
    expires: int | None = None
    while clauses:
        clause, *clauses = clauses
        if clause.text not in _ALIAS_CLAUSES:
            raise line.error(clause, f"invalid {fields.shown(clause.text)}", Code.EXTRA_WORD, _ALIAS_USAGE)
        if not clauses:
            raise line.error(clause, f"{clause.text} has no value", Code.BAD_ALIAS, _ALIAS_USAGE)
        value, *clauses = clauses
        if (at if clause.text == "at" else expires) is not None:
            raise line.error(clause, f"{clause.text} is already set", Code.BAD_ALIAS)
        if clause.text == "at":
            at = value
        else:
            expires = line.read(value, fields.read_expiry)
    return words, at, expires


def _split_at_clauses(words: list[Word]) -> tuple[list[Word], list[Word]]:
    """Before and from the first clause. Clauses follow the key: in front of it, their words are names."""
    for index, word in enumerate(words):
        if word.text in _ALIAS_CLAUSES and any(fields.is_key(earlier.text) for earlier in words[:index]):
            return words[:index], words[index:]
    return words, []


def _missing_key(line: Line, command: Word, arguments: list[Word]) -> ConfigError:
    for word in arguments:
        if (broken := fields.broken_key(word.text)) is not None:
            return line.error(word, str(broken), Code.NO_PEER_KEY, broken.hint)
    return line.error(command, "public key is not set", Code.NO_PEER_KEY, _PEER_USAGE)


def _read_second_hostname(word: str) -> NoReturn:
    """It was probably meant as something else, of which we can say what is wrong."""
    if (broken := fields.broken_key(word)) is not None:
        raise broken
    fields.read_hostname(word)
    raise ConfigError(
        f"a second host name before the key, {fields.shown(word)}", code=Code.BAD_HOSTNAME, hint=_PEER_USAGE
    )


def _read_endpoint(line: Line, draft: _Draft, word: Word) -> Endpoint:
    """A bare name behind the key of a member that has none is its name: an endpoint of one word without a
    port would be another host's."""
    if draft.kind in TRUSTED_KINDS and draft.hostname is None and HOSTNAME.fullmatch(word.text):
        raise line.error(
            word,
            f"{fields.shown(word.text)} stands behind the key, where an endpoint does",
            Code.BAD_ENDPOINT,
            f"a host name stands in front of the key; an endpoint of one word needs a port, {DEFAULT_PORT}",
        )
    return line.read(word, fields.read_endpoint)


_PEER_USAGE = "write: KIND [HOSTNAME] [PRIVATE-IP] PUBLIC-KEY [ENDPOINT [tcp:PORT]]"
_ALIAS_USAGE = "write: alias [HOSTNAME] [PRIVATE-IP] PUBLIC-KEY [at NODE] [expires WHEN]"
_ALIAS_CLAUSES = ("at", "expires")

# What a key is, and what it may not already be.
_KEY_ROLE = {
    PeerKind.BOOT: "contact",
    PeerKind.PEER: "contact",
    PeerKind.TRUST: "member",
    PeerKind.ROUTER: "member",
    PeerKind.ALIAS: "alias",
}
_KEY_RIVALS = {
    "contact": ("contact", "alias"),
    "member": ("member", "alias"),
    "alias": ("contact", "member", "alias"),
}
