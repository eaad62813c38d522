"""The hosts file: our block comes and goes, everything else stays byte for byte."""

import errno
import ipaddress
import os
import stat
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wh.errors import Code, SystemSetupError
from wh.naming import hosts
from wh.naming.table import NameEntry
from wh.system import file_update
from wh.system.files import Place

SAMPLE = b"127.0.0.1\tlocalhost\n# mine\n192.168.1.5 nas nas.lan # storage\n"


def entry(hostname, *addresses):
    return NameEntry(bytes(32), hostname, tuple(ipaddress.ip_address(address) for address in addresses))


NODE_A = entry("node_a", "10.0.42.2", "2001:2f::1")
NODE_B = entry("node_b", "10.0.42.3")


class HostsFile:
    """A hosts file of its own, with a run directory of its own."""

    def __init__(self, directory, content=SAMPLE):
        self.path = directory / "hosts"
        self.path.write_bytes(content)
        self.run_directory = directory / "run"

    def write(self, *entries, interface="wh-one"):
        return hosts.write(self.path, interface, entries, run_directory=self.run_directory)

    def remove(self, interface="wh-one"):
        hosts.remove(self.path, interface, run_directory=self.run_directory)

    @property
    def content(self):
        return self.path.read_bytes()

    def resolve(self, name):
        """hosts(5), read independently."""
        lines = [line.split(b"#")[0].split() for line in self.content.split(b"\n")]
        return [words[0].decode() for words in lines if name.encode() in words[1:]]


@pytest.fixture
def file(tmp_path):
    return HostsFile(tmp_path)


# What the block says


def test_names_lead_to_all_their_addresses(file):
    assert file.write(NODE_A, NODE_B, entry(None, "10.0.42.9")) == ()
    assert file.resolve("node_a") == ["10.0.42.2", "2001:2f::1"]
    assert file.resolve("node_b") == ["10.0.42.3"]
    assert b"10.0.42.9" not in file.content
    assert file.content.startswith(SAMPLE)


def test_a_second_write_replaces_the_first(file):
    file.write(NODE_A, NODE_B)
    file.write(NODE_B)
    assert (file.resolve("node_a"), file.resolve("node_b")) == ([], ["10.0.42.3"])
    file.remove()
    assert file.content == SAMPLE


def test_interfaces_do_not_touch_each_other(file):
    file.write(NODE_A)
    file.write(NODE_B, interface="wh-one2")
    assert hosts.interfaces(file.path) == {"wh-one", "wh-one2"}
    file.remove()
    assert (file.resolve("node_a"), file.resolve("node_b")) == ([], ["10.0.42.3"])
    file.remove("wh-one2")
    assert file.content == SAMPLE
    assert hosts.interfaces(file.path) == set()


def test_a_name_that_the_file_gives_away_already_is_left_out_and_reported(file):
    conflicts = file.write(entry("NAS", "10.0.42.7"), NODE_A, entry("localhost", "10.0.42.8"))
    assert {(each.hostname, each.line, each.address) for each in conflicts} == {
        ("NAS", 3, "192.168.1.5"),
        ("localhost", 1, "127.0.0.1"),
    }
    assert file.resolve("NAS") == []
    assert file.resolve("localhost") == ["127.0.0.1"]
    assert file.resolve("node_a")


def test_a_name_of_another_interface_is_not_taken_over_either(file):
    file.write(NODE_A, interface="wh-two")
    (conflict,) = file.write(entry("node_a", "10.9.9.9"))
    assert (conflict.hostname, conflict.address) == ("node_a", "10.0.42.2")
    assert file.write(NODE_A) == ()


@pytest.mark.parametrize("hostname", ["a b", "a\n1.2.3.4 bank", "", "a#b", "-x", "x" * 64])
def test_what_is_no_host_name_never_gets_into_the_file(file, hostname):
    with pytest.raises(ValueError, match="not a host name"):
        file.write(entry(hostname, "10.0.42.2"))
    assert file.content == SAMPLE


@pytest.mark.parametrize("interface", ["a b", "a\n1.2.3.4 bank", "", "a#b", "x" * 16])
def test_what_is_no_interface_never_gets_into_the_file(file, interface):
    for action in (lambda: file.write(NODE_A, interface=interface), lambda: file.remove(interface)):
        with pytest.raises(ValueError, match="not an interface name"):
            action()
    assert file.content == SAMPLE


# What else is in the file

LINES = st.lists(
    st.binary(max_size=30) | st.sampled_from([b"1.2.3.4 node_c", b"# wirehub wh-one", b"\t", b"\r"])
)
CONTENTS = st.builds(lambda lines, end: end.join(lines), LINES, st.sampled_from([b"\n", b"\r\n"]))


