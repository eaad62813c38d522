"""Interfaces: all the addresses and routes that were asked for, or the state before."""

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_namespace import in_namespace, ip, needs_namespace

from wh.errors import Code, SystemSetupError
from wh.net.links import interface, tun
from wh.net.links.host import of_host
from wh.net.links.link_monitor import SETTLE_S, LinkMonitor, open_change_socket
from wh.net.links.netlink import HostLinks
from wh.net.links.netlink_socket import open_netlink
from wh.net.links.rtnetlink import (
    METRIC,
    DumpInterrupted,
    InterfaceAddress,
    Link,
    LinkAddress,
    Route,
    RtnetlinkError,
)

NAME = "wh-test"
VNET_HEADER_LEN = 10  # linux/virtio_net.h, before each packet
V4 = InterfaceAddress(ip_address("10.0.42.2"), 24)
V4_NEXT = InterfaceAddress(ip_address("10.0.42.3"), 24)
ORCHID = InterfaceAddress(ip_address("2001:20::5"), 128)
ORCHIDS = ip_network("2001:20::/28")
OTHER_NET = ip_network("10.7.0.0/16")


def route(to, source=None):
    return Route(to, source, METRIC[to.version])


def wanted(addresses=(), routes=(), mtu=1408):
    """routes: networks, or Routes."""
    made = (to if isinstance(to, Route) else route(to) for to in routes)
    return interface.Wanted(mtu, frozenset(addresses), frozenset(made))


# The order of steps, against a kernel made of sets


class FakeKernel:
    """One link of ours (2) beside eth0 (3). fail_at: number of the changing request that is refused;
    refuse_ipv6: as a system without it does."""

    def __init__(self, addresses=(), routes=(), fail_at=None, refuse_ipv6=False):
        self.link_state = Link(2, NAME, False, 1500)
        self.have_addresses, self.have_routes = set(addresses), set(routes)
        self.plain = set()
        self.fail_at, self.refuse_ipv6, self.requests = fail_at, refuse_ipv6, 0

    @property
    def state(self):
        return self.link_state, frozenset(self.have_addresses), frozenset(self.have_routes)

    def _change(self, version=4):
        self.requests += 1
        if self.requests == self.fail_at:
            raise RtnetlinkError("do it", errno.EPERM)
        if version == 6 and self.refuse_ipv6:
            raise RtnetlinkError("do it", errno.EACCES)

    def links(self):
        return [self.link_state, Link(3, "eth0", True, 1500)]

    def set_link(self, ifindex, *, up, mtu):
        self._change()
        self.link_state = Link(ifindex, NAME, up, mtu)

    def addresses(self):
        return [LinkAddress(2, each, True, each not in self.plain) for each in self.have_addresses]

    def add_address(self, ifindex, address):
        self._change(address.ip.version)
        self.have_addresses.add(address)

    def delete_address(self, ifindex, address):
        self._change()
        self.have_addresses.remove(address)
        self.plain.discard(address)
        if not any(left.ip.version == 4 for left in self.have_addresses):
            self.have_routes = {route for route in self.have_routes if route.destination.version == 6}
        self.have_routes = {route for route in self.have_routes if route.source != address.ip}

    def our_routes(self, ifindex):
        return list(self.have_routes)

    def add_route(self, ifindex, route):
        self._change(route.destination.version)
        assert route.source is None or route.source in {address.ip for address in self.have_addresses}
        self.have_routes.add(route)

    def delete_route(self, ifindex, route):
        self._change()
        self.have_routes.remove(route)

    def outgoing_link(self, destination):
        return 2

    def other_routes(self, version, ifindex):
        return []


ADDRESSES = st.frozensets(st.sampled_from([V4, V4_NEXT, ORCHID]))
ROUTES = st.frozensets(st.sampled_from([route(ORCHIDS), route(OTHER_NET), route(ip_network("10.8.0.0/16"))]))


@given(ADDRESSES, ROUTES, ADDRESSES, ROUTES)
@settings(derandomize=True, deadline=None)
def test_any_state_becomes_the_wanted_one_or_stays(addresses, routes, new_addresses, new_routes):
    sourced = frozenset(each._replace(source=V4.ip) if V4 in new_addresses else each for each in new_routes)
    target = wanted(new_addresses, sourced)
    smooth = FakeKernel(addresses, routes)
    assert interface.bring_up(smooth, smooth.link_state, target) == ()
    assert smooth.state == (Link(2, NAME, True, 1408), new_addresses, sourced)
    for fail_at in range(1, smooth.requests + 1):
        kernel = FakeKernel(addresses, routes, fail_at)
        before = kernel.state
        with pytest.raises(SystemSetupError) as caught:
            interface.bring_up(kernel, kernel.link_state, target)
        assert kernel.state == before
        assert caught.value.code == Code.NOT_PERMITTED


