"""Linux and C11 pieces that Cython's libc lacks; see kernel.h for what each helper does."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "kernel.h" nogil:
    ctypedef unsigned int socklen_t
    ctypedef unsigned long pthread_t
    ctypedef int clockid_t

    ctypedef struct pthread_mutex_t:
        pass

    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_join(pthread_t thread, void** result)
    int wh_thread_start(pthread_t* thread, void* (*main_function)(void*) noexcept nogil, void* argument,
                        const char* name)

    uint32_t wh_load_u32(uint32_t* p)
    uint64_t wh_load_u64(uint64_t* p)
    int64_t wh_load_i64(int64_t* p)
    void* wh_load_ptr(void* p)
    void wh_store_u32(uint32_t* p, uint32_t v)
    void wh_store_u64(uint64_t* p, uint64_t v)
    void wh_store_i64(int64_t* p, int64_t v)
    void wh_store_ptr(void* p, void* v)
    uint32_t wh_exchange_u32(uint32_t* p, uint32_t v)
    uint64_t wh_add_u64(uint64_t* p, uint64_t v)
    void wh_fence()
    bint wh_min_i64(int64_t* p, int64_t v)
    void wh_spin_lock(uint32_t* lock)
    void wh_spin_unlock(uint32_t* lock)

    int64_t wh_now_ns()
    int64_t wh_wall_ns()
    void wh_pause_ns(int64_t ns)        # less than a second

    uint32_t wh_le32(const uint8_t* p)
    uint64_t wh_le64(const uint8_t* p)
    void wh_put_le32(uint8_t* p, uint32_t v)
    void wh_put_le64(uint8_t* p, uint64_t v)

    enum: AF_INET
    enum: AF_INET6
    enum: AF_UNSPEC
    enum: MSG_DONTWAIT
    enum: MSG_TRUNC
    enum: MSG_CTRUNC
    enum: SOL_SOCKET
    enum: SO_DOMAIN

    struct sockaddr:
        pass

    struct sockaddr_storage:
        unsigned short ss_family

    struct iovec:
        void* iov_base
        size_t iov_len

    struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags

    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

    int sendmmsg(int fd, mmsghdr* messages, unsigned int n, int flags)
    int recvmmsg(int fd, mmsghdr* messages, unsigned int n, int flags, void* timeout)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    ssize_t sendto(int fd, const void* data, size_t n, int flags, const sockaddr* to, socklen_t to_len)
    int getsockopt(int fd, int level, int name, void* value, socklen_t* value_len)
    void wh_wire_address(uint8_t* out, const sockaddr_storage* source)
    socklen_t wh_sockaddr(sockaddr_storage* out, const uint8_t* wire, int family)
    bint wh_link_local(const uint8_t* address)
    void wh_set_link(sockaddr_storage* out, uint32_t link)

    enum: EPOLLIN
    enum: EPOLLERR
    enum: EPOLLHUP
    enum: EPOLLEXCLUSIVE
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_DEL
    enum: EPOLL_CLOEXEC

    ctypedef union epoll_data_t:
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    int epoll_create1(int flags)
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll_fd, epoll_event* events, int n, int timeout_ms)

    enum: EFD_CLOEXEC
    enum: EFD_NONBLOCK
    int eventfd(unsigned int initial, int flags)
    int eventfd_write(int fd, uint64_t value)
    int eventfd_read(int fd, uint64_t* value)

    enum: PROT_NONE
    enum: PROT_READ
    enum: PROT_WRITE
    enum: MAP_PRIVATE
    enum: MAP_ANONYMOUS
    enum: MAP_NORESERVE
    enum: MADV_DONTDUMP
    void* MAP_FAILED
    void* mmap(void* address, size_t n, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t n)
    int mprotect(void* address, size_t n, int protection)
    int madvise(void* address, size_t n, int advice)
    int mlock(const void* address, size_t n)

    enum: PR_SET_DUMPABLE
    int prctl(int option, unsigned long a, ...)

    ssize_t read(int fd, void* data, size_t n)
    ssize_t write(int fd, const void* data, size_t n)
    ssize_t readv(int fd, const iovec* vectors, int n)
    ssize_t writev(int fd, const iovec* vectors, int n)
    int close(int fd)

    enum: EAGAIN
    enum: EINTR
    enum: EBADF
    enum: EBADFD
    enum: EIO
    enum: EINVAL
    enum: EADDRNOTAVAIL
    enum: ENODEV
    enum: ENETUNREACH
    enum: EMSGSIZE
    int errno
