"""A daemon that nobody has prepared anything for, as the first process of a container is, or a unit after a
boot."""

from __future__ import annotations

import subprocess
from pathlib import Path

from labnet import Host, Lab, wait_until

INTERFACE = "wh0"
UID = 54398
AS_IN_A_CONTAINER = ("setpriv", "--bounding-set", "-net_admin,-sys_admin")


def member(lab: Lab) -> tuple[Host, dict[str, str]]:
    """A host with the user wirehub, key and file; the environment, with directories that are not there."""
    lab.directory.chmod(0o711)
    host = lab.host("a")
    for name, line in (
        ("passwd", f"wirehub:x:{UID}:{UID}::/:/bin/false\n"),
        ("group", f"wirehub:x:{UID}:\n"),
    ):
        (host.etc / name).write_text(Path("/etc", name).read_text() + line)
    host.attach(lab.network("lan"), "192.0.2.1/24")
    host.shell("umask 077; wh genkey > sk")
    key = host.shell("wh pubkey < sk").stdout.strip()
    (host.directory / "config").write_text(f"name lan\nsubnet 10.0.42.0/24\ntrust node_a {key}\n")
    places = {name: str(lab.directory / f"fresh-{name}") for name in ("WH_RUNDIR", "WH_STATEDIR")}
    return host, places


def started(host: Host, places: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = ["wh", "up", "config", "private-key", "sk", "interface", INTERFACE, "foreground"]
    if "isolated" in words:
        command = [*AS_IN_A_CONTAINER, *command]
    log = (host.directory / "log").open("w")
    process = host.popen([*command, *words], env=places, stderr=log.fileno())
    log.close()
    socket = Path(places["WH_RUNDIR"]) / f"{INTERFACE}.sock"
    wait_until(
        lambda: (
            process.poll() is not None
            or (socket.exists() and "is up" in (host.directory / "log").read_text())
        ),
        15,
        "the daemon is up",
    )
    assert process.poll() is None, (host.directory / "log").read_text()
    return process


def test_names_are_written_and_sockets_removed_where_no_directory_was(lab: Lab) -> None:
    host, places = member(lab)
    process = started(host, places)
    assert "node_a" in host.hosts_file.read_text()
    process.terminate()
    assert process.wait(15) == 0
    assert "node_a" not in host.hosts_file.read_text()
    assert not list(Path(places["WH_RUNDIR"]).glob("*.sock"))


def test_root_without_capabilities_may_have_an_isolated_interface(lab: Lab) -> None:
    """It is in a user namespace of root's, over which the user wirehub would have no power."""
    host, places = member(lab)
    process = started(host, places, "isolated")
    health = host.run(["wh", "health", INTERFACE], env=places)
    assert health.stdout.startswith(f"healthy: interface {INTERFACE} in a namespace of its own")
    told = host.run(["wh", "show", INTERFACE, "all"], env=places).stdout
    assert "the namespace of the interface is root's" in told
    process.terminate()
    assert process.wait(15) == 0
