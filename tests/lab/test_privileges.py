"""What real daemons may do, as the kernel says: while nothing happens, and while everything does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labnet import Host, Lab, wait_until
from standing import Standing, mask, read_standing, standings

INTERFACE = "wh0"
UID = 54399
LOOK_EVERY_S = 0.01
USER = f"wirehub:x:{UID}:{UID}::/:/usr/sbin/nologin\n"
GROUP = f"wirehub:x:{UID}:\n"
NET_ADMIN = mask("NET_ADMIN")
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


class Site:
    """Two members in a LAN: `user` is a host that has the user wirehub, `plain` one that has not."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.directory.chmod(0o711)
        network = lab.network("lan")
        self.user, self.plain, self.guest = (lab.host(name) for name in ("user", "plain", "guest"))
        for number, host in enumerate((self.user, self.plain, self.guest), 1):
            host.attach(network, f"192.0.2.{number}/24")
        add_user(self.user)
        self.keys: dict[str, str] = {}
        for host in (self.user, self.plain):
            host.shell("umask 077; wh genkey > sk")
            self.keys[host.name] = host.shell("wh pubkey < sk").stdout.strip()
        for host in (self.user, self.plain):
            self.write_file(host)
            host.run(["wh", "up", "config", "private-key", "sk", "interface", INTERFACE])

    def write_file(self, host: Host, *more: str) -> None:
        lines = [
            "name lan",
            "subnet 10.0.42.0/24",
            f"trust user {self.keys['user']} 192.0.2.1:4000",
            f"trust plain {self.keys['plain']} 192.0.2.2:4000",
        ]
        path = host.directory / "config"
        path.write_text("\n".join([*lines, *more, ""]))
        path.chmod(0o600)


def add_user(host: Host) -> None:
    """For what runs on this host alone: `ip netns exec` puts these files over those of /etc."""
    (host.etc / "passwd").write_text(Path("/etc/passwd").read_text() + USER)
    (host.etc / "group").write_text(Path("/etc/group").read_text() + GROUP)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Lab("priv", log=print) as lab:
        yield Site(lab)


def inspect(host: Host, interface: str = INTERFACE) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(host.run(["wh", "inspect", interface]).stdout)
    return told


def claims_of(uid: int, capabilities: int) -> Callable[[Standing], bool]:
    """What docs/operations.md says of a daemon."""

    def hold(thread: Standing) -> bool:
        return (
            set(thread.uids) == set(thread.gids) == {uid}
            and thread.groups == ()
            and thread.effective == thread.permitted == thread.bounding == capabilities
            and thread.inheritable == thread.ambient == 0
            and thread.no_new_privs
            and thread.seccomp
        )

    return hold


class Watch:
    """Looks at all threads of a daemon again and again."""

    def __init__(self, pid: int, holds: Callable[[Standing], bool]) -> None:
        self.looked = 0
        self.broken: list[Standing] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(pid, holds))

    def _look(self, pid: int, holds: Callable[[Standing], bool]) -> None:
        while not self._ended.is_set():
            threads = standings(pid)
            self.looked += len(threads)
            self.broken += [thread for thread in threads if not holds(thread)]
            self._ended.wait(LOOK_EVERY_S)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._ended.set()
        self._thread.join()


