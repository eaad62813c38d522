"""The network file on disk is changed as a whole or not at all, and stays what it was otherwise."""

import fcntl
import os
import pwd
import stat
import struct
import threading
from pathlib import Path

import pytest

from wh.config.edits import add_alias
from wh.config.model import Network
from wh.config.network_file import NetworkFile
from wh.config.parser import parse
from wh.errors import Code, ConfigError
from wh.system.files import locked, open_place
from whcore.keys import encode_key

TEXT = "# ours\r\nsubnet 10.0.42.0/24\r\n"


def key(number: int) -> bytes:
    return bytes([9, number]) + bytes(30)


def take_all(network: Network) -> None:
    """Any network will do."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "net"
    path.write_bytes(TEXT.encode())
    path.chmod(0o640)
    return path


def test_a_change_keeps_mode_and_all_else_of_the_file(path: Path):
    NetworkFile(str(path)).edit(lambda text: add_alias(text, "x", key(1)), take_all)
    assert path.read_bytes().decode() == f"{TEXT}alias x {encode_key(key(1))}\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [each.name for each in path.parent.iterdir()] == ["net"]


def test_a_symbolic_link_stays_one(path: Path, tmp_path: Path):
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to(path)
    NetworkFile(str(link)).edit(lambda text: add_alias(text, "x", key(1)), take_all)
    assert link.is_symlink()
    assert "alias x" in path.read_text()


def test_a_network_that_the_daemon_cannot_go_over_to_is_not_written(path: Path):
    def refuse(network: Network) -> None:
        raise ConfigError("not now", code=Code.RESTART_NEEDED)

    with pytest.raises(ConfigError, match="not now"):
        NetworkFile(str(path)).edit(lambda text: f"{text}workbit 9\n", refuse)
    assert path.read_bytes() == TEXT.encode()


@pytest.mark.parametrize("content", [b"nonsense\n", b"\xff", b"a\0b"])
def test_a_broken_file_is_left_alone(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        NetworkFile(str(path)).edit(lambda text: "", take_all)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        NetworkFile(str(tmp_path / "no" / "net")).edit(lambda text: TEXT, take_all)
    assert caught.value.code == Code.FILE_UNWRITABLE
    assert caught.value.hint


def test_changes_of_several_daemons_follow_each_other(path: Path):
    def add(number: int) -> None:
        NetworkFile(str(path)).edit(lambda text: add_alias(text, f"n{number}", key(number)), take_all)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parse(path.read_text()).peers) == 8


def test_a_change_waits_for_another_daemons(path: Path):
    begun, done = threading.Event(), threading.Event()

    def add() -> None:
        begun.set()
        NetworkFile(str(path)).edit(lambda text: add_alias(text, "x", key(1)), take_all)
        done.set()

    with open_place(path) as place, locked(place.sibling(".net.lock")):
        thread = threading.Thread(target=add)
        thread.start()
        assert begun.wait(10)
        assert not done.wait(0.2)
    thread.join(10)
    assert done.is_set()
    assert [each.name for each in path.parent.iterdir()] == ["net"]


# Where others have a hand

STRANGER = 54321


def refused(path: Path) -> str:
    """Why an edit is, and that it changed nothing."""
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        NetworkFile(str(path)).edit(lambda text: add_alias(text, "x", key(1)), take_all)
    assert caught.value.code == Code.FILE_UNWRITABLE
    assert caught.value.hint
    assert path.read_bytes() == before
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o666])
def test_a_file_that_others_can_write_is_not_changed(path: Path, mode: int):
    path.chmod(mode)
    assert f"mode {mode:o}" in refused(path)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
@pytest.mark.parametrize("level", [0, 1])
def test_a_directory_that_others_can_write_is_not_used(tmp_path: Path, mode: int, level: int):
    """Nor one above: but that a directory of ours is in a sticky one, such as /tmp, is well."""
    directory = tmp_path / "upper" / "lower"
    directory.mkdir(parents=True)
    path = directory / "net"
    path.write_text(TEXT)
    (directory if level == 0 else directory.parent).chmod(mode)
    if mode == 0o1777 and level == 1:
        NetworkFile(str(path)).edit(lambda text: add_alias(text, "x", key(1)), take_all)
        assert "alias x" in path.read_text()
    else:
        assert str(directory if level == 0 else directory.parent) in refused(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
@pytest.mark.parametrize("whose", ["file", "directory", "upper"])
def test_what_belongs_to_another_user_is_not_changed(tmp_path: Path, whose: str):
    path = tmp_path / "upper" / "directory" / "file"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    os.chown(next(each for each in (path, *path.parents) if each.name == whose), STRANGER, STRANGER)
    assert f"uid {STRANGER}" in refused(path)


ACCESS_LIST = "system.posix_acl_access"


def give_access(path: Path) -> None:
    """u::rwx, u:STRANGER:rwx, g::---, m::rwx, o::--- (linux/posix_acl_xattr.h)."""
    entries = [(1, 7, 2**32 - 1), (2, 7, STRANGER), (4, 0, 2**32 - 1), (16, 7, 2**32 - 1), (32, 0, 2**32 - 1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, ACCESS_LIST, acl)
    except OSError:
        pytest.skip("a file system without access lists")


def test_an_access_list_counts(path: Path):
    give_access(path.parent)
    assert "mode 770" in refused(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_user_s_own_group_is_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the umask 002 of many systems. Another group, or an access list, is."""
    user = pwd.getpwnam("daemon")
    path = tmp_path / "home" / "net"
    path.parent.mkdir()
    path.write_text(TEXT)
    for each, mode in ((path.parent, 0o775), (path, 0o664)):
        os.chown(each, user.pw_uid, user.pw_gid)
        each.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: user.pw_uid)
    NetworkFile(str(path)).edit(lambda text: add_alias(text, "x", key(1)), take_all)
    give_access(path.parent)
    refused(path)
    os.removexattr(path.parent, ACCESS_LIST)
    os.chown(path.parent, user.pw_uid, STRANGER)
    refused(path)


def test_a_link_of_somebody_elses_is_not_followed(path: Path, tmp_path: Path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "net").symlink_to(path)
    assert "symbolic link" in refused(shared / "net")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_a_regular_file_is_changed(tmp_path: Path, make):
    make(tmp_path / "net")
    with pytest.raises(ConfigError, match="regular"):
        NetworkFile(str(tmp_path / "net")).edit(lambda text: TEXT, take_all)


def test_a_lock_on_the_directory_by_somebody_who_may_look_stops_nothing(path: Path):
    directory = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    done = threading.Event()

    def add() -> None:
        NetworkFile(str(path)).edit(lambda text: add_alias(text, "x", key(1)), take_all)
        done.set()

    thread = threading.Thread(target=add, daemon=True)
    thread.start()
    try:
        assert done.wait(10)
    finally:
        os.close(directory)


def test_a_second_name_keeps_what_it_was_and_stops_nothing(path: Path, tmp_path: Path):
    """Where the system lets them, others make one in a directory of theirs."""
    os.link(path, tmp_path / "other")
    NetworkFile(str(path)).edit(lambda text: add_alias(text, "x", key(1)), take_all)
    assert (tmp_path / "other").read_bytes() == TEXT.encode()
    assert "alias x" in path.read_text()
