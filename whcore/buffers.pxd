"""What the Python faces of the core share to look at the buffers they are given."""

from libc.stdint cimport uint8_t


cdef inline const uint8_t* start_of(const uint8_t[::1] view) noexcept:
    """Address of the first byte, or NULL for an empty buffer (which has none)."""
    return &view[0] if view.shape[0] else NULL
