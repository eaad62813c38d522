"""A Debian of another machine's architecture, by qemu-user, without a trace on this machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from root import CACHE, REPOSITORY, Root, printed, unpack

EMULATOR = CACHE / "qemu-user"
EMULATOR_SUITE = "trixie"
SANDBOX = REPOSITORY / "sandbox"

# binfmt_misc: ELF, 64 bits, little-endian, executable or shared, EM_AARCH64. F: the emulator is outside.
_ARM64 = (
    r":wirehub-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:{}:FPC"
)


class Arm64Root(Root):
    """Of 64-bit ARM. A user namespace, whose binfmt_misc is its own (Linux 6.7) and whose users are ours."""

    _users: subprocess.Popen[bytes]

    def words(self, network: bool) -> list[str]:
        return ["nsenter", "--user", "--target", str(self._users.pid), *super().words(network)]

    def environment(self, network: bool) -> dict[str, str]:
        return super().environment(network) | {"BINFMT": _ARM64.format(EMULATOR / "usr/bin/qemu-aarch64")}

    @property
    def name(self) -> str:
        return f"{self.suite}-arm64"

    def fill(self, undo: contextlib.ExitStack) -> None:
        if not (EMULATOR / "version").exists():
            subprocess.run([SANDBOX / "unpack_package", EMULATOR_SUITE, "qemu-user", EMULATOR], check=True)
        self._users = undo.enter_context(_user_namespace())
        base = CACHE / f"base-{self.name}.tar"
        if base.exists():
            unpack(base, self.directory)
            return
        self._bootstrap()
        unfinished = base.with_suffix(".new")
        subprocess.run(["tar", "-C", self.directory, "--exclude=./src", "-cf", unfinished, "."], check=True)
        unfinished.rename(base)

    def _bootstrap(self) -> None:
        """Minutes: each program of a package is emulated."""
        place = [self.suite, str(self.directory), printed([SANDBOX / "debian_mirror"])]
        words = ["debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", *place]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        proc = self.directory / "proc"
        if proc.is_symlink():  # to the outer one
            proc.unlink()
            proc.mkdir()
        self.run(
            "container=lxc /debootstrap/debootstrap --second-stage"
        )  # lxc: where devices are there already


@contextlib.contextmanager
def _user_namespace() -> Iterator[subprocess.Popen[bytes]]:
    """A process in it, which has it exist."""
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
