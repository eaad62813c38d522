"""Invitations: all that a newcomer needs to claim an alias, as one word of text (docs/protocol.md section 9).

    "wh2" || lowercase base32, without padding, of
    version and flags 1 | server key 32 | alias seed 16 | expiry 4 | hints | checksum 4

The text is a secret: whoever has it first is let in. Whoever reads one drops the text and calls
Invitation.alias_secret(), which is the last that is needed of the seed.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import TypeVar

from wh.config import fields
from wh.config.model import DEFAULT_NAMESPACE, DEFAULT_WORKBIT, IPNetwork
from wh.errors import Code, ConfigError, InvitationError
from wh.trust.degrees import INVITED_BOOT_LINES, Source, why_no_work
from wh.wire.address import Address, is_usable, is_v4
from wh.wire.public_key import KEY_LEN, Key, is_public_key
from whcore import alias
from whcore.blake2s import digest
from whcore.keys import SecretKey

PREFIX = "wh2"
VERSION = 1
SEED_LEN = 16
CHECKSUM_LEN = 4
HEADER_LEN = 1 + KEY_LEN + SEED_LEN + 4
ORIGINAL_LEN = 86
"""Characters of an invitation of the 2018 WireHub: base64url of server key || alias secret key."""

MAX_TEXT_LEN = 2048
MAX_ENDPOINTS = 8
MAX_RELAYS = 3
MAX_BOOTSTRAPS = INVITED_BOOT_LINES
MAX_GUIDES = 4
MAX_EXPIRY = 0xFFFF_FFFF

ALIAS_WORKBIT_MAX = 12
"""An alias has the network's workbits, but no more than these: it is derived anew wherever an invitation is
read, at about 20 us a try, and is nobody's node id."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_VERSION_SHIFT = 4
_FLAGS_MASK = 0x0F
_V4_PREFIX = bytes(10) + b"\xff\xff"
_T = TypeVar("_T")
_PADDING = "=" * 8


class Flag(IntFlag):
    """The lower half of the first byte. Unknown ones are ignored."""

    STREAM = 1  # made by 0nc: what waits at the other end is a stream, not a network to join


class Hint(IntEnum):
    """Kinds of hints. On the wire: kind 1, length 1, value."""

    ENDPOINT4 = 1  # address 4, big-endian port 2
    ENDPOINT6 = 2  # address 16, big-endian port 2
    RELAY = 3  # key 32, address and port as in an ENDPOINT
    NETWORK_NAME = 4  # letters, digits and hyphens, 63 at most
    NAMESPACE = 5  # UTF-8, 255 bytes at most; without: the default one
    WORKBIT = 6  # 1 byte; without: the default one
    SECRET = 7  # 32 bytes, the network's
    BOOTSTRAP = 8  # as RELAY; stays in the newcomer's network file
    SUBNET = 9  # prefix length 1, address 4 or 16
    GUIDE = 10  # as RELAY: a public node that is good for the claim only


Contact = tuple[Key, Address]


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an invitation says. Nothing of it is proved: it is as trustworthy as the way it came.

    expiry: Unix seconds, 0: never. endpoints: where the server was when it invited, best first. bootstraps:
    public nodes of the network; guides: strangers that may help to find the server, and no more. subnet: of
    the network; None where it is not said.
    """

    server_key: Key
    seed: bytes | None = field(default=None, repr=False)  # 16 bytes; None: an invitation of 2018
    expiry: int = 0
    flags: int = 0
    endpoints: tuple[Address, ...] = ()
    relays: tuple[Contact, ...] = ()
    bootstraps: tuple[Contact, ...] = ()
    network_name: str | None = None
    namespace: str = DEFAULT_NAMESPACE
    workbit: int = DEFAULT_WORKBIT
    network_secret: bytes | None = field(default=None, repr=False)  # 32 bytes
    original_secret: str | None = field(default=None, repr=False)  # base64, where there is no seed
    subnet: IPNetwork | None = None
    guides: tuple[Contact, ...] = ()

    def alias_secret(self) -> SecretKey:
        """The secret half of the alias; public_key of it is what the server's file names."""
        if self.seed is None:
            return SecretKey.from_text(self.original_secret or "")
        return derive_alias(self.seed, self.namespace, self.workbit)

    def check_usable(self, *, now_unix: float, own_key: Key | None = None) -> None:
        """Raises InvitationError where it has expired, or is for the node that made it."""
        if self.expiry and now_unix >= self.expiry:
            raise InvitationError(
                "the invitation has expired",
                code=Code.INVITATION_EXPIRED,
                hint="ask for a new one; if it is new, look at the clocks of both machines",
            )
        if own_key == self.server_key:
            raise InvitationError(
                "the invitation is this node's own",
                code=Code.INVITATION_OWN,
                hint="it is for somebody else: use it on another machine",
            )


