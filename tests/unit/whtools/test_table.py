"""Every verb under every condition that a user's machine may have: a table, of which each run draws a part.

No program ends with an error in itself, with a traceback, by a signal or never. What is drawn follows from a
seed that is printed; WH_TABLE_SEED gives another.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, combinations
from pathlib import Path

import programs
import pytest
from fake_daemon import OWN_KEY, PEER_KEY, FakeDaemon

from wh.ipc import client, schema
from wh.trust.invitation import Invitation, encode
from whcore.keys import SecretKey, decode_key
from whtools.application import COMMANDS
from whtools.commands.down import stop

DRAWN, DRAWN_OF_OTHERS = 3, 1
"""Of each verb of wh, and of each other program, where not all are run."""

AT_ONCE = 4
TIMEOUT_S = 90.0  # the machine may be busy; a verb alone takes half a second
SEED = int(os.environ.get("WH_TABLE_SEED") or random.SystemRandom().randrange(1 << 32))

EXPECTED = {0, 1, 2, 3, 4, 5, 6, 126, 127, 141}
FORBIDDEN = (b"Traceback", b"WH100", b"internal error", b"Exception ignored", b"Fatal Python error")

SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE)
SECRET = b"qIbbrKGN8RqSZ9qXAgX1Tvuke1OVZmvTpV1Rhc9xGEY=\n"
EXPIRED = encode(Invitation(decode_key(PEER_KEY), bytes(16), expiry=1))

KEY, NETWORK = "{key}", "{network}"
"""In place of a file of that kind."""

LONG = 131_000  # the kernel takes 131,071 bytes a word (MAX_ARG_STRLEN)
NASTY = {
    "control": "\x01{}\x7f",
    "byte order mark": "\ufeff{}",
    "zero width": "{}\u200b",
    "carriage return": "{}\r\n",
    "no text": "{}\udcff",
    "empty": "",
    "hyphen": "-{}",
    "long": "x" * LONG,
    "newline": "{}\n{}",
}
FILES = ("fifo", "directory", "unreadable", "growing", "empty", "huge", "missing", "link", "binary")

WORDS: dict[str, list[str]] = {
    "genkey": ["wh", "genkey", NETWORK],
    "pubkey": ["wh", "pubkey"],
    "workbit": ["wh", "workbit", NETWORK],
    "up": ["wh", "up", NETWORK, "private-key", KEY, "interface", "{name}", "isolated", "no-port-mapping"],
    "down": ["wh", "down", "{name}"],
    "reload": ["wh", "reload", "wh0"],
    "invite": ["wh", "invite", "guest", "expires", "1h"],
    "join": ["wh", "join", EXPIRED, "config", "./made", "interface", "{name}"],
    "revoke": ["wh", "revoke", "node_b"],
    "authenticate": ["wh", "authenticate", "wh0", "node_b", KEY],
    "show": ["wh", "show", "wh0", "all"],
    "netcheck": ["wh", "netcheck", "wh0"],
    "health": ["wh", "health", "wh0"],
    "inspect": ["wh", "inspect", "wh0"],
    "lookup": ["wh", "lookup", "wh0", "node_b"],
    "ping": ["wh", "ping", "wh0", "node_b"],
    "resolve": ["wh", "resolve", "node_b"],
    "run": ["wh", "run", "wh0", "--", "true", "word"],
    "socks": ["wh", "socks", "wh0", "listen", "127.0.0.1:0"],
    "forget": ["wh", "forget", "wh0", "node_b"],
    "orchid": ["wh", "orchid", NETWORK],
    "bid": ["wh", "bid", OWN_KEY, PEER_KEY],
    "ipc": ["wh", "ipc", "wh0", "status", "{{}}"],
    "completion": ["wh", "completion", "bash"],
    "help": ["wh", "help", "ping"],
    "version": ["wh", "version"],
    "_complete": ["wh", "_complete", "ping", "wh0", "no"],
    "0nc": ["0nc", "-w", "0.1", EXPIRED],
    "0nc listening": ["0nc", "-l", "-w", "0.1", "127.0.0.1", "{port}"],
    "0nc file": ["0nc", "-w", "0.1", "{invitation}"],
    "wh-wireguard": ["wh-wireguard", "--version"],
}
STDIN = {"pubkey": SECRET, "workbit": OWN_KEY.encode(), "orchid": OWN_KEY.encode()}
ENVIRONMENTS = {"no HOME": {"HOME": None}, "no TERM": {"TERM": None}, "C": {"LANG": "C", "LC_ALL": "C"}}
ENVIRONMENTS["nothing"] = {"HOME": None, "TERM": None, "LANG": None, "LC_ALL": None, "USER": None}


@dataclass(frozen=True)
class Case:
    """One run of one verb. file: what the word that names a file leads to."""

    verb: str
    words: tuple[str, ...]
    closed: tuple[int, ...] = ()
    full: tuple[int, ...] = ()
    ignored: tuple[signal.Signals, ...] = ()
    environment: dict[str, str | None] = field(default_factory=dict)
    file: str | None = None

    def __str__(self) -> str:
        facts = [
            f"{name}={value}" for name, value in vars(self).items() if value and name not in ("verb", "words")
        ]
        return f"{' '.join(word[:60] for word in self.words)!r} {', '.join(facts)}"


def subsets(of: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(of, count) for count in range(1, len(of) + 1))


def cases_of(verb: str) -> list[Case]:
    plain = Case(verb, tuple(WORDS[verb]))
    cases = [replace(plain, closed=each) for each in subsets((0, 1, 2))]
    cases += [replace(plain, full=each) for each in subsets((0, 1, 2))]
    cases += [replace(plain, ignored=each) for each in combinations(SIGNALS, 1)]
    cases += [replace(plain, ignored=SIGNALS, closed=(0,)), replace(plain, full=(1,), closed=(2,))]
    cases += [replace(plain, environment=each) for each in ENVIRONMENTS.values()]
    for at in range(1, len(plain.words)):
        for text in NASTY.values():
            cases.append(replace(plain, words=with_word(plain.words, at, text)))
    cases.append(replace(plain, words=(*plain.words, *["y" * LONG] * 8)))  # 1 MiB
    for at, word in enumerate(plain.words):
        if word in (KEY, NETWORK, "{invitation}"):
            cases += [replace(plain, words=with_word(plain.words, at, "{file}"), file=kind) for kind in FILES]
    return cases


def with_word(words: tuple[str, ...], at: int, text: str) -> tuple[str, ...]:
    mutated = text if "{" not in text or text == "{file}" else text.replace("{}", words[at])
    return (*words[:at], mutated, *words[at + 1 :])


class Machine:
    """Where cases run: a daemon on wh0 that gives canned answers, and files of every kind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stop = threading.Event()
        self._count = iter(range(1_000_000))
        self._make_files()
        threading.Thread(target=self._grow, daemon=True).start()

    def close(self) -> None:
        """Whatever a case has left running ends too."""
        self._stop.set()
        for each in client.list_interfaces():
            if each != "wh0":
                stop(each)

    def _make_files(self) -> None:
        network = f"subnet 10.97.0.0/24\nworkbit 0\ntrust node-a {OWN_KEY}\ntrust node-b {PEER_KEY}\n"
        (self.directory / "network").write_text(network)
        (self.directory / "growing").write_text(network)
        (self.directory / "invitation").write_text(EXPIRED)
        secret = SecretKey.generate()
        with (self.directory / "key").open("wb") as file:
            secret.write_fd(file.fileno())
        for name in ("key", "network"):
            (self.directory / name).chmod(0o600)
        os.mkfifo(self.directory / "fifo")
        (self.directory / "directory").mkdir()
        (self.directory / "empty").touch()
        (self.directory / "binary").write_bytes(bytes(range(256)) * 20)
        os.truncate(os.open(self.directory / "huge", os.O_RDWR | os.O_CREAT, 0o600), 1 << 33)
        (self.directory / "link").symlink_to("link")
        (self.directory / "forbidden").touch(mode=0)

    def _grow(self) -> None:
        with (self.directory / "growing").open("a") as file:
            while not self._stop.wait(0.01):
                file.write("# more\n" * 100)
                file.flush()

    def path_of(self, kind: str | None) -> str:
        if kind == "unreadable":  # root may read any file that can be read
            return "/proc/self/mem" if os.geteuid() == 0 else str(self.directory / "forbidden")
        return str(self.directory / (kind or "missing"))

    def run(self, case: Case) -> str:
        """What is wrong with it; empty: nothing."""
        number = next(self._count)
        name = f"t{os.getpid() % 10000}x{number}"
        filled = [
            word.replace(KEY, str(self.directory / "key"))
            .replace(NETWORK, str(self.directory / "network"))
            .replace("{invitation}", str(self.directory / "invitation"))
            .replace("{file}", self.path_of(case.file))
            .replace("{name}", name)
            .replace("{port}", str(20000 + number % 10000))
            .replace("{{}}", "{}")
            for word in case.words
        ]
        changes = {**case.environment}
        environment = {key: value for key, value in os.environ.items() if changes.get(key, "") is not None}
        environment |= {key: value for key, value in changes.items() if value is not None}
        with Neighbour(case.verb, name):
            return self._judge(case, name, filled, environment)

    def _judge(self, case: Case, name: str, words: list[str], environment: dict[str, str]) -> str:
        started = time.monotonic()
        try:
            ran = programs.run(
                *words,
                closed=case.closed,
                full=case.full,
                ignored=case.ignored,
                stdin=STDIN.get(case.verb, b""),
                cwd=self.directory,
                env=environment,
                timeout_s=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return f"{case}: still runs after {time.monotonic() - started:.0f} s"
        finally:
            up = self._take_down(case.verb, name)
        said = ran.stdout + ran.stderr
        if ran.returncode not in EXPECTED or any(word in said for word in FORBIDDEN):
            return f"{case}: exit {ran.returncode}: {said[-2000:].decode(errors='replace')}"
        if case.verb == "up" and case.file is None and (ran.returncode == 0) > up:
            return f"{case}: success without an interface"
        return ""

    def _take_down(self, verb: str, name: str) -> bool:
        """Whether there was an interface."""
        found = [each for each in client.list_interfaces() if each.startswith(name)] if verb == "up" else []
        up = [client.call(each, schema.STATUS, schema.NoArguments()).has_interface for each in found]
        for each in found:
            stop(each)
        return any(up)


class Neighbour:
    """A daemon of its own for who stops one."""

    def __init__(self, verb: str, name: str) -> None:
        self._daemon = FakeDaemon(name) if verb == "down" else None

    def __enter__(self) -> None:
        if self._daemon is not None:
            self._daemon.__enter__()

    def __exit__(self, *_: object) -> None:
        if self._daemon is not None:
            self._daemon.__exit__()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("WH_RUNDIR", str(tmp_path / "run"))
    monkeypatch.setenv("WH_STATEDIR", str(tmp_path / "state"))
    monkeypatch.delenv("WH_DEBUG", raising=False)
    with FakeDaemon():
        made = Machine(tmp_path)
        try:
            yield made
        finally:
            made.close()


def test_the_table_has_every_verb():
    assert set(COMMANDS) <= WORDS.keys()


def run_all(machine: Machine, cases: list[Case]) -> list[str]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [wrong for wrong in pool.map(machine.run, cases) if wrong]


def test_some_of_the_table(machine: Machine):
    print(f"WH_TABLE_SEED={SEED}")
    draw = random.Random(SEED)
    cases = []
    for verb in WORDS:
        cases += draw.sample(cases_of(verb), DRAWN if verb in COMMANDS else DRAWN_OF_OTHERS)
    wrong = run_all(machine, cases)
    assert not wrong, f"WH_TABLE_SEED={SEED}\n" + "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("verb", WORDS)
def test_the_whole_table(machine: Machine, verb: str):
    wrong = run_all(machine, cases_of(verb))
    assert not wrong, "\n".join(wrong)
