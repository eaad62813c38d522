"""The anti-replay window (RFC 6479) as a Python object. The core inlines replay.pxd instead."""

cimport cython
from libc.stdint cimport uint64_t

from whcore.replay cimport REPLAY_WINDOW, replay_accept, replay_reset, replay_window

WINDOW = REPLAY_WINDOW
LIMIT_MAX = 2**64 - REPLAY_WINDOW


@cython.final
cdef class ReplayWindow:
    """One window, for tests and small uses."""

    cdef replay_window window

    def __cinit__(self):
        replay_reset(&self.window)

    def accept(self, uint64_t counter, uint64_t limit=LIMIT_MAX):
        """True once a counter, if it is below limit and at most WINDOW behind the highest accepted one.
        Raises ValueError for a limit over LIMIT_MAX."""
        if limit > LIMIT_MAX:
            raise ValueError("limit is at most LIMIT_MAX")
        return bool(replay_accept(&self.window, counter, limit))

    def reset(self):
        """Forget every counter."""
        replay_reset(&self.window)
