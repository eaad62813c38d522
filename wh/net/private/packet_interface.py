"""An interface where there is no TUN to be had: a veth pair, and a packet socket on its other end.

Frames have a virtio_net header (packet(7), PACKET_VNET_HDR) and an Ethernet header; the data plane knows
both.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from wh.net.links.netlink_socket import NetlinkSocket
from wh.net.opening import closed_on_error
from wh.net.sockets import SO_RCVBUFFORCE, SO_SNDBUFFORCE, set_buffer

HARDWARE_ADDRESS = bytes.fromhex("02 00 00 00 00 01")
"""Of the interface; the data plane writes frames to it (whcore/offload.pyx has the same)."""

OTHER_END = "wire"
LINK_MTU = 65535
BUFFER_LEN = 8 << 20

# linux/if_ether.h, linux/if_packet.h
_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23


def open_packet_interface(
    kernel: NetlinkSocket, open_socket: Callable[[int, int, int], socket.socket], name: str
) -> int:
    """The descriptor for the data plane. kernel, open_socket: of the namespace where the interface is to be.
    Raises SystemSetupError; OSError where packet sockets are refused."""
    kernel.add_veth(name, OTHER_END, HARDWARE_ADDRESS)
    other = kernel.link(OTHER_END)
    if other is None:
        raise OSError("the veth pair has gone")
    kernel.set_link(other.ifindex, up=True, mtu=LINK_MTU)
    with closed_on_error(open_socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)) as packets:
        packets.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        packets.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        set_buffer(packets, SO_RCVBUFFORCE, socket.SO_RCVBUF, BUFFER_LEN)
        set_buffer(packets, SO_SNDBUFFORCE, socket.SO_SNDBUF, BUFFER_LEN)
        packets.bind((OTHER_END, _ETH_P_ALL))
    return packets.detach()
