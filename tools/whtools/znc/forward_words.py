"""What -L and -R say: where to listen, and where connections go."""

from __future__ import annotations

import re
from typing import NamedTuple

LOOPBACK = "127.0.0.1"


class Place(NamedTuple):
    """kind: tcp, udp or unix. For unix, host is a path, and port 0."""

    kind: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix {self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind} {host}:{self.port}"


class ForwardWord(NamedTuple):
    listen: Place
    target: Place


def read_forward(text: str) -> ForwardWord:
    """[udp:|tcp:][ADDR:]PORT:HOST:HPORT, where ADDR:PORT or HOST:HPORT may be a path. Raises ValueError."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in ("tcp", "udp"):
        kind, rest = "tcp", text
    parts = _split(rest)
    places: list[Place] = []
    while parts:
        if "/" in parts[0]:
            places.append(_unix(kind, parts.pop(0)))
        elif not places and (len(parts) == 3 or (len(parts) == 2 and "/" in parts[1])):
            places.append(Place(kind, LOOPBACK, read_port(parts.pop(0))))
        elif len(parts) >= 2:
            places.append(Place(kind, parts[0], read_port(parts[1])))
            del parts[:2]
        else:
            break
    if parts or len(places) != 2:
        raise ValueError("write [ADDR:]PORT:HOST:PORT")
    return ForwardWord(*places)


def _split(text: str) -> list[str]:
    """At colons outside of brackets, which are dropped."""
    found = re.findall(r"\[([^\]]*)\](?::|$)|([^:\[\]]+)(?::|$)", text)
    parts = [bracketed or word for bracketed, word in found]
    whole = re.fullmatch(r"(?:\[[^\]]*\]|[^:\[\]]+)(?::(?:\[[^\]]*\]|[^:\[\]]+))*", text)
    if whole is None:
        raise ValueError("write [ADDR:]PORT:HOST:PORT")
    return parts


def _unix(kind: str, path: str) -> Place:
    if kind == "udp":
        raise ValueError("a Unix socket is a stream, not UDP")
    if len(path.encode()) > 107:  # sockaddr_un
        raise ValueError("the path is too long for a Unix socket")
    return Place("unix", path, 0)


def read_port(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not 1 <= int(text) <= 0xFFFF:
        raise ValueError(f"{text!r} is not a port")
    return int(text)


def read_place_untrusted(text: str) -> Place:
    """A target that the other end asks for: `kind host:port` or `unix path`. Raises ValueError."""
    kind, space, rest = text.partition(" ")
    if not space or not rest.isprintable() or len(rest) > 512:
        raise ValueError("malformed target")
    if kind == "unix":
        return _unix("tcp", rest)
    parts = _split(rest)
    if kind not in ("tcp", "udp") or len(parts) != 2:
        raise ValueError("malformed target")
    return Place(kind, parts[0], read_port(parts[1]))
