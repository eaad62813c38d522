"""A Debian in a directory, and programs that run in it, in namespaces of their own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
DEBIAN_BASE = REPOSITORY / "sandbox/debian_base"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wirehub"
LIMIT_S = 3 * 3600.0
"""After which a command is taken for stuck."""

PASSED_ON = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_PROXY", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT"),
)
"""Of the environment: how this machine's network reaches packages."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
INNER_CERTIFICATES = "/etc/outer-certificates.crt"
APT_SETTINGS = "/etc/apt/apt.conf.d/99outer"
_APT_SETTING = re.compile(r"Acquire::(?:Check-Valid-Until|https?::Proxy) \S")

Tell = Callable[[str], None]


class StepFailed(Exception):
    """A command ended with another code than 0, or was stuck."""


class Root:
    """Exists inside a `with` block. tell: takes each line that a command prints."""

    def __init__(self, suite: str, *, tell: Tell) -> None:
        self.suite, self._tell = suite, tell
        self._undo = contextlib.ExitStack()
        self.directory = Path()

    def __enter__(self) -> Root:
        with contextlib.ExitStack() as undo:
            self._make(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def run(self, command: str, *, network: bool = False) -> tuple[float, list[str]]:
        """A line of sh as root, in /src. network: that of this machine; else there is loopback alone. Returns
        seconds, and the lines printed. Raises StepFailed."""
        began, lines = time.monotonic(), []
        words = [*self.words(network), "sh", "-ec", f"cd /src; {command}"]
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment(network),
            text=True,
            errors="replace",
        ) as process:
            guard = threading.Timer(LIMIT_S, process.kill)
            guard.start()
            try:
                for line in process.stdout or ():
                    lines.append(line.rstrip("\n"))
                    self._tell(lines[-1])
                code = process.wait()
            finally:
                guard.cancel()
                process.kill()  # and with it all that runs inside
        if code != 0:
            raise StepFailed(f"{command}: exit code {code}")
        return time.monotonic() - began, lines

    def words(self, network: bool) -> list[str]:
        """What the command line of a program inside begins with."""
        own = [] if network else ["--net"]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", *own]
        return [*namespaces, sys.executable, "-I", str(HERE / "enter.py"), str(self.directory)]

    def environment(self, network: bool) -> dict[str, str]:
        own = {} if network else {"OWN_NETWORK": "1"}
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        certificates = dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), INNER_CERTIFICATES)
        inner = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return {**inner, **passed_on, **certificates, **own, "CACHE": str(self._cache)}

    def fill(self, undo: contextlib.ExitStack) -> None:
        """With a Debian that is configured."""
        unpack(Path(printed([DEBIAN_BASE, self.suite])), self.directory)

    @property
    def name(self) -> str:
        return self.suite

    @property
    def _cache(self) -> Path:
        return CACHE / f"distributions-{self.name}"

    def _make(self, undo: contextlib.ExitStack) -> None:
        """Raises CalledProcessError, which says what is missing; nothing is left behind then."""
        for name in ("packages/partial", "pip"):
            (self._cache / name).mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="root-", dir=CACHE))
        undo.callback(_remove, self.directory)
        self.directory.chmod(0o755)
        _unpack_commit(self.directory / "src")
        self.fill(undo)
        self._copy_settings()

    def _copy_settings(self) -> None:
        """How this machine resolves names, which certificates it trusts, and how apt reaches its mirror."""
        etc = self.directory / "etc"
        shutil.copy("/etc/resolv.conf", etc / "resolv.conf")
        trusted = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or CERTIFICATES
        shutil.copy(trusted, self.directory / INNER_CERTIFICATES[1:])
        settings = printed(["apt-config", "dump", "--format", "%f %v%n"]).splitlines()
        kept = [line.split(" ", 1) for line in settings if _APT_SETTING.match(line)]
        text = "".join(f'{name} "{value}";\n' for name, value in kept)
        (self.directory / APT_SETTINGS[1:]).write_text(text)


def unpack(archive: Path, directory: Path) -> None:
    subprocess.run(["tar", "-C", directory, "-xf", archive], check=True)


def printed(words: list[str | Path]) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _unpack_commit(directory: Path) -> None:
    directory.mkdir()
    archive = ["git", "-C", str(REPOSITORY), "archive", "HEAD"]
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as packing:
        subprocess.run(["tar", "-C", directory, "-xf", "-"], stdin=packing.stdout, check=True)


def _remove(directory: Path) -> None:
    """Mounts in it are other namespaces' alone."""
    subprocess.run(["rm", "-rf", "--one-file-system", directory], check=True)


def end_on_signals() -> None:
    """SIGTERM and SIGHUP end this process as Ctrl-C does: what was made is removed."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
