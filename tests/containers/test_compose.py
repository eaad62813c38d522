"""The compose file: a public node without a privilege, restarted where it dies, and a member behind it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_engine import FULL, MINIMAL, ROOT, Container, Engine
from container_networks import mounted

COMPOSE = ROOT / "sandbox/container/compose.yaml"
pytestmark = pytest.mark.skipif(not shutil.which("podman-compose"), reason="podman-compose is not installed")


class Project:
    """A copy of the file in a directory of its own, which gives the project its name."""

    def __init__(self, engine: Engine) -> None:
        self.directory = engine.directory / f"{engine.prefix}-compose"
        self.directory.mkdir()
        shutil.copy(COMPOSE, self.directory)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", 0))
            self.port = probe.getsockname()[1]
        self.environment = {**engine.environment, "WH_PORT": str(self.port)}
        self.container = Container(engine, f"{self.directory.name}_public_1")

    def __call__(self, *words: str) -> str:
        answer = subprocess.run(
            ["podman-compose", *words],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def write(self, text: str) -> Path:
        file = self.directory / "config"
        file.write_text(text)
        return file


@pytest.fixture
def project(engine: Engine) -> Iterator[Project]:
    made = Project(engine)
    made.write("name public\n")
    try:
        yield made
    finally:
        made("down", "--volumes")
        engine("network", "rm", "--force", f"{made.directory.name}_default")


def test_a_member_joins_through_the_public_node_of_the_compose_file(engine: Engine, project: Project) -> None:
    key = re.findall(r"^[\w-]{43}$", project("run", "--rm", "public", "wh-node", "key"), re.MULTILINE)[0]
    network = engine.network()
    outside = engine.gateway(network)  # the host, as a member sees it
    project.write(f"name public\nboot {key} {outside}:{project.port}\n")
    project("up", "--detach")
    project.container.wait_until_healthy()
    (told,) = json.loads(engine("inspect", project.container.name).stdout)
    assert told["EffectiveCaps"] in (None, [])
    assert told["HostConfig"]["ReadonlyRootfs"]

    volume = engine.volume()
    lines = f"subnet 10.0.42.0/24\nboot {key} {outside}:{project.port}\ntrust node-a {engine.key(volume)}\n"
    member = engine.start(
        MINIMAL, ["--network", network, *FULL, *mounted(engine.file("config", lines), volume)], "wh-node"
    )
    member.wait_until_healthy()
    assert member.health().servers == 1
