"""Control sessions of two ends that are connected, by hand and without sockets."""

from whcore.envelope import ControlSessions

SOURCE = bytes(10) + b"\xff\xff\xc0\x00\x02\x01\x12\x34"


def connect(a: ControlSessions, b: ControlSessions, a_key: bytes, b_key: bytes, now: int) -> None:
    """One handshake, begun by a and confirmed."""
    init = a.initiate(b_key, b"hi", pad_to=64, now_ns=now, wall_ns=now)
    _, _, pending, _ = b.open(init, SOURCE, now_ns=now, wall_ns=now)
    resp = b.respond(pending, b"", now_ns=now)
    a.open(resp, SOURCE, now_ns=now, wall_ns=now)
    b.open(a.seal(b_key, b"", now_ns=now), SOURCE, now_ns=now, wall_ns=now)
