"""Datagrams in a byte stream, each preceded by its length (docs/protocol.md section 1). Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable

PREFACE = b"wirehub\x02"
"""What both sides send before their first datagram, the server as its answer to the client's."""

LENGTH_LEN = 2
DATAGRAM_MAX = 2048
"""No datagram of ours is longer than 1,500 bytes; what claims to be is no stream of ours."""

Buffer = bytes | memoryview

_PREFIXES = tuple(n.to_bytes(LENGTH_LEN, "big") for n in range(DATAGRAM_MAX + 1))


class BadStream(Exception):
    """The peer does not speak this: the connection is of no use any more."""


def frame(datagrams: Iterable[Buffer]) -> bytes:
    """What goes into the stream; datagrams that are empty or too long do not."""
    parts: list[Buffer] = []
    for datagram in datagrams:
        if 0 < len(datagram) <= DATAGRAM_MAX:
            parts += (_PREFIXES[len(datagram)], datagram)
    return b"".join(parts)


class Deframer:
    """Takes a stream apart. It never holds more than one unfinished datagram."""

    def __init__(self) -> None:
        self._prefaced = False
        self._rest = b""

    @property
    def prefaced(self) -> bool:
        """The peer's preface has come."""
        return self._prefaced

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """The datagrams that are complete by now. Raises BadStream only; after that the object is of no
        use."""
        data = self._rest + data
        at = 0
        if not self._prefaced:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise BadStream("no preface")
            if len(data) < len(PREFACE):
                self._rest = data
                return []
            self._prefaced = True
            at = len(PREFACE)
        datagrams: list[bytes] = []
        end = len(data)
        while at + LENGTH_LEN <= end:
            length = data[at] << 8 | data[at + 1]
            if not 0 < length <= DATAGRAM_MAX:
                raise BadStream(f"a datagram of {length} bytes")
            following = at + LENGTH_LEN + length
            if following > end:
                break
            datagrams.append(data[at + LENGTH_LEN : following])
            at = following
        self._rest = data[at:]
        return datagrams