def change_everything(site: Site, host: Host) -> None:
    """The interface, the hosts file, the network file, who is a member."""
    other = "2Jkbr1NmFSzLOxjq0dJVhlpsdCDoG2tbPfX2qsxyfSM"
    site.write_file(host, f"trust third {other}")
    host.run(["wh", "reload", INTERFACE])
    assert "third" in host.hosts_file.read_text()
    assert "10.0.42.4 dev wh0" in host.ip("route")  # each member has a route of its own
    invitation = host.run(["wh", "invite", "guest"]).stdout.strip()
    assert "alias guest" in (host.directory / "config").read_text()
    files = ["config", "./config", "private-key", "./own.sk", "interface", INTERFACE]
    site.guest.run(["wh", "join", invitation, *files])
    assert "trust guest 10.0.42.5" in (host.directory / "config").read_text()
    assert "guest" in host.hosts_file.read_text()
    host.run(["wh", "revoke", "guest"])
    assert "guest" not in (host.directory / "config").read_text() + host.hosts_file.read_text()
    site.write_file(host)
    host.run(["wh", "reload", INTERFACE])
    assert "third" not in host.hosts_file.read_text()
    site.guest.run(["wh", "down", INTERFACE])
    for left in ("config", "own.sk"):
        (site.guest.directory / left).unlink()


@pytest.mark.parametrize(("name", "uid"), [("user", UID), pytest.param("plain", 0, marks=pytest.mark.slow)])
def test_a_daemon_has_what_is_said_of_it_while_everything_changes(site: Site, name: str, uid: int):
    host: Host = getattr(site, name)
    pid = inspect(host)["pid"]
    with Watch(pid, claims_of(uid, NET_ADMIN)) as watch:
        change_everything(site, host)
    assert watch.looked > 100
    assert not watch.broken
    assert host.run(["ping", "-c1", "-W5", "plain" if name == "user" else "user"]).returncode == 0


def test_status_says_the_same(site: Site):
    kept = inspect(site.user)["privileges"]
    assert (kept["user"], kept["capabilities"], kept["why_root"]) == ("wirehub", ["CAP_NET_ADMIN"], "")
    sandbox = kept["sandbox"]
    assert sandbox[0] == "no new privileges" and sandbox[-1] == "seccomp"
    assert len(sandbox) == 2 or re.fullmatch(r"landlock \d+", sandbox[1])
    shown = site.user.run(["wh", "show", INTERFACE, "all"]).stdout
    assert f"runs as wirehub, CAP_NET_ADMIN only; sandbox: {', '.join(sandbox)}" in shown
    told = inspect(site.plain)
    assert "no user wirehub" in told["privileges"]["why_root"]
    assert all(map(claims_of(0, NET_ADMIN), standings(told["pid"])))


def test_the_helper_has_no_more_than_its_verbs_need(site: Site):
    pid = inspect(site.user)["privileges"]["helper"]
    (helper,) = standings(pid)
    allowed = mask("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "SETPCAP", "KILL")
    assert not helper.permitted & ~allowed
    assert helper.bounding == helper.permitted
    assert helper.no_new_privs and helper.seccomp and not helper.inheritable and not helper.ambient
    kinds = {str(link.readlink()).split(":")[0] for link in Path(f"/proc/{pid}/fd").iterdir()}
    assert kinds - {"socket", "pipe"} <= {"/dev/null", str(site.user.directory / "run" / f"{INTERFACE}.log")}
    sockets = [link for link in Path(f"/proc/{pid}/fd").iterdir() if "socket" in str(link.readlink())]
    assert len(sockets) == 1


TRACED = "open,openat,creat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,symlink,"
TRACED += "symlinkat,chmod,fchmodat,chown,fchownat,lchown,execve,execveat,socket,connect,mount,setns,unshare"


def test_a_daemon_changes_no_file_but_its_state_and_starts_no_program(site: Site):
    host = site.user
    told = inspect(host)
    trace = host.directory / "trace"
    strace = host.popen(
        ["strace", "-f", "-y", "-qq", "-e", f"trace={TRACED}", "-o", trace, "-p", str(told["pid"])]
    )
    wait_until(
        lambda: Path(f"/proc/{told['pid']}/status").read_text().find("TracerPid:\t0") < 0, 10, "traced"
    )
    try:
        change_everything(site, host)
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(10)
    calls = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines() if "(" in line]
    assert any(call.startswith("openat") for call in calls)
    state = str(host.directory / "state" / told["public_key"])
    for call in calls:
        if not re.search(r"= \d", call):
            continue  # refused
        name = call.split("(")[0]
        if name == "openat" or name == "open":
            writes = re.search(r"O_WRONLY|O_RDWR|O_CREAT", call)
            assert not writes or state in call or "memfd" in call or '"/dev/null"' in call, call
        elif name == "socket":
            assert re.search(r"AF_INET6?,|AF_NETLINK", call), call
        elif name == "connect":
            assert "AF_UNIX" not in call, call
        else:
            assert state in call, call


