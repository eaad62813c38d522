/* Ancillary data of UDP datagrams: segmentation, source address, ECN. Written and read in one place. */
#ifndef WH_UDP_H
#define WH_UDP_H

#include "kernel.h"

#include <linux/if_packet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>

#ifndef IP_PMTUDISC_OMIT
#define IP_PMTUDISC_OMIT 5
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* linux/udp.h */
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define WH_CONTROL_LEN 256 /* GRO, PKTINFO and TOS together need less */

/* Where a datagram came in, and so where an answer should leave from (sticky source). */
struct wh_source {
	uint8_t address[16]; /* ours; ::ffff:a.b.c.d for IPv4 */
	uint32_t ifindex;
	uint8_t known;
	uint8_t stay; /* leave by that interface, whatever routes say */
};

struct wh_ancillary {
	struct wh_source source;
	uint16_t segment_len; /* 0: the datagram is alone */
	uint8_t ecn;          /* RFC 3168 codepoint of the outer header */
};

/* What a kernel may lack is asked for and then looked at: returns whether sends may carry UDP_SEGMENT. */
static inline int wh_udp_prepare(int fd, int family)
{
	int on = 1, segment = 0;
	socklen_t size = sizeof(segment);

	setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
	if (family == AF_INET) {
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on));
	} else {
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof(on));
	}
	return getsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, &size) == 0;
}

/* Let the datagrams of an IPv4 socket that forbids it (PROBE) be cut on their way, or no more. Returns whether it did forbid it
   before. No control message says that of one datagram. */
static inline int wh_udp_let_fragment(int fd, int let)
{
	int mode = let ? IP_PMTUDISC_OMIT : IP_PMTUDISC_PROBE, before = 0;
	socklen_t size = sizeof(before);

	return getsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &before, &size) == 0 &&
	       before == (let ? IP_PMTUDISC_PROBE : IP_PMTUDISC_OMIT) &&
	       setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &mode, sizeof(mode)) == 0;
}

static inline void wh_udp_received(struct msghdr *message, struct wh_ancillary *out)
{
	static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	struct cmsghdr *item;

	memset(out, 0, sizeof(*out));
	for (item = CMSG_FIRSTHDR(message); item != NULL; item = CMSG_NXTHDR(message, item)) {
		if (item->cmsg_level == SOL_UDP && item->cmsg_type == UDP_GRO) {
			int segment;

			memcpy(&segment, CMSG_DATA(item), sizeof(segment));
			out->segment_len = (uint16_t)segment;
		} else if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(item), sizeof(info));
			memcpy(out->source.address, v4_prefix, 12);
			memcpy(out->source.address + 12, &info.ipi_spec_dst, 4);
			out->source.ifindex = (uint32_t)info.ipi_ifindex;
			out->source.known = 1;
		} else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(item), sizeof(info));
			memcpy(out->source.address, &info.ipi6_addr, 16);
			out->source.ifindex = (uint32_t)info.ipi6_ifindex;
			out->source.known = 1;
		} else if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_TOS) {
			out->ecn = *(uint8_t *)CMSG_DATA(item) & 3;
		} else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_TCLASS) {
			int class;

			memcpy(&class, CMSG_DATA(item), sizeof(class));
			out->ecn = (uint8_t)class & 3;
		}
	}
}

static inline struct cmsghdr *wh_add_control(struct msghdr *message, int level, int type, const void *data, size_t n)
{
	struct cmsghdr *item = (struct cmsghdr *)((uint8_t *)message->msg_control + message->msg_controllen);

	item->cmsg_level = level;
	item->cmsg_type = type;
	item->cmsg_len = CMSG_LEN(n);
	memcpy(CMSG_DATA(item), data, n);
	message->msg_controllen += CMSG_SPACE(n);
	return item;
}

/* buffer: WH_CONTROL_LEN bytes, aligned. segment_len 0: one datagram. source: NULL or unknown: the kernel's choice. */
static inline void wh_udp_control(struct msghdr *message, void *buffer, int family, uint16_t segment_len, uint8_t ecn,
				  const struct wh_source *source)
{
	int class = ecn;

	message->msg_control = buffer;
	message->msg_controllen = 0;
	memset(buffer, 0, WH_CONTROL_LEN);
	if (segment_len)
		wh_add_control(message, SOL_UDP, UDP_SEGMENT, &segment_len, sizeof(segment_len));
	if (ecn)
		wh_add_control(message, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
			       family == AF_INET ? IP_TOS : IPV6_TCLASS, &class, sizeof(class));
	if (source != NULL && source->known && family == AF_INET) {
		struct in_pktinfo info;

		memset(&info, 0, sizeof(info));
		memcpy(&info.ipi_spec_dst, source->address + 12, 4);
		info.ipi_ifindex = source->stay ? (int)source->ifindex : 0;
		wh_add_control(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	} else if (source != NULL && source->known) {
		struct in6_pktinfo info;

		memset(&info, 0, sizeof(info));
		memcpy(&info.ipi6_addr, source->address, 16);
		if (source->stay || wh_link_local(source->address))
			info.ipi6_ifindex = source->ifindex;
		wh_add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	}
	if (message->msg_controllen == 0)
		message->msg_control = NULL;
}

/* hop_limit: 1 to 255, for this datagram alone. buffer: the one of wh_udp_control, which was called before. */
static inline void wh_udp_hop_limit(struct msghdr *message, void *buffer, int family, uint8_t hop_limit)
{
	int value = hop_limit;

	message->msg_control = buffer;
	wh_add_control(message, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
		       family == AF_INET ? IP_TTL : IPV6_HOPLIMIT, &value, sizeof(value));
}

/* TUN offloads: what this kernel grants of the wanted ones, stepping down. Returns the granted TUN_F_* bits. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20 /* linux/if_tun.h, since 6.2 */
#define TUN_F_USO6 0x40
#endif

/* Whether this is a packet socket (packet(7)) with PACKET_VNET_HDR, at one end of a veth pair, in place of a TUN:
 * frames have an Ethernet header between virtio_net header and packet. */
static inline int wh_is_packet_socket(int fd)
{
	int domain = 0, header = 0;
	socklen_t domain_len = sizeof(domain), header_len = sizeof(header);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len) == 0 && domain == AF_PACKET &&
	       getsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &header, &header_len) == 0 && header;
}

static inline unsigned int wh_tun_offloads(int fd)
{
	static const unsigned int wanted[] = {
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
		TUN_F_CSUM,
	};
	struct ifreq request;
	int header_len = 10;
	size_t i;

	if (wh_is_packet_socket(fd)) /* a veth takes any; whether the kernel knows USO cannot be seen */
		return TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
	memset(&request, 0, sizeof(request));
	if (ioctl(fd, TUNGETIFF, &request) != 0 || !(request.ifr_flags & IFF_VNET_HDR))
		return 0;
	ioctl(fd, TUNSETVNETHDRSZ, &header_len);
	for (i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (ioctl(fd, TUNSETOFFLOAD, wanted[i]) == 0)
			return wanted[i];
	return 0;
}

/* Whether reads and writes of this fd carry a virtio_net header. False for what is neither. */
static inline int wh_tun_has_header(int fd)
{
	struct ifreq request;

	memset(&request, 0, sizeof(request));
	return wh_is_packet_socket(fd) || ioctl(fd, TUNGETIFF, &request) == 0 && (request.ifr_flags & IFF_VNET_HDR) != 0;
}

#endif
