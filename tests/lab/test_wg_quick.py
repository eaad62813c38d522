"""wg-quick with `wh-wireguard` as its userspace implementation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from labnet import Lab, wait_until
from wireguard_ends import End, ping_both_ways, same_wire, sockets_removed

ENVIRONMENT = {"WG_QUICK_USERSPACE_IMPLEMENTATION": "wh-wireguard"}

pytestmark = pytest.mark.skipif(shutil.which("wg-quick") is None, reason="wg-quick is not installed")


@pytest.fixture
def ends(lab: Lab) -> Iterator[tuple[End, End]]:
    made = same_wire(lab)
    with sockets_removed(*made):
        yield made


def wg_quick(end: End, verb: str) -> str:
    return end.host.run(["wg-quick", verb, f"./{end.interface}.conf"], env=ENVIRONMENT).stdout


def configuration(end: End) -> Path:
    return end.host.directory / f"{end.interface}.conf"


def write_configuration(end: End, other: End, allowed_ips: str, *, interface_lines: str = "") -> None:
    end.host.shell(f"umask 077; touch {end.interface}.conf")
    configuration(end).write_text(
        f"[Interface]\n"
        f"PrivateKey = {(end.host.directory / 'key').read_text().strip()}\n"
        f"ListenPort = {end.port}\n"
        f"Address = {end.inner}/24, {end.inner6}/64\n"
        f"{interface_lines}"
        f"[Peer]\n"
        f"PublicKey = {other.public_key}\n"
        f"AllowedIPs = {allowed_ips}\n"
        f"Endpoint = {other.outer}:{other.port}\n"
    )


def gone(end: End) -> None:
    wait_until(lambda: not end.host.pids(), 5, "the process ends")
    assert not end.uapi_socket.exists()
    assert end.interface not in end.host.ip("link", "show")


def test_a_tunnel_of_two_peers_comes_up_and_goes_down(ends: tuple[End, End]) -> None:
    for end, other in (ends, ends[::-1]):
        write_configuration(
            end, other, f"{other.inner}/32, {other.inner6}/128", interface_lines="MTU = 1400\n"
        )
    for end in ends:
        wg_quick(end, "up")
        assert "mtu 1400" in end.host.ip("link", "show", end.interface)
    ping_both_ways(ends)
    for end in ends:
        wg_quick(end, "down")
        gone(end)


def test_a_tunnel_for_everything_takes_every_packet_but_its_own(lab: Lab, ends: tuple[End, End]) -> None:
    """AllowedIPs of 0.0.0.0/0 make wg-quick set an fwmark, policy routes and a firewall."""
    a, b = ends
    write_configuration(a, b, "0.0.0.0/0, ::/0")
    write_configuration(b, a, f"{a.inner}/32, {a.inner6}/128")
    b.host.ip("address", "add", "198.51.100.9/32", "dev", "lo")
    for end in (b, a):  # whose first packets would wait for seconds if nobody answered
        wg_quick(end, "up")
    assert a.host.run(["wg", "show", a.interface, "fwmark"]).stdout.strip() != "off"
    ping_both_ways(ends)
    a.ping("198.51.100.9")  # known to nobody but the tunnel
    wg_quick(a, "down")
    gone(a)
    assert "fwmark" not in a.host.ip("rule")
    assert not a.reaches("198.51.100.9")


def test_what_was_changed_is_saved_and_set_again(ends: tuple[End, End]) -> None:
    a, b = ends
    write_configuration(a, b, f"{b.inner}/32")
    wg_quick(a, "up")
    a.set_peer(b, "persistent-keepalive", "17", "allowed-ips", f"{b.inner}/32,10.11.0.0/16")
    wg_quick(a, "save")
    shown = a.host.run(["wg", "showconf", a.interface]).stdout
    assert "PersistentKeepalive = 17" in shown
    assert "10.11.0.0/16" in configuration(a).read_text()
    wg_quick(a, "down")
    gone(a)
    wg_quick(a, "up")
    assert a.host.run(["wg", "showconf", a.interface]).stdout == shown
    wg_quick(a, "down")


def test_synchronising_changes_what_differs_and_ends_no_session(ends: tuple[End, End]) -> None:
    a, b = ends
    for end, other in (ends, ends[::-1]):
        write_configuration(end, other, f"{other.inner}/32, {other.inner6}/128")
        wg_quick(end, "up")
    ping_both_ways(ends)
    handshake, before = a.handshake_time(b), a.transfer(b)
    with configuration(a).open("a") as file:
        file.write("PersistentKeepalive = 600\n")
    wg_quick_strip = f"wg-quick strip ./{a.interface}.conf"
    a.host.shell(f"wg syncconf {a.interface} <({wg_quick_strip})")
    assert a.show("persistent-keepalive")[b.public_key] == ["600"]
    ping_both_ways(ends)
    assert a.handshake_time(b) == handshake
    assert a.transfer(b)[0] > before[0]
    a.host.shell(
        f"{wg_quick_strip} | grep -v -e Endpoint -e Keepalive | wg syncconf {a.interface} /dev/stdin"
    )
    ping_both_ways(ends)
    for end in ends:
        wg_quick(end, "down")
        gone(end)


SHADOWED = ("wh", "whcore", "whtools", "msgspec", "sitecustomize", "usercustomize", "signal", "logging")


@pytest.mark.parametrize("package", [False, True])
def test_the_directory_where_wg_quick_runs_is_none_of_our_code(ends: tuple[End, End], package: bool) -> None:
    a, b = ends
    directory, ran = a.host.directory, a.host.directory / "ran"
    for name in SHADOWED:
        module = directory / name / "__init__.py" if package else directory / f"{name}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(f"open({str(ran)!r}, 'a').write('{name}\\n')\n")
    write_configuration(a, b, f"{b.inner}/32")
    wg_quick(a, "up")
    assert a.host.run(["wg", "show", a.interface, "peers"]).stdout.strip() == b.public_key
    wg_quick(a, "down")
    gone(a)
    assert not ran.exists()


def test_wh_wireguard_starts_in_a_clone_of_its_repository(ends: tuple[End, End]) -> None:
    """Whose whcore is not built."""
    a, _ = ends
    clone = Path(__file__).parents[2]
    assert (clone / "whcore" / "__init__.py").exists()
    a.host.shell(f"cd {clone} && wh-wireguard {a.interface}")
    assert a.interface in a.host.ip("link", "show")
    assert a.interface in a.host.run(["wg", "show", "interfaces"]).stdout
    a.host.ip("link", "delete", a.interface)
    gone(a)


def test_a_configuration_that_is_refused_leaves_nothing(ends: tuple[End, End]) -> None:
    a, b = ends
    write_configuration(a, b, f"{b.inner}/32", interface_lines="ListenPort = 5353\n")
    taken = a.host.popen(["ncat", "-u", "-l", a.outer, "5353"])
    wait_until(lambda: "5353" in a.host.run(["ss", "-Hlun"]).stdout, 5, "the port is taken")
    failed = a.host.run(["wg-quick", "up", f"./{a.interface}.conf"], check=False, env=ENVIRONMENT)
    assert failed.returncode != 0
    assert "Address already in use" in failed.stderr
    taken.kill()
    taken.wait()
    gone(a)
