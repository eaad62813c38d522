"""The network file on disk is changed as a whole or not at all, and stays what it was otherwise."""

import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest

from wh.config.edits import add_alias
from wh.config.model import Network
from wh.config.parser import parse
from wh.errors import Code, ConfigError
from wh.network_file import NetworkFile
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

    directory = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    thread = threading.Thread(target=add)
    thread.start()
    assert begun.wait(10)
    assert not done.wait(0.2)
    os.close(directory)
    thread.join(10)
    assert done.is_set()
