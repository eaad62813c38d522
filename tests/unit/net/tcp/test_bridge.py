"""Data planes that reach each other over TLS: real threads, real sockets, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from wh.engine.events import TCP, Event, Path, TcpConnected, TcpLost
from wh.errors import Code, SystemSetupError
from wh.net.tcp import link as tcp_link
from wh.net.tcp import listener as tcp_listener
from wh.net.tcp.bridge import TcpBridge
from wh.net.tcp.certificate import client_context, server_context
from wh.net.tcp.framing import PREFACE, frame
from wh.wire.address import Address, pack
from whcore.channels import encode_channel
from whcore.datapath import ControlDatagram, Datapath
from whcore.keys import SecretKey

HOST = "127.0.0.1"
DEADLINE_S = 10.0
CONTROL = b"\xff\x02\x04\x00" + bytes(40)
KNOCK = b"\xff\x02\x06\x00" + bytes(8)


def free_port() -> int:
    """Below the ports that connections of other tests get (ip_local_port_range), free in both families."""
    for port in random.SystemRandom().sample(range(20000, 32000), 100):
        with (
            contextlib.suppress(OSError),
            socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True),
        ):
            return port
    raise AssertionError("no port is free")


def ipv4(source: str, destination: str, payload: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, 17, 0)
    return header + socket.inet_aton(source) + socket.inet_aton(destination) + payload


class Side:
    """A data plane with a bridge; a socket pair stands in for its TUN."""

    def __init__(self, address: str) -> None:
        self.address = address
        secret = SecretKey.generate()
        self.key = secret.public_key
        self.tun, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.tun.setblocking(False)
        device.setblocking(False)
        self.plane = Datapath(secret, tun_fds=[device.detach()])
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((HOST, 0))
        self.udp_address = pack(*udp.getsockname())
        self.udp = self.plane.add_socket(udp.detach())
        self.plane.start()
        self.bridge = TcpBridge(self.plane)
        self.events: list[Event] = []
        self.bridge.tell = self.events.append
        self.control: list[ControlDatagram] = []

    def close(self) -> None:
        self.bridge.close()
        self.plane.close()
        self.tun.close()

    def send(self, path: Path, data: bytes) -> bool:
        known = self.bridge.to_data_plane(path)
        return known is not None and self.plane.send_control(known.socket, known.remote, data)

    def take_control(self) -> list[ControlDatagram]:
        for datagram in self.plane.drain_control():
            known = self.bridge.datagram_from_data_plane(datagram)
            if known is not None:
                self.control.append(known)
        return self.control

    async def until(self, condition: Callable[[], object], what: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.005)

    async def read_packets(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE_S):
            while len(found) < count:
                found.append(await loop.sock_recv(self.tun, 65535))
        return found


class Pair:
    def __init__(self) -> None:
        self.server = Side("10.0.0.1")
        self.client = Side("10.0.0.2")
        self.port = free_port()
        self.to_server = Path(TCP, self.server.udp_address)

    async def connect(self) -> Address:
        """Both sides linked. Returns where the server sees the client."""
        self.client.bridge.connect(self.server.udp_address, (self.port,))
        await self.client.until(
            lambda: self.client.events == [TcpConnected(self.server.udp_address)], "the client is connected"
        )
        self.client.send(self.to_server, KNOCK)
        await self.server.until(self.server.take_control, "the server hears the client")
        knock = self.server.control.pop()
        assert knock.socket == TCP
        return knock.remote


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    try:
        made.server.bridge.listen(made.port)
        yield made
    finally:
        made.client.close()
        made.server.close()


def run(test: Callable[[Pair], Awaitable[None]]) -> None:
    async def in_loop() -> None:
        async with pair() as it:
            await test(it)

    uvloop.run(in_loop())  # the daemon's loop
    asyncio.run(in_loop())  # that of a node in another program


# Paths


def test_control_datagrams_go_both_ways_and_say_who_is_there() -> None:
    async def test(it: Pair) -> None:
        at_server = Path(TCP, await it.connect())
        assert at_server.remote[:16] == pack(HOST, 1)[:16]
        assert it.server.send(at_server, CONTROL)
        await it.client.until(it.client.take_control, "the answer")
        assert it.client.control == [ControlDatagram(TCP, it.server.udp_address, CONTROL)]

    run(test)


def test_paths_of_other_sockets_stay_as_they_are() -> None:
    async def test(it: Pair) -> None:
        await it.connect()
        path = Path(it.client.udp, it.server.udp_address, 7)
        assert it.client.bridge.to_data_plane(path) == path
        assert it.client.bridge.from_data_plane(path) == path
        assert it.client.bridge.to_data_plane(Path(TCP, pack("192.0.2.1", 1))) is None
        known = it.client.bridge.to_data_plane(it.to_server._replace(channel=9))
        assert known is not None
        assert it.client.bridge.from_data_plane(known) == it.to_server._replace(channel=9)
        assert it.client.bridge.from_data_plane(known._replace(remote=pack(HOST, 1))) is None

    run(test)


def test_whoever_else_sends_to_the_sockets_on_loopback_is_not_heard() -> None:
    async def test(it: Pair) -> None:
        await it.connect()
        known = it.client.bridge.to_data_plane(it.to_server)
        assert known is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(KNOCK, (HOST, it.client.bridge._data_plane_port))
            stranger.sendto(KNOCK, (HOST, int.from_bytes(known.remote[16:], "big")))
        await it.client.until(lambda: it.client.plane.counters()["rx_control"] == 1, "it arrives")
        assert it.client.take_control() == []
        it.client.send(it.to_server, CONTROL)
        await it.server.until(it.server.take_control, "what follows")
        assert [datagram.data for datagram in it.server.control] == [CONTROL]

    run(test)


def test_a_tunnel_works_over_tcp_with_many_packets_at_once() -> None:
    async def test(it: Pair) -> None:
        client_address = await it.connect()
        for side, other, path in (
            (it.client, it.server, it.to_server),
            (it.server, it.client, Path(TCP, client_address)),
        ):
            side.plane.add_peer(other.key, managed=True)
            side.plane.add_allowed_ip(other.key, socket.inet_aton(other.address), 32)
            side.plane.set_paths(other.key, [side.bridge.to_data_plane(path)])
        rng = random.Random(1)
        payloads = [rng.randbytes(rng.choice([20, 1300, 1300, 1300])) for _ in range(100)]
        for source, target in ((it.client, it.server), (it.server, it.client)):
            packets = [ipv4(source.address, target.address, payload) for payload in payloads]
            for packet in packets:
                await asyncio.get_running_loop().sock_sendall(source.tun, packet)
            assert await target.read_packets(len(packets)) == packets

    run(test)


def test_a_relay_forwards_between_a_client_over_tcp_and_one_over_udp() -> None:
    async def test(it: Pair) -> None:
        client_address = await it.connect()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
            target.bind((HOST, 0))
            target.setblocking(False)
            known = it.server.bridge.to_data_plane(Path(TCP, client_address))
            assert known is not None
            legs = it.server.plane.relay_open(
                known[:2], (it.server.udp, pack(*target.getsockname())), trusted=True
            )
            it.client.send(it.to_server, encode_channel(legs[0], CONTROL))
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(DEADLINE_S):
                forwarded = await loop.sock_recv(target, 2048)
            assert forwarded[8:] == CONTROL
            server = (HOST, int.from_bytes(it.server.udp_address[16:], "big"))
            target.sendto(encode_channel(legs[1], CONTROL), server)
            await it.client.until(it.client.take_control, "what the target sent")
        (answer,) = it.client.control
        assert (answer.socket, answer.remote, answer.channel) == (TCP, it.server.udp_address, legs[0])

    run(test)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_is_as_good_as_ipv4() -> None:
    async def test(it: Pair) -> None:
        server = pack("::1", 62096)
        it.client.bridge.connect(server, (it.port,))
        await it.client.until(lambda: it.client.events == [TcpConnected(server)], "the client is connected")
        it.client.send(Path(TCP, server), KNOCK)
        await it.server.until(it.server.take_control, "the server hears the client")
        assert it.server.control[0].remote[:16] == server[:16]

    run(test)


# Ends


def test_an_end_of_the_connection_is_told_on_both_sides() -> None:
    async def test(it: Pair) -> None:
        client_address = await it.connect()
        it.client.bridge.disconnect(it.server.udp_address)
        await it.server.until(
            lambda: it.server.events == [TcpLost(client_address)], "the server sees the end"
        )
        assert it.client.events == [TcpConnected(it.server.udp_address)]  # it was asked for
        assert not it.client.send(it.to_server, CONTROL)
        assert it.client.bridge.counters()["tcp_links"] == it.server.bridge.counters()["tcp_links"] == 0

    run(test)


def test_a_server_that_goes_is_told() -> None:
    async def test(it: Pair) -> None:
        await it.connect()
        it.server.bridge.close()
        await it.client.until(
            lambda: it.client.events[1:] == [TcpLost(it.server.udp_address)], "the client sees the end"
        )
        assert not it.client.send(it.to_server, CONTROL)

    run(test)


def test_what_was_sent_before_a_clean_end_arrives() -> None:
    async def test(it: Pair) -> None:
        await it.connect()
        it.client.send(it.to_server, CONTROL)
        it.client.bridge.close()
        await it.server.until(it.server.take_control, "the last words")

    run(test)


def test_a_new_connection_takes_the_place_of_one_that_ended() -> None:
    async def test(it: Pair) -> None:
        first = await it.connect()
        it.client.bridge.disconnect(it.server.udp_address)
        it.client.events.clear()
        assert await it.connect() != first

    run(test)


# Finding the port


def test_nobody_there_is_told() -> None:
    async def test(it: Pair) -> None:
        it.client.bridge.connect(it.server.udp_address, (free_port(), free_port()))
        await it.client.until(lambda: it.client.events == [TcpLost(it.server.udp_address)], "no answer")

    run(test)


@pytest.mark.parametrize("behaviour", ["silent", "no TLS", "another protocol in TLS"])
def test_what_else_listens_on_a_port_is_passed_over(behaviour: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if behaviour != "silent":
            await reader.read(8)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async def test(it: Pair) -> None:
        port = free_port()
        other = await asyncio.start_server(
            serve, HOST, port, ssl=server_context() if "in TLS" in behaviour else None
        )
        it.client.bridge.connect(it.server.udp_address, (port, it.port))
        await it.client.until(
            lambda: it.client.events == [TcpConnected(it.server.udp_address)], "the right port"
        )
        other.close()

    run(test)


# Hostile clients


class Client:
    """A TLS client that says what the test wants."""

    def __init__(self, it: Pair, source: str = HOST) -> None:
        self._port = it.port
        self._source = source

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection(
            HOST, self._port, ssl=client_context(), server_hostname="", local_addr=(self._source, 0)
        )
        return self

    async def __aexit__(self, *reason: object) -> None:
        self.writer.transport.abort()

    async def is_closed(self) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            try:
                while await self.reader.read(65536):
                    pass
            except OSError:
                pass
        return True


@pytest.mark.parametrize(
    "bytes_sent", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + b"\0\0", PREFACE + b"\xff\xff" + bytes(100)]
)
def test_a_stream_that_is_none_of_ours_is_ended(bytes_sent: bytes) -> None:
    async def test(it: Pair) -> None:
        async with Client(it) as client:
            client.writer.write(bytes_sent)
            assert await client.is_closed()
        await it.server.until(lambda: it.server.bridge.counters()["tcp_clients"] == 0, "it is forgotten")

    run(test)


def test_bytes_that_are_no_tls_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_listener, "HANDSHAKE_TIMEOUT_S", 0.2)

    async def test(it: Pair) -> None:
        reader, writer = await asyncio.open_connection(HOST, it.port)
        writer.write(b"\0" * 100)
        slow_reader, slow_writer = await asyncio.open_connection(HOST, it.port)
        slow_writer.write(b"\x16")
        await it.server.until(
            lambda: it.server.bridge.counters().get("tcp_bad_handshake") == 2, "both are turned away"
        )
        assert it.server.bridge.counters()["tcp_clients"] == 0
        writer.transport.abort()
        slow_writer.transport.abort()

    run(test)


def test_who_proves_nothing_or_falls_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_listener, "PROOF_TIMEOUT_S", 0.1)

    async def test(it: Pair) -> None:
        monkeypatch.setattr(tcp_listener, "IDLE_S", DEADLINE_S)
        async with Client(it) as unproved, Client(it) as proved:
            for client in (unproved, proved):
                client.writer.write(PREFACE + frame([KNOCK]))
                assert await client.reader.readexactly(len(PREFACE)) == PREFACE
            name = proved.writer.get_extra_info("sockname")
            it.server.bridge.proved(Path(TCP, pack(*name[:2])), member=False)
            await asyncio.sleep(0.15)
            it.server.bridge.expire()
            assert await unproved.is_closed()
            assert it.server.bridge.counters()["tcp_clients"] == 1
            monkeypatch.setattr(tcp_listener, "IDLE_S", 0.0)
            it.server.bridge.expire()
            assert await proved.is_closed()
        counters = it.server.bridge.counters()
        assert (counters["tcp_unproved"], counters["tcp_idle"], counters["tcp_clients"]) == (1, 1, 0)

    run(test)


@pytest.mark.parametrize("limit", ["LINKS_PER_NETWORK_MAX", "UNPROVED_MAX"])
def test_connections_have_limits(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_listener, limit, 2)

    async def test(it: Pair) -> None:
        async with Client(it), Client(it):
            with pytest.raises((OSError, EOFError)):
                async with Client(it):
                    pass
            assert it.server.bridge.counters()["tcp_refused_full"] == 1
        await it.server.until(lambda: it.server.bridge.counters()["tcp_clients"] == 0, "both have gone")
        async with Client(it):
            pass

    run(test)


class Idler:
    """Takes a place and proves nothing: stops before, in or after TLS, or after the preface. Comes again
    whenever it is turned out."""

    def __init__(self, it: Pair, source: str, stage: str) -> None:
        self._port, self._source, self._stage = it.port, source, stage
        self.connects = 0

    async def run(self) -> None:
        while True:
            try:
                await self._connect_and_wait()
            except OSError:
                await asyncio.sleep(0.05)

    async def _connect_and_wait(self) -> None:
        self.connects += 1
        tls = client_context() if self._stage in ("tls", "preface") else None
        reader, writer = await asyncio.open_connection(
            HOST, self._port, ssl=tls, server_hostname="" if tls else None, local_addr=(self._source, 0)
        )
        try:
            writer.write({"tcp": b"", "hello": b"\x16\x03\x01", "tls": b"", "preface": PREFACE}[self._stage])
            while await reader.read(65536):
                pass
        finally:
            writer.transport.abort()


@pytest.mark.parametrize("stage", ["tcp", "hello", "tls", "preface"])
def test_idle_connections_of_a_few_networks_keep_nobody_out(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 of them, 16 from each of four networks, were there first."""
    monkeypatch.setattr(tcp_listener, "ACCEPT_INTERVAL_S", 0.005)

    async def test(it: Pair) -> None:
        sources = [f"127.66.{network}.{host}" for network in range(4) for host in range(1, 17)]
        idlers = [Idler(it, source, stage) for source in sources]
        tasks = [asyncio.ensure_future(idler.run()) for idler in idlers]
        clients: list[Client] = []
        try:
            await it.server.until(
                lambda: it.server.bridge.counters()["tcp_clients"] == len(idlers), "all places are taken"
            )
            for number in range(40):
                client = await Client(it, f"127.{100 + number}.0.1").__aenter__()
                clients.append(client)
                client.writer.write(PREFACE)
                assert await client.reader.readexactly(len(PREFACE)) == PREFACE
                name = client.writer.get_extra_info("sockname")
                it.server.bridge.proved(Path(TCP, pack(*name[:2])), member=False)
            await asyncio.sleep(0.1)
            assert not any(client.reader.at_eof() for client in clients)
            assert it.server.bridge.counters()["tcp_clients"] <= 40 + tcp_listener.UNPROVED_MAX
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for client in clients:
                await client.__aexit__()

    async def in_loop() -> None:
        async with pair() as it:
            await test(it)

    uvloop.run(in_loop())


