"""What a run leaves to the next: read back as it was, and harmless whatever stands there."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from wh.daemon.persistence import known_nodes
from wh.daemon.persistence.known_nodes import FILE_LEN_MAX, KnownNodes
from wh.engine.events import Remembered
from wh.wire.address import pack
from wh.wire.messages import Contact

KEY = b"\x09" + bytes(31)
HERE, THERE = pack("192.0.2.1", 62096), pack("2001:db8::1", 62096)
KNOWN = Remembered((Contact(KEY, HERE, 1), Contact(KEY, THERE, 3)), ((KEY, HERE),))


def test_what_was_known_is_known_again(tmp_path):
    KnownNodes(tmp_path / "nodes", "public").save(KNOWN)
    assert KnownNodes(tmp_path / "nodes", "public").load() == KNOWN
    assert (tmp_path / "nodes").stat().st_mode & 0o777 == 0o600


def test_nothing_is_known_of_another_network_nor_where_there_is_no_file(tmp_path):
    assert KnownNodes(tmp_path / "nodes", "public").load() == Remembered()
    KnownNodes(tmp_path / "nodes", "public").save(KNOWN)
    assert KnownNodes(tmp_path / "nodes", "another").load() == Remembered()
    assert KnownNodes(None, "public").load() == Remembered()


def test_a_run_that_met_nobody_overwrites_nothing(tmp_path):
    KnownNodes(tmp_path / "nodes", "public").save(KNOWN)
    KnownNodes(tmp_path / "nodes", "public").save(Remembered())
    assert KnownNodes(tmp_path / "nodes", "public").load() == KNOWN


def damaged(change: dict[str, object]) -> bytes:
    good = json.loads(
        msgspec.json.encode(
            known_nodes._Content(
                "public", (known_nodes._Server(KEY, HERE, 1),), (known_nodes._Member(KEY, HERE),)
            )
        )
    )
    return json.dumps({**good, **change}).encode()


SERVER = json.loads(damaged({}))["servers"][0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"x" * (FILE_LEN_MAX + 1),
        damaged({"namespace": 5}),
        damaged({"servers": [{**SERVER, "key": "AAAA"}]}),
        damaged({"servers": [{**SERVER, "address": "AAAA"}]}),
        damaged({"servers": [{**SERVER, "flags": 256}]}),
        damaged({"servers": [SERVER] * 33}),
        damaged({"members": [SERVER] * 257}),
    ],
    ids=range(10),
)
def test_a_file_that_makes_no_sense_is_ignored(tmp_path, caplog, content):
    (tmp_path / "nodes").write_bytes(content)
    assert KnownNodes(tmp_path / "nodes", "public").load() == Remembered()
    assert "ignoring" in caplog.text


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255", "0.1.2.3", "ff02::1", "::"])
def test_addresses_that_nothing_is_sent_to_are_left_out(tmp_path, address):
    bad = pack(address, 62096)
    KnownNodes(tmp_path / "nodes", "public").save(
        Remembered((Contact(KEY, bad, 1), Contact(bytes(32), HERE, 1), Contact(KEY, HERE, 1)), ((KEY, bad),))
    )
    assert KnownNodes(tmp_path / "nodes", "public").load() == Remembered((Contact(KEY, HERE, 1),))


def test_it_is_written_rarely_and_only_where_it_is_news(tmp_path, monkeypatch):
    monkeypatch.setattr(known_nodes, "FIRST_WRITE_S", 0.0)
    monkeypatch.setattr(known_nodes, "WRITE_S", 0.0)
    writes: list[bytes] = []
    monkeypatch.setattr(known_nodes, "write_own_file", lambda path, content: writes.append(content))

    async def keep() -> None:
        task = asyncio.ensure_future(KnownNodes(tmp_path / "nodes", "public").keep(lambda: KNOWN))
        for _ in range(200):
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(keep())
    assert len(writes) == 1
