"""What a host has that others' text must not take, as far as it stands in files."""

from __future__ import annotations

import threading
from ipaddress import ip_address
from pathlib import Path

import pytest

from wh.daemon import host_facts
from wh.daemon.host_facts import collect, resolvers
from wh.trust.degrees import Holding


def test_name_servers_are_read_as_the_c_library_does(tmp_path: Path):
    (tmp_path / "stub").write_text("# nameserver 10.9.9.9\nnameserver 127.0.0.53\nsearch example\n")
    (tmp_path / "real").write_bytes(
        b"nameserver 10.0.0.53 more\nnameserver\t10.1\nnameserver 0x0a000002\nnameserver fd12::53\n"
        b"nameserver fe80::1%eth0\nnameserver ::ffff:10.0.0.54\nnameserver\nnameserver x\n\xff\xfe\n"
    )
    found = resolvers([str(tmp_path / name) for name in ("stub", "absent", "real")])
    texts = ["127.0.0.53", "10.0.0.53", "10.0.0.1", "10.0.0.2", "fd12::53", "fe80::1", "::ffff:10.0.0.54"]
    assert found == [ip_address(text) for text in texts]


def test_a_host_has_its_own_addresses_and_names():
    facts = collect(["localhost", "no-such-name-here", "a b", "x.y"])
    held = {(each.holding, str(each.network)) for each in facts.held}
    assert (Holding.ADDRESS, "127.0.0.0/8") in held
    assert (Holding.ROUTE, "127.0.0.1/32") in held  # of the table `local`
    assert "localhost" in facts.known_names
    assert "no-such-name-here" not in facts.known_names
    assert facts.own_names


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    forever = threading.Event()
    monkeypatch.setattr(host_facts, "NAMES_WITHIN_S", 0.05)
    monkeypatch.setattr(host_facts.socket, "getaddrinfo", lambda *_: forever.wait(10))
    try:
        assert collect(["slow", "slower"]).known_names == frozenset()
    finally:
        forever.set()
