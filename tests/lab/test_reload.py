"""`wh reload`: a broken file changes nothing; a good one changes what it says and disturbs nothing else."""

import os
import signal

from labnet import Host, wait_until
from pinging import RunningPing, lost
from tutorial import ADDRESSES, INTERFACE, Tutorial

EXIT_BAD_CONFIG = 5


def make_node_c(tutorial: Tutorial) -> tuple[Host, str]:
    """A third host beside node_a, and its line for the network file."""
    node_c = tutorial.lab.host("node_c")
    node_c.attach(tutorial.networks["net_a"], "198.51.100.11/24")
    node_c.default_route("198.51.100.1")
    tutorial.make_key(node_c)
    return node_c, f"trust node_c {tutorial.keys['node_c']}"


def test_reload_of_a_broken_file_names_the_line_and_changes_nothing(running: Tutorial) -> None:
    host = running.node_a
    before = running.inspect(host)
    names_before = host.hosts_file.read_text()
    good = running.network_file()
    broken_line = good.count("\n") + 1
    (host.directory / "config").write_text(good + "trsut node_c somewhere\n")
    answer = host.run(["wh", "reload", INTERFACE], check=False)
    assert answer.returncode == EXIT_BAD_CONFIG
    assert f"config:{broken_line}:1" in answer.stderr
    assert "trust" in answer.stderr  # the nearest known word
    assert "Traceback" not in answer.stderr
    after = running.inspect(host)
    assert [peer["public_key"] for peer in after["peers"]] == [peer["public_key"] for peer in before["peers"]]
    assert after["pid"] == before["pid"]
    assert host.hosts_file.read_text() == names_before
    assert lost(host.run(["ping", "-c3", "-i0.2", "-W2", "node_b"]).stdout) == 0


def test_sighup_opens_the_log_anew(running: Tutorial) -> None:
    host = running.node_a
    log = host.directory / "run" / f"{INTERFACE}.log"
    log.rename(log.with_name("old"))
    os.kill(running.inspect(host)["pid"], signal.SIGHUP)
    wait_until(lambda: log.exists(), 10, "there is a new log")
    (host.directory / "config").write_text("nonsense\n")
    os.kill(running.inspect(host)["pid"], signal.SIGHUP)
    wait_until(lambda: "nothing was changed" in log.read_text(), 10, "it is written to")
    assert log.stat().st_mode & 0o777 == 0o640


def test_reload_adds_a_node_without_losing_a_packet_to_another(running: Tutorial) -> None:
    node_c, line = make_node_c(running)
    ping = RunningPing(running.node_a, "node_b", per_second=50)
    for host in (running.node_a, running.node_b, node_c):
        (host.directory / "config").write_text(running.network_file(line))
    running.up(node_c)
    for host in (running.node_a, running.node_b):
        host.run(["wh", "reload", INTERFACE])
        ping.wait_for_answers(25)
    output = running.node_a.run(["ping", "-4", "-c5", "-i0.2", "-W2", "node_c"]).stdout
    assert f"({ADDRESSES['node_c']})" in output
    assert lost(output) == 0
    ping.wait_for_answers(25)
    assert lost(ping.stop()) <= 1  # the one that was under way when ping stopped
    assert "node_c" in running.node_a.run(["wh"]).stdout


def test_reload_that_drops_a_node_forgets_its_name_and_route(running: Tutorial) -> None:
    host = running.node_a
    without_b = "".join(line for line in running.network_file().splitlines(True) if "node_b" not in line[:12])
    (host.directory / "config").write_text(without_b)
    host.run(["wh", "reload", INTERFACE])
    assert "node_b" not in host.hosts_file.read_text()
    assert host.run(["ping", "-c1", "-w1", ADDRESSES["node_b"]], check=False).returncode != 0
