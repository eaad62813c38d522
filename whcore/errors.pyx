"""What the core raises: one exception tree, and the only table from return codes to exceptions."""


class WireHubError(Exception):
    """Base of every error that WireHub raises on purpose.

    code: stable identifier to search for (such as WH101). hint: what the user can do about it, or "". place:
    "file:line:column" of the text that caused it, or None. str() is the message alone.
    """

    code = "WH100"

    def __init__(self, message, *, code=None, hint="", place=None):
        super().__init__(message)
        if code is not None:
            self.code = code
        self.hint = hint
        self.place = place


class InvalidKey(WireHubError, ValueError):
    """A key that is not one: wrong text, wrong length, non-canonical or of low order."""

    code = "WH101"


class BadPacket(WireHubError):
    """A remote error: bytes from the network that do not verify. Dropped and counted, never shown as ours."""

    code = "WH201"


class SystemFailure(WireHubError):
    """A local error: this machine, or a call in the wrong state, kept us from doing what was asked."""

    code = "WH301"


cdef struct rc_text:
    const char* name
    const char* text

# Indexed by -code; _RAISES below has the same order.
cdef rc_text _TEXTS[WH_E_COUNT]
_TEXTS[:] = [
    rc_text(b"ok", b"no error"),
    rc_text(b"length", b"wrong length"),
    rc_text(b"type", b"unknown message type"),
    rc_text(b"mac", b"mac1 or mac2 does not verify"),
    rc_text(b"auth", b"authentication tag does not verify"),
    rc_text(b"key", b"public key is not canonical or has low order"),
    rc_text(b"replay", b"counter or timestamp was already used"),
    rc_text(b"index", b"receiver index is unknown"),
    rc_text(b"limit", b"rate or table limit reached"),
    rc_text(b"state", b"not possible in this state"),
    rc_text(b"memory", b"out of memory"),
    rc_text(b"workbit", b"too few workbits"),
]

cdef tuple _RAISES = (
    SystemFailure,      # a call that failed must not say WH_OK
    BadPacket,
    BadPacket,
    BadPacket,
    BadPacket,
    InvalidKey,
    BadPacket,
    BadPacket,
    BadPacket,
    SystemFailure,
    MemoryError,
    BadPacket,
)


cdef const char* rc_name(int rc) noexcept nogil:
    """Short lower-case name of a return code, for counters and logs; "unknown" for any other number."""
    if rc > 0 or rc <= -WH_E_COUNT:
        return b"unknown"
    return _TEXTS[-rc].name


cdef object raise_rc(int rc, str what):
    """Raise the exception for rc, its message opened by what (the thing that was tried)."""
    if rc > 0 or rc <= -WH_E_COUNT:
        raise SystemFailure(f"{what}: unknown return code {rc}")
    raise _RAISES[-rc](f"{what}: {_TEXTS[-rc].text.decode('ascii')}")
