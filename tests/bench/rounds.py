"""The rounds of bench-data: every step on every implementation in turn, and what they found."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from comparison import GOALS, Sample, Samples, spread
from implementations import Implementation, Role
from labnet import Lab, LabError
from measurements import Settings, Step, Subject, steps
from uapi_client import UAPI_DIRECTORY, UapiError
from whcore import aead

STEP_ERRORS = (LabError, UapiError, TimeoutError, subprocess.TimeoutExpired, json.JSONDecodeError, KeyError)
"""What a peer that crashed, hung or is not quite a WireGuard makes of a step."""


class Comparison:
    """All samples of a run, and what went wrong in it."""

    def __init__(self, implementations: Sequence[Implementation], settings: Settings) -> None:
        self.implementations = implementations
        self.settings = settings
        self.notes: list[str] = []
        self.failed_ourselves = False
        self._samples: dict[str, dict[str, list[Sample]]] = {each.label: {} for each in implementations}
        self._rounds = 0

    def run_round(self) -> None:
        """Every step on every implementation; the order turns round with each step and each round."""
        self._rounds += 1
        with Lab("bench") as lab:
            try:
                subjects = self._subjects(lab)
                for turn, step in enumerate(steps(), self._rounds):
                    for subject in subjects if turn % 2 else subjects[::-1]:
                        self._measure(subject, step)
            finally:
                for left in UAPI_DIRECTORY.glob(f"*{lab.token}*.sock"):  # of processes that ended badly
                    left.unlink()

    def _subjects(self, lab: Lab) -> list[Subject]:
        subjects = []
        for number, implementation in enumerate(self.implementations):
            try:
                subjects.append(Subject(lab, implementation, f"b{number}{lab.token}", self.settings))
            except STEP_ERRORS as error:
                self._note(implementation, "start", error)
        return subjects

    def _measure(self, subject: Subject, step: Step) -> None:
        started = time.monotonic()
        try:
            found = step.measure(subject)
        except STEP_ERRORS as error:
            self._note(subject.implementation, step.name, error)
            return
        if not found:  # a step that is not for this implementation
            return
        label = subject.implementation.label
        for key, value in found.items():
            row = self._samples[label].setdefault(key, [])
            row += [None] * (self._rounds - 1 - len(row))
            row.append(value)
        texts = (f"{key} {value:,.4g}" for key, value in found.items())
        print(
            f"[{self._rounds}] {label}: {', '.join(texts)} ({time.monotonic() - started:.1f} s)", flush=True
        )

    def _note(self, implementation: Implementation, what: str, error: BaseException) -> None:
        reason = " ".join(str(error).split())
        self.notes.append(f"round {self._rounds}, {implementation.label}, {what}: {reason}")
        self.failed_ourselves |= implementation.role is Role.OURS
        print(self.notes[-1], file=sys.stderr)

    def body(self) -> dict[str, object]:
        """For the JSON."""
        samples = Samples({each.label: each.role for each in self.implementations}, self._samples)
        return {
            "settings": asdict(self.settings) | {"pairs": self._rounds},
            "iperf3": iperf3_version(),
            "aead": aead.engine(),
            "roles": {each.label: each.role.value for each in self.implementations},
            "samples": self._samples,
            "summary": summary(samples),
            "goals": [
                {"title": goal.title(samples), "limit": goal.limit_text(), "value": goal.value(samples)}
                | {"met": goal.met(samples)}
                for goal in GOALS
            ],
            "notes": self.notes,
        }


def summary(samples: Samples) -> dict[str, dict[str, object]]:
    """Median, lowest and highest of each metric of each implementation."""
    found: dict[str, dict[str, object]] = {}
    for label in samples.labels:
        spreads = {key: spread(values) for key, values in samples.metrics(label).items()}
        found[label] = {key: asdict(each) for key, each in spreads.items() if each}
    return found


def iperf3_version() -> str:
    answer = subprocess.run(["iperf3", "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.split()[1]
