"""Finding the default gateway's UPnP description (UPnP Device Architecture 1.1, section 1.3)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import NamedTuple

from wh.net.links.rtnetlink import Gateway
from wh.net.mapping.gateway import BadReply, ask
from wh.net.mapping.gateway_url import is_url_at
from wh.net.opening import closed_on_error

GROUP = "239.255.255.250"
PORT = 1900
TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)
ANSWERS_WITHIN_S = 1
"""MX: a device waits for a random part of it."""
SENDS_AT = (0.0, 0.5)
GIVE_UP_AFTER_S = 2.0
TTL = 2
REPLY_LEN_MAX = 2048
LOCATION_LEN_MAX = 256
DATAGRAMS_MAX = 256
"""Other devices answer too where they do not read what is searched for."""


def encode_search(target: str) -> bytes:
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {GROUP}:{PORT}",
        'MAN: "ssdp:discover"',
        f"MX: {ANSWERS_WITHIN_S}",
        f"ST: {target}",
    )
    return "\r\n".join((*lines, "", "")).encode()


class Found(NamedTuple):
    """location: URL of the description. boot_id: another one after each restart; "" where it tells none."""

    location: str
    boot_id: str


def decode_reply_untrusted(data: bytes, gateway: ipaddress.IPv4Address) -> Found:
    """An Internet gateway's word on itself, with a description at that address. Raises BadReply."""
    if len(data) > REPLY_LEN_MAX:
        raise BadReply("length")
    try:
        status, *lines = data.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise BadReply("not ASCII") from None
    if status.split(" ")[:2] != ["HTTP/1.1", "200"]:
        raise BadReply("not a success")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
    }
    location = headers.get("location", "")
    if "InternetGatewayDevice" not in headers.get("st", ""):
        raise BadReply("another kind of device")
    if len(location) > LOCATION_LEN_MAX or not is_url_at(location, gateway):
        raise BadReply("a description somewhere else")
    return Found(location, headers.get("bootid.upnp.org", ""))


async def find_gateway(gateway: Gateway, *, port: int = PORT) -> Found:
    """Raises GatewaySilent. The group is asked, and the gateway itself, in case multicast is filtered."""
    assert isinstance(gateway.address, ipaddress.IPv4Address)
    address = gateway.address

    def send(transport: asyncio.DatagramTransport) -> None:
        for target in TARGETS:
            for to in (GROUP, str(address)):
                with contextlib.suppress(OSError):
                    transport.sendto(encode_search(target), (to, port))

    return await ask(
        lambda: _open_socket(gateway),
        send,
        lambda data, sender: decode_reply_untrusted(data, address) if sender[0] == str(address) else None,
        sends_at=SENDS_AT,
        give_up_after_s=GIVE_UP_AFTER_S,
        datagrams_max=DATAGRAMS_MAX,
        errors_end_it=False,  # of what was sent to the gateway itself: the group may answer
    )


def _open_socket(gateway: Gateway) -> socket.socket:
    with closed_on_error(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as bound:
        bound.setblocking(False)
        source = ipaddress.IPv4Address(gateway.source).packed
        bound.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, source)
        bound.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
        bound.bind((str(gateway.source), 0))
    return bound
