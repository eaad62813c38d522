"""A daemon that is killed without warning leaves nothing that the next start does not clean up."""

import os
import signal

from labnet import Host, wait_until
from pinging import answers_within
from tutorial import ADDRESSES, INTERFACE, Tutorial


def kill_daemon(running: Tutorial, host: Host) -> None:
    """Returns when nobody listens any more: the threads of a killed process end one after the other."""
    os.kill(running.inspect(host)["pid"], signal.SIGKILL)
    wait_until(lambda: not host.run(["wh", "show", "interfaces"]).stdout, 10, "the daemon is dead")


def test_up_works_after_kill_9_and_nothing_stale_is_left(running: Tutorial) -> None:
    host = running.node_a
    kill_daemon(running, host)
    assert "node_b" in host.hosts_file.read_text()  # what must not stay

    shown = host.run(["wh", "inspect", INTERFACE], check=False)
    assert shown.returncode != 0
    assert "Traceback" not in shown.stderr

    renamed = running.network_file().replace("trust node_b", "trust other_name")
    (host.directory / "config").write_text(renamed)
    running.up(host)
    names = host.hosts_file.read_text()
    assert "node_b" not in names
    assert names.count(ADDRESSES["node_b"]) == 1
    assert answers_within(host, "other_name", 10)


def test_peers_find_a_node_again_after_it_was_killed(running: Tutorial) -> None:
    assert answers_within(running.node_a, "node_b", 5)
    kill_daemon(running, running.node_b)
    running.up(running.node_b)
    assert answers_within(running.node_b, "node_a", 10)
    assert answers_within(running.node_a, "node_b", 10)


def test_down_after_kill_9_cleans_up_or_says_that_nothing_runs(running: Tutorial) -> None:
    host = running.node_a
    kill_daemon(running, host)
    answer = host.run(["wh", "down", INTERFACE], check=False)
    assert "Traceback" not in answer.stderr
    assert answer.returncode == 0 or "WH310" in answer.stderr
    assert INTERFACE not in host.ip("-o", "link", "show")