@given(CONTENTS, st.lists(st.sampled_from(["one", "two", "-one", "-two"]), max_size=6))
@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_rest_of_the_file_stays_byte_for_byte(tmp_path, content, steps):
    file = HostsFile(tmp_path, content)
    for step in steps:
        if step.startswith("-"):
            file.remove(step[1:])
        else:
            file.write(NODE_A, NODE_B, interface=step)
    file.remove("one")
    file.remove("two")
    assert file.content == content


@given(st.integers(0, 400), st.integers(0, 400))
@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_beside_and_inside_half_a_block_stay(tmp_path, cut, where):
    """A block without its begin or end, and the user's line in the middle of what is left."""
    file = HostsFile(tmp_path)
    file.write(NODE_A, NODE_B)
    block = file.content[len(SAMPLE) :].splitlines(keepends=True)
    kept = block[cut % len(block) :] if where % 2 else block[: cut % len(block)]
    kept.insert(where % (len(kept) + 1), b"10.1.1.1 printer\n")
    file.path.write_bytes(SAMPLE + b"".join(kept))
    file.remove()
    assert file.content == SAMPLE + b"10.1.1.1 printer\n"


# How it gets there


def test_the_file_is_replaced_at_once_and_keeps_its_mode_and_attributes(file):
    file.path.chmod(0o640)
    try:
        os.setxattr(file.path, "user.note", b"kept")
        attributes = True
    except OSError:  # a file system without them
        attributes = False
    if os.geteuid() == 0:
        os.chown(file.path, 12345, 54321)
    before = file.path.stat()
    with file.path.open("rb") as reader:
        file.write(NODE_A)
        assert reader.read() == SAMPLE  # who has it open sees the old content whole
    after = file.path.stat()
    assert after.st_ino != before.st_ino
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert not attributes or os.getxattr(file.path, "user.note") == b"kept"
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["hosts", "run"]


def test_no_change_writes_nothing(file):
    file.write(NODE_A)
    before = file.path.stat()
    file.write(NODE_A)
    file.remove("wh-other")
    after = file.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_link_is_followed(file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(file.path)
    hosts.write(link, "wh-one", [NODE_A], run_directory=file.run_directory)
    assert link.is_symlink()
    assert file.resolve("node_a")


def test_a_missing_file_is_made_when_there_is_something_to_say(file):
    file.path.unlink()
    file.remove()
    assert not file.path.exists()
    file.write(NODE_A)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o644


def refuse_rename(monkeypatch, number=errno.EBUSY):
    def rename_to(self, other):
        raise OSError(number, os.strerror(number), other.path)

    monkeypatch.setattr(Place, "rename_to", rename_to)


def test_a_file_that_cannot_be_renamed_over_is_changed_in_place(file, monkeypatch):
    refuse_rename(monkeypatch)
    inode = file.path.stat().st_ino
    file.write(NODE_A)
    assert file.resolve("node_a")
    assert file.path.stat().st_ino == inode
    file.remove()
    assert file.content == SAMPLE
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["hosts", "run"]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EROFS, errno.EACCES])
def test_where_a_rename_is_refused_otherwise_nothing_is_changed(file, monkeypatch, number):
    refuse_rename(monkeypatch, number)
    with pytest.raises(SystemSetupError) as caught:
        file.write(NODE_A)
    assert caught.value.code == Code.HOSTS_FILE
    assert file.content == SAMPLE
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["hosts", "run"]


def mount_it(file, monkeypatch):
    monkeypatch.setattr(file_update, "is_mount_point", lambda place, fd: place.path == str(file.path))


def test_a_mount_point_is_never_renamed_over(file, monkeypatch):
    mount_it(file, monkeypatch)
    refuse_rename(monkeypatch, errno.EIO)
    file.write(NODE_A)
    assert file.resolve("node_a")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_mount_point_is_known_as_such(file, tmp_path):
    """In a mount namespace of its own, as in a container."""
    other = tmp_path / "mounted"
    other.write_bytes(SAMPLE)
    write = (
        "import sys; from pathlib import Path; from ipaddress import ip_address\n"
        "from wh.naming import hosts; from wh.naming.table import NameEntry\n"
        "entry = NameEntry(bytes(32), 'node_a', (ip_address('10.0.42.2'),))\n"
        "print(hosts.write(Path(sys.argv[1]), 'wh-one', [entry], run_directory=Path(sys.argv[2])))\n"
    )
    mounted = f'mount --bind "$1" "$2" && exec "{sys.executable}" -P -c "$3" "$2" "$4"'
    command = ["unshare", "-m", "sh", "-ec", mounted, "sh"]
    subprocess.run([*command, other, file.path, write, file.run_directory], check=True)
    assert file.content == SAMPLE
    assert b"10.0.42.2\tnode_a" in other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts", "mounted", "run"]


