"""What a process that gave its privileges up can still do, tried by one that has been taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from wh.errors import SystemSetupError
from wh.privileges import landlock
from wh.privileges.drop import give_up

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give it up")

ATTEMPTS = """
    import ctypes, errno, json, os, signal, socket, subprocess, sys
    from pathlib import Path
    from wh.privileges.capabilities import Capability, read_standing
    from wh.privileges.drop import give_up
    from wh.privileges.sandbox import confine_client, confine_daemon
    from wh.privileges.users import User
    here = Path(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    outcome = {}

    def attempt(name, action):
        try:
            action()
        except OSError as error:
            outcome[name] = errno.errorcode.get(error.errno, "?")
        except subprocess.SubprocessError:
            outcome[name] = "no process"
        else:
            outcome[name] = "done"

    def call(number, *arguments):
        def do():
            if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) < 0:
                raise OSError(ctypes.get_errno(), "")
        return do

    def everything():
        attempt("write elsewhere", lambda: (here / "victim").write_text("x"))
        attempt("make elsewhere", lambda: (here / "new").write_text("x"))
        attempt("rename elsewhere", lambda: (here / "victim").rename(here / "moved"))
        attempt("unlink elsewhere", lambda: (here / "victim").unlink())
        attempt("read elsewhere", lambda: (here / "victim").read_text())
        attempt("sysctl", lambda: Path("/proc/sys/kernel/core_pattern").write_text("x"))
        attempt("unix socket", lambda: socket.socket(socket.AF_UNIX))
        attempt("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        attempt("netfilter", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
        attempt("datagram pair", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        attempt("pair", lambda: [each.close() for each in socket.socketpair()])
        attempt("datagrams", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
        attempt("multipath", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close())
        attempt("mode", lambda: os.chmod(here / "owned", 0o666))
        attempt("mode of an open file", lambda: os.fchmod(os.open("/etc/passwd", os.O_RDONLY), 0o644))
        attempt("access list", lambda: os.setxattr(here / "owned", "user.x", b"x"))
        attempt("shared memory", call(29, 0, 4096, 0o1600))
        attempt("vsock", lambda: socket.socket(socket.AF_VSOCK))
        attempt("internet", lambda: socket.socket(socket.AF_INET).close())
        attempt("program", lambda: subprocess.run(["/bin/true"], check=True))
        attempt("signal", lambda: os.kill(int(sys.argv[2]), 0))
        attempt("user namespace", call(272, 0x10000000))
        attempt("ptrace", call(101, 16, int(sys.argv[2]), 0, 0))
        attempt("io_uring", call(425, 1, 0))
        attempt("mount", call(165, 0, 0, 0, 0, 0))
        attempt("become root", lambda: os.setuid(0))
        attempt("write state", lambda: (here / "state" / "file").write_text("x"))
        attempt("rename state", lambda: (here / "state" / "file").rename(here / "state" / "other"))
        attempt("read code", lambda: Path(os.__file__).read_text())
        attempt("read resolv.conf", lambda: os.listdir("/etc"))
"""


def outcome(tmp_path: Path, script: str) -> dict[str, str]:
    """Of everything() in a process of root that ran script first."""
    for directory in tmp_path.parents:
        directory.chmod(directory.stat().st_mode | 0o001)
    tmp_path.chmod(0o777)
    (tmp_path / "victim").write_text("secret")
    (tmp_path / "victim").chmod(0o666)
    (tmp_path / "owned").write_text("x")
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    code = textwrap.dedent(ATTEMPTS) + textwrap.dedent(script)
    code += "\neverything()\nprint(json.dumps(outcome))\n"
    victim = subprocess.Popen(["sleep", "60"])
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-c", code, str(tmp_path), str(victim.pid)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        victim.kill()
        victim.wait()
    assert answer.returncode == 0, answer.stderr
    found: dict[str, str] = json.loads(answer.stdout)
    return found


REFUSED = (
    *("write elsewhere", "make elsewhere", "rename elsewhere", "unlink elsewhere", "sysctl", "unix socket"),
    *("netfilter", "datagram pair", "mode", "mode of an open file", "access list", "shared memory"),
    *("packet socket", "vsock", "program", "signal", "user namespace", "ptrace", "io_uring", "mount"),
)


@pytest.mark.skipif(landlock.abi() < 6, reason="needs Landlock 6")
@pytest.mark.parametrize("user", ["None", 'User("x", 54321, 54321)'])
def test_a_daemon_that_was_taken_over_changes_its_state_and_nothing_else(tmp_path: Path, user: str) -> None:
    """As root too, where there is no other user: the files are open to all, so only the sandbox stops it."""
    done = outcome(
        tmp_path,
        f"give_up((Capability.NET_ADMIN,), {user})\nconfine_daemon([here / 'state'], alone=False)",
    )
    assert not [name for name in REFUSED if done[name] == "done"], done
    assert done["read elsewhere"] == "EACCES"
    assert done["become root"] == ("done" if user == "None" else "EPERM")
    for name in (
        "internet",
        "datagrams",
        "pair",
        "write state",
        "rename state",
        "read code",
        "read resolv.conf",
    ):
        assert done[name] == "done", (name, done[name])


def test_a_gateways_worker_that_was_taken_over_has_nothing(tmp_path: Path) -> None:
    done = outcome(tmp_path, 'give_up((), User("x", 54321, 54321))\nconfine_client(5000)')
    assert {name for name, result in done.items() if result == "done"} == {"internet"}


def test_without_the_kernels_help_user_and_capabilities_are_gone_all_the_same(tmp_path: Path) -> None:
    done = outcome(
        tmp_path,
        """
        give_up((), User("x", 54321, 54321))
        standing = read_standing()
        assert standing.any_capability == 0 and standing.bounding == 0 and standing.no_new_privs
        """,
    )
    assert done["become root"] != "done"
    assert done["signal"] == done["packet socket"] == "EPERM"


def test_ambient_capabilities_of_an_unprivileged_user_go_too() -> None:
    code = (
        "from wh.privileges.capabilities import read_standing\nfrom wh.privileges.drop import give_up\n"
        "assert read_standing().ambient\ngive_up(())\nassert not read_standing().any_capability\n"
        "import subprocess, sys\n"
        "subprocess.run(['grep', 'CapEff', '/proc/self/status'], check=True)\n"
    )
    words = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    words += ["--inh-caps=+net_admin,+dac_read_search", "--ambient-caps=+net_admin,+dac_read_search"]
    answer = subprocess.run([*words, sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == ["CapEff:", "0" * 16]


def test_a_process_with_another_thread_does_not_believe_that_it_gave_anything_up() -> None:
    """Its other threads would keep all."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        with pytest.raises(SystemSetupError, match="thread"):
            give_up(())
    finally:
        ended.set()
        thread.join()


def test_a_drop_that_does_not_hold_is_fatal(tmp_path: Path) -> None:
    """Where the user cannot be changed, as without CAP_SETUID."""
    code = (
        "from wh.errors import SystemSetupError\nfrom wh.privileges.drop import give_up\n"
        "from wh.privileges.users import NOBODY\n"
        "try:\n    give_up((), NOBODY)\nexcept SystemSetupError as error:\n    print(error.code)\n"
    )
    words = ["setpriv", "--bounding-set=-setuid", "--inh-caps=-all"]
    answer = subprocess.run([*words, sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert answer.stdout == "WH226\n", answer.stderr
