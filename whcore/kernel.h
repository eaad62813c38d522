/* What Cython's libc bindings lack: Linux headers in one place, atomics by type, and the TUN ioctl. */
#ifndef WH_KERNEL_H
#define WH_KERNEL_H

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef ETH_P_IP
#define ETH_P_IP 0x0800
#endif

/* Acquire loads and release stores; names carry the type because Cython must know it. */
#define wh_load_u32(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define wh_load_u64(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define wh_load_i64(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define wh_load_ptr(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define wh_store_u32(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define wh_store_u64(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define wh_store_i64(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define wh_store_ptr(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define wh_exchange_ptr(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define wh_exchange_u32(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define wh_add_u64(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define wh_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)

/* Lower *p to v if v is smaller; returns whether it was. */
static inline int wh_min_i64(int64_t *p, int64_t v)
{
	int64_t seen = __atomic_load_n(p, __ATOMIC_RELAXED);

	while (v < seen)
		if (__atomic_compare_exchange_n(p, &seen, v, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return 1;
	return 0;
}

/* Spin lock for sections of a few hundred instructions without system calls. */
static inline void wh_spin_lock(uint32_t *lock)
{
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(lock, __ATOMIC_RELAXED))
			sched_yield();
}

static inline void wh_spin_unlock(uint32_t *lock)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

static inline int64_t wh_clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Time since boot that also runs in suspend: keys must age while the machine sleeps. */
#define wh_now_ns() wh_clock_ns(CLOCK_BOOTTIME)
#define wh_wall_ns() wh_clock_ns(CLOCK_REALTIME)

static inline void wh_pause_ns(int64_t ns)
{
	struct timespec pause = { .tv_sec = 0, .tv_nsec = ns };

	nanosleep(&pause, NULL);
}

/* pthread_create with every signal blocked in the new thread. */
static inline int wh_thread_start(pthread_t *thread, void *(*main_function)(void *), void *argument, const char *name)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(thread, NULL, main_function, argument);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		pthread_setname_np(*thread, name);
	return rc;
}

static inline uint32_t wh_le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t wh_le64(const uint8_t *p)
{
	return (uint64_t)wh_le32(p) | (uint64_t)wh_le32(p + 4) << 32;
}

static inline void wh_put_le32(uint8_t *p, uint32_t v)
{
	p[0] = v; p[1] = v >> 8; p[2] = v >> 16; p[3] = v >> 24;
}

static inline void wh_put_le64(uint8_t *p, uint64_t v)
{
	wh_put_le32(p, (uint32_t)v);
	wh_put_le32(p + 4, (uint32_t)(v >> 32));
}

/* A sockaddr of either family <-> the 18 wire bytes (address 16, big-endian port). */
static inline void wh_wire_address(uint8_t out[18], const struct sockaddr_storage *from)
{
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)from;

		memset(out, 0, 10);
		out[10] = out[11] = 0xff;
		memcpy(out + 12, &in->sin_addr, 4);
		memcpy(out + 16, &in->sin_port, 2);
	} else {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;

		memcpy(out, &in6->sin6_addr, 16);
		memcpy(out + 16, &in6->sin6_port, 2);
	}
}

/* family: of the socket it is for. Returns the sockaddr's length, 0 where the address is of the other family. */
static inline socklen_t wh_sockaddr(struct sockaddr_storage *out, const uint8_t wire[18], int family)
{
	static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	int is_v4 = memcmp(wire, v4_prefix, 12) == 0;

	memset(out, 0, sizeof(*out));
	if (family == AF_INET && is_v4) {
		struct sockaddr_in *in = (struct sockaddr_in *)out;

		in->sin_family = AF_INET;
		memcpy(&in->sin_addr, wire + 12, 4);
		memcpy(&in->sin_port, wire + 16, 2);
		return sizeof(*in);
	}
	if (family == AF_INET6 && !is_v4) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

		in6->sin6_family = AF_INET6;
		memcpy(&in6->sin6_addr, wire, 16);
		memcpy(&in6->sin6_port, wire + 16, 2);
		return sizeof(*in6);
	}
	return 0;
}

/* Whether an address of 16 bytes means nothing without its link (RFC 4291, 2.5.6). */
static inline int wh_link_local(const uint8_t address[16])
{
	return address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}

/* link: interface index. out: an IPv6 one. */
static inline void wh_set_link(struct sockaddr_storage *out, uint32_t link)
{
	((struct sockaddr_in6 *)out)->sin6_scope_id = link;
}

#endif