def test_nothing_is_touched_where_nothing_changes():
    kernel = FakeKernel({V4, ORCHID}, {route(ORCHIDS)})
    interface.update(kernel, kernel.link_state, wanted({V4, ORCHID}, {ORCHIDS}))
    assert kernel.requests == 0


def test_an_address_that_is_not_reserved_is_made_anew():
    kernel = FakeKernel({V4, ORCHID})
    kernel.plain = {ORCHID}
    interface.update(kernel, kernel.link_state, wanted({V4, ORCHID}))
    assert (kernel.have_addresses, kernel.plain, kernel.requests) == ({V4, ORCHID}, set(), 2)


def test_a_system_without_ipv6_gets_the_rest_and_one_warning():
    kernel = FakeKernel(refuse_ipv6=True)
    (warning,) = interface.bring_up(kernel, kernel.link_state, wanted({V4, ORCHID}, {ORCHIDS, OTHER_NET}))
    assert warning.code == Code.NO_IPV6
    assert str(ORCHID) in str(warning)
    assert kernel.state[1:] == ({V4}, {route(OTHER_NET)})
    without = interface.restore(kernel, kernel.link_state, wanted({V4, ORCHID}, {ORCHIDS}))
    assert not without.ipv6
    kernel.refuse_ipv6 = False
    again = interface.restore(kernel, kernel.link_state, wanted({V4, ORCHID}, {ORCHIDS}), without)
    assert again.ipv6
    assert again.lost == (), "nobody took what could not be there"
    assert kernel.have_addresses == {V4, ORCHID}


def test_an_interface_that_is_not_there_is_an_error():
    with pytest.raises(SystemSetupError, match="no interface wh-none"):
        interface.find_link(FakeKernel(), "wh-none")


def test_only_addresses_that_others_can_use_are_local_addresses():
    kernel = FakeKernel()
    kernel.link_state = Link(2, NAME, True, 1408)
    eth0 = ["192.0.2.7", "2001:db8::7", "fe80::7", "169.254.1.1"]
    kernel.addresses = lambda: [
        LinkAddress(2, V4, True),
        LinkAddress(3, InterfaceAddress(ip_address("2001:db8::8"), 64), usable=False),
        LinkAddress(4, InterfaceAddress(ip_address("198.51.100.1"), 24), True),  # a link that is down
        LinkAddress(3, InterfaceAddress(ip_address("127.0.0.2"), 8), True),
        *(LinkAddress(3, InterfaceAddress(ip_address(ip), 24), True) for ip in eth0),
    ]
    found = interface.local_addresses(kernel, exclude=2)
    assert [str(ip) for ip in found] == ["192.0.2.7", "2001:db8::7", "169.254.1.1"]
    assert V4.ip in interface.local_addresses(kernel, exclude=None)


# The wake-up


class FakeLoop:
    def __init__(self):
        self.reader, self.timers = None, []

    def add_reader(self, source, callback):
        self.reader = callback

    def remove_reader(self, source):
        self.reader = None

    def call_later(self, delay, callback):
        self.timers.append((delay, callback))
        return self

    def cancel(self):
        self.timers.clear()


@pytest.fixture
def monitored():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    loop, calls = FakeLoop(), []
    monitor = LinkMonitor(loop, ours, lambda: calls.append("changed"))
    yield loop, theirs, calls, monitor
    monitor.close()
    theirs.close()


def test_a_burst_of_changes_is_one_callback(monitored):
    loop, kernel, calls, _ = monitored
    for _ in range(3):
        for _ in range(5):
            kernel.send(b"message")
        loop.reader()
    (timer,) = loop.timers
    assert (timer[0], calls) == (SETTLE_S, [])
    loop.timers.clear()
    timer[1]()
    assert calls == ["changed"]
    kernel.send(b"message")
    loop.reader()
    assert len(loop.timers) == 1


def test_no_callback_after_close(monitored):
    loop, kernel, calls, monitor = monitored
    kernel.send(b"message")
    loop.reader()
    monitor.close()
    monitor.close()
    assert (loop.reader, loop.timers, calls) == (None, [], [])


