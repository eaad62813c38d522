"""The daemon as a process: a node without overlay, which needs no privilege, started as by `wh up`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from wh.ipc import client, schema
from wh.system.exit_codes import exit_code_of
from whcore.keys import SecretKey, encode_key, encode_key_wg

ROOT = Path(__file__).parents[3]
INTERFACE = "wh-test"
PATIENCE_S = 20
NETWORK = "name public\nworkbit 0\n"
PEER = encode_key(SecretKey.generate().public_key)


class Daemons:
    """Starts daemons that share a run directory, and ends them with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run_directory = directory / "run"
        self.network_file = directory / "network"
        self.network_file.write_text(NETWORK)
        self.key_file = directory / "key"
        with self.key_file.open("wb") as file:
            SecretKey.generate().write_fd(file.fileno())
        self._processes: list[subprocess.Popen[str]] = []

    def start(
        self, *options: str, before: Callable[[subprocess.Popen[str]], None] = lambda _: None
    ) -> tuple[subprocess.Popen[str], schema.Readiness]:
        """The process, and what it reported on its readiness pipe. before: done before it can be ready."""
        ready, child_ready = os.pipe()
        fds = [os.open(self.network_file, os.O_RDONLY), os.open(self.key_file, os.O_RDONLY), child_ready]
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "wh.daemon.process", f"--config-path={self.network_file}"),
                *(f"--config-fd={fds[0]}", f"--key-fd={fds[1]}", f"--ready-fd={fds[2]}"),
                *(f"--interface={INTERFACE}", *options),
            ],
            pass_fds=fds,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._processes.append(process)
        before(process)
        for fd in fds:
            os.close(fd)
        with os.fdopen(ready, "rb") as pipe:
            line = pipe.read()  # up to its end: nothing else keeps the pipe open
        return process, msgspec.json.decode(line, type=schema.Readiness)

    def start_well(self, *options: str) -> tuple[subprocess.Popen[str], schema.Ready]:
        process, readiness = self.start(*options)
        assert readiness.ok is not None, readiness.error
        return process, readiness.ok

    def start_badly(self, *options: str) -> schema.Failure:
        """The error of a start that fails; the process ends by itself and leaves nothing."""
        process, readiness = self.start(*options)
        assert readiness.error is not None
        assert process.wait(PATIENCE_S) == exit_code_of(readiness.error.code)
        assert "Traceback" not in end_of_log(process)
        return readiness.error

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemons]:
    monkeypatch.setenv("WH_RUNDIR", str(tmp_path / "run"))
    monkeypatch.setenv("WH_STATEDIR", str(tmp_path / "state"))
    made = Daemons(tmp_path)
    yield made
    made.close()


def end_of_log(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=PATIENCE_S)[1]


def status() -> schema.Status:
    return client.call(INTERFACE, schema.STATUS, schema.NoArguments())


def reload() -> schema.Reloaded:
    return client.call(INTERFACE, schema.RELOAD, schema.NoArguments())


def test_a_ready_daemon_answers_for_what_it_said(daemons: Daemons) -> None:
    process, ready = daemons.start_well()
    told = status()
    assert (told.interface, told.pid, told.network) == (INTERFACE, process.pid, "public")
    assert (told.public_key, told.listen_port) == (ready.public_key, ready.listen_port)
    assert ready.listen_port != 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(daemons: Daemons, number: signal.Signals) -> None:
    process, _ = daemons.start_well()
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 0
    assert not list(daemons.run_directory.glob("*.sock"))
    assert "Traceback" not in end_of_log(process)


def test_a_signal_that_came_too_early_for_anybody_stops_it_all_the_same(daemons: Daemons) -> None:
    """As whoever starts a container's first process has them wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        process, readiness = daemons.start(before=lambda process: process.send_signal(signal.SIGTERM))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    assert readiness.ok is not None
    assert process.wait(PATIENCE_S) == 0
    assert not list(daemons.run_directory.glob("*.sock"))


def test_down_is_answered_before_the_daemon_goes(daemons: Daemons) -> None:
    process, _ = daemons.start_well()
    assert client.call(INTERFACE, schema.DOWN, schema.NoArguments()) == schema.Nothing()
    assert process.wait(PATIENCE_S) == 0


def test_a_second_daemon_on_a_name_is_refused_and_the_first_lives(daemons: Daemons) -> None:
    process, _ = daemons.start_well()
    assert daemons.start_badly().code == "WH222"
    assert status().pid == process.pid


def test_a_second_daemon_with_the_same_key_is_refused(daemons: Daemons) -> None:
    """Under another name too: each would take the other's packets away."""
    process, _ = daemons.start_well()
    assert daemons.start_badly("--interface=wh-other").code == "WH222"
    assert status().pid == process.pid
    process.kill()
    process.wait(PATIENCE_S)
    daemons.start_well("--interface=wh-other")


def test_a_new_daemon_takes_over_from_one_that_was_killed(daemons: Daemons) -> None:
    process, _ = daemons.start_well()
    process.kill()
    process.wait(PATIENCE_S)
    successor, _ = daemons.start_well()
    assert status().pid == successor.pid


