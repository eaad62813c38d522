"""How a WireGuard interface comes and goes: its process, its configuration socket, other namespaces."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labnet import Host, Lab, wait_until
from wireguard_ends import (
    MESSAGE_OVERHEAD,
    UAPI_DIRECTORY,
    End,
    Iperf3Server,
    ping_both_ways,
    same_wire,
    sockets_removed,
    start_and_connect,
)

# Makes what its first word names, and runs the rest with its descriptor in that variable.
HAND_OVER = """
import os, socket, sys
from wh.net.links.tun import open_tun
from wh.net.wireguard.uapi_server import open_uapi_socket
variable, name, *command = sys.argv[1:]
fd = open_tun(name)[0] if variable == "WG_TUN_FD" else open_uapi_socket(name).detach()
os.set_inheritable(fd, True)
os.environ[variable] = str(fd)
os.execvp(command[0], command)
"""


@pytest.fixture
def ends(lab: Lab) -> Iterator[tuple[End, End]]:
    made = same_wire(lab)
    with sockets_removed(*made):
        yield made


def process_ends(end: End) -> None:
    wait_until(lambda: not end.host.pids(), 5, "the process ends")
    assert not end.uapi_socket.exists()


# --- ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["up", "down"])
def test_the_process_ends_with_its_interface(ends: tuple[End, End], state: str) -> None:
    a = ends[0]
    a.start()
    a.host.ip("link", "set", a.interface, state)
    a.host.ip("link", "delete", a.interface)
    process_ends(a)


def test_an_interface_that_is_deleted_under_load_takes_its_process_along(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    ping_both_ways(ends)
    stream = Iperf3Server(b.host).start_client(a.host, b.inner, "-t10")
    sent = a.transfer(b)[1]
    wait_until(lambda: a.transfer(b)[1] > sent + 1_000_000, 5, "traffic flows")
    a.host.ip("link", "delete", a.interface)
    wait_until(lambda: not a.uapi_socket.exists(), 5, "the process ends")
    stream.kill()
    process_ends(a)


def test_the_process_ends_with_its_configuration_socket(ends: tuple[End, End]) -> None:
    a = ends[0]
    a.start()
    assert a.show("transfer") == {}
    a.uapi_socket.unlink()
    wait_until(lambda: not a.host.pids(), 5, "the process ends")
    assert a.interface not in a.host.ip("link", "show")


def test_a_signal_ends_it_and_removes_everything(ends: tuple[End, End]) -> None:
    a = ends[0]
    process = a.host.popen(["wh-wireguard", "-f", a.interface])
    wait_until(a.uapi_socket.exists, 10, "the configuration socket is there")
    assert a.show("transfer") == {}  # and served
    process.terminate()
    assert process.wait(5) == 0
    assert not a.uapi_socket.exists()
    assert a.interface not in a.host.ip("link", "show")


def test_a_killed_process_leaves_nothing_that_hinders_the_next(ends: tuple[End, End]) -> None:
    a = ends[0]
    process = a.host.popen(["wh-wireguard", "-f", a.interface])
    wait_until(a.uapi_socket.exists, 10, "the configuration socket is there")
    process.kill()
    process.wait(5)
    a.start()
    assert a.show("transfer") == {}


# --- starts -------------------------------------------------------------------------------------------------


def test_only_root_may_open_the_configuration_socket(ends: tuple[End, End]) -> None:
    ends[0].start()
    assert stat.S_IMODE(ends[0].uapi_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(UAPI_DIRECTORY.stat().st_mode) & 0o022 == 0


@pytest.mark.parametrize("variable", ["WG_TUN_FD", "WG_UAPI_FD"])
@pytest.mark.parametrize("foreground", [True, False])
def test_descriptors_may_be_handed_over(ends: tuple[End, End], variable: str, foreground: bool) -> None:
    a, b = ends
    command = ["wh-wireguard", a.interface]
    environment = {"WG_PROCESS_FOREGROUND": "1"} if foreground else {}
    a.host.popen([sys.executable, "-c", HAND_OVER, variable, a.interface, *command], env=environment)
    wait_until(a.uapi_socket.exists, 10, "the configuration socket is there")
    wait_until(lambda: a.interface in a.host.ip("link", "show"), 10, "the interface is there")
    b.start()
    for end, other in (ends, ends[::-1]):
        end.listen()
        end.know(other)
    ping_both_ways(ends)
    a.host.ip("link", "delete", a.interface)
    process_ends(a)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WG_TUN_FD": "99"}, "WG_TUN_FD=99 is not an open descriptor"),
        ({"WG_TUN_FD": "x"}, "WG_TUN_FD=x is not an open descriptor"),
        ({"WG_TUN_FD": "0"}, "WG_TUN_FD is not a TUN interface"),
        ({"WG_UAPI_FD": "0"}, "WG_UAPI_FD is not a"),
    ],
)
def test_descriptors_that_are_none_are_refused(
    ends: tuple[End, End], variables: dict[str, str], words: str
) -> None:
    a = ends[0]
    refused = a.host.run(["wh-wireguard", a.interface], check=False, env=variables)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert a.interface not in a.host.ip("link", "show")


def test_its_version_and_its_usage(ends: tuple[End, End]) -> None:
    host = ends[0].host
    assert host.run(["wh-wireguard", "--version"]).stdout.startswith("wh-wireguard ")
    assert "usage: wh-wireguard" in host.run(["wh-wireguard", "--help"]).stdout
    assert host.run(["wh-wireguard"], check=False).returncode == 2
    assert host.run(["wh-wireguard", "a-name-that-is-too-long"], check=False).returncode == 1


# --- other namespaces ---------------------------------------------------------------------------------------


@pytest.fixture
def moved(lab: Lab, ends: tuple[End, End]) -> tuple[End, End, Host]:
    """The first end's interface is in another namespace, without any way out but the tunnel."""
    a, b = ends
    elsewhere = lab.host("elsewhere")
    start_and_connect(ends)
    a.host.ip("link", "set", a.interface, "netns", elsewhere.namespace)
    elsewhere.ip("address", "add", f"{a.inner}/24", "dev", a.interface)
    elsewhere.ip("address", "add", f"{a.inner6}/64", "dev", a.interface, "nodad")
    elsewhere.ip("link", "set", a.interface, "up")
    return a, b, elsewhere


