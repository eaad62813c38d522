"""A daemon of root's, and other users of the same machine: strangers, and members of the group `wirehub`.

What they try is real: processes with other uids, in directories of their own and of everybody's.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labnet import Host, Lab

MALLORY, MEMBER, WIREHUB = 54321, 54322, 54399
SYSTEM_PYTHON = Path(sys.executable).resolve()
"""Strangers cannot run the one in .venv where that stands in a closed home directory."""

ROOTS_OWN = "# root only: 7f3a91\nsubnet 10.66.0.0/24\n"
ADMIN_VERBS = ("down", "reload", "forget", "invite", "authenticate", "claim", "revoke")

ATTEMPTS = """
import ctypes, json, os, signal, socket, sys
order = json.loads(sys.argv[1])
done = []

def attempt(name, action):
    try:
        action()
        done.append(name)
    except (OSError, ValueError):
        pass

def talk(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)

def trace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, None, None):
        raise OSError(ctypes.get_errno(), "ptrace")

for path in order["private"]:
    attempt("read " + path, lambda: open(path, "rb").read(1))
for path in order["private"] + order["public"]:
    attempt("write " + path, lambda: open(path, "r+b"))
    attempt("remove " + path, lambda: os.unlink(path))
    attempt("replace " + path, lambda: os.rename(path, path + ".old"))
for path in order["directories"]:
    attempt("make a file in " + path, lambda: open(path + "/hosts.lock", "w"))
    attempt("make a socket in " + path, lambda: socket.socket(socket.AF_UNIX).bind(path + "/wh9.sock"))
for path in order["sockets"]:
    attempt("connect to " + path, lambda: talk(path))
for pid in order["pids"]:
    for number in (0, signal.SIGTERM, signal.SIGHUP):
        attempt(f"signal {number} to {pid}", lambda: os.kill(pid, number))
    attempt(f"trace {pid}", lambda: trace(pid))
    for name in ("environ", "mem", "maps", "auxv"):
        attempt(f"read {name} of {pid}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
    attempt(f"look into fd of {pid}", lambda: os.listdir(f"/proc/{pid}/fd"))
    for name in ("cwd", "exe", "ns/net", "root"):
        attempt(f"follow {name} of {pid}", lambda: os.stat(f"/proc/{pid}/{name}"))
print(json.dumps(done))
"""

HOLD_LOCKS = """
import fcntl, os, sys
for path in sys.argv[1:]:
    try:
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        print(path, error, file=sys.stderr)
print("held", flush=True)
sys.stdin.read()
"""

CALL_VERBS = """
import json, socket, sys
arguments = {"invite": {"name": "evil", "expires_s": 60}, "claim": {"invitation": "wh2"},
             "authenticate": {"peer": "node_a", "key_file": "/etc/shadow"}}
for verb in sys.argv[2:]:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sys.argv[1])
        default = {"peer": "node_a"} if verb in ("forget", "revoke") else {}
        s.sendall(json.dumps({"verb": verb, "args": arguments.get(verb, default)}).encode() + b"\\n")
        answer = json.loads(s.makefile().readline())
        print(verb, answer.get("error", {}).get("code", "ok"))
"""

SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
ours, theirs = (word.encode() for word in sys.argv[1:3])
print("swapping", flush=True)
while True:
    libc.renameat2(-100, ours, -100, theirs, 2)  # RENAME_EXCHANGE
"""


