"""The lab itself: packets go where they should, and nothing is left when it closes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import labnet
from labnet import Host, Lab, LabError, leftovers, wait_until

PRINT_SENDER = """
import socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.settimeout(10)
s.bind(("", 7000))
print("bound", flush=True)
print(s.recvfrom(9)[1])
"""
SEND_FROM_6000 = """
import socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("", 6000))
s.sendto(b"hello", ("192.0.2.7", 7000))
"""


def two_sites(lab: Lab, nat: str) -> tuple[Host, Host]:
    """An outer host and one behind a router with the given NAT kind."""
    outer_network, inner_network = lab.network("outer"), lab.network("inner")
    outer, inner, router = lab.host("outside"), lab.host("inside"), lab.router("router", nat)
    router.attach(outer_network, "192.0.2.1/24", "2001:db8:1::1/64", device="wan")
    router.attach(inner_network, "198.51.100.1/24", "2001:db8:2::1/64", device="lan")
    outer.attach(outer_network, "192.0.2.7/24", "2001:db8:1::7/64")
    inner.attach(inner_network, "198.51.100.7/24", "2001:db8:2::7/64")
    outer.default_route("192.0.2.1")
    outer.default_route("2001:db8:1::1")
    inner.default_route("198.51.100.1")
    inner.default_route("2001:db8:2::1")
    return outer, inner


def answers_ping(source: Host, address: str) -> bool:
    return source.run(["ping", "-nc1", "-W1", address], check=False).returncode == 0


@pytest.mark.parametrize("address", ["198.51.100.7", "2001:db8:2::7"])
def test_plain_router_passes_both_ways(lab: Lab, address: str) -> None:
    outer, inner = two_sites(lab, "none")
    assert answers_ping(outer, address)
    assert answers_ping(inner, "192.0.2.7")


@pytest.mark.parametrize("address", ["198.51.100.7", "2001:db8:2::7"])
def test_port_restricted_nat_lets_nothing_in_uninvited(lab: Lab, address: str) -> None:
    outer, inner = two_sites(lab, "port-restricted")
    assert not answers_ping(outer, address)
    assert answers_ping(inner, "192.0.2.7")
    assert answers_ping(inner, "2001:db8:1::7")


def test_port_restricted_nat_keeps_the_port_and_hides_the_address(lab: Lab) -> None:
    outer, inner = two_sites(lab, "port-restricted")
    server = outer.popen([sys.executable, "-c", PRINT_SENDER], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == "bound\n"
    inner.run([sys.executable, "-c", SEND_FROM_6000])
    assert server.stdout.readline() == "('192.0.2.1', 6000)\n"


def test_hosts_file_is_private_to_its_host(lab: Lab) -> None:
    first, second = lab.host("first"), lab.host("second")
    first.run(["sh", "-c", "echo 192.0.2.9 somewhere >> /etc/hosts"])
    assert "somewhere" in first.run(["cat", "/etc/hosts"]).stdout
    assert "somewhere" not in second.run(["cat", "/etc/hosts"]).stdout
    assert "somewhere" not in Path("/etc/hosts").read_text()


def test_failing_command_raises_with_its_output(lab: Lab) -> None:
    host = lab.host("host")
    with pytest.raises(LabError, match="exit code 3\nwhy it failed"):
        host.run(["sh", "-c", "echo why it failed; exit 3"])


def test_deadline_names_what_was_waited_for() -> None:
    with pytest.raises(TimeoutError, match="not within 0.1 s: pigs fly"):
        wait_until(lambda: False, 0.1, "pigs fly")


def test_failing_body_leaves_nothing_behind() -> None:
    root_devices = sorted(Path("/sys/class/net").iterdir())
    with pytest.raises(ZeroDivisionError), Lab("fails") as lab:
        outer, _ = two_sites(lab, "port-restricted")
        sleeper = outer.popen(["sleep", "1000"])
        outer.run(["setsid", "-f", "sh", "-c", "trap '' TERM; exec sleep 1000 >/dev/null 2>&1"])
        assert sleeper.pid in outer.pids()
        assert {line.split()[0] for line in leftovers(lab.token)} == {"namespace", "directory", "process"}
        _ = 1 // 0
    assert sleeper.returncode is not None
    assert leftovers(lab.token) == []
    assert not lab.directory.exists()
    assert sorted(Path("/sys/class/net").iterdir()) == root_devices


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_leaves_nothing_behind(number: signal.Signals) -> None:
    script = (
        "from labnet import Lab\n"
        "with Lab('signal') as lab:\n"
        "    host = lab.host('host')\n"
        "    print(lab.token, flush=True)\n"
        "    host.run(['sleep', '1000'], timeout=1000)\n"
    )
    sandbox = str(Path(labnet.__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": sandbox},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    token = child.stdout.readline().strip()
    wait_until(
        lambda: any(line.startswith("process") for line in leftovers(token)), 10, "the child's sleep runs"
    )
    child.send_signal(number)
    assert child.wait(20) != 0
    child.stdout.close()
    assert leftovers(token) == []


def test_two_labs_of_one_name_live_side_by_side() -> None:
    with Lab("twin") as first, Lab("twin") as second:
        for lab in (first, second):
            outer, _ = two_sites(lab, "none")
            assert answers_ping(outer, "198.51.100.7")