def test_a_second_name_of_the_file_keeps_what_it_was(file, tmp_path):
    """Anybody may make one where the system lets him: it must neither be written through nor stop us."""
    other = tmp_path / "other"
    os.link(file.path, other)
    file.write(NODE_A)
    assert other.read_bytes() == SAMPLE
    assert file.resolve("node_a")


def test_a_write_that_fails_midway_is_undone(file, monkeypatch):
    refuse_rename(monkeypatch)
    overwrite, failures = file_update._overwrite, [OSError(errno.ENOSPC, "No space left on device")]

    def fail_once(fd, old, new):
        if failures:
            os.truncate(fd, len(new) // 2)
            raise failures.pop()
        overwrite(fd, old, new)

    monkeypatch.setattr(file_update, "_overwrite", fail_once)
    with pytest.raises(SystemSetupError, match="No space left") as caught:
        file.write(NODE_A)
    assert caught.value.code == Code.HOSTS_FILE
    assert file.content == SAMPLE


def crash_while_overwriting(file, monkeypatch):
    class PowerCut(BaseException):
        pass

    def cut(fd, old, new):
        os.truncate(fd, 15)
        raise PowerCut

    with monkeypatch.context() as patch:
        refuse_rename(patch)
        patch.setattr(file_update, "_overwrite", cut)
        with pytest.raises(PowerCut):
            file.write(NODE_A)


def test_a_rewrite_that_a_crash_cut_off_is_put_back(file, monkeypatch):
    crash_while_overwriting(file, monkeypatch)
    file.remove()
    assert file.content == SAMPLE
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["hosts", "run"]


def test_of_files_mounted_at_one_place_each_gets_its_own_back(file, tmp_path, monkeypatch):
    crash_while_overwriting(file, monkeypatch)
    unmounted = file.path.rename(tmp_path / "unmounted")
    file.path.write_bytes(b"another\n")
    file.write(NODE_A)
    assert file.content.startswith(b"another\n")
    unmounted.replace(file.path)
    file.remove()
    assert file.content == SAMPLE


@pytest.mark.parametrize("kind", ["link", "hard link", "mode", "pipe", "owner"])
def test_a_backup_that_we_cannot_have_made_is_not_put_back(file, monkeypatch, tmp_path, kind):
    crash_while_overwriting(file, monkeypatch)
    (backup,) = tmp_path.glob("hosts.wirehub-backup-*")
    secret = tmp_path / "secret"
    if kind == "mode":
        backup.chmod(0o644)
    elif kind == "owner":
        if os.geteuid() != 0:
            pytest.skip("needs root to give a file away")
        os.chown(backup, 4242, 4242)
    elif kind == "pipe":
        backup.unlink()
        os.mkfifo(backup, 0o600)
    else:
        backup.rename(secret)
        backup.symlink_to(secret) if kind == "link" else os.link(secret, backup)
        now = file.path.stat().st_mtime_ns
        os.utime(secret, ns=(now, now))
    left = file.content
    file.remove()
    assert file.content == left != SAMPLE
    assert not list(tmp_path.glob("hosts.wirehub-backup-*"))


def test_what_was_edited_since_a_crash_is_not_put_back(file, monkeypatch):
    crash_while_overwriting(file, monkeypatch)
    file.path.write_bytes(b"edited\n")
    later = file.path.stat().st_mtime_ns + 60_000_000_000
    os.utime(file.path, ns=(later, later))
    file.remove()
    assert file.content == b"edited\n"


def test_a_change_by_another_program_meanwhile_is_not_lost(file, monkeypatch):
    replace_file = file_update.replace_file
    edits = [b"10.1.1.1 printer\n"]

    def interrupted(*arguments, **more):
        if edits:
            file.path.write_bytes(SAMPLE + edits.pop())
        replace_file(*arguments, **more)

    monkeypatch.setattr(file_update, "replace_file", interrupted)
    file.write(NODE_A)
    assert file.resolve("printer") == ["10.1.1.1"]
    assert file.resolve("node_a")


def test_many_daemons_at_once_lose_nothing(file):
    names = [f"wh-{number}" for number in range(8)]
    threads = [
        threading.Thread(target=file.write, args=(entry(name, "10.0.42.9"),), kwargs={"interface": name})
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hosts.interfaces(file.path) == set(names)
    for name in names:
        file.remove(name)
    assert file.content == SAMPLE


def test_a_run_directory_that_cannot_be_used_is_a_clear_error(file):
    file.run_directory.write_text("a file in its place")
    with pytest.raises(SystemSetupError) as caught:
        file.write(NODE_A)
    assert caught.value.code == Code.RUN_DIRECTORY
    assert file.content == SAMPLE
