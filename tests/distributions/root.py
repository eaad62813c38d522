"""A Debian in a directory, and programs that run in it, in namespaces of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
DEBIAN_BASE = REPOSITORY / "sandbox/debian_base"
UNPACK_PACKAGE = REPOSITORY / "sandbox/unpack_package"
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
PROXIES = "/etc/apt/apt.conf.d/99outer-proxies"

# ELF, 64 bits, little-endian, executable or shared, EM_AARCH64. F: the interpreter is opened now, outside.
_ARM64 = (
    r":wirehub-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:{}:FPC"
)

Tell = Callable[[str], None]


class StepFailed(Exception):
    """A command ended with another code than 0, or was stuck."""


class Root:
    """Exists inside a `with` block. tell: takes each line that a command prints."""

    def __init__(self, suite: str, architecture: str = "", *, tell: Tell) -> None:
        self._suite, self._architecture, self._tell = suite, architecture, tell
        self._undo = contextlib.ExitStack()
        self._users: subprocess.Popen[bytes] | None = None
        self._binfmt: dict[str, str] = {}
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
        words = [*self._words(network), "sh", "-ec", f"cd /src; {command}"]
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment(network),
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

    def _words(self, network: bool) -> list[str]:
        own = [] if network else ["--net"]
        users = [] if self._users is None else ["nsenter", "--user", "--target", str(self._users.pid)]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", *own]
        return [*users, *namespaces, sys.executable, "-I", str(HERE / "enter.py"), str(self.directory)]

    def _environment(self, network: bool) -> dict[str, str]:
        own = {} if network else {"OWN_NETWORK": "1"}
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        certificates = dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), INNER_CERTIFICATES)
        inner = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return {**inner, **passed_on, **certificates, **own, **self._binfmt, "CACHE": str(self._cache)}

    @property
    def _cache(self) -> Path:
        return CACHE / "-".join(filter(None, ("distributions", self._suite, self._architecture)))

    def _make(self, undo: contextlib.ExitStack) -> None:
        """Raises CalledProcessError, which says what is missing; nothing is left behind then."""
        base = _printed([DEBIAN_BASE, self._suite, *filter(None, [self._architecture])])
        self.directory = Path(tempfile.mkdtemp(prefix="root-", dir=CACHE))
        undo.callback(_remove, self.directory)
        self.directory.chmod(0o755)
        subprocess.run(["tar", "-C", self.directory, "-xf", base], check=True)
        _unpack_commit(self.directory / "src")
        for name in ("packages/partial", "pip"):
            (self._cache / name).mkdir(parents=True, exist_ok=True)
        self._copy_settings()
        if self._architecture:
            emulator = CACHE / "qemu-user"
            if not (emulator / "version").exists():
                subprocess.run([UNPACK_PACKAGE, self._suite, "qemu-user", emulator], check=True)
            self._binfmt = {"BINFMT": _ARM64.format(emulator / "usr/bin/qemu-aarch64")}
            self._users = undo.enter_context(_user_namespace())

    def _copy_settings(self) -> None:
        """How this machine resolves names, which certificates it trusts, and by which proxy apt goes."""
        etc = self.directory / "etc"
        shutil.copy("/etc/resolv.conf", etc / "resolv.conf")
        trusted = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or CERTIFICATES
        shutil.copy(trusted, self.directory / INNER_CERTIFICATES[1:])
        settings = _printed(["apt-config", "dump", "--format", "%f %v%n"])
        proxies = [line.split(" ", 1) for line in settings.splitlines() if "::Proxy " in line]
        text = "".join(f'{name} "{value}";\n' for name, value in proxies)
        (self.directory / PROXIES[1:]).write_text(text)


def _unpack_commit(directory: Path) -> None:
    directory.mkdir()
    archive = ["git", "-C", str(REPOSITORY), "archive", "HEAD"]
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as packing:
        subprocess.run(["tar", "-C", directory, "-xf", "-"], stdin=packing.stdout, check=True)


@contextlib.contextmanager
def _user_namespace() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a user namespace where all users are what they are here: binfmt_misc there is its own."""
    words = ["unshare", "--user", "sh", "-c", "echo; exec cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for table in ("uid_map", "gid_map"):
                Path(f"/proc/{process.pid}/{table}").write_text(f"0 0 {2**32 - 1}\n")
            yield process
        finally:
            process.kill()


def _printed(words: list[str | Path]) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _remove(directory: Path) -> None:
    """Mounts in it are other namespaces' alone."""
    subprocess.run(["rm", "-rf", "--one-file-system", directory], check=True)


def end_on_signals() -> None:
    """SIGTERM and SIGHUP end this process as Ctrl-C does: what was made is removed."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
