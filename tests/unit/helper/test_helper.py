"""The helper does for its daemon what its table says, and for nobody anything else."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.config.parser import parse
from wh.errors import Code
from wh.helper import frames
from wh.helper.client import HelperProcess
from wh.helper.process import answer
from wh.helper.requests import (
    FRAME_LEN_MAX,
    AddAlias,
    Charge,
    ClaimAlias,
    NamedMember,
    OpenNetworkFile,
    RemoveMember,
    RemoveNames,
    RemoveSocket,
    Reply,
    Request,
    WriteNames,
)
from wh.helper.verbs import VERBS, Office
from whcore.keys import SecretKey, encode_key

A, B, ALIAS, CLAIMANT = (encode_key(SecretKey.generate().public_key) for _ in range(4))
HOSTS = "127.0.0.1 localhost\n"


class Place:
    """What a helper is given, and may change."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o700)
        self.hosts, self.config, self.run = (directory / name for name in ("hosts", "config", "run"))
        self.hosts.write_text(HOSTS)
        self.run.mkdir()
        self.text = f"name net\nsubnet 10.0.42.0/24\ntrust a {A}\ntrust b {B}\nalias guest {ALIAS}\n"
        self.config.write_text(self.text)
        self.config.chmod(0o600)
        self.charge = Charge("wh0", str(self.run), str(self.hosts), str(self.config))
        self.office = Office(self.charge, parse(self.text))

    def ask(self, request: Any) -> Reply:
        reply, result = answer(self.office, msgspec.json.encode(request))
        if result.descriptor is not None:
            os.close(result.descriptor)
        return reply

    def is_untouched(self) -> bool:
        left = {path.name for path in self.config.parent.iterdir()}
        return (
            left <= {"hosts", "config", "run"}
            and self.hosts.read_text() == HOSTS
            and self.config.read_text() == self.text
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def code_of(reply: Reply) -> str | None:
    return reply.refusal.code if reply.refusal is not None else None


def test_every_request_has_its_verb_and_no_other_is_there() -> None:
    assert set(VERBS) == set(Request.__args__)


def test_names_of_the_network_file_are_written_and_removed(place: Place) -> None:
    names = [NamedMember("a", ["10.0.42.2"]), NamedMember("b", ["10.0.42.3"])]
    assert place.ask(WriteNames(names)).refusal is None
    assert "10.0.42.3\tb\t# wirehub wh0" in place.hosts.read_text()
    assert place.ask(RemoveNames()).refusal is None
    assert place.hosts.read_text() == HOSTS


@pytest.mark.parametrize(
    ("hostname", "address"),
    [
        ("wpad", "10.0.42.2"),
        ("a", "10.0.42.3"),
        ("a", "192.0.2.1"),
        ("A", "10.0.42.2"),
        ("guest", "10.0.42.4"),
    ],
)
def test_no_name_that_the_network_file_does_not_give(place: Place, hostname: str, address: str) -> None:
    """A daemon that was taken over sends no machine's traffic for a name elsewhere."""
    reply = place.ask(WriteNames([NamedMember("b", ["10.0.42.3"]), NamedMember(hostname, [address])]))
    assert code_of(reply) == Code.UNKNOWN_PEER
    assert place.is_untouched()


def test_the_network_file_is_edited_by_one_member(place: Place) -> None:
    assert place.ask(ClaimAlias(ALIAS, CLAIMANT)).refusal is None
    assert f"trust guest 10.0.42.4 {CLAIMANT}" in place.config.read_text()
    assert code_of(place.ask(ClaimAlias(ALIAS, CLAIMANT))) == Code.UNKNOWN_PEER
    assert place.ask(AddAlias("late", ALIAS)).refusal is None
    assert place.ask(RemoveMember(ALIAS)).refusal is None
    assert place.ask(RemoveMember(CLAIMANT)).refusal is None
    assert place.config.read_text() == place.text.replace(f"alias guest {ALIAS}\n", "")


def test_a_file_that_somebody_made_unreloadable_is_not_edited(place: Place) -> None:
    changed = place.text.replace("name net", "name other")
    place.config.write_text(changed)
    assert code_of(place.ask(ClaimAlias(ALIAS, CLAIMANT))) == Code.RESTART_NEEDED
    assert place.config.read_text() == changed


def test_a_socket_goes_only_where_it_is_still_the_one(place: Place) -> None:
    path = place.run / "wh0.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        number = path.stat().st_ino
        assert place.ask(RemoveSocket("wh", number + 1)).refusal is None
        assert path.exists()
        assert place.ask(RemoveSocket("wh", number)).refusal is None
        assert not path.exists()
    path.write_text("no socket")
    assert place.ask(RemoveSocket("wh", path.stat().st_ino)).refusal is None
    assert path.exists()


def _encoded(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode()


def _name(hostname: str, address: str) -> bytes:
    return _encoded({"verb": "write-names", "names": [{"hostname": hostname, "addresses": [address]}]})


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b"{" * 100_000,
    b"[" * 100_000,
    _encoded({"verb": "run", "command": "id"}),
    _encoded({"verb": "open-network-file", "path": "/etc/shadow"}),
    _encoded({"verb": "remove-names", "interface": "wh1"}),
    _encoded({"verb": "remove-socket", "which": "../x", "inode": 1}),
    _encoded({"verb": "remove-socket", "which": "wh", "inode": -1}),
    _encoded({"verb": "add-alias", "name": "x\ntrust evil " + A, "alias": CLAIMANT}),
    _encoded({"verb": "add-alias", "name": "x\n", "alias": CLAIMANT}),
    _encoded({"verb": "add-alias", "name": "10.0.42.9", "alias": CLAIMANT}),
    _encoded({"verb": "add-alias", "name": "x", "alias": "A" * 42 + "\n"}),
    _encoded({"verb": "add-alias", "name": "x", "alias": "A" * 43}),
    _encoded({"verb": "claim-alias", "alias": ALIAS, "claimant": "A" * 42 + " "}),
    _encoded({"verb": "claim-alias", "alias": ALIAS, "claimant": A}),
    _encoded({"verb": "claim-alias", "alias": ALIAS}),
    _name("a\n", "10.0.42.2"),
    _name("a", "10.0.42.2\n1.1.1.1 x"),
    _name("a", "::ffff:10.0.42.2"),
    _encoded({"verb": "write-names", "names": "a"}),
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_request_of_the_table_is_refused(place: Place, body: bytes) -> None:
    reply, result = answer(place.office, body)
    assert reply.refusal is not None and result.descriptor is None
    assert "internal" not in reply.refusal.message
    assert place.is_untouched()


texts = st.text(max_size=20) | st.sampled_from(["wh0", "../x", "/etc/shadow", "a\nb", "a", A, ALIAS])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["names", "alias", "claimant", "name", "expires", "key", "which", "inode", "path", "interface"]
VERB_NAMES = [verb.__struct_config__.tag for verb in VERBS if "Gateway" not in verb.__name__]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(VERB_NAMES), st.dictionaries(st.sampled_from(FIELDS), values, max_size=4))
def test_whatever_the_arguments_are_an_answer_comes_and_nothing_else_changes(
    verb: str, fields: dict[str, Any]
) -> None:
    """A network file that it has to leave alone: the settings of its network are not those of the start."""
    with tempfile.TemporaryDirectory() as directory:
        place = Place(Path(directory))
        place.text = place.text.replace("name net", "name other")
        place.config.write_text(place.text)
        reply, result = answer(place.office, json.dumps({"verb": verb, **fields}).encode())
        if result.descriptor is not None:
            os.close(result.descriptor)
            assert verb == "open-network-file" and not fields
        assert reply.refusal is None or "internal" not in reply.refusal.message
        assert place.is_untouched()


# The process


@pytest.fixture
def helper(place: Place) -> Iterator[HelperProcess]:
    config = os.open(place.config, os.O_RDONLY)
    with closing(HelperProcess(place.charge, config)) as started:
        os.close(config)
        yield started


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a helper is root's")


@needs_root
def test_the_process_does_what_it_is_asked_and_passes_the_file(helper: HelperProcess, place: Place) -> None:
    reply, descriptor = helper.ask(OpenNetworkFile())
    assert reply.refusal is None and descriptor is not None
    with os.fdopen(descriptor) as file:
        assert file.read() == place.text
    with pytest.raises(OSError):
        os.write(descriptor, b"x")
    reply, descriptor = helper.ask(AddAlias("late", CLAIMANT))
    assert reply.refusal is None and descriptor is None
    assert f"alias late {CLAIMANT}" in place.config.read_text()


@needs_root
@pytest.mark.parametrize(
    "data", [struct.pack("=I", FRAME_LEN_MAX + 1), struct.pack("=I", 2**32 - 1) + b"x", b"\0"]
)
def test_bytes_that_are_no_message_end_it(place: Place, data: bytes) -> None:
    ours, theirs = socket.socketpair()
    config = os.open(place.config, os.O_RDONLY)
    process = _start(theirs, config)
    frames.send(ours, place.charge)
    ours.sendall(data)
    ours.shutdown(socket.SHUT_WR)
    assert process.wait(20) == 0
    assert place.is_untouched()
    ours.close()


@needs_root
def test_nothing_but_the_end_of_its_daemon_ends_it(place: Place) -> None:
    ours, theirs = socket.socketpair()
    config = os.open(place.config, os.O_RDONLY)
    process = _start(theirs, config)
    frames.send(ours, place.charge)
    frames.send(ours, RemoveNames())
    frames.receive(ours)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    frames.send(ours, RemoveNames())
    assert msgspec.json.decode(frames.receive(ours)[0], type=Reply).refusal is None
    ours.close()
    assert process.wait(20) == 0


def _start(theirs: socket.socket, config: int) -> subprocess.Popen[bytes]:
    code = "import os, sys; os.execv(sys.executable, [sys.executable, '-P', '-m', 'wh.helper.process'])"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import os; os.dup2({config}, 3); {code}"],
            stdin=theirs,
            pass_fds=[config],
        )
    os.close(config)
    return process
