"""`make sandbox` with docker, for which a program of its name stands; tests/containers has podman itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "sandbox/container"
DEBIAN = "docker.io/library/debian:bookworm-slim"
OUR_BASE = "localhost/wirehub/base:bookworm"
PROGRAM = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
    "image inspect $ABSENT_IMAGE" | "image inspect $UNPULLED_IMAGE") exit 1 ;;
    "image inspect --format"*) echo 104000000 ;;
esac
"""


class Programs:
    """A directory with programs that log their words, and nothing else on the path."""

    def __init__(self, directory: Path, *names: str, others: str = "") -> None:
        self.log = directory / "log"
        self.log.touch()
        self._path = f"{directory / 'bin'}{others}"
        (directory / "bin").mkdir()
        for name in names:
            program = directory / "bin" / name
            program.write_text(PROGRAM)
            program.chmod(0o755)
        self._cache = directory / "cache"

    def run(self, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": self._path, "LOG": str(self.log), "XDG_CACHE_HOME": str(self._cache), "HOME": "/"}
        return subprocess.run(
            [str(SCRIPTS / script), *words],
            env={**given, "ABSENT_IMAGE": OUR_BASE, "UNPULLED_IMAGE": DEBIAN, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()


def test_docker_gets_the_words_as_they_are(tmp_path: Path):
    programs = Programs(tmp_path, "docker")
    assert programs.run("engine", "run", "--rm", "wirehub/wh").returncode == 0
    assert programs.said() == ["run --rm wirehub/wh"]


def test_podman_comes_first_with_limits_that_it_may_set(tmp_path: Path):
    programs = Programs(tmp_path, "docker", "podman", "runc")
    assert programs.run("engine", "run", "--rm", "wirehub/wh").returncode == 0
    (said,) = programs.said()
    assert said.endswith(" --rm wirehub/wh") and " --ulimit nofile=" in said


def test_engine_chooses_docker_where_both_are(tmp_path: Path):
    programs = Programs(tmp_path, "docker", "podman")
    programs.run("engine", "image", "ls", ENGINE="docker")
    assert programs.said() == ["image ls"]


def test_without_an_engine_it_says_so(tmp_path: Path):
    answer = Programs(tmp_path).run("engine", "run", "--rm", "wirehub/wh")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "engine: neither podman nor docker is installed\n"


@pytest.mark.parametrize(
    ("environment", "base"),
    [({}, DEBIAN), ({"BASE": "debian:trixie"}, "debian:trixie")],
    ids=["pulled", "named"],
)
def test_docker_builds_both_images_on_a_debian(tmp_path: Path, environment: dict[str, str], base: str):
    programs = Programs(tmp_path, "docker", others=":/usr/bin:/bin")
    answer = programs.run("build", ENGINE="docker", **environment)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "wirehub/sandbox: 104 MB\nwirehub/wh: 104 MB\n"
    builds = [line for line in programs.said() if line.startswith("build ")]
    assert [line.split("--target ")[1] for line in builds] == [
        f"{name} --tag wirehub/{name} ." for name in ("sandbox", "wh")
    ]
    assert all(f"--build-arg BASE={base} " in line for line in builds)
    assert (f"pull --quiet {DEBIAN}" in programs.said()) is (base == DEBIAN)
