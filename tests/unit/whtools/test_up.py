"""`wh up`: what is checked before anything starts, what the daemon inherits, and how its start can fail.

The daemon is a stand-in, found as `wh.daemon.process` through PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from fake_daemon import OWN_KEY, PEER_KEY, FakeDaemon

from whcore import keys
from whtools import cli, launcher

NETWORK = f"name tutorial\nworkbit 3\nsubnet 10.0.42.0/24\ntrust node-a {OWN_KEY}\ntrust node-b {PEER_KEY}\n"

STAND_IN = """
import json, os, signal, sys, time

options = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
here = os.path.dirname(__file__)
behaviour = open(here + "/behaviour").read()


def descriptor_text(name):
    return os.read(int(options[name]), 4096).decode()


def report(**more):
    links = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            links[name] = os.readlink("/proc/self/fd/" + name)
        except FileNotFoundError:
            pass
    with open(here + "/report", "w") as file:
        json.dump({"pid": os.getpid(), "sid": os.getsid(0), "options": options, "links": links, **more}, file)


def say(value):
    os.write(int(options["ready-fd"]), json.dumps(value).encode() + b"\\n")


report(config=descriptor_text("config-fd"), key=descriptor_text("key-fd"))
if behaviour == "ready":
    ready = {"interface": options["interface"], "public_key": "k", "address": "10.0.42.2", "listen_port": 77}
    say({"ok": {**ready, "has_interface": True, "warnings": ["no IPv6 here"]}})
elif behaviour == "public node":
    ready = {"interface": options["interface"], "public_key": "k", "address": None, "listen_port": 77}
    say({"ok": {**ready, "has_interface": False}})
elif behaviour == "error":
    say({"error": {"code": "WH214", "message": "port 77 is taken", "hint": "choose another"}})
    time.sleep(60)
elif behaviour == "garbage":
    say("hello")
    time.sleep(60)
elif behaviour == "crash":
    sys.exit("the last word")
elif behaviour == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory of the stand-in: its `behaviour` is read, its `report` written."""
    package = tmp_path / "stand-in" / "wh" / "daemon"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    (package / "process.py").write_text(STAND_IN)
    (package / "behaviour").write_text("ready")
    monkeypatch.setenv("PYTHONPATH", str(package.parents[1]))
    monkeypatch.setenv("WH_RUNDIR", str(tmp_path / "run"))
    monkeypatch.delenv("WH_LOGPATH", raising=False)
    monkeypatch.setattr(launcher, "STOP_TIMEOUT_S", 0.2)
    return package


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.sk"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    keys.SecretKey.search(3, b"public", threads=1).write_fd(descriptor)
    os.close(descriptor)
    return path


@pytest.fixture
def network(tmp_path: Path, key_file: Path) -> Path:
    """In which the key of key_file is a member's."""
    own = keys.SecretKey.from_text(key_file.read_text().strip()).public_key
    path = tmp_path / "net"
    path.write_text(f"{NETWORK}trust node-c {keys.encode_key(own)}\n")
    return path


