"""Names of endpoints that cannot be looked up: why, and once."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from wh.net.names import NameResolver


def test_a_name_that_cannot_be_resolved_is_told_once_and_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)

    async def fail(*_: object, **__: object) -> object:
        raise failures.pop(0)

    failures: list[Exception] = [socket.gaierror(-2, "Name or service not known")] * 2 + [TimeoutError()]

    async def scenario() -> dict[str, str]:
        resolver = NameResolver()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
        for _ in range(3):
            assert (await resolver.resolve("boot.invalid", 7)).addresses == ()
        return resolver.failures

    assert asyncio.run(scenario()) == {"boot.invalid": "no answer in time"}
    assert [record.getMessage() for record in caplog.records] == [
        "cannot resolve boot.invalid: Name or service not known",
        "cannot resolve boot.invalid: no answer in time",
    ]
