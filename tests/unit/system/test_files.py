"""Paths that other users have a hand in: what is judged is what is used, whatever they change meanwhile."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wh.errors import SystemSetupError
from wh.net.wireguard.uapi_server import open_uapi_socket
from wh.system import files
from wh.system.files import UnsafePlace, locked, new_file, open_place, open_readable, read_file, replace_file

STRANGER = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of another user's."""
    directory = tmp_path / "theirs"
    directory.mkdir()
    os.chown(directory, STRANGER, STRANGER)
    return directory


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    directory = tmp_path / "ours"
    directory.mkdir()
    (directory / "file").write_bytes(b"root only")
    (directory / "file").chmod(0o600)
    return directory


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("a/file", "a/file"),
        ("a/../b/./file", "b/file"),
        ("link/file", "b/file"),
        ("link/../file", "file"),
        ("chain", "b/file"),
        ("a/new", "a/new"),
        ("absolute/file", "b/file"),
    ],
)
def test_a_path_leads_where_the_kernel_would_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, leads_to: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to("a/../b")
    (tmp_path / "absolute").symlink_to(tmp_path / "link")
    (tmp_path / "b" / "file").touch()
    (tmp_path / "second").symlink_to("link/file")
    (tmp_path / "chain").symlink_to("second")
    before = descriptors()
    for given in (tmp_path / path, Path(path)):
        monkeypatch.chdir(tmp_path)
        with open_place(given) as place:
            assert place.path == str(tmp_path.resolve() / leads_to)
    assert descriptors() == before


@pytest.mark.parametrize("path", ["/", "..", "loop", "loop/x", "file/x", "missing/x", "a" * 300, ""])
def test_a_path_that_leads_nowhere_is_an_os_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    before = descriptors()
    with pytest.raises(OSError):
        read_file(path, 10)
    assert descriptors() == before


def test_missing_directories_are_made_with_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        with open_place(tmp_path / "x" / "y" / "file", make=0o755):
            pass
    finally:
        os.umask(old)
    assert {stat.S_IMODE((tmp_path / each).stat().st_mode) for each in ("x", "x/y")} == {0o755}


@needs_root
def test_directories_are_made_in_what_all_share_but_not_taken_from_others(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    with (
        open_place(shared / "ours/file", make=0o755),
        pytest.raises(UnsafePlace),
        open_place(shared / "file"),
    ):
        pass
    assert stat.S_IMODE((shared / "ours").stat().st_mode) == 0o755
    (shared / "taken").mkdir()
    os.chown(shared / "taken", STRANGER, STRANGER)
    (shared / "link").symlink_to(tmp_path)
    for squatted in ("taken", "taken/more", "link"):
        with pytest.raises(UnsafePlace), open_place(shared / squatted / "file", make=0o755):
            pass
    shared.chmod(0o777)
    with pytest.raises(UnsafePlace), open_place(shared / "new/file", make=0o755):
        pass
    assert not (shared / "new").exists()


@needs_root
def test_nothing_is_written_made_or_locked_in_a_place_of_others(theirs: Path) -> None:
    for path in (theirs / "file", theirs / "deeper" / "file"):
        with pytest.raises(UnsafePlace, match=f"uid {STRANGER}"), open_place(path, make=0o700):
            pass
    with open_place(theirs / "file", safe=False) as place:
        for action in (lambda: replace_file(place, b""), place.require_safe):
            with pytest.raises(UnsafePlace):
                action()
        for held in (locked(place), new_file(place, 0o600)):
            with pytest.raises(UnsafePlace), held:
                pass
    with pytest.raises(SystemSetupError) as caught:
        open_uapi_socket("wg0", theirs)
    assert str(STRANGER) in str(caught.value)
    assert list(theirs.iterdir()) == []


@needs_root
def test_what_others_can_put_there_is_read_only_if_it_is_theirs_to_show(theirs: Path, ours: Path) -> None:
    (theirs / "plain").write_bytes(b"plain")
    assert read_file(theirs / "plain", 3) == b"pla"
    (theirs / "link").symlink_to(ours / "file")
    (theirs / "through").symlink_to(ours)
    os.mkfifo(theirs / "pipe")
    os.link(ours / "file", theirs / "hard")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(theirs / "socket"))
    for name in ("link", "through/file", "pipe", "hard", "socket", "."):
        before = descriptors()
        with pytest.raises(OSError):
            open_readable(theirs / name)
        assert descriptors() == before
    assert read_file(ours / "file", 100) == b"root only"  # a second name elsewhere is no harm here


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Two names are exchanged all the time (RENAME_EXCHANGE)."""
    renameat2 = ctypes.CDLL(None).renameat2
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            renameat2(-100, bytes(one), -100, bytes(other), 2)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@needs_root
@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_swap_at_any_moment_leads_to_nothing_of_ours(theirs: Path, ours: Path, what: str) -> None:
    directory = theirs / "directory"
    directory.mkdir()
    (directory / "file").write_bytes(b"theirs")
    link = theirs / "link"
    link.symlink_to(ours / "file" if what == "file" else ours)
    read = set()
    with swapping(directory / "file" if what == "file" else directory, link):
        for _ in range(2000):
            try:
                read.add(read_file(directory / "file", 100))
            except OSError as error:
                read.add(type(error))
    assert read <= {b"theirs", UnsafePlace, OSError, FileNotFoundError, NotADirectoryError}
    assert b"theirs" in read


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        for _ in range(20):
            with open_place(tmp_path / "lock") as place, locked(place):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_lock_cannot_be_opened_by_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with open_place(tmp_path / "lock") as place, locked(place):
            assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
            with (tmp_path / "lock").open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.umask(old)


def test_what_fails_before_the_rename_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")

    def fail() -> None:
        raise ZeroDivisionError

    with open_place(tmp_path / "file") as place, pytest.raises(ZeroDivisionError):
        replace_file(place, b"after", before_rename=fail)
    assert (tmp_path / "file").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_owner_of_the_root_directory_counts_as_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a user namespace without root everything of the system belongs to the overflow uid."""
    real = os.stat

    def owned(path: str, **more: object) -> os.stat_result:
        status = real(path, **more)
        return os.stat_result((*status[:4], STRANGER, *status[5:])) if path == "/" else status

    monkeypatch.setattr(os, "stat", owned)
    status = real(tmp_path)
    assert files.is_ours(os.stat_result((*status[:4], STRANGER, *status[5:])))
    assert not files.is_ours(os.stat_result((*status[:4], STRANGER + 1, *status[5:])))
