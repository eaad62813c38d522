"""podman for tests: everything that is made has the name of its test run, and is gone at the end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from wh.ipc.schema import Health

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "sandbox/container/engine"
MINIMAL, SANDBOX = "localhost/wirehub/wh", "localhost/wirehub/sandbox"
FULL = ("--cap-add", "NET_ADMIN", "--device", "/dev/net/tun")
NOTHING = ("--cap-drop", "ALL")
NOFILE = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
PATIENCE_S = 40.0
STOP_S = 10
SETTINGS = f"""
[containers]
base_hosts_file = "none" # what stands in this host's is its own affair
default_ulimits = ["nofile={NOFILE}:{NOFILE}", "nproc=4096:4096"]
"""


def missing_requirements() -> str:
    """Why nothing can be tested here; empty where it can."""
    if not shutil.which("podman"):
        return "podman is not installed: make sandbox"
    if os.geteuid() != 0:
        return "needs root, as the labs do"
    for image in (MINIMAL, SANDBOX):
        if subprocess.run(["podman", "image", "exists", image], check=False).returncode:
            return f"there is no image {image}: make sandbox"
    return ""


def wait_until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience_s:.0f} s: {what}")
        time.sleep(0.1)


class Container:
    """One that was started with run()."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    def execute(
        self, *words: str, check: bool = True, options: Sequence[str] = (), seconds: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        return self.engine("exec", *options, self.name, *words, check=check, seconds=seconds)

    def logs(self) -> str:
        told = self.engine("logs", self.name, check=False)
        return told.stdout + told.stderr

    def state(self) -> dict[str, Any]:
        (told,) = json.loads(self.engine("inspect", self.name).stdout)
        state: dict[str, Any] = told["State"]
        return state

    def running(self) -> bool:
        return bool(self.state()["Running"])

    def exit_code(self, patience_s: float = PATIENCE_S) -> int:
        """Waits for the end."""
        wait_until(lambda: not self.running(), f"{self.name} ended\n{self.logs()}", patience_s)
        return int(self.state()["ExitCode"])

    def stop(self) -> int:
        """The exit code; SIGKILL, after STOP_S, gives 137."""
        self.engine("stop", "--time", str(STOP_S), self.name)
        return self.exit_code()

    def health(self) -> Health:
        told = self.execute("wh", "health", "wh0", "json")
        return msgspec.json.decode(told.stdout, type=Health)

    def wait_until_healthy(self) -> None:
        def healthy() -> bool:
            if not self.running():
                raise AssertionError(f"{self.name} has ended:\n{self.logs()}")
            return self.execute("wh", "health", check=False).returncode == 0

        try:
            wait_until(healthy, f"{self.name} is healthy")
        except AssertionError as error:
            told = self.execute("wh", "health", check=False)
            raise AssertionError(f"{error}\n{told.stdout}{told.stderr}{self.logs()}") from None

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.logs(), f"{self.name} logs {text!r}")

    def inspect(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.execute("wh", "inspect", "wh0").stdout)
        return status

    def zombies(self) -> list[str]:
        script = 'for f in /proc/[0-9]*/stat; do read -r line <$f && echo "$line"; done 2>/dev/null'
        lines = self.execute("sh", "-c", script).stdout.splitlines()
        return [line for line in lines if line.rpartition(")")[2].split()[:1] == ["Z"]]


class Engine:
    """Context manager. A failing command raises AssertionError with what it said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.prefix = f"wht-{os.getpid()}-{secrets.token_hex(3)}"
        self._made: list[tuple[str, ...]] = []
        settings = directory / "containers.conf"
        settings.write_text(SETTINGS)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(settings)}
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for words in reversed(self._made):
            self(*words, check=False)
        self._made.clear()

    def __call__(
        self, *words: str, check: bool = True, seconds: float = 120.0, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        answer = subprocess.run(
            [str(ENGINE), *words],
            capture_output=True,
            text=True,
            input=text,
            timeout=seconds,
            env=self.environment,
            check=False,
        )
        if check and answer.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: {answer.returncode}\n{answer.stdout}{answer.stderr}")
        return answer

    def unique(self, kind: str) -> str:
        """A name of this test run's."""
        self._count += 1
        return f"{self.prefix}-{kind}{self._count}"

    def network(self, *options: str) -> str:
        name = self.unique("net")
        self.expect("network", name)
        self("network", "create", *options, name)
        return name

    def gateway(self, network: str) -> str:
        (told,) = json.loads(self("network", "inspect", network).stdout)
        return str(told["subnets"][0]["gateway"])

    def volume(self) -> str:
        name = self.unique("vol")
        self.expect("volume", name)
        self("volume", "create", name)
        return name

    def secret(self, text: str) -> str:
        name = self.unique("secret")
        self._made.append(("secret", "rm", name))
        self("secret", "create", name, "-", text=text)
        return name

    def expect(self, kind: str, name: str) -> None:
        """One of ours that somebody else makes: a container, network or volume that goes at the end."""
        options = ("--force", "--time", "0", "--volumes", "--ignore") if kind == "container" else ("--force",)
        self._made.append((kind, "rm", *options, name))

    def start(self, image: str, options: Sequence[str] = (), *words: str) -> Container:
        """In the background."""
        name = self.unique("c")
        self.expect("container", name)
        self("run", "--detach", "--name", name, *options, image, *words)
        return Container(self, name)

    def run(
        self, image: str, options: Sequence[str], *words: str, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """To its end. What it printed on either stream is in stdout, as in a log."""
        name = self.unique("c")
        self.expect("container", name)
        interactive = [] if text is None else ["--interactive"]
        return self(
            "run", "--rm", "--name", name, *interactive, *options, image, *words, check=check, text=text
        )

    def file(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.directory / f"{self.unique('file')}-{name}"
        path.write_text(text)
        path.chmod(mode)
        return path

    def key(self, volume: str, *options: str) -> str:
        """The public half of the key that a node on this volume has."""
        return self.run(
            MINIMAL, [*options, "--volume", f"{volume}:/var/lib/wirehub"], "wh-node", "key"
        ).stdout.strip()

    def address(self, container: Container) -> str:
        (told,) = json.loads(self("inspect", container.name).stdout)
        (network,) = told["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def left(self) -> list[str]:
        """What is still there with our name."""
        found: list[str] = []
        for words in (("ps", "--all"), ("network", "ls"), ("volume", "ls"), ("secret", "ls")):
            with contextlib.suppress(AssertionError):
                found += [line for line in self(*words).stdout.splitlines() if self.prefix in line]
        return found
