"""Readers of the single words of a network file. Each raises ConfigError, without a place."""

from __future__ import annotations

import calendar
import ipaddress
import re
from datetime import datetime

from wh.config.model import (
    DEFAULT_PORT,
    HOSTNAME,
    MAX_WORKBIT,
    Endpoint,
    IPAddress,
    IPNetwork,
)
from wh.errors import Code, ConfigError
from wh.wire.address import is_usable, pack
from whcore.errors import InvalidKey
from whcore.keys import check_public_key, decode_key

MAX_EXPIRY = 0xFFFF_FFFF  # Unix seconds; an invitation has four bytes for it
MAX_LABEL_BYTES = 255  # the protocol gives a namespace one byte of length (docs/protocol.md section 4)
_MAX_DNS_NAME = 253
_DNS_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")  # what inet_aton takes for an address
_DOTTED = re.compile(r"[0-9]+(\.[0-9]+)+")
_FOUR_NUMBERS = "an IPv4 address has four numbers from 0 to 255, without zeros in front"
_HOSTNAME_RULE = (
    "a host name has letters, digits, hyphens and underscores, 63 at most, and no hyphen in front"
)
_ORCHID = ipaddress.IPv6Network("2001:20::/28")  # RFC 7343
_SHOWN_LEN = 60
_SIZE_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
MAX_SIZE = 10**15


def shown(word: str) -> str:
    """A word of the file as error messages quote it: cut, and without control characters."""
    printable = word if word.isprintable() else word.encode("unicode_escape").decode("ascii")
    return printable if len(printable) <= _SHOWN_LEN else printable[:_SHOWN_LEN] + "..."


def read_label(word: str) -> str:
    """A network's name or namespace."""
    if not word.isprintable():
        raise ConfigError(f"{shown(word)} has characters that cannot be printed")
    if len(word.encode()) > MAX_LABEL_BYTES:
        raise ConfigError(f"{shown(word)} is longer than {MAX_LABEL_BYTES} bytes")
    return word


def read_workbit(word: str) -> int:
    if re.fullmatch(r"-?[0-9]{1,9}", word) is None:
        raise ConfigError("workbit is not a number", hint=f"write a number from 0 to {MAX_WORKBIT}")
    workbit = int(word)
    if not 0 <= workbit <= MAX_WORKBIT:
        raise ConfigError(f"workbit {workbit} is not in 0..{MAX_WORKBIT}")
    return workbit


