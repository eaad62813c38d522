"""Pings as the lab tests use them."""

from __future__ import annotations

import re
import signal
import subprocess

from labnet import Host, wait_until

_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")


def lost(output: str) -> int:
    """How many of a ping's packets had no answer, from its closing lines."""
    summary = _SUMMARY.search(output)
    assert summary, f"ping did not finish:\n{output}"
    return int(summary[1]) - int(summary[2])


def answers_within(host: Host, peer: str, deadline_s: float, family: str = "-4") -> bool:
    """Whether one of the pings sent from now on, several a second, is answered in time."""
    command = ["ping", family, "-c1", "-i0.2", f"-w{deadline_s:g}", peer]
    return host.run(command, check=False).returncode == 0


class RunningPing:
    """A ping at a steady rate in the background."""

    def __init__(self, host: Host, peer: str, *, per_second: int = 50) -> None:
        self._output = host.directory / f"ping-{peer}"
        with self._output.open("w") as stream:
            self._process = host.popen(
                ["ping", "-4", f"-i{1 / per_second}", "-W2", peer],
                stdout=stream.fileno(),
                stderr=subprocess.STDOUT,
            )
        self.wait_for_answers(5)

    @property
    def answers(self) -> int:
        return self._output.read_text().count("bytes from")

    def wait_for_answers(self, more: int) -> None:
        goal = self.answers + more
        wait_until(lambda: self.answers >= goal, 10, f"{more} more ping answers")

    def stop(self) -> str:
        """Its whole output. The answer to the very last packet may be under way: ping counts it as lost."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)
        return self._output.read_text()
