"""Transcripts of the documents, played: `$` stands before what is typed on the host, `#` before what is typed
in the container that the line before it started, and the rest is what is printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from container_engine import ENGINE, PATIENCE_S, ROOT, Engine, wait_until

BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEY = r"(?<![\w-])[\w-]{43}(?![\w-])"
VARYING = {"port": r"port \d+", "time": r"[\d.]+ ms", "anything": r"\.\.\."}
VARIES = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in {"key": KEY, **VARYING}.items()))
TERMINAL_CODES = re.compile(r"\x1b\[[?\d;]*[A-Za-z]|\r")
RETRIED = ("podman exec", "podman logs")
"""A reader is not as fast as a test."""


@dataclass
class Step:
    command: str
    typed: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)


def transcript(document: Path, heading: str) -> list[Step]:
    """What all blocks of a section show. Raises IndexError where there is no such section."""
    section = document.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return list(steps("".join(BLOCK.findall(section))))


def steps(text: str) -> Iterator[Step]:
    step = None
    for line in text.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            if step is not None:
                yield step
            step = Step(line[2:])
        elif step is not None and line.startswith("# "):
            step.typed.append(line[2:])
        elif step is not None:
            step.printed.append(line)
    if step is not None:
        yield step


class Player:
    """Of one transcript. Its containers, networks and volumes get names of this test run, its keys are those
    that were printed."""

    def __init__(self, engine: Engine, names: Mapping[str, str], *, seconds: float = 120.0) -> None:
        """names: the transcript's words, and what stands for them here."""
        self.directory = engine.directory / engine.unique("transcript")
        programs = self.directory / "bin"
        programs.mkdir(parents=True)
        (programs / "podman").symlink_to(ENGINE)
        self._environment = {
            **engine.environment,
            "ENGINE": str(shutil.which("podman")),
            "PATH": f"{programs}:{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        }
        self._words = dict(names)
        self._seconds = seconds

    def play(self, step: Step) -> None:
        """Raises AssertionError where something else is printed."""
        if step.command.startswith("cat "):
            (self.directory / step.command.split()[1]).write_text(self._here("\n".join(step.printed) + "\n"))
            return
        said = ""

        def printed() -> bool:
            nonlocal said
            said = self._run(step)
            return self._is_printed(step, said)

        try:
            wait_until(printed, "", PATIENCE_S if step.command.startswith(RETRIED) else 0)
        except AssertionError:
            raise AssertionError(f"{self._here(step.command)} prints {step.printed}, not:\n{said}") from None

    def _run(self, step: Step) -> str:
        command, directory = self._here(step.command), self.directory
        typed = [*step.typed, "exit"] if step.typed else []
        if command.startswith("make "):
            command, directory = command.replace("make ", "make --silent --assume-old sandbox "), ROOT
        answer = subprocess.run(
            ["bash", "-c", command],
            input="".join(f"{self._here(line)}\n" for line in typed),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
            env=self._environment,
            timeout=self._seconds,
            check=False,
        )
        return TERMINAL_CODES.sub("", answer.stdout)

    def _is_printed(self, step: Step, said: str) -> bool:
        """Each line, in this order. Keys that are new are remembered."""
        lines = iter(said.splitlines())
        for expected in step.printed:
            pattern, keys = self._pattern(expected)
            found = next((match for line in lines if (match := pattern.search(line))), None)
            if found is None:
                return False
            self._words |= zip(keys, found.groups(), strict=True)
        return True

    def _pattern(self, line: str) -> tuple[re.Pattern[str], list[str]]:
        """Of the line as it is printed here, and the keys of the document that its groups stand for."""
        text, keys, end = "", [], 0
        for match in VARIES.finditer(line):
            text += re.escape(self._here(line[end : match.start()]))
            end = match.end()
            kind, word = str(match.lastgroup), match[0]
            if kind != "key":
                text += ".*" if kind == "anything" else VARYING[kind]
            elif word in self._words:
                text += re.escape(self._words[word])
            else:
                text += f"({KEY})"
                keys.append(word)
        return re.compile(text + re.escape(self._here(line[end:]))), keys

    def _here(self, text: str) -> str:
        for word, ours in self._words.items():
            text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", ours, text)
        return text
