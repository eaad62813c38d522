"""What a peer may get wrong. Only these leave the `_untrusted` functions of wh.wire."""

from __future__ import annotations


class WireError(Exception):
    """Bytes from the network that nobody following docs/protocol.md would send."""


class BadMessage(WireError):
    """A control message that is malformed, too long, or holds a value out of its bounds."""


class BadRecord(WireError):
    """An endpoint record that is malformed, out of date, or not signed by its key."""


class UntimelyRecord(BadRecord):
    """It has expired, or says that it will too late; whether it is signed was not looked at."""
