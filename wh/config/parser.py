"""Reader of the network file.

The format is the one of WireHub 2018, and a file that it accepts means the same here; what it ignored
(unknown words, arguments too many) or let through silently (the same key twice) is an error here. A key may
stand once in a `boot` or `peer` line and once in a `trust` or `router` line: a member can serve as
bootstrap node too, and Network.peers keeps both lines. An alias's key stands alone.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from wh.config import fields
from wh.config.model import (
    DEFAULT_NAMESPACE,
    DEFAULT_WORKBIT,
    TRUSTED_KINDS,
    Endpoint,
    IPAddress,
    IPNetwork,
    Network,
    Peer,
    PeerKind,
    RelayPolicy,
)
from wh.errors import Code, ConfigError, ConfigErrors

MAX_FILE_SIZE = 1 << 20  # bytes
MAX_ERRORS = 100  # reported at once: a file with more is something else than a network file
RELAY_TOTAL_FACTOR = 10  # all channels together, where the file says only what one may have
FIRST_HOST_INDEX = 2  # the original leaves the first address of a subnet free

_WORD = re.compile(r"[^ \t\r\v\f]+")
_T = TypeVar("_T")


class Word(NamedTuple):
    text: str
    column: int  # from 1, in characters


def load(path: str | Path) -> Network:
    """Read and parse a file. Raises ConfigError: ConfigErrors for what it says, else for why it cannot be
    read."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    return decode(data, path=str(path))


def unreadable(path: str | Path, error: OSError) -> ConfigError:
    """What to tell of a file that the system does not let us read."""
    hints = {
        errno.ENOENT: "give the path of a network file: README.md shows one",
        errno.EACCES: "run as root, or let this user read the file",
    }
    return ConfigError(
        f"cannot read {path}: {error.strerror}",
        code=Code.FILE_UNREADABLE,
        hint=hints.get(error.errno or 0, ""),
    )


def decode(data: bytes, *, path: str | None = None) -> Network:
    """Parse the bytes of a file, for those who have it open. Raises ConfigError."""
    name = path or "the network file"
    if len(data) > MAX_FILE_SIZE:
        raise ConfigError(f"{name} is larger than {MAX_FILE_SIZE} bytes", code=Code.FILE_NOT_TEXT)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name} is not UTF-8 text (line {line})", code=Code.FILE_NOT_TEXT) from error
    if "\0" in text:
        raise ConfigError(f"{name} is not a text file", code=Code.FILE_NOT_TEXT)
    return parse(text, path=path)


def parse(text: str, *, path: str | None = None) -> Network:
    """Raises ConfigErrors with every line that is wrong, at most MAX_ERRORS; path is for their places."""
    parser = _Parser(path)
    errors: list[ConfigError] = []
    lines = text.removeprefix("\ufeff").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            parser.read_line(number, split(line))
        except ConfigError as error:
            errors.append(error)
            if len(errors) == MAX_ERRORS:
                break
    try:
        network = parser.finish(len(lines))
    except ConfigError as error:
        errors.append(error)
    if errors:
        raise ConfigErrors(tuple(errors))
    return network


def split(line: str) -> list[Word]:
    """The words of a line, without its comment."""
    code, _, _ = line.partition("#")
    return [Word(match.group(), match.start() + 1) for match in _WORD.finditer(code)]


