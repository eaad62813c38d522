from typing import Final, NamedTuple, final

_Place = tuple[int, bytes]

class Forwarded(NamedTuple):
    socket: int
    remote: bytes
    data: bytes

class ChannelStatus(NamedTuple):
    """Pairs are (the opener's, the target's). packets, bytes, last_at_ns: of that side's, forwarded to the
    other; last_at_ns is at first when the channel was opened."""

    ids: tuple[int, int]
    places: tuple[_Place, _Place]
    proved: bool
    packets: tuple[int, int]
    bytes: tuple[int, int]
    drops: dict[str, int]
    last_at_ns: tuple[int, int]

class ForwardCounters(NamedTuple):
    packets: int
    bytes: int
    drops: dict[str, int]

DROP_REASONS: Final[tuple[str, ...]]
MIXED: Final[str]
CHANNELS_MAX: Final[int]
UNPROVED_BYTES_MAX: Final[int]

def encode_channel(channel: int, datagram: bytes) -> bytes:
    """datagram with the 8 bytes of a CHANNEL header before it (docs/protocol.md section 2)."""

def decode_channel_untrusted(datagram: bytes) -> tuple[int, bytes] | None:
    """(channel, what it carries), or None where this is no CHANNEL. Bit 31 of channel: relay to client."""

@final
class ForwardTable:
    """The channels of a relay. A place is (socket number, 18-byte address), times are monotonic ns. forward()
    may run in several threads beside one that does the rest."""

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def set_totals(self, *, rate: int = 0, burst: int = 0, day_quota: int = 0) -> None:
        """Limit all channels together that are not trusted: bytes/s, bytes, bytes a day; 0: no limit."""
    def open(
        self,
        opener: _Place,
        target: _Place,
        *,
        rate: int = 0,
        burst: int = 0,
        quota: int = 0,
        trusted: bool = False,
        now_ns: int,
    ) -> tuple[int, int]:
        """Open a channel between two places. Returns the opener's and the target's leg id, 1..2^31-1.
        rate: bytes/s, burst and quota: bytes; 0: unlimited. Raises SystemFailure where the table is full."""
    def move(self, id: int, place: _Place) -> None:
        """The client of leg id is at another place now. Raises SystemFailure where there is no such leg."""
    def limit(self, id: int, *, rate: int = 0, burst: int = 0, quota: int = 0, trusted: bool = False) -> None:
        """Other limits for the channel of leg id. Raises SystemFailure where there is no such leg."""
    def close(self, id: int) -> None:
        """Close the channel of leg id, either of its two. Raises SystemFailure where there is no such leg."""
    def expire(self, *, now_ns: int, silence_ns: int) -> list[ChannelStatus]:
        """Close what forwarded nothing for silence_ns; returns their last status."""
    def forward(
        self, socket: int, remote: bytes, data: bytes, *, segment_len: int = 0, now_ns: int
    ) -> Forwarded | str:
        """Forward one run of datagrams: segment_len bytes each, the last may be shorter; 0: one datagram.
        Returns Forwarded, whose data may be a shorter run, or the reason why nothing is sent: MIXED or one
        of DROP_REASONS."""
    def channels(self) -> list[ChannelStatus]:
        """The status of each channel, the newest first."""
    def counters(self) -> ForwardCounters:
        """What the table forwarded and dropped since it was made: packets, bytes, {reason: packets}."""