def test_state_is_the_daemons_alone_and_survives_a_restart(site: Site):
    host = site.user
    before = inspect(host)
    directory = host.directory / "state" / before["public_key"]
    assert (directory.stat().st_uid, directory.stat().st_mode & 0o777) == (UID, 0o700)
    host.run(["wh", "down", INTERFACE])
    assert not (host.directory / "run" / f"{INTERFACE}.sock").exists()
    assert "wirehub" not in host.hosts_file.read_text()
    assert {path.stat().st_uid for path in directory.iterdir()} == {UID}
    wait_until(lambda: not host.pids(), 10, "daemon and helper have ended")
    host.run(["wh", "up", "config", "private-key", "sk", "interface", INTERFACE])
    assert inspect(host)["listen_port"] == before["listen_port"]


def test_other_programs_of_the_daemons_user_are_not_its_master(site: Site):
    """A public node may be that user's."""
    words = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "wh"]
    refused = site.user.run([*words, "down", INTERFACE], check=False)
    assert refused.returncode == 4, refused.stderr
    assert site.user.run([*words, "show", INTERFACE]).returncode == 0  # the group may look


def test_a_node_without_interface_keeps_nothing(site: Site):
    for host, uid in ((site.user, UID), (site.plain, 0)):
        host.shell("umask 077; wh genkey > public.sk; printf 'name public\\nworkbit 0\\n' > public")
        host.run(["wh", "up", "public", "private-key", "public.sk", "interface", "public"])
        try:
            threads = standings(inspect(host, "public")["pid"])
            assert threads and all(map(claims_of(uid, 0), threads))
        finally:
            host.run(["wh", "down", "public"])


def test_an_isolated_interface_of_roots_is_configured_and_followed_from_outside(site: Site):
    host = site.user
    host.shell("umask 077; wh genkey > inner.sk")
    own = host.shell("wh pubkey < inner.sk").stdout.strip()
    lines = f"name inner\nsubnet 10.9.0.0/24\ntrust me {own}\n"
    (host.directory / "inner").write_text(lines)
    host.run(["wh", "up", "inner", "private-key", "inner.sk", "interface", "wh9", "isolated"])
    try:
        told = inspect(host, "wh9")
        with Watch(told["pid"], claims_of(UID, NET_ADMIN)) as watch:
            (host.directory / "inner").write_text(f"{lines}trust other {site.keys['user']}\n")
            host.run(["wh", "reload", "wh9"])
            routes = host.run(["wh", "run", "wh9", "--", "ip", "-6", "route"]).stdout
        assert watch.looked and not watch.broken
        assert "2001:2" in routes
        (inside,) = standings(told["namespace_pid"])
        assert not inside.permitted & ~mask("NET_ADMIN", "NET_RAW")
        assert inside.no_new_privs
    finally:
        host.run(["wh", "down", "wh9"])


def documented_unit() -> dict[str, str]:
    """Settings of the first unit of docs/operations.md."""
    text = OPERATIONS.read_text().split("## systemd")[1].split("```")[1]
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def under(capabilities: list[str]) -> list[str]:
    """What systemd does with CapabilityBoundingSet= and NoNewPrivileges=yes."""
    words = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)])
    return ["setpriv", f"--bounding-set={words}", "--inh-caps=-all", "--no-new-privs"]