def reaches(host: Host, address: str, *options: str) -> bool:
    return host.run(["ping", "-c1", "-W2", *options, address], check=False).returncode == 0


def test_a_moved_interface_works_and_its_sockets_stay(moved: tuple[End, End, Host]) -> None:
    a, b, elsewhere = moved
    assert reaches(elsewhere, b.inner)
    assert reaches(b.host, a.inner6)
    assert str(a.port) not in elsewhere.run(["ss", "-Hlun"]).stdout
    for host in (a.host, elsewhere):
        assert b.public_key in host.run(["wg", "show", a.interface]).stdout
    a.wg_set("listen-port", "5555")
    assert "5555" in a.host.run(["ss", "-Hlun"]).stdout, "new sockets are made where the process was born"
    assert reaches(elsewhere, b.inner)
    assert b.endpoint_of(a) == f"{a.outer}:5555"


def test_the_mtu_of_a_moved_interface_is_followed(moved: tuple[End, End, Host]) -> None:
    a, b, elsewhere = moved
    assert reaches(elsewhere, b.inner)
    elsewhere.ip("link", "set", a.interface, "mtu", "1404")

    def message_len() -> int:
        before = a.transfer(b)[1]
        assert reaches(elsewhere, b.inner, f"-s{1401 - 28}")
        return a.transfer(b)[1] - before

    wait_until(lambda: message_len() == 1404 + MESSAGE_OVERHEAD, 5, "padding ends at the new MTU")


def test_a_moved_interface_ends_with_its_namespace(lab: Lab, moved: tuple[End, End, Host]) -> None:
    """Nothing of ours keeps that alive."""
    a, b, elsewhere = moved
    assert reaches(elsewhere, b.inner)
    namespace = elsewhere.namespace
    subprocess.run(["ip", "netns", "delete", namespace], check=True)
    try:
        process_ends(a)
    finally:
        subprocess.run(["ip", "netns", "add", namespace], check=True)  # for the lab to delete


def test_a_moved_interface_that_is_deleted_ends_its_process(moved: tuple[End, End, Host]) -> None:
    a, _, elsewhere = moved
    elsewhere.ip("link", "delete", a.interface)
    process_ends(a)