# TUN: names and errors


@pytest.mark.parametrize("name", ["", "x" * 16, "a b", "a/b", "..", "-x", "a\0", "a%d", "\u00e9", "all"])
def test_bad_interface_names_are_refused(name):
    with pytest.raises(SystemSetupError) as caught:
        tun.open_tun(name)
    assert caught.value.code == Code.BAD_INTERFACE_NAME


@pytest.mark.parametrize("name", ["wh-zW-1lBeQ", "wh-_-_-_-_-", "x" * 15, "tun0.1"])
def test_names_that_the_kernel_takes(name):
    tun.check_interface_name(name)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EPERM, Code.NOT_PERMITTED),
        (errno.EBUSY, Code.INTERFACE_TAKEN),
        (errno.EINVAL, Code.INTERFACE_TAKEN),
        (errno.ENODEV, Code.NO_TUN_DEVICE),
        (errno.ENOMEM, Code.NETWORK_SETUP),
    ],
)
def test_a_refused_tun_leaves_no_fd_and_says_why(monkeypatch, tmp_path, number, code):
    device = tmp_path / "tun"
    device.touch()
    monkeypatch.setattr(tun, "TUN_DEVICE", str(device))
    calls = []

    def refuse_second(fd, request, argument):
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", refuse_second)
    with pytest.raises(SystemSetupError) as caught:
        tun.open_tun(NAME, queues=3)
    assert caught.value.code == code
    for fd in calls:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_system_without_tun_is_told_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(tun, "TUN_DEVICE", str(tmp_path / "none"))
    with pytest.raises(SystemSetupError) as caught:
        tun.open_tun(NAME)
    assert caught.value.code == Code.NO_TUN_DEVICE
    assert "modprobe tun" in caught.value.hint


# The real kernel, in a network namespace that ends with the thread that made it


def with_link(scenario, *, queues=1):
    """Run scenario(links, fds) in a namespace that has a TUN of ours."""

    async def run():
        fds = tun.open_tun(NAME, queues=queues)
        manager = HostLinks(NAME)
        try:
            await scenario(manager, fds)
        finally:
            manager.close()
            tun.close_all(fds)

    in_namespace(lambda: asyncio.run(run()))


@needs_namespace
def test_a_tun_goes_with_its_fds():
    async def scenario(manager, fds):
        assert len(fds) == 2
        assert all(not os.get_blocking(fd) and not os.get_inheritable(fd) for fd in fds)
        assert NAME in ip("link")
        with pytest.raises(SystemSetupError) as caught:
            tun.open_tun(NAME, queues=2)
        assert caught.value.code == Code.INTERFACE_TAKEN
        tun.close_all(fds)
        fds.clear()
        assert NAME not in ip("link")

    with_link(scenario, queues=2)


@needs_namespace
def test_setup_makes_an_interface_usable_at_once():
    async def scenario(manager, fds):
        assert await manager.setup(wanted([V4, ORCHID], [route(ORCHIDS, ORCHID.ip), OTHER_NET])) == ()
        shown = ip("address", "show", "dev", NAME)
        assert "mtu 1408" in shown
        assert "10.0.42.2/24" in shown
        assert "2001:20::5/128" in shown
        assert "tentative" not in "".join(line for line in shown.splitlines() if "2001:20::5" in line)
        assert "2001:20::/28" in ip("-6", "route")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.bind(("2001:20::5", 0))
            sender.sendto(b"hello", ("2001:20::9", 9))
        sent = os.read(fds[0], 2000)[VNET_HEADER_LEN:]
        while sent[6] != socket.IPPROTO_UDP:  # the kernel's own neighbour and group messages
            sent = os.read(fds[0], 2000)[VNET_HEADER_LEN:]
        assert sent[8:24] == ip_address("2001:20::5").packed
        assert sent.endswith(b"hello")

    with_link(scenario)


@needs_namespace
def test_reload_changes_what_differs_and_nothing_else():
    async def scenario(manager, fds):
        await manager.setup(wanted([V4, ORCHID], [ORCHIDS, OTHER_NET]))
        ip("-6", "route", "add", "fd99::/64", "dev", NAME)  # by the user
        assert await manager.update(wanted([V4_NEXT, ORCHID], [ORCHIDS])) == ()
        assert "10.0.42.2" not in ip("address") + ip("route")
        assert "10.0.42.3/24" in ip("address")
        assert "10.7.0.0" not in ip("route")
        assert "fd99::/64" in ip("-6", "route")
        assert await manager.local_addresses() == []
        with contextlib.closing(HostLinks("wh-other")) as others:
            assert await others.local_addresses() == [V4_NEXT.ip], "the ORCHID is deprecated"

    with_link(scenario)