def derive_alias(seed: bytes, namespace: str, workbit: int) -> SecretKey:
    """The alias's secret key (docs/protocol.md section 9): HKDF of the seed with the first counter that
    gives the public key enough workbits."""
    return alias.derive_alias(seed, namespace.encode(), min(workbit, ALIAS_WORKBIT_MAX))


def encode(invitation: Invitation) -> str:
    """The text. Raises ValueError for what an invitation cannot say; decode_untrusted reads every result."""
    if invitation.seed is None or len(invitation.seed) != SEED_LEN:
        raise ValueError("an invitation is made from a seed of 16 bytes")
    if not 0 <= invitation.expiry <= MAX_EXPIRY:
        raise ValueError(f"expiry {invitation.expiry} does not fit in 4 bytes")
    body = (
        bytes([VERSION << _VERSION_SHIFT | invitation.flags & _FLAGS_MASK])
        + invitation.server_key
        + invitation.seed
        + invitation.expiry.to_bytes(4, "little")
        + b"".join(_hints_of(invitation))
    )
    text = PREFIX + _base32(body + _checksum(body))
    try:
        readable = len(text) <= MAX_TEXT_LEN and _decode(text) == invitation
    except InvitationError as error:
        raise ValueError(str(error)) from None
    if not readable:
        raise ValueError("the invitation would not be readable")
    return text


def decode_untrusted(text: str) -> Invitation:
    """Raises InvitationError only: its code tells what is wrong with the text. White space is ignored, and so
    is whether letters are capitals, as in a QR code."""
    if len(text) > 2 * MAX_TEXT_LEN:
        raise _malformed("text this long is no invitation")
    word = "".join(text.split())
    if len(word) == ORIGINAL_LEN and re.fullmatch(r"[a-z2-7]+", word) is None:
        return _decode_original(word)
    return _decode(word.lower())


def is_whole(word: str) -> bool:
    """Whether it is a word of ours, of whatever version, without a character too many or too few."""
    encoded = word.removeprefix(PREFIX)
    if len(encoded) == len(word) or re.fullmatch(r"[a-z2-7]+", encoded) is None:
        return False
    data = _from_base32(encoded)
    return _checksum(data[:-CHECKSUM_LEN]) == data[-CHECKSUM_LEN:] and _base32(data) == encoded


def _decode(word: str) -> Invitation:
    prefix, encoded = word[: len(PREFIX)], word[len(PREFIX) :]
    if prefix != PREFIX:
        raise _wrong_prefix(word)
    if (wrong := re.search(r"[^a-z2-7]", encoded)) is not None:
        raise InvitationError(
            f"character {len(PREFIX) + wrong.start() + 1} is none that an invitation has",
            code=Code.INVITATION_MISTYPED,
            hint="it has letters, and digits from 2 to 7: copy it instead of typing it",
        )
    data = _from_base32(encoded)
    body, checksum = data[:-CHECKSUM_LEN], data[-CHECKSUM_LEN:]
    if _checksum(body) != checksum or _base32(data) != encoded:
        raise _damaged(body)
    if body[0] >> _VERSION_SHIFT != VERSION:
        raise _other_version()
    if len(body) < HEADER_LEN:
        raise _malformed("the invitation lacks its first part")
    return _Reader(body).read()


def _wrong_prefix(word: str) -> InvitationError:
    if re.fullmatch(r"wh[013-9][a-z2-7]{40,}", word):
        return _other_version()
    return _malformed("this is no invitation")


def _damaged(body: bytes) -> InvitationError:
    """Its end is missing where a hint is longer than what is left, or the fixed part is."""
    at = HEADER_LEN
    while at + 2 <= len(body):
        at += 2 + body[at + 1]
    if at != len(body):
        return InvitationError(
            "the invitation is cut off",
            code=Code.INVITATION_TRUNCATED,
            hint="copy all of it, to the last character, and do not type it",
        )
    return InvitationError(
        "the invitation has a wrong character, or lacks some",
        code=Code.INVITATION_MISTYPED,
        hint="copy it again, instead of typing it",
    )