def reported(stand_in: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((stand_in / "report").read_text())
    return found


def is_gone(pid: object) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_the_daemon_gets_file_and_key_as_descriptors_and_nothing_else(
    stand_in: Path, network: Path, key_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    leaked, other_end = os.pipe()
    os.set_inheritable(leaked, True)
    words = ["private-key", str(key_file), "interface", "wh0", "listen-port", "77", "mode", "nat", "no-hosts"]
    words.append("no-port-mapping")
    assert cli.run(["up", str(network), *words]) == 0
    os.close(leaked)
    os.close(other_end)
    out, err = capfd.readouterr()
    assert out == "interface wh0, network tutorial, address 10.0.42.2, port 77\n"
    assert err == "wh: warning: no IPv6 here\n"
    report = reported(stand_in)
    options = report["options"]
    assert report["config"] == network.read_text()
    assert report["key"] == key_file.read_text()
    assert isinstance(options, dict) and isinstance(report["links"], dict)
    assert options["config-path"] == str(network)
    assert (options["interface"], options["listen-port"], options["mode"]) == ("wh0", "77", "nat")
    assert {"no-hosts", "no-port-mapping"} < options.keys() and "ephemeral" not in options
    assert report["sid"] == report["pid"]
    expected = {"0", "1", "2", options["config-fd"], options["key-fd"], options["ready-fd"]}
    assert expected == set(report["links"])
    assert report["links"]["0"] == "/dev/null"
    assert report["links"]["2"] == str(network.parent / "run" / "wh0.log")


def test_a_node_without_an_interface_is_not_called_one(
    stand_in: Path, network: Path, key_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (stand_in / "behaviour").write_text("public node")
    network.write_text("name public\nworkbit 3\n")
    assert cli.run(["up", str(network), "private-key", str(key_file), "interface", "wh0"]) == 0
    assert capfd.readouterr().out == (
        "public node wh0, network public, port 77, "
        "no interface is made: the file lists neither subnet nor members\n"
    )


def test_without_a_key_one_with_the_network_s_work_is_made(
    stand_in: Path, network: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["up", str(network)]) == 0
    report = reported(stand_in)
    public_key = keys.SecretKey.from_text(str(report["key"]).strip()).public_key
    assert keys.workbit(public_key, b"public") >= 3
    assert "ephemeral" in dict(report["options"])  # type: ignore[call-overload]
    assert capfd.readouterr().out.startswith(f"interface wh-{keys.encode_key(public_key)[:8]}, ")


def test_in_the_foreground_the_process_becomes_the_daemon(
    stand_in: Path, network: Path, key_file: Path
) -> None:
    (stand_in / "behaviour").write_text("crash")
    search_path = os.pathsep.join([str(stand_in.parents[1]), *sys.path])
    start = f"import sys; sys.path[:] = {sys.path!r}; from whtools.cli import main; main()"
    words = ["up", str(network), "private-key", str(key_file), "foreground"]
    process = subprocess.Popen(
        [sys.executable, "-c", start, *words],
        env={**os.environ, "PYTHONPATH": search_path},
        stderr=subprocess.PIPE,
        text=True,
    )
    _, err = process.communicate(timeout=20)
    report = reported(stand_in)
    assert report["pid"] == process.pid
    assert "ready-fd" not in dict(report["options"])  # type: ignore[call-overload]
    assert err == "the last word\n"


@pytest.mark.parametrize(
    ("behaviour", "said", "exit_code"),
    [
        ("error", "wh: error WH214: port 77 is taken\n  fix: choose another\n", 1),
        (
            "crash",
            "wh: error WH224: the daemon ended with exit code 1 before it was ready: the last word\n",
            1,
        ),
        ("garbage", "wh: error WH224: the daemon's word on its start is not understood", 1),
        ("hang", "wh: error WH224: the daemon was not ready within", 1),
    ],
)
def test_a_start_that_fails_is_told_and_leaves_no_process(
    stand_in: Path,
    network: Path,
    key_file: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
    said: str,
    exit_code: int,
) -> None:
    monkeypatch.setattr(launcher, "READY_TIMEOUT_S", 1.5)
    (stand_in / "behaviour").write_text(behaviour)
    assert cli.run(["up", str(network), "private-key", str(key_file), "interface", "wh0"]) == exit_code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert is_gone(reported(stand_in)["pid"])


def test_every_wrong_line_is_told_and_nothing_starts(
    stand_in: Path, network: Path, key_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network.write_text("nmae tutorial\nsubnet 10.0.42.0/24\ntrust node_a xyz\n")
    assert cli.run(["up", str(network), "private-key", str(key_file)]) == 5
    err = capfd.readouterr().err
    assert f"  at {network}:1:1\n" in err and f"  at {network}:3:14\n" in err
    assert not (stand_in / "report").exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "WH215"), (b"", "WH101"), (b"\xff\x00rubbish", "WH101"), (OWN_KEY.encode() * 2, "WH101")],
)
def test_a_key_file_that_holds_no_key_is_one_clear_error(
    stand_in: Path,
    network: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    content: bytes | None,
    code: str,
) -> None:
    path = tmp_path / "bad.sk"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    assert cli.run(["up", str(network), "private-key", str(path)]) == 1
    err = capfd.readouterr().err
    assert err.startswith(f"wh: error {code}: ")
    assert str(path) in err
    assert not (stand_in / "report").exists()


def test_a_node_on_nobodys_list_hears_it_first(
    stand_in: Path, network: Path, key_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["up", str(network), "interface", "wh0"]
    assert cli.run([*words, "private-key", str(key_file)]) == 0
    assert "no member" not in capfd.readouterr().err
    assert cli.run(words) == 0
    assert "a key that was made for this run" in capfd.readouterr().err
    network.write_text(NETWORK)
    assert cli.run([*words, "private-key", str(key_file)]) == 0
    err = capfd.readouterr().err
    assert "this node is no member: its key" in err and str(key_file) in err


def test_names_that_resolvers_refuse_are_warned_of(
    stand_in: Path, network: Path, key_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network.write_text(NETWORK.replace("node-a", "node_a"))
    words = ["private-key", str(key_file), "interface", "wh0"]
    assert cli.run(["up", str(network), *words, "no-hosts"]) == 0
    assert "refuse" not in capfd.readouterr().err
    assert cli.run(["up", str(network), *words]) == 0
    err = capfd.readouterr().err
    assert "node_a" in err and "hyphens" in err and "node-b" not in err


def test_a_key_file_open_to_others_is_warned_of_with_the_remedy(
    stand_in: Path, network: Path, key_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key_file.chmod(stat.S_IRUSR | stat.S_IROTH)
    assert cli.run(["up", str(network), "private-key", str(key_file)]) == 0
    err = capfd.readouterr().err
    assert "wh: warning WH216: " in err
    assert f"  fix: chmod 600 {key_file}\n" in err


def test_a_stranger_s_key_without_enough_work_is_warned_of(
    stand_in: Path, network: Path, key_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network.write_text(NETWORK.replace("workbit 3", "workbit 60"))
    assert cli.run(["up", str(network), "private-key", str(key_file)]) == 0
    assert "the network asks for 60" in capfd.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_user_who_may_not_is_told_to_be_root(
    stand_in: Path, network: Path, key_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (network.parent / "run").mkdir(0o755)
    key_file.chmod(0o644)
    for directory in network.parents:
        directory.chmod(directory.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
    os.seteuid(65534)
    try:
        assert cli.run(["up", str(network), "private-key", str(key_file), "interface", "wh0"]) == 4
    finally:
        os.seteuid(0)
    assert "  fix: run as root\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["interface", "a/b"], 1),
        (["interface", "wh0"], 1),
        (["listen-port", "65536"], 2),
        (["listen-port", "-1"], 2),
        (["mode", "cone"], 2),
    ],
)
def test_bad_words_start_nothing(
    stand_in: Path, network: Path, key_file: Path, words: list[str], exit_code: int
) -> None:
    with FakeDaemon("wh0"):
        assert cli.run(["up", str(network), "private-key", str(key_file), *words]) == exit_code
    assert not (stand_in / "report").exists()


@pytest.mark.parametrize(
    "name", ["wh A", "interfaces", "all", "json", "wh%d", "-x", "w\u200b", "x" * 16, "a/b"]
)
def test_names_that_no_interface_should_have_are_refused(
    stand_in: Path, network: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    assert cli.run(["up", str(network), f"--interface={name}"]) == 1
    err = capfd.readouterr().err
    assert "WH213" in err and "letters, digits" in err
    assert not (stand_in / "report").exists()


def test_network_file_and_key_may_come_from_pipes_and_windows(stand_in: Path, key_file: Path) -> None:
    """As <(...) of a shell; the key file with a byte order mark and a carriage return."""
    key = key_file.read_text()
    key_file.write_bytes(b"\xef\xbb\xbf" + key.replace("\n", "\r\n").encode())
    read_end, write_end = os.pipe()
    os.write(write_end, NETWORK.encode())
    os.close(write_end)
    try:
        words = ["private-key", str(key_file), "interface", "wh0"]
        assert cli.run(["up", f"/dev/fd/{read_end}", *words]) == 0
    finally:
        os.close(read_end)
    report = reported(stand_in)
    assert (report["config"], report["key"]) == (NETWORK, key)
    assert "config-path" not in dict(report["options"])  # type: ignore[call-overload]
