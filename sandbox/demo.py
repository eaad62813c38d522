"""`make demo`: the README's tutorial with real daemons on real packets, in namespaces, step by step.

Exit code 0 only where every command worked and no ping was lost. On failure the daemons' logs are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from labnet import Host, Lab, LabError, missing_requirements, wait_until
from nodes import inspect
from timed_ping import TimedPing, lost
from tutorial import Tutorial

PEER = "node-b"
PINGS = 10
DIRECT_S = 20.0


class Narrator:
    """Runs the commands of the tutorial, and shows or records each with its output."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.steps: list[dict[str, object]] = []

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    def __call__(self, host: Host, command: str) -> subprocess.CompletedProcess[str]:
        self.say(f"{host.name}# {command}")
        started = time.monotonic()
        answer = host.shell(command, check=False)
        output = answer.stdout + answer.stderr
        self.say(output)
        self.steps.append(
            {
                "host": host.name,
                "command": command,
                "output": output,
                "exit_code": answer.returncode,
                "seconds": round(time.monotonic() - started, 3),
            }
        )
        if answer.returncode != 0:
            raise LabError(f"{host.name}: `{command}` failed with exit code {answer.returncode}")
        return answer

    def note(self, host: Host, what: str, text: str) -> None:
        """Something seen without a command."""
        self.say(text)
        self.steps.append({"host": host.name, "command": what, "output": text, "exit_code": 0})


def run_tutorial(tutorial: Tutorial, narrator: Narrator) -> None:
    narrator.say("== Each node makes its key; the public half goes into the network file\n")
    tutorial.make_keys()
    tutorial.write_files()
    narrator(tutorial.node_a, "cat ./config")
    narrator.say("== A public node, then node-a and node-b, each behind a NAT\n")
    for host in tutorial.nodes:
        tutorial.up(host)
    narrator.say("== Data goes through the public node at once, and then directly\n")
    watch_path(tutorial, narrator)
    narrator.say("== They reach each other by name\n")
    ping_both_ways(tutorial, narrator)
    narrator.say("== What each of them knows\n")
    for host in tutorial.nodes:
        narrator(host, "wh")


def watch_path(tutorial: Tutorial, narrator: Narrator) -> None:
    """What becomes of node-a's path to node-b under a ping. Raises LabError where it stays relayed."""
    host = tutorial.node_a
    ping = TimedPing(host, PEER, interval_s=0.05)
    started = time.monotonic()
    seen: list[str] = []

    def is_direct() -> bool:
        peer = next(each for each in inspect(host)["peers"] if each["hostname"] == PEER)
        where = f"by the relay {peer['relay']}" if peer["relay"] else peer["endpoint"] or ""
        line = f"{peer['state']} {where}".rstrip()
        if not seen or seen[-1] != line:
            seen.append(line)
            narrator.note(host, f"path to {PEER}", f"{time.monotonic() - started:5.2f} s  {line}")
        return peer["state"] == "direct" and bool(ping.replies())

    try:
        wait_until(is_direct, DIRECT_S, f"the path to {PEER} is direct")
    except TimeoutError as error:
        raise LabError(str(error)) from None
    finally:
        replies = ping.stop()
    narrator.note(host, f"path to {PEER}", f"{len(replies)} pings answered, {lost(replies)} lost\n")


def ping_both_ways(tutorial: Tutorial, narrator: Narrator) -> None:
    for host, peer in ((tutorial.node_a, PEER), (tutorial.node_b, "node-a")):
        for family in ("-4", "-6"):
            answer = narrator(host, f"ping {family} -c {PINGS} -i 0.2 -W 2 {peer}")
            if " 0% packet loss" not in answer.stdout:
                raise LabError(f"{host.name}: a ping to {peer} was lost")


def take_down(tutorial: Tutorial, narrator: Narrator) -> None:
    narrator.say("== The end\n")
    for host in reversed(tutorial.nodes):
        tutorial.down(host)


def keep_open(tutorial: Tutorial) -> None:
    """A shell on node-a; the other hosts are one `ip netns exec` away."""
    for host in tutorial.nodes:
        print(f"{host.name}: ip netns exec {host.namespace} env WH_RUNDIR={host.directory}/run bash")
    print("You are on node-a now. `exit` removes everything.", flush=True)
    node_a = tutorial.node_a
    subprocess.run(node_a.argv(["bash", "-i"]), env=node_a.environment(), cwd=node_a.directory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="open a shell on node-a before the end")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the steps")
    options = parser.parse_args()
    if reason := missing_requirements():
        print(f"demo: {reason}", file=sys.stderr)
        return 1
    narrator = Narrator(quiet=options.json)
    failure = ""
    with Lab("demo") as lab:
        try:
            tutorial = Tutorial(lab, narrator, nat_a="port-restricted", joint="-")
            run_tutorial(tutorial, narrator)
            if options.keep:
                keep_open(tutorial)
            take_down(tutorial, narrator)
        except (LabError, ValueError) as error:
            failure = str(error)
            print(lab.logs(), file=sys.stderr)
    return report(narrator, failure)


def report(narrator: Narrator, failure: str) -> int:
    if narrator.quiet:
        print(json.dumps({"ok": not failure, "failure": failure, "steps": narrator.steps}, indent=2))
    if failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    narrator.say("Everything worked, and nothing is left of it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