def test_who_holds_most_connections_makes_room_and_members_make_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_listener, "LINKS_MAX", 3)

    async def test(it: Pair) -> None:
        def prove(client: Client, *, member: bool = False) -> None:
            name = client.writer.get_extra_info("sockname")
            it.server.bridge.proved(Path(TCP, pack(*name[:2])), member=member)

        async def connect(source: str) -> Client:
            client = await Client(it, source).__aenter__()
            clients.append(client)
            client.writer.write(PREFACE)
            await client.reader.readexactly(len(PREFACE))
            return client

        clients: list[Client] = []
        crowd = [await connect("127.66.0.1") for _ in range(3)]
        member = await connect("127.66.0.1")
        for client in crowd:
            prove(client)
        prove(member, member=True)
        await connect("127.70.0.1")  # proves nothing, and takes nothing
        newcomer = await connect("127.71.0.1")
        prove(newcomer)
        assert await crowd[0].is_closed()
        late = await connect("127.66.0.1")
        prove(late)
        assert await late.is_closed() or await crowd[1].is_closed()
        prove(member)  # it was revoked
        await it.server.until(lambda: it.server.bridge.counters()["tcp_clients"] == 4, "it counts now")
        assert not newcomer.reader.at_eof()
        for client in clients:
            await client.__aexit__()

    run(test)


