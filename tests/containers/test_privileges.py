"""Each degree of privilege works, and says what it is."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_engine import FULL, MINIMAL, NOTHING, SANDBOX, Container, Engine
from container_networks import USER, Tutorial

SECCOMP = Path("/usr/share/containers/seccomp.json")
ISOLATED = "the interface is in a namespace of its own"
NODE_B = "10.0.42.2"
TUN = ("--device", "/dev/net/tun")
DEGREES = {
    "everything": (FULL, "the interface is the container's own"),
    "TUN alone": (TUN, "--cap-add NET_ADMIN"),
    "NET_ADMIN alone": (("--cap-add", "NET_ADMIN"), "--device /dev/net/tun"),
    "neither": ((), "--cap-add NET_ADMIN --device /dev/net/tun"),
    "only SETFCAP": ((*NOTHING, "--cap-add", "SETFCAP"), ISOLATED),
    "user 1000": ((*USER, *NOTHING), ISOLATED),
    "user 1000, a TUN of mode 0600": ((*USER, *TUN), "/dev/net/tun: no (Permission denied)"),
    "user 1000, NET_ADMIN and a TUN of mode 0666": (
        (*USER, "--cap-add", "NET_ADMIN", "--device", "{open_tun}:/dev/net/tun"),
        "the interface is the container's own",
    ),
    "read-only": ((*FULL, "--read-only"), "the interface is the container's own"),
    "read-only, user 1000": ((*USER, *NOTHING, "--read-only"), ISOLATED),
    "no IPv6": ((*FULL, "--sysctl", "net.ipv6.conf.all.disable_ipv6=1"), "IPv6"),
}


def member(degree: str) -> str:
    return "node_" + "".join(char if char.isalnum() else "_" for char in degree.lower())


@pytest.fixture(scope="module")
def tutorial(engine: Engine) -> Iterator[Tutorial]:
    users = {member(degree): USER for degree, (options, _) in DEGREES.items() if "--user" in options}
    made = Tutorial(engine, "node_b", "node_c", "node_d", *map(member, DEGREES), users=users)
    made.start("node_b").wait_until_healthy()
    yield made


@pytest.fixture(scope="module")
def open_tun(engine: Engine) -> Path:
    """As systems with udev have it. Here the host's may be root's alone."""
    node = engine.directory / "tun"
    os.mknod(node, stat.S_IFCHR | 0o666, Path("/dev/net/tun").stat().st_rdev)
    node.chmod(0o666)
    return node


def reach(container: Container, name: str) -> None:
    words = ["ping", "-4", "-n", "-c", "1", "-w", "20", name]
    answer = container.execute("wh", "run", "wh0", "--", *words, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr + container.logs()


@pytest.mark.parametrize("degree", DEGREES)
def test_a_member_of_each_degree_reaches_the_others(tutorial: Tutorial, open_tun: Path, degree: str) -> None:
    options, said = DEGREES[degree]
    given = [word.format(open_tun=open_tun) for word in options]
    container = tutorial.start(member(degree), given, image=SANDBOX)
    container.wait_until_healthy()
    logs = container.logs()
    assert said in logs
    isolated = ISOLATED in logs
    assert container.health().place == ("isolated" if isolated else "host")
    assert ("in a namespace of its own, UDP port" in logs) is isolated
    named = isolated or not {"--read-only", "--user"}.intersection(options)  # /etc/hosts is root's
    reach(container, "node_b" if named else NODE_B)
    assert container.stop() == 0


def test_root_without_any_capability_is_told_to_be_somebody_else(tutorial: Tutorial) -> None:
    """Linux lets nobody map root into a user namespace without CAP_SETFCAP (user_namespaces(7))."""
    container = tutorial.start("node_d", NOTHING)
    assert container.exit_code() == 1
    assert "WH230" in container.logs() and "--user 1000" in container.logs()


def test_isolated_programs_get_in_by_run_and_by_the_proxy(engine: Engine, tutorial: Tutorial) -> None:
    container = tutorial.start("node_c", (), image=SANDBOX)
    container.wait_until_healthy()
    reach(container, "node_b")
    container.execute("sh", "-c", "wh socks wh0 listen 127.0.0.1:1080 >/dev/null 2>&1 &")
    script = "for i in 1 2 3 4 5 6 7 8 9; do curl -s -o /dev/null -w '%{proxy_connect}' "
    script += (
        "--socks5-hostname 127.0.0.1:1080 http://node_b:9/; [ $? = 97 ] && exit 0; sleep 1; done; exit 1"
    )
    assert container.execute("sh", "-c", script, check=False).returncode == 0, "node_b refuses, by the proxy"


def test_where_user_namespaces_are_forbidden_it_says_what_to_allow(
    engine: Engine, tutorial: Tutorial, tmp_path: Path
) -> None:
    profile = json.loads(SECCOMP.read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in ("unshare", "setns")]
    forbidding = tmp_path / "seccomp.json"
    forbidding.write_text(json.dumps(profile))
    options = ["--security-opt", f"seccomp={forbidding}"]
    container = tutorial.start("node_d", options)
    assert container.exit_code() != 0
    assert "WH230" in container.logs() and "--security-opt" in container.logs()
    with_admin = tutorial.start("node_d", [*options, *FULL])
    with_admin.wait_until_healthy()
    public = engine.start(
        MINIMAL,
        [
            *options,
            *NOTHING,
            *USER,
            "--volume",
            f"{engine.file('public', 'name public')}:/etc/wirehub/config:ro",
        ],
    )
    public.wait_until_healthy()