def read_port(word: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", word) is None or not 1 <= int(word) <= 0xFFFF:
        raise ConfigError(f"bad port {shown(word)}", hint="a port is a number from 1 to 65535")
    return int(word)


def read_secret(word: str) -> str:
    """The secret itself never stands in an error."""
    try:
        decode_key(word)
    except InvalidKey:
        raise ConfigError("secret is not 32 bytes of base64", hint="`wh genkey` makes a good one") from None
    return word


def read_switch(word: str) -> bool:
    if word not in ("on", "off"):
        raise ConfigError(f"{shown(word)} is neither on nor off")
    return word == "on"


def read_size(word: str) -> int:
    """Bytes, or bytes a second: a number, with k, M, G or T for a thousand, a million and so on. The word
    `unlimited` is 0."""
    if word == "unlimited":
        return 0
    match = re.fullmatch(r"([0-9]{1,15})([kMGT]?)", word)
    if match is None or not int(match[1]):
        raise ConfigError(f"{shown(word)} is no size", hint="write it like 500k, 10M or 100G, or unlimited")
    size = int(match[1]) * _SIZE_UNITS[match[2]]
    if size > MAX_SIZE:
        raise ConfigError(f"{shown(word)} is more than any link has", hint="write unlimited")
    return size


def read_subnet(word: str) -> IPNetwork:
    """Bits beyond the prefix length are cleared: 10.0.42.1/24 means 10.0.42.0/24."""
    base, slash, prefix_len = word.partition("/")
    if not slash:
        raise ConfigError("malformed subnet", hint=f"add the prefix length, such as {shown(word)}/24")
    try:
        address = ipaddress.ip_address(base)
    except ValueError:
        hint = _FOUR_NUMBERS if _DOTTED.fullmatch(base) else "write it like 10.0.42.0/24"
        raise ConfigError("malformed subnet, bad IP", hint=hint) from None
    if re.fullmatch(r"[0-9]{1,3}", prefix_len) is None or int(prefix_len) > address.max_prefixlen:
        raise ConfigError(
            "malformed subnet, bad CIDR",
            hint=f"a prefix length is a number from 1 to {address.max_prefixlen}",
        )
    subnet = ipaddress.ip_network(f"{base}/{prefix_len}", strict=False)
    reason = _why_no_overlay(subnet)
    if reason:
        raise ConfigError(f"{subnet} {reason}", hint="choose a private range, such as 10.0.42.0/24")
    return subnet


def _why_no_overlay(subnet: IPNetwork) -> str | None:
    """Why a network of ours can never have these addresses."""
    if subnet.prefixlen == 0:
        return "is every address there is"
    if subnet.is_loopback or subnet.is_multicast or subnet.is_unspecified:
        return "has addresses that no host can have"
    if isinstance(subnet, ipaddress.IPv4Network):
        is_reserved = subnet.is_reserved or subnet.network_address.packed[0] == 0
        return "has reserved addresses" if is_reserved else None
    if subnet.is_link_local:
        return "is link-local"
    return "has the addresses that are derived from keys" if subnet.overlaps(_ORCHID) else None


def read_hostname(word: str) -> str:
    if HOSTNAME.fullmatch(word) is None:
        if (broken := broken_key(word)) is not None:
            raise broken
        raise ConfigError(
            f"bad IP or hostname {shown(word)}",
            code=Code.BAD_HOSTNAME,
            hint=_FOUR_NUMBERS if _DOTTED.fullmatch(word) else _HOSTNAME_RULE,
        )
    if _NUMBER.fullmatch(word):
        raise ConfigError(f"hostname {word} would be read as an IPv4 address", code=Code.BAD_HOSTNAME)
    if word.lower() == "localhost":
        raise ConfigError(f"hostname {word} belongs to every host", code=Code.BAD_HOSTNAME)
    return word


def broken_key(word: str) -> ConfigError | None:
    """The error of a word that is no key and was probably meant as one, else None."""
    if re.fullmatch(r"(?=.{40,48}$)[A-Za-z0-9+/_-]+=*", word) is None:
        return None
    try:
        decode_key(word)
    except InvalidKey as error:
        return ConfigError(f"{shown(word)} is not a key: {error}", code=Code.NO_PEER_KEY, hint=error.hint)
    return None


def read_visible(word: str) -> str:
    """Any word: what chats and word processors put between letters is found by nobody who reads the file."""
    for character in word:
        if not character.isprintable():
            raise ConfigError(
                f"a word with a character that cannot be seen, U+{ord(character):04X}",
                code=Code.UNSEEN_CHARACTER,
                hint="write the word anew",
            )
    return word


def read_ip(word: str) -> IPAddress | None:
    """None where the word is not meant as an address."""
    try:
        return ipaddress.ip_address(word)
    except ValueError:
        return None


def check_host_of(ip: IPAddress, subnet: IPNetwork) -> None:
    """Whether a node may have this address in the subnet."""
    if ip not in subnet:
        raise ConfigError(f"IP {ip} is not inside subnet {subnet}", code=Code.BAD_PRIVATE_IP)
    if subnet.prefixlen >= subnet.max_prefixlen - 1:
        return
    if ip == subnet.network_address:
        raise ConfigError(f"IP {ip} is the address of the subnet itself", code=Code.BAD_PRIVATE_IP)
    if ip.version == 4 and ip == subnet.broadcast_address:
        raise ConfigError(f"IP {ip} is the broadcast address of the subnet", code=Code.BAD_PRIVATE_IP)


def is_key(word: str) -> bool:
    """Whether the word is 32 bytes of base64, usable or not."""
    try:
        decode_key(word)
    except InvalidKey:
        return False
    return True


def read_key(word: str) -> bytes | None:
    """None where the word is not 32 bytes of base64. Refuses keys that are unsafe to use."""
    try:
        key = decode_key(word)
    except InvalidKey:
        return None
    try:
        check_public_key(key)
    except InvalidKey as error:
        raise ConfigError(
            f"{word} is not a usable public key: {error}",
            code=Code.BAD_PEER_KEY,
            hint="ask its owner for the output of `wh pubkey`",
        ) from None
    return key


def read_expiry(word: str) -> int:
    """Unix seconds, or a date and time of ISO 8601; without a zone, UTC."""
    expiry = int(word) if re.fullmatch(r"[0-9]{1,10}", word) else _read_iso(word)
    if not 0 < expiry <= MAX_EXPIRY:
        raise _bad_expiry(word)
    return expiry


def _read_iso(word: str) -> int:
    try:
        when = datetime.fromisoformat(word)
    except ValueError:
        raise _bad_expiry(word) from None
    return calendar.timegm(when.utctimetuple())


def _bad_expiry(word: str) -> ConfigError:
    return ConfigError(
        f"bad time {shown(word)}",
        code=Code.BAD_ALIAS,
        hint="write it like 2030-01-31T12:00:00Z, or in seconds since 1970",
    )


def read_endpoint(word: str) -> Endpoint:
    """HOST, HOST:PORT, ADDRESS, V4:PORT, [V6], or [V6]:PORT."""
    host, port = _split_endpoint(word)
    ip = read_ip(host)
    if ip is None:
        _check_dns_name(host, word)
        return Endpoint(host, port)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            raise _bad_endpoint(word, "an address with a zone means nothing on another host")
        ip = ip.ipv4_mapped or ip
    if not is_usable(pack(ip, port), allow_loopback=True):
        raise _bad_endpoint(word, "no host can have this address")
    return Endpoint(str(ip), port)


def _split_endpoint(word: str) -> tuple[str, int]:
    if word.startswith("["):
        host, bracket, rest = word[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise _bad_endpoint(word, "write an IPv6 address and port like [2001:db8::1]:62096")
        port_text = rest[1:] if rest else None
    elif word.count(":") > 1:
        host, port_text = word, None
    else:
        host, colon, tail = word.partition(":")
        port_text = tail if colon else None
    if port_text is None:
        return host, DEFAULT_PORT
    return host, _port(port_text, word)


def read_tcp_port(word: str) -> int | None:
    """Of `tcp:PORT` after an endpoint; None where the word is something else."""
    transport, colon, port_text = word.partition(":")
    return _port(port_text, word) if transport == "tcp" and colon else None


def _port(port_text: str, word: str) -> int:
    try:
        return read_port(port_text)
    except ConfigError as error:
        raise _bad_endpoint(word, error.hint) from None


def _check_dns_name(host: str, word: str) -> None:
    labels = host.removesuffix(".").split(".")
    if len(host) > _MAX_DNS_NAME or any(_DNS_LABEL.fullmatch(label) is None for label in labels):
        raise _bad_endpoint(word, "write a host name or address, and a port if it is not the default one")
    if _NUMBER.fullmatch(labels[-1]):
        raise _bad_endpoint(word, _FOUR_NUMBERS)


def _bad_endpoint(word: str, hint: str) -> ConfigError:
    return ConfigError(f"bad endpoint {shown(word)}", code=Code.BAD_ENDPOINT, hint=hint)