class Machine:
    """One host with a daemon of root's in a place of root's, and a home of MALLORY's."""

    def __init__(self, lab: Lab) -> None:
        lab.directory.chmod(0o755)
        self.lab = lab
        self.host: Host = lab.host("one")
        self.host.attach(lab.network("lan"), "192.0.2.1/24")
        self.directory = self.host.directory
        self._make_group()
        self.victim = self.directory / "victim"
        self.victim.write_text(ROOTS_OWN)
        self.victim.chmod(0o600)
        self.safe = self.directory / "safe"
        self.safe.mkdir()
        self.home = self.directory / "home"
        self.home.mkdir()
        self.key = self.make_key(self.safe / "key.sk")
        self.text = f"name two\nsubnet 10.42.0.0/24\ntrust node_a {self.key}\n"
        (self.safe / "config").write_text(self.text)
        (self.safe / "config").chmod(0o600)

    def _make_group(self) -> None:
        """In this host's own /etc."""
        for name, line in (
            ("group", f"wirehub:x:{WIREHUB}:member\n"),
            ("passwd", f"member:x:{MEMBER}:{MEMBER}::/:/bin/sh\n"),
        ):
            (self.host.etc / name).write_text(Path("/etc", name).read_text() + line)

    def make_key(self, path: Path) -> str:
        return self.host.shell(f"umask 077; wh genkey | tee {path} | wh pubkey").stdout.strip()

    def up(self, interface: str, config: Path, key: Path, *, check: bool = True, **env: str) -> Any:
        words = ["wh", "up", config, "private-key", key, "interface", interface, "no-port-mapping"]
        return self.host.run(words, check=check, env=env)

    def wh(self, *words: str | Path, timeout: float = 20, **env: str) -> subprocess.CompletedProcess[str]:
        return self.host.run(["wh", *words], check=False, timeout=timeout, env=env)

    def ask(self, interface: str, verb: str, **arguments: Any) -> Any:
        """The answer of a daemon to root; its error code where it refuses."""
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.settimeout(10)
            daemon.connect(str(self.directory / "run" / f"{interface}.sock"))
            daemon.sendall(json.dumps({"verb": verb, "args": arguments}).encode() + b"\n")
            answer = json.loads(daemon.makefile().readline())
        return answer["ok"] if "ok" in answer else answer["error"]["code"]

    def invite(self, interface: str, name: str) -> Any:
        return self.ask(interface, "invite", name=name, expires_s=60)

    def argv(self, uid: int, script: str, *words: str | Path) -> list[str | Path]:
        gid = WIREHUB if uid == MEMBER else uid
        become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--"]
        return [*become, SYSTEM_PYTHON, "-I", "-c", script, *words]

    def as_user(self, uid: int, script: str, *words: str | Path) -> str:
        return self.host.run(self.argv(uid, textwrap.dedent(script), *words)).stdout

    @contextlib.contextmanager
    def busy(self, script: str, *words: str | Path) -> Iterator[None]:
        """MALLORY's process, from its first line of output on."""
        process = self.host.popen(
            self.argv(MALLORY, script, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None and process.stdout.readline()
        try:
            yield
        finally:
            process.kill()
            process.communicate()

    def give_home(self, *paths: Path) -> None:
        for path in (self.home, *paths):
            os.chown(path, MALLORY, MALLORY, follow_symlinks=False)

    def settle(self, name: str) -> tuple[Path, Path]:
        """A directory in the home with a network file and a key, all MALLORY's."""
        directory = self.home / name
        directory.mkdir()
        config, key = directory / "config", directory / "key.sk"
        config.write_text(self.text.replace(self.key, self.make_key(key)))
        self.give_home(directory, config, key)
        return config, key


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Lab("two", log=print) as lab:
        made = Machine(lab)
        made.up("wh0", made.safe / "config", made.safe / "key.sk")
        try:
            yield made
        finally:
            for path in (made.directory / "run").glob("*.sock"):
                made.ask(path.stem, "down")


@pytest.fixture(autouse=True)
def untouched(machine: Machine) -> Iterator[None]:
    """Whatever a test does, root's own files stay as they are."""
    yield
    assert machine.victim.read_text() == ROOTS_OWN
    assert not machine.victim.stat().st_mode & 0o077
    assert machine.ask("wh0", "status")["interface"] == "wh0"


@pytest.mark.parametrize("uid", [MALLORY, MEMBER])
def test_nothing_of_roots_is_read_written_or_ended(machine: Machine, uid: int) -> None:
    assert "alias" in machine.invite("wh0", f"guest-of-{uid}")
    run, state = machine.directory / "run", machine.directory / "state"
    private = [machine.safe / "key.sk", machine.safe / "config", run / "wh0.log", *state.iterdir()]
    assert len(private) >= 4
    order = {
        "private": [str(path) for path in private],
        "public": [str(run / "wh0.sock")],
        "directories": [str(run), str(state), str(machine.safe), "/var/run/wireguard"],
        "sockets": ["/var/run/wireguard/wh0.sock", *([str(run / "wh0.sock")] if uid == MALLORY else [])],
        "pids": machine.host.pids(),
    }
    assert order["pids"]
    assert json.loads(machine.as_user(uid, ATTEMPTS, json.dumps(order))) == []


def test_a_member_of_the_group_may_look_and_change_nothing(machine: Machine) -> None:
    socket_path = machine.directory / "run" / "wh0.sock"
    said = machine.as_user(MEMBER, CALL_VERBS, socket_path, "status", *ADMIN_VERBS, "resolve", "status")
    lines = dict(line.split() for line in said.splitlines())
    assert lines.pop("status") == "ok"
    assert lines.pop("resolve") == "WH312"
    assert lines == dict.fromkeys(ADMIN_VERBS, "WH311")


def test_locks_that_others_hold_stop_nothing(machine: Machine) -> None:
    """Anybody may flock what he may read."""
    run = machine.directory / "run"
    held = (machine.safe, run, machine.directory, machine.directory / "state", "/etc/hosts", "/etc")
    with machine.busy(HOLD_LOCKS, *held):
        assert "alias" in machine.invite("wh0", "locked")
        machine.make_key(machine.safe / "other.sk")
        machine.up("wh1", machine.safe / "config", machine.safe / "other.sk")
        assert machine.wh("down", "wh1").returncode == 0


# A network file in another user's directory


@pytest.fixture(scope="module")
def homely(machine: Machine) -> tuple[Path, Path]:
    """As the README starts it: root, in the user's directory."""
    config, key = machine.settle("net")
    machine.up("wh2", config, key)
    return config, key


def test_its_daemon_runs_and_changes_nothing_there(machine: Machine, homely: tuple[Path, Path]) -> None:
    config, _ = homely
    before = config.read_text()
    refused = machine.wh("invite", "x", "interface", "wh2")
    assert refused.returncode == 5, refused.stdout
    assert "WH124" in refused.stderr
    assert str(machine.home) in refused.stderr and str(MALLORY) in refused.stderr
    assert config.read_text() == before
    assert sorted(path.name for path in config.parent.iterdir()) == ["config", "key.sk"]


def test_a_backup_that_its_owner_made_up_is_not_put_into_the_file(
    machine: Machine, homely: tuple[Path, Path]
) -> None:
    """A link to a file of root's, under the name of a copy that an interrupted change would have left."""
    config, _ = homely
    machine.as_user(
        MALLORY,
        """
        import os, sys
        config, victim = sys.argv[1:]
        status, when = os.stat(config), os.stat(victim).st_mtime_ns + 10**9
        os.symlink(victim, f"{config}.wirehub-backup-{status.st_dev:x}-{status.st_ino:x}")
        os.utime(config, ns=(when, when))
        """,
        config,
        machine.victim,
    )
    machine.invite("wh2", "x")
    assert "7f3a91" not in config.read_text()


@pytest.mark.parametrize("what", ["file", pytest.param("directory", marks=pytest.mark.slow)])
def test_paths_that_are_swapped_all_the_time_lead_root_nowhere(
    machine: Machine, homely: tuple[Path, Path], what: str
) -> None:
    """A link to root's file, or to a directory of root's with a file of that name, in place of the user's."""
    config, _ = homely
    before = {path: path.read_bytes() for path in (machine.victim, machine.safe / "config")}
    names = sorted(machine.safe.iterdir())
    ours, theirs = (config, machine.victim) if what == "file" else (config.parent, machine.safe)
    link = machine.home / f"link-{what}"
    machine.as_user(MALLORY, "import os, sys; os.symlink(*sys.argv[1:])", theirs, link)
    with machine.busy(SWAP, ours, link):
        for number in range(20):
            assert machine.invite("wh2", f"x{number}") == "WH124"
            machine.ask("wh2", "reload")
    if ours.is_symlink():
        machine.as_user(MALLORY, "import os, sys; os.rename(sys.argv[1], sys.argv[1] + 'x')", ours)
        machine.as_user(MALLORY, "import os, sys; os.rename(*sys.argv[1:])", link, ours)
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(machine.safe.iterdir()) == names
    assert "added" in machine.ask("wh2", "reload")


@pytest.mark.parametrize("kind", ["pipe", "link", "hard link", "device"])
def test_what_is_put_in_place_of_the_file_is_not_read(
    machine: Machine, homely: tuple[Path, Path], kind: str
) -> None:
    config, _ = homely
    put = {
        "pipe": "os.mkfifo(config)",
        "link": "os.symlink(victim, config)",
        "hard link": "",
        "device": "os.symlink('/dev/zero', config)",
    }[kind]
    script = f"import os, sys; config, victim = sys.argv[1:]; os.rename(config, config + '.kept'); {put}"
    try:
        machine.as_user(MALLORY, script, config, machine.victim)
        if kind == "hard link":  # the user could, where fs.protected_hardlinks is 0
            os.link(machine.victim, config)
        began = time.monotonic()
        assert machine.ask("wh2", "reload") == "WH110"
        for words in (("up", config, "interface", "wh3"), ("genkey", config))[:: 1 if kind == "pipe" else 2]:
            refused = machine.wh(*words)
            assert refused.returncode == 5, refused.stdout + refused.stderr
            assert "WH110" in refused.stderr and "10.66" not in refused.stderr
        assert time.monotonic() - began < 10
    finally:
        config.unlink()
        config.with_suffix(".kept").rename(config)


def test_nobody_joins_into_a_directory_of_another_user(machine: Machine) -> None:
    """Key and file of root's would be the user's to replace. The invitation stays good."""
    invitation = machine.invite("wh0", "late")["invitation"]
    directory = machine.home / "joined"
    directory.mkdir()
    machine.give_home(directory)
    files = ("config", directory / "config", "private-key", directory / "own.sk")
    refused = machine.wh("join", invitation, *files, "interface", "wh4", "subnet", "10.42.0.0/24")
    assert refused.returncode != 0
    assert "WH124" in refused.stderr and str(MALLORY) in refused.stderr
    assert list(directory.iterdir()) == []
    assert "alias late" in (machine.safe / "config").read_text()


# Directories of the daemon that others have


@pytest.fixture
def trap(machine: Machine) -> Iterator[Path]:
    """A directory of MALLORY's in which each file that a daemon may make is a link to the victim."""
    directory = machine.home / f"trap-{time.monotonic_ns()}"
    directory.mkdir()
    names = ["wh5.log", "wh5.sock", "hosts.lock", ".sockets.lock", "own.log"]
    names += [f"{machine.key}.{kind}" for kind in ("state", "claims")]
    for name in names:
        (directory / name).symlink_to(machine.victim)
    machine.give_home(directory, *(directory / name for name in names))
    before = sorted(directory.iterdir())
    yield directory
    assert sorted(directory.iterdir()) == before
    assert all(path.is_symlink() for path in before)


@pytest.mark.parametrize("variable", ["WH_RUNDIR", "WH_LOGPATH"])
def test_a_daemon_does_not_start_where_others_have_its_directory(
    machine: Machine, trap: Path, variable: str
) -> None:
    value = trap / "own.log" if variable == "WH_LOGPATH" else trap
    refused = machine.up(
        "wh5", machine.safe / "config", machine.safe / "key.sk", check=False, **{variable: str(value)}
    )
    assert refused.returncode != 0
    assert "WH223" in refused.stderr and str(MALLORY) in refused.stderr


def test_a_state_is_not_kept_where_others_have_its_directory(machine: Machine, trap: Path) -> None:
    machine.up("wh5", machine.safe / "config", machine.safe / "key.sk", WH_STATEDIR=str(trap))
    assert "cannot save the state" in (machine.directory / "run" / "wh5.log").read_text()
    assert machine.wh("down", "wh5").returncode == 0


def test_a_log_does_not_go_through_a_link_in_a_directory_of_everybodys(machine: Machine) -> None:
    shared = machine.directory / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    machine.as_user(MALLORY, "import os, sys; os.symlink(*sys.argv[1:])", machine.victim, shared / "log")
    refused = machine.up(
        "wh5", machine.safe / "config", machine.safe / "key.sk", check=False, WH_LOGPATH=str(shared / "log")
    )
    assert refused.returncode != 0 and "WH223" in refused.stderr


def test_a_key_is_not_read_through_a_link_of_another_user(machine: Machine) -> None:
    config, key = machine.settle("keyed")
    key.rename(key.with_suffix(".kept"))
    machine.as_user(MALLORY, "import os, sys; os.symlink(*sys.argv[1:])", machine.safe / "key.sk", key)
    refused = machine.up("wh5", config, key, check=False)
    assert refused.returncode != 0 and "WH215" in refused.stderr