class _Parser:
    """What the lines read so far said. Methods raise the ConfigError of their line, with its place."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._line = 0
        self._set_at: dict[str, int] = {}  # line of each setting
        self._name: str | None = None
        self._namespace = DEFAULT_NAMESPACE
        self._workbit = DEFAULT_WORKBIT
        self._subnet: IPNetwork | None = None
        self._secret: str | None = None
        self._relay = RelayPolicy()
        self._listen_tcp: int | None = None
        self._subnet_missed = False
        self._peers: list[Peer] = []
        self._alias_nodes: list[tuple[int, Word]] = []  # line and word of each `at`
        self._hostname_line: dict[str, int] = {}  # lower case: the resolver does not tell them apart
        self._ip_line: dict[IPAddress, int] = {}
        self._key_line: dict[tuple[bytes, str], int] = {}

    def read_line(self, number: int, words: list[Word]) -> None:
        self._line = number
        if not words:
            return
        command, *arguments = words
        if command.text in _SETTINGS:
            self._read_setting(command, arguments)
        elif command.text in _PEER_KINDS:
            self._read_peer(PeerKind(command.text), command, arguments)
        else:
            raise self._unknown_word(command)

    def finish(self, last_line: int) -> Network:
        """The network, once every trusted peer has an address."""
        self._bind_alias_nodes()
        self._line = last_line
        return Network(
            name=self._name,
            namespace=self._namespace,
            workbit=self._workbit,
            subnet=self._subnet,
            secret=self._secret,
            relay=self._relay,
            listen_tcp=self._listen_tcp,
            peers=tuple(self._assign_ips()),
            path=self._path,
        )

    # Settings

    def _read_setting(self, command: Word, arguments: list[Word]) -> None:
        setting = command.text
        earlier = self._set_at.setdefault(setting, self._line)
        if earlier != self._line:
            called = "subnetwork" if setting == "subnet" else setting
            raise self._error(
                command, f"{called} already set", Code.SETTING_REPEATED, f"remove this line or line {earlier}"
            )
        if setting == "relay-rate":
            self._read_relay_rate(command, arguments)
            return
        value = self._only_argument(command, arguments)
        match setting:
            case "name":
                self._name = self._read(value, fields.read_label)
            case "namespace":
                self._namespace = self._read(value, fields.read_label)
            case "workbit":
                self._workbit = self._read(value, fields.read_workbit)
            case "subnet":
                self._subnet = self._read(value, fields.read_subnet)
            case "secret":
                self._secret = self._read(value, fields.read_secret)
            case "listen-tcp":
                self._listen_tcp = self._read(value, fields.read_port)
            case "relay":
                self._relay = replace(self._relay, offered=self._read(value, fields.read_switch))
            case "relay-quota":
                self._relay = replace(self._relay, day_quota=self._read(value, fields.read_size))

    def _read_relay_rate(self, command: Word, arguments: list[Word]) -> None:
        channel, *total = self._arguments(command, arguments, most=2)
        rate = self._read(channel, fields.read_size)
        total_rate = self._read(total[0], fields.read_size) if total else rate * RELAY_TOTAL_FACTOR
        self._relay = replace(self._relay, rate=rate, total_rate=total_rate)

    def _only_argument(self, command: Word, arguments: list[Word]) -> Word:
        return self._arguments(command, arguments, most=1)[0]

    def _arguments(self, command: Word, arguments: list[Word], *, most: int) -> list[Word]:
        """From one to `most` of them."""
        usage = f"write: {command.text} {_SETTINGS[command.text]}"
        if not arguments:
            raise self._error(command, f"{command.text} has no value", Code.BAD_SETTING, usage)
        extra = arguments[most:]
        if extra:
            word = "word after the secret" if command.text == "secret" else fields.shown(extra[0].text)
            raise self._error(extra[0], f"invalid {word}", Code.EXTRA_WORD, usage)
        return arguments

    # Peers

    def _read_peer(self, kind: PeerKind, command: Word, arguments: list[Word]) -> None:
        trusted = kind in TRUSTED_KINDS
        if trusted:
            self._require_subnet(command)
        hostname: str | None = None
        ip: IPAddress | None = None
        key: bytes | None = None
        endpoint: Endpoint | None = None
        if kind is PeerKind.ALIAS:
            arguments, at, expires = self._read_alias_clauses(arguments)
        else:
            at, expires = None, None
        for word in arguments:
            new_key = self._read(word, fields.read_key)
            if new_key is not None:
                if key is not None:
                    raise self._error(word, "public key already set", Code.EXTRA_WORD)
                key = self._claim_key(kind, word, new_key)
            elif key is not None and endpoint is None:
                endpoint = self._read(word, fields.read_endpoint)
            elif endpoint is not None and (tcp_port := self._read_tcp_port(word, endpoint)) is not None:
                endpoint = replace(endpoint, tcp_port=tcp_port)
            elif key is not None:
                raise self._error(word, f"invalid {fields.shown(word.text)}", Code.EXTRA_WORD, _PEER_USAGE)
            elif (new_ip := fields.read_ip(word.text)) is not None:
                ip = self._claim_ip(word, new_ip, trusted=trusted, earlier=ip)
            else:
                hostname = self._claim_hostname(word, earlier=hostname)
        if key is None:
            hint = _hint_for_missing_key(arguments)
            raise self._error(command, "public key is not set", Code.NO_PEER_KEY, hint)
        if kind is PeerKind.BOOT and endpoint is None:
            raise self._error(
                command,
                "bootstrap node must have an endpoint set",
                Code.BAD_ENDPOINT,
                "add HOST or HOST:PORT after the key",
            )
        if at is not None:
            self._alias_nodes.append((self._line, at))
        self._peers.append(
            Peer(kind, key, hostname, ip, ip is not None, endpoint, self._line, expires=expires)
        )

    def _read_tcp_port(self, word: Word, endpoint: Endpoint) -> int | None:
        port = self._read(word, fields.read_tcp_port)
        if port is not None and endpoint.tcp_port is not None:
            raise self._error(word, "TCP port is already set", Code.BAD_ENDPOINT)
        return port

    def _read_alias_clauses(self, arguments: list[Word]) -> tuple[list[Word], Word | None, int | None]:
        """Split off what stands behind an alias's key: `at NODE` and `expires WHEN`. The node may have its
        line further down."""
        words, clauses = _split_at_clauses(arguments)
        at: Word | None = None
        expires: int | None = None
        while clauses:
            clause, *clauses = clauses
            if clause.text not in _ALIAS_CLAUSES:
                raise self._error(
                    clause, f"invalid {fields.shown(clause.text)}", Code.EXTRA_WORD, _ALIAS_USAGE
                )
            if not clauses:
                raise self._error(clause, f"{clause.text} has no value", Code.BAD_ALIAS, _ALIAS_USAGE)
            value, *clauses = clauses
            if (at if clause.text == "at" else expires) is not None:
                raise self._error(clause, f"{clause.text} is already set", Code.BAD_ALIAS)
            if clause.text == "at":
                at = value
            else:
                expires = self._read(value, fields.read_expiry)
        return words, at, expires

    def _bind_alias_nodes(self) -> None:
        """Find the nodes that `at` named, once all lines are read."""
        nodes = [peer for peer in self._peers if not peer.is_alias]
        by_name = {peer.hostname.lower(): peer.key for peer in nodes if peer.hostname is not None}
        keys = {peer.key for peer in nodes}
        index_of = {peer.line: index for index, peer in enumerate(self._peers)}
        for line, word in self._alias_nodes:
            self._line = line
            node = self._read(word, fields.read_key) or by_name.get(word.text.lower())
            if node not in keys:
                raise self._error(
                    word,
                    f"no node is called {fields.shown(word.text)}",
                    Code.BAD_ALIAS,
                    "at names a node of this file, by its host name or its key",
                )
            index = index_of[line]
            self._peers[index] = replace(self._peers[index], at=node)

    def _require_subnet(self, command: Word) -> None:
        """Complains once: each peer line after the first would repeat the same cause."""
        if "subnet" in self._set_at or self._subnet_missed:
            return
        self._subnet_missed = True
        hint = f"put a subnet line before the first {command.text} line"
        raise self._error(command, "no subnet set", Code.NO_SUBNET, hint)

    def _claim_key(self, kind: PeerKind, word: Word, key: bytes) -> bytes:
        role = _KEY_ROLE[kind]
        for rival in _KEY_RIVALS[role]:
            if (earlier := self._key_line.get((key, rival))) is not None:
                raise self._error(word, f"public key was already set at line {earlier}", Code.BAD_PEER_KEY)
        self._key_line[key, role] = self._line
        return key

    def _claim_ip(self, word: Word, ip: IPAddress, *, trusted: bool, earlier: IPAddress | None) -> IPAddress:
        if not trusted:
            raise self._error(
                word,
                "non-trusted peer cannot have a static ip",
                Code.BAD_PRIVATE_IP,
                "remove it, or begin the line with trust",
            )
        if earlier is not None:
            raise self._error(word, "private ip is already set", Code.BAD_PRIVATE_IP)
        subnet = self._subnet
        if subnet is not None:  # else its line is wrong, and has its own error
            self._read(word, lambda _: fields.check_host_of(ip, subnet))
        line = self._ip_line.setdefault(ip, self._line)
        if line != self._line:
            raise self._error(word, f"private ip was already set at line {line}", Code.BAD_PRIVATE_IP)
        return ip

    def _claim_hostname(self, word: Word, *, earlier: str | None) -> str:
        if earlier is not None:
            raise self._error(
                word, "bad IP or hostname is already set", Code.BAD_HOSTNAME, _hint_for_missing_key([word])
            )
        hostname = self._read(word, fields.read_hostname)
        line = self._hostname_line.setdefault(hostname.lower(), self._line)
        if line != self._line:
            raise self._error(word, f"hostname was already set at line {line}", Code.BAD_HOSTNAME)
        return hostname

    def _assign_ips(self) -> Iterator[Peer]:
        """Give trusted peers without static address the free ones of the subnet, in the order of the file."""
        free = self._free_ips()
        for peer in self._peers:
            if not peer.trusted or peer.ip is not None or self._subnet is None:
                yield peer
                continue
            ip = next(free, None)
            if ip is None:
                raise self._error(
                    Word("", 1),
                    "too many trusted nodes",
                    Code.SUBNET_FULL,
                    f"{self._subnet} has no address left for line {peer.line}; choose a larger subnet",
                )
            yield replace(peer, ip=ip)

    def _free_ips(self) -> Iterator[IPAddress]:
        subnet = self._subnet
        if subnet is None:
            return
        last = subnet.num_addresses - (2 if subnet.version == 4 else 1)
        for index in range(FIRST_HOST_INDEX, last + 1):
            ip = subnet.network_address + index
            if ip not in self._ip_line:
                yield ip

    # Errors

    def _read(self, word: Word, reader: Callable[[str], _T]) -> _T:
        """Read one word; its error gets the word's place."""
        try:
            return reader(word.text)
        except ConfigError as error:
            error.place = self._place(word)
            raise

    def _error(self, word: Word, message: str, code: Code, hint: str = "") -> ConfigError:
        return ConfigError(message, code=code, hint=hint, place=self._place(word))

    def _place(self, word: Word) -> str:
        return f"{self._path or '<network>'}:{self._line}:{word.column}"

    def _unknown_word(self, word: Word) -> ConfigError:
        known = [*_SETTINGS, *_PEER_KINDS]
        nearest = difflib.get_close_matches(word.text[:32].lower(), known, n=1, cutoff=0.6)
        hint = f'did you mean "{nearest[0]}"?' if nearest else f"the words are: {', '.join(known)}"
        return self._error(word, f'unknown word "{fields.shown(word.text)}"', Code.UNKNOWN_WORD, hint)


def _split_at_clauses(words: list[Word]) -> tuple[list[Word], list[Word]]:
    """Before and from the first clause. Clauses follow the key: in front of it, their words are names."""
    for index, word in enumerate(words):
        if word.text in _ALIAS_CLAUSES and any(fields.is_key(earlier.text) for earlier in words[:index]):
            return words[:index], words[index:]
    return words, []


def _hint_for_missing_key(arguments: list[Word]) -> str:
    longest = max((word.text for word in arguments), key=len, default="")
    return fields.key_hint(longest) or _PEER_USAGE


_SETTINGS = {
    "name": "WORD",
    "subnet": "ADDRESS/LENGTH",
    "workbit": "NUMBER",
    "namespace": "WORD",
    "secret": "BASE64",
    "relay": "on|off",
    "relay-rate": "BYTES/S [BYTES/S-OF-ALL]",
    "relay-quota": "BYTES-A-DAY",
    "listen-tcp": "PORT",
}
_PEER_KINDS = [kind.value for kind in PeerKind]
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