@needs_namespace
def test_a_failed_setup_leaves_the_link_as_it_was():
    def state():
        link = re.sub("qdisc [a-z_]+", "", ip("address", "show", "dev", NAME))  # chosen when first brought up
        return link, ip("route"), ip("-6", "route", "show", "dev", NAME)

    async def scenario(manager, fds):
        before = state()
        with pytest.raises(SystemSetupError, match="cannot add the route to 10.7.0.0/16"):
            await manager.setup(wanted([V4], [route(OTHER_NET, V4_NEXT.ip)]))  # an address that is not ours
        assert state() == before

    with_link(scenario)


@needs_namespace
def test_a_route_that_another_link_has_stays_there_with_a_warning():
    async def scenario(manager, fds):
        other = tun.open_tun("lan0")
        ip("link", "set", "lan0", "up")
        ip("route", "add", str(OTHER_NET), "dev", "lan0")
        (warning,) = await manager.setup(wanted([V4], [OTHER_NET]))
        assert (warning.code, str(warning)) == (Code.ROUTE_TAKEN, "lan0 already has a route to 10.7.0.0/16")
        assert f"{OTHER_NET} dev lan0" in ip("route")
        tun.close_all(other)

    with_link(scenario)


@needs_namespace
def test_an_interface_without_ipv6_works_without_it():
    async def scenario(manager, fds):
        Path(f"/proc/sys/net/ipv6/conf/{NAME}/disable_ipv6").write_text("1")
        (warning,) = await manager.setup(wanted([V4, ORCHID], [ORCHIDS]))
        assert warning.code == Code.NO_IPV6
        assert "10.0.42.2/24" in ip("address")

    with_link(scenario)


@needs_namespace
def test_no_packet_to_elsewhere_leaves_with_an_address_of_the_overlay():
    """A router whose uplink has no global address of its own: its prefix is on the LAN's bridge."""

    async def scenario(manager, fds):
        uplink, lan = tun.open_tun("ppp0"), tun.open_tun("lan0")
        for name in ("ppp0", "lan0"):
            ip("link", "set", name, "up")
        ip("address", "add", "2a02:db8::1/64", "dev", "lan0", "nodad")
        ip("-6", "route", "add", "default", "dev", "ppp0")
        subnet = InterfaceAddress(ip_address("2001:db8:42::2"), 64)
        routes = [route(ORCHIDS, ORCHID.ip), route(subnet.subnet, subnet.ip)]
        assert await manager.setup(wanted([ORCHID, subnet], routes)) == ()
        for to in ("2001:4860::1", "2001:db8:77::1", "2400::1", "fd00::1"):
            assert source_to(to) == "2a02:db8::1", to
        assert source_to("2001:20::9") == str(ORCHID.ip)
        assert source_to("2001:db8:42::9") == str(subnet.ip)
        tun.close_all([*uplink, *lan])

    with_link(scenario)


def source_to(destination):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.connect((destination, 9))
        return sender.getsockname()[0]


@needs_namespace
def test_changes_of_the_real_kernel_wake_us():
    def body():
        with open_change_socket() as changes:
            with pytest.raises(BlockingIOError):
                changes.recv(1)
            fds = tun.open_tun(NAME)
            changes.settimeout(5)
            assert struct.unpack_from("=IH", changes.recv(8192))[1] == 16  # RTM_NEWLINK
            tun.close_all(fds)

    in_namespace(body)


@needs_namespace
def test_errors_of_the_kernel_are_ours():
    def body():
        with contextlib.closing(open_netlink()) as kernel, pytest.raises(RtnetlinkError) as caught:
            kernel.add_address(9999, V4)
        assert caught.value.error_number == errno.ENODEV
        assert "10.0.42.2/24" in str(caught.value)

    in_namespace(body)


# The worker


def test_an_operation_is_repeated_when_its_dump_was_interrupted():
    attempts = []

    def operation(kernel):
        attempts.append(kernel)
        if len(attempts) < 3:
            raise DumpInterrupted("changing")
        return "done"

    assert of_host(operation) == "done"
    assert len(attempts) == 3