@pytest.mark.parametrize("name", ["user", pytest.param("plain", marks=pytest.mark.slow)])
def test_the_documented_unit_gives_enough(site: Site, name: str):
    host: Host = getattr(site, name)
    unit = documented_unit()
    assert unit["NoNewPrivileges"] == "yes"
    words = [*under(unit["CapabilityBoundingSet"].split()), "wh", "up", "config", "private-key", "sk"]
    host.run(["wh", "down", INTERFACE])
    host.run([*words, "interface", INTERFACE])
    uid = UID if name == "user" else 0
    with Watch(inspect(host)["pid"], claims_of(uid, NET_ADMIN)) as watch:
        host.run(["wh", "invite", "guest"])
        host.run(["wh", "revoke", "guest"])
    assert watch.looked and not watch.broken
    assert "user" in host.hosts_file.read_text()
    host.run(["wh", "down", INTERFACE])
    assert "wirehub" not in host.hosts_file.read_text()
    host.run(["wh", "up", "config", "private-key", "sk", "interface", INTERFACE])


def test_root_without_any_capability_runs_a_public_node(site: Site):
    """As in a container that was given none."""
    host = site.plain
    host.shell("umask 077; wh genkey > public.sk; printf 'name public\\nworkbit 0\\n' > public")
    words = [*under([]), "wh", "up", "public", "private-key", "public.sk", "interface", "public"]
    host.run(words)
    told = inspect(host, "public")
    assert told["privileges"]["capabilities"] == []
    host.run(["wh", "reload", "public"])
    host.run(["wh", "down", "public"])


def test_without_root_all_that_the_user_may_is_done(site: Site):
    host = site.plain
    home = host.directory / "home"
    home.mkdir()
    variables = {"WH_RUNDIR": str(home / "run"), "WH_STATEDIR": str(home / "state")}
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]

    def wh(*arguments: str) -> str:
        return host.run([*words, "wh", *arguments], env=variables).stdout

    (home / "sk").write_text(host.run(["wh", "genkey"]).stdout)
    own = host.run(["wh", "pubkey"], input=(home / "sk").read_text()).stdout.strip()
    (home / "config").write_text(f"name inner\nsubnet 10.9.0.0/24\ntrust me {own}\n")
    for path in (home, *home.iterdir()):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.chown(path, 65534, 65534)
    wh("up", str(home / "config"), "private-key", str(home / "sk"), "interface", "wh8", "isolated")
    told = json.loads(wh("inspect", "wh8"))
    threads = standings(told["pid"])
    assert threads and all(thread.no_new_privs and not thread.any_capability for thread in threads)
    assert told["privileges"]["helper"] is None
    wh("ipc", "wh8", "invite", '{"name": "late", "expires_s": null}')
    assert "alias late" in (home / "config").read_text()
    wh("reload", "wh8")
    wh("down", "wh8")
    assert not list((home / "run").glob("*.sock"))
    assert list((home / "state").glob("*/state"))


# Deaths


def test_the_helper_ends_with_its_daemon_and_the_daemon_outlives_its_helper(site: Site):
    host = site.plain
    told = inspect(host)
    helper = told["privileges"]["helper"]
    os.kill(helper, signal.SIGTERM)  # as a stop of the whole unit sends it
    host.run(["wh", "reload", INTERFACE])
    os.kill(told["pid"], signal.SIGKILL)
    wait_until(lambda: not host.pids(), 10, "the helper has ended")
    host.run(["wh", "up", "config", "private-key", "sk", "interface", INTERFACE])
    told = inspect(host)
    os.kill(told["privileges"]["helper"], signal.SIGKILL)
    refused = host.run(["wh", "reload", INTERFACE], check=False)
    assert "WH227" in refused.stderr
    assert host.run(["ping", "-c1", "-W5", "user"]).returncode == 0
    host.run(["wh", "down", INTERFACE])
    host.run(["wh", "up", "config", "private-key", "sk", "interface", INTERFACE])


