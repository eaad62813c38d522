"""UPnP gateways, good and bad ones, spoken to by the real worker process and miniupnpc."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_gateway import GATEWAY, LOOPBACK, run
from fake_igd import FakeIgd, LocalWorkers, fake_igd
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wh.nat.port_mapping import Granted
from wh.net.mapping import igd, ssdp
from wh.net.mapping.gateway import BadReply, GatewayError, GatewaySilent, Refused
from wh.net.mapping.gateway_url import is_url_at
from wh.net.mapping.igd import IgdClient
from wh.wire.address import pack

ANY = pack("0.0.0.0", 14000)  # noqa: S104
MAPPED = pack("203.0.113.5", 14000)
REPLY = (
    "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\n"
    "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
    "Location: http://127.0.0.1:5000/rootDesc.xml\r\n\r\n"
)


# Finding


def test_a_search_is_that_of_the_architecture() -> None:
    assert ssdp.encode_search("ssdp:all") == (
        b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"
        b'MAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n'
    )


def test_a_reply_names_the_description() -> None:
    found = ssdp.decode_reply_untrusted(REPLY.encode(), LOOPBACK)
    assert found == ssdp.Found("http://127.0.0.1:5000/rootDesc.xml", "")
    found = ssdp.decode_reply_untrusted(REPLY[:-2].encode() + b"BOOTID.UPNP.ORG: 17\r\n\r\n", LOOPBACK)
    assert found.boot_id == "17"


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("200 OK", "404 Not Found"),
        ("HTTP/1.1 200", "NOTIFY *"),
        ("InternetGatewayDevice", "MediaServer"),
        ("Location", "Elsewhere"),
        ("127.0.0.1", "192.0.2.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "127.0.0.1@192.0.2.1"),
        ("http:", "https:"),
        ("http://", "file:///"),
        (":5000", ":0"),
        (":5000", ":99999"),
        ("root", "r" * 300),
        ("root", "r\x07"),
        ("root", "é"),
        ("\r\n\r\n", "x" * 3000),
    ],
)
def test_a_reply_that_leads_elsewhere_is_none(part: str, instead: str) -> None:
    with pytest.raises(BadReply):
        ssdp.decode_reply_untrusted(REPLY.replace(part, instead).encode("latin-1"), LOOPBACK)


@settings(derandomize=True, max_examples=500)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: (REPLY[:60] + text).encode()))
def test_hostile_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        found = ssdp.decode_reply_untrusted(data, LOOPBACK)
    except BadReply:
        return
    assert found.location.startswith("http://127.0.0.1")


@settings(derandomize=True, max_examples=300)
@given(st.text(max_size=60))
@example("http://[::1")
@example("http://127.0.0.1\\@192.0.2.1/")
@example("http://127.0.0.1:80:80/")
def test_a_url_is_judged_without_exceptions(text: str) -> None:
    assert is_url_at(text, LOOPBACK) in (True, False)


# Mapping


def client(gateway: FakeIgd, on_state_lost: Callable[[], None] = lambda: None) -> IgdClient:
    return IgdClient(GATEWAY, on_state_lost, LocalWorkers(), ssdp_port=gateway.ssdp_port)


class NoWorkers:
    async def start_gateway_worker(self) -> socket.socket:
        raise AssertionError

    async def end_gateway_worker(self) -> None:
        raise AssertionError


def test_a_mapping_is_made_with_a_lease_and_ended() -> None:
    async def scenario(gateway: FakeIgd) -> None:
        asking = client(gateway)
        assert await asking.look() == pack("203.0.113.5", 0)
        assert await asking.map("udp", 4000, ANY, 7200) == Granted(MAPPED, 7200)
        assert gateway.mappings == {("UDP", 14000): ("127.0.0.1", 4000, 7200)}
        assert await asking.map("udp", 4000, MAPPED, 7200) == Granted(MAPPED, 7200)
        await asking.unmap("udp", 4000, MAPPED)
        assert gateway.mappings == {}

    with fake_igd() as gateway:
        run(scenario(gateway))


def test_a_gateway_that_restarted_is_noticed_and_found_where_it_is_now() -> None:
    async def scenario(gateway: FakeIgd) -> None:
        lost: list[None] = []
        asking = client(gateway, lambda: lost.append(None))
        await asking.check()
        await asking.look()
        await asking.check()
        assert lost == []
        gateway.boot_id += 1
        await asking.check()
        assert lost == [None]
        location, gateway.location = gateway.location, "http://127.0.0.1:9/root.xml"
        await asking.check()
        assert lost == [None, None]
        with pytest.raises(Refused):
            await asking.map("udp", 4000, ANY, 7200)
        gateway.location = location
        assert await asking.map("udp", 4000, ANY, 7200) == Granted(MAPPED, 7200)

    with fake_igd() as gateway:
        run(scenario(gateway))


def test_a_gateway_without_leases_maps_until_the_end() -> None:
    async def scenario(gateway: FakeIgd) -> None:
        asking = client(gateway)
        await asking.look()
        assert await asking.map("tcp", 4000, ANY, 7200) == Granted(MAPPED, math.inf)
        assert gateway.mappings == {("TCP", 14000): ("127.0.0.1", 4000, 0)}

    with fake_igd("permanent") as gateway:
        run(scenario(gateway))


def test_a_port_that_is_taken_is_not_the_last_that_is_tried() -> None:
    async def scenario(gateway: FakeIgd) -> None:
        asking = client(gateway)
        await asking.look()
        granted = await asking.map("udp", 4000, ANY, 7200)
        assert granted.external != MAPPED
        assert len(gateway.mappings) == 1

    with fake_igd("conflict") as gateway:
        run(scenario(gateway))


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        ("refusing", "not authorized"),
        ("broken", "."),
        ("elsewhere", "somewhere else"),
        ("homeless", "external address"),
    ],
)
def test_a_gateway_that_does_not_do_it_says_why(behaviour: str, text: str) -> None:
    async def scenario(gateway: FakeIgd) -> None:
        with pytest.raises(Refused, match=text):
            await client(gateway).look()

    with fake_igd(behaviour) as gateway:
        run(scenario(gateway))


@pytest.mark.parametrize("behaviour", ["endless", "hanging"])
def test_a_gateway_without_end_is_left_at_the_deadline_and_nothing_stays(
    behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(igd, "DEADLINE_S", 1.5)

    async def scenario(gateway: FakeIgd) -> None:
        started = time.monotonic()
        with pytest.raises(GatewayError):
            await client(gateway).look()
        assert time.monotonic() - started < 5
        assert not children()

    with fake_igd(behaviour) as gateway:
        run(scenario(gateway))


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_no_gateway_is_not_found_and_no_process_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssdp, "GIVE_UP_AFTER_S", 0.2)

    async def scenario() -> None:
        with pytest.raises(GatewaySilent):
            await IgdClient(GATEWAY, lambda: None, NoWorkers(), ssdp_port=9).look()

    run(scenario())


@pytest.mark.parametrize("printed", [b"", b"{", b"[1]", b'{"external_port": "x"}', b"\xff", b"x" * 5000])
def test_a_worker_that_was_taken_over_is_not_believed(
    printed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_worker(workers: object, question: bytes) -> bytes:
        return printed

    monkeypatch.setattr(igd, "_run_worker", run_worker)

    async def scenario(gateway: FakeIgd) -> None:
        with pytest.raises(GatewayError):
            await client(gateway).map("udp", 4000, ANY, 7200)

    with fake_igd() as gateway:
        run(scenario(gateway))