def test_places_for_proofs_are_short_when_many_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_listener, "UNPROVED_MAX", 4)
    monkeypatch.setattr(tcp_listener, "PROOF_TIMEOUT_BUSY_S", 0.0)

    async def test(it: Pair) -> None:
        async with Client(it, "127.66.0.1") as first, Client(it, "127.67.0.1") as second:
            await asyncio.sleep(0.01)
            it.server.bridge.expire()
            assert it.server.bridge.counters()["tcp_clients"] == 2
            async with Client(it, "127.68.0.1"):
                await asyncio.sleep(0.01)
                it.server.bridge.expire()
                assert await first.is_closed()
                assert await second.is_closed()

    run(test)


def test_a_network_that_connects_too_often_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_listener, "ACCEPT_BURST", 2)

    async def test(it: Pair) -> None:
        for _ in range(2):
            async with Client(it):
                pass
        with pytest.raises((OSError, EOFError)):
            async with Client(it):
                pass
        assert it.server.bridge.counters()["tcp_refused_rate"] == 1

    run(test)


def test_a_network_that_is_refused_takes_nothing_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_listener, "ACCEPT_BURST", 1)
    monkeypatch.setattr(tcp_listener, "ACCEPT_INTERVAL_S", 1000.0)

    async def test(it: Pair) -> None:
        async with Client(it):
            pass
        refused = 2 * tcp_listener.TOTAL_FACTOR
        for _ in range(refused):
            with pytest.raises((OSError, EOFError)):
                async with Client(it):
                    pass
        assert it.server.bridge.counters()["tcp_refused_rate"] == refused
        async with Client(it, "127.0.1.1"):
            pass

    run(test)