# The gateway's worker

IGD = """
import socket, struct, sys
ssdp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ssdp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
ssdp.bind(("", 1900))
member = socket.inet_aton("239.255.255.250") + socket.inet_aton(sys.argv[1])
ssdp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
web = socket.create_server((sys.argv[1], 5000))
import threading
def accept():
    held = []
    while True:
        held.append(web.accept())
        print("asked", flush=True)
threading.Thread(target=accept, daemon=True).start()
print("up", flush=True)
while True:
    data, sender = ssdp.recvfrom(2048)
    target = next((line[4:] for line in data.decode().split("\\r\\n") if line.startswith("ST: ")), "")
    reply = ["HTTP/1.1 200 OK", "ST: " + target, "LOCATION: http://%s:5000/root.xml" % sys.argv[1], "", ""]
    ssdp.sendto("\\r\\n".join(reply).encode(), sender)
"""
OLD_UNIT = ["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_CHOWN"]


def workers(host: Host) -> list[int]:
    found = []
    for pid in host.pids():
        with contextlib.suppress(OSError):
            if b"igd_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.fixture(scope="module")
def hostile_gateway() -> Iterator[tuple[Host, Host]]:
    """A host behind a router that takes questions and never answers."""
    with Lab("igd", log=print) as lab:
        lab.directory.chmod(0o711)
        lan = lab.network("lan")
        router, host = lab.host("router"), lab.host("inside")
        router.attach(lan, "192.168.7.1/24")
        host.attach(lan, "192.168.7.2/24")
        host.default_route("192.168.7.1")
        gateway = router.popen([sys.executable, "-c", IGD, "192.168.7.1"], stdout=-1)
        assert gateway.stdout is not None and gateway.stdout.readline() == "up\n"
        host.shell("umask 077; wh genkey > sk")
        own = host.shell("wh pubkey < sk").stdout.strip()
        (host.directory / "config").write_text(f"name lan\nsubnet 10.0.42.0/24\ntrust me {own}\n")
        yield host, router


def test_what_parses_a_gateways_answers_has_nothing(hostile_gateway: tuple[Host, Host]):
    host, _ = hostile_gateway
    unit = under(documented_unit()["CapabilityBoundingSet"].split())
    host.run([*unit, "wh", "up", "config", "private-key", "sk", "interface", INTERFACE])
    try:
        pid = wait_until(lambda: next(iter(workers(host)), None), 20, "the gateway is asked")

        def confined() -> Standing | None:
            with contextlib.suppress(OSError):
                found = read_standing(pid)
                return found if found.seccomp and found.uids[0] else None
            return None

        worker = wait_until(confined, 10, "the worker has given up its privileges")
        assert set(worker.uids) == set(worker.gids) == {65534}
        assert worker.groups == () and not worker.any_capability and worker.no_new_privs
        kinds = [str(link.readlink()).split(":")[0] for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert set(kinds) <= {"socket", "/dev/null"}
        wait_until(lambda: pid not in workers(host), 20, "nothing of it stays behind its deadline")
    finally:
        host.run(["wh", "down", INTERFACE])


def test_where_the_worker_cannot_be_nobody_the_gateway_is_not_asked(hostile_gateway: tuple[Host, Host]):
    """Neither root nor anybody else connects to it, and the user is told."""
    host, router = hostile_gateway
    host.run([*under(OLD_UNIT), "wh", "up", "config", "private-key", "sk", "interface", INTERFACE])
    try:
        deadline = time.monotonic() + 25
        asked, told = False, ""
        while time.monotonic() < deadline and not asked and "privileges" not in told:
            asked = bool(router.shell("ss -Htn state established sport = :5000", check=False).stdout)
            told = host.run(["wh", "netcheck", INTERFACE], check=False).stdout
        assert not asked
        assert "privileges could not be given up" in told
    finally:
        host.run(["wh", "down", INTERFACE])
