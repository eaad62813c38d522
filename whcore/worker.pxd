"""The packet worker threads: TUN to UDP and back, in batches (docs/design.md section 3)."""

from whcore.device cimport wh_device, wh_worker

# Prepare worker `number` with a TUN queue fd, or -1 for none. WH_OK or WH_E_MEMORY. Nothing is started.
cdef int worker_init(wh_worker* w, wh_device* dev, int number, int tun_fd) noexcept nogil
cdef int worker_start(wh_worker* w) noexcept nogil      # 0 or an errno
cdef int worker_watch(wh_worker* w, int socket) noexcept nogil
cdef void worker_unwatch(wh_worker* w, int socket) noexcept nogil
cdef void worker_free(wh_worker* w) noexcept nogil      # after it was joined