def test_a_restarted_daemon_comes_back_on_its_port(daemons: Daemons) -> None:
    """Which those who know it still try, and which the NATs in front of them still let in."""
    process, ready = daemons.start_well()
    process.kill()
    process.wait(PATIENCE_S)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rival:
        rival.bind(("", ready.listen_port))
        process, elsewhere = daemons.start_well()
        assert elsewhere.listen_port != ready.listen_port
    process.kill()
    process.wait(PATIENCE_S)
    assert daemons.start_well()[1].listen_port == elsewhere.listen_port


def test_a_port_in_use_is_refused_and_nothing_is_left(daemons: Daemons) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as owner:
        owner.bind(("", 0))
        failure = daemons.start_badly(f"--listen-port={owner.getsockname()[1]}")
    assert failure.code == "WH214"
    assert not list(daemons.run_directory.glob("*.sock"))


def test_our_own_endpoint_in_the_file_gives_the_port(daemons: Daemons) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as finder:
        finder.bind(("", 0))
        free = finder.getsockname()[1]
    secret = SecretKey.generate()
    with daemons.key_file.open("wb") as file:
        secret.write_fd(file.fileno())
    daemons.network_file.write_text(f"{NETWORK}boot {encode_key(secret.public_key)} 192.0.2.1:{free}\n")
    assert daemons.start_well()[1].listen_port == free


def test_a_broken_network_file_is_refused_with_its_place(daemons: Daemons) -> None:
    daemons.network_file.write_text("name public\nworkbot 8\n")
    failure = daemons.start_badly()
    assert failure.place == f"{daemons.network_file}:2:1"


@pytest.mark.parametrize("text", ["", "no key", "A" * 43])
def test_a_bad_key_is_refused(daemons: Daemons, text: str) -> None:
    daemons.key_file.write_text(text)
    assert daemons.start_badly().code == "WH101"


def test_an_impossible_interface_name_is_refused(daemons: Daemons) -> None:
    assert daemons.start_badly("--interface=../x").code == "WH213"


def test_reload_adds_and_removes_peers(daemons: Daemons) -> None:
    daemons.start_well()
    daemons.network_file.write_text(f"{NETWORK}peer {PEER} 192.0.2.1\n")
    assert reload() == schema.Reloaded(added=[PEER], removed=[], changed=[])
    assert [peer.public_key for peer in status().peers] == [PEER]
    daemons.network_file.write_text(f"{NETWORK}peer {PEER} 192.0.2.2\n")
    assert reload() == schema.Reloaded(added=[], removed=[], changed=[PEER])
    daemons.network_file.write_text(NETWORK)
    assert reload() == schema.Reloaded(added=[], removed=[PEER], changed=[])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"{NETWORK}peer {PEER}\nnonsense\n", "WH112"),
        ("name other\nworkbit 0\n", "WH225"),
        (f"{NETWORK}namespace other\n", "WH225"),
        ("name public\nworkbit 1\n", "WH225"),
        (f"{NETWORK}secret {encode_key_wg(bytes(range(32)))}\n", "WH225"),
        (f"{NETWORK}subnet 10.9.0.0/16\n", "WH225"),
    ],
)
def test_a_file_that_cannot_be_loaded_changes_nothing(daemons: Daemons, text: str, code: str) -> None:
    daemons.start_well()
    daemons.network_file.write_text(text)
    with pytest.raises(client.DaemonError) as caught:
        reload()
    assert caught.value.code == code
    assert str(caught.value.place).startswith(str(daemons.network_file))
    assert status().peers == []


def test_sighup_reloads_and_tells_errors_to_the_log(daemons: Daemons) -> None:
    process, _ = daemons.start_well()
    daemons.network_file.write_text("nonsense\n")
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    assert any(f"{daemons.network_file}:1:1: " in line for line in process.stderr)


def test_neither_a_core_dump_nor_an_open_file_holds_the_key(daemons: Daemons) -> None:
    process, _ = daemons.start_well()
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    (core,) = (line.split() for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core[4:6] == ["0", "0"]
    open_files = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            open_files.add(str(link.readlink()))
    assert open_files
    assert str(daemons.key_file) not in open_files


def test_a_daemon_that_nobody_waits_for_lives_on(daemons: Daemons) -> None:
    """`wh up` was ended while it waited: its end of the readiness pipe is closed."""
    ready, child_ready = os.pipe()
    os.close(ready)
    config, key = (os.open(path, os.O_RDONLY) for path in (daemons.network_file, daemons.key_file))
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "wh.daemon.process", f"--config-fd={config}", f"--key-fd={key}"),
            *(f"--ready-fd={child_ready}", f"--interface={INTERFACE}"),
        ],
        pass_fds=(config, key, child_ready),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        assert process.stderr is not None
        assert any("is up" in line for line in process.stderr)
        assert status().pid == process.pid
    finally:
        process.kill()
        process.communicate()
        for fd in (config, key, child_ready):
            os.close(fd)
