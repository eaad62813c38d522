"""Pairs of UDP sockets on loopback, with the kernel's segmentation."""

import random
import select
import socket

import pytest

from wh.net.tcp.loopback import (
    HOST,
    RUN_BYTES,
    RUN_SEGMENTS,
    SOL_UDP,
    UDP_SEGMENT,
    LoopbackPort,
    _runs,
    open_data_plane_socket,
)


@pytest.fixture
def pair():
    far = open_data_plane_socket()
    port = LoopbackPort(far.getsockname()[1])
    yield far, port
    port.close()
    far.close()


def arrived(far: socket.socket, count: int) -> list[bytes]:
    found = []
    while len(found) < count and select.select([far], [], [], 5)[0]:
        found.append(far.recv(65535))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_datagrams_arrive_one_by_one_and_in_order(pair, seed: int):
    far, port = pair
    rng = random.Random(seed)
    datagrams = [rng.randbytes(rng.choice([32, 32, 32, 1400, 1400, 7])) for _ in range(200)]
    port.send(datagrams)
    assert arrived(far, len(datagrams)) == datagrams
    assert port.dropped == 0


def test_what_was_sent_in_one_piece_is_received_in_one(pair):
    far, port = pair
    far.connect((HOST, int.from_bytes(port.address[16:], "big")))
    datagrams = [bytes([i]) * 1000 for i in range(20)] + [b"short"]
    far.sendmsg([b"".join(datagrams)], [(SOL_UDP, UDP_SEGMENT, (1000).to_bytes(2, "little"))])
    select.select([port], [], [], 5)
    assert [bytes(each) for each in port.receive()] == datagrams
    assert port.receive() == []


def test_runs_have_one_length_but_for_their_last_and_fit_into_one_send():
    rng = random.Random(1)
    lengths = [rng.choice([100, 100, 100, 1400, 1400, 1400, 50, 2048]) for _ in range(2000)]
    datagrams = [bytes(length) for length in lengths]
    runs = list(_runs(datagrams))
    assert [datagram for run in runs for datagram in run] == datagrams
    for run in runs:
        assert len(run) <= RUN_SEGMENTS
        assert sum(map(len, run)) <= RUN_BYTES
        assert {len(each) for each in run[:-1]} <= {len(run[0])}
        assert len(run[-1]) <= len(run[0])
    assert max(map(len, runs)) > 2


def test_nobody_but_the_data_plane_reaches_a_port(pair):
    far, port = pair
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"hello", (HOST, int.from_bytes(port.address[16:], "big")))
    assert port.receive() == []


def test_a_data_plane_that_has_gone_costs_datagrams_and_nothing_else(pair):
    far, port = pair
    far.close()
    port.send([b"x"])
    port.send([b"x"])
    assert port.dropped == 1  # the first one's refusal comes back with the second
    assert port.receive() == []