def test_a_client_that_does_not_read_makes_nothing_grow() -> None:
    async def test(it: Pair) -> None:
        async with Client(it) as client:
            client.writer.transport.pause_reading()
            client.writer.write(PREFACE + frame([KNOCK]))
            await it.server.until(it.server.take_control, "it is linked")
            path = Path(TCP, it.server.control[0].remote)
            (link,) = it.server.bridge._links.values()
            transport = link._transport
            assert transport is not None
            for _ in range(400):
                for _ in range(50):
                    it.server.send(path, bytes(4) + bytes(1400))
                await asyncio.sleep(0)
            # One readiness may bring 8 receives of 64 kB beyond the limit at which reading stops.
            assert transport.get_write_buffer_size() < tcp_link.WRITE_BUFFER_MAX + 9 * 65536

    run(test)


def test_a_port_that_is_taken_is_said() -> None:
    async def test(it: Pair) -> None:
        with pytest.raises(SystemSetupError) as caught:
            it.client.bridge.listen(it.port)
        assert caught.value.code is Code.PORT_TAKEN
        assert f"TCP port {it.port}" in str(caught.value)

    run(test)


def test_old_versions_of_tls_are_refused() -> None:
    async def test(it: Pair) -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(HOST, it.port, ssl=old, server_hostname="")

    run(test)
