"""0nc between two hosts of one LAN, without root, without any other node."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labnet import Host, Lab, wait_until
from znc_ends import NOBODY, End, as_nobody

CONNECTED_LIMIT_S = 2.0
"""Loose: the machine may be busy. The goal is 0.5 s; `make bench-znc` measures."""

SIZE = 40_000_000


class Lan:
    def __init__(self, lab: Lab) -> None:
        network = lab.network("lan")
        self.a, self.b = lab.host("a"), lab.host("b")
        self.a.attach(network, "192.0.2.1/24", "2001:db8::1/64")
        self.b.attach(network, "192.0.2.2/24", "2001:db8::2/64")
        self.network = network


@pytest.fixture
def lan(lab: Lab) -> Lan:
    return Lan(lab)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    yield path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("user", ["nobody", "nobody with a TUN", "root"])
def test_a_file_goes_over_and_both_ends_know(lan: Lan, data: Path, user: str):
    users = {"nobody": NOBODY, "nobody with a TUN": (*with_tun(lan.a), *NOBODY), "root": ()}
    copy = data.with_name("copy")
    with data.open("rb") as source, copy.open("wb") as sink:
        host = End(lan.a, stdin=source.fileno(), user=users[user])
        guest = End(lan.b, [host.invitation()], stdout=sink.fileno(), user=users[user])
        assert (guest.wait(), host.wait()) == (0, 0), host.log.read_text() + guest.log.read_text()
    assert digest(copy) == digest(data)
    connected = guest.event("connected")
    assert connected["path"].startswith("direct 192.0.2.1:") or "2001:db8::1" in connected["path"]
    assert connected["words"] == host.event("connected")["words"]
    assert connected["seconds"] < CONNECTED_LIMIT_S
    assert host.event("done")["sent"] == guest.event("done")["received"] == data.stat().st_size


def with_tun(host: Host) -> tuple[str, ...]:
    """A /dev/net/tun for everybody, as most systems have it, in a mount namespace that ends with the
    program."""
    node = host.directory / "tun"
    script = f'[ -e {node} ] || mknod -m 666 {node} c 10 200; mount --bind {node} /dev/net/tun; exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")


def test_a_command_that_ends_ends_both_ends_with_its_status(lan: Lan):
    """The guest's standard input stays open: nobody types."""
    for options, codes in (((), (0, 0)), (("--status",), (7, 7))):
        host = End(lan.a, ["-e", "echo served; exit 7", *options])
        guest = End(lan.b, [*options, host.invitation()], stdin=subprocess.PIPE)
        assert (host.wait(), guest.wait()) == codes
        assert guest.event("done")["status"] == 7


def test_progress_tells_rate_total_and_path(lan: Lan, data: Path):
    with data.open("rb") as source:
        host = End(lan.a, ["--progress"], stdin=source.fileno())
        guest = End(lan.b, ["--progress", host.invitation()])
        assert (guest.wait(), host.wait()) == (0, 0)
    all_sent, (*_, received) = (
        [event for event in end.events() if event["event"] == "progress"] for end in (host, guest)
    )
    sent = all_sent[-1]
    assert sent["sent"] == sent["total"] == received["received"] == data.stat().st_size
    assert received["total"] is None
    assert sent["rate"] > 0
    # The last is told when all is over: the other end may have left by then.
    assert any(event["path"].startswith("direct ") for event in all_sent), all_sent


