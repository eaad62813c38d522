class WireHubError(Exception):
    """Base of every error that WireHub raises on purpose.

    code: stable identifier to search for (such as WH101). hint: what the user can do about it, or "". place:
    "file:line:column" of the text that caused it, or None. str() is the message alone.
    """

    code: str
    hint: str
    place: str | None
    def __init__(
        self, message: str, *, code: str | None = None, hint: str = "", place: str | None = None
    ) -> None: ...

class InvalidKey(WireHubError, ValueError):
    """A key that is not one: wrong text, wrong length, non-canonical or of low order (WH101)."""

class BadPacket(WireHubError):
    """A remote error: bytes from the network that do not verify (WH201)."""

class SystemFailure(WireHubError):
    """A local error: this machine, or a call in the wrong state, kept us from what was asked (WH301)."""
