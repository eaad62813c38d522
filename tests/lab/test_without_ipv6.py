"""A member whose host has IPv6 disabled: its kernel drops inner IPv6 in silence, and nobody waits for it."""

from __future__ import annotations

import socket
import time

import pytest

from inside import inside
from labnet import Host, wait_until
from tutorial import INTERFACE, Tutorial

SOON_S = 1.0
"""It was 45 s and more, until the kernel had given up."""
TOLD_S = 10.0
BACK_S = 40.0
PORT = 5001


def set_ipv6(host: Host, *, disabled: bool) -> None:
    names = ("all", "default") if INTERFACE not in host.ip("link") else ("all", "default", INTERFACE)
    for name in names:
        host.run(["sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6={int(disabled)}"])


def answer_after(host: Host, kind: socket.SocketKind, address: str) -> tuple[float, str]:
    """Until a program that speaks to a port there, of which nobody listens, knows that it need not wait."""

    def attempt() -> tuple[float, str]:
        began = time.monotonic()
        with socket.socket(socket.AF_INET6, kind) as client:
            client.settimeout(60)
            try:
                client.connect((address, PORT))
                client.send(b"?")
                client.recv(1)
                said = "an answer"
            except OSError as error:
                said = type(error).__name__ + f": {error.strerror}"
        return time.monotonic() - began, said

    return inside(host, attempt)


def ipv6_names(host: Host, name: str) -> list[str]:
    lines = (line.split() for line in host.hosts_file.read_text().splitlines())
    return [words[0] for words in lines if words[1:2] == [name] and ":" in words[0]]


def test_what_goes_there_by_ipv6_fails_at_once(tutorial: Tutorial) -> None:
    a, b = tutorial.node_a, tutorial.node_b
    set_ipv6(b, disabled=True)
    tutorial.up_all()
    orchid = tutorial.inspect(b)["orchid"]
    wait_until(lambda: a.run(["ping", "-c1", "-W1", b.name], check=False).returncode == 0, TOLD_S, "a path")
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        took_s, said = answer_after(a, kind, orchid)
        print(f"{kind.name}: {said} after {took_s:.2f} s")
        assert took_s < SOON_S
        assert said != "an answer"
    assert "nreachable" in a.run(["ping", "-c1", "-W2", orchid], check=False).stdout
    assert "WH220" in b.run(["wh"]).stdout


@pytest.mark.slow
def test_ipv6_that_comes_and_goes_is_followed(running: Tutorial) -> None:
    a, b = running.node_a, running.node_b
    orchid = running.inspect(b)["orchid"]
    assert a.run(["ping", "-c3", "-W2", orchid]).returncode == 0
    for _ in range(2):
        set_ipv6(b, disabled=True)
        wait_until(lambda: not ipv6_names(a, b.name), BACK_S, "its name has IPv4 alone")
        assert answer_after(a, socket.SOCK_STREAM, orchid)[0] < SOON_S
        assert ipv6_names(a, a.name)
        assert "takes no IPv6" in a.run(["wh"]).stdout
        set_ipv6(b, disabled=False)
        wait_until(lambda: ipv6_names(a, b.name) == [orchid], BACK_S, "its name has both again")
        assert a.run(["ping", "-c3", "-W2", orchid], check=False).returncode == 0