def test_both_directions_at_once_and_one_ends_before_the_other(lan: Lan):
    host = End(lan.a, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    guest = End(lan.b, [host.invitation()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for end in (host, guest):
        assert end.process.stdin is not None and end.process.stdout is not None
    host.process.stdin.write("question")
    host.process.stdin.close()
    assert guest.process.stdout.read() == "question"
    guest.process.stdin.write("answer")
    guest.process.stdin.close()
    assert host.process.stdout.read() == "answer"
    assert (guest.wait(), host.wait()) == (0, 0)


def test_nothing_of_the_hosts_is_touched(lan: Lan):
    before = [configuration(host) for host in (lan.a, lan.b)]
    host = End(lan.a, stdin=subprocess.PIPE)
    guest = End(lan.b, [host.invitation()], stdin=subprocess.PIPE)
    guest.event("connected")
    assert [configuration(each) for each in (lan.a, lan.b)] == before
    host.process.kill()
    guest.process.kill()
    wait_until(lambda: not lan.a.pids() and not lan.b.pids(), 10, "the helpers have ended too")
    assert [configuration(each) for each in (lan.a, lan.b)] == before


def configuration(host: Host) -> str:
    return host.ip("-o", "link") + host.ip("-o", "address") + host.ip("route") + host.ip("-6", "route")


def test_an_invitation_works_once(lan: Lan):
    host = End(lan.a, ["-k", "--recv-only"], stdin=subprocess.PIPE)
    invitation = host.invitation()
    guest = End(lan.b, [invitation])
    assert guest.wait() == 0
    late = End(lan.b, [invitation])
    assert late.wait() == 4
    assert late.event("error")["code"] == "WH146"
    host.process.kill()


def test_an_invitation_with_an_old_address_is_found_in_the_lan(lan: Lan):
    """By multicast: no other node is there to ask."""
    host = End(lan.a, stdin=subprocess.PIPE)
    invitation = host.invitation()
    for family, address in (("-4", "192.0.2.9/24"), ("-6", "2001:db8::9/64")):
        lan.a.ip(family, "address", "flush", "dev", "eth0", "scope", "global")
        lan.a.ip("address", "add", address, "dev", "eth0")
    guest = End(lan.b, ["--lan", invitation], stdin=subprocess.PIPE)
    path = guest.event("connected")["path"]
    assert path.startswith("direct 192.0.2.9:") or "2001:db8::9" in path
    host.process.kill()
    guest.process.kill()


def test_an_invitation_that_nobody_keeps_is_unreachable(lan: Lan):
    host = End(lan.a)
    invitation = host.invitation()
    host.process.kill()
    host.wait()
    guest = End(lan.b, ["-w", "2", invitation])
    started = time.monotonic()
    assert guest.wait() == 5
    assert time.monotonic() - started < 10


def test_many_guests_get_a_command_each(lan: Lan):
    host = End(lan.a, ["-k", "-e", "cat; echo served"], stdin=subprocess.PIPE)
    for number in range(3):
        wait_until(lambda: len(invitations(host)) > number, 20, "there is a new invitation")  # noqa: B023
        guest = lan.b.run(
            [*NOBODY, "0nc", "-q", "-"], input=f"{invitations(host)[number]}\nhello {number}\n", check=False
        )
        assert (guest.returncode, guest.stdout) == (0, f"hello {number}\nserved\n"), guest.stderr
    host.process.kill()


def invitations(host: End) -> list[str]:
    return [event["text"] for event in host.events() if event["event"] == "invitation"]


def test_nobody_comes(lan: Lan):
    assert End(lan.a, ["-w", "1"]).wait() == 5
    assert End(lan.a, ["--expires", "1s"]).wait() == 4


def test_a_full_disk_is_told_to_both(lan: Lan, data: Path):
    with data.open("rb") as source, Path("/dev/full").open("wb") as full:
        host = End(lan.a, stdin=source.fileno())
        guest = End(lan.b, [host.invitation()], stdout=full.fileno())
        assert (guest.wait(), host.wait()) == (1, 1)
    assert "No space left" in guest.event("error")["message"]
    assert "No space left" in host.event("error")["message"]


def test_a_reader_that_leaves_is_told_to_both(lan: Lan, data: Path):
    with data.open("rb") as source:
        host = End(lan.a, stdin=source.fileno())
        guest = End(lan.b, [host.invitation()], stdout=subprocess.PIPE)
        assert guest.process.stdout is not None
        guest.process.stdout.close()
        assert (guest.wait(), host.wait()) == (1, 1)
    assert "Broken pipe" in guest.event("error")["message"]


def test_a_transfer_that_broke_goes_on_where_it_stopped(lan: Lan, data: Path):
    """The sender is killed in the middle; then both ends are started anew."""
    copy = as_nobody(lan.b, lan.b.directory) / "copy"
    resume = ["--resume", str(copy), "--patience", "2s"]
    with data.open("rb") as source:
        host = End(lan.a, stdin=source.fileno())
        guest = End(lan.b, [*resume, host.invitation()])
        wait_until(lambda: copy.exists() and copy.stat().st_size > SIZE // 10, 20, "some of it is there")
        host.process.kill()
        assert guest.wait() == 7
    there = copy.stat().st_size
    assert 0 < there < data.stat().st_size
    with data.open("rb") as source:
        host = End(lan.a, stdin=source.fileno())
        guest = End(lan.b, [*resume, host.invitation()])
        assert (host.wait(), guest.wait()) == (0, 0), guest.log.read_text()
    assert digest(copy) == digest(data)
    assert host.event("done")["skipped"] == there
    assert guest.event("done")["received"] == data.stat().st_size - there


@pytest.mark.slow
@pytest.mark.parametrize("who", ["host", "guest"])
def test_a_pause_is_told_of_and_survived(lan: Lan, who: str):
    """Longer than any path or connection lived through before."""
    host = End(lan.a, stdin=subprocess.PIPE)
    guest = End(lan.b, [host.invitation()], stdin=subprocess.PIPE)
    guest.event("connected")
    paused, waiting = (host, guest) if who == "host" else (guest, host)
    paused.process.send_signal(signal.SIGSTOP)
    silent = waiting.event("silent")
    assert silent["until"] - silent["since"] == 630
    time.sleep(75)  # what is tested is the time
    paused.process.send_signal(signal.SIGCONT)
    assert waiting.event("heard")["seconds"] > 75
    paused.event("silent")
    for end in (host, guest):
        end.process.stdin.close()  # type: ignore[union-attr]
    assert (host.wait(), guest.wait()) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_an_interrupt_is_told_to_the_other_end(lan: Lan, number: signal.Signals):
    host = End(lan.a, stdin=subprocess.PIPE)
    guest = End(lan.b, [host.invitation()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert host.process.stdin is not None and guest.process.stdout is not None
    host.process.stdin.write("a")
    host.process.stdin.flush()
    assert guest.process.stdout.read(1) == "a"
    guest.process.send_signal(number)
    assert guest.wait() == 130
    assert host.wait() == 7
    assert "interrupted" in host.event("error")["message"]


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1])
def test_an_interrupt_at_any_moment_is_known_at_the_other_end(lan: Lan, after_s: float):
    host = End(lan.a, stdin=subprocess.PIPE)
    guest = End(lan.b, [host.invitation()], stdin=subprocess.PIPE)
    guest.event("connected")
    time.sleep(after_s)  # a moment is what is tested
    guest.process.send_signal(signal.SIGINT)
    assert (guest.wait(), host.wait()) == (130, 7)


def test_an_interrupt_while_nobody_is_there(lan: Lan):
    host = End(lan.a, stdin=subprocess.PIPE)
    host.invitation()
    host.process.send_signal(signal.SIGINT)
    assert host.wait(5) == 130


def test_a_peer_that_is_killed_is_a_loss(lan: Lan, data: Path):
    with data.open("rb") as source:
        host = End(lan.a, ["--idle", "3"], stdin=source.fileno())
        guest = End(lan.b, [host.invitation()], stdout=subprocess.PIPE)  # which is not read: it stands still
        guest.event("connected")
        host.event("accepted")
        guest.process.kill()
        assert host.wait() == 7


def test_plain_tcp_speaks_with_ncat(lan: Lan, data: Path):
    if shutil.which("ncat") is None:
        pytest.skip("ncat is not installed")
    copy = data.with_name("copy")
    with data.open("rb") as source, copy.open("wb") as sink:
        listener = lan.b.popen(["ncat", "-l", "-p", "4000", "--recv-only"], stdout=sink.fileno())
        sender = lan.a.popen(["0nc", "-w", "10", "192.0.2.2", "4000"], stdin=source.fileno())
        assert (sender.wait(30), listener.wait(30)) == (0, 0)
    assert digest(copy) == digest(data)
    with data.open("rb") as source, copy.open("wb") as sink:
        listener = lan.b.popen(["0nc", "-l", "4001"], stdout=sink.fileno())
        wait_until(lambda: "4001" in lan.b.run(["ss", "-tln"]).stdout, 10, "0nc listens")
        sender = lan.a.popen(["ncat", "--send-only", "192.0.2.2", "4001"], stdin=source.fileno())
        assert (sender.wait(30), listener.wait(30)) == (0, 0)
    assert digest(copy) == digest(data)


def test_exit_codes_of_plain_tcp(lan: Lan):
    assert lan.a.run(["0nc", "192.0.2.2", "4000"], check=False).returncode == 5
    assert lan.a.run(["0nc", "no-such-host.invalid", "4000"], check=False).returncode == 5
    assert lan.a.run(["0nc", "-w", "1", "-l", "4000"], check=False).returncode == 5


class Terminals:
    """A tmux with one window for each of two hosts."""

    def __init__(self, directory: Path) -> None:
        self._socket = str(directory / "tmux")

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def open(self, name: str, command: str) -> None:
        self.tmux(
            "new-session", "-d", "-s", name, "-x", "300", "-y", "50", f"{command}; echo exit=$?; exec cat"
        )

    def type(self, name: str, *keys: str) -> None:
        self.tmux("send-keys", "-t", name, *keys)

    def screen(self, name: str) -> str:
        return self.tmux("capture-pane", "-p", "-J", "-t", name)

    def wait_for(self, name: str, text: str) -> None:
        wait_until(lambda: text in self.screen(name), 20, f"{name} shows {text}")

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True)


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    made = Terminals(tmp_path)
    yield made
    made.close()


def test_two_people_type_to_each_other_and_end_each_direction(lan: Lan, terminals: Terminals):
    path = lan.a.environment()["PATH"]

    def command(host: Host, *arguments: str) -> str:
        return f"PATH={path} {' '.join(host.argv([*NOBODY, '0nc', *arguments]))}"

    terminals.open("a", command(lan.a))
    terminals.wait_for("a", "\nwh2")
    invitation = next(line for line in terminals.screen("a").splitlines() if line.startswith("wh2"))
    terminals.open("b", command(lan.b, invitation.strip()))
    terminals.wait_for("b", "connected")
    terminals.type("a", "hello from a", "Enter")
    terminals.wait_for("b", "hello from a")
    terminals.type("b", "hello from b", "Enter")
    terminals.wait_for("a", "hello from b")
    terminals.type("a", "C-d")
    terminals.type("b", "still here", "Enter")
    terminals.wait_for("a", "still here")
    assert "exit=" not in terminals.screen("a") + terminals.screen("b")
    terminals.type("b", "C-d")
    terminals.wait_for("a", "exit=0")
    terminals.wait_for("b", "exit=0")