def _other_version() -> InvitationError:
    return InvitationError(
        "the invitation is of another version of WireHub",
        code=Code.INVITATION_VERSION,
        hint="use the same version on both machines: `wh version` shows it",
    )


def _malformed(message: str) -> InvitationError:
    return InvitationError(
        message,
        code=Code.INVITATION_MALFORMED,
        hint=f"an invitation begins with {PREFIX}, or has {ORIGINAL_LEN} characters in all",
    )


def _decode_original(word: str) -> Invitation:
    try:
        data = base64.b64decode(word + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("this is no invitation") from None
    server_key, secret = data[:KEY_LEN], data[KEY_LEN:]
    canonical = base64.urlsafe_b64encode(data).rstrip(b"=").decode() == word
    if not canonical or not is_public_key(server_key) or secret == bytes(KEY_LEN):
        raise _malformed("this is no invitation")
    return Invitation(server_key, original_secret=base64.b64encode(secret).decode())


# Hints


def _hints_of(invitation: Invitation) -> list[bytes]:
    hints = [_hint(_endpoint_kind(address), _short(address)) for address in invitation.endpoints]
    hints += [_hint(Hint.RELAY, key + _short(address)) for key, address in invitation.relays]
    hints += [_hint(Hint.BOOTSTRAP, key + _short(address)) for key, address in invitation.bootstraps]
    hints += [_hint(Hint.GUIDE, key + _short(address)) for key, address in invitation.guides]
    if invitation.network_name is not None:
        hints.append(_hint(Hint.NETWORK_NAME, invitation.network_name.encode()))
    if invitation.namespace != DEFAULT_NAMESPACE:
        hints.append(_hint(Hint.NAMESPACE, invitation.namespace.encode()))
    if invitation.workbit != DEFAULT_WORKBIT:
        hints.append(_hint(Hint.WORKBIT, bytes([invitation.workbit])))
    if invitation.network_secret is not None:
        hints.append(_hint(Hint.SECRET, invitation.network_secret))
    if (subnet := invitation.subnet) is not None:
        hints.append(_hint(Hint.SUBNET, bytes([subnet.prefixlen]) + subnet.network_address.packed))
    return hints


def _hint(kind: Hint, value: bytes) -> bytes:
    return bytes([kind, len(value)]) + value


def _endpoint_kind(address: Address) -> Hint:
    return Hint.ENDPOINT4 if is_v4(address) else Hint.ENDPOINT6


def _short(address: Address) -> bytes:
    """IPv4 in 6 bytes, IPv6 in 18."""
    return address[len(_V4_PREFIX) :] if is_v4(address) else address


class _Reader:
    """Reads a body whose checksum holds. Whoever wrote it may still have meant harm."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._endpoints: list[Address] = []
        self._relays: list[Contact] = []
        self._bootstraps: list[Contact] = []
        self._guides: list[Contact] = []
        self._settings: dict[Hint, bytes] = {}

    def read(self) -> Invitation:
        body = self._body
        server_key, seed = body[1 : 1 + KEY_LEN], body[1 + KEY_LEN : 1 + KEY_LEN + SEED_LEN]
        if not is_public_key(server_key):
            raise _malformed("the invitation is from a key that nobody can own")
        self._read_hints()
        name = self._settings.get(Hint.NETWORK_NAME)
        namespace = self._settings.get(Hint.NAMESPACE)
        subnet = self._settings.get(Hint.SUBNET)
        return Invitation(
            server_key,
            seed,
            int.from_bytes(body[HEADER_LEN - 4 : HEADER_LEN], "little"),
            body[0] & _FLAGS_MASK,
            tuple(self._endpoints),
            tuple(self._relays),
            tuple(self._bootstraps),
            None if name is None else _read_name(name),
            DEFAULT_NAMESPACE if namespace is None else _read_namespace(namespace),
            _read_workbit(self._settings.get(Hint.WORKBIT, bytes([DEFAULT_WORKBIT]))),
            self._settings.get(Hint.SECRET),
            subnet=None if subnet is None else _read_subnet(subnet),
            guides=tuple(self._guides),
        )

    def _read_hints(self) -> None:
        at, body = HEADER_LEN, self._body
        while at < len(body):
            if at + 2 > len(body) or at + 2 + body[at + 1] > len(body):
                raise _bad_hint("the last one is cut off")
            value = body[at + 2 : at + 2 + body[at + 1]]
            self._read_hint(body[at], value)
            at += 2 + len(value)

    def _read_hint(self, kind: int, value: bytes) -> None:
        match kind:
            case Hint.ENDPOINT4 | Hint.ENDPOINT6:
                if len(value) != (6 if kind == Hint.ENDPOINT4 else 18):
                    raise _bad_hint("an endpoint has a wrong length")
                _append(self._endpoints, _read_address(value), MAX_ENDPOINTS)
            case Hint.RELAY:
                _append(self._relays, _read_contact(value), MAX_RELAYS)
            case Hint.BOOTSTRAP:
                _append(self._bootstraps, _read_contact(value), MAX_BOOTSTRAPS)
            case Hint.GUIDE:
                _append(self._guides, _read_contact(value), MAX_GUIDES)
            case Hint.NETWORK_NAME | Hint.NAMESPACE | Hint.WORKBIT | Hint.SECRET | Hint.SUBNET:
                if Hint(kind) in self._settings:
                    raise _bad_hint("one is there twice")
                if kind == Hint.SECRET and len(value) != KEY_LEN:
                    raise _bad_hint("the network's secret has a wrong length")
                self._settings[Hint(kind)] = value


def _append(known: list[_T], new: _T, most: int) -> None:
    if len(known) == most:
        raise _bad_hint(f"there are more than {most} of a kind")
    known.append(new)


def _read_address(value: bytes) -> Address:
    """Loopback ones pass: whether they make sense is for the node that is to send there."""
    address = _V4_PREFIX + value if len(value) == 6 else value
    if not is_usable(address, allow_loopback=True) or _short(address) != value:
        raise _bad_hint("an address is none that a datagram can go to")
    return address


def _read_contact(value: bytes) -> Contact:
    key, address = value[:KEY_LEN], value[KEY_LEN:]
    if len(address) not in (6, 18) or not is_public_key(key):
        raise _bad_hint("a relay or public node is malformed")
    return key, _read_address(address)


def _read_name(value: bytes) -> str:
    name = value.decode("ascii", "replace")
    if _NAME.fullmatch(name) is None:
        raise _bad_hint("the network's name has other characters than letters, digits and hyphens")
    return name


def _read_namespace(value: bytes) -> str:
    """One that a network file can have: a single word."""
    try:
        namespace = fields.read_label(value.decode())
    except (UnicodeDecodeError, ConfigError):
        raise _bad_hint("the namespace is not readable") from None
    if not namespace or "#" in namespace or len(namespace.split()) != 1 or namespace != namespace.strip():
        raise _bad_hint("the namespace is not one word")
    return namespace


def _read_workbit(value: bytes) -> int:
    """No more than a newcomer can search for while it waits."""
    if len(value) != 1:
        raise _bad_hint("the workbit has a wrong length")
    check_work(value[0])
    return value[0]


def check_work(workbit: int) -> None:
    """Raises InvitationError for more than an invitation may ask for."""
    if (reason := why_no_work(Source.INVITATION, workbit)) is not None:
        raise InvitationError(
            f"the invitation {reason}",
            code=Code.INVITATION_EXCESSIVE,
            hint="exchange network file and key by hand: wh genkey FILE makes one with that work",
        )


def _read_subnet(value: bytes) -> IPNetwork:
    """Whether it is one for this host is for who joins."""
    try:
        return ipaddress.ip_network((value[1:], value[0]))
    except (ValueError, IndexError):
        raise _bad_hint("the subnet is none") from None


def _bad_hint(what: str) -> InvitationError:
    return InvitationError(
        f"a hint of the invitation is wrong: {what}",
        code=Code.INVITATION_MALFORMED,
        hint="ask for a new one, and make sure of who sends it",
    )


# Bytes as text


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _from_base32(text: str) -> bytes:
    """The whole bytes; whether bits are left over is for the caller to find out."""
    data_len = len(text) * 5 // 8
    usable = text[: (8 * data_len + 4) // 5]
    return base64.b32decode(usable.upper() + _PADDING[: -len(usable) % 8])


def _checksum(body: bytes) -> bytes:
    return digest(body, size=CHECKSUM_LEN)
