"""0nc on lab hosts, as a user without privileges."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labnet import Host, wait_until

READ_ONLY = "-all,+dac_read_search"
NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *(f"--inh-caps={READ_ONLY}", f"--ambient-caps={READ_ONLY}"),
)
"""Without any privilege but to read what stands in a closed home directory: the program itself."""

PATIENCE_S = 30.0


class End:
    """One running 0nc with --json; its standard streams are files and pipes of the caller's."""

    def __init__(
        self,
        host: Host,
        arguments: Sequence[str] = (),
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        user: Sequence[str] = NOBODY,
        env: dict[str, str] | None = None,
    ) -> None:
        self.host = host
        self.log = host.directory / f"0nc-{time.monotonic_ns()}.events"
        with self.log.open("wb") as events:
            self.process = host.popen(
                [*user, "0nc", "--json", *arguments],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.DEVNULL if stdout is None else stdout,
                stderr=events.fileno(),
                env=env,
            )

    def events(self) -> list[dict[str, Any]]:
        """Whole lines so far; what is no JSON is shown by the test that fails."""
        lines = self.log.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def event(self, kind: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((event for event in self.events() if event["event"] == kind), None)

        def found_or_ended() -> dict[str, Any]:
            ended = self.process.poll() is not None
            event = found()
            assert event is not None or not ended, f"0nc ended: {self.log.read_text()}"
            return event or {}

        return wait_until(found_or_ended, patience_s, f"0nc says {kind}")

    def invitation(self) -> str:
        return str(self.event("invitation")["text"])

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        return self.process.wait(patience_s)


def as_nobody(host: Host, path: Path) -> Path:
    """A path that the user may write."""
    os.chown(path, 65534, 65534)
    return path
