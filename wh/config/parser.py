"""Reader of the network file.

The format is the one of WireHub 2018, and a file that it accepts means the same here; what it ignored
(unknown words, arguments too many) or let through silently (the same key twice) is an error here.
"""

from __future__ import annotations

import difflib
import errno
from dataclasses import replace
from pathlib import Path

from wh.config import fields
from wh.config.lines import Line, Word, split
from wh.config.model import (
    DEFAULT_NAMESPACE,
    DEFAULT_WORKBIT,
    TRUSTED_KINDS,
    IPNetwork,
    Network,
    PeerKind,
    RelayPolicy,
)
from wh.config.peer_lines import PeerLines
from wh.errors import Code, ConfigError, ConfigErrors
from wh.system.files import UnsafePlace, read_file

MAX_FILE_SIZE = 1 << 20  # bytes
MAX_ERRORS = 100  # reported at once: a file with more is something else than a network file
RELAY_TOTAL_FACTOR = 10  # all channels together, where the file says only what one may have


def load(path: str | Path) -> Network:
    """Read and parse a file. Raises ConfigError: ConfigErrors for what it says, else for why it cannot be
    read."""
    try:
        data = read_file(path, MAX_FILE_SIZE + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    return decode(data, path=str(path))


def unreadable(path: str | Path, error: OSError) -> ConfigError:
    """What to tell of a file that the system does not let us read."""
    hints = {
        errno.ENOENT: "give the path of a network file: README.md shows one",
        errno.EACCES: "run as root, or let this user read the file",
    }
    hint = hints.get(error.errno or 0, "")
    if isinstance(error, UnsafePlace):
        hint = "give the path of the file itself, or keep it where nobody else can write"
    return ConfigError(f"cannot read {path}: {error.strerror}", code=Code.FILE_UNREADABLE, hint=hint)


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
    if not any(map(split, text.removeprefix("\ufeff").split("\n"))):
        raise ConfigError(
            f"{name} says nothing", code=Code.FILE_EMPTY, hint="a public node's file has its own boot line"
        )
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


class _Parser:
    """What the lines read so far said. Methods raise the ConfigError of their line, with its place."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._line = Line(path, 0)
        self._set_at: dict[str, int] = {}  # line of each setting
        self._name: str | None = None
        self._namespace = DEFAULT_NAMESPACE
        self._workbit = DEFAULT_WORKBIT
        self._subnet: IPNetwork | None = None
        self._secret: str | None = None
        self._relay = RelayPolicy()
        self._listen_tcp: int | None = None
        self._subnet_missed = False
        self._peers = PeerLines()

    def read_line(self, number: int, words: list[Word]) -> None:
        self._line = Line(self._path, number)
        if not words:
            return
        for word in words:
            self._line.read(word, fields.read_visible)
        command, *arguments = words
        if command.text in _SETTINGS:
            self._read_setting(command, arguments)
        elif command.text in _PEER_KINDS:
            if PeerKind(command.text) in TRUSTED_KINDS:
                self._require_subnet(command)
            self._peers.read(self._line, command, arguments, self._subnet)
        else:
            raise self._unknown_word(command)

    def finish(self, last_line: int) -> Network:
        """The network, once every trusted peer has an address."""
        peers = self._peers.finish(Line(self._path, last_line), self._subnet)
        return Network(
            name=self._name,
            namespace=self._namespace,
            workbit=self._workbit,
            subnet=self._subnet,
            secret=self._secret,
            relay=self._relay,
            listen_tcp=self._listen_tcp,
            peers=peers,
            path=self._path,
        )

    # Settings

    def _read_setting(self, command: Word, arguments: list[Word]) -> None:
        setting = command.text
        earlier = self._set_at.setdefault(setting, self._line.number)
        if earlier != self._line.number:
            called = "subnetwork" if setting == "subnet" else setting
            raise self._line.error(
                command, f"{called} already set", Code.SETTING_REPEATED, f"remove this line or line {earlier}"
            )
        if setting == "relay-rate":
            self._read_relay_rate(command, arguments)
            return
        value = self._only_argument(command, arguments)
        match setting:
            case "name":
                self._name = self._line.read(value, fields.read_label)
            case "namespace":
                self._namespace = self._line.read(value, fields.read_label)
            case "workbit":
                self._workbit = self._line.read(value, fields.read_workbit)
            case "subnet":
                self._subnet = self._line.read(value, fields.read_subnet)
            case "secret":
                self._secret = self._line.read(value, fields.read_secret)
            case "listen-tcp":
                self._listen_tcp = self._line.read(value, fields.read_port)
            case "relay":
                self._relay = replace(self._relay, offered=self._line.read(value, fields.read_switch))
            case "relay-quota":
                self._relay = replace(self._relay, day_quota=self._line.read(value, fields.read_size))

    def _read_relay_rate(self, command: Word, arguments: list[Word]) -> None:
        channel, *total = self._arguments(command, arguments, most=2)
        rate = self._line.read(channel, fields.read_size)
        total_rate = self._line.read(total[0], fields.read_size) if total else rate * RELAY_TOTAL_FACTOR
        self._relay = replace(self._relay, rate=rate, total_rate=total_rate)

    def _only_argument(self, command: Word, arguments: list[Word]) -> Word:
        return self._arguments(command, arguments, most=1)[0]

    def _arguments(self, command: Word, arguments: list[Word], *, most: int) -> list[Word]:
        """From one to `most` of them."""
        usage = f"write: {command.text} {_SETTINGS[command.text]}"
        if not arguments:
            raise self._line.error(command, f"{command.text} has no value", Code.BAD_SETTING, usage)
        extra = arguments[most:]
        if extra:
            word = "word after the secret" if command.text == "secret" else fields.shown(extra[0].text)
            raise self._line.error(extra[0], f"invalid {word}", Code.EXTRA_WORD, usage)
        return arguments

    def _require_subnet(self, command: Word) -> None:
        """Complains once: each peer line after the first would repeat the same cause."""
        if "subnet" in self._set_at or self._subnet_missed:
            return
        self._subnet_missed = True
        hint = f"put a subnet line before the first {command.text} line"
        raise self._line.error(command, "no subnet set", Code.NO_SUBNET, hint)

    def _unknown_word(self, word: Word) -> ConfigError:
        known = [*_SETTINGS, *_PEER_KINDS]
        nearest = difflib.get_close_matches(word.text[:32].lower(), known, n=1, cutoff=0.6)
        hint = f'did you mean "{nearest[0]}"?' if nearest else f"the words are: {', '.join(known)}"
        return self._line.error(word, f'unknown word "{fields.shown(word.text)}"', Code.UNKNOWN_WORD, hint)


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
