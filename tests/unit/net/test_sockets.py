"""The UDP sockets of a node, on loopback."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from wh.errors import SystemSetupError
from wh.net import sockets
from wh.net.sockets import open_udp_sockets


@contextmanager
def opened(port: int) -> Iterator[list[socket.socket]]:
    made = open_udp_sockets(port)
    try:
        yield made
    finally:
        for udp in made:
            udp.close()


def test_both_families_share_one_port() -> None:
    with opened(0) as made:
        assert [udp.family for udp in made] == [socket.AF_INET, socket.AF_INET6]
        ports = {udp.getsockname()[1] for udp in made}
        assert len(ports) == 1
        assert ports.pop() >= sockets.RANDOM_PORT_MIN


def test_sockets_do_not_block_fragment_or_leak_into_children() -> None:
    with opened(0) as made:
        for udp in made:
            assert not udp.getblocking()
            assert not udp.get_inheritable()
        v4, v6 = made
        assert v4.getsockopt(socket.IPPROTO_IP, sockets.IP_MTU_DISCOVER) == sockets.IP_PMTUDISC_PROBE
        assert v6.getsockopt(socket.IPPROTO_IPV6, sockets.IPV6_MTU_DISCOVER) == sockets.IPV6_PMTUDISC_PROBE
        assert v6.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_received_datagrams_tell_the_address_they_were_sent_to() -> None:
    with opened(0) as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        v4 = made[0]
        sender.sendto(b"x", ("127.0.0.5", v4.getsockname()[1]))
        v4.setblocking(True)
        _, control, _, _ = v4.recvmsg(10, 256)
        ((level, kind, info),) = control
        assert (level, kind) == (socket.IPPROTO_IP, sockets.IP_PKTINFO)
        assert socket.inet_aton("127.0.0.5") in info


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_in_use_is_named_with_a_way_to_find_its_owner(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as owner:
        if family == socket.AF_INET6:
            owner.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        owner.bind(("", 0))
        port = owner.getsockname()[1]
        with pytest.raises(SystemSetupError) as caught:
            open_udp_sockets(port)
        assert caught.value.code == "WH214"
        assert str(port) in str(caught.value)
        assert "ss -ulpn" in caught.value.hint


def test_a_random_port_that_is_taken_is_not_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(0) as made:
        taken = made[0].getsockname()[1]
        draws = iter([taken, taken, taken + 1 if taken < 65535 else taken - 1])
        monkeypatch.setattr(secrets, "randbelow", lambda bound: next(draws) - sockets.RANDOM_PORT_MIN)
        with opened(0) as second:
            assert second[0].getsockname()[1] != taken


def test_a_host_without_ipv6_has_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(port: int) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    monkeypatch.setattr(sockets, "_open_v6", refused)
    with opened(0) as made:
        assert [udp.family for udp in made] == [socket.AF_INET]
